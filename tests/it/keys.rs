//! What is stored, looked after: the real program, its control plane and its command line, over both stores.

use std::collections::BTreeSet;
use std::process::Output;

use hookcache::envelope::Clock;
use hookcache::envelope::stamp::rfc_3339;
use serde_json::{Value, json};

use crate::support::hookcache::run;
use crate::support::stack::series;
use crate::support::{Hookcache, Redis, Reply, TempDir, eventually, http_get, http_post, http_send};

/// The program over Redis where there is one, and over the embedded store otherwise.
async fn over(redis: Option<&Redis>, toml: &str) -> (TempDir, Hookcache) {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("hookcache.toml");
    let store = redis.map_or_else(String::new, |redis| format!("[store]\nurl = \"{}\"\n", redis.url()));
    std::fs::write(&file, format!("{toml}{store}")).expect("it is ours");
    let hookcache = Hookcache::start(&["--config", &file.display().to_string()], &[]).await;
    (folder, hookcache)
}

/// One of ours on each store.
macro_rules! on_both_stores {
    ($($fact:ident),*) => {
        mod on_disk {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $fact() {
                super::$fact(None).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $fact() {
                super::$fact(Some(crate::support::Redis::start().await)).await;
            })*
        }
    };
}

on_both_stores!(
    ten_thousand_keys_are_listed_and_purged_and_a_purge_that_was_killed_goes_on,
    rules_are_applied_to_what_is_stored_already
);

async fn set(hookcache: &Hookcache, account: &str, flow: &str, keys: &[String], more: Value) {
    let mut body = json!({"accountId": account, "flowId": flow, "webhookKeys": keys, "data": "twelve bytes"});
    let members = more.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(members);
    let reply = http_post(&format!("{}/v1/set", hookcache.url()), body.to_string()).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
}

async fn until_readable(hookcache: &Hookcache, key: &str) -> Reply {
    let url = format!("{}/v1/keys/{key}", hookcache.url());
    eventually(&format!("{key} is readable"), || async { Some(http_get(&url).await).filter(|r| r.status == 200) }).await
}

/// Waits until the consumer has brought that many keys to that outcome.
async fn until_outcomes(hookcache: &Hookcache, outcome: &str, count: usize) {
    let metrics = format!("{}/metrics", hookcache.admin_url());
    let name = format!("hookcache_consumer_outcomes_total{{outcome=\"{outcome}\"}}");
    eventually(&format!("{count} keys are {outcome}"), || async {
        series(&http_get(&metrics).await.text(), &name).filter(|found| *found >= count as f64)
    })
    .await;
}

async fn is_absent(hookcache: &Hookcache, key: &str) -> bool {
    http_get(&format!("{}/v1/keys/{key}", hookcache.url())).await.status == 404
}

/// `hookcache ...` against a server: exit code and outputs.
fn cli(hookcache: &Hookcache, args: &[&str]) -> (Option<i32>, String, String) {
    let url = hookcache.admin_url();
    let Output { status, stdout, stderr } = run(args, &[("HOOKCACHE_ADMIN_URL", url.as_str())]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// What it printed as JSON, where it must succeed.
fn cli_json(hookcache: &Hookcache, args: &[&str]) -> Value {
    let (code, out, error) = cli(hookcache, &[args, &["--json"]].concat());
    assert_eq!(code, Some(0), "{error}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

fn listed(listing: &Value) -> BTreeSet<String> {
    let keys = listing["entries"].as_array().expect("a list").iter();
    keys.map(|entry| entry["webhookKey"].as_str().expect("a key").to_owned()).collect()
}

async fn ten_thousand_keys_are_listed_and_purged_and_a_purge_that_was_killed_goes_on(redis: Option<Redis>) {
    let (_folder, mut hookcache) = over(redis.as_ref(), "").await;
    let mut acme = BTreeSet::new();
    for round in 0..10 {
        let flow = ["orders", "audit"][round % 2];
        let keys: Vec<String> = (0..1_000).map(|i| format!("{flow}/{round}/{i}")).collect();
        set(&hookcache, "acme", flow, &keys, json!({})).await;
        acme.extend(keys);
    }
    let theirs: Vec<String> = (0..50).map(|i| format!("orders/theirs/{i}")).collect();
    set(&hookcache, "globex", "orders", &theirs, json!({})).await;
    let all = ["keys", "list", "--limit", "20000"];
    until_outcomes(&hookcache, "written", acme.len() + theirs.len()).await;
    assert_eq!(listed(&cli_json(&hookcache, &all)).len(), acme.len() + theirs.len());

    let of_acme = cli_json(&hookcache, &[&all[..], &["--account", "acme"]].concat());
    assert_eq!((listed(&of_acme), &of_acme["complete"]), (acme.clone(), &json!(true)));
    let narrow = ["keys", "list", "--account", "acme", "--flow", "audit", "--prefix", "audit/3/99", "--limit", "50"];
    assert_eq!(listed(&cli_json(&hookcache, &narrow)).len(), 11);
    let (code, out, error) = cli(&hookcache, &["keys", "list", "--account", "globex", "--limit", "7"]);
    assert_eq!((code, out.lines().count()), (Some(0), 8), "{out}");
    assert!(out.starts_with("KEY") && error.contains("complete: false"), "{out}{error}");

    let shown = cli_json(&hookcache, &["keys", "show", "orders/theirs/7"]);
    let read = until_readable(&hookcache, "orders/theirs/7").await;
    assert_eq!(format!("\"{}\"", shown["eTag"].as_str().expect("a text")), read.header("etag"));
    assert_eq!(shown["expiresAt"], read.header("hookcache-expires-at"));
    assert_eq!((&shown["id"], &shown["accountId"]), (&json!(read.header("hookcache-id")), &json!("globex")));
    assert_eq!((&shown["flowId"], &shown["payloadBytes"]), (&json!("orders"), &json!(14)));
    let (code, out, error) = cli(&hookcache, &["keys", "show", "nothing"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("(not-found)"), "{error}");

    // Nothing goes before someone says so.
    let purge = ["keys", "purge", "--account", "acme"];
    let (code, _, error) = cli(&hookcache, &purge);
    assert!(code == Some(2) && error.contains("--yes") && error.contains("--dry-run"), "{error}");
    let (code, out, error) = cli(&hookcache, &[&purge[..], &["--dry-run"]].concat());
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let would: usize = out.trim().strip_prefix("would be purged: ").expect("a count").parse().expect("a number");
    // What Redis shows twice is counted twice.
    assert!(would >= acme.len(), "{would}");
    assert_eq!(listed(&cli_json(&hookcache, &all)).len(), acme.len() + theirs.len());

    // A part of it, then the server is killed; the cursor that was printed leads on, in the next process, too.
    let part = [&purge[..], &["--yes", "--scan-limit", "3000"]].concat();
    let (code, out, error) = cli(&hookcache, &part);
    assert_eq!(code, Some(0), "{error}");
    let purged: usize = out.trim().strip_prefix("purged: ").expect("a count").parse().expect("a number");
    assert!((1_000..=6_000).contains(&purged), "{purged}");
    let cursor = error.trim().rsplit_once("--resume ").expect("where to go on").1.to_owned();
    hookcache.kill9();
    hookcache.start_again().await;
    let left = listed(&cli_json(&hookcache, &[&all[..], &["--account", "acme"]].concat()));
    assert_eq!(left.len(), acme.len() - purged);
    // What is set meanwhile is newer.
    let gone = acme.difference(&left).next().expect("some are gone").clone();
    set(&hookcache, "globex", "new", std::slice::from_ref(&gone), json!({})).await;
    until_readable(&hookcache, &gone).await;
    let rest = cli_json(&hookcache, &[&purge[..], &["--yes", "--resume", &cursor]].concat());
    assert_eq!((&rest["purged"], &rest["complete"]), (&json!(left.len()), &json!(true)), "{rest}");

    let kept = listed(&cli_json(&hookcache, &all));
    assert_eq!(kept, theirs.iter().cloned().chain([gone]).collect());
    assert!(is_absent(&hookcache, &left.first().expect("some were left").clone()).await);
    // Once more from the beginning.
    assert_eq!(cli_json(&hookcache, &[&purge[..], &["--yes"]].concat())["purged"], 0);
}

async fn rules_are_applied_to_what_is_stored_already(redis: Option<Redis>) {
    let (_folder, hookcache) = over(redis.as_ref(), "").await;
    // Its event lies two hours back, so that the rules decide whether it is over.
    let (now_ms, hour_ms) = (Clock::system().now_ms(), 3_600_000);
    let at_ms = now_ms - 2 * hour_ms;
    let event = json!({"eventId": "e", "eventTime": rfc_3339(at_ms)});
    let with_ttl = json!({"eventId": "e", "eventTime": rfc_3339(at_ms), "ttlSeconds": 2 * 86_400});
    let keys = |name: &str| (0..1_500).map(|i| format!("{name}/{i}")).collect::<Vec<String>>();
    for (account, flow, more) in
        [("acme", "orders", &event), ("acme", "own", &with_ttl), ("acme", "narrow", &event), ("globex", "g", &event)]
    {
        for part in keys(flow).chunks(1_000) {
            set(&hookcache, account, flow, part, more.clone()).await;
        }
    }
    until_outcomes(&hookcache, "written", 6_000).await;
    let day = |days: u64| json!(rfc_3339(at_ms + days * 86_400_000));
    let expires_at = |key: &str| cli_json(&hookcache, &["keys", "show", key])["expiresAt"].clone();
    let etag = cli_json(&hookcache, &["keys", "show", "orders/7"])["eTag"].clone();
    assert_eq!((expires_at("orders/7"), expires_at("own/7")), (day(7), day(2)), "the default, and its own");

    let narrow = cli(&hookcache, &["ttl", "set", "--account", "acme", "--flow", "narrow", "1d"]);
    assert_eq!((narrow.0, expires_at("narrow/7")), (Some(0), day(7)), "a rule holds for what is stored from then on");
    let (code, out, error) = cli(&hookcache, &["ttl", "set", "--account", "acme", "3d", "--apply-existing"]);
    assert!(code == Some(0) && error.starts_with("in 5 seconds"), "{error}");
    assert!(out.starts_with("account acme: 3d\nrewritten: 3000, removed: 0, unchanged: "), "{out}");
    assert_eq!((expires_at("orders/7"), expires_at("own/1499")), (day(3), day(3)));
    // What a narrower rule decides, and what is another's, is as it was; so is all but the expiry.
    assert_eq!((expires_at("narrow/7"), expires_at("g/7")), (day(7), day(7)));
    assert_eq!(cli_json(&hookcache, &["keys", "show", "orders/7"])["eTag"], etag);
    let read = until_readable(&hookcache, "orders/7").await;
    assert_eq!((read.text().as_str(), json!(read.header("hookcache-expires-at"))), ("\"twelve bytes\"", day(3)));

    // Repeating it is harmless, and it can be done in parts.
    let apply = ["ttl", "apply", "--account", "acme"];
    let again = cli_json(&hookcache, &apply);
    assert_eq!((&again["rewritten"], &again["removed"], &again["failed"]), (&json!(0), &json!(0), &Value::Null));
    assert!(again["unchanged"].as_u64() >= Some(3_000) && again["narrower"].as_u64() >= Some(1_500), "{again}");
    let of_flow = [&apply[..], &["--flow", "narrow"]].concat();
    let dry = cli(&hookcache, &[&of_flow[..], &["--dry-run"]].concat());
    assert!(dry.1.starts_with("would be rewritten: 1") && expires_at("narrow/7") == day(7), "{}", dry.1);
    let part = ["--scan-limit", "1000"];
    let (_, _, error) = cli(&hookcache, &[&of_flow[..], &part, &["--dry-run"]].concat());
    assert!(error.trim().ends_with("--dry-run"), "what a trial tells to go on with is a trial: {error}");
    let (code, _, error) = cli(&hookcache, &[&of_flow[..], &part].concat());
    let cursor = error.trim().rsplit_once("--resume ").unwrap_or_else(|| panic!("{error}")).1;
    assert_eq!((code, error.contains("hookcache ttl apply --account acme --flow narrow")), (Some(0), true), "{error}");
    assert_eq!(cli_json(&hookcache, &[&of_flow[..], &["--resume", cursor]].concat())["complete"], true);
    for key in ["narrow/0", "narrow/7", "narrow/1499"] {
        assert_eq!(expires_at(key), day(1), "{key}");
    }

    // By a rule of one hour they are over, and the event that set them stays away.
    let rule = format!("{}/v1/ttl/accounts/acme/flows/orders", hookcache.admin_url());
    let json = ("content-type", "application/json");
    assert_eq!(http_send(http::Method::PUT, &rule, &[json], r#"{"ttlSeconds":3600}"#).await.status, 200);
    let of_flow = ["ttl", "apply", "--account", "acme", "--flow", "orders"];
    let (_, out, _) = cli(&hookcache, &of_flow);
    assert!(out.starts_with("rewritten: 0, removed: 1500,"), "{out}");
    assert!(is_absent(&hookcache, "orders/7").await);
    let newer = json!({"eventId": "f", "eventTime": rfc_3339(now_ms), "ttlSeconds": 600});
    set(&hookcache, "acme", "orders", &["orders/0".to_owned()], event.clone()).await;
    set(&hookcache, "acme", "orders", &["orders/1".to_owned()], newer).await;
    until_readable(&hookcache, "orders/1").await;
    until_outcomes(&hookcache, "duplicate", 1).await;
    assert!(is_absent(&hookcache, "orders/0").await);

    // Without the rule the next wider one decides.
    assert_eq!(cli(&hookcache, &["ttl", "unset", "--account", "acme", "--flow", "narrow"]).0, Some(0));
    assert_eq!(cli_json(&hookcache, &["ttl", "apply", "--account", "acme", "--flow", "narrow"])["rewritten"], 1_500);
    assert_eq!(expires_at("narrow/7"), day(3));
}

fn is_problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status.as_u16(), reply.json()["code"].as_str()), (status, Some(code)), "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_refused_and_changes_nothing() {
    let (_folder, hookcache) = over(None, "").await;
    let keys = ["purge".to_owned(), "a/b c".to_owned(), "%2F".to_owned(), "/".to_owned()];
    set(&hookcache, "acme", "orders", &keys, json!({})).await;
    until_readable(&hookcache, "purge").await;
    let admin = hookcache.admin_url();
    for query in [
        "scanLimit=0",
        "scanLimit=1001",
        "scanLimit=-1",
        "scanLimit=x",
        "accountId=a%20b",
        "flowId=",
        "prefix=%00",
        "after=",
        "after=0.17",
        "after=k6",
        "limit=5",
        "accountId=a&accountId=a",
    ] {
        is_problem(&http_get(&format!("{admin}/v1/entries?{query}")).await, 400, "invalid-request");
    }
    for body in [
        r#"{}"#,
        r#"{"accountId": ""}"#,
        r#"{"accountId": "acme", "flowId": "a b"}"#,
        r#"{"accountId": "acme", "prefix": "\u0000"}"#,
        r#"{"accountId": "acme", "scanLimit": 0}"#,
        r#"{"accountId": "acme", "scanLimit": 1e30}"#,
        r#"{"accountId": "acme", "after": "0.17"}"#,
        r#"{"accountId": "acme", "after": 5}"#,
        r#"{"accountId": "acme", "dryRun": "yes"}"#,
        r#"{"accountId": "acme", "yes": true}"#,
        r#"[]"#,
    ] {
        is_problem(&http_post(&format!("{admin}/v1/purge"), body).await, 400, "invalid-request");
        if body.contains("prefix") || body.contains("a b") {
            continue;
        }
        is_problem(&http_post(&format!("{admin}/v1/ttl/apply"), body).await, 400, "invalid-request");
    }
    for path in ["purge", "ttl/apply"] {
        let url = format!("{admin}/v1/{path}");
        is_problem(&http_post(&url, "{").await, 400, "malformed-json");
        is_problem(&http_post(&url, vec![b' '; 100_000]).await, 413, "body-too-large");
        is_problem(&http_send(http::Method::POST, &url, &[], "{}").await, 415, "unsupported-media-type");
        is_problem(&http_get(&url).await, 405, "method-not-allowed");
    }
    for path in ["%00", "%ff", &"k".repeat(513)] {
        is_problem(&http_get(&format!("{admin}/v1/entries/{path}")).await, 400, "invalid-key");
    }
    is_problem(&http_get(&format!("{admin}/v1/entries/nothing")).await, 404, "not-found");
    // Each key is its own path, also one that looks like another call.
    for (path, key) in [("purge", "purge"), ("a/b%20c", "a/b c"), ("a%2Fb%20c", "a/b c"), ("%252F", "%2F"), ("/", "/")]
    {
        let reply = http_get(&format!("{admin}/v1/entries/{path}")).await;
        assert_eq!(reply.json()["webhookKey"], key, "{path}: {}", reply.text());
    }
    let (code, _, error) = cli(&hookcache, &["keys", "purge", "--account", "acme", "--yes", "--resume", "nonsense"]);
    assert!(code == Some(1) && error.contains("invalid-request") && error.contains("after"), "{error}");
    assert_eq!(listed(&cli_json(&hookcache, &["keys", "list"])), keys.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_away_in_mid_walk_is_told_with_where_to_go_on() {
    let redis = Redis::start().await;
    let (_folder, hookcache) = over(Some(&redis), "").await;
    let mut redis = redis;
    let keys: Vec<String> = (0..1_000).map(|i| format!("k/{i}")).collect();
    set(&hookcache, "acme", "orders", &keys, json!({})).await;
    until_outcomes(&hookcache, "written", keys.len()).await;
    let admin = hookcache.admin_url();
    let page = http_get(&format!("{admin}/v1/entries?scanLimit=100")).await.json();
    let cursor = page["next"].as_str().expect("there are more").to_owned();
    redis.stop();
    let purge = json!({"accountId": "acme", "after": cursor}).to_string();
    for reply in [
        http_get(&format!("{admin}/v1/entries?after={cursor}")).await,
        http_get(&format!("{admin}/v1/entries/k/1")).await,
        http_post(&format!("{admin}/v1/purge"), purge).await,
        http_post(&format!("{admin}/v1/ttl/apply"), json!({"accountId": "acme"}).to_string()).await,
    ] {
        is_problem(&reply, 503, "store-unavailable");
        assert!(!reply.header("retry-after").is_empty());
    }
    let (code, out, error) = cli(&hookcache, &["keys", "purge", "--account", "acme", "--yes", "--resume", &cursor]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("store-unavailable") && error.contains(&format!("--resume {cursor}")), "{error}");
    let (code, _, error) = cli(&hookcache, &["ttl", "apply", "--account", "acme", "--resume", &cursor]);
    let line = format!("hookcache ttl apply --account acme --resume {cursor}");
    assert!(code == Some(1) && error.contains(&line), "{error}");
    redis.start_again().await;
    eventually("the walk goes on", || async {
        (cli(&hookcache, &["keys", "purge", "--account", "acme", "--yes", "--resume", &cursor]).0 == Some(0))
            .then_some(())
    })
    .await;
}
