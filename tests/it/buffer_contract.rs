//! The contract of the buffer, as facts that hold for every backend. A backend plugs itself in with
//! [`buffer_contract!`] and a function that opens a fresh, empty buffer.

mod embedded;

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hookcache::buffer::{Appender, DeadLetter, DeadLetters, Delivery, Receipt, Ruling, Taker, Walk, Which};
use hookcache::envelope::limits::WIRE_BYTES_MAX;
use hookcache::envelope::{Account, Poison, PoisonCode, WireForm};

use crate::support::{dead_letters, eventually};

/// Longer than any test takes: what is taken stays hidden.
pub const LONG: Duration = Duration::from_secs(600);
/// Short, but whole seconds, as SQS counts in them.
pub const SHORT: Duration = Duration::from_secs(3);
/// Deadline of whatever must happen at some time.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How a test wants its buffer.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// For how long a taken message is hidden.
    pub visibility: Duration,
    /// How long a take waits for a first message.
    pub wait: Duration,
}

/// A fresh, empty buffer, and what must live as long as it: servers, folders.
pub struct Fixture {
    pub appender: Appender,
    pub taker: Taker,
    pub _keep: Box<dyn Any + Send>,
}

/// Makes a test of each fact. `$open` is an `async fn(Wanted) -> Fixture`.
#[macro_export]
macro_rules! buffer_contract {
    ($open:path) => {
        $crate::buffer_contract!(@each $open:
            what_is_appended_is_taken_with_its_body_and_its_trace_context
            the_largest_wire_form_passes_unchanged
            an_empty_buffer_answers_with_an_empty_list
            a_take_that_waits_is_woken_by_an_append
            concurrent_appends_are_each_acknowledged_and_offered
            many_pollers_get_each_message_once
            a_deleted_message_is_not_offered_again
            what_is_not_deleted_is_offered_again_and_counted
            hiding_for_longer_outlasts_the_visibility
            hiding_for_no_time_offers_it_at_once
            a_stale_receipt_is_harmless
            a_buried_message_is_a_dead_letter_with_its_reason_and_detail
            batches_of_any_length_yield_one_result_per_item
            a_redriven_letter_is_a_message_again_with_the_same_body_and_trace
            a_dropped_letter_is_gone_and_the_others_stay
            a_walk_looks_at_no_more_letters_than_it_may_and_says_when_there_are_more
            a_stopped_walk_does_nothing_to_the_letter_that_it_stopped_at
            a_walk_does_what_it_rules_over_more_letters_than_one_batch_carries
            depth_tells_ready_from_taken_from_dead
            a_reachable_buffer_passes_its_check
        );
    };
    (@each $open:path: $($fact:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $fact() {
                $crate::buffer_contract::$fact(async |wanted| $open(wanted).await).await;
            }
        )*
    };
}

pub fn message(number: usize) -> WireForm {
    WireForm {
        id: format!("id-{number}"),
        account: Account::parse(&format!("account-{}", number % 3)).unwrap(),
        traceparent: None,
        body: Bytes::from(format!(r#"{{"number":{number}}}"#)),
    }
}

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt.clone()).collect()
}

fn all_ok<E: std::fmt::Debug>(results: Vec<Result<(), E>>, count: usize) {
    assert_eq!(results.len(), count, "one result per item");
    results.into_iter().for_each(|result| result.unwrap());
}

/// Takes until `count` deliveries came, or the deadline has passed.
pub async fn take_all(taker: &Taker, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    let until = tokio::time::Instant::now() + DEADLINE;
    while all.len() < count && tokio::time::Instant::now() < until {
        all.extend(taker.take(10).await.unwrap());
    }
    assert_eq!(all.len(), count, "deliveries");
    all
}

async fn append_all(appender: &Appender, numbers: std::ops::Range<usize>) {
    for number in numbers {
        appender.append(message(number)).await.unwrap();
    }
}

const fn wanted(visibility: Duration, wait_s: u64) -> Wanted {
    Wanted { visibility, wait: Duration::from_secs(wait_s) }
}

pub async fn what_is_appended_is_taken_with_its_body_and_its_trace_context(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(LONG, 1)).await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = "{\"spaces\" :  \"and ümlaut\\u0000 \u{1F980}\"}\n";
    let with = WireForm { traceparent: Some(traceparent.into()), body: Bytes::from(body), ..message(1) };
    let id = buffer.appender.append(with).await.unwrap();
    let delivery = take_all(&buffer.taker, 1).await.remove(0);
    assert_eq!(delivery.body, body.as_bytes());
    assert_eq!(delivery.traceparent.as_deref(), Some(traceparent));
    assert_eq!((delivery.message_id, delivery.receive_count), (id, 1));

    buffer.appender.append(message(2)).await.unwrap();
    let delivery = take_all(&buffer.taker, 1).await.remove(0);
    assert_eq!((delivery.body, delivery.traceparent), (message(2).body, None));
}

pub async fn the_largest_wire_form_passes_unchanged(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(LONG, 1)).await;
    let mut rng = fastrand::Rng::with_seed(7);
    let body: Bytes = (0..WIRE_BYTES_MAX).map(|_| rng.alphanumeric() as u8).collect::<Vec<_>>().into();
    buffer.appender.append(WireForm { body: body.clone(), ..message(1) }).await.unwrap();
    let delivery = take_all(&buffer.taker, 1).await.remove(0);
    assert!(delivery.body == body, "the body changed on its way");
}

pub async fn an_empty_buffer_answers_with_an_empty_list(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(LONG, 1)).await;
    assert!(buffer.taker.take(10).await.unwrap().is_empty());
    assert!(dead_letters(&buffer.taker, 10).await.unwrap().is_empty());
    assert!(buffer.taker.delete(&[]).await.is_empty());
}

pub async fn a_take_that_waits_is_woken_by_an_append(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(LONG, 20)).await;
    let taker = buffer.taker.clone();
    let waiting = tokio::spawn(async move { taker.take(10).await.unwrap() });
    // Long enough that the take waits by now; if it does not yet, the fact holds all the more.
    tokio::time::sleep(Duration::from_millis(300)).await;
    buffer.appender.append(message(1)).await.unwrap();
    let deliveries = tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap();
    assert_eq!(deliveries.len(), 1, "the take that waited got it");
}

pub async fn concurrent_appends_are_each_acknowledged_and_offered(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(LONG, 1)).await;
    let appends = (0..64).map(|number| {
        let appender = buffer.appender.clone();
        tokio::spawn(async move { appender.append(message(number)).await.unwrap() })
    });
    let mut ids = BTreeSet::new();
    for append in appends.collect::<Vec<_>>() {
        ids.insert(append.await.unwrap());
    }
    assert_eq!(ids.len(), 64, "each has an id of its own");
    let deliveries = take_all(&buffer.taker, 64).await;
    let offered: BTreeSet<_> = deliveries.iter().map(|delivery| delivery.message_id.clone()).collect();
    assert_eq!(offered, ids);
}

pub async fn many_pollers_get_each_message_once(open: impl AsyncFn(Wanted) -> Fixture) {
    const COUNT: usize = 200;
    let buffer = open(wanted(LONG, 1)).await;
    let got = Arc::new(AtomicUsize::new(0));
    let poller = |_| {
        let (taker, got) = (buffer.taker.clone(), got.clone());
        tokio::spawn(async move {
            let until = tokio::time::Instant::now() + DEADLINE;
            let mut bodies = Vec::new();
            while got.load(Ordering::Acquire) < COUNT && tokio::time::Instant::now() < until {
                let deliveries = taker.take(10).await.unwrap();
                assert!(deliveries.len() <= 10);
                all_ok(taker.delete(&receipts(&deliveries)).await, deliveries.len());
                got.fetch_add(deliveries.len(), Ordering::AcqRel);
                bodies.extend(deliveries.into_iter().map(|delivery| delivery.body));
            }
            bodies
        })
    };
    let pollers: Vec<_> = (0..6).map(poller).collect();
    append_all(&buffer.appender, 0..COUNT).await;
    let mut times: HashMap<Bytes, usize> = HashMap::new();
    for poller in pollers {
        poller.await.unwrap().into_iter().for_each(|body| *times.entry(body).or_default() += 1);
    }
    assert_eq!(times.len(), COUNT, "all were offered");
    assert!(times.values().all(|times| *times == 1), "each to one poller");
}

pub async fn a_deleted_message_is_not_offered_again(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(SHORT, 1)).await;
    append_all(&buffer.appender, 0..2).await;
    let deliveries = take_all(&buffer.taker, 2).await;
    let (gone, kept): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(|delivery| delivery.body == message(0).body);
    all_ok(buffer.taker.delete(&receipts(&gone)).await, 1);
    // Gone already counts as removed.
    all_ok(buffer.taker.delete(&receipts(&gone)).await, 1);
    let again = take_all(&buffer.taker, 1).await;
    assert_eq!(again[0].message_id, kept[0].message_id, "only the other one came again");
    all_ok(buffer.taker.delete(&receipts(&again)).await, 1);
    tokio::time::sleep(SHORT).await;
    assert!(buffer.taker.take(10).await.unwrap().is_empty());
}

pub async fn what_is_not_deleted_is_offered_again_and_counted(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(SHORT, 1)).await;
    append_all(&buffer.appender, 0..1).await;
    let first = take_all(&buffer.taker, 1).await.remove(0);
    for count in 2..=3 {
        let next = take_all(&buffer.taker, 1).await.remove(0);
        assert_eq!((next.receive_count, &next.body), (count, &first.body));
        assert_eq!(next.message_id, first.message_id);
        assert_ne!(next.receipt, first.receipt);
    }
}

pub async fn hiding_for_longer_outlasts_the_visibility(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(SHORT, 1)).await;
    append_all(&buffer.appender, 0..2).await;
    let deliveries = take_all(&buffer.taker, 2).await;
    all_ok(buffer.taker.hide(&receipts(&deliveries[..1]), LONG).await, 1);
    let again = take_all(&buffer.taker, 1).await;
    assert_eq!(again[0].message_id, deliveries[1].message_id, "the other one came first");
    all_ok(buffer.taker.delete(&receipts(&again)).await, 1);
    assert!(buffer.taker.take(10).await.unwrap().is_empty());
    // Who needs longer still has it.
    all_ok(buffer.taker.delete(&receipts(&deliveries[..1])).await, 1);
}

pub async fn hiding_for_no_time_offers_it_at_once(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(LONG, 1)).await;
    append_all(&buffer.appender, 0..1).await;
    let first = take_all(&buffer.taker, 1).await;
    all_ok(buffer.taker.hide(&receipts(&first), Duration::ZERO).await, 1);
    assert_eq!(take_all(&buffer.taker, 1).await[0].receive_count, 2);
}

pub async fn a_stale_receipt_is_harmless(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(SHORT, 1)).await;
    append_all(&buffer.appender, 0..1).await;
    let first = take_all(&buffer.taker, 1).await;
    let second = take_all(&buffer.taker, 1).await;
    all_ok(buffer.taker.hide(&receipts(&first), SHORT).await, 1);
    all_ok(buffer.taker.delete(&receipts(&second)).await, 1);
    all_ok(buffer.taker.hide(&receipts(&second), Duration::ZERO).await, 1);
    all_ok(buffer.taker.delete(&receipts(&first)).await, 1);
    tokio::time::sleep(SHORT).await;
    assert!(buffer.taker.take(10).await.unwrap().is_empty());
}

pub async fn a_buried_message_is_a_dead_letter_with_its_reason_and_detail(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(SHORT, 1)).await;
    append_all(&buffer.appender, 0..2).await;
    let deliveries = take_all(&buffer.taker, 2).await;
    let poison = |delivery: &Delivery| {
        let code = if delivery.body == message(0).body { PoisonCode::ForeignKey } else { PoisonCode::TooOld };
        Poison { code, detail: format!("it is {code}, says ümlaut") }
    };
    let burials: Vec<_> = deliveries.iter().map(|delivery| (delivery.clone(), poison(delivery))).collect();
    all_ok(buffer.taker.bury(&burials).await, 2);
    tokio::time::sleep(SHORT).await;
    assert!(buffer.taker.take(10).await.unwrap().is_empty(), "it left the buffer");

    let mut dead = dead_letters(&buffer.taker, 10).await.unwrap();
    dead.sort_by(|a, b| a.body.cmp(&b.body));
    let got: Vec<_> = dead.into_iter().map(|letter| (letter.body, letter.reason, letter.detail)).collect();
    let detail = |code: PoisonCode| format!("it is {code}, says ümlaut");
    let want = [(0, PoisonCode::ForeignKey), (1, PoisonCode::TooOld)]
        .map(|(number, code)| (message(number).body, code, detail(code)));
    assert_eq!(got, want);
    // Reading leaves them where they are.
    let until = tokio::time::Instant::now() + DEADLINE;
    while dead_letters(&buffer.taker, 10).await.unwrap().len() < 2 {
        assert!(tokio::time::Instant::now() < until, "they are still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub async fn batches_of_any_length_yield_one_result_per_item(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(LONG, 1)).await;
    append_all(&buffer.appender, 0..50).await;
    let deliveries = take_all(&buffer.taker, 50).await;
    let all = receipts(&deliveries);
    all_ok(buffer.taker.hide(&all, LONG).await, 50);
    all_ok(buffer.taker.delete(&all[..25]).await, 25);
    let poison = Poison { code: PoisonCode::NotValid, detail: "of a long batch".to_owned() };
    let burials: Vec<_> = deliveries[25..].iter().map(|delivery| (delivery.clone(), poison.clone())).collect();
    all_ok(buffer.taker.bury(&burials).await, 25);
    let mut bodies = BTreeSet::new();
    let until = tokio::time::Instant::now() + DEADLINE;
    while bodies.len() < 25 && tokio::time::Instant::now() < until {
        bodies.extend(dead_letters(&buffer.taker, 50).await.unwrap().into_iter().map(|letter| letter.body));
    }
    assert_eq!(bodies, deliveries[25..].iter().map(|delivery| delivery.body.clone()).collect());
}

/// Appends, takes and buries messages of these numbers.
async fn bury_all(buffer: &Fixture, numbers: std::ops::Range<usize>) {
    let count = numbers.len();
    append_all(&buffer.appender, numbers).await;
    let poison = Poison { code: PoisonCode::NotValid, detail: "for a walk".to_owned() };
    let deliveries = take_all(&buffer.taker, count).await;
    let burials: Vec<_> = deliveries.into_iter().map(|delivery| (delivery, poison.clone())).collect();
    all_ok(buffer.taker.bury(&burials).await, count);
}

fn walk(letters_max: usize) -> Walk {
    Walk { which: Which::All, letters_max }
}

/// The bodies of all dead letters, once there are `count`.
async fn dead_bodies(taker: &Taker, count: usize) -> BTreeSet<Bytes> {
    let bodies = || async {
        let letters = dead_letters(taker, 1_000).await.unwrap();
        let bodies: BTreeSet<Bytes> = letters.into_iter().map(|letter| letter.body).collect();
        (bodies.len() == count).then_some(bodies)
    };
    eventually(&format!("{count} dead letters"), bodies).await
}

pub async fn a_redriven_letter_is_a_message_again_with_the_same_body_and_trace(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(LONG, 1)).await;
    let traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    let body = Bytes::from("{\"spaces\" :  \"and ümlaut \u{1F980}\"}\n");
    buffer.appender.append(WireForm { traceparent, body: body.clone(), ..message(1) }).await.unwrap();
    let before = take_all(&buffer.taker, 1).await.remove(0);
    let poison = Poison { code: PoisonCode::TooOld, detail: "it was".to_owned() };
    all_ok(buffer.taker.bury(&[(before.clone(), poison)]).await, 1);

    let account = Some(Account::parse("acme").unwrap());
    let mut seen = Vec::new();
    let rule = |letter: &DeadLetter| {
        seen.push((letter.reason, letter.detail.clone(), letter.since_ms.is_some()));
        Ruling::Redrive(account.clone())
    };
    let walked = DeadLetters::of(&buffer.taker).walk(&walk(10), rule).await.unwrap();
    assert_eq!(seen, [(PoisonCode::TooOld, "it was".to_owned(), true)]);
    assert_eq!((walked.seen, walked.complete), (1, true));
    all_ok(walked.results.into_iter().map(|(_, result)| result).collect(), 1);

    let after = take_all(&buffer.taker, 1).await.remove(0);
    assert_eq!((&after.body, &after.traceparent, after.receive_count), (&body, &before.traceparent, 1));
    assert_ne!(after.message_id, before.message_id, "it is a new message");
    dead_bodies(&buffer.taker, 0).await;
}

pub async fn a_dropped_letter_is_gone_and_the_others_stay(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(LONG, 1)).await;
    bury_all(&buffer, 0..3).await;
    let rule = |letter: &DeadLetter| if letter.body == message(1).body { Ruling::Drop } else { Ruling::Leave };
    let walked = DeadLetters::of(&buffer.taker).walk(&walk(10), rule).await.unwrap();
    assert_eq!((walked.seen, walked.results.len(), walked.complete), (3, 1, true));
    assert_eq!(dead_bodies(&buffer.taker, 2).await, [message(0).body, message(2).body].into());
    assert!(buffer.taker.take(10).await.unwrap().is_empty(), "dropped is not redriven");
}

pub async fn a_walk_looks_at_no_more_letters_than_it_may_and_says_when_there_are_more(
    open: impl AsyncFn(Wanted) -> Fixture,
) {
    let buffer = open(wanted(LONG, 1)).await;
    bury_all(&buffer, 0..15).await;
    let letters = DeadLetters::of(&buffer.taker);
    for (letters_max, complete) in [(1, false), (12, false), (15, true), (16, true)] {
        let mut bodies = BTreeSet::new();
        let keep = |letter: &DeadLetter| {
            bodies.insert(letter.body.clone());
            Ruling::Leave
        };
        let walked = letters.walk(&walk(letters_max), keep).await.unwrap();
        let want = letters_max.min(15);
        assert_eq!((walked.seen, bodies.len(), walked.complete), (want, want, complete), "{letters_max}");
        // What the walk held is there for the next one at once.
        dead_bodies(&buffer.taker, 15).await;
    }
}

pub async fn a_stopped_walk_does_nothing_to_the_letter_that_it_stopped_at(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(LONG, 1)).await;
    bury_all(&buffer, 0..4).await;
    let (mut asked, mut dropped) = (0, BTreeSet::new());
    let rule = |letter: &DeadLetter| {
        asked += 1;
        if asked > 2 {
            return Ruling::Stop;
        }
        dropped.insert(letter.body.clone());
        Ruling::Drop
    };
    let walked = DeadLetters::of(&buffer.taker).walk(&walk(10), rule).await.unwrap();
    assert_eq!((asked, walked.seen, walked.results.len(), walked.complete), (3, 2, 2, false));
    let left = dead_bodies(&buffer.taker, 2).await;
    assert!(left.is_disjoint(&dropped), "{left:?} {dropped:?}");
}

pub async fn a_walk_does_what_it_rules_over_more_letters_than_one_batch_carries(open: impl AsyncFn(Wanted) -> Fixture) {
    const COUNT: usize = 130;
    let buffer = open(wanted(LONG, 1)).await;
    bury_all(&buffer, 0..COUNT).await;
    let odd: BTreeSet<Bytes> = (0..COUNT).filter(|number| number % 2 == 1).map(|number| message(number).body).collect();
    let rule = |letter: &DeadLetter| if odd.contains(&letter.body) { Ruling::Redrive(None) } else { Ruling::Drop };
    let walked = DeadLetters::of(&buffer.taker).walk(&walk(1_000), rule).await.unwrap();
    assert_eq!((walked.seen, walked.complete), (COUNT, true));
    let ids: BTreeSet<_> = walked.results.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids.len(), COUNT, "each has a result of its own");
    all_ok(walked.results.into_iter().map(|(_, result)| result).collect(), COUNT);
    let back = take_all(&buffer.taker, odd.len()).await;
    assert_eq!(back.into_iter().map(|delivery| delivery.body).collect::<BTreeSet<_>>(), odd);
    dead_bodies(&buffer.taker, 0).await;
}

pub async fn depth_tells_ready_from_taken_from_dead(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(LONG, 1)).await;
    append_all(&buffer.appender, 0..5).await;
    let first = buffer.taker.take(1).await.unwrap();
    assert_eq!(first.len(), 1, "no more than asked for");
    let second = buffer.taker.take(1).await.unwrap();
    let poison = Poison { code: PoisonCode::NotValid, detail: String::new() };
    all_ok(buffer.taker.bury(&[(second[0].clone(), poison)]).await, 1);
    // SQS's own figures may lag.
    let until = tokio::time::Instant::now() + DEADLINE;
    loop {
        let depth = buffer.taker.depth().await.unwrap();
        if (depth.visible, depth.in_flight, depth.dead) == (3, 1, 1) {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{depth:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub async fn a_reachable_buffer_passes_its_check(open: impl AsyncFn(Wanted) -> Fixture) {
    let buffer = open(wanted(LONG, 1)).await;
    buffer.appender.check().await.unwrap();
}
