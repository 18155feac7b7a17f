//! The contract once more, as a plain model, and random operations that hold a store to it.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use hookcache::envelope::{Account, Version, WebhookKey};
use hookcache::store::{Effect, Outcome, Write};

use super::{Halves, delete, key, keys, now_ms, put, put_until};

/// What the model holds under a key. In its time nothing expires but on arrival.
#[derive(Clone, PartialEq, Debug)]
struct Held {
    version: Version,
    /// `None` for a tombstone.
    entry: Option<(Account, Bytes, Option<u64>)>,
}

/// What a write does to one key.
fn model_write(model: &mut HashMap<WebhookKey, Held>, key: &WebhookKey, write: &Write, now_ms: u64) -> Outcome {
    let held = model.get(key).cloned();
    let live = held.as_ref().and_then(|held| held.entry.as_ref());
    if live.is_some_and(|(owner, ..)| *owner != write.account) {
        return Outcome::ForeignKey;
    }
    match held.as_ref().map(|held| write.version.cmp(&held.version)) {
        Some(std::cmp::Ordering::Equal) => return Outcome::Duplicate,
        Some(std::cmp::Ordering::Less) => return Outcome::Superseded,
        _ => {}
    }
    let tombstone = Held { version: write.version, entry: None };
    match &write.effect {
        Effect::Delete => {
            model.insert(key.clone(), tombstone);
            Outcome::Deleted
        }
        Effect::Put { expires_at_ms: Some(at), .. } if *at <= now_ms => {
            if live.is_some() {
                model.insert(key.clone(), tombstone);
            }
            Outcome::Expired
        }
        Effect::Put { payload, expires_at_ms, .. } => {
            let entry = Some((write.account.clone(), payload.clone(), *expires_at_ms));
            model.insert(key.clone(), Held { version: write.version, entry });
            Outcome::Written
        }
    }
}

/// Around `clock`, somewhat older or newer: events come out of order.
fn random_write(rng: &mut fastrand::Rng, clock: u64, names: &[&str]) -> Write {
    let of = ["acme", "other", "third"][rng.usize(..3)];
    let time = clock + rng.u64(..40);
    let mut write = match rng.u8(..10) {
        0..=2 => delete(of, time, names),
        3 => put_until(of, time, names, Some(now_ms() - rng.u64(..1_000))),
        4 => put_until(of, time, names, None),
        _ => put(of, time, names),
    };
    // Two events of one millisecond, as often as not.
    write.version = Version::of_event(0, time, ["x", "y"][rng.usize(..2)]);
    write
}

pub async fn a_hundred_thousand_random_operations_do_what_a_plain_model_does(store: &Halves) {
    random_operations_do_what_a_plain_model_does(store, 100_000).await;
}

pub async fn ten_thousand_random_operations_do_what_a_plain_model_does(store: &Halves) {
    random_operations_do_what_a_plain_model_does(store, 10_000).await;
}

async fn random_operations_do_what_a_plain_model_does(store: &Halves, operations: usize) {
    const BATCH_KEYS: usize = 24;
    let mut rng = fastrand::Rng::with_seed(20_261_122);
    let names: Vec<String> = (0..60).map(|i| format!("key-{i}")).collect();
    let mut model: HashMap<WebhookKey, Held> = HashMap::new();
    let mut earlier: Vec<Write> = vec![];
    let mut seen: HashSet<Outcome> = HashSet::new();
    let mut done = 0;
    while done < operations {
        // Within a batch each key comes once, so that the outcomes don't depend on who goes first.
        let mut left: Vec<&str> = names.iter().map(String::as_str).collect();
        rng.shuffle(&mut left);
        left.truncate(BATCH_KEYS);
        let mut batch: Vec<Write> = vec![];
        while !left.is_empty() {
            let mine: Vec<&str> = left.split_off(left.len() - (1 + rng.usize(..3)).min(left.len()));
            let redelivered = (!earlier.is_empty() && rng.u8(..4) == 0).then(|| rng.usize(..earlier.len()));
            batch.push(match redelivered {
                // What came before comes again, to keys of this turn.
                Some(i) => Write { keys: keys(&mine), ..earlier[i].clone() },
                None => random_write(&mut rng, done as u64 / 50, &mine),
            });
        }
        let now = now_ms();
        let results = store.writer.write(&batch, now).await;
        assert_eq!(results.len(), batch.len());
        for (write, results) in batch.iter().zip(results) {
            assert_eq!(results.len(), write.keys.len());
            for (key, result) in write.keys.iter().zip(results) {
                let want = model_write(&mut model, key, write, now);
                assert_eq!(result, Ok(want), "operation {done} on {key}: {write:?}");
                seen.insert(want);
                done += 1;
            }
        }
        if earlier.len() > 200 {
            earlier.drain(..100);
        }
        earlier.extend(batch);
        if rng.u8(..50) == 0 {
            compare(store, &model, &names).await;
        }
    }
    compare(store, &model, &names).await;
    assert_eq!(seen.len(), 6, "every outcome of a healthy store came up: {seen:?}");
}

async fn compare(store: &Halves, model: &HashMap<WebhookKey, Held>, names: &[String]) {
    let all: Vec<WebhookKey> = names.iter().map(|name| key(name)).collect();
    for (key, read) in all.iter().zip(store.reader.get_many(&all).await) {
        let read = read.unwrap().map(|entry| (entry.version, entry.account, entry.payload, entry.expires_at_ms));
        let want = model.get(key).and_then(|held| {
            let (account, payload, expires_at_ms) = held.entry.clone()?;
            Some((held.version, account, payload, expires_at_ms))
        });
        assert_eq!(read, want, "{key}");
    }
}
