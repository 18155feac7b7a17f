//! The functions: parts of hookcache on AWS Lambda, from their configuration to what each event is handed to.
//!
//! Joiners, as `app` is for the server, and configured in the same way: `hookcache.toml`, and `HOOKCACHE_*` variables
//! over it. The file is the one that `HOOKCACHE_CONFIG` names or whose text `HOOKCACHE_CONFIG_TEXT` holds, otherwise the
//! one that lies beside the program in its zip. There is no reload: who changes the configuration deploys anew.
//!
//! | file | holds |
//! | --- | --- |
//! | `consumer` | batches of the queue, into the store |
//! | `webhooks` | webhooks of Confluence, into the queue of page links |
//! | `proxy` | API Gateway's events and answers; pure |

pub mod consumer;
#[cfg(feature = "server")]
pub mod proxy;
#[cfg(feature = "server")]
pub mod webhooks;

use std::path::Path;

use crate::buffer::sqs;
use crate::config::{BufferOptions, ConfigError, Sources};
#[cfg(feature = "server")]
use crate::registry;
use crate::store;

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
    #[cfg(feature = "server")]
    #[error("{0}")]
    Registry(#[from] registry::OpenError),
    #[error("{key}: is not set, and a function has no disk of its own: {wanted}")]
    Embedded { key: &'static str, wanted: &'static str },
    #[error("confluence.enabled: is false, so there is no webhook to receive: set it to true")]
    NoPageLinks,
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

/// A queue, which no function has on a disk. `key` and `wanted` say what to set where it would be there.
#[cfg_attr(not(feature = "embedded"), expect(unused_variables, reason = "there is no embedded queue to refuse"))]
fn on_sqs(options: &BufferOptions, key: &'static str, wanted: &'static str) -> Result<sqs::Options, StartError> {
    match options {
        #[cfg(feature = "embedded")]
        BufferOptions::Embedded(_) => Err(StartError::Embedded { key, wanted }),
        BufferOptions::Sqs(options) => Ok(options.clone()),
    }
}
