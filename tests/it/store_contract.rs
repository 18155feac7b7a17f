//! The contract of `store`, as one suite: every function takes the halves of a store, whichever it is.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hookcache::envelope::{Account, Flow, Version, WebhookKey};
use hookcache::store::{Effect, Entry, Outcome, Reader, RuleBook, Write, WriteError, Writer};
use hookcache::ttl::{Scope, Ttl};

use crate::support::eventually;

pub mod catalog;
pub mod changes;
mod model;

pub use changes::whoever_watches_hears_of_every_change;

pub use catalog::{
    a_change_is_made_only_to_what_was_seen, a_cursor_of_nobodys_is_refused,
    a_prefix_stands_for_itself_whatever_it_holds, a_walk_for_some_accounts_tells_nothing_of_others,
    a_walk_shows_ten_thousand_live_entries_and_nothing_else, an_expiry_in_the_past_removes_and_guards,
    an_expiry_is_rewritten_and_nothing_else_is, changes_have_one_result_each_in_order,
    changes_that_race_with_sets_never_lose_the_newer, one_entry_is_found_without_its_payload,
    what_stays_during_a_walk_is_in_it_whatever_comes_and_goes, what_was_removed_stays_away_and_what_is_newer_comes_in,
};
pub use model::{
    a_hundred_thousand_random_operations_do_what_a_plain_model_does,
    ten_thousand_random_operations_do_what_a_plain_model_does,
};

/// A store under test.
pub struct Halves {
    pub writer: Writer,
    pub reader: Reader,
    pub rules: RuleBook,
}

/// The functions of the suite as tests of one backend. `$open` gives what must outlive the test, and the halves.
///
/// `each alone` makes each a test on a store of its own. `in turn` is for servers that take long to start: one test runs
/// all of them, and has the servers emptied (`empty()`) before each; its output names the one that failed.
macro_rules! contract {
    ($($how:ident)*: $open:path) => {
        contract!($($how)*: $open,
            newer_wins_in_any_order,
            a_duplicate_changes_nothing_and_extends_nothing,
            a_foreign_account_is_refused_and_the_other_keys_are_written,
            ownership_is_checked_before_version,
            a_tombstone_guards_and_owns_nothing,
            a_delete_of_nothing_guards_too,
            what_has_expired_on_arrival_is_not_stored_but_ends_what_is_older,
            guard_and_ownership_end_with_the_entry,
            a_tombstone_that_is_over_already_leaves_nothing,
            what_never_expires_says_so,
            the_newest_of_one_batch_wins_whatever_its_place,
            a_batch_has_one_result_per_key_in_order,
            reads_answer_in_the_order_of_the_keys,
            payloads_and_keys_are_kept_verbatim,
            a_batch_of_a_thousand_keys_and_of_many_megabytes_is_written_whole,
            of_eight_writers_that_race_the_newest_wins,
            rules_are_set_loaded_and_unset,
            whoever_watches_hears_of_every_change,
            a_walk_shows_ten_thousand_live_entries_and_nothing_else,
            a_prefix_stands_for_itself_whatever_it_holds,
            what_stays_during_a_walk_is_in_it_whatever_comes_and_goes,
            a_walk_for_some_accounts_tells_nothing_of_others,
            a_cursor_of_nobodys_is_refused,
            one_entry_is_found_without_its_payload,
            what_was_removed_stays_away_and_what_is_newer_comes_in,
            an_expiry_is_rewritten_and_nothing_else_is,
            an_expiry_in_the_past_removes_and_guards,
            a_change_is_made_only_to_what_was_seen,
            changes_have_one_result_each_in_order,
            changes_that_race_with_sets_never_lose_the_newer,
            a_healthy_store_says_so);
    };
    (each alone: $open:path, $($fact:ident),*) => {
        contract!(@tests $open, $($fact),*, a_hundred_thousand_random_operations_do_what_a_plain_model_does);
    };
    (@tests $open:path, $($fact:ident),*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $fact() {
            let (_alive, halves) = $open().await;
            $crate::store_contract::$fact(&halves).await;
        })*
    };
    (in turn: $open:path, $($fact:ident),*) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn every_fact_in_turn() {
            let (servers, halves) = $open().await;
            $(println!("{}", stringify!($fact));
            servers.empty();
            $crate::store_contract::$fact(&halves).await;)*
            println!("ten_thousand_random_operations_do_what_a_plain_model_does");
            servers.empty();
            $crate::store_contract::ten_thousand_random_operations_do_what_a_plain_model_does(&halves).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn long_a_hundred_thousand_random_operations_do_what_a_plain_model_does() {
            let (_servers, halves) = $open().await;
            $crate::store_contract::a_hundred_thousand_random_operations_do_what_a_plain_model_does(&halves).await;
        }
    };
}
mod on_redis {
    contract!(each alone: crate::redis::started_tracked);
}

mod on_redis_8 {
    contract!(in turn: crate::redis::started_redis_8);
}

mod on_valkey_9 {
    contract!(in turn: crate::redis::started_valkey_9);
}

mod on_a_cluster {
    contract!(in turn: crate::redis::cluster::started);
}

mod on_sentinel {
    contract!(in turn: crate::redis::sentinel::started);
}

#[cfg(feature = "embedded")]
mod on_disk {
    use hookcache::envelope::Clock;
    use hookcache::store::embedded::{Options, open};
    use hookcache::store::{Reader, RuleBook, Writer};

    use super::Halves;
    use crate::support::TempDir;

    contract!(each alone: started);

    async fn started() -> (TempDir, Halves) {
        let folder = TempDir::new().expect("a temporary folder");
        let options = Options { path: folder.path().join("store") };
        let (writer, reader, rules) = open(options, Clock::system()).expect("an empty folder");
        let (writer, reader) = (Writer::Embedded(writer), Reader::Embedded(reader));
        (folder, Halves { writer, reader, rules: RuleBook::Embedded(rules) })
    }
}

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

pub fn account(name: &str) -> Account {
    Account::parse(name).expect("a legal account")
}

pub fn key(name: &str) -> WebhookKey {
    WebhookKey::parse(name).expect("a legal key")
}

pub fn keys(names: &[&str]) -> Vec<WebhookKey> {
    names.iter().map(|name| key(name)).collect()
}

/// The version of an event that happened at `time` (any number: a small one is old).
pub fn version(time: u64) -> Version {
    Version::of_event(0, time, "event")
}

/// A set by `of`, that lives for an hour; its payload tells account and version.
pub fn put(of: &str, time: u64, names: &[&str]) -> Write {
    let effect = Effect::Put {
        flow: Flow::parse("flow").expect("a legal flow"),
        payload: format!("{{\"{of}\":{time}}}").into(),
        expires_at_ms: Some(now_ms() + 3_600_000),
    };
    Write { effect, ..delete(of, time, names) }
}

pub fn put_until(of: &str, time: u64, names: &[&str], until_ms: Option<u64>) -> Write {
    let mut write = put(of, time, names);
    if let Effect::Put { expires_at_ms, .. } = &mut write.effect {
        *expires_at_ms = until_ms;
    }
    write
}

/// A set that lives for so long.
pub fn expiring(of: &str, time: u64, names: &[&str], life: Duration) -> Write {
    put_until(of, time, names, Some(now_ms() + life.as_millis() as u64))
}

pub fn put_payload(of: &str, time: u64, names: &[&str], bytes: impl Into<Bytes>) -> Write {
    let mut write = put(of, time, names);
    if let Effect::Put { payload, .. } = &mut write.effect {
        *payload = bytes.into();
    }
    write
}

pub fn delete(of: &str, time: u64, names: &[&str]) -> Write {
    Write {
        id: format!("id-{of}-{time}"),
        at_ms: now_ms(),
        account: account(of),
        version: version(time),
        keys: keys(names),
        effect: Effect::Delete,
    }
}

impl Halves {
    /// Writes one, and gives its outcomes.
    pub async fn one(&self, write: Write) -> Vec<Outcome> {
        let results = self.writer.write(&[write], now_ms()).await.remove(0);
        results.into_iter().map(|result| result.expect("the store is healthy")).collect()
    }

    pub async fn get(&self, name: &str) -> Option<Entry> {
        self.reader.get(&key(name)).await.expect("the store is healthy")
    }

    pub async fn payload(&self, name: &str) -> Option<String> {
        let entry = self.get(name).await?;
        Some(String::from_utf8(entry.payload.to_vec()).expect("a payload of these tests is text"))
    }
}

pub async fn newer_wins_in_any_order(store: &Halves) {
    let mut rng = fastrand::Rng::with_seed(1);
    for round in 0..20 {
        let name = format!("key-{round}");
        let mut times: Vec<u64> = (1..=6).collect();
        rng.shuffle(&mut times);
        let mut greatest = 0;
        for time in times {
            let want = if time > greatest { Outcome::Written } else { Outcome::Superseded };
            assert_eq!(store.one(put("acme", time, &[&name])).await, [want], "{name} {time}");
            greatest = greatest.max(time);
            assert_eq!(store.payload(&name).await, Some(format!("{{\"acme\":{greatest}}}")));
        }
    }
}

pub async fn a_duplicate_changes_nothing_and_extends_nothing(store: &Halves) {
    let until = now_ms() + 60_000;
    assert_eq!(store.one(put_until("acme", 5, &["k"], Some(until))).await, [Outcome::Written]);
    let before = store.get("k").await;
    assert_eq!(before.as_ref().and_then(|entry| entry.expires_at_ms), Some(until));
    assert_eq!(store.one(put_until("acme", 5, &["k"], Some(until + 9_000_000))).await, [Outcome::Duplicate]);
    assert_eq!(store.one(put_until("acme", 5, &["k"], None)).await, [Outcome::Duplicate]);
    assert_eq!(store.one(put_payload("acme", 5, &["k"], "other")).await, [Outcome::Duplicate]);
    assert_eq!(store.one(delete("acme", 5, &["k"])).await, [Outcome::Duplicate]);
    assert_eq!(store.one(put_until("acme", 5, &["k"], Some(1))).await, [Outcome::Duplicate]);
    assert_eq!(store.get("k").await, before);
}

pub async fn a_foreign_account_is_refused_and_the_other_keys_are_written(store: &Halves) {
    assert_eq!(store.one(put("acme", 5, &["theirs"])).await, [Outcome::Written]);
    let outcomes = store.one(put("other", 9, &["before", "theirs", "after"])).await;
    assert_eq!(outcomes, [Outcome::Written, Outcome::ForeignKey, Outcome::Written]);
    assert_eq!(store.payload("theirs").await.as_deref(), Some("{\"acme\":5}"));
    assert_eq!(store.payload("after").await.as_deref(), Some("{\"other\":9}"));
    assert_eq!(store.one(delete("other", 9, &["theirs"])).await, [Outcome::ForeignKey]);
    assert_eq!(store.one(put_until("other", 9, &["theirs"], Some(1))).await, [Outcome::ForeignKey]);
    assert_eq!(store.payload("theirs").await.as_deref(), Some("{\"acme\":5}"));
}

pub async fn ownership_is_checked_before_version(store: &Halves) {
    assert_eq!(store.one(put("acme", 5, &["k"])).await, [Outcome::Written]);
    for time in [4, 5, 6] {
        assert_eq!(store.one(put("acm", time, &["k"])).await, [Outcome::ForeignKey], "{time}");
        assert_eq!(store.one(put("acmee", time, &["k"])).await, [Outcome::ForeignKey], "{time}");
    }
    let longest = "x".repeat(128);
    assert_eq!(store.one(put(&longest, 5, &["long"])).await, [Outcome::Written]);
    assert_eq!(store.one(put(&longest[1..], 6, &["long"])).await, [Outcome::ForeignKey]);
    assert_eq!(store.one(put(&longest, 6, &["long"])).await, [Outcome::Written]);
}

pub async fn a_tombstone_guards_and_owns_nothing(store: &Halves) {
    assert_eq!(store.one(put("acme", 5, &["k"])).await, [Outcome::Written]);
    assert_eq!(store.one(delete("acme", 4, &["k"])).await, [Outcome::Superseded]);
    assert_eq!(store.one(delete("acme", 6, &["k"])).await, [Outcome::Deleted]);
    assert_eq!(store.get("k").await, None);
    assert_eq!(store.one(delete("acme", 6, &["k"])).await, [Outcome::Duplicate]);
    for of in ["acme", "other"] {
        assert_eq!(store.one(put(of, 5, &["k"])).await, [Outcome::Superseded], "{of}");
    }
    assert_eq!(store.get("k").await, None);
    assert_eq!(store.one(put("other", 7, &["k"])).await, [Outcome::Written]);
    assert_eq!(store.payload("k").await.as_deref(), Some("{\"other\":7}"));
    assert_eq!(store.one(put("acme", 8, &["k"])).await, [Outcome::ForeignKey]);
}

pub async fn a_delete_of_nothing_guards_too(store: &Halves) {
    assert_eq!(store.one(delete("acme", 6, &["k"])).await, [Outcome::Deleted]);
    assert_eq!(store.one(put("other", 5, &["k"])).await, [Outcome::Superseded]);
    assert_eq!(store.one(delete("other", 7, &["k"])).await, [Outcome::Deleted]);
    assert_eq!(store.one(put("acme", 6, &["k"])).await, [Outcome::Superseded]);
}

pub async fn what_has_expired_on_arrival_is_not_stored_but_ends_what_is_older(store: &Halves) {
    let expired = |time, name| put_until("acme", time, &[name], Some(now_ms() - 1));

    assert_eq!(store.one(expired(5, "absent")).await, [Outcome::Expired]);
    assert_eq!(store.get("absent").await, None);
    assert_eq!(store.one(put("other", 1, &["absent"])).await, [Outcome::Written], "it left no guard");

    assert_eq!(store.one(put("acme", 4, &["older"])).await, [Outcome::Written]);
    assert_eq!(store.one(expired(5, "older")).await, [Outcome::Expired]);
    assert_eq!(store.get("older").await, None);
    assert_eq!(store.one(put("acme", 4, &["older"])).await, [Outcome::Superseded]);
    assert_eq!(store.one(expired(5, "older")).await, [Outcome::Duplicate]);
    assert_eq!(store.one(put("other", 6, &["older"])).await, [Outcome::Written]);

    assert_eq!(store.one(put("acme", 6, &["newer"])).await, [Outcome::Written]);
    assert_eq!(store.one(expired(5, "newer")).await, [Outcome::Superseded]);
    assert_eq!(store.payload("newer").await.as_deref(), Some("{\"acme\":6}"));

    assert_eq!(store.one(delete("acme", 2, &["dead"])).await, [Outcome::Deleted]);
    assert_eq!(store.one(expired(5, "dead")).await, [Outcome::Expired]);
    assert_eq!(store.one(put("acme", 3, &["dead"])).await, [Outcome::Written], "the old tombstone stayed");

    let now = now_ms();
    let at_now = put_until("acme", 7, &["now"], Some(now));
    let results = store.writer.write(&[at_now], now).await;
    assert_eq!(results, [[Ok(Outcome::Expired)]], "an entry is gone at its expiry, not after it");
}

pub async fn guard_and_ownership_end_with_the_entry(store: &Halves) {
    let until = now_ms() + 300;
    assert_eq!(store.one(put_until("acme", 5, &["k"], Some(until))).await, [Outcome::Written]);
    eventually("the entry's end", || async { store.get("k").await.is_none().then_some(()) }).await;
    assert!(now_ms() >= until, "it ended too soon");
    assert_eq!(store.one(put("other", 1, &["k"])).await, [Outcome::Written]);
}

pub async fn a_tombstone_that_is_over_already_leaves_nothing(store: &Halves) {
    assert_eq!(store.one(put("acme", 5, &["k"])).await, [Outcome::Written]);
    let ancient = Write { at_ms: 1, ..delete("acme", 6, &["k"]) };
    assert_eq!(store.one(ancient.clone()).await, [Outcome::Deleted]);
    assert_eq!(store.get("k").await, None);
    assert_eq!(store.one(put("other", 1, &["k"])).await, [Outcome::Written]);
    assert_eq!(store.one(Write { keys: keys(&["absent"]), ..ancient }).await, [Outcome::Deleted]);
}

pub async fn what_never_expires_says_so(store: &Halves) {
    assert_eq!(store.one(put_until("acme", 5, &["k"], None)).await, [Outcome::Written]);
    let entry = store.get("k").await.expect("it is there");
    assert_eq!(entry.expires_at_ms, None);
    assert_eq!(store.one(put("acme", 6, &["k"])).await, [Outcome::Written]);
    assert!(store.get("k").await.expect("it is there").expires_at_ms.is_some());
    assert_eq!(store.one(put_until("acme", 7, &["k"], None)).await, [Outcome::Written]);
    assert_eq!(store.get("k").await.expect("it is there").expires_at_ms, None);
}

pub async fn the_newest_of_one_batch_wins_whatever_its_place(store: &Halves) {
    let mut rng = fastrand::Rng::with_seed(2);
    for round in 0..50 {
        let names = [format!("a-{round}"), format!("b-{round}")];
        let mut batch: Vec<Write> = (1..=5).map(|time| put("acme", time, &[&names[0], &names[1]])).collect();
        batch.push(put("acme", 5, &[&names[0]]));
        rng.shuffle(&mut batch);
        for (write, results) in batch.iter().zip(store.writer.write(&batch, now_ms()).await) {
            assert_eq!(results.len(), write.keys.len());
            assert!(results.iter().all(Result::is_ok), "{results:?}");
        }
        for name in &names {
            assert_eq!(store.payload(name).await.as_deref(), Some("{\"acme\":5}"), "{name}");
        }
    }
}

pub async fn a_batch_has_one_result_per_key_in_order(store: &Halves) {
    assert!(store.writer.write(&[], now_ms()).await.is_empty());
    assert_eq!(store.one(put("acme", 5, &["mine", "newer"])).await, [Outcome::Written; 2]);
    assert_eq!(store.one(put("other", 5, &["theirs"])).await, [Outcome::Written]);
    let batch = [
        put("acme", 3, &["newer", "fresh-1"]),
        put("acme", 3, &[]),
        delete("acme", 9, &["theirs", "mine"]),
        put_until("acme", 9, &["fresh-2"], Some(1)),
        put("other", 5, &["theirs"]),
    ];
    let results = store.writer.write(&batch, now_ms()).await;
    let results: Vec<Vec<Outcome>> =
        results.into_iter().map(|keys| keys.into_iter().map(Result::unwrap).collect()).collect();
    let want = [
        vec![Outcome::Superseded, Outcome::Written],
        vec![],
        vec![Outcome::ForeignKey, Outcome::Deleted],
        vec![Outcome::Expired],
        vec![Outcome::Duplicate],
    ];
    assert_eq!(results, want);
}

pub async fn reads_answer_in_the_order_of_the_keys(store: &Halves) {
    assert!(store.reader.get_many(&[]).await.is_empty());
    let names: Vec<String> = (0..300).map(|i| format!("key-{i}")).collect();
    for (i, name) in names.iter().enumerate().filter(|(i, _)| i % 3 != 0) {
        assert_eq!(store.one(put("acme", i as u64, &[name])).await, [Outcome::Written]);
    }
    let asked: Vec<WebhookKey> = names.iter().map(|name| key(name)).chain([key("key-1")]).collect();
    let read = store.reader.get_many(&asked).await;
    assert_eq!(read.len(), asked.len());
    for (i, result) in read.into_iter().enumerate() {
        let want = if i == names.len() { Some(1) } else { (i % 3 != 0).then_some(i) };
        let payload = result.unwrap().map(|entry| entry.payload);
        assert_eq!(payload, want.map(|i| format!("{{\"acme\":{i}}}").into()), "{i}");
    }
}

pub async fn payloads_and_keys_are_kept_verbatim(store: &Halves) {
    let emoji = "\u{1F980}".repeat(512);
    let names = ["ttl", "a/b", "%2F", "{x}", "}{", "a b", "hc:v1:c:ttl", "*", &emoji];
    let huge = format!("\"{}\"", "x".repeat(1_000_000));
    for (i, name) in names.into_iter().enumerate() {
        for (j, payload) in ["", "0", "{ \"a\" : 1e400 }\r\n", "\"\\ud800\"", &huge].into_iter().enumerate() {
            let time = (10 * i + j) as u64 + 1;
            assert_eq!(store.one(put_payload("acme", time, &[name], payload.to_owned())).await, [Outcome::Written]);
            let entry = store.get(name).await.expect("it is there");
            assert_eq!(entry.payload, payload.as_bytes(), "{name}");
            assert_eq!((entry.version, entry.account, entry.flow.as_str()), (version(time), account("acme"), "flow"));
            assert_eq!(entry.id, format!("id-acme-{time}"));
        }
    }
    assert!(store.rules.load().await.unwrap().is_empty(), "no webhook key reaches our own records");
}

pub async fn a_batch_of_a_thousand_keys_and_of_many_megabytes_is_written_whole(store: &Halves) {
    let names: Vec<String> = (0..1_000).map(|i| format!("key-{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let wide = put_payload("acme", 5, &names, "x".repeat(10_000));
    let mut batch = vec![wide];
    let deep: Vec<String> = (0..20).map(|i| format!("deep-{i}")).collect();
    batch.extend(deep.iter().map(|name| put_payload("acme", 5, &[name], "y".repeat(1_000_000))));
    let results = store.writer.write(&batch, now_ms()).await;
    assert_eq!(results.iter().map(Vec::len).collect::<Vec<_>>()[..2], [1_000, 1]);
    assert!(results.into_iter().flatten().all(|result| result == Ok(Outcome::Written)));
    let read = store.reader.get_many(&keys(&names)).await;
    assert!(read.into_iter().all(|entry| entry.unwrap().is_some_and(|entry| entry.payload.len() == 10_000)));
    for name in deep {
        assert_eq!(store.get(&name).await.expect("it is there").payload.len(), 1_000_000);
    }
}

pub async fn of_eight_writers_that_race_the_newest_wins(store: &Halves) {
    const ROUNDS: usize = 40;
    let names: Vec<String> = (0..20).map(|i| format!("key-{i}")).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..8 {
        let (writer, names) = (store.writer.clone(), names.clone());
        tasks.spawn(async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut sent: Vec<(WebhookKey, u64)> = vec![];
            for _ in 0..ROUNDS {
                let batch: Vec<Write> = (0..5)
                    .map(|_| put("acme", rng.u64(1..1_000_000), &[names[rng.usize(..names.len())].as_str()]))
                    .collect();
                let results = writer.write(&batch, now_ms()).await;
                assert!(results.iter().flatten().all(Result::is_ok), "{results:?}");
                sent.extend(batch.iter().map(|write| (write.keys[0].clone(), write.version.time_ms())));
            }
            sent
        });
    }
    let mut greatest: HashMap<WebhookKey, u64> = HashMap::new();
    for (key, time) in tasks.join_all().await.into_iter().flatten() {
        let held = greatest.entry(key).or_default();
        *held = time.max(*held);
    }
    for (key, time) in greatest {
        let entry = store.reader.get(&key).await.unwrap().expect("it is there");
        assert_eq!(entry.version.time_ms(), time, "{key}");
        assert_eq!(entry.payload, format!("{{\"acme\":{time}}}"), "{key}");
    }
}

pub async fn rules_are_set_loaded_and_unset(store: &Halves) {
    let seconds = |n| Ttl::For(Duration::from_secs(n));
    let (one, two) = (account("a:b"), Flow::parse("a:b").expect("a legal flow"));
    let scopes = [Scope::Account(one.clone()), Scope::Flow(two.clone()), Scope::AccountFlow(one, two)];
    assert_eq!(store.rules.load().await.unwrap(), []);
    for (i, scope) in scopes.iter().enumerate() {
        store.rules.set(scope, seconds(i as u64 + 1)).await.unwrap();
    }
    store.rules.set(&scopes[1], Ttl::Never).await.unwrap();
    let loaded: HashMap<Scope, Ttl> = store.rules.load().await.unwrap().into_iter().collect();
    let want = [(scopes[0].clone(), seconds(1)), (scopes[1].clone(), Ttl::Never), (scopes[2].clone(), seconds(3))];
    assert_eq!(loaded, want.into());
    assert!(store.rules.unset(&scopes[1]).await.unwrap());
    assert!(!store.rules.unset(&scopes[1]).await.unwrap());
    assert_eq!(store.rules.load().await.unwrap().len(), 2);
}

pub async fn a_healthy_store_says_so(store: &Halves) {
    assert_eq!(store.writer.check().await, Ok(()));
    assert_eq!(store.reader.check().await, Ok(()));
}

/// Every result of a batch, when none of them is known.
pub fn all_unavailable(results: &[Vec<Result<Outcome, WriteError>>]) -> bool {
    results.iter().flatten().all(|result| matches!(result, Err(WriteError::Unavailable(_))))
}
