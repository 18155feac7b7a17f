//! The store on Redis, where Redis is not as one wishes: full, restarted, emptied, frozen, read-only, foreign, remote.

use std::process::Command;
use std::time::Duration;

use hookcache::envelope::Clock;
use hookcache::store::redis::{Mode, Options, Tracking, open};
use hookcache::store::{Acknowledge, Outcome, ReadError, Reader, RuleBook, WriteError, Writer};
use tokio::time::timeout;

use crate::store_contract::{Halves, all_unavailable, delete, key, now_ms, put};
use crate::support::redis::IN_MEMORY;
use crate::support::{DEADLINE, Program, Redis, eventually, free_port};

mod access;
mod catalog;
pub mod cluster;
mod cut;
mod load;
pub mod sentinel;
mod tracking;
mod turns;

pub fn options(url: &str) -> Options {
    Options {
        mode: Mode::Standalone { url: url.to_owned() },
        username_file: None,
        password_file: None,
        ca_file: None,
        acknowledge: Acknowledge::Memory,
        read_connections: 2,
        write_connections: 4,
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
        tracking: Tracking::Off,
    }
}

pub fn halves(options: &Options) -> Halves {
    let (writer, reader, rules) = open(options, Clock::system()).expect("these options are right");
    Halves { writer: Writer::Redis(writer), reader: Reader::Redis(reader), rules: RuleBook::Redis(rules) }
}

pub async fn started() -> (Redis, Halves) {
    let redis = Redis::start().await;
    let halves = halves(&options(&redis.url()));
    (redis, halves)
}

/// Whose reader hears of changes.
pub async fn started_tracked() -> (Redis, Halves) {
    let redis = Redis::start().await;
    let halves = halves(&tracked(options(&redis.url())));
    (redis, halves)
}

pub fn tracked(options: Options) -> Options {
    Options { tracking: Tracking::On, ..options }
}

pub async fn started_redis_8() -> (Emptied, Halves) {
    started_program(Program::Redis8).await
}

pub async fn started_valkey_9() -> (Emptied, Halves) {
    started_program(Program::Valkey9).await
}

async fn started_program(program: Program) -> (Emptied, Halves) {
    let redis = Redis::start_program(program, IN_MEMORY).await;
    let halves = halves(&tracked(options(&redis.url())));
    (Emptied(redis), halves)
}

/// One server that facts use in turn.
pub struct Emptied(Redis);

impl Emptied {
    pub fn empty(&self) {
        self.0.ok(&["FLUSHALL"]);
    }
}

/// What redis-cli would say.
pub async fn cli(redis: &Redis, args: &[&str]) -> String {
    redis.cli(args)
}

/// Repeats a write until it has an outcome.
async fn until_written(store: &Halves, time: u64, name: &str) -> Outcome {
    eventually("the write", || async {
        let results = store.writer.write(&[put("acme", time, &[name])], now_ms()).await;
        results[0][0].clone().ok()
    })
    .await
}

async fn until_read(store: &Halves, name: &str) {
    eventually("the read", || async { store.reader.get(&key(name)).await.ok().flatten() }).await;
}

#[tokio::test]
async fn a_full_redis_is_unavailable_and_heals() {
    let (redis, store) = started().await;
    assert_eq!(store.one(put("acme", 1, &["before"])).await, [Outcome::Written]);
    cli(&redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let results = store.writer.write(&[put("acme", 2, &["k", "before"]), delete("acme", 3, &["x"])], now_ms()).await;
    assert!(all_unavailable(&results), "{results:?}");
    assert!(format!("{results:?}").contains("OOM"), "{results:?}");
    assert!(store.writer.check().await.is_err());
    let mixed = [put("acme", 0, &["before"]), put("acme", 2, &["k"]), put("other", 2, &["before"])];
    let results = store.writer.write(&mixed, now_ms()).await;
    assert_eq!(results[0], [Ok(Outcome::Superseded)], "what is known is told");
    assert!(all_unavailable(&results[1..2]), "{results:?}");
    assert_eq!(results[2], [Ok(Outcome::ForeignKey)]);
    assert_eq!(store.payload("before").await.as_deref(), Some("{\"acme\":1}"), "reads go on");
    cli(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(store.one(put("acme", 2, &["k", "before"])).await, [Outcome::Written; 2]);
    assert_eq!(store.writer.check().await, Ok(()));
}

#[tokio::test]
async fn a_script_that_is_gone_is_loaded_again_within_the_call() {
    let (redis, store) = started().await;
    for time in 1..4 {
        assert_eq!(store.one(put("acme", time, &["k"])).await, [Outcome::Written]);
        assert_eq!(cli(&redis, &["SCRIPT", "FLUSH"]).await, "OK");
    }
}

#[tokio::test]
async fn a_replica_is_unavailable_for_writes_until_it_is_a_primary_again() {
    let (redis, store) = started().await;
    assert_eq!(store.one(put("acme", 1, &["k"])).await, [Outcome::Written]);
    assert_eq!(cli(&redis, &["REPLICAOF", "127.0.0.1", &free_port().to_string()]).await, "OK");
    let results = store.writer.write(&[put("acme", 2, &["k"])], now_ms()).await;
    assert!(all_unavailable(&results), "{results:?}");
    assert!(format!("{results:?}").contains("store.url"), "{results:?}");
    assert!(store.writer.check().await.is_err());
    assert_eq!(cli(&redis, &["REPLICAOF", "NO", "ONE"]).await, "OK");
    assert_eq!(store.one(put("acme", 2, &["k"])).await, [Outcome::Written]);
}

#[tokio::test]
async fn a_write_to_a_replica_ends_the_connection_so_that_the_address_is_resolved_anew() {
    let (redis, store) = started().await;
    assert_eq!(store.one(put("acme", 1, &["k"])).await, [Outcome::Written]);
    let before = cli(&redis, &["INFO", "stats"]).await;
    assert_eq!(cli(&redis, &["REPLICAOF", "127.0.0.1", &free_port().to_string()]).await, "OK");
    assert!(all_unavailable(&store.writer.write(&[put("acme", 2, &["k"])], now_ms()).await));
    assert_eq!(cli(&redis, &["REPLICAOF", "NO", "ONE"]).await, "OK");
    assert_eq!(store.one(put("acme", 2, &["k"])).await, [Outcome::Written]);
    // Four calls of redis-cli since then, and one new connection of ours.
    let connections = |info: &str| -> u64 {
        let line = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.expect("INFO has it").trim().parse().expect("a number")
    };
    let after = cli(&redis, &["INFO", "stats"]).await;
    assert_eq!(connections(&after) - connections(&before), 3 + 1);
}

#[tokio::test]
async fn a_restarted_and_an_emptied_redis_heal() {
    let (mut redis, store) = started().await;
    assert_eq!(store.one(put("acme", 5, &["k"])).await, [Outcome::Written]);
    assert!(store.get("k").await.is_some());
    redis.stop();
    let results = store.writer.write(&[put("acme", 5, &["k"])], now_ms()).await;
    assert!(all_unavailable(&results), "{results:?}");
    let read = store.reader.get(&key("k")).await;
    assert!(matches!(read, Err(ReadError::Unavailable(_))), "never absent: {read:?}");
    assert!(store.writer.check().await.is_err() && store.reader.check().await.is_err());
    assert!(store.rules.load().await.is_err());
    redis.start_again().await;
    assert_eq!(until_written(&store, 5, "k").await, Outcome::Written, "it came back empty");
    until_read(&store, "k").await;
    assert_eq!(cli(&redis, &["FLUSHALL"]).await, "OK");
    assert_eq!(store.get("k").await, None);
    assert_eq!(store.one(put("acme", 4, &["k"])).await, [Outcome::Written]);
}

#[tokio::test]
async fn a_restart_while_nobody_reads_is_not_seen_by_readers() {
    let (mut redis, store) = started().await;
    for _ in 0..4 {
        assert_eq!(store.get("k").await, None);
    }
    redis.stop();
    redis.start_again().await;
    for _ in 0..4 {
        assert_eq!(store.get("k").await, None);
    }
}

#[tokio::test]
async fn a_store_opens_while_redis_is_away_and_heals_when_it_comes() {
    let mut redis = Redis::start().await;
    redis.stop();
    let store = halves(&options(&redis.url()));
    assert!(all_unavailable(&store.writer.write(&[put("acme", 1, &["k"])], now_ms()).await));
    assert!(matches!(store.reader.get(&key("k")).await, Err(ReadError::Unavailable(_))));
    redis.start_again().await;
    assert_eq!(until_written(&store, 1, "k").await, Outcome::Written);
    until_read(&store, "k").await;
}

#[tokio::test]
async fn a_loading_redis_is_unavailable_and_heals() {
    let redis = Redis::start_with(&["--save", "3600 1", "--enable-debug-command", "yes"]).await;
    let store = halves(&options(&redis.url()));
    assert_eq!(store.one(put("acme", 1, &["k"])).await, [Outcome::Written]);
    until_read(&store, "k").await;
    // It loads slowly, 1 ms for each key, and answers in between.
    assert_eq!(cli(&redis, &["DEBUG", "POPULATE", "2000"]).await, "OK");
    cli(&redis, &["CONFIG", "SET", "key-load-delay", "1000", "loading-process-events-interval-bytes", "1024"]).await;
    let port = redis.port().to_string();
    let mut reload = Command::new("redis-cli");
    let mut reload = reload.args(["-p", &port, "DEBUG", "RELOAD"]).spawn().expect("redis-cli is installed");
    eventually("a write and a read that find it loading", || async {
        let results = store.writer.write(&[put("acme", 2, &["k"])], now_ms()).await;
        let read = store.reader.get(&key("k")).await;
        let loading = format!("{results:?}").contains("loading") && format!("{read:?}").contains("loading");
        loading.then(|| assert!(all_unavailable(&results) && matches!(read, Err(ReadError::Unavailable(_)))))
    })
    .await;
    assert!(reload.wait().expect("it is our child").success());
    assert!(matches!(until_written(&store, 2, "k").await, Outcome::Written | Outcome::Duplicate));
    until_read(&store, "k").await;
}

#[tokio::test]
async fn values_that_are_not_ours_are_unreadable_and_left_alone() {
    let (redis, store) = started().await;
    let name = |name: &str| format!("hc:v1:k:{{}}:{name}");
    cli(&redis, &["SET", &name("text"), "garbage"]).await;
    cli(&redis, &["SET", &name("long"), &"garbage".repeat(100)]).await;
    cli(&redis, &["SET", &name("empty"), ""]).await;
    cli(&redis, &["RPUSH", &name("list"), "garbage"]).await;
    let foreign = ["text", "long", "empty", "list"];
    let before: Vec<String> = dump(&redis, &foreign).await;
    let outcomes = store.one(put("acme", 5, &["text", "long", "empty", "list", "mine"])).await;
    assert_eq!(outcomes[..4], [Outcome::Unreadable; 4]);
    assert_eq!(outcomes[4], Outcome::Written);
    assert_eq!(store.one(delete("acme", 6, &foreign)).await, [Outcome::Unreadable; 4]);
    for name in foreign {
        let read = store.reader.get(&key(name)).await;
        assert!(matches!(&read, Err(ReadError::Unreadable(why)) if !why.contains("garbage")), "{name}: {read:?}");
    }
    let read = store.reader.get_many(&[key("list"), key("mine")]).await;
    assert!(matches!(read[0], Err(ReadError::Unreadable(_))), "{read:?}");
    assert!(matches!(&read[1], Ok(Some(_))), "{read:?}");
    assert_eq!(dump(&redis, &foreign).await, before);
}

#[tokio::test]
async fn entries_of_another_layout_and_damaged_ones_are_unreadable_and_left_alone() {
    let (redis, store) = started().await;
    let damage = [
        ("layout", "SETRANGE", vec!["3", "\u{2}"]),
        ("kind", "SETRANGE", vec!["4", "\u{3}"]),
        ("account", "SETRANGE", vec!["45", "\u{7f}"]),
    ];
    for (name, command, args) in damage {
        assert_eq!(store.one(put("acme", 5, &[name])).await, [Outcome::Written]);
        let stored = format!("hc:v1:k:{{}}:{name}");
        cli(&redis, &[&[command, &stored], &args[..]].concat()).await;
        let before = dump(&redis, &[name]).await;
        assert_eq!(store.one(put("acme", 9, &[name])).await, [Outcome::Unreadable], "{name}");
        let read = store.reader.get(&key(name)).await;
        assert!(matches!(read, Err(ReadError::Unreadable(_))), "{name}: {read:?}");
        assert_eq!(dump(&redis, &[name]).await, before, "{name}");
    }
}

async fn dump(redis: &Redis, names: &[&str]) -> Vec<String> {
    let mut dumps = vec![];
    for name in names {
        dumps.push(cli(redis, &["DUMP", &format!("hc:v1:k:{{}}:{name}")]).await);
    }
    dumps
}

#[tokio::test]
async fn a_duplicate_leaves_the_expiry_in_redis_as_it_was() {
    let (redis, store) = started().await;
    let write = put("acme", 5, &["k"]);
    assert_eq!(store.one(write.clone()).await, [Outcome::Written]);
    let expiry = cli(&redis, &["PEXPIRETIME", "hc:v1:k:{}:k"]).await;
    let until = store.get("k").await.and_then(|entry| entry.expires_at_ms).expect("it expires");
    assert_eq!(expiry, until.to_string());
    assert_eq!(store.one(put("acme", 5, &["k"])).await, [Outcome::Duplicate]);
    assert_eq!(cli(&redis, &["PEXPIRETIME", "hc:v1:k:{}:k"]).await, expiry);
    assert_eq!(store.one(delete("acme", 6, &["k"])).await, [Outcome::Deleted]);
    let tombstone: u64 = cli(&redis, &["PEXPIRETIME", "hc:v1:k:{}:k"]).await.parse().expect("a number");
    assert!(tombstone > now_ms() + 15 * 86_400_000, "a tombstone outlives the horizon, and goes");
}

#[tokio::test]
async fn a_frozen_redis_is_unavailable_within_the_timeout_and_recovers() {
    let redis = Redis::start().await;
    let short = Duration::from_secs(1);
    let store = halves(&Options { read_timeout: short, write_timeout: short, ..options(&redis.url()) });
    until_written(&store, 1, "k").await;
    until_read(&store, "k").await;
    redis.pause();
    let (at_once, name) = (DEADLINE, key("k"));
    let read = timeout(at_once, store.reader.get(&name)).await.expect("far below what a hang takes");
    assert!(matches!(read, Err(ReadError::Unavailable(_))), "{read:?}");
    let writes = [put("acme", 2, &["k"])];
    let results = timeout(at_once, store.writer.write(&writes, now_ms())).await.expect("far below what a hang takes");
    assert!(all_unavailable(&results), "{results:?}");
    redis.resume();
    assert!(matches!(until_written(&store, 2, "k").await, Outcome::Written | Outcome::Duplicate));
    until_read(&store, "k").await;
}

#[tokio::test]
async fn reads_beyond_the_limit_are_told_so_at_once_and_the_others_are_answered() {
    const ROOM: usize = 1_024;
    const TOO_MANY: usize = 50;
    let redis = Redis::start().await;
    let store = halves(&Options { read_connections: 1, read_timeout: DEADLINE, ..options(&redis.url()) });
    assert_eq!(store.one(put("acme", 1, &["k"])).await, [Outcome::Written]);
    until_read(&store, "k").await;
    redis.pause();
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..ROOM + TOO_MANY {
        let reader = store.reader.clone();
        reads.spawn(async move { reader.get(&key("k")).await });
    }
    for _ in 0..TOO_MANY {
        let read = reads.join_next().await.expect("there are more").expect("no read panics");
        assert!(matches!(&read, Err(ReadError::Unavailable(why)) if why.contains("too many")), "{read:?}");
    }
    redis.resume();
    assert!(reads.join_all().await.into_iter().all(|read| read.is_ok_and(|entry| entry.is_some())));
}

#[tokio::test]
async fn a_write_is_acknowledged_only_when_its_replica_has_it_and_so_is_its_duplicate() {
    let redis = Redis::start().await;
    let replica = Redis::start().await;
    let short = Duration::from_secs(1);
    let acknowledge = Acknowledge::Replicas(1);
    let store = halves(&Options { acknowledge, write_timeout: short, ..options(&redis.url()) });
    let results = store.writer.write(&[put("acme", 1, &["k"])], now_ms()).await;
    assert!(all_unavailable(&results), "no replica yet: {results:?}");
    assert!(format!("{results:?}").contains("store.acknowledge"), "{results:?}");
    assert!(store.writer.check().await.is_err());
    cli(&replica, &["REPLICAOF", "127.0.0.1", &redis.port().to_string()]).await;
    // A duplicate, where an attempt came before the replica did.
    assert!(matches!(until_written(&store, 2, "k").await, Outcome::Written | Outcome::Duplicate));
    assert_eq!(cli(&replica, &["EXISTS", "hc:v1:k:{}:k"]).await, "1");
    eventually("its check", || async { store.writer.check().await.ok() }).await;
    replica.pause();
    let results = store.writer.write(&[put("acme", 3, &["k"])], now_ms()).await;
    assert!(all_unavailable(&results), "the replica doesn't have it: {results:?}");
    let other = halves(&Options { acknowledge, write_timeout: short, ..options(&redis.url()) });
    let results = other.writer.write(&[put("acme", 3, &["k"])], now_ms()).await;
    assert!(all_unavailable(&results), "a duplicate, of what the replica still doesn't have: {results:?}");
    replica.resume();
    assert_eq!(until_written(&store, 3, "k").await, Outcome::Duplicate);
}

#[tokio::test]
async fn a_server_that_does_not_know_waitaof_is_refused_by_name() {
    let redis = Redis::start().await;
    let store = halves(&Options { acknowledge: Acknowledge::Aof, ..options(&redis.url()) });
    let why = store.writer.check().await.expect_err("this Redis can't");
    assert!(why.0.contains("store.acknowledge = aof needs Redis 7.2"), "{why}");
    assert!(all_unavailable(&store.writer.write(&[put("acme", 1, &["k"])], now_ms()).await));
}

#[tokio::test]
async fn an_idle_store_sends_nothing() {
    let (redis, store) = started().await;
    assert_eq!(store.one(put("acme", 1, &["k"])).await, [Outcome::Written]);
    until_read(&store, "k").await;
    let commands = |info: String| -> u64 {
        let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:").map(str::to_owned));
        line.expect("INFO has it").trim().parse().expect("a number")
    };
    let before = commands(cli(&redis, &["INFO", "stats"]).await);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(commands(cli(&redis, &["INFO", "stats"]).await) - before, 1, "only our own INFO");
}

#[tokio::test]
async fn the_number_of_rules_is_bounded() {
    let (redis, store) = started().await;
    let scope = |name: &str| hookcache::ttl::Scope::Account(crate::store_contract::account(name));
    let script = "for i = 1, 9999 do redis.call('HSET', 'hc:v1:c:ttl', 'a/x' .. i, '60') end";
    cli(&redis, &["EVAL", script, "0"]).await;
    assert_eq!(store.rules.load().await.unwrap().len(), 9_999);
    store.rules.set(&scope("last"), hookcache::ttl::Ttl::Never).await.unwrap();
    let why = store.rules.set(&scope("more"), hookcache::ttl::Ttl::Never).await.expect_err("one too many");
    assert!(why.0.contains("10000 TTL rules"), "{why}");
    store.rules.set(&scope("last"), hookcache::ttl::Ttl::For(Duration::from_secs(1))).await.unwrap();
    cli(&redis, &["HSET", "hc:v1:c:ttl", "garbage", "x"]).await;
    assert_eq!(store.rules.load().await.unwrap().len(), 10_000, "what is no rule is passed over");
}

#[tokio::test]
async fn an_id_that_no_wire_form_has_is_refused_alone() {
    let (_redis, store) = started().await;
    let mut long = put("acme", 1, &["long"]);
    long.id = "i".repeat(256);
    let results = store.writer.write(&[long, put("acme", 1, &["k"])], now_ms()).await;
    assert!(matches!(results[0][..], [Err(WriteError::Refused(_))]), "{results:?}");
    assert_eq!(results[1], [Ok(Outcome::Written)]);
}
