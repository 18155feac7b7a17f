//! Dead letters of the real program, through the control plane and the command line: listed, shown, redriven, dropped.

use std::process::Output;

use hookcache::envelope::Clock;
use hookcache::envelope::stamp::rfc_3339;
use http::Method;
use serde_json::{Value, json};

use crate::support::hookcache::run;
use crate::support::stack::Stack;
use crate::support::{Hookcache, Reply, eventually, http_get, http_post, http_send};

fn set_body(account: &str, key: &str, data: &str) -> String {
    json!({"accountId": account, "flowId": "orders", "webhookKeys": [key], "data": data}).to_string()
}

async fn set(hookcache: &Hookcache, account: &str, key: &str, data: &str) -> Value {
    let reply = http_post(&format!("{}/v1/set", hookcache.url()), set_body(account, key, data)).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()
}

async fn until_read_as(hookcache: &Hookcache, key: &str, want: &str) {
    let url = format!("{}/v1/keys/{key}", hookcache.url());
    eventually(&format!("{key} is {want}"), || async { (http_get(&url).await.text() == want).then_some(()) }).await;
}

async fn list(hookcache: &Hookcache, query: &str) -> Value {
    let reply = http_get(&format!("{}/v1/dead-letters{query}", hookcache.admin_url())).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

async fn until_dead(hookcache: &Hookcache, count: usize) -> Vec<Value> {
    eventually(&format!("{count} dead letters"), || async {
        let listed = list(hookcache, "").await;
        listed["letters"].as_array().filter(|letters| letters.len() == count).cloned()
    })
    .await
}

async fn post(hookcache: &Hookcache, act: &str, selection: Value) -> Reply {
    http_post(&format!("{}/v1/dead-letters/{act}", hookcache.admin_url()), selection.to_string()).await
}

fn is_problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status.as_u16(), reply.json()["code"].as_str()), (status, Some(code)), "{}", reply.text());
}

/// `hookcache dead-letters ...`, and its exit code and outputs.
fn cli(hookcache: &Hookcache, args: &[&str]) -> (Option<i32>, String, String) {
    let url = hookcache.admin_url();
    let Output { status, stdout, stderr } =
        run(&[&["dead-letters"], args].concat(), &[("HOOKCACHE_ADMIN_URL", url.as_str())]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

fn done(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["done"].clone()
}

/// So many minutes ago.
fn before(minutes: u64) -> String {
    rfc_3339(Clock::system().now_ms() - minutes * 60_000)
}

/// The account `acme` owns the keys, so sets of `globex` become dead letters.
async fn foreign(hookcache: &Hookcache, keys: &[&str]) -> Vec<Value> {
    for key in keys {
        set(hookcache, "acme", key, "acme's").await;
        until_read_as(hookcache, key, "\"acme's\"").await;
    }
    let mut accepted = Vec::new();
    for key in keys {
        accepted.push(set(hookcache, "globex", key, "globex's").await);
    }
    until_dead(hookcache, keys.len()).await;
    accepted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_listed_shown_and_stored_by_a_redrive_once_its_cause_is_gone() {
    let hookcache = Hookcache::start(&[], &[]).await;
    let owned = json!({"accountId": "acme", "flowId": "orders", "webhookKeys": ["k"], "data": 1, "eventId": "e",
                       "eventTime": before(2)});
    assert_eq!(http_post(&format!("{}/v1/set", hookcache.url()), owned.to_string()).await.status, 202);
    until_read_as(&hookcache, "k", "1").await;
    let accepted = set(&hookcache, "globex", "k", "globex's").await;
    until_dead(&hookcache, 1).await;
    let (id, event) = (accepted["messageId"].as_str().unwrap(), accepted["id"].as_str().unwrap());

    let (code, listed, _) = cli(&hookcache, &["list"]);
    assert_eq!(code, Some(0));
    for told in ["foreign-key", "globex", "orders", id, event] {
        assert!(listed.contains(told), "{told} in\n{listed}");
    }
    for name in [id, event] {
        let (code, shown, _) = cli(&hookcache, &["show", name]);
        assert!(code == Some(0) && shown.contains("globex's") && shown.contains("foreign-key"), "{shown}");
        let (_, body, _) = cli(&hookcache, &["show", name, "--body"]);
        assert!(body.ends_with(&format!("\"set\":{}}}", set_body("globex", "k", "globex's"))), "{body}");
    }

    // The cause is still there: it is dead again, with the same reason.
    assert_eq!(cli(&hookcache, &["redrive", event]).1, "redriven: 1\n");
    let again = until_dead(&hookcache, 1).await.remove(0);
    assert_eq!((again["reason"].as_str(), again["id"].as_str()), (Some("foreign-key"), Some(event)), "{again}");
    assert_ne!(again["messageId"], *id, "it was a new message");

    // Once the owner's entry is gone, the letter can be stored. A delete of now would be newer than the letter, and win.
    let delete = json!({"accountId": "acme", "webhookKeys": ["k"], "eventId": "gone", "eventTime": before(1)});
    assert_eq!(http_post(&format!("{}/v1/delete", hookcache.url()), delete.to_string()).await.status, 202);
    let url = format!("{}/v1/keys/k", hookcache.url());
    eventually("k is deleted", || async { (http_get(&url).await.status == 404).then_some(()) }).await;
    assert_eq!(cli(&hookcache, &["redrive", "--reason", "foreign-key", "--account", "globex"]).1, "redriven: 1\n");
    until_read_as(&hookcache, "k", "\"globex's\"").await;
    until_dead(&hookcache, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_narrowed_by_reason_account_flow_and_age_and_comes_in_pages() {
    let hookcache = Hookcache::start(&[], &[]).await;
    foreign(&hookcache, &["a", "b", "c", "d", "e"]).await;
    for (query, count) in [
        ("", 5),
        ("?reason=foreign-key", 5),
        ("?reason=too-old", 0),
        ("?accountId=globex&flowId=orders", 5),
        ("?accountId=acme", 0),
        ("?flowId=other", 0),
        ("?newerThanSeconds=3600", 5),
        ("?olderThanSeconds=3600", 0),
        ("?limit=2", 2),
        ("?scanLimit=3", 3),
    ] {
        let listed = list(&hookcache, query).await;
        assert_eq!(listed["letters"].as_array().map(Vec::len), Some(count), "{query}: {listed}");
        let complete = !query.contains("imit");
        assert_eq!((listed["complete"].as_bool(), listed["total"].as_u64()), (Some(complete), Some(5)), "{query}");
    }
    let (mut pages, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = list(&hookcache, &query).await;
        let letters = page["letters"].as_array().unwrap().clone();
        pages.push(letters.len());
        assert!(letters.iter().all(|letter| letter.get("body").is_none()), "{page}");
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=2&after={next}");
    }
    assert_eq!(pages, [2, 2, 1]);
    let (_, listed, told) = cli(&hookcache, &["list", "--limit", "4"]);
    assert_eq!((listed.lines().count(), told.contains("complete: false")), (5, true), "{listed}{told}");
    assert!(cli(&hookcache, &["list", "--reason", "too-old"]).1.contains("no dead letters"));

    let admin = hookcache.admin_url();
    for query in ["reason=odd", "accountId=a%20b", "limit=0", "limit=1001", "scanLimit=0", "x=1", "olderThanSeconds=-1"]
    {
        is_problem(&http_get(&format!("{admin}/v1/dead-letters?{query}")).await, 400, "invalid-request");
    }
    is_problem(&http_get(&format!("{admin}/v1/dead-letters/none")).await, 404, "no-such-dead-letter");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_chosen_by_id_by_filter_or_as_all_written_out() {
    let hookcache = Hookcache::start(&[], &[]).await;
    let accepted = foreign(&hookcache, &["a", "b", "c"]).await;
    let id = accepted[0]["messageId"].as_str().unwrap();
    for selection in [json!({}), json!({"all": false}), json!({"all": true, "reason": "foreign-key"}), json!({"x": 1})]
    {
        is_problem(&post(&hookcache, "drop", selection).await, 400, "invalid-request");
    }
    let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    is_problem(&post(&hookcache, "redrive", json!({"ids": many})).await, 400, "invalid-request");
    is_problem(
        &http_send(Method::PUT, &format!("{}/v1/dead-letters", hookcache.admin_url()), &[], "").await,
        405,
        "method-not-allowed",
    );
    assert_eq!(cli(&hookcache, &["drop"]).0, Some(1), "nothing narrows it, and --all is not written out");
    assert_eq!(until_dead(&hookcache, 3).await.len(), 3);

    assert_eq!(done(&post(&hookcache, "drop", json!({"reason": "too-old"})).await), 0);
    let reply = post(&hookcache, "drop", json!({"ids": [id, "999999", "no-such"]})).await;
    assert_eq!((done(&reply), &reply.json()["missing"]), (json!(1), &json!(["999999", "no-such"])));
    let (code, _, told) = cli(&hookcache, &["drop", id]);
    assert!(code == Some(1) && told.contains(id), "it is gone: {told}");
    until_dead(&hookcache, 2).await;
    assert_eq!(cli(&hookcache, &["drop", "--all"]).1, "dropped: 2\n");
    until_dead(&hookcache, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqs_a_walk_says_what_it_left_out_and_garbage_can_be_looked_at_and_dropped() {
    let stack = Stack::start().await;
    let (consume, admin) =
        tokio::join!(stack.hookcache("", &["--roles", "set,consume"]), stack.hookcache("", &["--roles", "get,admin"]));
    let at = 1_000_000_000_000_u64;
    let old = format!(r#"{{"v":1,"id":"old","at":{at},"by":"anonymous","set":{}}}"#, set_body("acme", "k", "late"));
    let garbage = "no wire form, \u{1F980} \"at\" all";
    stack.put(&old).await;
    stack.put(garbage).await;
    let letters = until_dead(&admin, 2).await;
    let of = |reason: &str| letters.iter().find(|letter| letter["reason"] == reason).expect(reason).clone();
    let (too_old, broken) = (of("too-old"), of("not-decodable"));
    assert_eq!((&too_old["accountId"], &too_old["id"]), (&json!("acme"), &json!("old")));
    assert_eq!((broken.get("accountId"), broken.get("id")), (None, None));

    let part = list(&admin, "?scanLimit=1").await;
    assert_eq!((&part["complete"], part.get("next"), &part["scanned"]), (&json!(false), None, &json!(1)), "{part}");
    let (code, _, told) = cli(&admin, &["list", "--scan-limit", "1"]);
    assert!(code == Some(0) && told.contains("complete: false"), "{told}");

    let shown = cli(&admin, &["show", broken["messageId"].as_str().unwrap(), "--body"]);
    assert_eq!(shown.1, garbage);
    // The name that it had in the queue is known, too: the one that a set is answered with.
    let former = broken["formerMessageId"].as_str().expect("it was another message");
    assert_eq!(cli(&admin, &["show", former, "--body"]).1, garbage);

    assert_eq!(cli(&admin, &["redrive", "old"]).1, "redriven: 1\n");
    let again = eventually("it is too old again", || async {
        let letters = until_dead(&admin, 2).await;
        let again = letters.into_iter().find(|letter| letter["reason"] == "too-old")?;
        (again["messageId"] != too_old["messageId"]).then_some(again)
    })
    .await;
    assert_eq!(cli(&admin, &["show", again["messageId"].as_str().unwrap(), "--body"]).1, old);

    assert_eq!(cli(&admin, &["drop", "--reason", "not-decodable"]).1, "dropped: 1\n");
    assert_eq!(cli(&admin, &["drop", "--account", "acme"]).1, "dropped: 1\n");
    until_dead(&admin, 0).await;
    assert_eq!(http_get(&format!("{}/v1/keys/k", admin.url())).await.status, 404, "what was too old was never stored");
    drop(consume);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_queue_is_told_and_is_no_empty_list() {
    let stack = Stack::start().await;
    let hookcache = stack.hookcache("", &["--roles", "get,admin"]).await;
    let Stack { sqs, .. } = stack;
    drop(sqs);
    let admin = hookcache.admin_url();
    is_problem(&http_get(&format!("{admin}/v1/dead-letters")).await, 503, "buffer-unavailable");
    is_problem(&http_get(&format!("{admin}/v1/dead-letters/1")).await, 503, "buffer-unavailable");
    is_problem(&post(&hookcache, "drop", json!({"all": true})).await, 503, "buffer-unavailable");
}
