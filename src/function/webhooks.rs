//! Webhooks of Confluence behind API Gateway: the mover `hooks`, with no listener of ours before it.
//!
//! It needs a registry that lies elsewhere (PostgreSQL), with its key in `registry.key`, and a queue of page links on SQS:
//! `sqs:SendMessage` on that, `sqs:GetQueueAttributes` on it and on its dead letters, which `open` looks at. The store is
//! not asked, and need not be named.

use std::time::Duration;

use serde_json::Value;

use super::proxy::{self, NotProxied, Response};
use super::{StartError, on_sqs};
use crate::buffer::{Appender, sqs};
use crate::config::{Sources, load};
use crate::envelope::{Clock, Stamper};
use crate::hooks::Hooks;
use crate::http;
use crate::outbound::Outbound;
use crate::registry::{Options, Registry};
use crate::telemetry::{Metrics, logs};

/// How long a connection to a key server may take to come about.
const KEYS_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Of the time that a call may take, what is kept for its answer: Lambda ends a function that is late.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// What each event of API Gateway is handed to.
pub struct Webhooks {
    hooks: Hooks,
    /// `http.request_timeout`.
    request_timeout: Duration,
}

/// Opens it, and starts logging. A registry or a queue that does not answer is no error; one that refuses us is.
pub async fn open(sources: &Sources, clock: Clock) -> Result<Webhooks, StartError> {
    let config = load(sources)?.config;
    logs::init(config.log.level, config.log.format);
    let page_links = config.page_links.ok_or(StartError::NoPageLinks)?;
    if let Options::Sqlite { .. } = page_links.registry {
        let wanted = "set the URL of a PostgreSQL (HOOKCACHE_REGISTRY__URL), and its key (HOOKCACHE_REGISTRY__KEY)";
        return Err(StartError::Embedded { key: "registry.url", wanted });
    }
    let wanted = "set the URL of a queue on SQS (HOOKCACHE_PAGES__QUEUE_URL)";
    let queue = on_sqs(&page_links.queue, "pages.queue_url", wanted)?;
    let (registry, queue) = tokio::join!(Registry::open(page_links.registry), sqs::open(queue));
    let (appender, _) = queue?;
    let outbound = Outbound::new(KEYS_CONNECT_TIMEOUT, &[]).expect("no authority is given that could be wrong");
    let (stamper, metrics) = (Stamper::new(clock), Metrics::new());
    let hooks = Hooks::new(page_links.hooks, registry?, Appender::Sqs(appender), outbound, stamper, metrics);
    Ok(Webhooks { hooks, request_timeout: config.http.request_timeout })
}

impl Webhooks {
    /// Answers an event within `time`. An event that is no request is an error, never an answer: whoever else invokes this
    /// function must not take a 4xx for success, as a queue would.
    pub async fn answer(&self, event: Value, time: Duration) -> Result<Response, NotProxied> {
        let time = time.saturating_sub(ANSWER_TIME).min(self.request_timeout);
        let response = match proxy::call(event)? {
            Ok(call) => http::webhook(&self.hooks, call, time).await,
            Err(problem) => http::refused(&problem).await,
        };
        Ok(Response::of(response))
    }
}
