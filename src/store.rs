//! The store: the latest payload under every webhook key, for as long as its TTL says.
//!
//! A place: it hides its backend in an enum and opens as halves: [`Writer`] and [`Reader`] for entries, [`RuleBook`]
//! for the TTL rules that operators change while it runs, [`Catalog`] for operators who look after what is stored.
//!
//! # The contract, which one suite of tests holds every backend to
//!
//! *Newer wins.* For each key the order of checks is: is it ours to read at all ([`Outcome::Unreadable`]), does another
//! account own it ([`Outcome::ForeignKey`]), is what it holds the same version ([`Outcome::Duplicate`], which changes
//! nothing and extends nothing) or a newer one ([`Outcome::Superseded`]); only then is it written.
//!
//! *Ownership.* The account of a live entry owns the key. A tombstone owns nothing, but keeps its version as a guard
//! against whatever is older, of any account. When an entry or a tombstone expires, guard and ownership end.
//!
//! *Absolute expiry.* An entry is gone at its `expires_at_ms`, whatever happened in between. A put that has expired on
//! arrival is not stored; an older live entry of its own account gives way to a tombstone with the version of that put.
//! A tombstone lives until `at + horizon + margin` of the write that left it ([`Write::tombstone_until_ms`]).
//!
//! *Keys of one write are not atomic together.* A write that was cut off is repeated whole, and ends complete.
//!
//! *Acknowledged means as safe as configured* ([`Acknowledge`]): an outcome is reported only then.
//!
//! *Changes are told*, whoever makes them, to readers who wait ([`Reader::watch`]) or remember; what they are told and
//! when they are not, [`changes`] says.
//!
//! *A backend that is down is an error, never an absent entry.* Out of memory, loading, read-only, an unknown script, a
//! restarted or emptied server: all heal without a restart of ours.

pub mod catalog;
pub mod changes;
#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "server")]
pub mod l1;
pub mod redis;

use bytes::Bytes;

pub use catalog::Catalog;
pub use changes::{Change, Standing, Watch};

use self::changes::{Changes, Counts, Lease};
use crate::envelope::limits::{HORIZON, TOMBSTONE_MARGIN};
use crate::envelope::{Account, Flow, Version, WebhookKey};
use crate::ttl::{Scope, Ttl};

/// The half that writes entries. Cheap to clone.
#[derive(Clone)]
pub enum Writer {
    #[cfg(feature = "embedded")]
    Embedded(embedded::Writer),
    Redis(redis::Writer),
}

/// The half that reads entries. Cheap to clone.
#[derive(Clone)]
pub enum Reader {
    #[cfg(feature = "embedded")]
    Embedded(embedded::Reader),
    Redis(redis::Reader),
}

/// The TTL rules that are set while it runs. Cheap to clone.
#[derive(Clone)]
pub enum RuleBook {
    #[cfg(feature = "embedded")]
    Embedded(embedded::RuleBook),
    Redis(redis::RuleBook),
}

/// How safe a write is before it is acknowledged, on Redis. Embedded always means fsync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// The primary's reply.
    Memory,
    /// The primary's reply, and that of this many replicas (WAIT).
    Replicas(u32),
    /// The primary's append-only file is synced (WAITAOF, Redis 7.2 and later).
    Aof,
}

/// One envelope's effect on the store.
#[derive(Debug, Clone)]
pub struct Write {
    pub id: String,
    pub at_ms: u64,
    pub account: Account,
    pub version: Version,
    pub keys: Vec<WebhookKey>,
    pub effect: Effect,
}

#[derive(Debug, Clone)]
pub enum Effect {
    /// `expires_at_ms` is `None` for an entry that never expires.
    Put {
        flow: Flow,
        payload: Bytes,
        expires_at_ms: Option<u64>,
    },
    Delete,
}

impl Write {
    /// When a tombstone that this write leaves may go: every wire form that it guards against is too old by then.
    pub fn tombstone_until_ms(&self) -> u64 {
        self.at_ms.saturating_add((HORIZON + TOMBSTONE_MARGIN).as_millis() as u64)
    }
}

/// What a write did to one key. Final: repeating it changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The key holds this payload now.
    Written,
    /// The key holds this write's tombstone now.
    Deleted,
    /// The put had expired on arrival: not stored; an older entry of its account, if any, is gone.
    Expired,
    /// The key holds this very version already.
    Duplicate,
    /// The key, or its tombstone, is newer.
    Superseded,
    /// Another account owns the key.
    ForeignKey,
    /// The key holds a value that hookcache did not write; it is left alone.
    Unreadable,
}

impl Outcome {
    pub const ALL: [Self; 7] = [
        Self::Written,
        Self::Deleted,
        Self::Expired,
        Self::Duplicate,
        Self::Superseded,
        Self::ForeignKey,
        Self::Unreadable,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Deleted => "deleted",
            Self::Expired => "expired",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
            Self::ForeignKey => "foreign-key",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Why a key's outcome is not known. A retry helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The store is down, out of memory, loading, read-only, or did not answer in time: true of every write now.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store answered, and refused this one: true of this write alone, as far as is known.
    #[error("the store refuses this write: {0}")]
    Refused(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store is down or did not answer in time; a retry helps.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The key holds a value that hookcache did not write. An operator must look; a retry doesn't help.
    #[error("the entry can't be read: {0}")]
    Unreadable(String),
}

/// The store can't do it now; a retry helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store is unavailable: {0}")]
pub struct Unavailable(pub String);

/// A live entry. Tombstones are never seen by a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub version: Version,
    pub expires_at_ms: Option<u64>,
    pub account: Account,
    pub flow: Flow,
    pub id: String,
    pub payload: Bytes,
}

/// What was read for somebody who wants to remember it.
pub struct Answer {
    pub found: Result<Option<Entry>, ReadError>,
    /// For as long as it is good, every change to what was found is told; `None` where nobody tells.
    pub lease: Option<Lease>,
}

impl Writer {
    /// Applies writes; `now_ms` decides what has expired on arrival. One list per write, one result per key, in order.
    /// A batch may hold several writes of one key: the newest wins, whatever their order.
    pub async fn write(&self, writes: &[Write], now_ms: u64) -> Vec<Vec<Result<Outcome, WriteError>>> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(writer) => writer.write(writes, now_ms).await,
            Self::Redis(writer) => writer.write(writes, now_ms).await,
        }
    }

    /// Would it take a write now? One round trip.
    pub async fn check(&self) -> Result<(), Unavailable> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(writer) => writer.check().await,
            Self::Redis(writer) => writer.check().await,
        }
    }
}

impl Reader {
    /// A reader of the same entries, that hears of the same changes, for another runtime, within which this is called:
    /// what it needs to be fast lives there.
    pub fn for_this_runtime(&self) -> Self {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(reader) => Self::Embedded(reader.clone()),
            Self::Redis(reader) => Self::Redis(reader.for_this_runtime()),
        }
    }

    /// The live entry under a key, or `None` where there is none.
    pub async fn get(&self, key: &WebhookKey) -> Result<Option<Entry>, ReadError> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(reader) => reader.get(key).await,
            Self::Redis(reader) => reader.get(key).await,
        }
    }

    /// One result per key, in order.
    pub async fn get_many(&self, keys: &[WebhookKey]) -> Vec<Result<Option<Entry>, ReadError>> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(reader) => reader.get_many(keys).await,
            Self::Redis(reader) => reader.get_many(keys).await,
        }
    }

    /// Begins to wait for changes of a key, whoever makes them. Read the key after this, and again whenever
    /// [`Watch::changed`] returns.
    pub fn watch(&self, key: &WebhookKey) -> Watch {
        self.changes().watch(key.as_str().as_bytes())
    }

    /// Is every change told now?
    pub fn standing(&self) -> Standing {
        self.changes().standing()
    }

    /// How many changes were told so far.
    pub fn counts(&self) -> Counts {
        self.changes().counts()
    }

    fn changes(&self) -> &Changes {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(reader) => reader.changes(),
            Self::Redis(reader) => reader.changes(),
        }
    }

    /// One answer per key, in order, for somebody who has taken a stamp of each before.
    pub async fn answer(&self, keys: &[WebhookKey]) -> Vec<Answer> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(reader) => reader.answer(keys).await,
            Self::Redis(reader) => reader.answer(keys).await,
        }
    }

    /// Can it be read now? One round trip.
    pub async fn check(&self) -> Result<(), Unavailable> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(reader) => reader.check().await,
            Self::Redis(reader) => reader.check().await,
        }
    }
}

impl RuleBook {
    /// All dynamic rules.
    pub async fn load(&self) -> Result<Vec<(Scope, Ttl)>, Unavailable> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(book) => book.load().await,
            Self::Redis(book) => book.load().await,
        }
    }

    /// Sets a rule; durable when it returns.
    pub async fn set(&self, scope: &Scope, ttl: Ttl) -> Result<(), Unavailable> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(book) => book.set(scope, ttl).await,
            Self::Redis(book) => book.set(scope, ttl).await,
        }
    }

    /// Removes a rule; tells whether there was one.
    pub async fn unset(&self, scope: &Scope) -> Result<bool, Unavailable> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(book) => book.unset(scope).await,
            Self::Redis(book) => book.unset(scope).await,
        }
    }
}
