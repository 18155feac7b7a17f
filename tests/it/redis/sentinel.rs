//! The store on a primary that Sentinels watch and replace.

use std::time::Duration;

use hookcache::store::redis::{Mode, Options};
use hookcache::store::{Acknowledge, Outcome, ReadError};

use super::access::ACL;
use super::load::{Load, assert_kept};
use super::{halves, options, tracked, until_read, until_written};
use crate::store_contract::changes::until_told;
use crate::store_contract::{Halves, all_unavailable, key, now_ms, put, rules_are_set_loaded_and_unset};
use crate::support::sentinels::{DOWN_AFTER_LONG_MS, MASTER, in_step};
use crate::support::{Certificates, Redis, Sentinels, eventually, eventually_within};

/// Short, so that a dead primary is replaced soon.
const DOWN_AFTER_SHORT_MS: u32 = 3_000;
/// Sentinels of a machine that stalled promote nobody for 30 seconds.
const PROMOTION_MAX: Duration = Duration::from_secs(120);

pub async fn started() -> (Sentinels, Halves) {
    let sentinels = Sentinels::start(DOWN_AFTER_LONG_MS).await;
    let halves = halves(&tracked(options_of(sentinels.urls())));
    (sentinels, halves)
}

fn options_of(urls: Vec<String>) -> Options {
    let mode = Mode::Sentinel { urls, master: MASTER.to_owned(), username_file: None, password_file: None };
    Options { mode, ..options("") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_replica_has_is_lost_by_a_promotion_in_mid_run() {
    let mut group = Sentinels::start(DOWN_AFTER_SHORT_MS).await;
    let store = halves(&Options {
        acknowledge: Acknowledge::Replicas(1),
        // For want of a replica a write is told so soon.
        write_timeout: Duration::from_secs(2),
        ..options_of(group.urls())
    });
    let names: Vec<String> = (0..16).map(|i| format!("key-{i}")).collect();
    let load = Load::start(&store, &names).await;
    group.servers[0].stop();
    let promoted = group.servers[1].port();
    until_promoted(&group, promoted).await;
    until_read(&store, &names[0]).await;
    assert!(load.unavailable() > 0, "the death of the primary was not seen");
    let results = store.writer.write(&[put("acme", 1_000_000, &["alone"])], now_ms()).await;
    assert!(all_unavailable(&results), "no replica has it: {results:?}");
    // It has lost everything. Sentinel would make a replica of it too, after some ten seconds.
    group.servers[0].start_again().await;
    group.servers[0].ok(&["REPLICAOF", "127.0.0.1", &promoted.to_string()]);
    in_step(&group.servers[0]).await;
    assert!(matches!(until_written(&store, 1_000_001, "alone").await, Outcome::Written | Outcome::Duplicate));
    load.go_on().await;
    let acknowledged = load.stop().await;
    assert_eq!(acknowledged.len(), names.len());
    assert_kept(&store, &acknowledged).await;
}

async fn until_promoted(group: &Sentinels, port: u16) {
    eventually_within(PROMOTION_MAX, "the promotion", || async { (group.primary_port() == Some(port)).then_some(()) })
        .await;
}

/// Its kernel goes on to acknowledge what is sent to it, so that no connection breaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_frozen_and_replaced_is_left_by_writers_and_readers() {
    let group = Sentinels::start(DOWN_AFTER_SHORT_MS).await;
    let timeout = Duration::from_secs(2);
    let store = halves(&Options { read_timeout: timeout, write_timeout: timeout, ..options_of(group.urls()) });
    until_written(&store, 1, "k").await;
    until_read(&store, "k").await;
    let (old, new) = match group.primary_port() == Some(group.servers[0].port()) {
        true => (&group.servers[0], &group.servers[1]),
        false => (&group.servers[1], &group.servers[0]),
    };
    in_step(new).await;
    old.pause();
    until_promoted(&group, new.port()).await;
    until_written(&store, 2, "k").await;
    until_read(&store, "k").await;
    old.resume();
}

/// The old primary lives on as one, with all its connections: nobody reaches it to demote it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_a_reader_whose_sentinel_is_gone_hears_of_a_promotion_from_another() {
    let mut group = Sentinels::start(DOWN_AFTER_LONG_MS).await;
    let store = halves(&tracked(options_of(group.urls())));
    until_written(&store, 1, "k").await;
    until_told(&store).await;
    let of_old = store.get("k").await.expect("it is there").version;
    let (old, new) = (&group.servers[0], &group.servers[1]);
    in_step(new).await;
    old.ok(&["ACL", "SETUSER", "default", "-replicaof", "-slaveof"]);
    // The one that led there.
    group.sentinels.remove(0).stop();
    let sentinel = &group.sentinels[0];
    let promoted = || async {
        if group.primary_port() == Some(old.port()) {
            sentinel.cli(&["SENTINEL", "FAILOVER", MASTER]);
        }
        (group.primary_port() == Some(new.port())).then_some(())
    };
    eventually_within(PROMOTION_MAX, "the promotion", promoted).await;
    until_written(&halves(&options_of(group.urls())), 2, "k").await;
    let left = || async { (store.get("k").await?.version > of_old).then_some(()) };
    eventually("reads go to the new primary", left).await;
    assert!(old.cli(&["ROLE"]).starts_with("master"), "it was not demoted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_that_are_away_or_know_nothing_are_told_by_name() {
    let group = Sentinels::start(DOWN_AFTER_LONG_MS).await;
    let mut gone = Redis::start().await;
    gone.stop();
    // One that is away costs nothing but a moment.
    let store = halves(&options_of([vec![gone.url()], group.urls()].concat()));
    assert_eq!(store.one(put("acme", 1, &["k"])).await, [Outcome::Written]);
    until_read(&store, "k").await;

    let unknown =
        Mode::Sentinel { urls: group.urls(), master: "nobody".to_owned(), username_file: None, password_file: None };
    let store = halves(&Options { mode: unknown, ..options("") });
    let results = store.writer.write(&[put("acme", 1, &["k"])], now_ms()).await;
    assert!(all_unavailable(&results), "{results:?}");
    assert!(format!("{results:?}").contains("knows no primary `nobody` (store.sentinel_master)"), "{results:?}");
    let read = store.reader.get(&key("k")).await;
    assert!(matches!(read, Err(ReadError::Unavailable(_))), "never absent: {read:?}");

    // What a Sentinel names must be a primary by its own word.
    group.servers[0].ok(&["REPLICAOF", "127.0.0.1", &group.servers[1].port().to_string()]);
    let store = halves(&options_of(group.urls()));
    let results = store.writer.write(&[put("acme", 2, &["k"])], now_ms()).await;
    assert!(all_unavailable(&results), "{results:?}");
    assert!(format!("{results:?}").contains("which is no primary now"), "{results:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_and_a_primary_over_tls_each_for_a_user_of_its_own() {
    let certificates = Certificates::make();
    let group = Sentinels::start_with(DOWN_AFTER_LONG_MS, Some(&certificates.server_options())).await;
    for server in &group.servers {
        server.ok(&[&["ACL", "SETUSER", "hook", "reset", "on", ">secret"], ACL, &["+role"]].concat());
    }
    let asks = "+sentinel|get-master-addr-by-name";
    for sentinel in &group.sentinels {
        sentinel.ok(&["ACL", "SETUSER", "asker", "reset", "on", ">guarded", asks]);
        sentinel.ok(&["ACL", "SETUSER", "hook", "reset", "on", ">other", asks]);
    }
    let tls = |port: &u16| format!("rediss://hook:secret@localhost:{port}");
    let urls: Vec<String> = group.tls_ports.iter().map(tls).collect();
    let (user, password) = (certificates.write("asker", "asker\n"), certificates.write("guarded", "guarded\n"));
    let as_asker = |username_file, password_file| Options {
        mode: Mode::Sentinel { urls: urls.clone(), master: MASTER.to_owned(), username_file, password_file },
        ca_file: Some(certificates.path("ca.pem")),
        ..options("")
    };
    let store = halves(&as_asker(Some(user.clone()), Some(password)));
    assert_eq!(store.one(put("acme", 1, &["k"])).await, [Outcome::Written]);
    until_read(&store, "k").await;
    rules_are_set_loaded_and_unset(&store).await;
    assert_eq!((store.writer.check().await, store.reader.check().await), (Ok(()), Ok(())));

    let wrong = halves(&as_asker(Some(user), Some(certificates.write("wrong", "hunter2\n"))));
    let results = wrong.writer.write(&[put("acme", 2, &["k"])], now_ms()).await;
    assert!(all_unavailable(&results), "{results:?}");
    let text = format!("{results:?}");
    assert!(text.contains("store.sentinel_password_file") && !text.contains("hunter2"), "{text}");
}
