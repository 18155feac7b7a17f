//! The consumer between a real buffer and a real Redis.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hookcache::buffer::{Appender, DeadLetter, MessageId, TAKE_MAX, Taker, embedded};
use hookcache::consumer::{Breaker, Consumer, Options, Policy, RuleSource, Rulings};
use hookcache::envelope::grants::Owner;
use hookcache::envelope::wire::{self, Kind};
use hookcache::envelope::{Account, Accounts, Clock, Flow, Grants, PoisonCode, Stamp, Stamper, WebhookKey, WireForm};
use hookcache::store::redis::{Mode, Tracking};
use hookcache::store::{self, Acknowledge, Entry, Reader, RuleBook, Writer};
use hookcache::telemetry::Metrics;
use hookcache::ttl::{Rules, Scope, ScopePattern, Ttl};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Redis, Staller, TempDir, dead_letters, eventually};

mod failover;

/// Short, so that a test sees several of them go by.
const VISIBILITY: Duration = Duration::from_secs(4);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// A buffer, a store, and what a consumer needs beside them.
struct Road {
    appender: Appender,
    taker: Taker,
    writer: Writer,
    reader: Reader,
    book: RuleBook,
    grants: Arc<Grants>,
    metrics: Metrics,
    stamper: Stamper,
    options: Options,
    _folder: TempDir,
}

/// A consumer at work; stopped by [`Running::stop`].
struct Running {
    breaker: Breaker,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the consumer ends in peace");
    }
}

impl Road {
    fn new(redis_url: String) -> Self {
        Self::over(Mode::Standalone { url: redis_url })
    }

    fn over(mode: Mode) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let (appender, taker) = embedded::open(embedded::Options {
            path: folder.path().join("buffer.redb"),
            visibility: VISIBILITY,
            wait: 3 * VISIBILITY,
            bytes_max: 1 << 30,
        })
        .expect("a buffer");
        let options = store::redis::Options {
            mode,
            username_file: None,
            password_file: None,
            ca_file: None,
            acknowledge: Acknowledge::Memory,
            read_connections: 1,
            write_connections: 4,
            connect_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(10),
            // Longer than a test waits: what is stuck stays stuck.
            write_timeout: Duration::from_secs(60),
            tracking: Tracking::Off,
        };
        let (writer, reader, book) = store::redis::open(&options, Clock::system()).expect("a store");
        Self {
            appender: Appender::Embedded(appender),
            taker: Taker::Embedded(taker),
            writer: Writer::Redis(writer),
            reader: Reader::Redis(reader),
            book: RuleBook::Redis(book),
            grants: Arc::default(),
            metrics: Metrics::new(),
            stamper: Stamper::new(Clock::system()),
            options: Options {
                pollers: 2,
                batches_in_flight_max: 4,
                attempts_max: 2,
                pause_min: Duration::from_millis(50),
                pause_max: Duration::from_millis(200),
                drain_deadline: Duration::from_secs(20),
            },
            _folder: folder,
        }
    }

    fn consume(&self) -> Running {
        self.consume_at(Clock::system())
    }

    fn consume_at(&self, clock: Clock) -> Running {
        let rules = Arc::new(Rules {
            default: Ttl::For(WEEK),
            min: Duration::from_secs(1),
            max: 10 * WEEK,
            allow_request: vec![ScopePattern::ANY],
            allow_never: vec![],
            static_rules: Arc::default(),
            dynamic_rules: Arc::default(),
        });
        let grants = self.grants.clone();
        let policy = Policy::from_fn(move || Rulings { rules: rules.clone(), grants: grants.clone() });
        let consumer = Consumer::new(
            self.taker.clone(),
            self.writer.clone(),
            RuleSource::new(policy, self.book.clone()),
            self.metrics.clone(),
            self.options.clone(),
            clock,
        );
        let (breaker, stop) = (consumer.breaker(), CancellationToken::new());
        let task = tokio::spawn(consumer.run(stop.clone()));
        Running { breaker, stop, task }
    }

    async fn append(&self, id: &str, body: impl Into<Bytes>) -> MessageId {
        let account = account("a");
        let form = WireForm { id: id.to_owned(), account, traceparent: None, body: body.into() };
        self.appender.append(form).await.expect("room in the buffer")
    }

    async fn append_set(&self, by: &str, account: &str, keys: &[&str]) -> Stamp {
        let stamp = self.stamper.stamp();
        let body = wire::encode(&stamp, by, Kind::Set, &set(account, keys)).expect("a small wire form");
        self.append(&stamp.id, body).await;
        stamp
    }

    async fn get(&self, key: &str) -> Option<Entry> {
        self.reader.get(&WebhookKey::parse(key).expect("a key")).await.expect("a store that answers")
    }

    async fn stored(&self, key: &str) -> Entry {
        let key = WebhookKey::parse(key).expect("a key");
        // A store that comes back may still refuse some reads.
        eventually(&format!("{key} is stored"), || async { self.reader.get(&key).await.ok().flatten() }).await
    }

    async fn empty(&self) {
        eventually("the buffer is empty", || async {
            let depth = self.taker.depth().await.expect("a buffer that answers");
            (depth.visible + depth.in_flight == 0).then_some(())
        })
        .await;
    }

    async fn dead_letters(&self) -> Vec<DeadLetter> {
        dead_letters(&self.taker, 100).await.expect("a buffer that answers")
    }
}

fn account(name: &str) -> Account {
    Account::parse(name).expect("an account")
}

fn set(account: &str, keys: &[&str]) -> String {
    let keys = serde_json::to_string(keys).expect("JSON");
    format!(r#"{{"accountId":"{account}","flowId":"f","webhookKeys":{keys},"data":{{"of":"{account}"}}}}"#)
}

/// One command, on a connection of its own.
async fn redis_command(redis: &Redis, command: &str) -> String {
    let stream = TcpStream::connect(("127.0.0.1", redis.port())).await.expect("Redis listens");
    let mut stream = BufReader::new(stream);
    stream.write_all(format!("{command}\r\n").as_bytes()).await.expect("Redis reads");
    let mut line = String::new();
    stream.read_line(&mut line).await.expect("Redis answers");
    line
}

async fn paused(running: &Running) -> String {
    eventually("the consumer pauses", || async { running.breaker.pause_reason() }).await
}

#[tokio::test]
async fn each_kind_of_poison_is_dead_lettered_at_once_with_its_reason_and_holds_up_nothing() {
    let redis = Redis::start().await;
    let mut road = Road::new(redis.url());
    let callers =
        HashMap::from([("up".to_owned(), Accounts::Only([account("a")].into())), ("root".to_owned(), Accounts::All)]);
    let reserved = vec![("held:".to_owned(), Owner::Account(account("other")))];
    road.grants = Arc::new(Grants { callers: Some(callers), reserved });
    assert_eq!(redis_command(&redis, "SET hc:v1:k:{}:odd garbage").await, "+OK\r\n");

    let running = road.consume();
    road.append_set("up", "a", &["owned"]).await;
    road.stored("owned").await;

    let now_ms = Clock::system().now_ms();
    let valid = set("a", &["k"]);
    road.append("1", "garbage").await;
    road.append("2", format!(r#"{{"v":2,"id":"2","at":{now_ms},"by":"up","set":{valid}}}"#)).await;
    road.append("3", format!(r#"{{"v":1,"id":"3","at":{now_ms},"by":"up","set":{valid},"at":0}}"#)).await;
    road.append("4", format!(r#"{{"v":1,"id":"4","at":{now_ms},"by":"up","set":{{"accountId":"a"}}}}"#)).await;
    let old_ms = now_ms - 16 * 86_400_000;
    road.append("5", format!(r#"{{"v":1,"id":"5","at":{old_ms},"by":"up","set":{valid}}}"#)).await;
    road.append("6", format!(r#"{{"v":1,"id":"6","at":{now_ms},"by":"nobody","set":{valid}}}"#)).await;
    road.append_set("up", "b", &["k"]).await;
    road.append_set("up", "a", &["free", "held:x"]).await;
    road.append_set("root", "b", &["beside-foreign", "owned"]).await;
    road.append_set("up", "a", &["odd", "beside-odd"]).await;
    road.append_set("up", "a", &["last"]).await;
    road.stored("last").await;
    road.empty().await;
    running.stop().await;

    let mut found: Vec<_> =
        road.dead_letters().await.into_iter().map(|letter| (letter.reason.as_str(), letter.detail)).collect();
    found.sort();
    let expected = [
        (PoisonCode::ForbiddenAccount, "\"held:x\""),
        (PoisonCode::ForbiddenAccount, "caller \"nobody\" may not set the account \"a\""),
        (PoisonCode::ForbiddenAccount, "caller \"up\" may not set the account \"b\""),
        (PoisonCode::ForeignKey, "than \"b\": \"owned\"; all other keys are written"),
        (PoisonCode::NotDecodable, "line 1"),
        (PoisonCode::NotDecodable, "line 1"),
        (PoisonCode::NotDecodable, "version 2"),
        (PoisonCode::NotValid, ""),
        (PoisonCode::TooOld, "15 days"),
        (PoisonCode::UnreadableEntry, "\"odd\"; all other keys are written"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (reason, detail) in expected {
        let of_it = |(code, text): &(&str, String)| *code == reason.as_str() && text.contains(detail);
        let place = found.iter().position(of_it).unwrap_or_else(|| panic!("{reason}, {detail}: {found:#?}"));
        found.remove(place);
    }

    assert_eq!(road.get("owned").await.expect("an entry").account, account("a"));
    assert_eq!(road.get("beside-foreign").await.expect("an entry").account, account("b"));
    assert!(road.get("beside-odd").await.is_some());
    assert!(road.get("k").await.is_none() && road.get("free").await.is_none() && road.get("held:x").await.is_none());
    assert!(road.metrics.text().contains(r#"hookcache_dead_letters_total{reason="forbidden-account"} 3"#));
}

#[tokio::test]
async fn while_the_store_is_down_what_is_in_hand_stays_hidden_and_then_all_is_stored() {
    let mut redis = Redis::start().await;
    let mut road = Road::new(redis.url());
    road.options.pollers = 1;
    road.options.batches_in_flight_max = 1;
    redis.stop();
    for i in 0..TAKE_MAX {
        road.append_set("up", "a", &[&format!("k{i}")]).await;
    }
    let running = road.consume();
    let reason = paused(&running).await;
    assert!(reason.contains("unavailable"), "{reason}");
    assert!(road.metrics.text().contains("hookcache_consumer_paused 1"));

    // This poll is three visibility timeouts long: whatever the consumer lets go would come here.
    let others = road.taker.take(TAKE_MAX).await.expect("a buffer that answers");
    assert_eq!(others.len(), 0, "{others:?}");
    // More than it can hold, to see that nothing more is taken.
    for i in TAKE_MAX..3 * TAKE_MAX {
        road.append_set("up", "a", &[&format!("k{i}")]).await;
    }
    let depth = road.taker.depth().await.expect("a buffer that answers");
    assert_eq!((depth.visible, depth.in_flight), (2 * TAKE_MAX as u64, TAKE_MAX as u64));

    redis.start_again().await;
    for i in 0..3 * TAKE_MAX {
        road.stored(&format!("k{i}")).await;
    }
    road.empty().await;
    assert_eq!(running.breaker.pause_reason(), None);
    running.stop().await;
    assert_eq!(road.dead_letters().await.len(), 0);
    assert!(road.metrics.text().contains("hookcache_consumer_paused 0"));
}

/// The panic stands for any fault of the program while a batch is in hand.
#[tokio::test]
async fn a_panic_in_mid_batch_loses_nothing_and_holds_up_no_other_batch() {
    let redis = Redis::start().await;
    let mut road = Road::new(redis.url());
    road.options.pollers = 1;
    road.options.batches_in_flight_max = 1;
    for i in 0..2 * TAKE_MAX {
        road.append_set("up", "a", &[&format!("k{i}")]).await;
    }
    let panics = Arc::new(AtomicU64::new(0));
    let seen = panics.clone();
    let running = road.consume_at(Clock::from_fn(move || {
        assert_ne!(seen.fetch_add(1, Ordering::Relaxed), 0, "the first look at this clock breaks it");
        Clock::system().now_ms()
    }));
    for i in 0..2 * TAKE_MAX {
        road.stored(&format!("k{i}")).await;
    }
    road.empty().await;
    running.stop().await;
    assert_eq!(road.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn a_stop_during_an_outage_gives_everything_back_at_once_after_a_single_receive() {
    let mut redis = Redis::start().await;
    let road = Road::new(redis.url());
    redis.stop();
    for i in 0..25 {
        road.append_set("up", "a", &[&format!("k{i}")]).await;
    }
    let running = road.consume();
    paused(&running).await;
    // Three visibility timeouts in which a consumer that lets go and takes again would run up receive counts.
    tokio::time::sleep(3 * VISIBILITY).await;
    running.stop().await;

    let depth = road.taker.depth().await.expect("a buffer that answers");
    assert_eq!((depth.visible, depth.in_flight, depth.dead), (25, 0, 0));
    let mut receive_counts = Vec::new();
    while receive_counts.len() < 25 {
        let taken = road.taker.take(TAKE_MAX).await.expect("a buffer that answers");
        assert!(!taken.is_empty(), "{receive_counts:?}");
        receive_counts.extend(taken.iter().map(|message| message.receive_count));
    }
    assert!(receive_counts.iter().all(|count| *count <= 2), "{receive_counts:?}");
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_hand_and_leaves_the_rest() {
    let redis = Redis::start().await;
    let road = Road::new(redis.url());
    const MESSAGES: usize = 300;
    for i in 0..MESSAGES {
        road.append_set("up", "a", &[&format!("k{i}")]).await;
    }
    let running = road.consume();
    eventually("the first is stored", || async {
        let depth = road.taker.depth().await.expect("a buffer that answers");
        (depth.visible + depth.in_flight < MESSAGES as u64).then_some(())
    })
    .await;
    running.stop().await;

    let depth = road.taker.depth().await.expect("a buffer that answers");
    assert_eq!((depth.in_flight, depth.dead), (0, 0));
    let mut stored = 0;
    for i in 0..MESSAGES {
        stored += u64::from(road.get(&format!("k{i}")).await.is_some());
    }
    assert_eq!(stored + depth.visible, MESSAGES as u64);

    let again = road.consume();
    road.empty().await;
    again.stop().await;
    for i in 0..MESSAGES {
        road.stored(&format!("k{i}")).await;
    }
}

#[tokio::test]
async fn a_batch_that_is_stuck_holds_up_no_other() {
    let redis = Redis::start().await;
    let staller = Staller::start(&redis).await;
    let mut road = Road::new(staller.url());
    // One poller, so that it is not merely another poller that goes on.
    road.options.pollers = 1;
    let running = road.consume();
    road.append_set("up", "a", &["stall-me"]).await;
    staller.until_stalled().await;
    for i in 0..50 {
        road.append_set("up", "a", &[&format!("k{i}")]).await;
    }
    for i in 0..50 {
        road.stored(&format!("k{i}")).await;
    }
    assert_eq!(redis_command(&redis, "EXISTS hc:v1:k:{}:stall-me").await, ":0\r\n");
    staller.go_on();
    eventually("the first batch is stored", || async {
        (redis_command(&redis, "EXISTS hc:v1:k:{}:stall-me").await == ":1\r\n").then_some(())
    })
    .await;
    road.empty().await;
    running.stop().await;
    assert_eq!(road.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn what_fails_alone_while_the_store_takes_others_is_dead_lettered_after_its_attempts() {
    // Redis refuses one key to this user, and the whole pipeline with it.
    let acl = ["--user", "app", "on", ">secret", "~hc:v1:k:{}:ok*", "~hc:v1:c:*", "+@all", "-@dangerous"];
    let redis = Redis::start_with(&[&["--save", ""], &acl[..]].concat()).await;
    let road = Road::new(redis.url().replace("redis://", "redis://app:secret@"));
    let running = road.consume();
    let bad = road.append_set("up", "a", &["forbidden"]).await;
    let sets = AtomicU64::new(0);
    eventually("the one that always fails is a dead letter", || async {
        // Others keep coming, and are stored, beside it.
        let key = format!("ok{}", sets.fetch_add(1, Ordering::Relaxed));
        road.append_set("up", "a", &[&key]).await;
        road.stored(&key).await;
        (!road.dead_letters().await.is_empty()).then_some(())
    })
    .await;
    running.stop().await;
    let letters = road.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].reason, PoisonCode::AttemptsExhausted);
    assert!(letters[0].detail.starts_with("failed 2 times"), "{}", letters[0].detail);
    assert!(String::from_utf8_lossy(&letters[0].body).contains(&bad.id));
}

#[tokio::test]
async fn a_store_that_takes_nothing_at_all_fills_no_dead_letters() {
    let acl = ["--user", "app", "on", ">secret", "~hc:v1:c:*", "+@all", "-@dangerous"];
    let redis = Redis::start_with(&[&["--save", ""], &acl[..]].concat()).await;
    let mut road = Road::new(redis.url().replace("redis://", "redis://app:secret@"));
    road.options.attempts_max = 2;
    for i in 0..5 {
        road.append_set("up", "a", &[&format!("k{i}")]).await;
    }
    let running = road.consume();
    // Each of the five is tried again twice at least: far more than `attempts_max` would allow.
    eventually("all were put off, again and again", || async {
        let text = road.metrics.text();
        let line = text.lines().find(|line| line.starts_with(r#"hookcache_consumer_retries_total{cause="alone"}"#))?;
        let count: u64 = line.rsplit(' ').next()?.parse().ok()?;
        (count >= 15).then_some(())
    })
    .await;
    assert_eq!(road.dead_letters().await.len(), 0);
    // The operator mends the user's rights: everything is stored.
    assert_eq!(redis_command(&redis, "ACL SETUSER app ~*").await, "+OK\r\n");
    for i in 0..5 {
        road.stored(&format!("k{i}")).await;
    }
    road.empty().await;
    running.stop().await;
    assert_eq!(road.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn a_changed_ttl_rule_holds_five_seconds_later_for_what_is_stored_from_then_on() {
    let redis = Redis::start().await;
    let road = Road::new(redis.url());
    let running = road.consume();
    let before = road.append_set("up", "a", &["before"]).await;
    let of_week = road.stored("before").await.expires_at_ms;
    assert_eq!(of_week, Some(before.at_ms + WEEK.as_millis() as u64));

    let scope = Scope::AccountFlow(account("a"), Flow::parse("f").expect("a flow"));
    road.book.set(&scope, Ttl::For(Duration::from_secs(60))).await.expect("a store that answers");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = road.append_set("up", "a", &["after"]).await;
    assert_eq!(road.stored("after").await.expires_at_ms, Some(after.at_ms + 60_000));
    assert_eq!(road.stored("before").await.expires_at_ms, of_week);
    running.stop().await;
}
