//! The power goes at a seeded point of a store's life.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hookcache::envelope::{Account, Clock, Flow, Version, WebhookKey};
use hookcache::store::catalog::{Change, Changed, To};
use hookcache::store::embedded::{self as store, Reader, RuleBook, Writer};
use hookcache::store::{Effect, Outcome, Write};
use hookcache::ttl::{Scope, Ttl};

use super::SEEDS;
use super::fake_disk::FakeDisk;

const NOW: u64 = 1_767_225_600_000;
const KEYS: u8 = 12;

/// What a key holds: the time of the event, and its payload (`None`: a tombstone).
type Held = (u64, Option<Bytes>);

#[derive(Default)]
struct Log {
    /// What was acknowledged last.
    sure: BTreeMap<String, Held>,
    /// What was asked for after it and not acknowledged.
    open: BTreeMap<String, Vec<Held>>,
    rule: u64,
    rules_open: Vec<u64>,
    clock: u64,
}

fn flow() -> Flow {
    Flow::parse("f").unwrap()
}

#[tokio::test]
async fn what_a_store_acknowledged_outlives_a_loss_of_power() {
    let mut cut_short = 0;
    for seed in SEEDS {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5707e);
        let mut disk = FakeDisk::default();
        let mut log = Log::default();
        for _ in 0..rng.u8(1..=3) {
            disk.dies_after(rng.u64(0..900));
            let ended = match store::open_on(disk.storage(), Clock::from_fn(|| NOW)) {
                Ok((writer, reader, book)) => {
                    live(seed, &mut rng, &writer, &book, &mut log).await;
                    drop(reader);
                    String::new()
                }
                Err(error) => error.to_string(),
            };
            assert!(disk.is_dead(), "seed {seed}: it lives until the power goes, not: {ended}");
            cut_short += log.open.len();
            let (never_opened, kept) = (log.clock == 0, rng.bool());
            disk.revive(kept.then_some(&mut rng));
            if never_opened {
                // A file gets its name once it is made; one that is half made is never looked at again.
                disk = FakeDisk::default();
                continue;
            }
        }
        let (_writer, reader, book) = store::open_on(disk.storage(), Clock::from_fn(|| NOW)).unwrap();
        check(seed, &reader, &book, &mut log).await;
    }
    assert!(cut_short > 100, "the power went while something was under way: {cut_short}");
}

/// Writes, deletes, purges and sets rules, each key in the order of its versions, until an answer is an error.
async fn live(seed: u64, rng: &mut fastrand::Rng, writer: &Writer, book: &RuleBook, log: &mut Log) {
    loop {
        let batch: Vec<Write> = (0..rng.usize(1..5)).map(|_| write(rng, log)).collect();
        for write in &batch {
            let payload = match &write.effect {
                Effect::Put { payload, .. } => Some(payload.clone()),
                Effect::Delete => None,
            };
            for key in &write.keys {
                log.open.entry(key.to_string()).or_default().push((write.version.time_ms(), payload.clone()));
            }
        }
        let results = writer.write(&batch, NOW).await;
        if results.iter().flatten().any(Result::is_err) {
            return;
        }
        for (write, outcomes) in batch.iter().zip(results) {
            let wanted = if matches!(write.effect, Effect::Delete) { Outcome::Deleted } else { Outcome::Written };
            assert!(outcomes.iter().all(|outcome| *outcome == Ok(wanted)), "seed {seed}: {outcomes:?}");
        }
        // What an earlier life left open under other keys stays so.
        for key in batch.iter().flat_map(|write| &write.keys) {
            if let Some(held) = log.open.remove(key.as_str()).and_then(|mut held| held.pop()) {
                log.sure.insert(key.to_string(), held);
            }
        }
        if rng.u8(0..4) == 0 && !change(seed, rng, writer, log).await {
            return;
        }
        if rng.u8(0..4) == 0 {
            log.rules_open.push(log.clock);
            if book.set(&Scope::Flow(flow()), Ttl::For(Duration::from_secs(log.clock))).await.is_err() {
                return;
            }
            log.rule = log.clock;
            log.rules_open.clear();
        }
    }
}

/// Purges an entry that is there for sure, or rewrites its expiry. Was it answered?
async fn change(seed: u64, rng: &mut fastrand::Rng, writer: &Writer, log: &mut Log) -> bool {
    let name = format!("k{}", rng.u8(0..KEYS));
    let Some((time, Some(payload))) = log.sure.get(&name).filter(|_| !log.open.contains_key(&name)).cloned() else {
        return true;
    };
    let (to, wanted, held) = match rng.bool() {
        true => (To::Gone, Changed::Removed, (time, None)),
        false => (To::ExpireAt(Some(NOW + 120_000)), Changed::Rewritten, (time, Some(payload))),
    };
    let (key, account) = (WebhookKey::parse(&name).unwrap(), Account::parse("a").unwrap());
    let change = Change { key, account, version: Version::of_event(0, time, "e"), to };
    log.open.insert(name.clone(), vec![held.clone()]);
    match &writer.catalog().change(&[change], NOW).await[..] {
        [Ok(changed)] => assert_eq!(*changed, wanted, "seed {seed}"),
        _ => return false,
    }
    log.open.remove(&name);
    log.sure.insert(name, held);
    true
}

fn write(rng: &mut fastrand::Rng, log: &mut Log) -> Write {
    log.clock += 1;
    let mut keys: Vec<u8> = (0..rng.usize(1..4)).map(|_| rng.u8(0..KEYS)).collect();
    keys.sort_unstable();
    keys.dedup();
    let payload = Bytes::from(format!("{}:{}", log.clock, "x".repeat(rng.usize(0..5_000))));
    let put = Effect::Put { flow: flow(), payload, expires_at_ms: rng.bool().then_some(NOW + 60_000) };
    Write {
        id: log.clock.to_string(),
        at_ms: NOW,
        account: Account::parse("a").unwrap(),
        version: Version::of_event(0, log.clock, "e"),
        keys: keys.into_iter().map(|key| WebhookKey::parse(&format!("k{key}")).unwrap()).collect(),
        effect: if rng.u8(0..5) == 0 { Effect::Delete } else { put },
    }
}

async fn check(seed: u64, reader: &Reader, book: &RuleBook, log: &mut Log) {
    for key in (0..KEYS).map(|key| format!("k{key}")) {
        let entry = reader.get(&WebhookKey::parse(&key).unwrap()).await.unwrap();
        let there = entry.map(|entry| (entry.version.time_ms(), entry.payload));
        let sure = log.sure.get(&key).cloned();
        let may_be = log.open.get(&key).into_iter().flatten().cloned().map(Some).chain([sure]);
        // Nothing at all and a tombstone look alike to a reader.
        let seen: Vec<_> = may_be.map(|held| held.and_then(|(time_ms, payload)| Some((time_ms, payload?)))).collect();
        let times = |held: &Option<(u64, Bytes)>| held.as_ref().map(|(time_ms, _)| *time_ms);
        let allowed: Vec<_> = seen.iter().map(times).collect();
        assert!(seen.contains(&there), "seed {seed}: {key} holds {:?}, not one of {allowed:?}", times(&there));
    }
    let rules = book.load().await.unwrap();
    let rule = rules.first().map_or(0, |(_, ttl)| match ttl {
        Ttl::For(time) => time.as_secs(),
        Ttl::Never => u64::MAX,
    });
    assert!(rule == log.rule || log.rules_open.contains(&rule), "seed {seed}: the rule {rule}, not {}", log.rule);
}
