//! What hookcache keeps of a page: its key, its payload, and the envelope that brings it to the store. Pure.
//!
//! ```json
//! {"page":{"id":"42","title":"Home","space":"DOC","version":7,"status":"current","indexedAt":"2026-01-01T00:00:00Z"},
//!  "links":[{"kind":"external","url":"https://example.com/","text":"here","origin":"a","count":1,"position":0}]}
//! ```
//!
//! `flaws` stands in `page` where links may be missing, and says why: the words of [`FlawKind::as_str`], and
//! [`DOES_NOT_FIT`] where as many links are kept as one wire form can carry.
//!
//! Whoever reads pages makes envelopes here, so that all of them keep the same: a later version of a page wins, and of
//! two reads of one version the later one. Whoever serves links reads the payload here, without making links of it.
//!
//! | file | holds |
//! | --- | --- |
//! | `write` | envelopes: from links to a wire form |
//! | `read` | from a payload to the links that were asked for |
//!
//! [`FlawKind::as_str`]: crate::extract::FlawKind::as_str

mod read;
mod write;

use crate::envelope::{Account, SiteId, Stamp, WebhookKey, WireForm};
use crate::extract::{Context, NotABaseUrl, links_of_storage};
use crate::source::confluence::KEY_PREFIX;

pub use read::{FINGERPRINT_BYTES, Fingerprint, Kept, StoredPage};
pub use write::{DOES_NOT_FIT, dropped, index_dropped, index_stored, stored};

/// Characters that are kept of a title, and of a space's key. Confluence allows 255.
pub const NAME_CHARS_MAX: usize = 512;

/// Whether a page is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    Current,
    Archived,
    /// In the trash; it can come back.
    Trashed,
}

impl Status {
    pub const ALL: [Self; 3] = [Self::Current, Self::Archived, Self::Trashed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Archived => "archived",
            Self::Trashed => "trashed",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// What becomes of the links of an archived page. Those of a page in the trash are kept and hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archived {
    /// Kept, and told to those who ask for archived pages.
    Hide,
    /// Kept, and told like those of a current page.
    Keep,
    /// Not kept.
    Drop,
}

impl Archived {
    pub const ALL: [Self; 3] = [Self::Hide, Self::Keep, Self::Drop];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hide => "hide",
            Self::Keep => "keep",
            Self::Drop => "drop",
        }
    }

    /// Are the links of a page of this status told to those who name no status?
    pub fn shows(self, status: Status) -> bool {
        status == Status::Current || (status == Status::Archived && self == Self::Keep)
    }
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
pub fn key_of(site: &SiteId, page: u64) -> WebhookKey {
    key(format!("{KEY_PREFIX}{site}:page:{page}"))
}

/// The webhook key of what is told of a site's index: `confluence:{site}:index`.
pub fn index_key_of(site: &SiteId) -> WebhookKey {
    key(format!("{KEY_PREFIX}{site}:index"))
}

fn key(text: String) -> WebhookKey {
    WebhookKey::parse(&text).expect("a site's name and a number make a short key of plain characters")
}

/// What is told of a site's index in every answer of the link API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexFacts {
    /// A full sweep has ended well since the site was added.
    pub complete: bool,
    /// When the last reindex that ended well began, milliseconds since the epoch.
    pub last_reindex_ms: Option<u64>,
}

/// What the envelopes of a site's pages are made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    pub site: SiteId,
    pub account: Account,
    /// What links to the site begin with.
    pub base_url: String,
    /// What else they may begin with: a custom domain, former names.
    pub other_urls: Vec<String>,
    pub archived: Archived,
}

impl Home {
    /// The envelope of a page that was read: it stores the links of its body (storage format), or drops what is stored
    /// where a page of that status is not kept. `read_at_ms` is when its fetch began. A body of megabytes takes a while:
    /// not on a thread that serves others.
    pub fn envelope(
        &self,
        stamp: Stamp,
        page: &PageFacts,
        body: &str,
        read_at_ms: u64,
    ) -> Result<WireForm, NotABaseUrl> {
        if page.status == Status::Archived && self.archived == Archived::Drop {
            return Ok(dropped(stamp, &self.site, &self.account, page.id, page.version, read_at_ms));
        }
        let mut context = Context::new(&self.base_url)?.with_page(page.id);
        for url in &self.other_urls {
            // Without this name its links are told as external, which is better than no links.
            context = context.clone().with_alias(url).unwrap_or(context);
        }
        if let Some(space) = &page.space {
            context = context.with_space(space);
        }
        let links = links_of_storage(body.as_bytes(), &context);
        Ok(stored(stamp, &self.site, &self.account, page, &links, read_at_ms))
    }
}

#[cfg(test)]
mod tests;
