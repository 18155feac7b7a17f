//! The registry: what can't be rebuilt and never belongs in a cache. Sites and their secrets, what is known of their
//! pages, and how far a reindex has come.
//!
//! A place: SQLite in one file, or PostgreSQL, both through sqlx with migrations. Secrets are sealed with a key from the
//! configuration before they reach the database.

use crate::confluence::{Credential, Product};
use crate::envelope::{Account, SiteId};
use crate::page::Status;
use crate::source::confluence::{EventName, ReindexScope};

use std::path::PathBuf;

/// Cheap to clone.
#[derive(Clone)]
pub struct Registry {}

/// Which database, and where the key is that seals its secrets.
#[derive(Debug, Clone)]
pub enum Options {
    Sqlite {
        path: PathBuf,
        key_file: KeyFile,
    },
    /// The URL may hold a password.
    Postgres {
        url: String,
        key_file: PathBuf,
    },
}

#[derive(Debug, Clone)]
pub enum KeyFile {
    Given(PathBuf),
    /// Made, with a random key, where the registry is made.
    MadeAtFirst(PathBuf),
}

/// The configuration or a file is wrong, and the operator must act. The text names the key. A database that can't be
/// reached is no such error.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0}")]
    Data(String),
}

/// The registry can't do it now; a retry helps.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the registry is unavailable: {0}")]
pub struct Unavailable(pub String);

/// One tenant's Confluence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    pub id: SiteId,
    pub account: Account,
    pub product: Product,
    /// What links to the site begin with: `https://acme.atlassian.net/wiki`.
    pub base_url: String,
    /// Where its REST API is; mostly the same.
    pub api_base: String,
    /// A custom domain, where the site has one.
    pub display_url: Option<String>,
    /// Former names of the site, whose URLs are its own, too.
    pub aliases: Vec<String>,
    pub joined_by: JoinedBy,
    pub state: SiteState,
    pub added_ms: u64,
    pub last_event_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinedBy {
    Forge,
    Connect,
    /// `hookcache confluence add`.
    Operator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteState {
    Active,
    /// By the operator.
    Paused,
    /// By the site: data is kept, nothing is read.
    Disabled,
    /// By the site: its data goes once the retention is over.
    Uninstalled {
        since_ms: u64,
    },
}

/// What is written when a site joins, or joins again.
#[derive(Clone)]
pub struct Joining {
    pub site: Site,
    pub credential: Option<Credential>,
    /// What the site signs its webhooks with (Data Center's HMAC, or the shared secret in a header).
    pub hook_secret: Option<String>,
}

/// A page as it is known of. One row each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRow {
    pub page: u64,
    pub title: String,
    pub space_id: Option<u64>,
    pub space_key: Option<String>,
    /// 0 while nothing of it was read.
    pub version: u64,
    /// `None`: not there, or not to be seen (404). The row is kept for a while, to guard against late events.
    pub status: Option<Status>,
    pub last_event: Option<(EventName, u64)>,
    pub last_fetch: Option<Fetched>,
    /// The number of the last reindex that met it.
    pub sweep: u64,
}

/// How the last fetch of a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// When it began, milliseconds since the epoch.
    pub at_ms: u64,
    /// `ok`, `not-found`, or what went wrong.
    pub result: String,
}

/// A reindex of a site, from asked for to done. At most one is open per site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub site: SiteId,
    /// Strictly increasing per site; pages that it meets are marked with it ([`PageRow::sweep`]).
    pub number: u64,
    pub scope: ReindexScope,
    /// When it was asked for; of several askings that it stands for, the last.
    pub asked_ms: u64,
    /// When its first page was listed, by the earlier one of the site's clock and ours.
    pub began_ms: Option<u64>,
    /// Pages changed before this moment end an incremental run.
    pub watermark_ms: Option<u64>,
    pub phase: Phase,
    /// Where to go on after a crash; opaque to the registry.
    pub cursor: Option<String>,
    pub pages_seen: u64,
    pub pages_changed: u64,
    pub pages_swept: u64,
    /// What it waits for, where it can't go on now.
    pub waiting: Option<Waiting>,
    pub ended: Option<Ended>,
}

/// Why an open run does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Nobody claims it before.
    pub until_ms: u64,
    /// For the operator.
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Listing,
    /// Looking for what the list did not name (full runs only).
    Sweeping,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub at_ms: u64,
    /// Why it failed; `None` for success.
    pub error: Option<String>,
}

/// How far the reindexes of all active sites are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    pub open_runs: u64,
    /// The earliest of the sites' last successes ([`Registry::last_success`]); where a site has none, when it was added.
    /// `None` where there is no active site.
    pub oldest_ms: Option<u64>,
}

/// What is claimed for a time, so that one process at a time works on a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The process that holds it.
    pub owner: String,
    pub until_ms: u64,
}

#[allow(unused_variables)]
impl Registry {
    /// Opens it. A PostgreSQL that is not there is waited for by whoever needs it.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        Ok(Self {})
    }

    /// Can it be reached? Cheap enough for a readiness probe.
    pub async fn check(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    // -- sites --------------------------------------------------------------------------------------------------------

    /// Adds or replaces. A site that joins again keeps `added_ms` and its pages; the former secret (Connect's shared
    /// secret, the hook secret) stays valid until `former_until_ms`.
    pub async fn join(&self, joining: &Joining, former_until_ms: u64) -> Result<(), Unavailable> {
        todo!()
    }

    pub async fn site(&self, site: &SiteId) -> Result<Option<Site>, Unavailable> {
        todo!()
    }

    /// In order of their names, from after `after`.
    pub async fn sites(&self, after: Option<&SiteId>, limit: usize) -> Result<Vec<Site>, Unavailable> {
        todo!()
    }

    /// As whom the site is asked; `None` where nothing is known (yet).
    pub async fn credential(&self, site: &SiteId) -> Result<Option<Credential>, Unavailable> {
        todo!()
    }

    /// Replaces the credential alone (Forge sends a new token with each event). Written only where it lives longer.
    pub async fn renew_credential(&self, site: &SiteId, credential: &Credential) -> Result<(), Unavailable> {
        todo!()
    }

    /// What a webhook of this site may be signed with at `now_ms`: the current secret, then the former one while it is
    /// valid. Connect: its shared secret.
    pub async fn hook_secrets(&self, site: &SiteId, now_ms: u64) -> Result<Vec<String>, Unavailable> {
        todo!()
    }

    /// What happened at `at_ms` (milliseconds since the epoch) to the site: tasks come in any order, and more than once, so
    /// what is older than the last change of its state (or than its last joining, at the given `added_ms`) changes
    /// nothing. False where nothing was changed, and where there is no such site.
    pub async fn set_state(&self, site: &SiteId, state: SiteState, at_ms: u64) -> Result<bool, Unavailable> {
        todo!()
    }

    /// The site, its secrets, pages and runs.
    pub async fn forget_site(&self, site: &SiteId) -> Result<(), Unavailable> {
        todo!()
    }

    // -- pages --------------------------------------------------------------------------------------------------------

    pub async fn page(&self, site: &SiteId, page: u64) -> Result<Option<PageRow>, Unavailable> {
        todo!()
    }

    /// Several pages of one site, in any order; those that are not known are left out.
    pub async fn pages(&self, site: &SiteId, pages: &[u64]) -> Result<Vec<PageRow>, Unavailable> {
        todo!()
    }

    /// Makes the row where there is none. Also sets the site's `last_event_ms`.
    pub async fn note_event(&self, site: &SiteId, page: u64, event: EventName, at_ms: u64) -> Result<(), Unavailable> {
        todo!()
    }

    /// What was read of pages; makes the rows where there are none. Leaves `last_event` as it is. An older fetch never
    /// overwrites a later one; only `sweep` never falls, whichever fetch is older.
    pub async fn note_read(&self, site: &SiteId, rows: &[PageRow]) -> Result<(), Unavailable> {
        todo!()
    }

    /// A fetch that failed: only `last_fetch` changes; makes the row where there is none.
    pub async fn note_failed(&self, site: &SiteId, page: u64, fetched: &Fetched) -> Result<(), Unavailable> {
        todo!()
    }

    /// Known pages that are there (status is some) in a space, from after `after`, by id.
    pub async fn pages_of_space(
        &self,
        site: &SiteId,
        space_key: Option<&str>,
        space_id: Option<u64>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<PageRow>, Unavailable> {
        todo!()
    }

    /// Pages that are there, and that no sweep since number `sweep` has met, from after `after`, by id.
    pub async fn pages_unmet(
        &self,
        site: &SiteId,
        sweep: u64,
        after: u64,
        limit: usize,
    ) -> Result<Vec<PageRow>, Unavailable> {
        todo!()
    }

    /// All pages of a site, from after `after`, by id.
    pub async fn pages_after(&self, site: &SiteId, after: u64, limit: usize) -> Result<Vec<PageRow>, Unavailable> {
        todo!()
    }

    /// Rows of pages that are gone (status none) and whose last event and fetch lie before `before_ms` go. How many.
    pub async fn prune(&self, before_ms: u64) -> Result<u64, Unavailable> {
        todo!()
    }

    // -- runs ---------------------------------------------------------------------------------------------------------

    /// Asks for a reindex. Where one is open that covers it, that one stands, with `asked_ms` = `now_ms`. Where the open
    /// one is narrower, it takes the wider scope (full > the earlier `Since` > the later one, `SinceLast`) and begins
    /// anew, under a new number: who holds it loses it. Answers with the open run.
    pub async fn ask_for_run(&self, site: &SiteId, scope: ReindexScope, now_ms: u64) -> Result<Run, Unavailable> {
        todo!()
    }

    /// Takes the open run of some active site, whose lease is free or over at `now_ms`, and which waits for nothing then
    /// ([`Run::waiting`]), for `owner` until `until_ms`. A SQLite registry has one process: what its last one held is
    /// free when it opens.
    pub async fn claim_run(&self, owner: &str, now_ms: u64, until_ms: u64) -> Result<Option<Run>, Unavailable> {
        todo!()
    }

    /// Keeps the run and its progress, and renews the lease. False where the lease is another's, or the run, its scope or
    /// its site is not what it was (or not active any more): the caller stops.
    pub async fn advance_run(&self, run: &Run, lease: &Lease) -> Result<bool, Unavailable> {
        todo!()
    }

    /// Keeps the run as [`Self::advance_run`] does and gives it back unfinished, so that another may go on at once, or as
    /// soon as what it waits for is over. Does nothing where the lease is another's.
    pub async fn release_run(&self, run: &Run, lease: &Lease) -> Result<(), Unavailable> {
        todo!()
    }

    /// Ends the run. False as with [`Self::advance_run`].
    pub async fn end_run(&self, run: &Run, lease: &Lease, ended: &Ended) -> Result<bool, Unavailable> {
        todo!()
    }

    /// The open run, and the last ones that ended, newest first. At most `limit`; no more than 20 are kept per site.
    pub async fn runs(&self, site: &SiteId, limit: usize) -> Result<Vec<Run>, Unavailable> {
        todo!()
    }

    /// Of the runs that ended well: the start of the last one, and of the last full one.
    pub async fn last_success(&self, site: &SiteId) -> Result<(Option<u64>, Option<u64>), Unavailable> {
        todo!()
    }

    /// Resolves once a run was asked for through this process since the last call of it: saves whoever claims runs from
    /// asking often. Wakes one waiter; may resolve for nothing.
    pub async fn run_asked(&self) {
        todo!()
    }

    /// One query.
    pub async fn backlog(&self) -> Result<Backlog, Unavailable> {
        todo!()
    }
}
