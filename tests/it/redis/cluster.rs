//! The store on a cluster whose nodes move slots, change roles, and die.

use std::time::Duration;

use hookcache::envelope::Accounts;
use hookcache::store::catalog::{Catalog, Choice};
use hookcache::store::redis::{Mode, Options};
use hookcache::store::{Acknowledge, Outcome, ReadError, WriteError};

use super::access::ACL;
use super::load::{Load, assert_kept};
use super::{halves, options, tracked, until_read, until_written};
use crate::store_contract::{Halves, all_unavailable, key, now_ms, put, rules_are_set_loaded_and_unset};
use crate::support::cluster::{NODE_TIMEOUT_LONG_MS, is_primary};
use crate::support::{Certificates, Cluster, Redis, eventually};

/// Short, so that a dead primary is replaced soon; a machine that stalls so long sees one more failover.
const NODE_TIMEOUT_SHORT_MS: u32 = 3_000;

pub async fn started() -> (Cluster, Halves) {
    let cluster = Cluster::start(NODE_TIMEOUT_LONG_MS).await;
    let halves = halves(&tracked(options_of(&cluster)));
    (cluster, halves)
}

fn options_of(cluster: &Cluster) -> Options {
    Options { mode: Mode::Cluster { urls: cluster.seeds() }, ..options("") }
}

/// The slot that Redis puts an entry's key into: CRC-16/XMODEM, bit by bit.
fn slot(name: &str) -> u16 {
    let key = format!("hc:v1:k:{{}}:{name}");
    let step = |crc: u16, _: i32| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
    key.bytes().fold(0, |crc, byte| (0..8).fold(crc ^ (u16::from(byte) << 8), step)) % 16_384
}

/// Names from all over the slots.
fn scattered(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("key-{i}")).collect()
}

fn names_in(wanted: u16, count: usize) -> Vec<String> {
    (0..).map(|i| format!("in-{i}")).filter(|name| slot(name) == wanted).take(count).collect()
}

/// How often a node answered with this error.
fn errors(node: &Redis, code: &str) -> u64 {
    let info = node.cli(&["INFO", "errorstats"]);
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("errorstat_{code}:count=")));
    line.map_or(0, |count| count.trim().parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_under_load_is_followed_without_an_error() {
    // The first one of its node, where records of ours would be written first.
    const MOVED: u16 = 5_461;
    let cluster = Cluster::start(NODE_TIMEOUT_LONG_MS).await;
    let (from, to) = (&cluster.nodes[1], &cluster.nodes[2]);
    let (from_id, to_id, moved) = (cluster.id(1), cluster.id(2), MOVED.to_string());
    let options = Options { acknowledge: Acknowledge::Replicas(1), ..options_of(&cluster) };
    let store = halves(&options);
    let names = [names_in(MOVED, 8), scattered(8)].concat();
    assert_eq!(from.cli(&["CLUSTER", "KEYSLOT", &format!("hc:v1:k:{{}}:{}", names[0])]), moved);

    let load = Load::start(&store, &names).await;
    let before = load.unavailable();
    to.ok(&["CLUSTER", "SETSLOT", &moved, "IMPORTING", &from_id]);
    from.ok(&["CLUSTER", "SETSLOT", &moved, "MIGRATING", &to_id]);
    load.go_on().await;
    let stored = from.cli(&["CLUSTER", "GETKEYSINSLOT", &moved, "100"]);
    assert_eq!(stored.lines().filter(|key| key.starts_with("hc:v1:k:")).count(), 8);
    assert_eq!(stored.lines().filter(|key| key.starts_with("hc:v1:c:mark:")).count(), 1, "a record of ours moves, too");
    for key in stored.lines() {
        from.ok(&["MIGRATE", "127.0.0.1", &to.port().to_string(), key, "0", "30000"]);
        load.go_on().await;
    }
    assert!(errors(from, "ASK") > 0, "nothing came to the old node while the slot was on its way");
    // Whoever knows the slots only now finds it on its way, too.
    let newcomer = halves(&options);
    assert!(newcomer.get(&names[0]).await.is_some());
    assert_eq!(newcomer.one(put("acme", 0, &[&names[0]])).await, [Outcome::Superseded]);
    // And so does whoever looks after what is stored.
    let catalog = Catalog::of(&store.writer);
    assert!(catalog.find(&key(&names[0]), now_ms()).await.is_ok_and(|seen| seen.is_some()));
    let everything = Choice { accounts: Accounts::All, account: None, flow: None, prefix: String::new() };
    let (mut walked, mut cursor) = (std::collections::HashSet::new(), None);
    loop {
        let page = catalog.page(&everything, cursor.as_ref(), 100, now_ms()).await.expect("a page");
        walked.extend(page.entries.into_iter().map(|seen| seen.key.as_str().to_owned()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert!(names.iter().all(|name| walked.contains(name)), "{walked:?}");
    to.ok(&["CLUSTER", "SETSLOT", &moved, "NODE", &to_id]);
    load.go_on().await;
    from.ok(&["CLUSTER", "SETSLOT", &moved, "NODE", &to_id]);
    load.go_on().await;
    assert!(errors(from, "MOVED") > 0, "nothing came to the old node after the slot had moved");
    assert_eq!(load.unavailable(), before, "a move is no outage");
    let acknowledged = load.stop().await;
    assert_eq!(acknowledged.len(), names.len());
    assert_kept(&store, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_primary_that_was_written_to_is_waited_for() {
    let cluster = Cluster::start(NODE_TIMEOUT_LONG_MS).await;
    let store = halves(&Options {
        acknowledge: Acknowledge::Replicas(1),
        write_timeout: Duration::from_secs(4),
        ..options_of(&cluster)
    });
    let names = scattered(16);
    for name in &names {
        assert!(matches!(until_written(&store, 1, name).await, Outcome::Written | Outcome::Duplicate));
    }
    // The replica of the second primary.
    cluster.nodes[4].pause();
    let is_alone = |name: &str| (5_461..10_922).contains(&slot(name));
    assert!(names.iter().any(|name| is_alone(name)) && !names.iter().all(|name| is_alone(name)));
    let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
    let results = store.writer.write(&[put("acme", 2, &borrowed)], now_ms()).await.remove(0);
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(Outcome::Written) => assert!(!is_alone(name), "{name} is on one server alone"),
            Err(WriteError::Unavailable(why)) => {
                assert!(is_alone(name) && why.contains("replicas(1)"), "{name}: {why}")
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(store.writer.check().await.is_err(), "not every write would be acknowledged");
    cluster.nodes[4].resume();
    for name in names.iter().filter(|name| is_alone(name)) {
        assert_eq!(until_written(&store, 2, name).await, Outcome::Duplicate);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_changes_places_with_its_replica_loses_nothing() {
    let cluster = Cluster::start(NODE_TIMEOUT_LONG_MS).await;
    let store = halves(&Options { acknowledge: Acknowledge::Replicas(1), ..options_of(&cluster) });
    let load = Load::start(&store, &scattered(16)).await;
    for (primary, replica) in [(0, 3), (1, 4)] {
        cluster.nodes[replica].ok(&["CLUSTER", "FAILOVER"]);
        eventually("the change", || async {
            (is_primary(&cluster.nodes[replica]) && !is_primary(&cluster.nodes[primary])).then_some(())
        })
        .await;
        load.go_on().await;
    }
    let acknowledged = load.stop().await;
    assert_eq!(acknowledged.len(), 16);
    assert_kept(&store, &acknowledged).await;
    for name in scattered(16) {
        assert_eq!(until_written(&store, 1_000_000, &name).await, Outcome::Written);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_is_replaced_and_what_a_replica_has_is_kept() {
    let mut cluster = Cluster::start(NODE_TIMEOUT_SHORT_MS).await;
    let options = Options {
        acknowledge: Acknowledge::Replicas(1),
        // For want of a replica a write is told so soon.
        write_timeout: Duration::from_secs(2),
        ..options_of(&cluster)
    };
    let store = halves(&options);
    let names = scattered(16);
    let load = Load::start(&store, &names).await;
    // Nothing but this is asked while a consumer pauses.
    let idle = halves(&options);
    let is_well = || async { idle.writer.check().await.ok() };
    eventually("a healthy store", is_well).await;
    cluster.nodes[0].stop();
    assert!(idle.writer.check().await.is_err(), "a primary is missing");
    // The keys of the others are taken all the time; those of this one when its replica has been promoted.
    eventually("the promotion", || async { is_primary(&cluster.nodes[3]).then_some(()) }).await;
    for name in &names {
        until_read(&store, name).await;
    }
    assert!(load.unavailable() > 0, "the death of a primary was not seen");
    let acknowledged = load.stop().await;
    assert_eq!(acknowledged.len(), names.len());
    assert_kept(&store, &acknowledged).await;
    // It has lost everything, and comes back as a replica of the one that replaced it.
    cluster.nodes[0].start_again().await;
    for name in &names {
        assert!(matches!(until_written(&store, 1_000_000, name).await, Outcome::Written | Outcome::Duplicate));
    }
    eventually("a healthy store", is_well).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_down_is_unavailable_and_heals() {
    let cluster = Cluster::start_with(3, NODE_TIMEOUT_LONG_MS, None).await;
    let store = halves(&options_of(&cluster));
    let lost = scattered(100).into_iter().find(|name| slot(name) < 5_461).expect("a third of them is");
    let kept = scattered(100).into_iter().find(|name| slot(name) > 10_923).expect("a third of them is");
    assert_eq!(store.one(put("acme", 1, &[&lost, &kept])).await, [Outcome::Written; 2]);
    let slots = ["CLUSTER", "DELSLOTSRANGE", "0", "5460"];
    cluster.nodes[0].ok(&slots);
    let results = store.writer.write(&[put("acme", 2, &[&lost])], now_ms()).await;
    assert!(all_unavailable(&results), "{results:?}");
    let (text, node) = (format!("{results:?}"), cluster.nodes[0].port().to_string());
    assert!(text.contains("Hash slot not served") && text.contains(&node), "{results:?}");
    let read = store.reader.get(&key(&lost)).await;
    assert!(matches!(read, Err(ReadError::Unavailable(_))), "never absent: {read:?}");
    assert!(store.writer.check().await.is_err(), "not every slot can be written");
    assert_eq!(store.reader.check().await, Ok(()), "other slots can be read");
    assert!(store.get(&kept).await.is_some());

    cluster.nodes[0].ok(&["CLUSTER", "ADDSLOTSRANGE", "0", "5460"]);
    assert_eq!(until_written(&store, 2, &lost).await, Outcome::Written);
    until_read(&store, &lost).await;
    eventually("a healthy store", || async { store.writer.check().await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_store_on_a_cluster_sends_nothing() {
    let cluster = Cluster::start_with(3, NODE_TIMEOUT_LONG_MS, None).await;
    let store = halves(&options_of(&cluster));
    for name in scattered(16) {
        assert_eq!(store.one(put("acme", 1, &[&name])).await, [Outcome::Written]);
        assert!(store.get(&name).await.is_some());
    }
    let commands = |node: &Redis| -> u64 {
        let info = node.cli(&["INFO", "stats"]);
        let count = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        count.expect("INFO has it").trim().parse().expect("a number")
    };
    // Connections that are still being made may say a word more at first.
    eventually("two seconds with nothing but our own INFO", || async {
        let before: Vec<u64> = cluster.nodes.iter().map(commands).collect();
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.nodes.iter().zip(before).all(|(node, before)| commands(node) - before == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mode_that_does_not_fit_the_server_is_told_by_its_key() {
    let cluster = Cluster::start_with(3, NODE_TIMEOUT_LONG_MS, None).await;
    let elsewhere = scattered(100).into_iter().find(|name| slot(name) > 10_923).expect("a third of them is");
    let standalone = halves(&options(&cluster.nodes[0].url()));
    let results = standalone.writer.write(&[put("acme", 1, &[&elsewhere])], now_ms()).await;
    assert!(all_unavailable(&results), "{results:?}");
    assert!(format!("{results:?}").contains("set store.mode = \\\"cluster\\\""), "{results:?}");

    let redis = Redis::start().await;
    let store = halves(&Options { mode: Mode::Cluster { urls: vec![redis.url()] }, ..options("") });
    let results = store.writer.write(&[put("acme", 1, &["k"])], now_ms()).await;
    assert!(all_unavailable(&results), "{results:?}");
    assert!(format!("{results:?}").contains("store.mode"), "{results:?}");
    assert!(
        matches!(store.reader.get(&key("k")).await, Err(ReadError::Unavailable(why)) if why.contains("store.mode"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_over_tls_for_an_acl_user() {
    let certificates = Certificates::make();
    let cluster = Cluster::start_with(3, NODE_TIMEOUT_LONG_MS, Some(&certificates.server_options())).await;
    let user = ["ACL", "SETUSER", "hook", "reset", "on", ">secret"];
    for node in &cluster.nodes {
        node.ok(&[&user[..], ACL, &["+cluster|slots", "+asking"]].concat());
    }
    let password_file = certificates.write("password", "secret\n");
    let tls = |port: &u16| format!("rediss://hook@localhost:{port}");
    let right = Options {
        mode: Mode::Cluster { urls: cluster.tls_ports.iter().map(tls).collect() },
        password_file: Some(password_file),
        ca_file: Some(certificates.path("ca.pem")),
        ..options("")
    };
    let store = halves(&right);
    let names = scattered(16);
    let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(store.one(put("acme", 1, &borrowed)).await, [Outcome::Written; 16]);
    for name in &names {
        assert!(store.get(name).await.is_some());
    }
    rules_are_set_loaded_and_unset(&store).await;
    assert_eq!((store.writer.check().await, store.reader.check().await), (Ok(()), Ok(())));
}
