//! What is not kept is not answered 204, and what is answered 204 is kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hookcache::buffer::{self, Appender};
use hookcache::registry::{self, Key, Registry};
use hookcache::source::confluence::{EventName, Lifecycle, What};
use serde_json::json;

use super::stage::{QUEUE_BYTES_MAX, Queue, Stage, code, installed, page};
use crate::support::sqs_stand_in::{Answer, SqsStandIn, all_successful};
use crate::support::{TempDir, free_port};

const SECRET: &str = "the secret of a site, shared when it installed the app";

#[tokio::test(flavor = "multi_thread")]
async fn while_the_queue_is_down_a_webhook_is_503_and_its_repetition_is_kept() {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let sqs = SqsStandIn::start(move |operation, call| match operation {
        "SendMessageBatch" if is_down.load(Ordering::SeqCst) => Answer::Error(500, "InternalFailure"),
        "SendMessageBatch" => all_successful(call),
        _ => Answer::Json(json!({})),
    })
    .await;
    let (appender, _) = buffer::sqs::open(buffer::sqs::Options {
        keys: buffer::sqs::Keys::default(),
        queue_url: sqs.queue_url("pages"),
        dead_letter_url: sqs.queue_url("pages-dead"),
        endpoint_url: Some(sqs.endpoint_url()),
        region: Some("us-east-1".into()),
        visibility: Duration::from_secs(60),
        wait: Duration::from_secs(1),
    })
    .await
    .unwrap();
    let queue = Queue::Of(Appender::Sqs(appender));
    let stage = Stage::over(Arc::new(TempDir::new().unwrap()), queue, None).await;
    let reply = stage.post_for("site-a", "/installed", &installed("site-a", SECRET)).await;
    assert_eq!((reply.status.as_u16(), code(&reply)), (503, "buffer-unavailable".into()));
    assert!(!reply.header("retry-after").is_empty());
    let reply = stage.post_as("site-a", SECRET, "/page_updated", &page(7, 3)).await;
    assert_eq!(reply.status, 503, "the registry knows the site by now, and the queue is down");
    assert_eq!(stage.counted("unavailable"), 2.0);

    down.store(false, Ordering::SeqCst);
    stage.install("site-a", SECRET).await;
    assert_eq!(stage.post_as("site-a", SECRET, "/page_updated", &page(7, 3)).await.status, 204);
    let sent: Vec<String> = sqs
        .calls("SendMessageBatch")
        .iter()
        .flat_map(|call| call["Entries"].as_array().unwrap().clone())
        .map(|entry| entry["MessageBody"].as_str().unwrap().to_owned())
        .collect();
    let last_two = &sent[sent.len() - 2..];
    assert!(last_two[0].contains(r#""lifecycle":"installed""#), "{last_two:?}");
    assert!(last_two[1].contains(r#""page":{"id":"7","event":"page_updated","version":3}"#), "{last_two:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_503() {
    let stage = Stage::over(Arc::new(TempDir::new().unwrap()), Queue::OnDisk(600), None).await;
    stage.install("site-a", SECRET).await;
    let mut replies = Vec::new();
    for _ in 0..10 {
        replies.push(stage.post_as("site-a", SECRET, "/page_updated", &page(7, 3)).await);
    }
    let kept = replies.iter().filter(|reply| reply.status == 204).count();
    let full = replies.iter().filter(|reply| reply.status == 503 && code(reply) == "buffer-full").count();
    assert!(full > 0 && kept + full == 10, "{replies:?}");
    assert_eq!(stage.told().await.len(), kept + 1, "what was answered 204, and the install");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_registry_is_down_nobody_is_judged() {
    let folder = TempDir::new().unwrap();
    let key_file: PathBuf = folder.path().join("registry.key");
    std::fs::write(&key_file, "00".repeat(32)).unwrap();
    // Nothing listens there.
    let url = format!("postgres://nobody@127.0.0.1:{}/none", free_port());
    let registry = Registry::open(registry::Options::Postgres { url, key: Key::File(key_file) }).await.unwrap();
    let stage = Stage::over(Arc::new(folder), Queue::OnDisk(QUEUE_BYTES_MAX), Some(registry)).await;
    let (updated, installed) = (page(7, 3), installed("site-a", SECRET));
    let moved = json!({"event": "page_moved"});
    let (one, two, three) = tokio::join!(
        stage.post_as("site-a", SECRET, "/page_updated", &updated),
        stage.post_for("site-a", "/installed", &installed),
        stage.post("/sites/a", &[("x-hookcache-secret", "s")], &moved),
    );
    for reply in [one, two, three] {
        assert_eq!((reply.status.as_u16(), code(&reply)), (503, "registry-unavailable".into()));
        assert!(!reply.text().contains("127.0.0.1"), "where it is, is for the log");
    }
    assert_eq!((stage.told().await, stage.counted("unavailable")), (vec![], 3.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_204_is_there_after_a_restart_and_so_is_the_site() {
    let stage = Stage::start().await;
    stage.install("site-a", SECRET).await;
    assert_eq!(stage.post_as("site-a", SECRET, "/page_updated", &page(7, 3)).await.status, 204);
    let folder = stage.end().await;

    let again = Stage::over(folder, Queue::OnDisk(QUEUE_BYTES_MAX), None).await;
    let told: Vec<What> = again.told().await.into_iter().map(|(_, what)| what).collect();
    let updated = What::Page { page: 7, event: EventName::PageUpdated, version: Some(3) };
    assert_eq!(told, [What::Lifecycle(Lifecycle::Installed), updated]);
    assert_eq!(again.post_as("site-a", SECRET, "/page_updated", &page(8, 1)).await.status, 204);
}
