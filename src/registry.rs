//! The registry: what can't be rebuilt and never belongs in a cache. Sites and their secrets, what is known of their
//! pages, and how far a reindex has come.
//!
//! A place: SQLite in one file, or PostgreSQL, both through sqlx with migrations. Secrets are sealed with a key from the
//! configuration before they reach the database. It knows nothing of tasks, pages' bodies or HTTP.
//!
//! # The contract, which one suite of tests holds both databases to
//!
//! *Any order, any number of times.* Events and fetches come late, twice, and from several processes at once: what is
//! older never overwrites what is newer, and the same twice is the same once.
//!
//! *Nothing of a site that is gone.* Whatever is written for a site that is not there has no effect and is no error.
//!
//! *Time is an argument*, always milliseconds since the epoch.
//!
//! Limits: texts for people are clipped ([`TEXT_CHARS_MAX`]); [`RUNS_KEPT_MAX`] ended runs are kept per site; batches may
//! have any length, and are cut.
//!
//! | file | holds |
//! | --- | --- |
//! | `database` | both databases, migrations, connections and their timeouts |
//! | `seal` | the key, and what is sealed with it |
//! | `inspect` | looking at it from outside |
//! | `sites`, `pages`, `runs` | what is kept of each |
//! | `names` | what a site calls itself |
//! | `cadence` | when the next run of a site is due; pure |

mod cadence;
mod database;
pub mod inspect;
mod names;
mod pages;
mod runs;
mod seal;
mod sites;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Notify, OnceCell};

use self::database::{ConnectError, Database, Fault};
use self::seal::{Label, Seal};
use crate::confluence::{Access, Credential, Product, RemotePage};
use crate::envelope::{Account, SiteId};
use crate::page::{Archived, Home, Status};
use crate::source::confluence::{EventName, ReindexScope};

pub use cadence::{Cadence, Due};

/// Titles, results and reasons have at most this many characters; what is longer is clipped.
pub const TEXT_CHARS_MAX: usize = 1_000;
/// Ended runs that are kept per site.
pub const RUNS_KEPT_MAX: usize = 20;

/// Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    database: Database,
    /// How an error names it.
    name: String,
    key: Key,
    /// Filled once the tables are there and the key is known to fit: at the opening, or by the first call that finds
    /// PostgreSQL.
    seal: OnceCell<Seal>,
    run_asked: Notify,
}

/// Which database, and where the key is that seals its secrets.
#[derive(Clone)]
pub enum Options {
    Sqlite {
        path: PathBuf,
        key: Key,
    },
    /// The URL may hold a password.
    Postgres {
        url: String,
        key: Key,
    },
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite { path, key } => f.debug_struct("Sqlite").field("path", path).field("key", key).finish(),
            Self::Postgres { key, .. } => f.debug_struct("Postgres").field("key", key).finish_non_exhaustive(),
        }
    }
}

/// Where the key is: 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    File(PathBuf),
    /// A file that is made, with a random key, where the registry is made.
    MadeAtFirst(PathBuf),
    /// The digits themselves, for a process that has no files of its own.
    Text(String),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::MadeAtFirst(path) => f.debug_tuple("MadeAtFirst").field(path).finish(),
            Self::Text(_) => f.debug_tuple("Text").finish_non_exhaustive(),
        }
    }
}

/// The configuration or a file is wrong, and the operator must act. The text names the key. A database that can't be
/// reached is no such error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(String);

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
    /// The highest that was read, and so the highest that can be on the road; 0 while nothing of it was read.
    pub version: u64,
    /// `None`: not there, or not to be seen (404). The row is kept for a while, to guard against late events.
    pub status: Option<Status>,
    pub last_event: Option<(EventName, u64)>,
    pub last_fetch: Option<Fetched>,
    /// The number of the last reindex that met it.
    pub sweep: u64,
}

impl SiteState {
    /// By the operator: its data goes at once, and then the site is forgotten.
    pub const REMOVED: Self = Self::Uninstalled { since_ms: 0 };
}

impl Site {
    /// How it is asked.
    pub fn access(&self, credential: Credential) -> Access {
        Access { site: self.id.clone(), product: self.product, api_base: self.api_base.clone(), credential }
    }

    /// What the envelopes of its pages are made with.
    pub fn home(&self, archived: Archived) -> Home {
        Home {
            site: self.id.clone(),
            account: self.account.clone(),
            base_url: self.base_url.clone(),
            other_urls: self.display_url.iter().chain(&self.aliases).cloned().collect(),
            archived,
        }
    }
}

impl PageRow {
    /// A page of which nothing is known.
    pub fn unread(page: u64) -> Self {
        Self {
            page,
            title: String::new(),
            space_id: None,
            space_key: None,
            version: 0,
            status: None,
            last_event: None,
            last_fetch: None,
            sweep: 0,
        }
    }

    /// A page that was read by a fetch that began at `at_ms`.
    pub fn read(page: &RemotePage, at_ms: u64) -> Self {
        Self {
            page: page.id,
            title: page.title.clone(),
            space_id: page.space_id,
            space_key: page.space_key.clone(),
            version: page.version,
            status: Some(page.status),
            last_event: None,
            last_fetch: Some(Fetched { at_ms, result: Fetched::OK.to_owned() }),
            sweep: 0,
        }
    }

    /// May something of it be stored? Yes, unless it was dropped, or never read.
    pub fn may_be_stored(&self) -> bool {
        let was_dropped = self.last_fetch.as_ref().is_some_and(|fetched| fetched.result == Fetched::NOT_FOUND);
        self.status.is_some() || self.version > 0 && !was_dropped
    }

    /// The same page, when a fetch that began at `at_ms` did not find it.
    pub fn gone(self, at_ms: u64) -> Self {
        let last_fetch = Some(Fetched { at_ms, result: Fetched::NOT_FOUND.to_owned() });
        Self { status: None, last_fetch, ..self }
    }
}

/// How the last fetch of a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// When it began, milliseconds since the epoch.
    pub at_ms: u64,
    /// `ok`, `not-found`, or what went wrong.
    pub result: String,
}

impl Fetched {
    /// It was read, and the buffer has it.
    pub const OK: &str = "ok";
    /// It was read, and is put on the road, or the process that was to do it died.
    pub const ON_ITS_WAY: &str = "on-its-way";
    /// It is not there, or not to be seen.
    pub const NOT_FOUND: &str = "not-found";
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

/// A name under `registry_facts`: a known text, sealed, by which a wrong key is found out before it seals anything.
const KEY_CHECK: &str = "key_check";
const KEY_CHECK_LABEL: Label<'static> = Label { site: "", column: KEY_CHECK };
const KEY_CHECK_TEXT: &str = "hookcache";

impl Registry {
    /// Opens it. SQLite is there when it returns; a PostgreSQL that is not there is waited for by whoever needs it.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let of = |database, name, key| {
            Self(Arc::new(Inner { database, name, key, seal: OnceCell::new(), run_asked: Notify::new() }))
        };
        match options {
            Options::Sqlite { path, key } => {
                let name = path.display().to_string();
                let opened = Database::sqlite(&path).await;
                let registry = of(opened.map_err(|error| refused(&name, error))?, name, key);
                registry.prepared().await.map_err(NotPrepared::into_refusal)?;
                let of_former_process = "UPDATE runs SET lease_owner = NULL, lease_until_ms = NULL";
                let freed = registry.0.database.write(of_former_process, vec![]).await;
                freed.map_err(|fault| OpenError(Unavailable::from(fault).to_string()))?;
                Ok(registry)
            }
            Options::Postgres { url, key } => {
                let name = "registry.url".to_owned();
                let opened = Database::postgres(&url);
                let registry = of(opened.map_err(|error| refused(&name, error))?, name, key);
                // A key that can't be read needs no database to be found out.
                Seal::read(&registry.0.key)?;
                match registry.prepared().await {
                    Err(NotPrepared::Refused(error)) => return Err(error),
                    Err(NotPrepared::Away(error)) => tracing::warn!(%error, "the registry is not there yet"),
                    Ok(_) => {}
                }
                Ok(registry)
            }
        }
    }

    /// Can it be reached, and is the key the right one? Cheap enough for a readiness probe.
    pub async fn check(&self) -> Result<(), Unavailable> {
        self.database().await?.read("SELECT 1 AS one", vec![]).await?;
        Ok(())
    }

    /// The database, with its tables.
    async fn database(&self) -> Result<&Database, Unavailable> {
        self.seal().await?;
        Ok(&self.0.database)
    }

    async fn seal(&self) -> Result<&Seal, Unavailable> {
        self.prepared().await.map_err(|error| match error {
            NotPrepared::Refused(error) => Unavailable(error.0),
            NotPrepared::Away(error) => error,
        })
    }

    /// Makes the tables and checks the key, once.
    async fn prepared(&self) -> Result<&Seal, NotPrepared> {
        self.0.seal.get_or_try_init(|| self.prepare()).await
    }

    async fn prepare(&self) -> Result<Seal, NotPrepared> {
        let Inner { database, key, name, .. } = &*self.0;
        database.migrate().await.map_err(|error| match error {
            ConnectError::Away(text) => NotPrepared::Away(Unavailable(text)),
            ConnectError::Wrong(_) => NotPrepared::Refused(refused(name, error)),
        })?;
        if self.kept_check().await?.is_none() {
            let seal = Seal::read_or_make(key)?;
            let sealed = seal.seal(KEY_CHECK_LABEL, KEY_CHECK_TEXT);
            // Of several processes that come first at once, one is the first.
            let insert = "INSERT INTO registry_facts (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
            database.write(insert, vec![KEY_CHECK.into(), sealed.into()]).await?;
        }
        let seal = Seal::read(key)?;
        let kept = self.kept_check().await?.unwrap_or_default();
        if fits(&seal, &kept) { Ok(seal) } else { Err(another_key(key).into()) }
    }

    async fn kept_check(&self) -> Result<Option<String>, Fault> {
        let select = "SELECT value FROM registry_facts WHERE name = $1";
        let row = self.0.database.read_one(select, vec![KEY_CHECK.into()]).await?;
        row.map(|row| row.text("value")).transpose()
    }
}

/// Is this the key that the registry was made with?
fn fits(seal: &Seal, kept_check: &str) -> bool {
    seal.open(KEY_CHECK_LABEL, kept_check).as_deref() == Ok(KEY_CHECK_TEXT)
}

fn another_key(key: &Key) -> OpenError {
    let what = match key {
        Key::File(path) | Key::MadeAtFirst(path) => format!("registry.key_file: {} holds", path.display()),
        Key::Text(_) => "registry.key: is".to_owned(),
    };
    OpenError(format!(
        "{what} another key than the one that the secrets of this registry are sealed with; set it to that key. Where that \
         key is lost, so are the secrets: take a new registry, and add the sites again",
    ))
}

fn refused(name: &str, error: ConnectError) -> OpenError {
    let (ConnectError::Wrong(text) | ConnectError::Away(text)) = error;
    OpenError(format!("{name}: the registry can't be opened: {text}"))
}

/// Why the registry can't be used yet.
enum NotPrepared {
    Refused(OpenError),
    Away(Unavailable),
}

impl NotPrepared {
    fn into_refusal(self) -> OpenError {
        match self {
            Self::Refused(error) => error,
            Self::Away(error) => OpenError(error.to_string()),
        }
    }
}

impl From<OpenError> for NotPrepared {
    fn from(error: OpenError) -> Self {
        Self::Refused(error)
    }
}

impl From<Fault> for NotPrepared {
    fn from(fault: Fault) -> Self {
        Self::Away(fault.into())
    }
}
