//! Every construct of the fixtures, and what no body can do.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

const BASE: &str = "https://acme.atlassian.net/wiki";

fn context() -> Context {
    Context::new(BASE).unwrap().with_alias("https://oldname.atlassian.net").unwrap().with_space("DOC").with_page(42)
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/confluence")
}

/// `dc-*` is of a Data Center site whose page and space nobody named; `*.adf.json` is ADF; all others are storage format.
fn extracted(file: &Path) -> Extraction {
    let name = file.file_name().unwrap().to_string_lossy();
    let body = fs::read(file).unwrap();
    let context =
        if name.starts_with("dc-") { Context::new("https://wiki.example.com/confluence/").unwrap() } else { context() };
    if name.ends_with(".adf.json") { links_of_adf(&body, &context) } else { links_of_storage(&body, &context) }
}

fn lines(extraction: &Extraction) -> Vec<String> {
    extraction.links.iter().map(|link| serde_json::to_string(link).unwrap()).collect()
}

fn storage(body: &str) -> Extraction {
    links_of_storage(body.as_bytes(), &context())
}

fn urls(extraction: &Extraction) -> Vec<&str> {
    extraction.links.iter().filter_map(|link| link.url.as_deref()).collect()
}

fn flaws(extraction: &Extraction) -> Vec<FlawKind> {
    extraction.flaws.iter().map(|flaw| flaw.kind).collect()
}

#[test]
fn every_construct_of_the_fixtures_is_found_and_none_of_the_traps() {
    let mut files: Vec<PathBuf> = fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending != "jsonl"));
    files.sort();
    assert!(files.len() >= 9, "{files:?}");
    for file in files {
        let expected = file.with_extension("jsonl");
        let expected = fs::read_to_string(&expected).unwrap_or_else(|_| panic!("{} is missing", expected.display()));
        let found = extracted(&file);
        let (expected, lines): (Vec<&str>, _) = (expected.lines().collect(), lines(&found));
        for (at, (found, expected)) in lines.iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "{}, line {}", file.display(), at + 1);
        }
        assert_eq!(lines.len(), expected.len(), "{}", file.display());
        assert!(found.is_complete(), "{}: {:?}", file.display(), found.flaws);
    }
}

#[test]
fn a_broken_page_keeps_what_was_found_and_is_flagged() {
    use FlawKind::{NotUtf8, Syntax, Unbalanced};
    let cases: &[(&str, &[&str], &[FlawKind])] = &[
        ("", &[], &[]),
        ("text only, R&D & more &nbsp;", &[], &[]),
        ("<p><a href='//a/1'>x</a><p><a href='//a/2'>y</a>", &["https://a/1", "https://a/2"], &[Unbalanced]),
        ("<p><a href='//a/1'>x</p><a href='//a/2'>y</a>", &["https://a/1", "https://a/2"], &[Unbalanced]),
        ("<b><i><a href='//a/1'>x</b></i></a><a href='//a/2'/>", &["https://a/1", "https://a/2"], &[Unbalanced]),
        ("</p></p><a href='//a/1'>x</a>", &["https://a/1"], &[Unbalanced]),
        ("1 < 2 <a href='//a/1'>x</a> 3 <4> 5 <> </>", &["https://a/1"], &[Syntax, Unbalanced]),
        ("<a href='//a/1'>x</a><!-- never ends <a href='//a/2'>y</a>", &["https://a/1", "https://a/2"], &[Syntax]),
        ("<a href='//a/1'>x</a><![CDATA[ never ends <a href='//a/2'/>", &["https://a/1", "https://a/2"], &[Syntax]),
        ("<a href='//a/1'>x</a><?pi <a href='//a/2'/>", &["https://a/1", "https://a/2"], &[Syntax]),
        ("<!oops><a href='//a/1'/><!DOCTYPE><a href='//a/2'/>", &["https://a/1", "https://a/2"], &[Syntax]),
        ("<a href='//a/1'>x</a><p title=\"no end><a href='//a/2'/>", &["https://a/1", "https://a/2"], &[Syntax]),
        ("<a href='//a/1'>x</a><a href='//a/2", &["https://a/1"], &[Syntax]),
        ("<a href='//a/1'>never closed", &["https://a/1"], &[Unbalanced]),
        ("<ac:link><ri:url ri:value='//a/1'/>", &["https://a/1"], &[Unbalanced]),
        ("<ac:plain-text-body><a href='//a/1'/>", &[], &[Unbalanced]),
        ("<p><a href=//a/1>unquoted</a></p>", &["https://a/1"], &[]),
        ("\u{feff}<a href='//a/1'/><\u{feff}<a href='//a/2'/>", &["https://a/1", "https://a/2"], &[Syntax]),
    ];
    for (body, expected, wrong) in cases {
        let found = storage(body);
        assert_eq!(urls(&found), *expected, "{body}");
        assert_eq!(flaws(&found), *wrong, "{body}");
    }
    let found = storage("<p><a href='//a/1'><b>one</p>two");
    assert_eq!(found.links[0].text.as_deref(), Some("one"), "an end closes all that is open within");
    let found = links_of_storage(b"<a href='//a/1'>\xff</a><a href='//a/\xff2'/>", &context());
    assert_eq!((urls(&found), flaws(&found)), (vec!["https://a/1", "https://a/\u{fffd}2"], vec![NotUtf8]));
    assert_eq!(found.flaws[0].to_string(), "not UTF-8 at byte 16");
}

#[test]
fn too_many_faults_end_the_reading_and_keep_what_was_found() {
    let found = storage(&("<a href='//a/1'/>".to_owned() + &"< ".repeat(RECOVERIES_MAX + 1) + "<a href='//a/2'/>"));
    assert_eq!((urls(&found), flaws(&found)), (vec!["https://a/1"], vec![FlawKind::Syntax]));
}

#[test]
fn a_hundred_thousand_nested_elements_are_read() {
    const DEEP: usize = 100_000;
    let nested = |start: &str, within: &str, end: &str| storage(&(start.repeat(DEEP) + within + &end.repeat(DEEP)));
    let link = "<a href='//a/1'>within</a>";
    for (start, end) in
        [("<p>", "</p>"), ("<ac:structured-macro ac:name='panel'>", "</ac:structured-macro>"), ("<br>", "")]
    {
        let found = nested(start, link, end);
        assert_eq!(
            lines(&found),
            [r#"{"kind":"external","url":"https://a/1","text":"within","origin":"a","count":1}"#]
        );
        assert!(found.is_complete(), "{start}: {:?}", found.flaws);
    }
    let found = nested("<a href='//a/1'>", "within", "</a>");
    assert_eq!((found.links.len(), found.links[0].text.as_deref()), (1, Some("within")));
    assert_eq!(usize::try_from(found.links[0].count), Ok(DEEP));
    let found = nested(
        "<ac:link><ac:link-body><ac:parameter ac:name='url'>",
        "//a/1",
        "</ac:parameter></ac:link-body></ac:link>",
    );
    assert_eq!((found.links.len(), flaws(&found)), (0, vec![FlawKind::TooDeep]));
    for (start, end) in [("<p>", ""), ("", "</p>"), ("<p><ac:link>", "</p>"), ("<a href='#x'><p>", "</a>")] {
        let found = nested(start, link, end);
        assert!(flaws(&found).contains(&FlawKind::Unbalanced), "{start}{end}");
        assert_eq!(urls(&found), ["https://a/1"], "{start}{end}");
    }
}

#[test]
fn deeper_than_the_limit_links_are_still_found() {
    let deep = DEPTH_MAX + 10;
    let found =
        storage(&("<i>".repeat(deep) + "<a href='//a/1'>x</a>" + &"</i>".repeat(deep) + "<a href='//a/2'>y</a>"));
    assert_eq!((urls(&found), flaws(&found)), (vec!["https://a/1", "https://a/2"], vec![FlawKind::TooDeep]));
    assert_eq!(found.links[1].text.as_deref(), Some("y"), "what comes after is read as ever");
}

/// Nothing is timed: quadratic time would show as a suite that hardly ends.
#[test]
fn hostile_repetitions_are_read_in_linear_time() {
    const BYTES: usize = 100_000;
    let pieces = [
        "<",
        "<a ",
        "<a href='",
        "<!--",
        "<![CDATA[",
        "<!DOCTYPE [",
        "<?",
        "&",
        "&;",
        "&amp",
        "&#",
        "]]>",
        "</a>",
        "</",
        "<a href='//a/1'>",
        "<a href='//a/1'><p>",
        "<p></a>",
        "<ac:link><ac:image>",
        "<ri:attachment ri:filename='x'>",
        "<ac:parameter ac:name='url'>http://a",
        "<ac:macro ac:name='widget'><ac:default-parameter>",
        "<a href='x' x",
        "<ac:plain-text-body>",
        "<div data-card-appearance='embed'>",
        "<a b='c' d='e",
        "\u{feff}<",
        "é<",
    ];
    for piece in pieces {
        let body = piece.repeat(BYTES / piece.len());
        storage(&body);
        storage(&("<a href='//a/1'>".to_owned() + &body));
    }
    let attributes = "<a ".to_owned() + &"x='y' ".repeat(BYTES / 6) + "href='//a/1'/>";
    assert_eq!(urls(&storage(&attributes)), ["https://a/1"]);
    for piece in ["[", "{\"content\":[", "{\"type\":\"doc\",\"attrs\":{\"a\":", "\"", "{\"marks\":[[", "\\u0000"] {
        links_of_adf(piece.repeat(BYTES / piece.len()).as_bytes(), &context());
    }
}

#[test]
fn entities_are_not_expanded_into_others() {
    let body = "<!DOCTYPE x [<!ENTITY a '&b;&b;'><!ENTITY b '&c;&c;'>]><a href='//a/&a;'>&a; &amp;lt;</a>";
    let found = storage(body);
    assert_eq!((urls(&found), found.links[0].text.as_deref()), (vec!["https://a/&a;"], Some("&a; &lt;")));
}

#[test]
fn what_is_too_much_is_left_out_and_told() {
    use FlawKind::{LinkTooLong, TooLong, TooManyLinks};
    let link = |url: &str| format!("<a href='https://a/{url}'>x</a>");
    let page = "<ac:link><ri:page ri:content-title='TITLE'/></ac:link>";
    let longest = "u".repeat(URL_BYTES_MAX - "https://a/".len());
    let found = storage(&(link(&longest) + &link(&format!("{longest}u")) + &link("after")));
    assert_eq!((found.links.len(), flaws(&found)), (2, vec![LinkTooLong]));
    let found = storage(&(page.replace("TITLE", &"t".repeat(URL_BYTES_MAX + 1)) + &link("after")));
    assert_eq!((urls(&found), flaws(&found)), (vec!["https://a/after"], vec![LinkTooLong]));
    let parameter =
        format!("<ac:macro ac:name='x'><ac:parameter ac:name='url'>https://a/{longest}u</ac:parameter></ac:macro>");
    assert_eq!(flaws(&storage(&parameter)), [LinkTooLong]);

    let many: String = (0..=LINKS_MAX).map(|n| link(&n.to_string())).collect();
    let found = storage(&(many.clone() + &link("0")));
    assert_eq!((found.links.len(), flaws(&found)), (LINKS_MAX, vec![TooManyLinks]));
    assert_eq!((found.links[0].count, found.links[1].count), (2, 1), "what is known is still counted");

    let large: String =
        (0..KEPT_BYTES_MAX / URL_BYTES_MAX + 2).map(|n| link(&format!("{n}{}", &longest[9..]))).collect();
    let found = storage(&large);
    assert!(found.links.len() <= KEPT_BYTES_MAX / (URL_BYTES_MAX - 10), "{}", found.links.len());
    assert_eq!(flaws(&found), [TooManyLinks]);

    let text = format!("<a href='//a/1'>{}</a>", "wort ä ".repeat(10_000));
    assert_eq!(
        storage(&text).links[0].text.as_ref().unwrap().chars().count(),
        TEXT_CHARS_MAX - 1,
        "a blank is cut off"
    );

    let named =
        format!("<ac:macro ac:name='{}'><ac:parameter ac:name='url'>//a</ac:parameter></ac:macro>", "é".repeat(9_000));
    let found = storage(&named);
    assert_eq!(found.links[0].origin.to_string().len(), "macro:".len() + MACRO_NAME_BYTES_MAX);

    let body = link("before") + &"é".repeat(BODY_BYTES_MAX / 2) + &link("after");
    let found = storage(&body);
    assert_eq!((urls(&found), flaws(&found)), (vec!["https://a/before"], vec![TooLong]));
}

#[test]
fn broken_adf_keeps_what_was_found_and_is_flagged() {
    let link =
        |n: usize| format!(r#"{{"type":"text","text":"x","marks":[{{"type":"link","attrs":{{"href":"//a/{n}"}}}}]}}"#);
    let adf = |body: &str| links_of_adf(body.as_bytes(), &context());
    let cut =
        format!(r#"{{"type":"doc","content":[{{"type":"paragraph","content":[{},{},{{"type":"te"#, link(1), link(2));
    let found = adf(&cut);
    assert_eq!((urls(&found), flaws(&found)), (vec!["https://a/1", "https://a/2"], vec![FlawKind::Syntax]));
    for body in ["", "<p/>", "[]", "{}", "null", "\"doc\"", "{\"type\":\"doc\"} x", "{\"type\":\"doc\",\"content\":[}"]
    {
        assert_eq!(flaws(&adf(body)), [FlawKind::Syntax], "{body}");
    }
    let deep = |depth: usize| {
        let (start, end) = (r#"{"type":"panel","content":["#, "]}");
        let body = start.repeat(depth) + &link(1) + &end.repeat(depth);
        adf(&format!(r#"{{"type":"doc","content":[{body},{}]}}"#, link(2)))
    };
    assert_eq!((urls(&deep(50)), flaws(&deep(50))), (vec!["https://a/1", "https://a/2"], vec![]));
    let found = deep(100_000);
    assert_eq!((urls(&found), flaws(&found)), (vec!["https://a/2"], vec![FlawKind::TooDeep]));
    let attrs =
        format!(r#"{{"type":"doc","attrs":{}1{},"content":[{}]}}"#, "[".repeat(100_000), "]".repeat(100_000), link(1));
    assert_eq!(urls(&adf(&attrs)), ["https://a/1"]);
}

#[test]
fn a_page_says_the_same_in_both_formats() {
    let storage = storage("<p><a href='//a/1'>see <b>this</b></a> <a href='//a/2' data-card-appearance='inline'/></p>");
    let adf = r#"{"type":"doc","content":[{"type":"paragraph","content":[
        {"type":"text","text":"see ","marks":[{"type":"link","attrs":{"href":"//a/1"}}]},
        {"type":"text","text":"this","marks":[{"type":"strong"},{"type":"link","attrs":{"href":"//a/1"}}]},
        {"type":"inlineCard","attrs":{"url":"//a/2"}}]}]}"#;
    assert_eq!(lines(&storage), lines(&links_of_adf(adf.as_bytes(), &context())));
}

/// What holds for every body.
fn check(body: &[u8]) {
    for extract in [links_of_storage, links_of_adf] {
        let Extraction { links, flaws } = extract(body, &context());
        assert!(links.len() <= LINKS_MAX && links.is_sorted_by_key(|link| link.position), "{links:?}");
        for link in &links {
            assert!(
                link.count > 0 && (link.url.is_some() || link.target.is_some() || link.anchor.is_some()),
                "{link:?}"
            );
            assert!(link.text.as_ref().is_none_or(|text| !text.is_empty() && text.chars().count() <= TEXT_CHARS_MAX));
            assert!(serde_json::to_string(link).is_ok());
        }
        let kinds = flaws.iter().enumerate().all(|(at, flaw)| flaws[..at].iter().all(|other| other.kind != flaw.kind));
        assert!(kinds && flaws.iter().all(|flaw| flaw.at <= body.len() * 3), "{flaws:?}");
    }
}

/// Pieces that mean something to the readers, in any order.
fn soup() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "<a href='",
        "//a/1",
        "'>",
        "</a>",
        "<ac:link>",
        "</ac:link>",
        "<ac:link ac:anchor='x'>",
        "<ri:page ri:content-title='",
        "<ri:attachment ri:filename='f'>",
        "</ri:attachment>",
        "'/>",
        "<ac:image>",
        "</ac:image>",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "<ac:structured-macro ac:name='include'>",
        "</ac:structured-macro>",
        "<ac:parameter ac:name=''>",
        "</ac:parameter>",
        "<ac:plain-text-body>",
        "</ac:plain-text-body>",
        "<ac:adf-fallback>",
        "</ac:adf-fallback>",
        "&amp;",
        "&",
        ";",
        "<",
        ">",
        "é",
        " ",
        "\u{feff}",
        "text",
        "<p>",
        "</p>",
        "<br>",
        "<?",
        "?>",
        "<!DOCTYPE",
        "/wiki/x/",
        "TQBFJ",
        "#",
        "%ff",
        "mailto:",
        ":",
        "\0",
        "{\"type\":\"doc\",\"content\":[",
        "{\"type\":\"text\",\"text\":\"x\",\"marks\":[",
        "{\"type\":\"link\",\"attrs\":{\"href\":\"x\"}}",
        "]}",
        ",",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

/// A fixture with some of its bytes changed, cut out or put in twice.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let mut files: Vec<PathBuf> = fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let change = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..3_u8, any::<u8>());
    (prop::sample::select(files), prop::collection::vec(change, 1..8)).prop_map(|(file, changes)| {
        let mut body = fs::read(file).unwrap();
        for (one, other, how, byte) in changes {
            let (one, other) = (one.index(body.len()), other.index(body.len()));
            let range = one.min(other)..one.max(other).min(one.min(other) + 200);
            match how {
                0 => body[one] = byte,
                1 => drop(body.drain(range).count()),
                _ => {
                    let copy = body[range].to_vec();
                    body.splice(one..one, copy);
                }
            }
            if body.is_empty() {
                break;
            }
        }
        body
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_break_it(body in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&body);
    }

    #[test]
    fn no_order_of_markup_breaks_it(body in soup()) {
        check(body.as_bytes());
    }

    #[test]
    fn no_mutation_of_a_page_breaks_it(body in mutated()) {
        check(&body);
    }

    #[test]
    fn no_url_breaks_it(url in "\\PC{0,60}|(https?:)?//acme.atlassian.net(:443)?/(wiki/)?(spaces|pages|display|x|download|browse)?(/[A-Za-z0-9%+.~-]{0,9}){0,7}(\\?[a-zA-Z=&0-9]{0,20})?(#\\PC{0,5})?") {
        check(format!("<a href=\"{url}\">x</a>").as_bytes());
        let parameter = format!("<ac:macro ac:name='widget'><ac:default-parameter>{url}</ac:default-parameter></ac:macro>");
        check(parameter.as_bytes());
    }
}
