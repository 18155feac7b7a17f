//! How long a message of a quiet account lies in the embedded buffer, alone and behind the backlog of a noisy one.
//!
//! `cargo bench --bench fairness`. One consumer takes batches of ten and works for five milliseconds on each, so it is
//! the bottleneck. First in, first out, the quiet account would wait for the whole backlog: the last line.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hookcache::buffer::{Appender, TAKE_MAX, Taker, embedded};
use hookcache::envelope::{Account, WireForm};
use tempfile::TempDir;

const BACKLOG: usize = 20_000;
const QUIET: usize = 100;
const QUIET_INTERVAL: Duration = Duration::from_millis(20);
const WORK: Duration = Duration::from_millis(5);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (alone, _) = dwell(0).await;
        let (behind, batch) = dwell(BACKLOG).await;
        for (name, dwell) in [("alone", alone), ("behind_a_backlog", behind)] {
            println!("fairness/dwell/{name:<17} median {:.1} ms", dwell.as_secs_f64() * 1e3);
        }
        println!("fairness/dwell/ratio             {:.2}", behind.as_secs_f64() / alone.as_secs_f64());
        let fifo = batch * (BACKLOG / TAKE_MAX) as u32;
        println!("fairness/the_backlog_alone_takes {:.0} ms", fifo.as_secs_f64() * 1e3);
    });
}

/// The median time of the quiet account's messages from their acceptance until they are taken, and the time that the
/// consumer takes for a batch.
async fn dwell(backlog: usize) -> (Duration, Duration) {
    let folder = TempDir::new().expect("a temporary folder");
    let (appender, taker) = embedded::open(embedded::Options {
        path: folder.path().join("buffer.redb"),
        visibility: Duration::from_secs(600),
        wait: Duration::from_secs(20),
        bytes_max: 1 << 30,
    })
    .expect("a buffer");
    let (appender, taker) = (Appender::Embedded(appender), Taker::Embedded(taker));
    let noisy = (0..backlog).map(|_| tokio::spawn(append(appender.clone(), "noisy", 0)));
    for append in noisy.collect::<Vec<_>>() {
        append.await.expect("no panic");
    }
    let consumer = tokio::spawn(consume(taker));
    let mut accepted = Vec::new();
    for number in 1..=QUIET {
        append(appender.clone(), "quiet", number).await;
        accepted.push(Instant::now());
        tokio::time::sleep(QUIET_INTERVAL).await;
    }
    let (taken, batch) = consumer.await.expect("no panic");
    let mut dwells: Vec<Duration> =
        accepted.iter().zip(taken).map(|(accepted, taken)| taken.saturating_duration_since(*accepted)).collect();
    dwells.sort();
    (dwells[QUIET / 2], batch)
}

async fn append(appender: Appender, account: &str, number: usize) {
    let account = Account::parse(account).expect("a name");
    let body = Bytes::from(number.to_string());
    let message = WireForm { id: "bench".into(), account, traceparent: None, body };
    appender.append(message).await.expect("room on disk");
}

/// Until all of the quiet account's messages are taken. When each was, and the mean time of a batch.
async fn consume(taker: Taker) -> (Vec<Instant>, Duration) {
    let (mut taken, mut batches, mut busy) = (vec![None; QUIET], 0, Duration::ZERO);
    while taken.contains(&None) {
        let batch = taker.take(TAKE_MAX).await.expect("it can be read");
        let now = Instant::now();
        for delivery in &batch {
            let number: usize = std::str::from_utf8(&delivery.body).expect("ours").parse().expect("a number");
            if let Some(place) = number.checked_sub(1) {
                taken[place] = Some(now);
            }
        }
        tokio::time::sleep(WORK).await;
        let receipts: Vec<_> = batch.into_iter().map(|delivery| delivery.receipt).collect();
        assert!(taker.delete(&receipts).await.iter().all(Result::is_ok));
        (batches, busy) = (batches + 1, busy + now.elapsed());
    }
    (taken.into_iter().flatten().collect(), busy / batches)
}
