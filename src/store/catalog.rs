//! The half that looks after what is stored: lists it page by page, removes it, and rewrites when it expires.
//!
//! # The contract, which the suite of the store holds every backend to
//!
//! *A walk* is a chain of pages, each from the cursor of the one before. An entry that is there during the whole walk is
//! in one of them at least, and may be in two (Redis hands some out again while it grows); what comes or goes meanwhile
//! may be in one or not. Tombstones and values of others are never shown. A walk keeps nothing in the store, so it may
//! stop, and go on later from the same cursor, also in another process.
//!
//! *A page is bounded*: it looks at about as many keys as it is asked to (Redis may look at a few more) and reads no
//! payload over the network. Only where a choice is limited to accounts, an embedded store looks on until it has found one
//! of their entries, since its cursor is a key, and a key of others is not told.
//!
//! *A change is guarded.* It is made only while the key still holds the entry that was seen: same account, same version.
//! Whatever was written meanwhile stays ([`Changed::Superseded`]). Payload and version never change.
//!
//! *Removing* leaves a tombstone with the version of the entry that goes: this event and all that are older stay away,
//! however late they are redelivered, and whatever is newer is written as if nothing had been there. An expiry in the
//! past removes.
//!
//! *Repeating is harmless*: what was removed is superseded, what was rewritten is written once more as it is.

#[cfg(feature = "embedded")]
use super::embedded;
use super::redis;
use super::{ReadError, Unavailable, WriteError, Writer};
use crate::envelope::limits::{HORIZON, TOMBSTONE_MARGIN};
use crate::envelope::{Account, Accounts, Flow, Version, WebhookKey};

/// The half that looks after what is stored. Cheap to clone.
#[derive(Clone)]
pub enum Catalog {
    #[cfg(feature = "embedded")]
    Embedded(embedded::Catalog),
    Redis(redis::Catalog),
}

/// Which entries a walk is about.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Those of these accounts alone: nothing is told of others.
    pub accounts: Accounts,
    pub account: Option<Account>,
    pub flow: Option<Flow>,
    /// What the webhook key begins with; empty for all.
    pub prefix: String,
}

/// Where a walk goes on. Opaque, and not the same on another kind of store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// A live entry without its payload, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub key: WebhookKey,
    pub account: Account,
    pub flow: Flow,
    pub id: String,
    pub version: Version,
    pub expires_at_ms: Option<u64>,
    pub payload_bytes: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Page {
    pub entries: Vec<Seen>,
    /// Keys that were looked at, tombstones and those that don't match included.
    pub looked_at: usize,
    /// `None` where the walk is at its end.
    pub next: Option<Cursor>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The store is down or did not answer in time; a retry helps.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// No page of this store ended so. The walk must begin anew.
    #[error("not a cursor of this store")]
    Cursor,
}

/// One entry that was seen, and what is to become of it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: WebhookKey,
    pub account: Account,
    pub version: Version,
    pub to: To,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// The entry expires then, in milliseconds since the epoch; `None` is never.
    ExpireAt(Option<u64>),
    Gone,
}

/// What became of an entry. Final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    Rewritten,
    Removed,
    /// The key does not hold what was seen any more; it was left as it is.
    Superseded,
}

impl From<Unavailable> for PageError {
    fn from(Unavailable(reason): Unavailable) -> Self {
        Self::Unavailable(reason)
    }
}

impl Choice {
    pub fn matches(&self, key: &str, account: &Account, flow: &Flow) -> bool {
        self.accounts.allow(account)
            && self.account.as_ref().is_none_or(|wanted| wanted == account)
            && self.flow.as_ref().is_none_or(|wanted| wanted == flow)
            && key.starts_with(&self.prefix)
    }
}

impl Seen {
    pub fn change(&self, to: To) -> Change {
        Change { key: self.key.clone(), account: self.account.clone(), version: self.version, to }
    }
}

/// What a change writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rewrite {
    Expiry(Option<u64>),
    Tombstone { until_ms: u64 },
}

impl Change {
    /// A tombstone guards as long as that of a write that came now: all that it guards against arrived before.
    pub(super) fn rewrite(&self, now_ms: u64) -> Rewrite {
        match self.to {
            To::ExpireAt(at) if at.is_none_or(|at| at > now_ms) => Rewrite::Expiry(at),
            To::ExpireAt(_) | To::Gone => {
                let guard_ms = (HORIZON + TOMBSTONE_MARGIN).as_millis() as u64;
                Rewrite::Tombstone { until_ms: now_ms.saturating_add(guard_ms) }
            }
        }
    }
}

impl Rewrite {
    pub(super) fn done(self) -> Changed {
        match self {
            Self::Expiry(_) => Changed::Rewritten,
            Self::Tombstone { .. } => Changed::Removed,
        }
    }
}

impl Catalog {
    /// The catalog of the store that this writes to.
    pub fn of(writer: &Writer) -> Self {
        match writer {
            #[cfg(feature = "embedded")]
            Writer::Embedded(writer) => Self::Embedded(writer.catalog()),
            Writer::Redis(writer) => Self::Redis(writer.catalog()),
        }
    }

    /// The next page of a walk, or the first one. It looks at about `look_max` keys, at least one.
    #[cfg_attr(not(feature = "embedded"), expect(unused_variables, reason = "Redis has a clock of its own"))]
    pub async fn page(
        &self,
        choice: &Choice,
        from: Option<&Cursor>,
        look_max: usize,
        now_ms: u64,
    ) -> Result<Page, PageError> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(catalog) => catalog.page(choice, from, look_max, now_ms).await,
            Self::Redis(catalog) => catalog.page(choice, from, look_max).await,
        }
    }

    /// One live entry without its payload.
    #[cfg_attr(not(feature = "embedded"), expect(unused_variables, reason = "Redis has a clock of its own"))]
    pub async fn find(&self, key: &WebhookKey, now_ms: u64) -> Result<Option<Seen>, ReadError> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(catalog) => catalog.find(key, now_ms).await,
            Self::Redis(catalog) => catalog.find(key).await,
        }
    }

    /// Keys that there are, tombstones included, and on Redis whatever else is in the database: for a progress bar.
    pub async fn count(&self) -> Result<u64, Unavailable> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(catalog) => catalog.count().await,
            Self::Redis(catalog) => catalog.count().await,
        }
    }

    /// Changes entries that are still what was seen. One result per change, in order, as safe as a write's outcome.
    pub async fn change(&self, changes: &[Change], now_ms: u64) -> Vec<Result<Changed, WriteError>> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(catalog) => catalog.change(changes, now_ms).await,
            Self::Redis(catalog) => catalog.change(changes, now_ms).await,
        }
    }
}
