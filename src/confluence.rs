//! The client of Confluence's REST API: what pages and spaces a site has, and what a page says.
//!
//! It signs, waits for its turn, honours `Retry-After`, bounds what it reads, and never retries on its own. REST v2 for
//! Cloud, v1 for Data Center, which has no v2.

use std::time::Duration;

use crate::page::Status;

/// How to reach a site, and as whom.
#[derive(Clone)]
pub struct Access {
    /// The site's name, under which its turns and limits are counted.
    pub site: crate::envelope::SiteId,
    pub product: Product,
    /// Where the REST API is: `https://acme.atlassian.net/wiki`, or `https://api.atlassian.com/ex/confluence/{cloudId}/wiki`.
    pub api_base: String,
    pub credential: Credential,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    Cloud,
    DataCenter,
}

/// As whom a site is asked. Never shown: no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    Basic {
        user: String,
        token: String,
    },
    Bearer(String),
    /// A new JWT for each request (Connect).
    Connect {
        app_key: String,
        client_key: String,
        shared_secret: String,
    },
    /// Forge's system token, as it came with the last event; useless after `expires_ms`.
    Forge {
        token: String,
        expires_ms: u64,
    },
}

/// A page as the site tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemotePage {
    pub id: u64,
    pub title: String,
    pub space_id: Option<u64>,
    pub space_key: Option<String>,
    pub version: u64,
    /// When that version was made, milliseconds since the epoch.
    pub modified_ms: u64,
    pub status: Status,
    /// Storage format; `None` where it was not asked for.
    pub body: Option<String>,
}

/// Why nothing was read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// 429, 502, 503, 504, or no connection: a retry helps, not before `after`.
    #[error("the site can't answer now: {why}")]
    Later { after: Option<Duration>, why: String },
    /// 401 or 403 for the site as a whole: its credential must be renewed.
    #[error("the site refuses the credential: {0}")]
    Unauthorized(String),
    /// An answer that can't be used: too large, not JSON, another status. A retry is unlikely to help.
    #[error("the site's answer can't be used: {0}")]
    Unusable(String),
}

/// In which order pages are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By id: does not change while pages are edited.
    Id,
    /// The latest change first.
    LatestFirst,
}

/// A part of a list of pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub pages: Vec<RemotePage>,
    /// Where the next part begins; opaque, may be kept.
    pub next: Option<String>,
    /// The site's clock (`Date` header), milliseconds since the epoch.
    pub site_time_ms: Option<u64>,
}

/// The client. Cheap to clone; one per process, so that its limits per site hold.
#[derive(Clone)]
pub struct Confluence {}

impl Confluence {
    /// The page with its body; `None` where there is none, or none that may be seen (404).
    pub async fn page(&self, _access: &Access, _page: u64) -> Result<Option<RemotePage>, FetchError> {
        todo!()
    }

    /// Current and archived pages with their bodies, from the start or from a [`Listing::next`].
    pub async fn pages(&self, _access: &Access, _order: Order, _from: Option<&str>) -> Result<Listing, FetchError> {
        todo!()
    }

    /// The key of a space; cached.
    pub async fn space_key(&self, _access: &Access, _space_id: u64) -> Result<Option<String>, FetchError> {
        todo!()
    }
}
