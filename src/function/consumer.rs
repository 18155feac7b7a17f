//! The consumer: the [`Handler`] that each batch of the queue is handed to. TTL rules that operators set while it runs
//! lie in the store, as everywhere.
//!
//! It opens no listener and no connection that reads, and needs no permission on the queue: Lambda itself takes from
//! it, and deletes. To bury, it needs `sqs:SendMessage` on the dead-letter queue.

use std::sync::Arc;
use std::time::Duration;

use super::{StartError, on_sqs};
use crate::buffer::{Burier, Delivery, MessageId, sqs};
use crate::config::{Config, Sources, StoreOptions, load};
use crate::consumer::{Handler, Policy, RuleSource, Rulings};
use crate::envelope::Clock;
use crate::store::{self, RuleBook, Writer};
use crate::telemetry::logs::{self, Lines};

pub struct Consumer {
    handler: Handler,
    log: Lines,
}

impl Consumer {
    /// See [`Handler::warm_up`].
    pub async fn warm_up(&self) {
        self.handler.warm_up().await;
    }

    /// See [`Handler::handle`]. Its log is written when it returns.
    pub async fn handle(&self, messages: &[Delivery], time: Duration) -> Vec<MessageId> {
        let left = self.handler.handle(messages, time).await;
        self.log.write();
        left
    }
}

/// Opens it, and starts logging. Asks no one: a store that is away is no error. Needs a Tokio runtime.
pub fn open(sources: &Sources, clock: Clock) -> Result<Consumer, StartError> {
    let config = load(sources)?.config;
    let log = logs::init_in_batches(config.log.level, config.log.format);
    let grants = Arc::new(config.grants());
    if grants.callers.is_none() {
        tracing::warn!("auth.callers is empty: whoever may put into the queue may set every account");
    }
    let (writer, book) = open_store(&config, &clock)?;
    let queues = on_sqs(&config.buffer, "buffer.queue_url", "set the URL of the queue that it is fed from")?;
    let burier = Burier::Sqs(sqs::Burier::new(queues)?);
    let rules = Arc::new(config.ttl);
    let policy = Policy::from_fn(move || Rulings { rules: rules.clone(), grants: grants.clone() });
    Ok(Consumer { handler: Handler::new(writer, RuleSource::new(policy, book), burier, clock), log })
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
