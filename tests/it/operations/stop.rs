//! SIGTERM: under load, with Redis down, with idle connections, with an append under way. Nothing accepted is lost.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{log_of, set, set_of, until_read};
use crate::support::client::try_send;
use crate::support::sqs_stand_in::{Answer, all_successful};
use crate::support::stack::dead_lettered;
use crate::support::{Hookcache, Redis, SqsStandIn, TempDir, eventually, http_get};

const CLIENTS: usize = 8;
const ACCEPTED_BEFORE: usize = 200;

/// Sets one key after the other until nobody answers any more, and notes each that was accepted.
async fn set_until_cut(base: String, client: usize, accepted: Arc<Mutex<HashSet<String>>>) {
    let url = format!("{base}/v1/set");
    for n in 0.. {
        let key = format!("{client}-{n}");
        let sent = try_send(Method::POST, &url, &[("content-type", "application/json")], set_of(&key)).await;
        let Ok(reply) = sent else { return };
        assert_eq!(reply.status, 202, "{}", reply.text());
        accepted.lock().unwrap().insert(key);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_ends_well_and_loses_nothing_that_was_accepted() {
    let mut hookcache = Hookcache::start(&[], &[]).await;
    let accepted = Arc::new(Mutex::new(HashSet::new()));
    let clients: Vec<_> =
        (0..CLIENTS).map(|client| tokio::spawn(set_until_cut(hookcache.url(), client, accepted.clone()))).collect();
    eventually("some accepted", || async { (accepted.lock().unwrap().len() >= ACCEPTED_BEFORE).then_some(()) }).await;
    assert!(hookcache.sigterm().await.success(), "{:#?}", hookcache.captured());
    for client in clients {
        client.await.expect("every answer was 202");
    }
    let log = log_of(&hookcache);
    assert_eq!(log.last().expect("lines")["message"], "stopped");
    assert!(!log.iter().any(|line| line["level"] == "ERROR"), "{log:?}");
    hookcache.start_again().await;
    let keys: Vec<String> = accepted.lock().unwrap().iter().cloned().collect();
    for key in keys {
        assert_eq!(until_read(&hookcache, &key).await.text(), format!("\"{key}\""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_redis_is_down_ends_well_and_what_was_accepted_is_stored_later() {
    let mut redis = Redis::start().await;
    let mut hookcache = Hookcache::start(&[], &[("HOOKCACHE_STORE__URL", &redis.url())]).await;
    redis.stop();
    for n in 0..50 {
        set(&hookcache, &format!("k{n}")).await;
    }
    assert!(hookcache.sigterm().await.success(), "{:#?}", hookcache.captured());
    redis.start_again().await;
    hookcache.start_again().await;
    for n in 0..50 {
        until_read(&hookcache, &format!("k{n}")).await;
    }
    let page = http_get(&format!("{}/metrics", hookcache.admin_url())).await.text();
    assert_eq!(dead_lettered(&page), 0.0, "an outage makes no dead letters");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_at_a_stop_and_does_not_hold_it_up() {
    let mut hookcache = Hookcache::start(&[], &[]).await;
    let mut idle = Vec::new();
    for base in [hookcache.url(), hookcache.admin_url()] {
        let address = base.trim_start_matches("http://").to_owned();
        let mut used = TcpStream::connect(&address).await.unwrap();
        used.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 1_024];
        let length = used.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 "));
        idle.push(used);
        idle.push(TcpStream::connect(&address).await.unwrap());
    }
    assert!(hookcache.sigterm().await.success());
    for mut connection in idle {
        assert_eq!(connection.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed, without a word");
    }
    let log = hookcache.captured().stderr;
    assert!(!log.contains("drain deadline"), "nobody had to be cut: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_append_under_way_is_finished_although_its_connection_was_cut() {
    let (release, released) = mpsc::channel::<()>();
    let (released, under_way) = (Mutex::new(released), Arc::new(AtomicBool::new(false)));
    let begun = under_way.clone();
    let sqs = SqsStandIn::start(move |operation, call| {
        // A batch of no entries is the check at start: may it send?
        if operation == "SendMessageBatch" && call["Entries"] != serde_json::json!([]) {
            // A second try, on a machine so busy that the first one timed out, doesn't wait.
            if begun.swap(true, Ordering::AcqRel) {
                return all_successful(call);
            }
            // Until the test lets go. Other tasks of this thread are handed to another one.
            let _ = tokio::task::block_in_place(|| released.lock().expect("no holder panics").recv());
            return all_successful(call);
        }
        Answer::Json(serde_json::json!({ "Attributes": {} }))
    })
    .await;
    let folder = TempDir::new().unwrap();
    let (queue, dead, endpoint) = (sqs.queue_url("q"), sqs.queue_url("dead"), sqs.endpoint_url());
    let env = [
        ("HOOKCACHE_BUFFER__QUEUE_URL", queue.as_str()),
        ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", &dead),
        ("HOOKCACHE_BUFFER__ENDPOINT_URL", &endpoint),
        ("HOOKCACHE_HTTP__DRAIN_DEADLINE", "0s"),
    ];
    let mut hookcache = Hookcache::spawn(folder.path(), &["--roles", "set"], &env);
    let ready = format!("{}/readyz", hookcache.admin_url());
    eventually("ready", || async {
        try_send(Method::GET, &ready, &[], "").await.ok().filter(|reply| reply.status == 200)
    })
    .await;
    let url = format!("{}/v1/set", hookcache.url());
    let set = tokio::spawn(async move {
        let sent = try_send(Method::POST, &url, &[("content-type", "application/json")], set_of("k")).await;
        sent.map_err(|error| error.to_string())
    });
    eventually("the append is under way", || async { under_way.load(Ordering::Acquire).then_some(()) }).await;
    hookcache.signal("TERM");
    assert!(set.await.unwrap().is_err(), "its connection is cut at the deadline of 0 seconds");
    // Whoever does not wait for the append has ended by now.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    drop(release);
    assert!(hookcache.until_exit().await.success());
    let log = hookcache.captured().stderr;
    let (accepted, stopped) = (log.find("\"accepted\""), log.find("\"stopped\""));
    assert!(accepted.is_some() && accepted < stopped, "{log}");
}
