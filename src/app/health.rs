//! Is this process ready, and how full are its queues? Asked by probes and scrapes, answered from a short memory, so
//! that nobody who asks often costs the backends more than one round trip a second.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::buffer::{Appender, Depth, Taker};
use crate::consumer::Breaker;
use crate::http::Readiness;
use crate::registry::Registry;
use crate::serve::Serve;
use crate::store::{Reader, Standing, Writer};
use crate::telemetry::Metrics;

/// A report of readiness is at most this old.
const REPORT_AGE_MAX: Duration = Duration::from_secs(1);
/// The depth of the buffer is asked for at most this often: SQS bills each question.
const DEPTH_AGE_MIN: Duration = Duration::from_secs(5);
/// A place that doesn't answer for this long is not ready. Below the 5 seconds that probes commonly wait.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// What the roles of this process need to work. A half is absent where no role needs it.
pub struct Needs {
    /// For `set`.
    pub appender: Option<Appender>,
    /// For `get`.
    pub reader: Option<Reader>,
    /// For `get`: what it remembers.
    pub serve: Option<Serve>,
    /// For `consume`.
    pub consumer: Option<(Writer, Breaker)>,
    /// For `consume`, and to see how full the buffer is.
    pub taker: Option<Taker>,
    /// For `set` with page links, `pages` and `reindex`.
    pub page_links: Option<PageLinks>,
}

pub struct PageLinks {
    pub registry: Registry,
    /// Of their queue.
    pub appender: Appender,
    pub taker: Taker,
}

pub struct Health {
    needs: Needs,
    metrics: Metrics,
    /// Cancelled when the process begins to stop: it is not ready from then on.
    stopping: CancellationToken,
    readiness: Mutex<Option<(Instant, Readiness)>>,
    depth_asked: Mutex<Option<Instant>>,
}

impl Health {
    pub fn new(needs: Needs, metrics: Metrics, stopping: CancellationToken) -> Self {
        Self { needs, metrics, stopping, readiness: Mutex::default(), depth_asked: Mutex::default() }
    }

    /// Why some role of this process can't do its work now, and what is worth knowing where it can.
    pub async fn readiness(&self) -> Readiness {
        let readiness = self.judged().await;
        self.metrics.ready(readiness.reasons.is_empty());
        readiness
    }

    async fn judged(&self) -> Readiness {
        if self.stopping.is_cancelled() {
            return Readiness { reasons: vec!["this process is stopping".to_owned()], notes: Vec::new() };
        }
        let mut kept = self.readiness.lock().await;
        if let Some((at, readiness)) = &*kept
            && at.elapsed() < REPORT_AGE_MAX
        {
            return readiness.clone();
        }
        let checks = async { tokio::join!(self.set(), self.get(), self.consume(), self.page_links()) };
        let (set, get, consume, page_links) = checks.await;
        let reasons = [set, get, consume, page_links].into_iter().flatten().collect();
        let readiness = Readiness { reasons, notes: self.memory_note().into_iter().collect() };
        *kept = Some((Instant::now(), readiness.clone()));
        readiness
    }

    /// What is remembered may be out of date: why, and by how much.
    fn memory_note(&self) -> Option<String> {
        let serve = self.needs.serve.as_ref()?;
        let why = match serve.memory()? {
            (_, Standing::Told) => return None,
            (_, Standing::Untold(why)) => why,
            (_, Standing::Unasked) => "get.cache has nobody tell of them".to_owned(),
        };
        Some(format!("get: answers may be as old as get.cache allows, as changes are not told: {why}"))
    }

    async fn set(&self) -> Option<String> {
        let appender = self.needs.appender.as_ref()?;
        judge("set", appender.check()).await
    }

    async fn get(&self) -> Option<String> {
        let reader = self.needs.reader.as_ref()?;
        judge("get", reader.check()).await
    }

    async fn consume(&self) -> Option<String> {
        let (writer, breaker) = self.needs.consumer.as_ref()?;
        if let Some(reason) = breaker.pause_reason() {
            return Some(format!("consume: paused: {reason}"));
        }
        let (store, buffer) = tokio::join!(judge("consume", writer.check()), self.buffer_to_take_from());
        store.or(buffer)
    }

    async fn page_links(&self) -> Option<String> {
        let PageLinks { registry, appender, .. } = self.needs.page_links.as_ref()?;
        let registry = judge("page links", registry.check());
        let (registry, queue) = tokio::join!(registry, judge("page links", appender.check()));
        registry.or(queue)
    }

    /// It is asked how full it is, which costs a queue no more than any other question.
    async fn buffer_to_take_from(&self) -> Option<String> {
        let taker = self.needs.taker.as_ref()?;
        judge("consume", taker.depth()).await
    }

    /// The metrics page, with depths of the queues that are a few seconds old at most, unless the buffer is down.
    pub async fn metrics(&self) -> String {
        self.sample_depth().await;
        if let Some((memory, _)) = self.needs.serve.as_ref().and_then(Serve::memory) {
            self.metrics.memory(memory);
        }
        self.metrics.text()
    }

    async fn sample_depth(&self) {
        let mut asked = self.depth_asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < DEPTH_AGE_MIN) {
            return;
        }
        *asked = Some(Instant::now());
        let pages = self.needs.page_links.as_ref().map(|page_links| &page_links.taker);
        let (buffer, pages) = tokio::join!(depth(self.needs.taker.as_ref()), depth(pages));
        if let Some(Depth { visible, in_flight, dead, oldest_age }) = buffer {
            self.metrics.buffer_depth(visible, in_flight, dead, oldest_age);
        }
        if let Some(Depth { visible, in_flight, dead, oldest_age }) = pages {
            self.metrics.pages_depth(visible, in_flight, dead, oldest_age);
        }
    }
}

async fn depth(taker: Option<&Taker>) -> Option<Depth> {
    match timeout(CHECK_TIMEOUT, taker?.depth()).await {
        Ok(Ok(depth)) => return Some(depth),
        Ok(Err(error)) => tracing::debug!(%error, "the depth of a queue is not known"),
        Err(_) => tracing::debug!("the depth of a queue is not known: no answer in time"),
    }
    None
}

async fn judge<T, E: std::fmt::Display>(
    role: &'static str,
    check: impl Future<Output = Result<T, E>>,
) -> Option<String> {
    let reason = match timeout(CHECK_TIMEOUT, check).await {
        Ok(Ok(_)) => return None,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} seconds", CHECK_TIMEOUT.as_secs()),
    };
    Some(format!("{role}: {reason}"))
}
