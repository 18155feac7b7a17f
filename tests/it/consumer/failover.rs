//! The consumer on a cluster that loses a primary.

use super::{Mode, Road, TAKE_MAX, VISIBILITY, paused};
use crate::support::Cluster;
use crate::support::cluster::NODE_TIMEOUT_LONG_MS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_pauses_the_consumer_and_makes_no_dead_letter() {
    let mut cluster = Cluster::start(NODE_TIMEOUT_LONG_MS).await;
    let road = Road::over(Mode::Cluster { urls: cluster.seeds() });
    let running = road.consume();
    road.append_set("up", "a", &["before"]).await;
    road.stored("before").await;
    cluster.nodes[0].stop();
    for i in 0..3 * TAKE_MAX {
        road.append_set("up", "a", &[&format!("k{i}"), &format!("l{i}")]).await;
    }
    let reason = paused(&running).await;
    assert!(reason.contains(&cluster.nodes[0].port().to_string()), "it names the node: {reason}");
    // Time for attempts to be counted, if the outage were taken for the fault of a message.
    tokio::time::sleep(VISIBILITY).await;
    // No vote: the dead one is not found out before this is over.
    cluster.nodes[3].ok(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
    for i in 0..3 * TAKE_MAX {
        road.stored(&format!("k{i}")).await;
        road.stored(&format!("l{i}")).await;
    }
    road.empty().await;
    running.stop().await;
    assert_eq!(road.dead_letters().await.len(), 0);
}
