//! `hookcache confluence reindex`: asked for at the command line, watched there and over HTTP.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};

use http::Method;
use serde_json::{Value, json};

use super::{ConfluenceStandIn, ON, TOKEN, confluence, failed, prints, secret, text, until_linked, until_status};
use crate::support::confluence::{Gate, Odd};
use crate::support::hookcache::PROGRAM;
use crate::support::{Hookcache, TempDir, eventually, http_get, http_send};

const PAGES: u64 = 150;

/// A program, and a site of two parts, which it has read once.
async fn read_once() -> (Hookcache, ConfluenceStandIn) {
    let (stand_in, folder) = (ConfluenceStandIn::start().await, TempDir::new().unwrap());
    (1..=PAGES).for_each(|page| stand_in.add_page(page, "Page", r#"<a href="https://example.com/1">a</a>"#));
    let fast = [ON[0], ("HOOKCACHE_CONFLUENCE__REQUESTS_PER_SECOND", "1000")];
    let hookcache = Hookcache::start(&[], &fast).await;
    let (base_url, token) = (stand_in.cloud(), secret(&folder, "token", TOKEN));
    let site = ["add", "--site", "acme", "--account", "acme", "--base-url", &base_url, "--bearer-file", &token];
    prints(&confluence(&hookcache, &site));
    until_status(&hookcache, "it is read", |status| status["reindex"]["complete"] == true).await;
    (hookcache, stand_in)
}

/// A run that is stuck at the second part of its list until the gate is opened.
fn stuck(stand_in: &ConfluenceStandIn) -> Gate {
    let gate = stand_in.gate();
    let at = gate.clone();
    stand_in.script(move |call| call.path.contains("cursor=").then(|| Odd::Gated(at.clone())));
    gate
}

fn reindex(hookcache: &Hookcache, args: &[&str]) -> Output {
    confluence(hookcache, &[&["reindex", "--site", "acme"], args].concat())
}

/// The same, running on.
fn begun(hookcache: &Hookcache, args: &[&str]) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(["confluence", "reindex", "--site", "acme"]).args(args);
    command.env("HOOKCACHE_ADMIN_URL", hookcache.admin_url()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

async fn status(hookcache: &Hookcache) -> Value {
    http_get(&format!("{}/v1/sites/acme/reindex", hookcache.admin_url())).await.json()
}

/// Waits until the newest run is in this state.
async fn until(hookcache: &Hookcache, state: &str) -> Value {
    let is_in = async || Some(status(hookcache).await).filter(|status| status["runs"][0]["state"] == state);
    eventually(&format!("a run that is {state}"), is_in).await
}

/// Reads until this was written. What was written so far.
fn read_until(from: &mut impl Read, wanted: &str) -> String {
    let (mut read, mut chunk) = (String::new(), [0; 1_024]);
    while !read.contains(wanted) {
        let length = from.read(&mut chunk).expect("a pipe");
        assert!(length > 0, "it has ended without {wanted:?}: {read}");
        read += &text(&chunk[..length]);
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reindex_is_watched_line_by_line_and_another_that_is_asked_for_meanwhile_joins_it() {
    let (hookcache, stand_in) = read_once().await;
    let gate = stuck(&stand_in);
    let mut full = begun(&hookcache, &["--full"]);
    let mut lines = full.stderr.take().expect("it is piped");
    let half = read_until(&mut lines, "\n");
    let open = until(&hookcache, "listing").await;
    let run = &open["runs"][0];
    assert_eq!((&run["scope"], &run["pagesSeen"], &run["number"]), (&"full".into(), &100.into(), &2.into()), "{open}");
    assert_eq!((&open["next"], &open["complete"], &open["pagesKnown"]), (&Value::Null, &true.into(), &PAGES.into()));

    let joined = reindex(&hookcache, &["--no-wait"]);
    assert_eq!(prints(&joined), "asked for: what was changed since the last time\n");
    let asked: Value = serde_json::from_str(&prints(&reindex(&hookcache, &["--full", "--no-wait", "--json"]))).unwrap();
    assert_eq!((&asked["site"], &asked["scope"]), (&"acme".into(), &"full".into()));
    failed(&reindex(&hookcache, &["--timeout", "1ms"]), &["not done in time; it goes on"]);
    gate.open();
    let output = full.wait_with_output().expect("it ends");
    assert_eq!(
        prints(&output),
        "done: 150 pages read, 0 had changed, 0 asked for because the list did not name them\n"
    );
    let ended = until(&hookcache, "succeeded").await;
    assert_eq!((ended["runs"].as_array().unwrap().len(), &ended["runs"][0]["pagesSeen"]), (2, &PAGES.into()));
    assert!(ended["lagSeconds"].is_u64() && ended["lastReindexAt"].is_string(), "{ended}");
    assert_eq!(ended["next"]["scope"], "since-last", "{ended}");
    // No terminal: whole lines, and nothing that moves a cursor.
    assert!(half.ends_with('\n') && !half.contains('\u{1b}'), "{half:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_a_bar_says_how_far_it_is() {
    let (hookcache, stand_in) = read_once().await;
    let gate = stuck(&stand_in);
    // `script` gives it a terminal.
    let command = format!("{PROGRAM} confluence reindex --site acme --full");
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("HOOKCACHE_ADMIN_URL", hookcache.admin_url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script, of util-linux, is there");
    let mut shown = terminal.stdout.take().expect("it is piped");
    let bar = "\r\u{1b}[2K[####################----------] 100 pages read, 0 changed, of 150 that are known";
    read_until(&mut shown, bar);
    gate.open();
    let rest = read_until(&mut shown, "because the list did not name them");
    assert!(rest.contains("\r\u{1b}[2Kdone: 150 pages read"), "the bar is gone: {rest:?}");
    assert!(terminal.wait().expect("it ends").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_since_a_moment_is_read_and_told() {
    let (hookcache, stand_in) = read_once().await;
    stand_in.edit(7, r#"<a href="https://example.com/2">a</a>"#);
    let ended: Value = serde_json::from_str(&prints(&reindex(&hookcache, &["--since", "1h", "--json"]))).unwrap();
    assert_eq!((&ended["scope"], &ended["state"]), (&"since".into(), &"succeeded".into()), "{ended}");
    assert_eq!((&ended["pagesChanged"], ended["since"].is_string()), (&1.into(), true), "{ended}");
    until_linked(&hookcache, 7, "https://example.com/2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reindex_that_can_not_be_says_why_and_exits_with_one() {
    let (hookcache, stand_in) = read_once().await;
    failed(&confluence(&hookcache, &["reindex", "--site", "nobody"]), &["no-such-site"]);
    failed(&reindex(&hookcache, &["--since", "2999-01-01T00:00:00Z"]), &["must not lie in the future"]);
    for wrong in [&["--since", "yesterday"][..], &["--full", "--since", "1d"], &["--site", "acme"], &["more"]] {
        assert_eq!(reindex(&hookcache, wrong).status.code(), Some(2), "{wrong:?}");
    }
    let post = async |content_type: &str, body: &str| {
        let url = format!("{}/v1/sites/acme/reindex", hookcache.admin_url());
        let reply = http_send(Method::POST, &url, &[("content-type", content_type)], body.to_owned()).await;
        (reply.status.as_u16(), reply.json()["code"].as_str().unwrap_or_default().to_owned())
    };
    for body in [
        "[]",
        r#"{"full":1}"#,
        r#"{"more":1}"#,
        r#"{"since":"now"}"#,
        r#"{"full":true,"since":"2026-01-01T00:00:00Z"}"#,
    ] {
        assert_eq!(post("application/json", body).await, (400, "invalid-request".to_owned()), "{body}");
    }
    assert_eq!(post("application/json", &json!({ "since": "x".repeat(5_000) }).to_string()).await.0, 413);
    assert_eq!(post("text/plain", "{}").await.0, 415);

    stand_in.script(|call| call.path.contains("/api/v2/pages?").then_some(Odd::Status(401)));
    let refused = reindex(&hookcache, &["--full"]);
    failed(&refused, &["the reindex 2 of acme has failed", "401", "hookcache confluence add --site acme"]);
    let told = until(&hookcache, "failed").await;
    assert!(
        told["runs"][0]["error"].as_str().unwrap().contains("401") && told["runs"][0]["endedAt"].is_string(),
        "{told}"
    );
    assert_eq!((&told["complete"], &told["next"]["scope"]), (&true.into(), &"since-last".into()), "{told}");

    stand_in.script(|_| Some(Odd::TooMany(Some("3600".to_owned()))));
    prints(&reindex(&hookcache, &["--no-wait"]));
    let told = until(&hookcache, "waiting").await;
    let waits = &told["runs"][0]["waits"];
    assert!(waits["why"].as_str().unwrap().contains("429") && waits["until"].is_string(), "{told}");

    prints(&confluence(&hookcache, &["pause", "--site", "acme"]));
    failed(&reindex(&hookcache, &[]), &["site-not-active", "hookcache confluence resume --site acme"]);
    assert!(status(&hookcache).await["notActive"].is_string());
}
