//! The control plane of the real program: TTL rules, seen, set, removed, explained; who may, and what is refused.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Hookcache, Redis, Reply, TempDir, eventually, http_delete, http_get, http_post, http_send};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn put(url: &str, body: &str) -> Reply {
    http_send(Method::PUT, url, &[JSON], body.to_owned()).await
}

fn is_problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_eq!(reply.header("content-type"), "application/problem+json", "{}", reply.text());
    assert_eq!(reply.json()["code"], code, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_narrowest_rule_wins_and_explain_says_why() {
    let hookcache = Hookcache::start(&[], &[]).await;
    let admin = hookcache.admin_url();
    let explain = async || -> Value {
        http_get(&format!("{admin}/v1/ttl/explain?accountId=acme&flowId=orders&ttlSeconds=7")).await.json()
    };
    let default = http_get(&format!("{admin}/v1/ttl/explain?accountId=acme&flowId=orders")).await.json();
    assert_eq!((&default["ttlSeconds"], &default["winner"]["origin"]), (&json!(604_800), &json!("default")));

    for (path, seconds) in [("flows/orders", 30), ("accounts/acme", 20), ("accounts/acme/flows/orders", 10)] {
        let set = put(&format!("{admin}/v1/ttl/{path}"), &json!({"ttlSeconds": seconds}).to_string()).await;
        assert_eq!(set.status, 200, "{}", set.text());
        let now = http_get(&format!("{admin}/v1/ttl/explain?accountId=acme&flowId=orders")).await.json();
        assert_eq!(now["ttlSeconds"], json!(seconds), "{now}");
    }
    let asked = explain().await;
    assert_eq!((&asked["ttlSeconds"], &asked["winner"]["origin"]), (&json!(7), &json!("request")));
    assert_eq!(asked["candidates"].as_array().map(Vec::len), Some(5), "{asked}");

    let listed = http_get(&format!("{admin}/v1/ttl")).await.json();
    assert_eq!(listed["rules"].as_array().map(Vec::len), Some(3), "{listed}");
    let rule = format!("{admin}/v1/ttl/accounts/acme/flows/orders");
    assert_eq!(http_delete(&rule).await.json(), json!({"removed": true}));
    assert_eq!(http_delete(&rule).await.json(), json!({"removed": false}));
    let now = http_get(&format!("{admin}/v1/ttl/explain?accountId=acme&flowId=orders")).await.json();
    assert_eq!(now["ttlSeconds"], json!(20), "{now}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_rule_holds_for_what_is_stored_from_then_on_and_outlives_a_restart() {
    let mut hookcache = Hookcache::start(&[], &[]).await;
    let rule = format!("{}/v1/ttl/accounts/acme", hookcache.admin_url());
    assert_eq!(put(&rule, r#"{"ttlSeconds": 1000}"#).await.status, 200);
    hookcache.kill9();
    hookcache.start_again().await;
    let body = json!({"accountId": "acme", "flowId": "orders", "webhookKeys": ["k"], "data": 1,
                      "eventId": "e", "eventTime": "2026-01-01T00:00:00Z"});
    // Its event time and the rule make it expired on arrival: it is accepted, and never readable.
    assert_eq!(http_post(&format!("{}/v1/set", hookcache.url()), body.to_string()).await.status, 202);
    let body = json!({"accountId": "acme", "flowId": "orders", "webhookKeys": ["l"], "data": 1});
    assert_eq!(http_post(&format!("{}/v1/set", hookcache.url()), body.to_string()).await.status, 202);
    let url = format!("{}/v1/keys/l", hookcache.url());
    let reply = eventually("l is readable", || async { Some(http_get(&url).await).filter(|r| r.status == 200) }).await;
    let left = httpdate::parse_http_date(reply.header("last-modified")).expect("a date")
        + std::time::Duration::from_secs(1_000);
    let expires = reply.header("hookcache-expires-at");
    let left = httpdate::fmt_http_date(left);
    // "Sun, 22 Nov 2026 06:20:55 GMT" and "2026-11-22T06:20:55.197Z" name the same second.
    assert!(expires.contains(&left[17..25]), "{expires} {left}");
    assert_eq!(http_get(&format!("{}/v1/keys/k", hookcache.url())).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_rule_is_refused_with_a_problem() {
    let hookcache = Hookcache::start(&[], &[]).await;
    let admin = hookcache.admin_url();
    let rule = format!("{admin}/v1/ttl/accounts/acme");
    for body in [
        r#"{"never": true}"#,
        r#"{"ttlSeconds": 0}"#,
        r#"{"ttlSeconds": -1}"#,
        r#"{"ttlSeconds": 1.5}"#,
        r#"{"ttlSeconds": 1e30}"#,
        r#"{"ttlSeconds": "60"}"#,
        r#"{"ttlSeconds": 60, "never": true}"#,
        r#"{"ttlSeconds": 60, "extra": 1}"#,
        "{}",
        "[]",
    ] {
        is_problem(&put(&rule, body).await, 400, "invalid-request");
    }
    is_problem(&put(&rule, "{").await, 400, "malformed-json");
    is_problem(&put(&rule, &" ".repeat(10_000)).await, 413, "body-too-large");
    is_problem(&http_send(Method::PUT, &rule, &[], r#"{"ttlSeconds": 60}"#).await, 415, "unsupported-media-type");
    is_problem(&put(&format!("{admin}/v1/ttl/accounts/a%20b"), r#"{"ttlSeconds": 60}"#).await, 400, "invalid-request");
    is_problem(&http_get(&format!("{admin}/v1/ttl/explain?accountId=acme")).await, 400, "invalid-request");
    is_problem(&http_get(&format!("{admin}/v1/nothing")).await, 404, "no-such-route");
    let wrong = http_post(&rule, r#"{"ttlSeconds": 60}"#).await;
    is_problem(&wrong, 405, "method-not-allowed");
    assert!(wrong.header("allow").contains("PUT"), "{:?}", wrong.headers);
    assert_eq!(http_get(&format!("{admin}/v1/ttl")).await.json()["rules"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn never_stands_where_it_is_allowed_and_nowhere_else() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hookcache.toml");
    std::fs::write(&file, "[ttl]\nallow_never = [\"*/page-links\"]\n").unwrap();
    let hookcache = Hookcache::start(&["--config", file.to_str().unwrap()], &[]).await;
    let admin = hookcache.admin_url();
    assert_eq!(put(&format!("{admin}/v1/ttl/flows/page-links"), r#"{"never": true}"#).await.status, 200);
    is_problem(&put(&format!("{admin}/v1/ttl/flows/orders"), r#"{"never": true}"#).await, 400, "invalid-request");
    let body = json!({"accountId": "acme", "flowId": "page-links", "webhookKeys": ["k"], "data": 1,
                      "eventId": "e", "eventTime": "2001-01-01T00:00:00Z"});
    assert_eq!(http_post(&format!("{}/v1/set", hookcache.url()), body.to_string()).await.status, 202);
    let url = format!("{}/v1/keys/k", hookcache.url());
    let reply = eventually("k is readable", || async { Some(http_get(&url).await).filter(|r| r.status == 200) }).await;
    assert_eq!(reply.header("hookcache-expires-at"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_told_and_changes_nothing() {
    let mut redis = Redis::start().await;
    let hookcache = Hookcache::start(&[], &[("HOOKCACHE_STORE__URL", &redis.url())]).await;
    let rule = format!("{}/v1/ttl/accounts/acme", hookcache.admin_url());
    redis.stop();
    let down = put(&rule, r#"{"ttlSeconds": 60}"#).await;
    is_problem(&down, 503, "store-unavailable");
    assert!(!down.header("retry-after").is_empty());
    redis.start_again().await;
    eventually("the rule is set", || async { (put(&rule, r#"{"ttlSeconds": 60}"#).await.status == 200).then_some(()) })
        .await;
}
