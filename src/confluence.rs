//! The client of Confluence's REST API: what pages and spaces a site has, and what a page says.
//!
//! It signs, waits for its turn, honours `Retry-After`, bounds what it reads, and never retries on its own. REST v2 for
//! Cloud, v1 for Data Center, which has no v2. It never writes to a site, never leaves the host that it was given, and
//! tells no credential.
//!
//! *Turns* are counted per site and process: so many requests at once, so many in a second. A site that answers 429, or
//! 503 with `Retry-After`, is left alone by everybody until that time is over. Who does not get a turn soon gets
//! [`FetchError::Busy`], and the site was not asked.
//!
//! *What can't be seen is not there.* 404 is `None`, and so is a draft, and a page that this credential alone may not see
//! (403 while the site answers other calls).
//!
//! | file | holds |
//! | --- | --- |
//! | `turns` | whose turn it is |
//! | `call` | one request: as whom, and what its status means |
//! | `paths` | what is asked for |
//! | `answers` | what a site says |
//! | `cursor` | where a list goes on |

mod answers;
mod call;
mod cursor;
mod paths;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use crate::envelope::{Clock, SiteId};
use crate::outbound::{Outbound, Share};
use crate::page::{PageFacts, Status};

use call::{Answer, Caller};
use paths::With;
use turns::Turns;

/// Pages of one part of a list.
pub const PAGES_PER_LISTING: usize = 100;

/// What the operator sets, for each site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub requests_at_once: usize,
    pub requests_per_second: u32,
    /// Of one request, from when it is sent to the last byte of its answer.
    pub request_timeout: Duration,
    pub answer_bytes_max: usize,
}

/// How to reach a site, and as whom.
#[derive(Clone)]
pub struct Access {
    /// The site's name, under which its turns and limits are counted.
    pub site: SiteId,
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
    /// When that version was made, milliseconds since the epoch. `u64::MAX` where the site says nothing that can be read,
    /// so that nobody takes it for old.
    pub modified_ms: u64,
    pub status: Status,
    /// Storage format. `None` where it did not come along: of a list of which it would be too much ([`Confluence::pages`]).
    pub body: Option<Body>,
    /// What links to the site begin with, as it says itself; mostly told with a page alone, and once for a list.
    pub site_url: Option<String>,
}

impl RemotePage {
    /// What is told of it beside its links.
    pub fn facts(&self) -> PageFacts {
        PageFacts {
            id: self.id,
            title: self.title.clone(),
            space: self.space_key.clone(),
            version: self.version,
            status: self.status,
        }
    }
}

/// The body of a page. It counts as a large answer ([`outbound`](crate::outbound)), where it came in one, until it is
/// dropped.
#[derive(Debug, Clone)]
pub struct Body {
    text: String,
    _share: Option<Share>,
}

impl std::ops::Deref for Body {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Body {}

/// Why nothing was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Our own limits, or the site's wish to be left alone: it was not asked. `after` is when there may be a turn.
    #[error("no request may be sent to the site for {after:?}: {why}")]
    Busy { after: Duration, why: String },
    /// 408, 429, 502, 503, 504, or no connection: a retry helps, not before `after`.
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
    /// As [`RemotePage::site_url`].
    pub site_url: Option<String>,
}

/// The client. Cheap to clone; one per process, so that its limits per site hold.
#[derive(Clone)]
pub struct Confluence(Arc<Caller>);

impl Confluence {
    pub fn new(outbound: Outbound, options: Options, clock: Clock) -> Self {
        let turns = Turns::new(options.requests_at_once, options.requests_per_second);
        Self(Arc::new(Caller { outbound, options, clock, turns }))
    }

    /// The page with its body; `None` where there is none, or none that may be seen.
    pub async fn page(&self, access: &Access, page: u64) -> Result<Option<RemotePage>, FetchError> {
        let (body, share) = match self.0.get(access, &paths::page(access.product, page)).await? {
            Answer::Ok { body, share, .. } => (body, share),
            Answer::Gone => return Ok(None),
            Answer::Forbidden => return self.probe(access).await.map(|()| None),
            Answer::TooLarge => return Err(self.0.too_large()),
        };
        let found = answers::page(&body, share.as_ref())?;
        match found {
            Some(found) if found.id != page => Err(FetchError::Unusable("it is of another page".to_owned())),
            Some(found) if found.body.is_none() => Err(FetchError::Unusable("it has no body".to_owned())),
            found => Ok(found),
        }
    }

    /// Current and archived pages with their bodies, from the start or from a [`Listing::next`]. Where the bodies are more
    /// than one answer may hold, the pages come without: ask for each that counts. A page that can't be read is left out.
    /// Where the site counts its list by offsets, a part begins with some of the pages that the one before has ended with.
    pub async fn pages(&self, access: &Access, order: Order, from: Option<&str>) -> Result<Listing, FetchError> {
        let path = |with| paths::pages(access.product, order, from, with);
        let answer = match self.0.get(access, &path(With::Bodies)?).await? {
            Answer::TooLarge => self.0.get(access, &path(With::NoBodies)?).await?,
            answer => answer,
        };
        let (body, share, site_time_ms) = match answer {
            Answer::Ok { body, share, site_time_ms } => (body, share, site_time_ms),
            Answer::Forbidden => return Err(FetchError::Unauthorized("it lists no pages (403)".to_owned())),
            Answer::Gone => {
                return Err(FetchError::Unusable("it has no list of pages (404); check its URL".to_owned()));
            }
            Answer::TooLarge => return Err(self.0.too_large()),
        };
        let list = answers::list(&body)?;
        let pages = list.results.iter().filter_map(|page| answers::page(page.get().as_bytes(), share.as_ref()).ok()?);
        let pages = pages.collect();
        let next = list.links.next.as_deref().map(|next| cursor::of(next, &access.api_base)).transpose()?;
        if next.is_some() && next.as_deref() == from {
            return Err(FetchError::Unusable("its list of pages does not go on".to_owned()));
        }
        let next = next.map(|next| cursor::overlapping(next, from));
        Ok(Listing { pages, next, site_time_ms, site_url: list.links.base() })
    }

    /// The key of a space; cached. `None` where there is none that may be seen.
    pub async fn space_key(&self, access: &Access, space_id: u64) -> Result<Option<String>, FetchError> {
        // Data Center tells the key of its space with each page.
        let Product::Cloud = access.product else { return Ok(None) };
        let mut known = self.0.turns.spaces(&access.site).await;
        if let Some(key) = known.get(space_id) {
            return Ok(key);
        }
        let key = match self.0.get(access, &paths::space(space_id)).await? {
            Answer::Ok { body, .. } => Some(answers::space_key(&body)?),
            Answer::Gone | Answer::Forbidden => None,
            Answer::TooLarge => return Err(self.0.too_large()),
        };
        known.keep(space_id, key.clone());
        Ok(key)
    }

    /// Does the site take the credential at all?
    async fn probe(&self, access: &Access) -> Result<(), FetchError> {
        match self.0.get(access, paths::probe(access.product)).await? {
            Answer::Ok { .. } => Ok(()),
            _ => Err(FetchError::Unauthorized("it answers 403 to every call".to_owned())),
        }
    }
}
