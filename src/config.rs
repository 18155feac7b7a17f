//! The configuration: compiled-in defaults < file < environment < flags, narrowed at once to closed types.
//!
//! Every default stands in `config/hookcache.toml` and nowhere else; the keys of that file are the keys there are. What
//! comes out of [`load`] is valid as a whole: a key that is unknown, malformed or at odds with another is refused, with
//! its name, what it was, and what is allowed. All faults are told at once. Passwords in URLs, and whatever stands
//! where a token's hash should be, are never shown.
//!
//! | file | holds |
//! | --- | --- |
//! | `layers` | the sources, flattened to `section.key`, and which of them wins |
//! | `fields` | reading one key: its form, its bounds, its fault |
//! | `narrow` | from keys to [`Config`], and what must fit together |
//! | `lists` | tokens, callers, TTL rules, reserved prefixes |
//! | `urls` | the form of a URL, and how it is shown |
//! | `reload` | what changes without a restart |

mod fields;
mod layers;
mod lists;
mod narrow;
#[cfg(feature = "server")]
pub mod reload;
mod urls;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
#[cfg(feature = "server")]
use std::time::Duration;

use crate::auth::{ANONYMOUS, Policy, TokenEntry};
use crate::envelope::grants::Owner;
use crate::envelope::{Accounts, Grants, page_links as ours};
#[cfg(feature = "server")]
use crate::store::l1;
use crate::{buffer, store, ttl};
#[cfg(feature = "server")]
use crate::{hooks, registry};

pub use crate::consumer::Options as ConsumerOptions;
#[cfg(feature = "server")]
pub use crate::http::{Options as HttpOptions, Threads};
#[cfg(feature = "server")]
pub use crate::ingest::Options as LimitsOptions;
#[cfg(feature = "server")]
pub use crate::pages::Options as PagesOptions;
#[cfg(feature = "server")]
pub use crate::reindex::Options as ReindexOptions;
pub use crate::telemetry::logs::{Format as LogFormat, Level as LogLevel};
pub use fields::{parse_ttl, spell_ttl};
pub use layers::{Source, Sources};
pub use lists::check_token_name;
#[cfg(feature = "server")]
pub use narrow::Reading;

/// All that is configured; valid as a whole.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub data_dir: PathBuf,
    pub roles: Roles,
    #[cfg(feature = "server")]
    pub http: HttpOptions,
    #[cfg(feature = "server")]
    pub threads: Threads,
    #[cfg(feature = "server")]
    pub limits: LimitsOptions,
    pub buffer: BufferOptions,
    pub store: StoreOptions,
    pub consumer: ConsumerOptions,
    #[cfg(feature = "server")]
    pub get: GetOptions,
    /// `confluence.enabled`.
    pub has_page_links: bool,
    /// Absent while `confluence.enabled = false`.
    #[cfg(feature = "server")]
    pub page_links: Option<PageLinks>,
    /// The static rules; the dynamic ones lie in the store.
    pub ttl: ttl::Rules,
    pub access: Access,
    /// Whose sets may come out of a queue that others fill: the AWS identity, and the accounts that it may set.
    pub callers: HashMap<String, Accounts>,
    /// Prefixes of webhook keys, and to whom they belong.
    pub reserved: Vec<(String, Owner)>,
    pub log: LogOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Set,
    Consume,
    Get,
    Admin,
    /// Reads the pages that something has happened to. Does nothing without page links.
    Pages,
    /// Reads sites as a whole. Does nothing without page links.
    Reindex,
}

/// What this process does: at least one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(BTreeSet<Role>);

impl Role {
    pub const ALL: [Self; 6] = [Self::Set, Self::Consume, Self::Get, Self::Admin, Self::Pages, Self::Reindex];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Consume => "consume",
            Self::Get => "get",
            Self::Admin => "admin",
            Self::Pages => "pages",
            Self::Reindex => "reindex",
        }
    }
}

impl Roles {
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    pub fn has_any(&self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.has(*role))
    }

    pub fn iter(&self) -> impl Iterator<Item = Role> + '_ {
        self.0.iter().copied()
    }
}

/// SQS where `buffer.queue_url` is set.
#[derive(Debug, Clone)]
pub enum BufferOptions {
    #[cfg(feature = "embedded")]
    Embedded(buffer::embedded::Options),
    #[cfg(feature = "sqs")]
    Sqs(buffer::sqs::Options),
}

/// Redis where `store.url` is set.
#[derive(Debug, Clone)]
pub enum StoreOptions {
    #[cfg(feature = "embedded")]
    Embedded(store::embedded::Options),
    Redis(Box<store::redis::Options>),
}

#[cfg(feature = "server")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetOptions {
    /// Zero: a client must ask each time.
    pub max_age: Duration,
    pub cache: Cache,
}

/// What a process that gets remembers of the store.
#[cfg(feature = "server")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Whatever it reads, until it is told of a change; for as long as it can't be told, for a time.
    Coherent(l1::Options),
    /// Whatever it reads, for a time.
    Bounded(l1::Options),
    Off,
}

#[cfg(feature = "server")]
impl Cache {
    pub fn memory(self) -> Option<l1::Options> {
        match self {
            Self::Coherent(options) | Self::Bounded(options) => Some(options),
            Self::Off => None,
        }
    }
}

/// What the pages of Confluence sites link to.
#[cfg(feature = "server")]
#[derive(Debug, Clone)]
pub struct PageLinks {
    pub hooks: hooks::Options,
    pub registry: registry::Options,
    /// Where their tasks lie: a second instance of the place that the buffer is.
    pub queue: BufferOptions,
    pub reindex: ReindexOptions,
    pub reading: Reading,
}

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// No token is listed; fine as long as nobody else can connect.
    OpenOnLoopback,
    /// `auth.mode = "none"` is written out.
    OpenAnywhere,
    Tokens(Vec<TokenEntry>),
}

impl Access {
    pub fn policy(&self) -> Policy {
        match self {
            Self::OpenOnLoopback | Self::OpenAnywhere => Policy::Open,
            Self::Tokens(entries) => Policy::Tokens(entries.clone()),
        }
    }
}

impl Config {
    /// Who may set which accounts and which keys. Page links may set every account, and their keys are theirs alone.
    pub fn grants(&self) -> Grants {
        let mut callers = self.access.policy().callers();
        if !self.callers.is_empty() {
            // Where no token is asked for, whoever gets through to the set API still sets everything.
            let callers = callers.get_or_insert_with(|| HashMap::from([(ANONYMOUS.to_owned(), Accounts::All)]));
            callers.extend(self.callers.clone());
        }
        let mut reserved = self.reserved.clone();
        if self.has_page_links {
            let caller = ours::CALLER.to_owned();
            reserved.push((ours::KEY_PREFIX.to_owned(), Owner::Source(caller.clone())));
            if let Some(callers) = &mut callers {
                callers.insert(caller, Accounts::All);
            }
        }
        Grants { callers, reserved }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// A configuration, and how it came about.
#[derive(Clone)]
pub struct Loaded {
    pub config: Config,
    /// Every key, sorted.
    pub settings: Vec<Setting>,
    pub file: Option<PathBuf>,
    /// The file and the values as they were, secrets included, to see what a reload changes.
    #[cfg(feature = "server")]
    text: Option<layers::FileText>,
    #[cfg(feature = "server")]
    merged: layers::Merged,
}

/// One key's effective value, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    pub shown_value: String,
    pub source: Source,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    pub faults: Vec<Fault>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key; for a fault of a whole file, its path.
    pub key: String,
    pub source: Source,
    /// What it was, and what is allowed.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Default => write!(f, "{}: {}", self.key, self.text),
            source => write!(f, "{} ({source}): {}", self.key, self.text),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is wrong:")?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// Decides about grants and TTL rules, which a reload replaces, though it needs a restart itself.
const PINNED: &str = "confluence.enabled";

/// Reads all sources. Touches no disk but the configuration file, and no network.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let file = sources.read_file().map_err(|fault| ConfigError { faults: vec![fault] })?;
    load_with(sources, file, None)
}

/// The same, with the file's text as it was read before. On a reload, `running` tells what the process has started
/// with: what other keys are judged by, and only a restart changes, is taken from there.
fn load_with(
    sources: &Sources,
    file: Option<layers::FileText>,
    running: Option<&layers::Merged>,
) -> Result<Loaded, ConfigError> {
    let (merged, mut faults) = layers::merge(sources, file.as_ref());
    let judged = running.map(|running| merged.with(PINNED, running));
    match narrow::narrow(judged.as_ref().unwrap_or(&merged)) {
        Ok(config) if faults.is_empty() => {
            let path = file.as_ref().map(|file| file.path.clone());
            Ok(Loaded {
                config,
                settings: merged.settings(),
                file: path,
                #[cfg(feature = "server")]
                text: file,
                #[cfg(feature = "server")]
                merged,
            })
        }
        Ok(_) => Err(ConfigError { faults }),
        Err(more) => {
            faults.extend(more);
            Err(ConfigError { faults })
        }
    }
}

/// Reads the text of a file alone. For the fuzzer, which has no file per text.
#[cfg(fuzzing)]
pub fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    load_with(&Sources::default(), Some(layers::FileText { path: "fuzz.toml".into(), text: text.to_owned() }), None)
}

#[cfg(test)]
mod tests;
