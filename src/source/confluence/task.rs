//! What lies in the pages queue: a task, in a wire form of its own.
//!
//! ```json
//! {"v":1,"id":"018f...","at":1767225600123,"site":"acme","account":"acme","page":{"id":"123","event":"page_updated","version":7}}
//! ```
//!
//! or `"space"`, `"lifecycle"`, `"reindex"` in place of `"page"`. Whoever takes it out checks all of it again.

use bytes::Bytes;

use crate::envelope::{Account, Poison, SiteId, Stamp, WireForm};

/// One task of the pages worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageTask {
    pub id: String,
    /// Arrival at the edge, milliseconds since the epoch.
    pub at_ms: u64,
    pub site: SiteId,
    /// Names the queue's message group.
    pub account: Account,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Something happened to a page: read it again.
    Page {
        page: u64,
        event: EventName,
        /// The page's version as the event has it, where it does: a site may answer with an older one for a moment.
        version: Option<u64>,
    },
    /// Something happened to a whole space.
    Space {
        space_key: Option<String>,
        space_id: Option<u64>,
        event: EventName,
    },
    Lifecycle(Lifecycle),
    Reindex(ReindexScope),
}

/// Every event that is acted upon. Forge's and Data Center's names map to these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventName {
    PageCreated,
    PageUpdated,
    PagePublished,
    PageSnapshotted,
    PageStarted,
    PageRestored,
    PageRemoved,
    PageTrashed,
    PageMoved,
    PageCopied,
    PageArchived,
    PageUnarchived,
    SpaceRemoved,
    SpaceTrashed,
}

/// What became of the app on a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    Installed,
    Enabled,
    Disabled,
    Uninstalled,
}

/// How much of a site a reindex reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReindexScope {
    /// Every page; what is not met any more is swept.
    Full,
    /// What was changed since the last success, less an overlap.
    SinceLast,
    /// What was changed since then, milliseconds since the epoch.
    Since(u64),
}

impl PageTask {
    pub fn new(stamp: Stamp, site: SiteId, account: Account, what: What) -> Self {
        Self { id: stamp.id, at_ms: stamp.at_ms, site, account, what }
    }

    pub fn encode(&self) -> WireForm {
        todo!()
    }

    /// `now_ms` decides whether it is too old.
    pub fn decode(_body: &Bytes, _now_ms: u64) -> Result<Self, Poison> {
        todo!()
    }
}
