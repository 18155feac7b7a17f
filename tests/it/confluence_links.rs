//! `hookcache confluence links`, as a person runs it: no server, no site, only a page's body.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::support::hookcache::{PROGRAM, run};
use crate::support::{TempDir, repository};

const SITE: [&str; 2] = ["--base-url", "https://acme.atlassian.net/wiki"];

fn links(args: &[&str]) -> Output {
    run(&[&["confluence", "links"], args].concat(), &[])
}

fn fed(args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(["confluence", "links", "-"]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // A program that does not read to the end has closed its side, which is its right.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn answer(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_links_of_a_file_and_of_standard_input_are_one_line_each() {
    let folder = repository().join("tests/fixtures/confluence");
    let more = ["--space", "DOC", "--page", "42", "--alias", "https://oldname.atlassian.net"];
    for (name, format) in [("urls.xml", "storage"), ("resources.xml", "storage"), ("page.adf.json", "adf")] {
        let file = folder.join(name);
        let expected = fs::read_to_string(file.with_extension("jsonl")).unwrap();
        let args = [&SITE[..], &more, &["--format", format]].concat();
        let of_file = links(&[&[file.to_str().unwrap()], &args[..]].concat());
        assert_eq!(answer(&of_file), (Some(0), expected.clone(), String::new()), "{name}");
        assert_eq!(answer(&fed(&args, &fs::read(&file).unwrap())), (Some(0), expected, String::new()), "{name}");
    }
    assert_eq!(answer(&fed(&SITE, b"<p>no links</p>")), (Some(0), String::new(), String::new()));
}

#[test]
fn a_page_with_flaws_prints_what_was_found_and_has_an_exit_code_of_its_own() {
    let (code, out, err) = answer(&fed(&SITE, b"<p><a href='https://example.com/'>x</a></div><!-- "));
    let line = "{\"kind\":\"external\",\"url\":\"https://example.com/\",\"text\":\"x\",\"origin\":\"a\",\"count\":1}\n";
    assert_eq!((code, out.as_str()), (Some(5), line));
    assert!(err.contains("warning: links may be missing or cut: not readable at byte 45"), "{err}");
    assert!(err.contains("closed in the wrong order, at byte 39"), "{err}");
    let (code, out, err) = answer(&fed(&[&SITE[..], &["--format", "adf"]].concat(), b"<p>not ADF</p>"));
    assert_eq!((code, out.as_str()), (Some(5), ""));
    assert!(err.contains("not readable at byte"), "{err}");
}

#[test]
fn wrong_use_and_unreadable_files_are_told_from_flaws() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("page.xml");
    fs::write(&file, "<p/>").unwrap();
    let file = file.to_str().unwrap();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["/no/such/page.xml", SITE[0], SITE[1]], 1, "/no/such/page.xml can't be read"),
        (&[file, "--base-url", "acme.atlassian.net"], 1, "--base-url: \"acme.atlassian.net\" is no base URL"),
        (&[file, SITE[0], SITE[1], "--alias", "x"], 1, "--alias: \"x\" is no base URL"),
        (&[file], 2, "--base-url"),
        (&[file, SITE[0], SITE[1], "--format", "view"], 2, "possible values: storage, adf"),
        (&[file, SITE[0], SITE[1], "--page", "x"], 2, "--page"),
    ];
    for (args, code, words) in cases {
        let (was, out, err) = answer(&links(args));
        assert_eq!((was, out.as_str()), (Some(code), ""), "{args:?}: {err}");
        assert!(err.contains(words), "{words:?} is not in: {err}");
    }
}
