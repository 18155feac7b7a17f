//! The contract, held by the embedded buffer, and what only it promises.

use std::path::Path;

use hookcache::buffer::embedded::{self, Options};
use hookcache::buffer::{Looked, Pending};
use hookcache::disk::Storage;
use hookcache::envelope::Clock;

use super::*;

fn options(path: &Path, wanted: Wanted) -> Options {
    Options { path: path.to_owned(), visibility: wanted.visibility, wait: wanted.wait, bytes_max: 64 << 20 }
}

fn open_at(path: &Path, wanted: Wanted) -> (Appender, Taker) {
    let (appender, taker) = embedded::open(options(path, wanted)).unwrap();
    (Appender::Embedded(appender), Taker::Embedded(taker))
}

async fn open(wanted: Wanted) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let (appender, taker) = open_at(&folder.path().join("buffer.redb"), wanted);
    Fixture { appender, taker, _keep: Box::new(folder) }
}

crate::buffer_contract!(open);

fn message_of(account: &str, number: usize) -> WireForm {
    WireForm { account: Account::parse(account).unwrap(), ..message(number) }
}

/// Concurrently, so that they share commits.
async fn append_backlog(appender: &Appender, account: &str, numbers: std::ops::Range<usize>) {
    let append = |number| {
        let (appender, message) = (appender.clone(), message_of(account, number));
        tokio::spawn(async move { appender.append(message).await })
    };
    for appended in numbers.map(append).collect::<Vec<_>>() {
        appended.await.unwrap().unwrap();
    }
}

/// Which of the quiet account's messages, numbered from `QUIET` on, are among the deliveries, in their order.
fn quiet_ones(deliveries: &[Delivery]) -> Vec<usize> {
    let number = |delivery: &Delivery| serde_json::from_slice::<serde_json::Value>(&delivery.body).unwrap();
    let numbers = deliveries.iter().map(|delivery| number(delivery)["number"].as_u64().unwrap() as usize);
    numbers.filter(|number| *number >= QUIET).collect()
}

const QUIET: usize = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_messages_behind_the_backlog_of_another_account_are_in_the_next_two_takes_over_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("buffer.redb");
    let (appender, taker) = open_at(&path, wanted(LONG, 1));
    append_backlog(&appender, "noisy", 0..5_000).await;
    for number in QUIET..QUIET + 10 {
        appender.append(message_of("quiet", number)).await.unwrap();
    }
    let all: Vec<usize> = (QUIET..QUIET + 10).collect();
    assert_eq!(quiet_ones(&take_all(&taker, 20).await), all, "each of ten rounds takes one of each account");
    drop((appender, taker));

    let (_appender, taker) = open_at(&path, wanted(LONG, 1));
    assert_eq!(quiet_ones(&take_all(&taker, 20).await), all);
    let depth = taker.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (4_990, 20), "and the other one is served as well");
}

#[tokio::test]
async fn an_account_whose_messages_come_back_again_and_again_holds_up_nobody() {
    let buffer = open(wanted(LONG, 1)).await;
    append_backlog(&buffer.appender, "failing", 0..30).await;
    for round in 0..20 {
        let failing = take_all(&buffer.taker, 10).await;
        all_ok(buffer.taker.hide(&receipts(&failing), Duration::ZERO).await, 10);
        let (first, last) = (QUIET + 3 * round, QUIET + 3 * round + 2);
        for number in first..=last {
            buffer.appender.append(message_of("quiet", number)).await.unwrap();
        }
        let taken = take_all(&buffer.taker, 10).await;
        assert_eq!(quiet_ones(&taken), [first, first + 1, last], "all of them at the first take, in order");
        let (quiet, failing): (Vec<_>, Vec<_>) =
            taken.into_iter().partition(|one| !quiet_ones(std::slice::from_ref(one)).is_empty());
        all_ok(buffer.taker.delete(&receipts(&quiet)).await, 3);
        all_ok(buffer.taker.hide(&receipts(&failing), Duration::ZERO).await, 7);
    }
    assert_eq!(buffer.taker.depth().await.unwrap().visible, 30, "and they are all still there");
}

#[tokio::test]
async fn the_age_of_the_oldest_message_counts_every_account_and_what_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("buffer.redb");
    let hands = Arc::new(AtomicUsize::new(0));
    let clock = {
        let hands = hands.clone();
        Clock::from_fn(move || hands.load(Ordering::Relaxed) as u64)
    };
    let (appender, taker) =
        embedded::open_on(Storage::File(path.clone()), options(&path, wanted(LONG, 1)), clock).unwrap();
    for (account, at_ms) in [("a", 1_000), ("b", 2_000), ("a", 3_000), ("b", 4_000)] {
        hands.store(at_ms, Ordering::Relaxed);
        appender.append(message_of(account, at_ms)).await.unwrap();
    }
    hands.store(10_000, Ordering::Relaxed);
    let oldest_ms = async || taker.depth().await.unwrap().oldest_age.map(|age| age.as_millis());
    assert_eq!(oldest_ms().await, Some(9_000));
    let taken = taker.take(2).await.unwrap();
    assert_eq!(oldest_ms().await, Some(9_000), "one of each account is taken, and not yet gone");
    all_ok(taker.delete(&receipts(&taken[1..])).await, 1);
    assert_eq!(oldest_ms().await, Some(9_000));
    all_ok(taker.delete(&receipts(&taken[..1])).await, 1);
    assert_eq!(oldest_ms().await, Some(7_000));
    let taken = taker.take(2).await.unwrap();
    all_ok(taker.delete(&receipts(&taken)).await, 2);
    assert_eq!(oldest_ms().await, Some(0), "none is there");
}

#[tokio::test]
async fn messages_of_an_account_are_offered_first_in_first_out() {
    let buffer = open(wanted(LONG, 1)).await;
    append_all(&buffer.appender, 0..30).await;
    let bodies: Vec<_> = take_all(&buffer.taker, 30).await.into_iter().map(|delivery| delivery.body).collect();
    for account in 0..3 {
        let of_account: Vec<_> = (account..30).step_by(3).map(|number| message(number).body).collect();
        let offered: Vec<_> = bodies.iter().filter(|body| of_account.contains(body)).cloned().collect();
        assert_eq!(offered, of_account);
    }
}

#[tokio::test]
async fn a_take_that_would_wait_for_long_is_woken_by_an_append_a_give_back_and_an_end_of_hiding() {
    let long_wait = Wanted { visibility: Duration::from_millis(700), wait: LONG };
    let buffer = open(long_wait).await;
    let take = || {
        let taker = buffer.taker.clone();
        tokio::spawn(async move { tokio::time::timeout(DEADLINE, taker.take(10)).await.expect("woken").unwrap() })
    };
    let waiting = take();
    tokio::time::sleep(Duration::from_millis(100)).await;
    append_all(&buffer.appender, 0..1).await;
    let first = waiting.await.unwrap();
    let second = take().await.unwrap();
    assert_eq!((first.len(), second.len()), (1, 1), "its hiding ended");
    all_ok(buffer.taker.hide(&receipts(&second), LONG).await, 1);
    let waiting = take();
    tokio::time::sleep(Duration::from_millis(100)).await;
    all_ok(buffer.taker.hide(&receipts(&second), Duration::ZERO).await, 1);
    assert_eq!(waiting.await.unwrap()[0].receive_count, 3);
}

#[tokio::test]
async fn a_stale_receipt_neither_deletes_nor_hides_nor_buries() {
    let buffer = open(wanted(LONG, 1)).await;
    append_all(&buffer.appender, 0..1).await;
    let first = take_all(&buffer.taker, 1).await;
    all_ok(buffer.taker.hide(&receipts(&first), Duration::ZERO).await, 1);
    let second = take_all(&buffer.taker, 1).await;
    let poison = Poison { code: PoisonCode::NotValid, detail: String::new() };
    all_ok(buffer.taker.hide(&receipts(&first), Duration::ZERO).await, 1);
    all_ok(buffer.taker.delete(&receipts(&first)).await, 1);
    all_ok(buffer.taker.bury(&[(first[0].clone(), poison)]).await, 1);
    let depth = buffer.taker.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight, depth.dead), (0, 1, 0), "still in the hands of the second");
    all_ok(buffer.taker.hide(&receipts(&second), Duration::ZERO).await, 1);
    assert_eq!(take_all(&buffer.taker, 1).await[0].receive_count, 3);
}

#[tokio::test]
async fn what_was_in_flight_is_offered_at_once_after_a_restart_and_old_receipts_are_stale() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/on/the/way/buffer.redb");
    let (appender, taker) = open_at(&path, wanted(LONG, 1));
    append_all(&appender, 0..3).await;
    let before = take_all(&taker, 3).await;
    drop((appender, taker));

    let (appender, taker) = open_at(&path, wanted(LONG, 1));
    let after = take_all(&taker, 3).await;
    all_ok(taker.delete(&receipts(&before)).await, 3);
    assert_eq!(taker.depth().await.unwrap().in_flight, 3, "the old receipts changed nothing");
    all_ok(taker.delete(&receipts(&after)).await, 3);
    let next = appender.append(message(9)).await.unwrap();
    assert!(before.iter().all(|delivery| delivery.message_id != next), "an id names one message for good");
}

#[tokio::test]
async fn a_receive_count_outlives_a_restart_once_a_later_commit_carried_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("buffer.redb");
    let (appender, taker) = open_at(&path, wanted(LONG, 1));
    append_all(&appender, 0..1).await;
    take_all(&taker, 1).await;
    append_all(&appender, 1..2).await;
    drop((appender, taker));
    let (_appender, taker) = open_at(&path, wanted(LONG, 1));
    let counts: Vec<_> = take_all(&taker, 2).await.into_iter().map(|delivery| delivery.receive_count).collect();
    assert_eq!(counts, [2, 1]);
}

#[tokio::test]
async fn beyond_its_bytes_it_is_full_by_name_and_takes_again_once_it_drained() {
    use hookcache::buffer::AppendError;
    let folder = tempfile::tempdir().unwrap();
    let tight = Options { bytes_max: 10_000, ..options(&folder.path().join("buffer.redb"), wanted(LONG, 1)) };
    let (appender, taker) = embedded::open(tight).unwrap();
    let large = |number| WireForm { body: Bytes::from(vec![b'x'; 3_000]), ..message(number) };
    for number in 0..3 {
        appender.append(large(number)).await.unwrap();
    }
    let refused = appender.append(large(3)).await.unwrap_err();
    assert!(matches!(&refused, AppendError::Full(text) if text.contains("buffer.max_bytes")), "{refused}");
    let taken = taker.take(1).await.unwrap();
    let poison = Poison { code: PoisonCode::NotValid, detail: String::new() };
    all_ok(taker.bury(&[(taken[0].clone(), poison)]).await, 1);
    assert!(appender.append(large(3)).await.is_err(), "dead letters count, too");
    let taken = taker.take(1).await.unwrap();
    all_ok(taker.delete(&receipts(&taken)).await, 1);
    appender.append(large(3)).await.unwrap();
}

#[tokio::test]
async fn a_walk_goes_on_where_the_last_one_ended_and_finds_a_letter_by_name() {
    let buffer = open(wanted(LONG, 1)).await;
    bury_all(&buffer, 0..5).await;
    let letters = DeadLetters::of(&buffer.taker);
    let (mut seen, mut which) = (Vec::new(), Which::All);
    loop {
        let keep = |letter: &DeadLetter| {
            seen.push(letter.clone());
            Ruling::Leave
        };
        let walked = letters.walk(&Walk { which, letters_max: 2 }, keep).await.unwrap();
        assert_eq!(walked.complete, walked.next.is_none());
        let Some(next) = walked.next else { break };
        which = Which::After(next);
    }
    let bodies: Vec<_> = seen.iter().map(|letter| letter.body.clone()).collect();
    assert_eq!(bodies, (0..5).map(|number| message(number).body).collect::<Vec<_>>(), "in order, each once");

    let named = Walk { which: Which::Named(seen[3].message_id.clone()), letters_max: 10 };
    let mut found = Vec::new();
    let keep = |letter: &DeadLetter| {
        found.push(letter.body.clone());
        Ruling::Leave
    };
    let walked = letters.walk(&named, keep).await.unwrap();
    assert_eq!((walked.seen, walked.complete, found), (1, true, vec![message(3).body]));
}

#[tokio::test]
async fn a_look_shows_what_waits_and_what_is_taken_oldest_first_and_takes_nothing() {
    let buffer = open(Wanted { visibility: LONG, wait: Duration::from_secs(1) }).await;
    let pending = Pending::of(&buffer.taker);
    let look = async |messages_max| {
        let mut bodies = Vec::new();
        let looked = pending.look(messages_max, |body| bodies.push(body.to_vec())).await.unwrap();
        (looked.expect("an embedded buffer can look"), bodies)
    };
    assert_eq!(look(5).await.0, Looked { seen: 0, complete: true });
    // More than one chunk holds.
    let messages: Vec<_> = (0..210).map(message).collect();
    for message in &messages {
        buffer.appender.append(message.clone()).await.unwrap();
    }
    let taken = take_all(&buffer.taker, 10).await;
    buffer.taker.delete(std::slice::from_ref(&taken[0].receipt)).await.remove(0).unwrap();
    let (looked, bodies) = look(1_000).await;
    assert_eq!(looked, Looked { seen: 209, complete: true });
    let left: Vec<Vec<u8>> =
        messages.iter().filter(|message| message.body != taken[0].body).map(|message| message.body.to_vec()).collect();
    assert_eq!(bodies, left);
    let (looked, bodies) = look(209).await;
    assert_eq!((looked, bodies.len()), (Looked { seen: 209, complete: true }, 209));
    let (looked, bodies) = look(7).await;
    assert_eq!((looked, bodies), (Looked { seen: 7, complete: false }, left[..7].to_vec()));
    take_all(&buffer.taker, 200).await;
}

#[tokio::test]
async fn what_is_redriven_or_dropped_stays_so_over_a_restart_and_gives_its_room_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("buffer.redb");
    let (appender, taker) = open_at(&path, wanted(LONG, 1));
    let buffer = Fixture { appender, taker, _keep: Box::new(()) };
    bury_all(&buffer, 0..3).await;
    let rule = |letter: &DeadLetter| match letter.body {
        ref body if *body == message(0).body => Ruling::Redrive(None),
        ref body if *body == message(1).body => Ruling::Drop,
        _ => Ruling::Leave,
    };
    DeadLetters::of(&buffer.taker).walk(&walk(10), rule).await.unwrap();
    drop(buffer);

    let (_appender, taker) = open_at(&path, wanted(LONG, 1));
    assert_eq!(take_all(&taker, 1).await[0].body, message(0).body);
    let depth = taker.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight, depth.dead), (0, 1, 1));
    assert_eq!(dead_bodies(&taker, 1).await, [message(2).body].into());
}

#[tokio::test]
async fn a_full_buffer_redrives_its_letters_and_takes_again_once_they_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let tight = Options { bytes_max: 10_000, ..options(&folder.path().join("buffer.redb"), wanted(LONG, 1)) };
    let (appender, taker) = embedded::open(tight).unwrap();
    let buffer =
        Fixture { appender: Appender::Embedded(appender), taker: Taker::Embedded(taker), _keep: Box::new(folder) };
    let large = |number| WireForm { body: Bytes::from(vec![b'x'; 3_000]), ..message(number) };
    for number in 0..3 {
        buffer.appender.append(large(number)).await.unwrap();
    }
    let poison = Poison { code: PoisonCode::NotValid, detail: "long enough to count ".repeat(20) };
    let burials: Vec<_> =
        take_all(&buffer.taker, 3).await.into_iter().map(|delivery| (delivery, poison.clone())).collect();
    all_ok(buffer.taker.bury(&burials).await, 3);
    assert!(buffer.appender.append(large(3)).await.is_err());
    let letters = DeadLetters::of(&buffer.taker);
    let walked = letters.walk(&walk(1), |_| Ruling::Redrive(None)).await.unwrap();
    all_ok(walked.results.into_iter().map(|(_, result)| result).collect(), 1);
    assert!(buffer.appender.append(large(3)).await.is_err(), "what is redriven takes its room");
    let walked = letters.walk(&walk(10), |_| Ruling::Drop).await.unwrap();
    all_ok(walked.results.into_iter().map(|(_, result)| result).collect(), 2);
    let taken = take_all(&buffer.taker, 1).await;
    all_ok(buffer.taker.delete(&receipts(&taken)).await, 1);
    // To the byte: three fit again, and no fourth.
    for number in 0..3 {
        buffer.appender.append(large(number)).await.unwrap();
    }
    assert!(buffer.appender.append(large(3)).await.is_err());
}

#[tokio::test]
async fn a_dropped_take_gives_back_what_it_took() {
    let buffer = open(wanted(LONG, 1)).await;
    append_all(&buffer.appender, 0..1).await;
    for _ in 0..50 {
        // Polled once, it has taken from the index and waits for the body; then it is dropped.
        let take = std::pin::pin!(buffer.taker.take(10));
        if let Some(taken) = poll_once(take).await {
            // The read was done at once, so there was nothing to drop.
            all_ok(buffer.taker.hide(&receipts(&taken.unwrap()), Duration::ZERO).await, 1);
        }
    }
    assert_eq!(take_all(&buffer.taker, 1).await.len(), 1);
}

async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        let polled = future.as_mut().poll(context);
        std::task::Poll::Ready(match polled {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
