//! Three processes that answer from memory, one writer, and faults in an order that the seed chooses: connections are
//! cut, Redis is paused, frozen, emptied and replaced, slots move.
//!
//! *Never backwards.* While a process hears of changes and its epoch stays the same, it never answers with a version older
//! than one that it has answered with. *To the last.* When a fault is over, each process comes to answer every key with
//! the last version that was acknowledged. *Not from before.* What changed while nobody told of it is not answered with
//! when changes are told again, however quiet it is otherwise: the epoch alone knows of that. *From memory.* Then there
//! comes a time in which Redis sees no GET at all, while the processes answer as before.
//!
//! A test that fails prints its seed; `COHERENCE_SEED=` runs it again, with the same faults in the same order.
//!
//! | file | holds |
//! | --- | --- |
//! | `stage` | the servers, the processes, and what can be done to them |
//! | `writer` | writes that go on meanwhile |
//! | `reader` | reads that go on meanwhile, and what they are held to |
//! | `limits` | crowds, hot keys, and a Redis that doesn't answer |

mod limits;
mod reader;
mod stage;
mod writer;

use std::collections::BTreeMap;

use crate::support::eventually;
use reader::{Line, Readers};
use stage::{Fault, Stage};
use writer::Load;

const KEYS: usize = 40;
/// Reads of each process in a time that should be quiet.
const QUIET_READS: usize = 100;

fn seed() -> u64 {
    let seed =
        std::env::var("COHERENCE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    println!("COHERENCE_SEED={seed}");
    seed
}

fn names() -> Vec<String> {
    (0..KEYS).map(|n| format!("key-{n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_never_behind_itself_and_comes_to_the_last_version_after_every_fault() {
    run(Stage::sentinels().await, Fault::SOME_OF_ONE, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_the_same_many_times_over() {
    run(Stage::sentinels().await, Fault::OF_ONE, 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_the_same_on_a_cluster_whose_slots_move() {
    run(Stage::cluster().await, Fault::OF_CLUSTER, 8).await;
}

async fn run(stage: Stage, faults: &[Fault], rounds: usize) {
    let mut random = fastrand::Rng::with_seed(seed());
    let names = names();
    let mut load = Load::start(stage.writer(), &names);
    let readers = Readers::start(&stage.gets, &names, random.u64(..));
    for _ in 0..rounds {
        let mut faults = faults.to_vec();
        random.shuffle(&mut faults);
        for fault in faults {
            println!("{fault:?}");
            load.go_on().await;
            readers.go_on().await;
            match fault {
                Fault::Unheard => {
                    // Everything is remembered by then, and nothing else makes anybody forget it.
                    let (_, _resting) = (load.rest().await, readers.rest().await);
                    stage.until_coherent().await;
                    until_quiet(&stage, &names).await;
                    stage.suffer(fault, &mut random).await;
                    load.resume();
                }
                _ => stage.suffer(fault, &mut random).await,
            }
            load.go_on().await;
            readers.go_on().await;
            let last = load.rest().await;
            stage.until_coherent().await;
            until_last(&stage, &last).await;
            until_quiet(&stage, &names).await;
            load.resume();
        }
    }
    let _ = load.rest().await;
    let windows = readers.stop().await;
    println!("windows of one epoch each: {windows}");
    assert!(windows > 0, "the readers never had an epoch of their own");
}

/// Waits until each process answers each key with the version that was acknowledged last.
async fn until_last(stage: &Stage, last: &BTreeMap<String, u64>) {
    for get in &stage.gets {
        let mut line = Line::open(&get.url()).await;
        for (name, number) in last {
            line.until(name, 200, &number.to_string()).await;
        }
    }
}

/// Waits for a time without a GET in Redis, in which nine of ten answers at least come from memory.
async fn until_quiet(stage: &Stage, names: &[String]) {
    eventually("a time in which Redis sees no GET, and memory answers", || async {
        let (gets, lookups) = (stage.gets_seen(), stage.lookups().await);
        for get in &stage.gets {
            reader::read_many(get, names, QUIET_READS).await;
        }
        let since = stage.lookups().await.since(&lookups);
        (stage.gets_seen() == gets && since.hits >= 0.9 * since.all).then_some(())
    })
    .await;
}
