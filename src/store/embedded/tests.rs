use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::super::Effect;
use super::*;
use crate::envelope::{Account, Flow, Version};

const START: u64 = 1_767_225_600_000;
const HOUR: u64 = 3_600_000;

fn hands() -> (Arc<AtomicU64>, Clock) {
    let hands = Arc::new(AtomicU64::new(START));
    let shown = hands.clone();
    (hands, Clock::from_fn(move || shown.load(Ordering::Relaxed)))
}

fn in_memory() -> Storage {
    Storage::given(|| Ok(Box::new(redb::backends::InMemoryBackend::new())))
}

fn key(name: &str) -> WebhookKey {
    WebhookKey::parse(name).unwrap()
}

fn write(account: &str, time_ms: u64, keys: &[&str], effect: Effect) -> Write {
    Write {
        id: format!("id-{time_ms}"),
        at_ms: time_ms,
        account: Account::parse(account).unwrap(),
        version: Version::of_event(0, time_ms, "event"),
        keys: keys.iter().map(|name| key(name)).collect(),
        effect,
    }
}

fn put(payload: &str, expires_at_ms: Option<u64>) -> Effect {
    let flow = Flow::parse("flow").unwrap();
    Effect::Put { flow, payload: Bytes::copy_from_slice(payload.as_bytes()), expires_at_ms }
}

async fn one(writer: &Writer, write: Write, now_ms: u64) -> Outcome {
    writer.write(&[write], now_ms).await[0][0].clone().unwrap()
}

async fn payload(reader: &Reader, name: &str) -> Option<String> {
    let entry = reader.get(&key(name)).await.unwrap()?;
    Some(String::from_utf8(entry.payload.to_vec()).unwrap())
}

#[tokio::test]
async fn newer_wins_whatever_the_order_and_the_same_event_twice_changes_nothing() {
    let (_, clock) = hands();
    let (writer, reader, _) = open_on(in_memory(), clock).unwrap();
    let at = |time_ms: u64, text: &str| write("a", time_ms, &["k"], put(text, Some(START + HOUR)));
    assert_eq!(one(&writer, at(START + 2, "two"), START).await, Outcome::Written);
    assert_eq!(one(&writer, at(START + 1, "one"), START).await, Outcome::Superseded);
    let longer = write("a", START + 2, &["k"], put("two", Some(START + 2 * HOUR)));
    assert_eq!(one(&writer, longer, START).await, Outcome::Duplicate);
    let entry = reader.get(&key("k")).await.unwrap().unwrap();
    assert_eq!((&entry.payload[..], entry.expires_at_ms), (&b"two"[..], Some(START + HOUR)), "nothing was extended");

    let batch = [at(START + 9, "nine"), at(START + 5, "five"), at(START + 7, "seven")];
    let outcomes: Vec<_> = writer.write(&batch, START).await.into_iter().flatten().map(Result::unwrap).collect();
    assert_eq!(outcomes, [Outcome::Written, Outcome::Superseded, Outcome::Superseded]);
    assert_eq!(payload(&reader, "k").await.as_deref(), Some("nine"));
}

#[tokio::test]
async fn the_account_of_a_live_entry_owns_its_key_and_a_tombstone_owns_nothing() {
    let (hands, clock) = hands();
    let (writer, reader, _) = open_on(in_memory(), clock).unwrap();
    let of = |account: &str, time_ms: u64| write(account, time_ms, &["k"], put(account, Some(START + HOUR)));
    assert_eq!(one(&writer, of("a", START), START).await, Outcome::Written);
    assert_eq!(one(&writer, of("b", START + 1), START).await, Outcome::ForeignKey, "even when it is newer");
    assert_eq!(one(&writer, write("b", START + 1, &["k"], Effect::Delete), START).await, Outcome::ForeignKey);
    assert_eq!(one(&writer, write("a", START + 5, &["k"], Effect::Delete), START).await, Outcome::Deleted);
    assert_eq!(payload(&reader, "k").await, None);
    assert_eq!(one(&writer, of("b", START + 4), START).await, Outcome::Superseded, "the tombstone guards");
    assert_eq!(one(&writer, of("b", START + 6), START).await, Outcome::Written);
    // Once it has expired, its owner owns nothing any more.
    hands.store(START + HOUR, Ordering::Relaxed);
    let after = write("c", START + 1, &["k"], put("c", None));
    assert_eq!(one(&writer, after, START + HOUR).await, Outcome::Written);
}

#[tokio::test]
async fn what_expired_on_arrival_is_not_stored_but_removes_an_older_entry() {
    let (_, clock) = hands();
    let (writer, reader, _) = open_on(in_memory(), clock).unwrap();
    let gone = |time_ms: u64| write("a", time_ms, &["k"], put("gone", Some(START)));
    assert_eq!(one(&writer, gone(START), START).await, Outcome::Expired);
    assert_eq!(one(&writer, write("a", START, &["k"], put("old", None)), START).await, Outcome::Written);
    assert_eq!(one(&writer, gone(START + 2), START).await, Outcome::Expired);
    assert_eq!(payload(&reader, "k").await, None);
    let between = write("a", START + 1, &["k"], put("between", None));
    assert_eq!(one(&writer, between, START).await, Outcome::Superseded, "the tombstone has the version of that put");
}

#[tokio::test]
async fn an_entry_is_gone_at_its_end_and_leaves_the_file_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let (writer, reader, _book) = open(Options { path: path.clone() }, Clock::system()).unwrap();
    let now = Clock::system().now_ms();
    let names: Vec<String> = (0..1_200).map(|number| format!("k{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    writer.write(&[write("a", now, &names, put("x", Some(now + 300)))], now).await;
    one(&writer, write("a", now, &["stays"], put("x", None)), now).await;
    let rows = || {
        writer.committer.read(|transaction| {
            Ok(redb::ReadableTableMetadata::len(
                &transaction.open_table(redb::TableDefinition::<&str, &[u8]>::new("entries"))?,
            )?)
        })
    };
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while rows().await.unwrap() > 1 {
        assert!(std::time::Instant::now() < until, "all that has ended is purged");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(payload(&reader, "k0").await, None);
    assert_eq!(payload(&reader, "stays").await.as_deref(), Some("x"));
}

#[tokio::test]
async fn a_reader_never_sees_what_has_expired_even_if_it_is_still_in_the_file() {
    let (hands, clock) = hands();
    let (writer, reader, _book) = open_on(in_memory(), clock).unwrap();
    one(&writer, write("a", START, &["k"], put("x", Some(START + HOUR))), START).await;
    hands.store(START + HOUR - 1, Ordering::Relaxed);
    assert_eq!(payload(&reader, "k").await.as_deref(), Some("x"));
    hands.store(START + HOUR, Ordering::Relaxed);
    assert_eq!(payload(&reader, "k").await, None);
}

#[tokio::test]
async fn rules_are_kept_replaced_and_removed_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let account = Account::parse("acme").unwrap();
    let flow = Flow::parse("flow").unwrap();
    let scopes =
        [Scope::AccountFlow(account.clone(), flow.clone()), Scope::Account(account.clone()), Scope::Flow(flow.clone())];
    let minute = Ttl::For(std::time::Duration::from_secs(60));
    {
        let (_, _, book) = open(Options { path: path.clone() }, Clock::system()).unwrap();
        assert_eq!(book.load().await.unwrap(), []);
        for scope in &scopes {
            book.set(scope, Ttl::Never).await.unwrap();
        }
        book.set(&scopes[1], minute).await.unwrap();
        assert!(book.unset(&scopes[2]).await.unwrap());
        assert!(!book.unset(&scopes[2]).await.unwrap(), "tells whether there was one");
    }
    let (_, _, book) = open(Options { path }, Clock::system()).unwrap();
    let mut rules = book.load().await.unwrap();
    rules.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(rules, [(scopes[0].clone(), Ttl::Never), (scopes[1].clone(), minute)]);
}

#[tokio::test]
async fn a_value_that_we_did_not_write_is_left_alone_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    drop(open(Options { path: path.clone() }, Clock::system()).unwrap());
    {
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let table = redb::TableDefinition::<&str, &[u8]>::new("entries");
        transaction.open_table(table).unwrap().insert("k", &b"\x09garbage"[..]).unwrap();
        transaction.commit().unwrap();
    }
    let (writer, reader, _) = open(Options { path }, Clock::system()).unwrap();
    assert_eq!(one(&writer, write("a", START, &["k"], put("x", None)), START).await, Outcome::Unreadable);
    assert_eq!(one(&writer, write("a", START, &["k"], Effect::Delete), START).await, Outcome::Unreadable);
    let many = reader.get_many(&[key("k"), key("other")]).await;
    assert!(matches!(many[0], Err(ReadError::Unreadable(_))), "{many:?}");
    assert_eq!(many[1], Ok(None));
}

/// What a key holds in the model.
#[derive(Clone)]
struct Held {
    version: Version,
    account: Option<String>,
    payload: String,
    ends_ms: Option<u64>,
}

/// The contract once more, in the plainest words.
fn model(keys: &mut HashMap<String, Held>, name: &str, write: &Write, now_ms: u64) -> Outcome {
    if keys.get(name).is_some_and(|held| held.ends_ms.is_some_and(|at| at <= now_ms)) {
        keys.remove(name);
    }
    let tombstone = Held {
        version: write.version,
        account: None,
        payload: String::new(),
        ends_ms: Some(write.tombstone_until_ms()),
    };
    if let Some(held) = keys.get(name) {
        if held.account.as_ref().is_some_and(|owner| owner != write.account.as_str()) {
            return Outcome::ForeignKey;
        }
        if held.version == write.version {
            return Outcome::Duplicate;
        }
        if held.version > write.version {
            return Outcome::Superseded;
        }
    }
    match &write.effect {
        Effect::Delete => {
            keys.insert(name.to_owned(), tombstone);
            Outcome::Deleted
        }
        Effect::Put { expires_at_ms: Some(at), .. } if *at <= now_ms => {
            if keys.get(name).is_some_and(|held| held.account.is_some()) {
                keys.insert(name.to_owned(), tombstone);
            }
            Outcome::Expired
        }
        Effect::Put { payload, expires_at_ms, .. } => {
            let held = Held {
                version: write.version,
                account: Some(write.account.to_string()),
                payload: String::from_utf8(payload.to_vec()).unwrap(),
                ends_ms: *expires_at_ms,
            };
            keys.insert(name.to_owned(), held);
            Outcome::Written
        }
    }
}

#[tokio::test]
async fn twenty_thousand_random_writes_end_as_a_plain_model_says() {
    let (hands, clock) = hands();
    let (writer, reader, _book) = open_on(in_memory(), clock).unwrap();
    let mut rng = fastrand::Rng::with_seed(20_000);
    let mut keys = HashMap::new();
    let mut seen: HashMap<Outcome, usize> = HashMap::new();
    let mut done = 0;
    while done < 20_000 {
        let now = hands.fetch_add(rng.u64(0..60_000), Ordering::Relaxed);
        let now = now.max(hands.load(Ordering::Relaxed));
        let batch: Vec<Write> = (0..rng.usize(1..40)).map(|_| random_write(&mut rng, now)).collect();
        let got = writer.write(&batch, now).await;
        for (write, outcomes) in batch.iter().zip(got) {
            for (name, outcome) in write.keys.iter().zip(outcomes) {
                let want = model(&mut keys, name.as_str(), write, now);
                assert_eq!(outcome, Ok(want), "{write:?} at {now}");
                *seen.entry(want).or_default() += 1;
                done += 1;
            }
        }
        let name = format!("k{}", rng.u8(0..20));
        let want = keys.get(&name).filter(|held| held.account.is_some() && held.ends_ms.is_none_or(|at| at > now));
        assert_eq!(payload(&reader, &name).await, want.map(|held| held.payload.clone()), "{name}");
    }
    assert_eq!(seen.len(), 6, "every outcome but Unreadable was met: {seen:?}");
}

fn random_write(rng: &mut fastrand::Rng, now: u64) -> Write {
    let time_ms = now - rng.u64(0..20) * 60_000;
    let names: Vec<String> = (0..rng.usize(1..4)).map(|_| format!("k{}", rng.u8(0..20))).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let account = *rng.choice(&["a", "a", "a", "b"]).unwrap();
    let effect = match rng.u8(0..10) {
        0 | 1 => Effect::Delete,
        2 => put(&rng.u64(..).to_string(), None),
        _ => put(&rng.u64(..).to_string(), Some(time_ms + rng.u64(0..30) * 60_000)),
    };
    write(account, time_ms, &names, effect)
}
