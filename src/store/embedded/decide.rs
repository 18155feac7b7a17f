//! What a write does to what a key holds. Pure: the order of checks is the contract's.

use super::super::catalog::Change;
use super::super::{Effect, Outcome, Write};
use super::row::Head;
use crate::envelope::Version;

/// What becomes of the row under the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Leave,
    Put,
    Tombstone { until_ms: u64 },
    Remove,
}

/// `held` is what the key holds now, expired or not; `None` where it holds nothing.
pub(super) fn decide(held: Option<&Head<'_>>, write: &Write, now_ms: u64) -> (Outcome, Then) {
    let held = held.filter(|held| held.lives_at(now_ms));
    if let Some(account) = held.and_then(Head::account)
        && account != write.account.as_str()
    {
        return (Outcome::ForeignKey, Then::Leave);
    }
    match held.map(Head::version) {
        Some(version) if version == write.version => return (Outcome::Duplicate, Then::Leave),
        Some(version) if version > write.version => return (Outcome::Superseded, Then::Leave),
        _ => {}
    }
    match &write.effect {
        Effect::Put { expires_at_ms: Some(at), .. } if *at <= now_ms => {
            // An older entry gives way. An older tombstone stays as it is: it guards, and nothing is to be removed.
            let gives_way = held.and_then(Head::account).is_some();
            (Outcome::Expired, if gives_way { tombstone(write, now_ms) } else { Then::Leave })
        }
        Effect::Put { .. } => (Outcome::Written, Then::Put),
        Effect::Delete => (Outcome::Deleted, tombstone(write, now_ms)),
    }
}

/// Does the key still hold the entry that was seen?
pub(super) fn is_as_seen(held: &Head<'_>, change: &Change, now_ms: u64) -> bool {
    held.lives_at(now_ms) && held.account() == Some(change.account.as_str()) && held.version() == change.version
}

/// One that would be over already guards against nothing.
fn tombstone(write: &Write, now_ms: u64) -> Then {
    let until_ms = write.tombstone_until_ms();
    if until_ms > now_ms { Then::Tombstone { until_ms } } else { Then::Remove }
}

impl Head<'_> {
    fn lives_at(&self, now_ms: u64) -> bool {
        self.expires_at_ms().is_none_or(|at| at > now_ms)
    }

    /// The owner; a tombstone owns nothing.
    fn account(&self) -> Option<&str> {
        match self {
            Self::Entry { account, .. } => Some(account),
            Self::Tombstone { .. } => None,
        }
    }

    fn version(&self) -> Version {
        match self {
            Self::Entry { version, .. } | Self::Tombstone { version, .. } => *version,
        }
    }
}
