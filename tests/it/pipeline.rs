//! The whole road, as its users see it: the real program, embedded and over real Redis and SQS.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::hookcache::run;
use crate::support::sqs::client;
use crate::support::sqs_stand_in::Answer;
use crate::support::{
    Hookcache, LocalAwsSqs, Queues, Redis, Reply, SqsStandIn, eventually, http_delete, http_get, http_post,
};

/// Events that arrive while Redis is down; the long run takes as many as an operator would worry about.
const OUTAGE_EVENTS: usize = 2_000;
const OUTAGE_EVENTS_LONG: usize = 10_000;
const SETS_PER_REQUEST: usize = 100;

fn set_body(key: &str, data: serde_json::Value) -> String {
    json!({"accountId": "acme", "flowId": "orders", "webhookKeys": [key], "data": data}).to_string()
}

/// Older than what a test sets, and not expired yet.
fn hour_ago() -> SystemTime {
    SystemTime::now() - Duration::from_secs(60 * 60)
}

async fn until_read(base: &str, key: &str) -> Reply {
    let url = format!("{base}/v1/keys/{key}");
    eventually(&format!("{key} is readable"), || async { Some(http_get(&url).await).filter(|r| r.status == 200) }).await
}

async fn until_read_as(base: &str, key: &str, payload: &str) -> Reply {
    let url = format!("{base}/v1/keys/{key}");
    eventually(&format!("{key} is {payload}"), || async {
        Some(http_get(&url).await).filter(|reply| reply.text() == payload)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_is_accepted_and_read_back_byte_for_byte_under_every_key() {
    let hookcache = Hookcache::start(&[], &[]).await;
    let payload = r#"{"b" : 1.0, "a": [1e400, "\ud800 \u00e9"],  "a":null}"#;
    let body = format!(
        r#"{{"accountId":"acme","flowId":"orders","webhookKeys":["one","path/to/page 2"],"data":{payload},"ttlSeconds":60}}"#
    );
    let accepted = http_post(&format!("{}/v1/set", hookcache.url()), body).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    for key in ["one", "path/to/page%202", "path%2Fto%2Fpage%202"] {
        let reply = until_read(&hookcache.url(), key).await;
        assert_eq!(reply.text(), payload);
        assert_eq!(reply.header("hookcache-id"), accepted.json()["id"]);
        assert_eq!(reply.header("hookcache-account-id"), "acme");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_there_after_kill_nine() {
    let mut hookcache = Hookcache::start(&[], &[]).await;
    for n in 0..50 {
        let accepted = http_post(&format!("{}/v1/set", hookcache.url()), set_body(&format!("k{n}"), json!(n))).await;
        assert_eq!(accepted.status, 202);
    }
    hookcache.kill9();
    hookcache.start_again().await;
    for n in 0..50 {
        until_read_as(&hookcache.url(), &format!("k{n}"), &n.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_old_event_leaves_the_newer_one_and_its_expiry() {
    let hookcache = Hookcache::start(&[], &[]).await;
    let set_url = format!("{}/v1/set", hookcache.url());
    let start = hour_ago();
    let event = |id: &str, minute: u64, data: &str| {
        let time = humantime::format_rfc3339_millis(start + Duration::from_secs(60 * minute));
        json!({"accountId": "acme", "flowId": "orders", "webhookKeys": ["order:1"], "data": data,
               "eventId": id, "eventTime": time.to_string()})
        .to_string()
    };
    let order = [("a", 1, "A"), ("b", 2, "B")];
    for (id, minute, data) in order {
        assert_eq!(http_post(&set_url, event(id, minute, data)).await.status, 202);
    }
    let before = until_read_as(&hookcache.url(), "order:1", "\"B\"").await;
    for _ in 0..3 {
        assert_eq!(http_post(&set_url, event("a", 1, "A")).await.status, 202);
    }
    // A marker behind them, on the same road: once it is read and the buffer is empty, they have had their turn.
    assert_eq!(http_post(&set_url, set_body("marker", json!(1))).await.status, 202);
    until_read(&hookcache.url(), "marker").await;
    until_drained(&hookcache.admin_url()).await;
    let after = http_get(&format!("{}/v1/keys/order:1", hookcache.url())).await;
    assert_eq!(after.text(), "\"B\"");
    for name in ["etag", "hookcache-expires-at", "hookcache-id"] {
        assert_eq!(after.header(name), before.header(name), "{name}");
        assert!(!after.header(name).is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_travels_the_same_road_and_keeps_older_events_out() {
    let hookcache = Hookcache::start(&[], &[]).await;
    let (set_url, key_url) = (format!("{}/v1/set", hookcache.url()), format!("{}/v1/keys/k", hookcache.url()));
    assert_eq!(http_post(&set_url, set_body("k", json!("first"))).await.status, 202);
    until_read(&hookcache.url(), "k").await;
    assert_eq!(http_delete(&format!("{key_url}?accountId=acme")).await.status, 202);
    eventually("k is gone", || async { (http_get(&key_url).await.status == 404).then_some(()) }).await;
    let late = json!({"accountId": "acme", "flowId": "orders", "webhookKeys": ["k"], "data": "late",
                      "eventId": "late", "eventTime": humantime::format_rfc3339_millis(hour_ago()).to_string()});
    assert_eq!(http_post(&set_url, late.to_string()).await.status, 202);
    assert_eq!(http_post(&set_url, set_body("marker", json!(1))).await.status, 202);
    until_read(&hookcache.url(), "marker").await;
    until_drained(&hookcache.admin_url()).await;
    assert_eq!(http_get(&key_url).await.status, 404);
}

async fn until_drained(admin: &str) {
    let url = format!("{admin}/metrics");
    let waiting = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number")
    };
    eventually("the buffer is empty", || async {
        let text = http_get(&url).await.text();
        let names = ["hookcache_buffer_messages{state=\"visible\"}", "hookcache_buffer_messages{state=\"in_flight\"}"];
        names.iter().all(|name| waiting(&text, name) == 0.0).then_some(())
    })
    .await;
}

struct Roles {
    redis: Redis,
    sqs: LocalAwsSqs,
    queues: Queues,
}

impl Roles {
    async fn start() -> Self {
        let (redis, sqs) = tokio::join!(Redis::start(), LocalAwsSqs::start());
        let queues = sqs.queues("webhooks").await;
        Self { redis, sqs, queues }
    }

    async fn role(&self, roles: &str) -> Hookcache {
        let (redis, endpoint) = (self.redis.url(), self.sqs.endpoint_url());
        let env = [
            ("HOOKCACHE_STORE__URL", redis.as_str()),
            ("HOOKCACHE_BUFFER__QUEUE_URL", &self.queues.queue_url),
            ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", &self.queues.dead_letter_url),
            ("HOOKCACHE_BUFFER__ENDPOINT_URL", &endpoint),
        ];
        Hookcache::start(&["--roles", roles], &env).await
    }

    async fn dead_letters(&self) -> String {
        let client = client(&self.sqs.endpoint_url());
        let all = aws_sdk_sqs::types::QueueAttributeName::All;
        let answer = client.get_queue_attributes().queue_url(&self.queues.dead_letter_url).attribute_names(all);
        let attributes = answer.send().await.expect("the queue's attributes").attributes.expect("attributes");
        attributes[&aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessages].clone()
    }
}

async fn an_outage_of_redis_loses_nothing(events: usize) {
    let mut roles = Roles::start().await;
    let (set, mut consume, get) = (roles.role("set").await, roles.role("consume").await, roles.role("get").await);
    assert_eq!(http_post(&format!("{}/v1/set", set.url()), set_body("first", json!(0))).await.status, 202);
    until_read(&get.url(), "first").await;

    roles.redis.stop();
    let url = format!("{}/v1/set", set.url());
    for from in (0..events).step_by(SETS_PER_REQUEST) {
        let one = |n: usize| set_body(&format!("event:{n}"), json!({"n": n}));
        let body = (from..from + SETS_PER_REQUEST).map(one).collect::<Vec<_>>().join(",");
        let reply = http_post(&url, format!("[{body}]")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let statuses = reply.json();
        assert!(statuses.as_array().expect("an array").iter().all(|one| one["status"] == 202), "{statuses}");
    }
    // What is remembered is served until the end of the connection is noticed.
    let url = format!("{}/v1/keys/first", get.url());
    let down =
        eventually("no answer", || async { Some(http_get(&url).await).filter(|reply| reply.status != 200) }).await;
    assert_eq!(down.status, 503, "a store that is down is not a miss: {}", down.text());
    assert!(!down.header("retry-after").is_empty());

    roles.redis.start_again().await;
    for n in 0..events {
        until_read_as(&get.url(), &format!("event:{n}"), &format!("{{\"n\":{n}}}")).await;
    }
    assert_eq!(roles.dead_letters().await, "0");
    assert!(consume.sigterm().await.success(), "{:#?}", consume.captured());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_roles_over_redis_and_sqs_survive_an_outage_of_redis() {
    an_outage_of_redis_loses_nothing(OUTAGE_EVENTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_ten_thousand_events_during_an_outage_of_redis_are_all_readable() {
    an_outage_of_redis_loses_nothing(OUTAGE_EVENTS_LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_sets_gets_and_deletes() {
    let hookcache = Hookcache::start(&[], &[]).await;
    let url = hookcache.url();
    let env = [("HOOKCACHE_URL", url.as_str())];
    let set = run(&["set", "--account", "acme", "--flow", "orders", "--key", "cli", "--data", "{\"n\": 1.0}"], &env);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    until_read(&url, "cli").await;
    let get = run(&["get", "cli"], &env);
    assert_eq!(String::from_utf8_lossy(&get.stdout).trim_end(), "{\"n\": 1.0}");
    let meta = run(&["get", "cli", "--meta"], &env);
    assert!(String::from_utf8_lossy(&meta.stderr).contains("acme"), "{meta:?}");
    let delete = run(&["delete", "--account", "acme", "cli"], &env);
    assert!(delete.status.success(), "{}", String::from_utf8_lossy(&delete.stderr));
    eventually("cli is gone", || async { (!run(&["get", "cli"], &env).status.success()).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_queue_does_not_answer_is_not_ready_and_says_so() {
    let (redis, is_up) = (Redis::start().await, Arc::new(AtomicBool::new(true)));
    let answers = Arc::clone(&is_up);
    let queue = SqsStandIn::start(move |operation, _| match operation {
        _ if !answers.load(Ordering::Relaxed) => Answer::Error(500, "InternalError"),
        "GetQueueAttributes" => Answer::Json(json!({ "Attributes": {} })),
        _ => Answer::Json(json!({ "Messages": [] })),
    })
    .await;
    let env = [
        ("HOOKCACHE_STORE__URL", redis.url()),
        ("HOOKCACHE_BUFFER__QUEUE_URL", queue.queue_url("orders")),
        ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", queue.queue_url("orders-dead")),
        ("HOOKCACHE_BUFFER__ENDPOINT_URL", queue.endpoint_url()),
    ];
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let hookcache = Hookcache::start(&["--roles", "consume"], &env).await;
    is_up.store(false, Ordering::Relaxed);
    let url = format!("{}/readyz", hookcache.admin_url());
    let reply =
        eventually("not ready", || async { Some(http_get(&url).await).filter(|reply| reply.status == 503) }).await;
    assert!(reply.text().contains("consume: the buffer is unavailable"), "{}", reply.text());
}
