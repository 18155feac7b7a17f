//! The three roles under faults: connections are reset, answers are late, cut off or errors, processes are killed and
//! frozen, while seeded clients set and delete, and send again what was not answered. At the end everything that was
//! answered 202 is accounted for: readable with exactly its payload, superseded by a newer version, expired in its time,
//! or dead with its reason. Nothing else.
//!
//! The seed is printed by a test that fails, and `FAULTS_SEED=` runs it again; the faults then come in the same order
//! and with the same shares, though not at the very same calls, which race.
//!
//! | who makes it | fault |
//! | --- | --- |
//! | microburst, in front of SQS | throttling and 5xx in the shapes of SQS, resets, answers cut off or empty, latency |
//! | microburst, in front of Redis | a fifth of all commands refused, resets, replies cut off, latency with jitter |
//! | `SqsTap` of our own | single entries of a batch call refused, which microburst does not do |
//! | signals | Redis killed and frozen, the consumer and the set role killed |
//!
//! | file | holds |
//! | --- | --- |
//! | `stage` | the processes, the proxies, their rules |
//! | `event` | the seeded events |
//! | `clients` | sends them until they are accepted |
//! | `reader` | reads beside the faults |
//! | `books` | accounts for everything at the end |

mod books;
mod clients;
mod event;
mod reader;
mod stage;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use event::{Candidate, Event, Events, poison};
use stage::Stage;

/// What goes wrong, one after the other, in an order that the seed chooses.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    SqsErrors,
    SqsCuts,
    RedisErrors,
    RedisCuts,
    RedisKilled,
    RedisFrozen,
    ConsumerKilled,
    SetKilled,
    AllErrors,
}

impl Trouble {
    const ALL: [Self; 9] = [
        Self::SqsErrors,
        Self::SqsCuts,
        Self::RedisErrors,
        Self::RedisCuts,
        Self::RedisKilled,
        Self::RedisFrozen,
        Self::ConsumerKilled,
        Self::SetKilled,
        Self::AllErrors,
    ];
}

struct Size {
    /// How often each trouble comes.
    rounds: usize,
    events_per_trouble: usize,
    /// Sets in one array at most.
    array_max: usize,
    common_keys: usize,
}

const SHORT: Size = Size { rounds: 1, events_per_trouble: 130, array_max: 8, common_keys: 120 };
/// 100,080 events.
const LONG: Size = Size { rounds: 8, events_per_trouble: 1_390, array_max: 40, common_keys: 3_000 };
/// Share of entries of batch sends that are refused one by one, whatever else goes wrong.
const REFUSED_SENDS: f64 = 0.1;
const POISON_PER_TROUBLE: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn every_202_is_accounted_for_after_each_kind_of_fault() {
    run(&SHORT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_every_one_of_a_hundred_thousand_202s_is_accounted_for() {
    run(&LONG).await;
}

async fn run(size: &Size) {
    let seed = seed();
    // Soon over, so that a frozen Redis is an outage.
    let mut stage = Stage::start(seed, &[("HOOKCACHE_STORE__WRITE_TIMEOUT", "1s")]).await;
    let mut events = Events::new(seed, size.common_keys);
    let first = singly(events.first());
    let mut candidates = clients::send_all(&stage.set.url(), first, &AtomicUsize::new(0)).await;
    stage.drained().await;
    // Before all faults, so that whoever owns a key is known.
    books::balance(&stage, &candidates).await;

    let stop = CancellationToken::new();
    let reader = tokio::spawn(reader::read_until(stop.clone(), stage.get.url(), size.common_keys, seed));
    let (mut poisons, mut random) = (HashMap::new(), fastrand::Rng::with_seed(seed));
    for _ in 0..size.rounds {
        let mut troubles = Trouble::ALL;
        random.shuffle(&mut troubles);
        for trouble in troubles {
            for _ in 0..POISON_PER_TROUBLE {
                let (body, reason) = poison(poisons.len());
                stage.put(&body).await;
                poisons.insert(body, reason);
            }
            let requests = events.requests(size.events_per_trouble, size.array_max);
            let began = Instant::now();
            candidates.extend(send_during(trouble, &mut stage, requests).await);
            println!("{trouble:?}: {:?}", began.elapsed());
        }
    }
    let began = Instant::now();
    stage.drained().await;
    println!("drained: {:?}", began.elapsed());
    stop.cancel();
    let (there, down) = reader.await.expect("a reader that saw nothing wrong");

    books::balance(&stage, &candidates).await;
    books::check_letters(&stage.take_dead_letters().await, &poisons, &candidates);
    let (seen, sqs, redis) = (stage.tap.seen(), stage.sqs_faults.faults().await, stage.redis_faults.faults().await);
    println!(
        "{} versions; reads: {there} there, {down} try again; faults: {sqs} of SQS, {redis} of Redis, {} sends and {} \
         deletes refused one by one",
        candidates.len(),
        seen.refused_sends,
        seen.refused_deletes
    );
    // The faults were there.
    assert!(sqs > 0 && redis > 0 && there > 0 && seen.refused_sends > 0 && seen.refused_deletes > 0);
}

/// Begins a trouble, sends, and ends it when all is accepted, or, where a process was killed, when it is back.
async fn send_during(trouble: Trouble, stage: &mut Stage, requests: Vec<Vec<Arc<Event>>>) -> Vec<Candidate> {
    let (base, accepted) = (stage.set.url(), AtomicUsize::new(0));
    let half = requests.iter().map(Vec::len).sum::<usize>() / 2;
    stage.tap.refuse_sends(REFUSED_SENDS);
    match trouble {
        Trouble::SqsErrors => stage.sqs_faults.set(&stage::sqs_errors()).await,
        Trouble::SqsCuts => stage.sqs_faults.set(&stage::sqs_cuts()).await,
        Trouble::RedisErrors => stage.redis_faults.set(&stage::redis_errors()).await,
        Trouble::RedisCuts => stage.redis_faults.set(&stage::redis_cuts()).await,
        Trouble::RedisKilled => stage.redis.stop(),
        Trouble::RedisFrozen => stage.redis.pause(),
        Trouble::AllErrors => {
            stage.sqs_faults.set(&stage::sqs_errors()).await;
            stage.redis_faults.set(&stage::redis_errors()).await;
        }
        Trouble::ConsumerKilled | Trouble::SetKilled => {}
    }
    let sent = clients::send_all(&base, requests, &accepted);
    let killed = async {
        let process = match trouble {
            Trouble::ConsumerKilled => &mut stage.consume,
            Trouble::SetKilled => &mut stage.set,
            _ => return,
        };
        while accepted.load(Ordering::Relaxed) < half {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        process.start_again().await;
    };
    let (sent, ()) = tokio::join!(sent, killed);
    match trouble {
        Trouble::RedisKilled => {
            stage.paused().await;
            stage.redis.start_again().await;
        }
        Trouble::RedisFrozen => {
            stage.paused().await;
            stage.redis.resume();
        }
        _ => {}
    }
    stage.calm().await;
    sent
}

/// Events of each of the two outages below: no more than a batch or two.
const OUTAGE_EVENTS: usize = 12;
/// `consumer.attempts_max`: the first failure, the one that may run while the outage ends, and one more.
const ATTEMPTS_MAX: usize = 3;

/// A Redis that answers and takes no write, then one that is frozen, then killed.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_makes_no_dead_letters_and_what_is_in_hand_stays_hidden() {
    let seed = seed();
    let attempts_max = ATTEMPTS_MAX.to_string();
    let mut stage = Stage::start(seed, &[("HOOKCACHE_CONSUMER__ATTEMPTS_MAX", &attempts_max)]).await;
    let mut events = Events::new(seed, OUTAGE_EVENTS);
    let mut candidates = clients::send_all(&stage.set.url(), singly(events.first()), &AtomicUsize::new(0)).await;
    stage.drained().await;

    stage.redis_faults.set(&stage::redis_full()).await;
    let requests = events.requests(OUTAGE_EVENTS, 1);
    candidates.extend(clients::send_all(&stage.set.url(), requests, &AtomicUsize::new(0)).await);
    let tried_often = || async {
        assert_eq!(stage.dead_letters().await, 0, "dead letters of an outage");
        let received = stage.tap.seen().received;
        received.values().filter(|receipts| receipts.len() > ATTEMPTS_MAX).count() >= OUTAGE_EVENTS
    };
    stage.until("each message was tried more often than attempts would allow", tried_often).await;

    stage.redis.pause();
    stage.calm().await;
    let before = stage.tap.seen();
    let requests = events.requests(OUTAGE_EVENTS, 1);
    candidates.extend(clients::send_all(&stage.set.url(), requests, &AtomicUsize::new(0)).await);
    // Twice: beyond the visibility that it was taken with.
    let held = || async {
        let seen = stage.tap.seen();
        let twice = |receipt: &String| seen.hidden.get(receipt).is_some_and(|hidden| *hidden >= 2);
        let taken_since = |(id, receipts): (&String, &Vec<String>)| {
            let known = before.received.get(id).map_or(0, Vec::len);
            receipts.iter().skip(known).all(twice)
        };
        seen.often_hidden() > before.often_hidden() && seen.received.iter().all(taken_since)
    };
    stage.until("each message in hand was hidden again and again", held).await;
    stage.redis.stop();
    stage.redis.start_again().await;
    stage.drained().await;

    books::balance(&stage, &candidates).await;
    books::check_letters(&stage.take_dead_letters().await, &HashMap::new(), &candidates);
}

fn singly(events: Vec<Arc<Event>>) -> Vec<Vec<Arc<Event>>> {
    events.into_iter().map(|event| vec![event]).collect()
}

/// That of `FAULTS_SEED`, or a new one; a test that fails prints it.
fn seed() -> u64 {
    let seed = std::env::var("FAULTS_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    println!("FAULTS_SEED={seed}");
    seed
}
