//! What hookcache keeps of a page: its key, its payload, and the envelope that brings it to the store. Pure.

use crate::envelope::{Account, SiteId, Stamp, WebhookKey, WireForm};
use crate::extract::Extraction;

/// Whether a page is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    Current,
    Archived,
    /// In the trash; it can come back.
    Trashed,
}

/// What is told of a page beside its links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageFacts {
    pub id: u64,
    pub title: String,
    /// The space's key, where it is known.
    pub space: Option<String>,
    /// Confluence's `version.number`.
    pub version: u64,
    pub status: Status,
}

/// The webhook key of a page: `confluence:{site}:page:{id}`.
pub fn key_of(_site: &SiteId, _page: u64) -> WebhookKey {
    todo!()
}

/// The webhook key of what is told of a site's index: `confluence:{site}:index`.
pub fn index_key_of(_site: &SiteId) -> WebhookKey {
    todo!()
}

/// The envelope that stores a page's links. `read_at_ms` is when its fetch began: the event time. Where the links would
/// not fit into one wire form, as many as fit are kept, and the payload says so.
pub fn stored(
    _stamp: Stamp,
    _site: &SiteId,
    _account: &Account,
    _page: &PageFacts,
    _links: &Extraction,
    _read_at_ms: u64,
) -> WireForm {
    todo!()
}

/// The envelope that drops a page's links. `version` is the highest that is known of it.
pub fn dropped(
    _stamp: Stamp,
    _site: &SiteId,
    _account: &Account,
    _page: u64,
    _version: u64,
    _read_at_ms: u64,
) -> WireForm {
    todo!()
}

/// What is told of a site's index in every answer of the link API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexFacts {
    /// A full sweep has ended well since the site was added.
    pub complete: bool,
    /// When the last reindex that ended well began, milliseconds since the epoch.
    pub last_reindex_ms: Option<u64>,
}

/// The envelope that stores [`IndexFacts`] under [`index_key_of`].
pub fn index_stored(_stamp: Stamp, _site: &SiteId, _account: &Account, _index: &IndexFacts) -> WireForm {
    todo!()
}
