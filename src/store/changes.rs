//! What a process knows of changes to what is stored, whoever made them.
//!
//! Every key belongs to one of [`BUCKETS`] buckets, each with a generation, and there is one epoch. A change of a key
//! moves on the generation of its bucket; what may concern any key (an emptied store, a lost connection, another primary)
//! moves on the epoch. Whoever remembers something takes a [`Stamp`] *before* reading it and believes it for as long as
//! the stamp is current: a change that comes to pass while the read is under way, or whose news overtakes the answer,
//! makes the stamp old, in whatever order the two arrive. Stamps also serve those who wait: a [`Watch`] holds one.
//!
//! A stamp is worth nothing where nobody tells of changes. Who does is a [`Source`]: the commits of an embedded store, or
//! the tracking connection to one primary of Redis. What a source has told is good for as long as its [`Lease`] is, which
//! the source renews while it hears from the store; so a process that was stopped for a while doesn't believe what it
//! remembers from before. A source that is lost, and one that begins, move on the epoch.
//!
//! It never asks the store anything, and remembers nothing but numbers. A generation that moves on for nothing (another
//! key of the bucket, the same value again) costs one read.

mod watch;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

pub use self::watch::{Change, Watch};
use crate::envelope::Clock;

/// Keys that change ten thousand times a second move on each generation every six seconds or so.
const BUCKETS: usize = 1 << 16;

/// What is known of changes. Cheap to clone; all clones know the same.
#[derive(Clone)]
pub struct Changes(Arc<Inner>);

struct Inner {
    clock: Clock,
    hasher: RandomState,
    generations: Box<[AtomicU32]>,
    epoch: Apart<AtomicU64>,
    /// Keys that were told to have changed.
    invalidations: Apart<AtomicU64>,
    sources: Mutex<Vec<Weak<Telling>>>,
    /// Watches there are, so that a change that nobody waits for takes no lock.
    watches: AtomicUsize,
    /// Who waits for a bucket, and how many they are.
    waiting: Mutex<HashMap<usize, (usize, Arc<Notify>)>>,
}

/// On cache lines of its own: what is read all the time must not lie beside what is written.
#[repr(align(128))]
struct Apart<T>(T);

/// The hash of a key, under which its bucket is found; of no meaning in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub(super) u64);

/// What had been told of a key's bucket, and of all keys, at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    generation: u32,
    epoch: u64,
}

/// Is every change told now?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Told,
    /// Why not.
    Untold(String),
    /// Nobody is to tell.
    Unasked,
}

/// What is told now and was told before, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Keys that were told to have changed.
    pub invalidations: u64,
    /// Times that everything may have changed.
    pub epochs: u64,
}

impl Changes {
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner {
            clock,
            hasher: RandomState::new(),
            generations: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            epoch: Apart(AtomicU64::new(0)),
            invalidations: Apart(AtomicU64::new(0)),
            sources: Mutex::default(),
            watches: AtomicUsize::new(0),
            waiting: Mutex::default(),
        }))
    }

    /// Of the bytes of a webhook key.
    pub fn hash(&self, key: &[u8]) -> Hash {
        Hash(self.0.hasher.hash_one(key))
    }

    pub fn stamp(&self, hash: Hash) -> Stamp {
        Stamp {
            generation: self.0.generations[bucket(hash)].load(Ordering::SeqCst),
            epoch: self.0.epoch.0.load(Ordering::SeqCst),
        }
    }

    /// Has nothing been told since that concerns this key?
    pub fn is_current(&self, hash: Hash, stamp: Stamp) -> bool {
        self.stamp(hash) == stamp
    }

    /// A key may have changed: what was read of its bucket so far is not to be believed any more.
    pub fn key_changed(&self, hash: Hash) {
        self.0.invalidations.0.fetch_add(1, Ordering::Relaxed);
        self.0.generations[bucket(hash)].fetch_add(1, Ordering::SeqCst);
        if self.0.watches.load(Ordering::SeqCst) == 0 {
            return;
        }
        let waiting = self.0.waiting();
        if let Some((_, notify)) = waiting.get(&bucket(hash)) {
            notify.notify_waiters();
        }
    }

    /// Any key may have changed.
    pub fn everything_changed(&self) {
        self.0.epoch.0.fetch_add(1, Ordering::SeqCst);
        for (_, notify) in self.0.waiting().values() {
            notify.notify_waiters();
        }
    }

    /// Begins to wait for changes of a key: it hears of every change from now on.
    pub fn watch(&self, key: &[u8]) -> Watch {
        let hash = self.hash(key);
        self.0.watches.fetch_add(1, Ordering::SeqCst);
        let mut waiting = self.0.waiting();
        let (count, notify) = waiting.entry(bucket(hash)).or_default();
        *count += 1;
        let notify = Arc::clone(notify);
        drop(waiting);
        Watch::new(self.clone(), hash, notify)
    }

    /// A watch is over.
    fn unwatch(&self, hash: Hash) {
        let mut waiting = self.0.waiting();
        if let Some((count, _)) = waiting.get_mut(&bucket(hash)) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&bucket(hash));
            }
        }
        drop(waiting);
        self.0.watches.fetch_sub(1, Ordering::SeqCst);
    }

    /// Somebody who is going to tell of changes.
    pub fn source(&self) -> Source {
        let telling = Telling { until_ms: AtomicU64::new(0), silent: Mutex::new("not yet known".to_owned()) };
        let telling = Arc::new(telling);
        self.0.sources().push(Arc::downgrade(&telling));
        Source { telling, changes: self.clone() }
    }

    /// Is every change told now?
    pub fn is_told(&self) -> bool {
        let (now_ms, sources) = (self.0.clock.now_ms(), self.0.sources());
        let is_told = |telling: &Weak<Telling>| telling.upgrade().is_none_or(|telling| telling.is_told(now_ms));
        !sources.is_empty() && sources.iter().all(is_told)
    }

    /// Told only where every source is, and there is one.
    pub fn standing(&self) -> Standing {
        let now_ms = self.0.clock.now_ms();
        let sources: Vec<Arc<Telling>> = self.0.sources().iter().filter_map(Weak::upgrade).collect();
        match sources.iter().find(|telling| !telling.is_told(now_ms)) {
            Some(telling) => Standing::Untold(telling.why_silent()),
            None if sources.is_empty() => Standing::Unasked,
            None => Standing::Told,
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            invalidations: self.0.invalidations.0.load(Ordering::Relaxed),
            epochs: self.0.epoch.0.load(Ordering::Relaxed),
        }
    }
}

fn bucket(hash: Hash) -> usize {
    hash.0 as usize % BUCKETS
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, HashMap<usize, (usize, Arc<Notify>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sources(&self) -> MutexGuard<'_, Vec<Weak<Telling>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until when a source's word is good, in milliseconds since the epoch; zero where it tells nothing.
struct Telling {
    until_ms: AtomicU64,
    /// Why it tells nothing, for the operator.
    silent: Mutex<String>,
}

impl Telling {
    fn is_told(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms.load(Ordering::SeqCst)
    }

    fn why_silent(&self) -> String {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One who tells of changes. From its end on nobody does, for what it told of.
pub struct Source {
    telling: Arc<Telling>,
    changes: Changes,
}

/// How long what a source tells is good. Cheap to clone.
#[derive(Clone)]
pub struct Lease(Arc<Telling>);

impl Source {
    /// For what is read from where this source tells of every change.
    pub fn lease(&self) -> Lease {
        Lease(Arc::clone(&self.telling))
    }

    /// Tells of every change from now on; its word is good until then. What was read before may be out of date.
    pub fn begin(&self, until_ms: u64) {
        self.changes.everything_changed();
        self.renew(until_ms);
    }

    pub fn renew(&self, until_ms: u64) {
        self.telling.until_ms.store(until_ms, Ordering::SeqCst);
    }

    /// Tells nothing from now on: why, for the operator.
    pub fn lose(&self, why: impl Into<String>) {
        *self.telling.silent.lock().unwrap_or_else(PoisonError::into_inner) = why.into();
        // In this order: who sees the new epoch sees that nobody tells.
        if self.telling.until_ms.swap(0, Ordering::SeqCst) != 0 {
            self.changes.everything_changed();
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.lose("its server is not in use any more");
        self.changes.0.sources().retain(|telling| !std::ptr::eq(telling.as_ptr(), Arc::as_ptr(&self.telling)));
    }
}

impl Lease {
    pub fn is_good(&self, now_ms: u64) -> bool {
        self.0.is_told(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> (Changes, Arc<AtomicU64>) {
        let hands = Arc::new(AtomicU64::new(1_000));
        let clock = Arc::clone(&hands);
        (Changes::new(Clock::from_fn(move || clock.load(Ordering::SeqCst))), hands)
    }

    #[test]
    fn a_stamp_is_current_until_its_key_or_everything_changes() {
        let (changes, _) = changes();
        let (key, other) = (changes.hash(b"k"), changes.hash(b"other"));
        let (of_key, of_other) = (changes.stamp(key), changes.stamp(other));
        changes.key_changed(changes.hash(b"k"));
        assert!(!changes.is_current(key, of_key));
        assert_eq!(changes.is_current(other, of_other), bucket(key) != bucket(other));
        let of_key = changes.stamp(key);
        assert!(changes.is_current(key, of_key));
        changes.everything_changed();
        assert!(!changes.is_current(key, of_key) && !changes.is_current(other, of_other));
        assert_eq!(changes.counts(), Counts { invalidations: 1, epochs: 1 });
    }

    #[test]
    fn a_lease_is_good_while_its_source_tells() {
        let (changes, hands) = changes();
        assert_eq!(changes.standing(), Standing::Unasked);
        let source = changes.source();
        assert!(matches!(changes.standing(), Standing::Untold(_)));
        let (lease, key) = (source.lease(), changes.hash(b"k"));
        assert!(!lease.is_good(1_000));
        let before = changes.stamp(key);
        source.begin(2_000);
        assert!(!changes.is_current(key, before), "what was read while nobody told is out of date");
        assert!(lease.is_good(1_999) && !lease.is_good(2_000));
        assert_eq!(changes.standing(), Standing::Told);
        hands.store(2_000, Ordering::SeqCst);
        assert!(matches!(changes.standing(), Standing::Untold(_)));
        source.renew(3_000);
        let other = changes.source();
        assert_eq!(changes.standing(), Standing::Untold("not yet known".to_owned()), "each has to tell");
        other.begin(3_000);
        assert_eq!(changes.standing(), Standing::Told);
        let before = changes.stamp(key);
        other.lose("it broke");
        assert_eq!(changes.standing(), Standing::Untold("it broke".to_owned()));
        assert!(!changes.is_current(key, before) && lease.is_good(2_500));
        drop(other);
        assert_eq!(changes.standing(), Standing::Told, "whoever ended is not waited for");
        drop(source);
        assert!(!lease.is_good(2_500));
    }
}
