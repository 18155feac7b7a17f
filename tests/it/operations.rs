//! Running it: readiness with its reason, metrics, logs, traces, and stops that lose nothing.

mod stop;

use std::process::Stdio;

use http::Method;
use serde_json::{Value, json};

use crate::support::client::try_send;
use crate::support::hookcache::PROGRAM;
use crate::support::stack::{Stack, series, until_series};
use crate::support::{Hookcache, Redis, Reply, TempDir, eventually, free_port, http_get, http_post, http_send};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn set_of(key: &str) -> String {
    json!({"accountId": "a", "flowId": "f", "webhookKeys": [key], "data": key}).to_string()
}

async fn until_read(hookcache: &Hookcache, key: &str) -> Reply {
    let url = format!("{}/v1/keys/{key}", hookcache.url());
    eventually(&format!("{key} is readable"), || async { Some(http_get(&url).await).filter(|r| r.status == 200) }).await
}

async fn set(hookcache: &Hookcache, key: &str) -> Value {
    let reply = http_post(&format!("{}/v1/set", hookcache.url()), set_of(key)).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()
}

async fn until_not_ready(hookcache: &Hookcache) -> Vec<String> {
    let url = format!("{}/readyz", hookcache.admin_url());
    let reply = eventually("not ready", || async { Some(http_get(&url).await).filter(|r| r.status == 503) }).await;
    let reasons = reply.json()["reasons"].as_array().cloned().expect("reasons");
    reasons.iter().map(|reason| reason.as_str().expect("a text").to_owned()).collect()
}

async fn until_ready(hookcache: &Hookcache) {
    let url = format!("{}/readyz", hookcache.admin_url());
    eventually("ready", || async { (http_get(&url).await.status == 200).then_some(()) }).await;
}

/// Every line of the log so far, each a JSON object.
fn log_of(hookcache: &Hookcache) -> Vec<Value> {
    let lines = hookcache.captured().stderr;
    // The last one may be half written yet.
    let whole = &lines[..lines.rfind('\n').map_or(0, |end| end + 1)];
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    whole.lines().map(parse).collect()
}

/// The line with that message about that event.
async fn line_of(hookcache: &Hookcache, message: &str, id: &Value) -> Value {
    eventually(&format!("the line {message:?} of {id}"), || async {
        log_of(hookcache).into_iter().find(|line| line["message"] == message && line["id"] == *id)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_redis_makes_get_and_consume_not_ready_pauses_the_consumer_and_all_heals() {
    let mut redis = Redis::start().await;
    let hookcache = Hookcache::start(&[], &[("HOOKCACHE_STORE__URL", &redis.url())]).await;
    set(&hookcache, "before").await;
    until_read(&hookcache, "before").await;
    until_series(&hookcache, "hookcache_consumer_paused", 0.0).await;

    redis.stop();
    // What is remembered is served until the end of the connection is noticed.
    let url = format!("{}/v1/keys/before", hookcache.url());
    let down =
        eventually("no answer", || async { Some(http_get(&url).await).filter(|reply| reply.status != 200) }).await;
    assert_eq!((down.status.as_u16(), &down.json()["code"]), (503, &"store-unavailable".into()));
    assert!(!down.header("retry-after").is_empty());
    set(&hookcache, "meanwhile").await;
    until_series(&hookcache, "hookcache_consumer_paused", 1.0).await;
    let paused = eventually("a pause that is told", || async {
        let reasons = until_not_ready(&hookcache).await;
        reasons.iter().any(|reason| reason.starts_with("consume: paused: ")).then_some(reasons)
    })
    .await;
    assert!(paused.iter().any(|reason| reason.starts_with("get: ")), "{paused:?}");
    assert!(paused.iter().all(|reason| reason.contains("store.url") && !reason.starts_with("set: ")), "{paused:?}");
    // On both listeners, with the same words.
    assert_eq!(http_get(&format!("{}/readyz", hookcache.url())).await.status, 503);
    assert_eq!(http_get(&format!("{}/healthz", hookcache.url())).await.status, 200, "it lives");

    redis.start_again().await;
    until_series(&hookcache, "hookcache_consumer_paused", 0.0).await;
    until_ready(&hookcache).await;
    until_read(&hookcache, "meanwhile").await;
    let page = http_get(&format!("{}/metrics", hookcache.admin_url())).await.text();
    assert!(series(&page, "hookcache_consumer_pauses_total") >= Some(1.0));
    assert!(series(&page, r#"hookcache_store_errors_total{call="read"}"#) >= Some(1.0));
    assert!(series(&page, r#"hookcache_store_errors_total{call="write"}"#) >= Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_page_has_every_family_and_no_account_or_key() {
    let stack = Stack::start().await;
    let hookcache = stack.hookcache("", &[]).await;
    let secret_key = "key-of-a-user";
    set(&hookcache, secret_key).await;
    until_read(&hookcache, secret_key).await;
    stack.put("garbage").await;
    stack.take_dead(1).await;
    assert_eq!(http_get(&format!("{}/no/such/path-of-a-user", hookcache.url())).await.status, 404);
    until_series(&hookcache, r#"hookcache_dead_letters_total{reason="not-decodable"}"#, 1.0).await;
    for base in [hookcache.admin_url(), hookcache.url()] {
        let reply = http_get(&format!("{base}/metrics")).await;
        assert!(reply.header("content-type").starts_with("text/plain"));
        let page = reply.text();
        for (family, kind) in [
            ("hookcache_http_requests_total", "counter"),
            ("hookcache_http_request_seconds", "histogram"),
            ("hookcache_gets_held", "gauge"),
            ("hookcache_set_to_readable_seconds", "histogram"),
            ("hookcache_buffer_messages", "gauge"),
            ("hookcache_buffer_oldest_age_seconds", "gauge"),
            ("hookcache_appends_total", "counter"),
            ("hookcache_consumer_batches_total", "counter"),
            ("hookcache_consumer_outcomes_total", "counter"),
            ("hookcache_consumer_attempts_total", "counter"),
            ("hookcache_dead_letters_total", "counter"),
            ("hookcache_consumer_deletes_failed_total", "counter"),
            ("hookcache_consumer_take_errors_total", "counter"),
            ("hookcache_store_seconds", "histogram"),
            ("hookcache_store_errors_total", "counter"),
            ("hookcache_l1_lookups_total", "counter"),
            ("hookcache_l1_bytes", "gauge"),
            ("hookcache_l1_bytes_max", "gauge"),
            ("hookcache_l1_coherent", "gauge"),
            ("hookcache_ready", "gauge"),
            ("hookcache_consumer_paused", "gauge"),
            ("hookcache_consumer_pauses_total", "counter"),
            ("hookcache_pages_queue_messages", "gauge"),
            ("hookcache_pages_queue_oldest_age_seconds", "gauge"),
            ("hookcache_build_info", "gauge"),
        ] {
            assert!(page.contains(&format!("# TYPE {family} {kind}\n")), "{family} in {page}");
            assert!(page.lines().any(|line| line.starts_with(family)), "{family} has a series: {page}");
        }
        assert!(!page.contains("of-a-user") && !page.contains("accountId"), "{page}");
        let named = |name: &str| series(&page, name).unwrap_or_else(|| panic!("{name} in {page}"));
        let set = r#"hookcache_http_requests_total{method="POST",plane="data",route="set",status="202"}"#;
        assert_eq!(named(set), 1.0);
        assert_eq!(named("hookcache_set_to_readable_seconds_count"), 1.0);
        assert_eq!(named(r#"hookcache_consumer_outcomes_total{outcome="written"}"#), 1.0);
        assert!(named("hookcache_consumer_attempts_total") >= 2.0);
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_any_more_stops_nothing() {
    let folder = TempDir::new().unwrap();
    let (listen, admin) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let mut server = tokio::process::Command::new(PROGRAM)
        .args(["serve", "--listen", &listen, "--admin-listen", &admin, "--data-dir"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    drop(server.stderr.take());
    let ready = format!("http://{admin}/readyz");
    eventually("ready", || async {
        try_send(Method::GET, &ready, &[], "").await.ok().filter(|reply| reply.status == 200)
    })
    .await;
    let reply = http_post(&format!("http://{listen}/v1/set"), set_of("k")).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    eventually("it is stored, and gone from the buffer", || async {
        let page = http_get(&format!("http://{admin}/metrics")).await.text();
        let is_zero =
            |state: &str| series(&page, &format!("hookcache_buffer_messages{{state=\"{state}\"}}")) == Some(0.0);
        let stored = http_get(&format!("http://{listen}/v1/keys/k")).await.status == 200;
        (stored && is_zero("visible") && is_zero("in_flight")).then_some(())
    })
    .await;
}

/// One event from its acceptance to its being stored, and one without a trace.
async fn is_followed(hookcache: &Hookcache) {
    let traceparent = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    let headers = [("content-type", "application/json"), ("traceparent", traceparent.as_str())];
    let url = format!("{}/v1/set", hookcache.url());
    let traced = http_send(Method::POST, &url, &headers, set_of("traced")).await.json()["id"].clone();
    let plain = set(hookcache, "plain").await["id"].clone();
    for message in ["accepted", "stored"] {
        assert_eq!(line_of(hookcache, message, &traced).await["trace_id"], TRACE_ID);
        let line = line_of(hookcache, message, &plain).await;
        assert!(line.get("trace_id").is_none(), "no trace, no field: {line}");
    }
    assert_eq!(until_read(hookcache, "traced").await.header("hookcache-id"), traced);
    for line in log_of(hookcache) {
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "{field} of {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn id_and_trace_follow_an_event_through_the_embedded_buffer() {
    is_followed(&Hookcache::start(&[], &[]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn id_and_trace_follow_an_event_through_sqs_and_into_its_dead_letter() {
    let stack = Stack::start().await;
    let hookcache = stack.hookcache("", &[]).await;
    is_followed(&hookcache).await;
    let traceparent = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    let headers = [("content-type", "application/json"), ("traceparent", traceparent.as_str())];
    let foreign = set_of("traced").replace("\"accountId\":\"a\"", "\"accountId\":\"b\"");
    let url = format!("{}/v1/set", hookcache.url());
    let id = http_send(Method::POST, &url, &headers, foreign).await.json()["id"].clone();
    let letter = &stack.take_dead(1).await[0];
    assert_eq!(letter.attributes["traceparent"], traceparent);
    let line = line_of(&hookcache, "dead-lettered", &id).await;
    assert_eq!((&line["trace_id"], &line["reason"]), (&TRACE_ID.into(), &"foreign-key".into()), "{line}");
}

#[tokio::test]
async fn gets_have_threads_of_their_own_unless_they_are_to_share() {
    let cores = std::thread::available_parallelism().unwrap().get();
    for (threads, own) in [("auto", (cores - 1).max(1)), ("per-core", cores), ("shared", 0)] {
        let hookcache = Hookcache::start(&[], &[("HOOKCACHE_HTTP__THREADS", threads)]).await;
        set(&hookcache, "key").await;
        until_read(&hookcache, "key").await;
        let tasks = std::fs::read_dir(format!("/proc/{}/task", hookcache.pid())).unwrap();
        let named = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let of_gets = tasks.map(|task| named(task.unwrap())).filter(|name| name.starts_with("http-"));
        assert_eq!(of_gets.count(), own, "{threads}");
    }
}
