//! A disk that runs full or fails, and is well again: nothing acknowledged is lost, and nobody has to restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hookcache::buffer::AppendError;
use hookcache::buffer::embedded::{Appender, Taker};
use hookcache::envelope::{Account, Flow, Version, WebhookKey, WireForm};
use hookcache::store::{Effect, Outcome, Write, embedded as store};
use tokio::time::Instant;

use super::fake_disk::FakeDisk;
use super::open_buffer;

const DEADLINE: Duration = Duration::from_secs(30);

fn message(body: String) -> WireForm {
    WireForm { id: "i".to_owned(), account: Account::parse("a").unwrap(), traceparent: None, body: body.into() }
}

async fn offered(taker: &Taker) -> Vec<Bytes> {
    let mut bodies = Vec::new();
    loop {
        let deliveries = taker.take(10).await.unwrap();
        if deliveries.is_empty() {
            bodies.sort();
            return bodies;
        }
        bodies.extend(deliveries.into_iter().map(|delivery| delivery.body));
    }
}

/// Appends until one is acknowledged; the others' bodies differ, so that a duplicate can't hide.
async fn append_until_it_heals(appender: &Appender) -> Bytes {
    let until = Instant::now() + DEADLINE;
    for attempt in 0.. {
        let message = message(format!("healed-{attempt}"));
        let body = message.body.clone();
        match appender.append(message).await {
            Ok(_) => return body,
            Err(error) => assert!(Instant::now() < until, "it does not heal: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unreachable!("the loop ends by its deadline")
}

#[tokio::test]
async fn a_full_disk_is_told_as_full_loses_nothing_and_heals_once_there_is_room() {
    let disk = FakeDisk::default();
    let (appender, taker) = open_buffer(&disk).unwrap();
    disk.leave_room(Some(2 << 20));
    let mut acknowledged = BTreeSet::new();
    let refused = loop {
        let message = message(format!("{}:{}", acknowledged.len(), "x".repeat(40_000)));
        let body = message.body.clone();
        match appender.append(message).await {
            Ok(_) => acknowledged.insert(body),
            Err(error) => break error,
        };
        assert!(acknowledged.len() < 100, "two megabytes are full at some time");
    };
    assert!(matches!(&refused, AppendError::Full(text) if text.contains("data folder is full")), "{refused}");
    assert!(appender.check().await.is_err(), "the probe tells it");

    // While it is full, what there is is still offered.
    let until = Instant::now() + DEADLINE;
    let deliveries = loop {
        match taker.take(5).await {
            Ok(deliveries) => break deliveries,
            Err(error) => assert!(Instant::now() < until, "it is not offered: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(deliveries.len(), 5);

    disk.leave_room(None);
    acknowledged.insert(append_until_it_heals(&appender).await);
    appender.check().await.unwrap();
    drop((appender, taker));
    disk.revive(None);
    let (_appender, taker) = open_buffer(&disk).unwrap();
    let there: BTreeSet<_> = offered(&taker).await.into_iter().collect();
    assert!(acknowledged.is_subset(&there), "all that was acknowledged is there");
}

#[tokio::test]
async fn what_a_failed_sync_left_in_doubt_is_written_anew_before_anything_builds_on_it() {
    for failures in 1..=4 {
        let disk = FakeDisk::default();
        let (appender, taker) = open_buffer(&disk).unwrap();
        // Large enough to have pages of its own, which the commits that follow don't write once more by themselves.
        let large = |name: &str| format!("{name}:{}", "x".repeat(9_000));
        let before = message(large("before")).body;
        appender.append(message(large("before"))).await.unwrap();
        disk.fail_syncs(failures);
        let error = appender.append(message(large("lost or not"))).await.unwrap_err();
        assert!(matches!(error, AppendError::Unavailable(_)), "{error}");
        let healed = append_until_it_heals(&appender).await;
        // What was taken from the index is what is in the file.
        let in_process = offered(&taker).await;
        disk.dies_after(0);
        drop((appender, taker));
        disk.revive(None);
        let (_appender, taker) = open_buffer(&disk).unwrap();
        let after = offered(&taker).await;
        assert!(in_process == after, "{failures} failures");
        assert!(after.contains(&before) && after.contains(&healed), "{failures} failures");
    }
}

#[tokio::test]
async fn after_a_failed_commit_memory_matches_the_file_again() {
    // Cut at each operation of a commit in turn, then go on in the same process.
    for operations in 0..40 {
        let disk = FakeDisk::default();
        let (appender, taker) = open_buffer(&disk).unwrap();
        for number in 0..3 {
            appender.append(message(format!("first-{number}"))).await.unwrap();
        }
        let taken = taker.take(1).await.unwrap();
        disk.dies_after(operations);
        let appended = appender.append(message("second".to_owned())).await;
        let deleted = taker.delete(&[taken[0].receipt.clone()]).await.remove(0);
        disk.revive(None);
        let healed = append_until_it_heals(&appender).await;
        let mut in_process = offered(&taker).await;
        if deleted.is_err() {
            // Still in flight, if it is there at all: it is not offered again before its time.
            assert!(!in_process.contains(&taken[0].body), "cut after {operations}");
        }
        let depth = taker.depth().await.unwrap();
        assert_eq!(
            depth.in_flight as usize,
            in_process.len() + usize::from(deleted.is_err()),
            "cut after {operations}"
        );
        drop((appender, taker));
        let (_appender, taker) = open_buffer(&disk).unwrap();
        let after = offered(&taker).await;
        if deleted.is_err() {
            in_process.push(taken[0].body.clone());
            in_process.sort();
        }
        assert_eq!(after, in_process, "cut after {operations}");
        assert!(after.contains(&healed));
        assert!(appended.is_err() || after.contains(&Bytes::from("second")), "cut after {operations}");
    }
}

#[tokio::test]
async fn a_store_whose_disk_was_full_or_broken_heals_by_itself() {
    let disk = FakeDisk::default();
    let (writer, reader, _book) = store::open_on(disk.storage(), hookcache::envelope::Clock::system()).unwrap();
    let key = WebhookKey::parse("k").unwrap();
    let put = |time_ms: u64| Write {
        id: "i".to_owned(),
        at_ms: time_ms,
        account: Account::parse("a").unwrap(),
        version: Version::of_event(0, time_ms, "e"),
        keys: vec![key.clone()],
        effect: Effect::Put {
            flow: Flow::parse("f").unwrap(),
            payload: Bytes::from(vec![b'x'; 300_000]),
            expires_at_ms: None,
        },
    };
    assert_eq!(writer.write(&[put(1)], 1).await, [[Ok(Outcome::Written)]]);
    for (time_ms, fault) in [(2u64, "full"), (3, "broken")] {
        match fault {
            "full" => disk.leave_room(Some(0)),
            _ => disk.fail_syncs(1),
        }
        let until = Instant::now() + DEADLINE;
        let mut version = time_ms * 1_000;
        while writer.write(&[put(version)], 1).await[0][0].is_ok() {
            assert!(Instant::now() < until, "the {fault} disk is told");
            version += 1;
        }
        // The file is opened again at once, so that it can be read while it can't be written.
        while let Err(error) = reader.get(&key).await {
            assert!(Instant::now() < until, "it can't be read while the disk is {fault}: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        disk.leave_room(None);
        while let Err(error) = &writer.write(&[put(version)], 1).await[0][0] {
            assert!(Instant::now() < until, "it does not heal: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(reader.get(&key).await.unwrap().unwrap().version, put(version).version);
        writer.check().await.unwrap();
        reader.check().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_clients_share_their_syncs_twenty_to_one() {
    const CLIENTS: usize = 64;
    const EACH: usize = 40;
    let disk = FakeDisk::default();
    let (appender, taker) = open_buffer(&disk).unwrap();
    let before = disk.syncs();
    // How many clients wait for an answer, and how many there still are: a sync takes as long as all others need to
    // ask, which 2 ms of a real disk are. So the count does not hang on how busy this machine is.
    let (waiting, clients) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(CLIENTS)));
    let gate = (waiting.clone(), clients.clone());
    disk.while_syncing(move || {
        let until = std::time::Instant::now() + DEADLINE;
        while gate.0.load(Ordering::Acquire) < gate.1.load(Ordering::Acquire) && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_micros(100));
        }
        std::thread::sleep(Duration::from_millis(2));
    });
    let client = |client| {
        let (appender, waiting, clients) = (appender.clone(), waiting.clone(), clients.clone());
        tokio::spawn(async move {
            for number in 0..EACH {
                waiting.fetch_add(1, Ordering::AcqRel);
                appender.append(message(format!("{client}-{number}"))).await.unwrap();
                waiting.fetch_sub(1, Ordering::AcqRel);
            }
            clients.fetch_sub(1, Ordering::AcqRel);
        })
    };
    for client in (0..CLIENTS).map(client).collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let syncs = disk.syncs() - before;
    assert_eq!(taker.depth().await.unwrap().visible as usize, CLIENTS * EACH);
    let per_sync = (CLIENTS * EACH) as f64 / syncs as f64;
    println!("{per_sync:.1} envelopes per sync ({syncs} syncs)");
    assert!(per_sync >= 20.0, "{per_sync:.1} envelopes per sync");
}
