//! What it says of a cluster, of Sentinels, and of a `store.mode` that doesn't fit.

use super::{FINE, Report};
use crate::support::Redis;
use crate::support::cluster::{Cluster, NODE_TIMEOUT_LONG_MS};
use crate::support::sentinels::{DOWN_AFTER_LONG_MS, MASTER, Sentinels};

fn of_mode(mode: &str, url: &str, more: &[(&str, &str)]) -> Report {
    Report::of(&[], &[&[("HOOKCACHE_STORE__MODE", mode), ("HOOKCACHE_STORE__URL", url)], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_primary_of_a_cluster_is_looked_at() {
    let cluster = Cluster::start_with(3, NODE_TIMEOUT_LONG_MS, None).await;
    let report = of_mode("cluster", &cluster.seeds().join(","), &[]);
    // Three servers without a memory limit, persistence and replicas.
    assert_eq!(report.code, 4, "{}", report.json);
    for node in &cluster.nodes {
        let found = report.findings().iter().find(|f| f["check"] == "redis-mode" && f["place"] == node.url());
        assert_eq!(found.unwrap_or_else(|| panic!("{}: {}", node.url(), report.json))["severity"], "ok");
    }
    assert!(report.bad().iter().all(|(check, _)| ["redis-memory", "redis-persistence"].contains(check)));

    let report = of_mode("standalone", &cluster.nodes[0].url(), &[]);
    assert!(report.bad().contains(&("redis-mode", "dangerous")), "{}", report.json);
    assert!(report.text("redis-mode").contains("store.mode = \"cluster\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_that_sentinels_know_is_looked_at() {
    let sentinels = Sentinels::start(DOWN_AFTER_LONG_MS).await;
    let master = [("HOOKCACHE_STORE__SENTINEL_MASTER", MASTER)];
    let report = of_mode("sentinel", &sentinels.urls().join(","), &master);
    assert_eq!((report.code, &report.found("redis-mode")["severity"]), (4, &"ok".into()), "{}", report.json);
    assert_eq!(report.found("redis-replicas")["found"], "1 online");

    let report = of_mode("sentinel", &sentinels.urls()[0], &[("HOOKCACHE_STORE__SENTINEL_MASTER", "nobody")]);
    assert_eq!((report.code, report.bad()), (1, vec![("redis-reached", "unseen")]), "{}", report.json);
    assert!(report.text("redis-reached").contains("store.sentinel_master"), "{}", report.json);

    let report = of_mode("standalone", &sentinels.urls()[0], &[]);
    assert!(report.bad().contains(&("redis-mode", "dangerous")), "{}", report.json);
    assert!(report.text("redis-mode").contains("store.mode = \"sentinel\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_is_no_cluster() {
    let redis = Redis::start_with(&FINE).await;
    let report = of_mode("cluster", &redis.url(), &[]);
    assert_eq!((report.code, report.bad()), (1, vec![("redis-mode", "dangerous")]), "{}", report.json);
    assert!(report.text("redis-mode").contains("store.mode = \"standalone\""));
}
