//! Reads of the store that are under way: one for each key, which everybody who wants it waits for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Found, Kept, L1, Landed, Make};
use crate::envelope::WebhookKey;
use crate::store::ReadError;
use crate::store::changes::{Hash, Stamp};

pub(super) struct Flights<T>(Mutex<HashMap<WebhookKey, Flight<T>>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Flights<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<WebhookKey, Flight<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl<T> Flights<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

struct Flight<T> {
    stamp: Stamp,
    /// When it took off, in milliseconds since the epoch.
    from_ms: u64,
    landed: watch::Receiver<Option<Landed<T>>>,
}

/// A flight that is ours to bring home. Those who wait for one that is dropped are told so.
struct Pilot<T: Make> {
    l1: L1<T>,
    key: WebhookKey,
    stamp: Stamp,
    from_ms: u64,
    land: watch::Sender<Option<Landed<T>>>,
}

/// What becomes of one key.
enum Way<T> {
    Remembered(Arc<Kept<T>>),
    Waiting(watch::Receiver<Option<Landed<T>>>),
}

/// See [`L1::find`].
pub(super) async fn find<T: Make>(l1: &L1<T>, keys: &[WebhookKey]) -> Vec<Result<Found<T>, ReadError>> {
    let (is_told, mut pilots) = (l1.changes().is_told(), Vec::new());
    let ways: Vec<Way<T>> = keys.iter().map(|key| set_out(l1, key, is_told, &mut pilots)).collect();
    if !pilots.is_empty() {
        tokio::spawn(fly(l1.clone(), pilots));
    }
    let mut results = Vec::with_capacity(ways.len());
    for way in ways {
        results.push(match way {
            Way::Remembered(kept) => Ok(Found::Remembered(kept)),
            Way::Waiting(landed) => until_landed(landed).await.map(Found::Read),
        });
    }
    results
}

async fn until_landed<T>(mut landed: watch::Receiver<Option<Landed<T>>>) -> Landed<T> {
    let landed = landed.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone());
    landed.unwrap_or_else(|| Err(ReadError::Unavailable("a read was broken off".to_owned())))
}

/// Joins a flight, or begins one, unless what it would bring is there by now.
fn set_out<T: Make>(l1: &L1<T>, key: &WebhookKey, is_told: bool, pilots: &mut Vec<Pilot<T>>) -> Way<T> {
    let (hash, from_ms) = (l1.changes().hash(key.as_str().as_bytes()), l1.inner.clock.now_ms());
    let mut flights = l1.inner.flights.lock();
    if let Some(flight) = flights.get(key)
        && flight.may_be_joined(l1, hash, from_ms, is_told)
    {
        return Way::Waiting(flight.landed.clone());
    }
    // A flight is remembered before it leaves the list.
    if let Some(kept) = l1.look_for(hash, key.as_str(), from_ms, Arc::clone) {
        return Way::Remembered(kept);
    }
    let (land, landed) = watch::channel(None);
    let stamp = l1.changes().stamp(hash);
    flights.insert(key.clone(), Flight { stamp, from_ms, landed: landed.clone() });
    pilots.push(Pilot { l1: l1.clone(), key: key.clone(), stamp, from_ms, land });
    Way::Waiting(landed)
}

impl<T: Make> Flight<T> {
    /// Whoever comes late must not be told something older than what they would find themselves.
    fn may_be_joined(&self, l1: &L1<T>, hash: Hash, now_ms: u64, is_told: bool) -> bool {
        let age = Duration::from_millis(now_ms.saturating_sub(self.from_ms));
        l1.changes().is_current(hash, self.stamp) && (is_told || age < l1.inner.stale_max)
    }
}

/// A task of its own: it goes on when those who wait for it are gone.
async fn fly<T: Make>(l1: L1<T>, pilots: Vec<Pilot<T>>) {
    let begin = Instant::now();
    let keys: Vec<WebhookKey> = pilots.iter().map(|pilot| pilot.key.clone()).collect();
    let answers = l1.reader.answer(&keys).await;
    (l1.inner.on_read)(begin.elapsed());
    for (pilot, answer) in pilots.into_iter().zip(answers) {
        let landed = l1.settle(pilot.key.clone(), pilot.stamp, pilot.from_ms, answer);
        pilot.land(landed);
    }
}

impl<T: Make> Pilot<T> {
    fn land(self, landed: Landed<T>) {
        // It is remembered by now: who comes from here on finds it there, or begins a flight of their own.
        self.leave();
        self.land.send_replace(Some(landed));
    }

    fn leave(&self) {
        let mut flights = self.l1.inner.flights.lock();
        // Another one may have taken off under the same key since.
        let is_ours = |flight: &Flight<T>| flight.landed.same_channel(&self.land.subscribe());
        if flights.get(&self.key).is_some_and(is_ours) {
            flights.remove(&self.key);
        }
    }
}

impl<T: Make> Drop for Pilot<T> {
    fn drop(&mut self) {
        if self.land.borrow().is_none() {
            self.leave();
        }
    }
}
