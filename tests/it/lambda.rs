//! The Lambda as a process: between a queue and Redis, behind stand-ins of the Runtime API and of the event source
//! mapping.

mod bad_input;
mod deployed;
mod faults;
mod mapping;
mod page_links;
mod webhooks;

use std::collections::BTreeSet;
use std::time::Duration;

use hookcache::envelope::wire::{Kind, encode};
use hookcache::envelope::{Account, Clock, Flow, Stamper, WebhookKey};
use hookcache::store::redis::{self, Mode};
use hookcache::store::{Acknowledge, Entry, Reader, RuleBook};
use hookcache::ttl::{Scope, Ttl};
use serde_json::Value;

use crate::support::lambda::{Mapping, Outcome, record};
use crate::support::sqs::client;
use crate::support::stack::Stack;
use crate::support::{Lambda, Redis, TempDir, eventually};

/// Far more than a batch needs.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(60);

/// A function over Redis alone, for batches that a test hands over itself: its queues lead nowhere.
async fn over_redis(url: String, more: &[(&str, &str)]) -> Lambda {
    let environment = [
        ("HOOKCACHE_STORE__URL", url.as_str()),
        ("HOOKCACHE_BUFFER__QUEUE_URL", "http://127.0.0.1:1/0/queue"),
        ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", "http://127.0.0.1:1/0/dead"),
        ("HOOKCACHE_BUFFER__ENDPOINT_URL", "http://127.0.0.1:1"),
    ];
    Lambda::start(&[&environment, more].concat()).await
}

/// Redis as the test reads and changes it behind the function's back.
struct Store {
    reader: Reader,
    book: RuleBook,
}

impl Store {
    fn new(redis: &Redis) -> Self {
        let options = redis::Options {
            mode: Mode::Standalone { url: redis.url() },
            username_file: None,
            password_file: None,
            ca_file: None,
            acknowledge: Acknowledge::Memory,
            read_connections: 1,
            write_connections: 1,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(5),
            tracking: redis::Tracking::Off,
        };
        let (_, reader, book) = redis::open(&options, Clock::system()).expect("well-formed options");
        Self { reader: Reader::Redis(reader), book: RuleBook::Redis(book) }
    }

    async fn get(&self, key: &str) -> Option<Entry> {
        self.reader.get(&WebhookKey::parse(key).expect("a key")).await.expect("a store that answers")
    }
}

/// A set as it lies in the queue.
fn set(by: &str, account: &str, key: &str) -> String {
    let request =
        format!(r#"{{"accountId":"{account}","flowId":"f","webhookKeys":["{key}"],"data":{{"of":"{key}"}}}}"#);
    wire_form(by, Kind::Set, &request)
}

fn wire_form(by: &str, kind: Kind, request: &str) -> String {
    let body = encode(&Stamper::new(Clock::system()).stamp(), by, kind, request).expect("small enough");
    String::from_utf8(body.to_vec()).expect("it is JSON")
}

/// The ids that a function returned: those messages come again.
fn returned(outcome: Outcome) -> BTreeSet<String> {
    let Outcome::Answered(body) = outcome else { panic!("no answer: {outcome:?}") };
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    let failures = answer["batchItemFailures"].as_array().unwrap_or_else(|| panic!("{answer}"));
    failures.iter().map(|failure| failure["itemIdentifier"].as_str().expect("an id").to_owned()).collect()
}

/// Rounds of the mapping until so many messages are gone from the queue.
async fn until_deleted(mapping: &Mapping, lambda: &mut Lambda, count: usize) {
    let state = tokio::sync::Mutex::new((lambda, 0));
    eventually(&format!("{count} messages are done"), || async {
        let (lambda, deleted) = &mut *state.lock().await;
        *deleted += mapping.round(lambda).await.deleted;
        (*deleted >= count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_the_queue_holds_is_stored_and_poison_is_dead_lettered_at_once_with_its_reason() {
    let stack = Stack::start().await;
    // The same file as the server's, bundled with the program.
    let folder = TempDir::new().expect("a temporary folder");
    let callers = "[[auth.callers]]\nname = \"arn:aws:sts::1:assumed-role/up/*\"\naccounts = [\"acme\"]\n";
    std::fs::write(folder.path().join("hookcache.toml"), stack.toml() + callers).expect("it is ours");
    let folder = folder.path().display().to_string();
    let mut lambda = Lambda::start(&[("LAMBDA_TASK_ROOT", &folder)]).await;
    let mapping = Mapping::new(client(&stack.sqs.endpoint_url()), &stack.queues.queue_url, FUNCTION_TIMEOUT);

    let by = "arn:aws:sts::1:assumed-role/up/session-1";
    let sets: Vec<String> = (0..12).map(|i| set(by, "acme", &format!("k{i}"))).collect();
    let forbidden = set(by, "other", "theirs");
    for body in sets.iter().chain([&forbidden, &"not ours".to_owned()]) {
        stack.put(body).await;
    }
    until_deleted(&mapping, &mut lambda, 14).await;

    let store = Store::new(&stack.redis);
    for i in 0..12 {
        let entry = store.get(&format!("k{i}")).await.expect("an entry");
        assert_eq!(entry.payload, format!("{{\"of\":\"k{i}\"}}").as_bytes());
    }
    assert!(store.get("theirs").await.is_none());
    let mut letters = stack.take_dead(2).await;
    letters.sort_by(|a, b| a.reason().cmp(b.reason()));
    assert_eq!(
        letters.iter().map(|letter| letter.reason()).collect::<Vec<_>>(),
        ["forbidden-account", "not-decodable"]
    );
    assert_eq!((&letters[0].body, &*letters[1].body), (&forbidden, "not ours"));
    assert!(letters[0].detail().contains(by) && letters[0].detail().contains("\"other\""), "{}", letters[0].detail());

    // One line for each message, with its names and its reason.
    let id_of = |body: &str| serde_json::from_str::<Value>(body).expect("JSON")["id"].clone();
    let stored = lambda.logged("stored", 12).await;
    assert!(sets.iter().all(|body| stored.iter().any(|line| line["id"] == id_of(body))), "{stored:?}");
    let buried = lambda.logged("dead-lettered", 2).await;
    let line = buried.iter().find(|line| line["id"] == id_of(&forbidden)).expect("a line");
    assert_eq!((&line["reason"], &line["level"]), (&"forbidden-account".into(), &"WARN".into()));
    assert!(buried.iter().all(|line| line["message_id"].as_str().is_some_and(|id| !id.is_empty())), "{buried:?}");

    let delete = r#"{"accountId":"acme","webhookKeys":["k0"]}"#;
    stack.put(&wire_form(by, Kind::Delete, delete)).await;
    until_deleted(&mapping, &mut lambda, 1).await;
    assert!(store.get("k0").await.is_none() && store.get("k1").await.is_some());
    assert_eq!(mapping.round(&mut lambda).await.received, 0, "nothing is left");
}

#[tokio::test]
async fn a_message_that_comes_twice_is_stored_once_and_a_high_receive_count_is_no_poison() {
    let redis = Redis::start().await;
    let lambda = over_redis(redis.url(), &[]).await;
    let body = set("up", "acme", "k");
    let mut often = record("2", &set("up", "acme", "often"));
    often["attributes"]["ApproximateReceiveCount"] = "999".into();
    let batch = [record("1", &body), record("1-again", &body), often];
    assert_eq!(returned(lambda.invoke(&batch).await), BTreeSet::new());
    let store = Store::new(&redis);
    let version = store.get("k").await.expect("an entry").version;
    assert!(store.get("often").await.is_some());
    assert_eq!(returned(lambda.invoke(&batch).await), BTreeSet::new());
    assert_eq!(store.get("k").await.expect("an entry").version, version);
}

#[tokio::test]
async fn a_function_keeps_one_connection_to_redis() {
    let redis = Redis::start().await;
    let lambda = over_redis(redis.url(), &[]).await;
    for i in 0..3 {
        let batch: Vec<Value> =
            (0..10).map(|j| record(&j.to_string(), &set("up", "acme", &format!("k{i}-{j}")))).collect();
        assert_eq!(returned(lambda.invoke(&batch).await), BTreeSet::new());
    }
    let clients = redis.cli(&["CLIENT", "LIST"]);
    assert_eq!(clients.lines().filter(|client| !client.contains("cmd=client")).count(), 1, "{clients}");
}

#[tokio::test]
async fn a_changed_ttl_rule_holds_five_seconds_later_also_after_a_thaw() {
    let redis = Redis::start().await;
    let (lambda, store) = (over_redis(redis.url(), &[]).await, Store::new(&redis));
    assert_eq!(returned(lambda.invoke(&[record("1", &set("up", "acme", "before"))]).await), BTreeSet::new());
    let of_default = store.get("before").await.expect("an entry").expires_at_ms;
    lambda.freeze().await;
    let scope = Scope::AccountFlow(Account::parse("acme").expect("an account"), Flow::parse("f").expect("a flow"));
    store.book.set(&scope, Ttl::For(Duration::from_secs(60))).await.expect("a store that answers");
    tokio::time::sleep(Duration::from_secs(5)).await;
    lambda.thaw();
    let after = set("up", "acme", "after");
    let at: Value = serde_json::from_str(&after).expect("JSON");
    assert_eq!(returned(lambda.invoke(&[record("2", &after)]).await), BTreeSet::new());
    let expires_at_ms = store.get("after").await.expect("an entry").expires_at_ms;
    assert_eq!(expires_at_ms, at["at"].as_u64().map(|at_ms| at_ms + 60_000));
    assert_eq!(store.get("before").await.expect("an entry").expires_at_ms, of_default);
}
