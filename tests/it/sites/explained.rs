//! `hookcache confluence explain`: where the links of a page are, at each station of their road, and what to do.

use serde_json::{Value, json};

use super::{ConfluenceStandIn, ON, TOKEN, confluence, failed, prints, secret, until_linked, until_status};
use crate::support::confluence::{Call, Odd};
use crate::support::hookcache::run;
use crate::support::{Hookcache, TempDir, eventually, http_send};

const LINK: &str = "https://example.com/1";
const HOOK_SECRET: &str = "hush-hush-hush-hush";

fn explain(hookcache: &Hookcache, page: &str) -> Value {
    let output = confluence(hookcache, &["explain", "--site", "acme", "--page", page, "--json"]);
    serde_json::from_str(&prints(&output)).expect("JSON")
}

/// Waits until what to do about the page is this.
async fn until_advised(hookcache: &Hookcache, page: &str, words: &str) -> Value {
    eventually(&format!("page {page}: {words}"), async || {
        let explained = explain(hookcache, page);
        explained["advice"].as_str().is_some_and(|advice| advice.contains(words)).then_some(explained)
    })
    .await
}

/// Tells of a page, as the site does.
async fn tell(hookcache: &Hookcache, event: &str, page: u64) {
    let url = format!("{}/v1/hooks/confluence/sites/acme", hookcache.url());
    let headers = [("content-type", "application/json"), ("x-hookcache-secret", HOOK_SECRET)];
    let body = json!({ "event": event, "page": { "id": page } }).to_string();
    let reply = http_send(http::Method::POST, &url, &headers, body).await;
    assert_eq!(reply.status, 204, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_explained_at_each_station_with_what_to_do() {
    let (stand_in, folder) = (ConfluenceStandIn::start().await, TempDir::new().unwrap());
    let body = format!(r#"<a href="{LINK}">a</a>"#);
    (1..=3).for_each(|page| stand_in.add_page(page, "Home", &body));
    let quick = [ON[0], ("HOOKCACHE_PAGES__ATTEMPTS_MAX", "1")];
    let hookcache = Hookcache::start(&[], &quick).await;
    let (base_url, token) = (stand_in.cloud(), secret(&folder, "token", TOKEN));
    let hook = secret(&folder, "hook", HOOK_SECRET);
    let site = ["add", "--site", "acme", "--account", "docs", "--base-url", &base_url, "--bearer-file", &token];
    prints(&confluence(&hookcache, &[&site[..], &["--hook-secret-file", &hook]].concat()));
    until_status(&hookcache, "it is read", |status| status["reindex"]["complete"] == true).await;

    // Found by the reindex alone.
    let well = until_advised(&hookcache, "1", "All is well: what is stored is version 1, current").await;
    assert_eq!((&well["accountId"], &well["webhookKey"]), (&"docs".into(), &"confluence:acme:page:1".into()));
    assert_eq!((&well["known"]["title"], &well["known"]["space"]), (&"Home".into(), &"DOC".into()));
    assert_eq!((&well["known"]["lastFetch"]["result"], &well["known"]["lastEvent"]), (&"ok".into(), &Value::Null));
    assert_eq!((&well["stored"]["version"], &well["stored"]["expiresAt"]), (&1.into(), &Value::Null));
    assert_eq!((&well["waiting"]["pagesQueue"], &well["waiting"]["buffer"]), (&0.into(), &0.into()));
    assert_eq!((&well["lastReindex"]["scope"], &well["nextReindex"]["scope"]), (&"full".into(), &"since-last".into()));
    let told = prints(&confluence(&hookcache, &["explain", "--site", "acme", "--page", "1"]));
    for line in [
        "site          acme, of account docs\n",
        "page          1 \"Home\" in space DOC\n",
        "last event    none\n",
        "last fetch    ok, asked at 20",
        "read          version 1, current\n",
        "stored        version 1, asked for at 20",
        "never expires, ",
        "waiting       to be read: 0, to be stored: 0\n",
        "dead letters  none of the 0 that were looked at\n",
        "last reindex  1 (full), asked for at 20",
        "next reindex  since-last at 20",
        "\nAll is well",
    ] {
        assert!(told.contains(line), "{line:?} is not in: {told}");
    }

    // Waiting to be read, and then read.
    let gate = stand_in.gate();
    tell(&hookcache, "page_updated", 1).await;
    let waits = until_advised(&hookcache, "1", "It waits to be read: 1 of its events").await;
    assert_eq!(waits["waiting"]["pagesQueue"], 1, "{waits}");
    stand_in.edit(1, r#"<a href="https://example.com/2">a</a>"#);
    gate.open();
    let well = until_advised(&hookcache, "1", "All is well: what is stored is version 2, current").await;
    assert_eq!(well["known"]["lastEvent"]["name"], "page_updated", "{well}");
    until_linked(&hookcache, 1, "https://example.com/2").await;

    // Gone from the site; in its trash; never heard of.
    stand_in.remove(2);
    tell(&hookcache, "page_removed", 2).await;
    let gone = until_advised(&hookcache, "2", "The site says that there is no such page").await;
    assert_eq!((&gone["known"]["lastFetch"]["result"], &gone["stored"]), (&"not-found".into(), &Value::Null), "{gone}");
    stand_in.set_status(3, "trashed");
    tell(&hookcache, "page_trashed", 3).await;
    let advice = "version 1, trashed, as the site had it last time. Its links are told only to those who ask";
    until_advised(&hookcache, "3", advice).await;
    let unknown = until_advised(&hookcache, "99", "Nothing is known of this page").await;
    assert!(unknown["known"].is_null() && unknown["stored"].is_null(), "{unknown}");

    // Dead, and back by the very command that is told.
    stand_in.script(|call: &Call| call.path.contains("/pages/1?").then(|| Odd::Text("<html>".to_owned())));
    tell(&hookcache, "page_updated", 1).await;
    eventually("it has failed", async || {
        let result = explain(&hookcache, "1")["known"]["lastFetch"]["result"].clone();
        result.as_str().is_some_and(|result| result.contains("not JSON")).then_some(())
    })
    .await;
    tell(&hookcache, "page_updated", 3).await;
    let dead = until_advised(&hookcache, "1", "A dead letter holds a task to read it: attempts-exhausted").await;
    assert_eq!(dead["dead"]["pagesQueue"].as_array().unwrap().len(), 1, "{dead}");
    stand_in.no_script();
    let advice = dead["advice"].as_str().unwrap();
    let command = advice.rsplit('`').nth(1).expect("a command between backticks");
    let args: Vec<&str> = command.split(' ').skip(1).collect();
    prints(&run(&args, &[("HOOKCACHE_ADMIN_URL", &hookcache.admin_url())]));
    until_advised(&hookcache, "1", "All is well").await;

    prints(&confluence(&hookcache, &["pause", "--site", "acme"]));
    let paused = until_advised(&hookcache, "1", "Nothing of this site is read: the site is paused").await;
    assert!(paused["notActive"].as_str().unwrap().contains("hookcache confluence resume --site acme"), "{paused}");
    assert_eq!(paused["nextReindex"], Value::Null, "{paused}");
    failed(&confluence(&hookcache, &["explain", "--site", "nobody", "--page", "1"]), &["no-such-site"]);
    for wrong in [&["explain", "--site", "acme"][..], &["explain", "--site", "acme", "--page", "Home"]] {
        assert_eq!(confluence(&hookcache, wrong).status.code(), Some(2), "{wrong:?}");
    }
}
