//! The power goes at a seeded point of a buffer's life.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hookcache::buffer::embedded::{Appender, Taker};
use hookcache::buffer::{Delivery, Receipt};
use hookcache::envelope::{Account, Poison, PoisonCode, WireForm};

use super::fake_disk::FakeDisk;
use super::{SEEDS, open_buffer};
use crate::support::dead_letters;

/// What became of a message, as far as its sender and its taker were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its append was not acknowledged.
    AppendOpen,
    Appended,
    /// Its removal was asked for and not acknowledged.
    DeleteOpen,
    Deleted,
    BuryOpen,
    Buried,
}

#[derive(Default)]
struct Log {
    fates: BTreeMap<Bytes, Fate>,
    next: usize,
}

impl Log {
    fn tell(&mut self, body: &Bytes, fate: Fate) {
        self.fates.insert(body.clone(), fate);
    }
}

#[tokio::test]
async fn what_a_buffer_acknowledged_outlives_a_loss_of_power() {
    let mut cut_short = 0;
    for seed in SEEDS {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut disk = FakeDisk::default();
        let mut log = Log::default();
        for _ in 0..rng.u8(1..=3) {
            disk.dies_after(rng.u64(0..900));
            let ended = match open_buffer(&disk) {
                Ok((appender, taker)) => live(&mut rng, &appender, &taker, &mut log).await,
                Err(error) => error.to_string(),
            };
            let never_opened = log.fates.is_empty();
            assert!(disk.is_dead(), "seed {seed}: it lives until the power goes, not: {ended}");
            cut_short += log.fates.values().filter(|fate| is_open(**fate)).count();
            let kept = rng.bool();
            disk.revive(kept.then_some(&mut rng));
            if never_opened {
                // A file gets its name once it is made; one that is half made is never looked at again.
                disk = FakeDisk::default();
            }
        }
        check(seed, &disk, &log).await;
    }
    assert!(cut_short > 100, "the power went while something was under way: {cut_short}");
}

fn is_open(fate: Fate) -> bool {
    matches!(fate, Fate::AppendOpen | Fate::DeleteOpen | Fate::BuryOpen)
}

/// Appends, takes, deletes, buries and gives back, until an answer is an error.
async fn live(rng: &mut fastrand::Rng, appender: &Appender, taker: &Taker, log: &mut Log) -> String {
    loop {
        if append_some(rng, appender, log).await.is_err() {
            return "an append failed".to_owned();
        }
        let deliveries = match taker.take(rng.usize(0..8)).await {
            Ok(deliveries) => deliveries,
            Err(error) => return error.to_string(),
        };
        let (keep, mut go): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(|_| rng.u8(0..4) == 0);
        let bury = go.split_off(go.len() / 2);
        let receipts: Vec<Receipt> = keep.into_iter().map(|delivery| delivery.receipt).collect();
        taker.hide(&receipts, std::time::Duration::ZERO).await;
        if delete(taker, go, log).await.is_err() || self::bury(taker, bury, log).await.is_err() {
            return "a removal failed".to_owned();
        }
    }
}

async fn append_some(rng: &mut fastrand::Rng, appender: &Appender, log: &mut Log) -> Result<(), ()> {
    let mut appends = Vec::new();
    for _ in 0..rng.usize(1..6) {
        log.next += 1;
        let body = Bytes::from(format!("{}:{}", log.next, "x".repeat(rng.usize(0..6_000))));
        let message = WireForm {
            id: log.next.to_string(),
            account: Account::parse("a").unwrap(),
            traceparent: None,
            body: body.clone(),
        };
        log.tell(&body, Fate::AppendOpen);
        let appender = appender.clone();
        appends.push((body, tokio::spawn(async move { appender.append(message).await })));
    }
    let mut all = Ok(());
    for (body, append) in appends {
        match append.await.unwrap() {
            Ok(_) => log.tell(&body, Fate::Appended),
            Err(_) => all = Err(()),
        }
    }
    all
}

async fn delete(taker: &Taker, deliveries: Vec<Delivery>, log: &mut Log) -> Result<(), ()> {
    let receipts: Vec<Receipt> = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
    deliveries.iter().for_each(|delivery| log.tell(&delivery.body, Fate::DeleteOpen));
    let results = taker.delete(&receipts).await;
    settle(deliveries.iter().zip(results), Fate::Deleted, log)
}

async fn bury(taker: &Taker, deliveries: Vec<Delivery>, log: &mut Log) -> Result<(), ()> {
    let poison = Poison { code: PoisonCode::NotValid, detail: "as the test says".to_owned() };
    deliveries.iter().for_each(|delivery| log.tell(&delivery.body, Fate::BuryOpen));
    let burials: Vec<_> = deliveries.iter().map(|delivery| (delivery.clone(), poison.clone())).collect();
    let results = taker.bury(&burials).await;
    settle(deliveries.iter().zip(results), Fate::Buried, log)
}

fn settle<'a, E>(
    results: impl Iterator<Item = (&'a Delivery, Result<(), E>)>,
    fate: Fate,
    log: &mut Log,
) -> Result<(), ()> {
    let mut all = Ok(());
    for (delivery, result) in results {
        match result {
            Ok(()) => log.tell(&delivery.body, fate),
            Err(_) => all = Err(()),
        }
    }
    all
}

/// What lies in the buffer after all that, against what was told.
async fn check(seed: u64, disk: &FakeDisk, log: &Log) {
    let (appender, taker) = open_buffer(disk).unwrap();
    let mut offered = Vec::new();
    loop {
        let deliveries = taker.take(10).await.unwrap();
        if deliveries.is_empty() {
            break;
        }
        offered.extend(deliveries.into_iter().map(|delivery| delivery.body));
    }
    let dead: Vec<Bytes> = dead_letters(&hookcache::buffer::Taker::Embedded(taker.clone()), usize::MAX)
        .await
        .unwrap()
        .into_iter()
        .map(|letter| letter.body)
        .collect();
    let depth = taker.depth().await.unwrap();
    assert_eq!((depth.in_flight, depth.dead), (offered.len() as u64, dead.len() as u64), "seed {seed}: the counters");
    let (offered_once, dead_once): (BTreeSet<_>, BTreeSet<_>) =
        (offered.iter().cloned().collect(), dead.iter().cloned().collect());
    assert_eq!((offered_once.len(), dead_once.len()), (offered.len(), dead.len()), "seed {seed}: each is there once");

    for (body, fate) in &log.fates {
        let there = (offered_once.contains(body), dead_once.contains(body));
        let allowed: &[(bool, bool)] = match fate {
            Fate::AppendOpen | Fate::DeleteOpen => &[(true, false), (false, false)],
            Fate::Appended => &[(true, false)],
            Fate::Deleted => &[(false, false)],
            Fate::BuryOpen => &[(true, false), (false, true)],
            Fate::Buried => &[(false, true)],
        };
        let name = String::from_utf8_lossy(&body[..body.len().min(8)]);
        assert!(allowed.contains(&there), "seed {seed}: {name} is {fate:?}; (offered, dead) = {there:?}");
    }
    assert!(offered_once.union(&dead_once).all(|body| log.fates.contains_key(body)), "seed {seed}: nothing else");
    let mut after = Log { next: log.next, ..Log::default() };
    append_some(&mut fastrand::Rng::with_seed(seed), &appender, &mut after).await.unwrap();
}
