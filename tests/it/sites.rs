//! Sites of the real program, through the control plane and the command line, between a stand-in for Confluence and the
//! links that are served.

mod access;
mod bad_input;
mod explained;
mod killed;
mod long_apart;
mod reindexed;

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::confluence::ConfluenceStandIn;
use crate::support::hookcache::{PROGRAM, run};
use crate::support::{Hookcache, Reply, TempDir, eventually, http_get};

/// Page links on, and nothing else.
const ON: [(&str, &str); 1] = [("HOOKCACHE_CONFLUENCE__ENABLED", "true")];
const TOKEN: &str = "token-of-the-bot";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `hookcache confluence ...` against a server.
fn confluence(hookcache: &Hookcache, args: &[&str]) -> Output {
    run(&[&["confluence"], args].concat(), &[("HOOKCACHE_ADMIN_URL", hookcache.admin_url().as_str())])
}

/// What it printed, where it must succeed.
fn prints(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Failed, in words that hold these.
fn failed(output: &Output, words: &[&str]) {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for word in words {
        assert!(told.contains(word), "{word:?} is not in: {told}");
    }
}

/// A file with a secret, in a folder that a test keeps.
fn secret(folder: &TempDir, name: &str, secret: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, secret).unwrap();
    path.display().to_string()
}

fn key(page: u64) -> String {
    format!("confluence:acme:page:{page}")
}

async fn get(hookcache: &Hookcache, page: u64) -> Reply {
    http_get(&format!("{}/v1/keys/{}", hookcache.url(), key(page))).await
}

async fn until_linked(hookcache: &Hookcache, page: u64, link: &str) {
    eventually(&format!("page {page} links to {link}"), || async {
        Some(get(hookcache, page).await).filter(|reply| reply.status == 200 && reply.text().contains(link))
    })
    .await;
}

async fn until_status(hookcache: &Hookcache, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || async {
        let output = confluence(hookcache, &["status", "--site", "acme", "--json"]);
        let status: Value = serde_json::from_str(&prints(&output)).expect("JSON");
        Some(status).filter(&holds)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_added_read_paused_and_removed() {
    let stand_in = ConfluenceStandIn::start().await;
    // bot@acme.example:token-of-the-bot
    stand_in.require("Basic Ym90QGFjbWUuZXhhbXBsZTp0b2tlbi1vZi10aGUtYm90");
    for page in 1..=3 {
        stand_in.add_page(page, "Page", r#"<a href="https://example.com/first">one</a>"#);
    }
    stand_in.set_status(3, "archived");
    let (hookcache, folder) = (Hookcache::start(&[], &ON).await, TempDir::new().unwrap());
    let (token, hook) =
        (secret(&folder, "token", &format!(" {TOKEN}\n")), secret(&folder, "hook", "hush-hush-hush-hush"));
    assert_eq!(prints(&confluence(&hookcache, &["list"])), "no sites; `hookcache confluence add` adds one\n");
    let base_url = stand_in.cloud();
    let add = |account: &str| {
        let site = ["add", "--site", "acme", "--account", account, "--base-url", &base_url];
        let secrets = ["--user", "bot@acme.example", "--token-file", &token, "--hook-secret-file", &hook];
        confluence(&hookcache, &[&site[..], &secrets].concat())
    };
    let added = prints(&add("acme"));
    assert!(added.starts_with("added: acme, "), "{added}");

    for page in 1..=3 {
        until_linked(&hookcache, page, "https://example.com/first").await;
    }
    let status =
        until_status(&hookcache, "its index is complete", |status| status["reindex"]["complete"] == true).await;
    assert_eq!((&status["state"], &status["accountId"]), (&"active".into(), &"acme".into()));
    assert_eq!((&status["asks"], &status["hasHookSecret"]), (&"basic".into(), &true.into()));
    assert_eq!(status["reindex"]["pagesKnown"], 3);
    assert_eq!(status["queue"]["dead"], 0, "{status}");
    let links = async |rest: &str| http_get(&format!("{}/v1/sites/acme/pages/{rest}", hookcache.url())).await;
    let answer = links("1/links?kind=external").await.json();
    let link = &answer["links"][0];
    assert_eq!((&link["url"], &link["text"]), (&"https://example.com/first".into(), &"one".into()), "{answer}");
    eventually("the age of the index is told", || async {
        let index = links("1/links").await.json()["index"].clone();
        (index["complete"] == true && index["lagSeconds"].is_u64()).then_some(())
    })
    .await;
    assert_eq!(
        (links("3/links").await.status.as_u16(), links("3/links?status=archived").await.status.as_u16()),
        (404, 200)
    );
    let list = prints(&confluence(&hookcache, &["list"]));
    assert!(list.lines().count() == 2 && list.contains("acme  active  acme     operator   -"), "{list}");
    let told = prints(&confluence(&hookcache, &["status", "--site", "acme"]));
    assert!(told.contains("pages known    3\n") && told.contains("index          complete\n"), "{told}");
    failed(&add("other"), &["site-taken", "belongs to another account"]);

    assert!(prints(&confluence(&hookcache, &["pause", "--site", "acme"])).starts_with("paused"));
    assert!(prints(&confluence(&hookcache, &["pause", "--site", "acme"])).starts_with("it is paused already"));
    let status = until_status(&hookcache, "it is paused", |status| status["state"] == "paused").await;
    assert!(status["notActive"].as_str().is_some_and(|why| why.contains("resume --site acme")), "{status}");
    stand_in.edit(2, r#"<a href="https://example.com/second">two</a>"#);
    assert!(prints(&confluence(&hookcache, &["resume", "--site", "acme"])).starts_with("resumed"));
    until_linked(&hookcache, 2, "https://example.com/second").await;

    let removed = prints(&confluence(&hookcache, &["remove", "--site", "acme"]));
    assert!(removed.contains("the links of its 3 pages"), "{removed}");
    eventually("it is gone", || async {
        prints(&confluence(&hookcache, &["list"])).starts_with("no sites").then_some(())
    })
    .await;
    for page in 1..=3 {
        eventually("its links are gone", || async { (get(&hookcache, page).await.status == 404).then_some(()) }).await;
    }
    failed(&confluence(&hookcache, &["status", "--site", "acme"]), &["no-such-site"]);
    // The name is free again, for whoever comes.
    let added = prints(&add("other"));
    assert!(added.starts_with("added: acme, "), "{added}");
    let written = hookcache.captured();
    assert!(written.stderr.contains("a site was added"), "{}", written.stderr);
    for secret in [TOKEN, "hush-hush", "Ym90QGFjbWU"] {
        assert!(!written.stderr.contains(secret) && !told.contains(secret) && !list.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_comes_from_a_file_or_from_standard_input_and_from_nowhere_else() {
    let (hookcache, folder) = (Hookcache::start(&[], &ON).await, TempDir::new().unwrap());
    let (token, empty) = (secret(&folder, "token", TOKEN), secret(&folder, "empty", " \n"));
    let add = |args: &[&str], input: &str| {
        let site = ["confluence", "add", "--site", "acme", "--account", "acme", "--base-url", "http://127.0.0.1:1"];
        let mut command = Command::new(PROGRAM);
        command.args(site).args(args).env("HOOKCACHE_ADMIN_URL", hookcache.admin_url());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        // A program that does not read to the end has closed its side, which is its right.
        let _ = std::io::Write::write_all(&mut child.stdin.take().expect("it is piped"), input.as_bytes());
        child.wait_with_output().expect("it ends")
    };
    prints(&add(&["--user", "bot", "--token-file", "-", "--data-center"], TOKEN));
    prints(&add(&["--bearer-file", "-"], "another-token\r\n"));
    prints(&add(&["--bearer-file", &token, "--hook-secret-file", "-"], "hush-hush-hush-hush\n"));
    let both = ["--bearer-file", "-", "--hook-secret-file", "-"];
    failed(&add(&both, TOKEN), &["only one secret can come from standard input"]);
    failed(&add(&["--bearer-file", &empty], ""), &["empty is empty"]);
    failed(&add(&["--bearer-file", "-"], ""), &["standard input is empty"]);
    failed(&add(&["--bearer-file", "-"], &"x".repeat(20_000)), &["more than 16384 bytes"]);
    failed(&add(&["--bearer-file", "/no/such/file"], ""), &["can't read /no/such/file"]);
    for wrong in [&[][..], &["--user", "bot"], &["--token-file", &token], &["--token", TOKEN], &["--bearer", TOKEN]] {
        assert_eq!(add(wrong, "").status.code(), Some(2), "{wrong:?}");
    }
}
