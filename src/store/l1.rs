//! What was read lately, kept in the process: the reader's memory, in front of whichever store there is.
//!
//! # What it promises
//!
//! While changes are told ([`Changes::standing`]), an answer is as the store had it when the news of the last change had
//! come: a fraction of a millisecond behind it, on a healthy network. Within one epoch nobody is ever told of a version
//! older than one that somebody was told of before. Where nobody tells (the server lacks tracking, or the connection that
//! tells is lost) an answer is at most [`Options::stale_max`] old; where that is zero the store is asked each time.
//!
//! # How it keeps the promise
//!
//! *Before* a read it takes the [`Stamp`] of the key, and with the answer comes the [`Lease`] of the server that gave it.
//! Both are kept beside the answer and looked at on *every* hit, and so are its expiry and its age. So no order in which an
//! answer and the news of a change arrive leaves something old behind: a change during the read makes its stamp old.
//!
//! Of one key there is one read at a time in a process, a *flight*, which others join who come while its stamp is
//! current. A flight is a task of its own: whoever asked first may hang up, and the others still get their answer. As
//! there is one at a time, none can land with something older than another one. Should two answers that are both good
//! differ all the same, neither is believed, and the key's generation moves on.
//!
//! # What a hit costs
//!
//! A hit takes no lock, waits for nothing, and writes nothing that threads share ([`table`]). What is kept is not the
//! entry but whatever its user made of it, once. (moka, which does all of this and more, writes to a channel that all
//! threads share with each hit.)
//!
//! # Limits
//!
//! Everything together takes at most [`Options::bytes_max`]; what is known to be absent a part of that,
//! [`ABSENT_PART`], so that a crowd of absent keys drives out nothing that is there. An answer is believed for
//! [`KEPT_MAX`] at most ([`ABSENT_MAX`] where there was nothing), whatever is told: should a server fail to tell, that is
//! how long it takes to be mended. Reads under way are bounded by the reader.

mod flights;
pub mod table;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use self::flights::Flights;
pub use self::table::Size;
use self::table::{Item, Table};
use super::changes::{Changes, Hash, Lease, Stamp};
use super::{Answer, Entry, ReadError, Reader};
use crate::envelope::{Clock, Version, WebhookKey};

/// The longest that an answer is believed, though nothing was told to have changed.
const KEPT_MAX: Duration = Duration::from_secs(60);
/// The same, of what was not there.
const ABSENT_MAX: Duration = Duration::from_secs(5);
/// What is known to be absent gets this part of the bytes.
const ABSENT_PART: usize = 16;
/// What an item takes beside its key and what is made of its entry: the counts of its `Arc`s, and the allocator's share.
const ITEM_BYTES: usize = 64;

/// How much it may keep, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub bytes_max: usize,
    /// How old an answer may be where nobody tells of changes.
    pub stale_max: Duration,
}

/// What is made of an entry, and kept.
pub trait Make: Send + Sync + 'static {
    fn make(entry: Entry) -> Self;
    /// All the memory that it holds on to.
    fn bytes(&self) -> usize;
}

/// The memory, and the way to the store. Cheap to clone.
pub struct L1<T> {
    inner: Arc<Inner<T>>,
    reader: Reader,
}

impl<T> Clone for L1<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), reader: self.reader.clone() }
    }
}

/// Told how long each read of the store took.
pub type OnRead = Box<dyn Fn(Duration) + Send + Sync>;

struct Inner<T> {
    clock: Clock,
    bytes_max: usize,
    stale_max: Duration,
    on_read: OnRead,
    there: Table<Kept<T>>,
    absent: Table<Kept<T>>,
    flights: Flights<T>,
}

/// What was found under a key, and when it may be believed.
pub struct Kept<T> {
    hash: Hash,
    key: WebhookKey,
    stamp: Stamp,
    /// `None` where nobody tells.
    lease: Option<Lease>,
    /// When the store was asked, and when it is too old or expired, in milliseconds since the epoch.
    from_ms: u64,
    until_ms: u64,
    /// `None` where there was nothing.
    found: Option<(Version, T)>,
    was_of_use: AtomicBool,
}

/// What was found, and where.
pub enum Found<T> {
    Remembered(Arc<Kept<T>>),
    Read(Arc<Kept<T>>),
}

/// Why a flight landed without an answer: the entry can't be read, or the store.
type Landed<T> = Result<Arc<Kept<T>>, ReadError>;

impl<T: Make> L1<T> {
    pub fn new(reader: Reader, clock: Clock, options: Options, on_read: OnRead) -> Self {
        let of_absent = options.bytes_max / ABSENT_PART;
        let inner = Inner {
            clock,
            bytes_max: options.bytes_max,
            stale_max: options.stale_max,
            on_read,
            there: Table::new(options.bytes_max - of_absent),
            absent: Table::new(of_absent),
            flights: Flights::default(),
        };
        Self { inner: Arc::new(inner), reader }
    }

    /// The same memory for another runtime, whose reader this is.
    pub fn with_reader(&self, reader: Reader) -> Self {
        Self { inner: Arc::clone(&self.inner), reader }
    }

    /// What is remembered of a key, as `serve` wants it: of what is there, or of its absence. `None` where nothing is
    /// remembered that may be believed.
    pub fn look<R>(&self, key: &str, serve: impl Fn(Option<&T>) -> R) -> Option<R> {
        let (hash, now_ms) = (self.changes().hash(key.as_bytes()), self.inner.clock.now_ms());
        self.look_for(hash, key, now_ms, |kept| serve(kept.found()))
    }

    /// What is remembered, or else what the store says, which is asked once for each key, however many want it at the
    /// same time. One result per key, in order.
    pub async fn find(&self, keys: &[WebhookKey]) -> Vec<Result<Found<T>, ReadError>> {
        flights::find(self, keys).await
    }

    /// How much is remembered.
    pub fn size(&self) -> Size {
        let (there, absent) = (self.inner.there.size(), self.inner.absent.size());
        Size { items: there.items + absent.items, bytes: there.bytes + absent.bytes }
    }

    /// How much may be.
    pub fn bytes_max(&self) -> usize {
        self.inner.bytes_max
    }

    fn changes(&self) -> &Changes {
        self.reader.changes()
    }

    fn look_for<R>(&self, hash: Hash, key: &str, now_ms: u64, look: impl Fn(&Arc<Kept<T>>) -> R) -> Option<R> {
        let look = |kept: &Arc<Kept<T>>| self.is_good(kept, now_ms).then(|| look(kept));
        let look_in = |table: &Table<_>| table.look(hash, key, look).flatten();
        look_in(&self.inner.there).or_else(|| look_in(&self.inner.absent))
    }

    fn is_good(&self, kept: &Kept<T>, now_ms: u64) -> bool {
        (kept.from_ms..kept.until_ms).contains(&now_ms)
            && kept.lease.as_ref().is_none_or(|lease| lease.is_good(now_ms))
            && self.changes().is_current(kept.hash, kept.stamp)
    }

    /// What comes of an answer that was asked for at that time, when that was the stamp of its key.
    fn settle(&self, key: WebhookKey, stamp: Stamp, from_ms: u64, answer: Answer) -> Landed<T> {
        let entry = answer.found?;
        let age_max = if entry.is_some() { KEPT_MAX } else { ABSENT_MAX };
        let age_max = if answer.lease.is_some() { age_max } else { age_max.min(self.inner.stale_max) };
        let expires_at_ms = entry.as_ref().and_then(|entry| entry.expires_at_ms).unwrap_or(u64::MAX);
        let kept = Arc::new(Kept {
            hash: self.changes().hash(key.as_str().as_bytes()),
            key,
            stamp,
            lease: answer.lease,
            from_ms,
            until_ms: from_ms.saturating_add(age_max.as_millis() as u64).min(expires_at_ms),
            found: entry.map(|entry| (entry.version, T::make(entry))),
            was_of_use: AtomicBool::new(false),
        });
        self.remember(&kept);
        Ok(kept)
    }

    fn remember(&self, kept: &Arc<Kept<T>>) {
        let now_ms = self.inner.clock.now_ms();
        if !self.is_good(kept, now_ms) {
            return;
        }
        let (table, other) = match kept.found {
            Some(_) => (&self.inner.there, &self.inner.absent),
            None => (&self.inner.absent, &self.inner.there),
        };
        let differs = |there: &Kept<T>| self.is_good(there, now_ms) && there.version() != kept.version();
        let of_other = |there: &Arc<Kept<T>>| differs(there);
        let mut is_in_doubt = other.look(kept.hash, kept.key.as_str(), of_other).unwrap_or(false);
        if !is_in_doubt {
            table.put(Arc::clone(kept), |there| {
                is_in_doubt = differs(there);
                is_in_doubt
            });
        }
        if is_in_doubt {
            self.changes().key_changed(kept.hash);
        }
    }
}

impl<T> Found<T> {
    /// `None` where there is nothing.
    pub fn get(&self) -> Option<&T> {
        match self {
            Self::Remembered(kept) | Self::Read(kept) => kept.found(),
        }
    }
}

impl<T> Kept<T> {
    /// `None` where there was nothing.
    fn found(&self) -> Option<&T> {
        self.found.as_ref().map(|(_, made)| made)
    }

    /// False where nobody tells of changes to it, and no answer may be old: then whoever comes next asks again.
    pub fn lasts(&self) -> bool {
        self.until_ms > self.from_ms
    }

    fn version(&self) -> Option<&Version> {
        self.found.as_ref().map(|(version, _)| version)
    }
}

impl<T: Make> Item for Kept<T> {
    fn hash(&self) -> Hash {
        self.hash
    }

    fn key(&self) -> &str {
        self.key.as_str()
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + ITEM_BYTES + self.key.as_str().len() + self.found().map_or(0, T::bytes)
    }

    fn was_of_use(&self) -> &AtomicBool {
        &self.was_of_use
    }
}

#[cfg(test)]
mod tests;
