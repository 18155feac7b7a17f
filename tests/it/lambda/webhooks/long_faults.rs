//! What is behind it fails: a webhook that is answered 204 is in the queue, and one that is not is answered 503.

use super::{HOOKS, JSON, SECRET, SITE, World, rest};
use crate::support::eventually;

/// A webhook about that page.
fn moved(page: u64) -> serde_json::Value {
    let body = format!(r#"{{"event":"page_moved","page":{{"id":{page}}}}}"#);
    rest(&format!("{HOOKS}/sites/{SITE}"), &[], &[JSON, ("x-hookcache-secret", SECRET)], &body)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_registry_is_down_a_webhook_is_503_and_kept_by_the_same_process_once_it_is_back() {
    let mut world = World::start().await;
    assert_eq!(world.sent(&moved(1)).await, 204);
    let pid = world.lambda.pid();
    world.postgres.stop().await;
    for _ in 0..2 {
        let reply = world.send(&moved(2)).await;
        assert_eq!((reply.status, reply.code().as_str()), (503, "registry-unavailable"));
        assert!(reply.headers.contains_key("retry-after") && !reply.body.contains("127.0.0.1"), "{}", reply.body);
    }
    world.postgres.start_again().await;
    eventually("it is kept", || async { (world.sent(&moved(2)).await == 204).then_some(()) }).await;
    assert_eq!(world.lambda.pid(), pid, "no crash");
    assert_eq!(world.tasks(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_died_while_it_was_frozen_are_made_anew() {
    let world = World::start().await;
    for page in 0..3 {
        assert_eq!(world.sent(&moved(page)).await, 204);
        world.lambda.freeze().await;
        let killed =
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'hookcache'";
        assert_ne!(world.postgres.sql("registry", killed), "0");
        world.lambda.thaw();
        assert_eq!(world.sent(&moved(page)).await, 204, "nothing is told to come again");
    }
    assert_eq!(world.tasks(6).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_queue_is_down_a_webhook_is_503() {
    let mut world = World::start().await;
    assert_eq!(world.sent(&moved(1)).await, 204);
    drop(world.sqs.take());
    let reply = world.send(&moved(2)).await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "buffer-unavailable"));
}
