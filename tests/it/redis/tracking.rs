//! Hearing of changes: lost, found again, refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use hookcache::store::redis::Options;
use hookcache::store::{Change, Outcome, Standing, Watch};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::access::ACL;
use super::{halves, options, tracked};
use crate::store_contract::changes::{hear, until_told};
use crate::store_contract::{Halves, key, now_ms, put};
use crate::support::{DEADLINE, Redis, eventually, free_port};

async fn started(options: Options) -> Halves {
    let store = halves(&tracked(options));
    until_told(&store).await;
    store
}

async fn until_everything_changed(watch: &mut Watch) {
    let told = timeout(DEADLINE, async { while watch.changed().await != Change::Everything {} }).await;
    told.expect("nobody told that everything may have changed");
}

async fn until_untold(store: &Halves) -> String {
    eventually("changes are not told", || async {
        match store.reader.standing() {
            Standing::Told => None,
            Standing::Untold(why) => Some(why),
            // Before the first connection.
            Standing::Unasked => None,
        }
    })
    .await
}

/// The connections in broadcasting mode: all of them are ours.
fn trackers(redis: &Redis) -> Vec<String> {
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|part| part.strip_prefix(name)).map(str::to_owned).expect("each line has it")
    };
    let list = redis.cli(&["CLIENT", "LIST"]);
    let tracking = list.lines().filter(|line| field(line, "flags=").contains('B'));
    tracking.map(|line| field(line, "id=")).collect()
}

#[tokio::test]
async fn an_emptied_redis_and_a_cut_connection_are_heard_and_healed() {
    let redis = Redis::start().await;
    let store = started(options(&redis.url())).await;
    let mut watch = store.reader.watch(&key("k"));
    redis.ok(&["FLUSHALL"]);
    until_everything_changed(&mut watch).await;
    for time in 1..4 {
        let before = store.reader.counts().epochs;
        let tracker = trackers(&redis).pop().expect("a tracker");
        redis.cli(&["CLIENT", "KILL", "ID", &tracker]);
        until_everything_changed(&mut watch).await;
        eventually("another tracker", || async { trackers(&redis).iter().find(|id| **id != tracker).map(drop) }).await;
        until_told(&store).await;
        assert!(store.reader.counts().epochs >= before + 2, "the loss and the new beginning are told");
        watch = store.reader.watch(&key("k"));
        assert_eq!(store.one(put("acme", time, &["k"])).await, [Outcome::Written]);
        hear(&mut watch, "a write after the cut").await;
    }
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_noticed_though_its_connections_stay_open() {
    let redis = Redis::start().await;
    let store = started(Options { read_timeout: Duration::from_secs(1), ..options(&redis.url()) }).await;
    redis.pause();
    until_untold(&store).await;
    redis.resume();
    until_told(&store).await;
}

#[tokio::test]
async fn a_primary_that_becomes_a_replica_is_noticed_though_its_connections_stay_open() {
    let redis = Redis::start().await;
    let store = started(options(&redis.url())).await;
    let mut watch = store.reader.watch(&key("k"));
    redis.ok(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    until_everything_changed(&mut watch).await;
    until_a_replica_is_refused(&store).await;
    assert_eq!(store.get("k").await, None, "it is read on");
    redis.ok(&["REPLICAOF", "NO", "ONE"]);
    until_everything_changed(&mut watch).await;
    until_told(&store).await;
    watch = store.reader.watch(&key("k"));
    assert_eq!(store.one(put("acme", 1, &["k"])).await, [Outcome::Written]);
    hear(&mut watch, "a write").await;
}

async fn until_a_replica_is_refused(store: &Halves) {
    let says = "store.url leads to a replica";
    eventually(says, || async { until_untold(store).await.contains(says).then_some(()) }).await;
}

/// A name that leads to a server, and to another one later: who came by it before stays where they are.
struct Name {
    url: String,
    leads_to: Arc<AtomicU16>,
}

impl Name {
    async fn of(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("redis://{}", listener.local_addr().expect("it is bound"));
        let leads_to = Arc::new(AtomicU16::new(redis.port()));
        let port = Arc::clone(&leads_to);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let port = port.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self { url, leads_to }
    }
}

#[tokio::test]
async fn a_demoted_primary_is_left_when_its_name_leads_to_the_new_one_though_nothing_breaks() {
    let (old, new) = (Redis::start().await, Redis::start().await);
    for (redis, time) in [(&old, 1), (&new, 2)] {
        assert_eq!(halves(&options(&redis.url())).one(put("acme", time, &["k"])).await, [Outcome::Written]);
    }
    let name = Name::of(&old).await;
    let store = started(options(&name.url)).await;
    let of_old = store.get("k").await.expect("it is there").version;
    old.ok(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    until_a_replica_is_refused(&store).await;
    name.leads_to.store(new.port(), Ordering::SeqCst);
    until_told(&store).await;
    let left = || async { (store.get("k").await.expect("it is there").version > of_old).then_some(()) };
    eventually("reads go to the new primary", left).await;
}

#[tokio::test]
async fn a_user_who_may_not_track_is_told_so_and_reads_on() {
    let redis = Redis::start().await;
    let rules = |more: &[&str]| {
        let user = ["ACL", "SETUSER", "hook", "reset", "on", ">secret"];
        redis.ok(&[&user, ACL, more].concat());
    };
    rules(&[]);
    let store = halves(&tracked(options(&format!("redis://hook:secret@127.0.0.1:{}", redis.port()))));
    assert_eq!(store.one(put("acme", 1, &["k"])).await, [Outcome::Written]);
    assert!(store.get("k").await.is_some());
    for (allowed, lacking) in [(&[][..], "+info"), (&["+info"], "+client|tracking")] {
        rules(allowed);
        eventually(lacking, || async { until_untold(&store).await.contains(lacking).then_some(()) }).await;
        let mut watch = store.reader.watch(&key("k"));
        let told = timeout(DEADLINE, watch.changed()).await.expect("whoever waits looks again after a while");
        assert_eq!(told, Change::Unknown);
    }
    rules(&["+info", "+client|tracking"]);
    until_told(&store).await;
    let mut watch = store.reader.watch(&key("k"));
    let results = store.writer.write(&[put("acme", 2, &["k"])], now_ms()).await;
    assert_eq!(results[0], [Ok(Outcome::Written)]);
    hear(&mut watch, "a write").await;
}
