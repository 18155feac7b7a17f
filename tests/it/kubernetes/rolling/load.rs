//! Who sets and gets while pods come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::PATIENCE;
use super::service::{Caller, Service};
use crate::support::eventually_within;

const WRITERS: usize = 4;
const READERS: usize = 4;
/// Keys of each writer, set in turn.
const KEYS: u64 = 8;

/// What a writer was told to be safe.
#[derive(Default)]
pub struct Accepted {
    /// The last payload of each key.
    pub last: BTreeMap<String, u64>,
    pub ids: Vec<String>,
    /// Gets that were answered.
    pub gets: u64,
}

pub struct Load {
    stop: CancellationToken,
    accepted: Arc<AtomicUsize>,
    writers: Vec<JoinHandle<Accepted>>,
    readers: Vec<JoinHandle<u64>>,
}

impl Load {
    /// Each caller calls again after `pause`.
    pub fn start(sets: &Arc<Service>, gets: &Arc<Service>, pause: Duration) -> Self {
        let (stop, accepted) = (CancellationToken::new(), Arc::<AtomicUsize>::default());
        let begin = SystemTime::now();
        let writer = |writer| {
            let (sets, stop, accepted) = (Arc::clone(sets), stop.clone(), Arc::clone(&accepted));
            tokio::spawn(async move {
                let (mut caller, mut safe) = (Caller::new(&sets), Accepted::default());
                for number in 0.. {
                    let id = set(&mut caller, writer, number, begin).await;
                    safe.ids.push(id);
                    safe.last.insert(key(writer, number), number);
                    accepted.fetch_add(1, Ordering::Relaxed);
                    if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                        break;
                    }
                }
                safe
            })
        };
        let reader = |reader| {
            let (gets, stop) = (Arc::clone(gets), stop.clone());
            tokio::spawn(async move {
                let (mut caller, mut answered) = (Caller::new(&gets), 0);
                while stop.run_until_cancelled(sleep(pause)).await.is_some() {
                    get(&mut caller, &key(reader % WRITERS, answered)).await;
                    answered += 1;
                }
                answered
            })
        };
        let (writers, readers) = ((0..WRITERS).map(writer).collect(), (0..READERS).map(reader).collect());
        Self { stop, accepted, writers, readers }
    }

    /// Waits until so many more sets have been accepted.
    pub async fn until_accepted(&self, more: usize) {
        let enough = self.accepted.load(Ordering::Relaxed) + more;
        eventually_within(PATIENCE, &format!("{more} more sets are accepted"), || async {
            self.is_well();
            (self.accepted.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
    }

    /// A caller ends before its time by a panic alone.
    fn is_well(&self) {
        let ended =
            self.writers.iter().any(JoinHandle::is_finished) || self.readers.iter().any(JoinHandle::is_finished);
        assert!(!ended, "a call has failed: see above");
    }

    /// Stops it, and says what was accepted. Panics where a call has failed.
    pub async fn end(self) -> Accepted {
        self.stop.cancel();
        let mut all = Accepted::default();
        for writer in self.writers {
            let Accepted { last, ids, .. } = writer.await.expect("no set has failed");
            all.last.extend(last);
            all.ids.extend(ids);
        }
        for reader in self.readers {
            all.gets += reader.await.expect("no get has failed");
        }
        all
    }
}

fn key(writer: usize, number: u64) -> String {
    format!("{writer}-{}", number % KEYS)
}

/// Returns the event's id. It has a name and a time of its own, so that one that is sent again is no other one.
async fn set(caller: &mut Caller<'_>, writer: usize, number: u64, begin: SystemTime) -> String {
    let time = humantime::format_rfc3339_millis(begin + Duration::from_millis(number)).to_string();
    let event = json!({"accountId": "a", "flowId": "f", "webhookKeys": [key(writer, number)], "data": number,
        "eventId": format!("{writer}-{number}"), "eventTime": time});
    let answer = caller.call("POST", "/v1/set", &event.to_string()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let told: Value = serde_json::from_str(&answer.body).expect("JSON");
    told["id"].as_str().expect("an id").to_owned()
}

/// It is there, or not yet.
async fn get(caller: &mut Caller<'_>, key: &str) {
    let answer = caller.call("GET", &format!("/v1/keys/{key}"), "").await;
    assert!([200, 404].contains(&answer.status), "{}: {}", answer.status, answer.body);
}
