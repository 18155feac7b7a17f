//! Links out of pages: `cargo bench --bench extract`. Goal: at least 150 MB/s of storage format on one core.
//!
//! | page | what |
//! | --- | --- |
//! | page | what people write: headings, text, lists, a table, code, a few links and images; 13 KB |
//! | large | a hundred of them in one body |
//! | dense | hardly anything but links, of all constructs that the tests know |
//! | adf | what people write, in ADF |

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hookcache::extract::{Context, Extraction, links_of_adf, links_of_storage};

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PAGE_BYTES: usize = 13_000;
const TEXT: &str = "The store keeps the latest payload under every key, and what is old never overwrites what is new. A \
    set is answered as soon as it is safe on disk; the rest of the road may take its time.";

/// Sections until the page is long enough, each with what a section has.
fn page(section: impl Fn(usize) -> String) -> String {
    let mut body = String::new();
    for n in 0.. {
        if body.len() >= PAGE_BYTES {
            break;
        }
        body += &section(n);
    }
    body
}

fn storage_section(n: usize) -> String {
    let mut section = format!(
        r#"<h2 local-id="7e7cdbf0-4879-4811-a0e9-{n:012}">Part {n}</h2><p local-id="60dc4fb3-c886-492c-b455-{n:012}">{TEXT} See <a href="https://example.com/docs/{n}?a=1&amp;b=2">the <strong>docs</strong></a>&nbsp;and <ac:link ac:card-appearance="inline"><ri:page ri:content-title="Page {n}" ri:version-at-save="3" /><ac:link-body>page {n}</ac:link-body></ac:link>.</p>"#
    );
    for item in 0..4 {
        let _ = write!(
            section,
            r#"<ul local-id="a{item}"><li local-id="b{item}"><p local-id="c{item}">{TEXT}</p></li></ul>"#
        );
    }
    section += r#"<table data-layout="default"><tbody>"#;
    for row in 0..4 {
        let _ = write!(
            section,
            "<tr><th><p>Row {row}</p></th><td><p>{TEXT}</p></td><td><p>&rarr; <code>x</code></p></td></tr>"
        );
    }
    section
        + r#"</tbody></table><ac:structured-macro ac:name="code" ac:schema-version="1"><ac:parameter ac:name="language">rust</ac:parameter><ac:plain-text-body><![CDATA[fn main() { println!("<a href='x'>"); }]]></ac:plain-text-body></ac:structured-macro><ac:image ac:align="center" ac:width="760"><ri:attachment ri:filename="image.png" /></ac:image>"#
}

fn adf_section(n: usize) -> String {
    let paragraph =
        format!(r#"{{"type":"paragraph","attrs":{{"localId":"{n}"}},"content":[{{"type":"text","text":"{TEXT}"}}]}},"#);
    let link = format!(
        r#"{{"type":"paragraph","content":[{{"type":"text","text":"docs","marks":[{{"type":"link","attrs":{{"href":"https://example.com/docs/{n}"}}}}]}},{{"type":"inlineCard","attrs":{{"url":"https://acme.atlassian.net/wiki/spaces/DOC/pages/{n}/Page"}}}}]}},"#
    );
    paragraph.repeat(6) + &link
}

fn dense() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/confluence");
    ["a", "resources", "images", "macros", "smart", "urls"]
        .map(|name| fs::read_to_string(folder.join(name).with_extension("xml")).expect("a fixture"))
        .concat()
}

fn extract(c: &mut Criterion) {
    let context = Context::new("https://acme.atlassian.net/wiki").expect("a base URL").with_space("DOC").with_page(42);
    let storage = page(storage_section);
    let adf = format!(r#"{{"type":"doc","content":[{}null]}}"#, page(adf_section));
    let large = page(storage_section).repeat(100);
    type Extract = fn(&[u8], &Context) -> Extraction;
    let cases: [(&str, Extract, String); 4] = [
        ("page", links_of_storage, storage),
        ("large", links_of_storage, large),
        ("dense", links_of_storage, dense()),
        ("adf", links_of_adf, adf),
    ];
    let mut group = c.benchmark_group("extract");
    for (name, extract, body) in cases {
        let found = extract(body.as_bytes(), &context);
        assert!(found.is_complete() && !found.links.is_empty(), "{name}: {:?}", found.flaws);
        println!("extract/{name}: {} bytes, {} links", body.len(), found.links.len());
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| b.iter(|| extract(black_box(body.as_bytes()), &context)));
    }
    group.finish();
}

criterion_group!(benches, extract);
criterion_main!(benches);
