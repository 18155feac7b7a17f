//! The function: the consumer on AWS Lambda, from its configuration to the [`Handler`] that each batch is handed to.
//!
//! A joiner, as `app` is for the server, and configured in the same way: `hookcache.toml`, and `HOOKCACHE_*` variables
//! over it. The file is the one that `HOOKCACHE_CONFIG` names or whose text `HOOKCACHE_CONFIG_TEXT` holds, otherwise the
//! one that lies beside the program in its zip. There is no reload: who changes the configuration deploys anew. TTL rules
//! that operators set while it runs lie in the store, as everywhere.
//!
//! It opens no listener and no connection that reads, and needs no permission on the queue: Lambda itself takes from
//! it, and deletes. To bury, it needs `sqs:SendMessage` on the dead-letter queue.

use std::path::Path;
use std::sync::Arc;

use crate::buffer::{Burier, sqs};
use crate::config::{Access, BufferOptions, Config, ConfigError, Sources, StoreOptions, load};
use crate::consumer::{Handler, Policy, RuleSource, Rulings};
use crate::envelope::Clock;
use crate::store::{self, RuleBook, Writer};
use crate::telemetry::logs;

/// The folder into which Lambda unpacks the zip.
const FOLDER_VARIABLE: &str = "LAMBDA_TASK_ROOT";
const BUNDLED_FILE: &str = "hookcache.toml";

/// Why it can't start. The operator must act; the text names the key.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Store(#[from] store::redis::OpenError),
    #[error("{0}")]
    Buffer(#[from] sqs::OpenError),
    #[error("{key}: is not set, and a function has no disk of its own: {wanted}")]
    Embedded { key: &'static str, wanted: &'static str },
}

/// The sources of this process.
pub fn sources() -> Sources {
    let sources = Sources::of_process(None, Vec::new());
    let bundled = std::env::var_os(FOLDER_VARIABLE).map(|folder| Path::new(&folder).join(BUNDLED_FILE));
    match bundled {
        Some(file) if !sources.name_a_file() && file.is_file() => Sources { file: Some(file), ..sources },
        _ => sources,
    }
}

/// Opens it, and starts logging. Asks no one: a store that is away is no error. Needs a Tokio runtime.
pub fn open(sources: &Sources, clock: Clock) -> Result<Handler, StartError> {
    let config = load(sources)?.config;
    logs::init(config.log.level, config.log.format);
    let grants = Arc::new(config.grants());
    if grants.callers.is_none() && config.access != Access::OpenAnywhere {
        tracing::warn!("auth.callers is empty: whoever may put into the queue may set every account");
    }
    let (writer, book) = open_store(&config, &clock)?;
    let burier = Burier::Sqs(sqs::Burier::new(queues(&config)?)?);
    let rules = Arc::new(config.ttl);
    let policy = Policy::from_fn(move || Rulings { rules: rules.clone(), grants: grants.clone() });
    Ok(Handler::new(writer, RuleSource::new(policy, book), burier, clock))
}

fn open_store(config: &Config, clock: &Clock) -> Result<(Writer, RuleBook), StartError> {
    match &config.store {
        #[cfg(feature = "embedded")]
        StoreOptions::Embedded(_) => {
            Err(StartError::Embedded { key: "store.url", wanted: "set the URL of a Redis (HOOKCACHE_STORE__URL)" })
        }
        StoreOptions::Redis(options) => {
            // The reader goes before it has connected.
            let (writer, _, book) = store::redis::open(options, clock.clone())?;
            Ok((Writer::Redis(writer), RuleBook::Redis(book)))
        }
    }
}

fn queues(config: &Config) -> Result<sqs::Options, StartError> {
    match &config.buffer {
        #[cfg(feature = "embedded")]
        BufferOptions::Embedded(_) => Err(StartError::Embedded {
            key: "buffer.queue_url",
            wanted: "set the URL of the queue that it is fed from",
        }),
        BufferOptions::Sqs(options) => Ok(options.clone()),
    }
}
