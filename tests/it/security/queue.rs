//! The queue is not trusted: what was put into it by hand is judged again, message by message.

use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use serde_json::{Value, json};

use super::{call, set_of, token};
use crate::support::stack::{Letter, Stack, series};
use crate::support::{Hookcache, eventually, http_get, http_post};

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// A wire form as the set API makes it.
fn wire(id: &str, by: &str, set: &str) -> String {
    format!(r#"{{"v":1,"id":"{id}","at":{},"by":"{by}","set":{set}}}"#, now_ms())
}

async fn until_read(hookcache: &Hookcache, token: &str, key: &str) -> String {
    let url = format!("{}/v1/keys/{key}", hookcache.url());
    eventually(&format!("{key} is readable"), || async {
        Some(call(Method::GET, &url, token, "").await).filter(|reply| reply.status == 200)
    })
    .await
    .text()
}

fn letter_of<'a>(letters: &'a [Letter], body: &str) -> &'a Letter {
    letters.iter().find(|letter| letter.body == body).unwrap_or_else(|| panic!("no dead letter is {body}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_judges_again_who_may_set_what() {
    let stack = Stack::start().await;
    let ((op, first), (_, second)) = (token("op", "set,get,admin", None), token("acme", "set", Some("acme")));
    let (_, third) = token("retired", "set", Some("acme"));
    let reserved = "[keys.reserved]\n\"vip/\" = \"account:vip\"\n";
    let toml = format!("{first}{second}{third}enabled = false\n{reserved}");
    let hookcache = stack.hookcache(&toml, &[]).await;
    let bad = [
        wire("1", "acme", &set_of("globex", &["stolen"], "x")),
        wire("2", "stranger", &set_of("acme", &["stolen"], "x")),
        wire("3", "anonymous", &set_of("acme", &["stolen"], "x")),
        wire("4", "acme", &set_of("acme", &["vip/stolen", "also"], "x")),
    ];
    for body in &bad {
        stack.put(body).await;
    }
    stack.put(&wire("5", "acme", &set_of("acme", &["good"], "by acme"))).await;
    stack.put(&wire("6", "retired", &set_of("acme", &["late"], "by a disabled token"))).await;
    stack.put(&wire("7", "op", &set_of("vip", &["vip/good"], "by its owner"))).await;

    assert_eq!(until_read(&hookcache, &op, "good").await, "\"by acme\"");
    assert_eq!(until_read(&hookcache, &op, "late").await, "\"by a disabled token\"");
    assert_eq!(until_read(&hookcache, &op, "vip/good").await, "\"by its owner\"");
    let letters = stack.take_dead(bad.len()).await;
    for (body, named) in bad.iter().zip([
        ["acme", "globex"],
        ["stranger", "acme"],
        ["anonymous", "acme"],
        ["keys.reserved", "\"vip/stolen\""],
    ]) {
        let letter = letter_of(&letters, body);
        assert_eq!(letter.reason(), "forbidden-account", "{body}");
        assert!(named.iter().all(|name| letter.detail().contains(name)), "{}", letter.detail());
    }
    for key in ["stolen", "vip/stolen", "also"] {
        let url = format!("{}/v1/keys/{key}", hookcache.url());
        assert_eq!(call(Method::GET, &url, &op, "").await.status, 404, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_anothers_key_is_a_dead_letter_that_names_it_while_its_other_keys_are_written() {
    let stack = Stack::start().await;
    let hookcache = stack.hookcache("", &[]).await;
    let url = format!("{}/v1/set", hookcache.url());
    assert_eq!(http_post(&url, set_of("owner", &["owned"], "first")).await.status, 202);
    until_read(&hookcache, "", "owned").await;
    let id = http_post(&url, set_of("other", &["one", "owned", "two"], "second")).await.json()["id"].clone();
    let letters = stack.take_dead(1).await;
    assert_eq!(letters[0].reason(), "foreign-key");
    assert!(letters[0].detail().contains("\"owned\"") && !letters[0].detail().contains("\"one\""), "{letters:?}");
    let body: Value = serde_json::from_str(&letters[0].body).expect("the wire form");
    assert_eq!(body["id"], id);
    assert!(!letters[0].attributes["message-id"].is_empty());
    for (key, payload) in [("one", "\"second\""), ("two", "\"second\""), ("owned", "\"first\"")] {
        assert_eq!(until_read(&hookcache, "", key).await, payload);
    }
}

/// Each with the reason and a part of the detail that its dead letter must have.
fn bad_messages() -> Vec<(String, &'static str, &'static str)> {
    let at = now_ms();
    let day = 24 * 60 * 60 * 1_000;
    let head = |v: &str, id: &str, at: &str| format!(r#"{{"v":{v},"id":{id},"at":{at},"by":"anonymous","#);
    let good = head("1", "\"b\"", &at.to_string());
    let set = r#""set":{"accountId":"a","flowId":"f","webhookKeys":["bad"],"data":"s3cr3t"}"#;
    let with = |member: &str| format!("{good}{}}}", set.replace(r#""data""#, &format!("{member},\"data\"")));
    let without = |member: &str| format!("{good}{set}}}").replace(member, "");
    let nested = format!("{}{}", "[".repeat(101), "]".repeat(101));
    let deep = "[".repeat(10_000);
    vec![
        ("s3cr3t garbage".to_owned(), "not-decodable", "line 1, column 1"),
        ("{}".to_owned(), "not-decodable", "not a wire form"),
        ("[]".to_owned(), "not-decodable", "not a wire form"),
        ("null".to_owned(), "not-decodable", "not a wire form"),
        (deep, "not-decodable", "not a wire form"),
        (format!("{}{set}}}", head("2", "\"b\"", &at.to_string())), "not-decodable", "wire form version 2"),
        (without("\"v\":1,"), "not-decodable", "not a wire form"),
        (without("\"id\":\"b\","), "not-decodable", "not a wire form"),
        (without("\"by\":\"anonymous\","), "not-decodable", "not a wire form"),
        (without(&format!("\"at\":{at},")), "not-decodable", "not a wire form"),
        (format!("{}}}", good.trim_end_matches(',')), "not-decodable", "exactly one of set and delete"),
        (
            format!(r#"{good}{set},"delete":{{"accountId":"a","webhookKeys":["bad"]}}}}"#),
            "not-decodable",
            "exactly one of set and delete",
        ),
        (format!("{good}\"at\":{at},{set}}}"), "not-decodable", "not a wire form"),
        (format!("{good}\"extra\":1,{set}}}"), "not-decodable", "not a wire form"),
        (format!("{good}{set},\"at\":0,\"id\":\"forged\"}}"), "not-decodable", "not a wire form"),
        (format!("{}{set}}}", head("1", "\"b\"", "-1")), "not-decodable", "not a wire form"),
        (format!("{}{set}}}", head("1", "\"b\"", "\"0\"")), "not-decodable", "not a wire form"),
        (format!("{}{set}}}", head("1", "\"\"", &at.to_string())), "not-valid", "/id"),
        (format!("{}{set}}}", head("1", "\"b\"", &(at - 16 * day).to_string())), "too-old", "15 days"),
        (format!("{}{set}}}", head("1", "\"b\"", "0")), "too-old", "15 days"),
        (format!("{}{set}}}", head("1", "\"b\"", &(at * 1_000).to_string())), "not-valid", "/at"),
        (format!("{}{set}}}", head("1", "\"b\"", &u64::MAX.to_string())), "not-valid", "/at"),
        (format!("{good}\"order\":9,{set}}}"), "not-valid", "/order"),
        (without("\"webhookKeys\":[\"bad\"],"), "not-valid", "the request"),
        (without("\"bad\""), "not-valid", "/webhookKeys"),
        (
            format!("{good}{set}}}").replace("\"accountId\":\"a\"", "\"accountId\":\"s3cr3t!\""),
            "not-valid",
            "/accountId",
        ),
        (format!("{good}{set}}}").replace("\"s3cr3t\"", &nested), "not-valid", "/data"),
        (with(r#""ttlSeconds":0"#), "not-valid", "/ttlSeconds"),
        (with(r#""eventId":"e""#), "not-valid", "/eventTime"),
        (with(r#""eventId":"e","eventTime":"2999-01-01T00:00:00Z""#), "not-valid", "/eventTime"),
        (with(r#""extra":1"#), "not-valid", "the request"),
        (with(r#""webhookKeys":["bad"]"#), "not-valid", "the request"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_message_is_a_dead_letter_with_its_reason_and_the_good_ones_among_them_are_stored() {
    let stack = Stack::start().await;
    let hookcache = stack.hookcache("", &[]).await;
    let bad = bad_messages();
    for (i, (body, ..)) in bad.iter().enumerate() {
        stack.put(body).await;
        stack.put(&wire(&format!("good-{i}"), "anonymous", &set_of("a", &[&format!("good-{i}")], "fine"))).await;
    }
    for i in 0..bad.len() {
        assert_eq!(until_read(&hookcache, "", &format!("good-{i}")).await, "\"fine\"");
    }
    let letters = stack.take_dead(bad.len()).await;
    assert_eq!(letters.len(), bad.len());
    for (body, reason, detail) in &bad {
        let letter = letter_of(&letters, body);
        let shown: String = body.chars().take(200).collect();
        assert_eq!(letter.reason(), *reason, "{shown}: {}", letter.detail());
        assert!(letter.detail().contains(detail), "{shown}: {}", letter.detail());
        assert!(!letter.detail().contains("s3cr3t"), "{}", letter.detail());
    }
    assert_eq!(http_get(&format!("{}/v1/keys/bad", hookcache.url())).await.status, 404);
    let page = http_get(&format!("{}/metrics", hookcache.admin_url())).await.text();
    assert_eq!(series(&page, "hookcache_consumer_paused"), Some(0.0));
    assert_eq!(series(&page, r#"hookcache_dead_letters_total{reason="too-old"}"#), Some(2.0));
    // The control plane lives as before.
    assert_eq!(http_get(&format!("{}/v1/ttl", hookcache.admin_url())).await.status, 200);
    assert_eq!(http_get(&format!("{}/readyz", hookcache.admin_url())).await.status, 200);
    assert!(!hookcache.captured().stderr.contains("s3cr3t"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_value_that_we_did_not_write_is_500_and_a_set_leaves_it_alone() {
    let stack = Stack::start().await;
    let hookcache = stack.hookcache("", &[]).await;
    let redis = |args: &[&str]| {
        let port = stack.redis.port().to_string();
        let output = std::process::Command::new("redis-cli").args(["-p", &port]).args(args).output();
        String::from_utf8_lossy(&output.expect("redis-cli is installed").stdout).trim().to_owned()
    };
    redis(&["SET", "hc:v1:k:{}:text", "s3cr3t"]);
    redis(&["RPUSH", "hc:v1:k:{}:list", "s3cr3t"]);
    for key in ["text", "list"] {
        let reply = http_get(&format!("{}/v1/keys/{key}", hookcache.url())).await;
        assert_eq!(super::code(&reply), super::refused(500, "entry-unreadable"), "{key}");
        assert!(!reply.text().contains("s3cr3t"), "{}", reply.text());
    }
    let url = format!("{}/v1/set", hookcache.url());
    let body = json!({"accountId": "a", "flowId": "f", "webhookKeys": ["text", "free", "list"], "data": 1});
    assert_eq!(http_post(&url, body.to_string()).await.status, 202);
    let letters = stack.take_dead(1).await;
    assert_eq!(letters[0].reason(), "unreadable-entry");
    let detail = letters[0].detail();
    assert!(detail.contains("\"text\"") && detail.contains("\"list\"") && !detail.contains("\"free\""), "{detail}");
    assert_eq!(until_read(&hookcache, "", "free").await, "1");
    assert_eq!(redis(&["GET", "hc:v1:k:{}:text"]), "s3cr3t");
    assert_eq!(redis(&["LINDEX", "hc:v1:k:{}:list", "0"]), "s3cr3t");
}
