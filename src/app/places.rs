//! Opens the places that the roles of this process need, and no others: what is not opened is not locked either.

use std::path::{Path, PathBuf};

use crate::config::{BufferOptions, Config, Role, StoreOptions};
use crate::envelope::Clock;
use crate::registry::{self, Registry};
use crate::{buffer, store};

use super::StartError;

/// The places of one process, as halves. A half is absent where no role needs its place.
pub struct Places {
    pub buffer: Option<(buffer::Appender, buffer::Taker)>,
    pub store: Option<(store::Writer, store::Reader, store::RuleBook)>,
    pub registry: Option<Registry>,
    /// The queue of page links.
    pub pages: Option<(buffer::Appender, buffer::Taker)>,
}

impl Places {
    pub async fn open(config: &Config, clock: &Clock) -> Result<Self, StartError> {
        let buffer = match uses_buffer(config) {
            true => Some(open_buffer(&config.buffer).await?),
            false => None,
        };
        let (registry, pages) = match &config.page_links {
            Some(page_links) if uses_page_links(config) => {
                (Some(open_registry(&page_links.registry).await?), Some(open_buffer(&page_links.queue).await?))
            }
            _ => (None, None),
        };
        let store = match uses_store(config) {
            true => Some(open_store(&config.store, clock).await?),
            false => None,
        };
        Ok(Self { buffer, store, registry, pages })
    }
}

/// Does a role of this process need the buffer?
pub fn uses_buffer(config: &Config) -> bool {
    let puts_pages_in = config.page_links.is_some() && config.roles.has_any(&[Role::Pages, Role::Reindex]);
    config.roles.has_any(&[Role::Set, Role::Consume]) || puts_pages_in || looks_after_a_queue(config)
}

/// Does a role of this process need the registry, and the queue of page links?
pub fn uses_page_links(config: &Config) -> bool {
    let uses = [Role::Set, Role::Admin, Role::Pages, Role::Reindex];
    config.page_links.is_some() && config.roles.has_any(&uses)
}

/// Does a role of this process need the store?
pub fn uses_store(config: &Config) -> bool {
    config.roles.has_any(&[Role::Consume, Role::Get, Role::Admin])
}

/// The control plane's dead letters are those of a queue that others use, too. An embedded buffer is in the process
/// that uses it: one opened for the control plane alone would only pretend to have none.
fn looks_after_a_queue(config: &Config) -> bool {
    match &config.buffer {
        #[cfg(feature = "embedded")]
        BufferOptions::Embedded(_) => false,
        #[cfg(feature = "sqs")]
        BufferOptions::Sqs(_) => config.roles.has(Role::Admin),
    }
}

async fn open_buffer(options: &BufferOptions) -> Result<(buffer::Appender, buffer::Taker), StartError> {
    match options.clone() {
        #[cfg(feature = "embedded")]
        BufferOptions::Embedded(options) => {
            let (appender, taker) = on_disk(options.path.clone(), move || buffer::embedded::open(options)).await?;
            Ok((buffer::Appender::Embedded(appender), buffer::Taker::Embedded(taker)))
        }
        #[cfg(feature = "sqs")]
        BufferOptions::Sqs(options) => {
            let opened = buffer::sqs::open(options).await;
            let (appender, taker) = opened.map_err(|error| StartError::Buffer(error.to_string()))?;
            Ok((buffer::Appender::Sqs(appender), buffer::Taker::Sqs(taker)))
        }
    }
}

async fn open_store(
    options: &StoreOptions,
    clock: &Clock,
) -> Result<(store::Writer, store::Reader, store::RuleBook), StartError> {
    match options.clone() {
        #[cfg(feature = "embedded")]
        StoreOptions::Embedded(options) => {
            let clock = clock.clone();
            let opening = on_disk(options.path.clone(), move || store::embedded::open(options, clock));
            let (writer, reader, book) = opening.await?;
            let (writer, reader) = (store::Writer::Embedded(writer), store::Reader::Embedded(reader));
            Ok((writer, reader, store::RuleBook::Embedded(book)))
        }
        StoreOptions::Redis(options) => {
            let opened = store::redis::open(&options, clock.clone());
            let (writer, reader, book) = opened.map_err(|error| StartError::Store(error.to_string()))?;
            Ok((store::Writer::Redis(writer), store::Reader::Redis(reader), store::RuleBook::Redis(book)))
        }
    }
}

async fn open_registry(options: &registry::Options) -> Result<Registry, StartError> {
    if let registry::Options::Sqlite { path, .. } = options {
        make_folder_of(path)?;
    }
    Registry::open(options.clone()).await.map_err(|error| StartError::Registry(error.to_string()))
}

/// Opening a file that was not closed well walks all of it: not on a thread that serves others.
#[cfg(feature = "embedded")]
async fn on_disk<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    path: PathBuf,
    open: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, StartError> {
    let opening = tokio::task::spawn_blocking(move || {
        make_folder_of(&path)?;
        open().map_err(|error| StartError::Data(error.to_string()))
    });
    opening.await.unwrap_or_else(|panic| Err(StartError::Data(format!("opening it failed: {panic}"))))
}

fn make_folder_of(path: &Path) -> Result<(), StartError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| {
        let folder = folder.display();
        StartError::Data(format!(
            "{folder}: the data folder can't be made ({error}); allow it, or choose another one with --data-dir"
        ))
    })
}
