//! Rules that hold themselves: who may import whom, which crate stays in which folder, what no source may contain.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Module, and what of ours it may import. The same table stands in ARCHITECTURE.md.
const IMPORTS: &[(&str, &[&str])] = &[
    ("envelope", &[]),
    ("ttl", &["envelope"]),
    ("telemetry", &["envelope"]),
    ("problem", &[]),
    ("backoff", &[]),
    ("disk", &[]),
    ("extract", &[]),
    ("jwt", &[]),
    ("outbound", &[]),
    ("openapi", &["envelope", "source"]),
    ("auth", &["envelope", "problem"]),
    ("source", &["envelope", "jwt"]),
    ("page", &["envelope", "extract", "source"]),
    ("confluence", &["backoff", "envelope", "jwt", "outbound", "page"]),
    ("registry", &["envelope", "confluence", "page", "source"]),
    ("buffer", &["backoff", "envelope", "disk"]),
    ("store", &["envelope", "ttl", "disk"]),
    ("hooks", &["envelope", "telemetry", "problem", "source", "jwt", "outbound", "registry", "confluence", "buffer"]),
    ("ingest", &["envelope", "telemetry", "problem", "auth", "source", "buffer"]),
    ("consumer", &["backoff", "envelope", "telemetry", "ttl", "buffer", "store"]),
    ("serve", &["envelope", "telemetry", "problem", "auth", "store", "extract", "page"]),
    (
        "admin",
        &[
            "envelope",
            "telemetry",
            "problem",
            "ttl",
            "auth",
            "store",
            "buffer",
            "registry",
            "source",
            "page",
            "confluence",
        ],
    ),
    ("http", &["envelope", "telemetry", "problem", "auth", "ingest", "hooks", "serve", "admin", "openapi"]),
    ("reindex", &["backoff", "envelope", "extract", "telemetry", "page", "source", "confluence", "registry", "buffer"]),
    ("pages", &["backoff", "envelope", "telemetry", "page", "source", "confluence", "registry", "buffer"]),
    ("doctor", &["buffer", "store", "disk", "registry"]),
    (
        "config",
        &[
            "envelope",
            "ttl",
            "auth",
            "buffer",
            "store",
            "consumer",
            "http",
            "ingest",
            "hooks",
            "serve",
            "telemetry",
            "source",
            "registry",
            "reindex",
            "confluence",
            "page",
            "pages",
        ],
    ),
];
/// These join the rest, and may import everything.
const JOINERS: &[&str] = &["app", "cli", "function", "main", "lib"];

/// A crate, and the only places whose sources may name it.
const CONFINED: &[(&str, &[&str])] = &[
    ("aws_sdk_sqs", &["buffer/sqs"]),
    ("aws_config", &["buffer/sqs"]),
    ("aws_smithy", &["buffer/sqs"]),
    ("deadpool_redis", &["store/redis"]),
    ("redb::", &["disk", "buffer/embedded", "store/embedded"]),
    ("axum", &["admin", "app", "http"]),
    ("hyper::", &["http", "ingest", "serve", "problem", "admin", "app", "outbound"]),
    ("hyper_rustls", &["outbound"]),
    ("clap", &["cli", "main"]),
    ("quick_xml", &["extract"]),
    ("sqlx", &["registry/database"]),
    ("jsonwebtoken", &["jwt"]),
];

/// What marks work that was left behind, or state that two servers of one process would share.
const BANNED: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "static mut ", "OnceLock", "LazyLock", "thread_local!"];

const LINES_MAX: usize = 500;

struct Source {
    /// Below `src/`, with `/`.
    path: String,
    /// Without comments and without the unit tests at its end.
    code: String,
    lines: usize,
}

impl Source {
    fn module(&self) -> &str {
        let first = self.path.split('/').next().expect("a path has a part");
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn is_within(&self, place: &str) -> bool {
        self.path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/') || rest.starts_with(".rs"))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).expect("a source is UTF-8");
        let path = file.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
        let body = text.split("#[cfg(test)]\nmod ").next().expect("split gives one part at least");
        let code = body.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
        Source { path, code, lines: text.lines().count() }
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// The modules of ours that a source names: `crate::x` and `crate::{x, y::z}`.
fn imports(code: &str) -> BTreeSet<&str> {
    let names = |text: &'static str| code.match_indices(text).map(move |(at, _)| &code[at + text.len()..]);
    let word = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let mut found = BTreeSet::new();
    for rest in names("crate::").chain(names("hookcache::")) {
        match rest.strip_prefix('{') {
            None => {
                found.insert(&rest[..word(rest)]);
            }
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if c.is_whitespace() => {}
                        _ if start => {
                            start = false;
                            found.insert(&list[at..at + word(&list[at..])]);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

#[test]
fn every_module_imports_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for source in sources() {
        let module = source.module();
        if JOINERS.contains(&module) {
            continue;
        }
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: module `{module}` has no row in the table", source.path));
            continue;
        };
        for import in imports(&source.code) {
            if import != module && !allowed.contains(&import) {
                wrong.push(format!("{}: `{module}` may not import `{import}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a function does is the library's; its program translates.
#[test]
fn the_lambdas_programs_are_thin() {
    for path in ["lambda/src/main.rs", "lambda/webhooks/src/main.rs"] {
        let program = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        assert!(program.lines().count() <= 80, "{path}");
    }
}

#[test]
fn the_import_table_stands_in_architecture_md() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    for (module, allowed) in IMPORTS {
        let list = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
        let row = format!("| {module} | {list} |");
        assert!(text.contains(&row), "ARCHITECTURE.md lacks the row: {row}");
    }
}

#[test]
fn a_backends_crate_stays_in_its_folder() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, places) in CONFINED {
            let named = source
                .code
                .match_indices(name)
                .any(|(at, _)| !source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'));
            if named && !places.iter().any(|place| source.is_within(place)) {
                wrong.push(format!("{}: names `{name}`, which belongs to {places:?}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn movers_hold_the_one_half_of_a_place_that_is_theirs() {
    let foreign =
        [("ingest", ["Taker", "Writer"]), ("consumer", ["Appender", "Reader"]), ("serve", ["Writer", "Taker"])];
    for source in sources() {
        let Some((_, halves)) = foreign.iter().find(|(module, _)| *module == source.module()) else { continue };
        for half in halves {
            let named = source.code.contains(&format!("::{half}")) || source.code.contains(&format!(", {half}"));
            assert!(!named, "{}: `{half}` is not its half", source.path);
        }
    }
}

#[test]
fn no_source_holds_left_overs_or_shared_state() {
    let mut wrong = Vec::new();
    for source in sources() {
        for banned in BANNED {
            if source.code.contains(banned) {
                wrong.push(format!("{}: {banned}", source.path));
            }
        }
        if source.lines > LINES_MAX {
            wrong.push(format!("{}: {} lines; look for a seam", source.path, source.lines));
        }
        let stateful = ["Mutex", "Atomic", "RwLock", "Cell"];
        for line in source.code.lines().filter(|line| line.trim_start().starts_with("static ")) {
            if stateful.iter().any(|kind| line.contains(kind)) {
                wrong.push(format!("{}: a stateful static: {line}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_read_from_paths_and_from_lists() {
    let code = "use crate::a::{x, y}; use crate::{b, c::{d, e}, f}; crate::g::h(); hookcache::i::j();";
    assert_eq!(imports(code).into_iter().collect::<Vec<_>>(), ["a", "b", "c", "f", "g", "i"]);
}
