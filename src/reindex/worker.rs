//! The loop around runs: claim what is open, work on several at once, give them back at a stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Options;
use super::lease::{Held, LEASE};
use crate::backoff;
use crate::buffer::Appender;
use crate::confluence::Confluence;
use crate::envelope::{Clock, Stamper};
use crate::page::Archived;
use crate::registry::{Registry, Run, Unavailable};
use crate::telemetry::Metrics;

/// Runs that one process works on at once: each holds a part of a list in memory.
const RUNS_MAX: usize = 4;
/// How often it is asked whether there is a run to be claimed, where none was asked for here. One query each.
const CLAIM_EVERY: Duration = Duration::from_secs(4);
/// Longest wait between two tries while the registry is down.
const CLAIM_WAIT_MAX: Duration = Duration::from_secs(30);
/// Giving back runs at a stop may take this long. What is not given back goes on when its lease is over.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(5);

/// The mover. Made, then run once.
pub struct Reindexer {
    pub(super) registry: Registry,
    pub(super) confluence: Confluence,
    /// Where pages are put.
    pub(super) road: Appender,
    /// Where runs are asked for.
    pub(super) tasks: Appender,
    pub(super) stamper: Arc<Stamper>,
    pub(super) metrics: Metrics,
    pub(super) options: Options,
    pub(super) archived: Archived,
    /// Names this process in leases.
    owner: String,
}

/// What it works with.
pub struct Parts {
    pub registry: Registry,
    pub confluence: Confluence,
    /// Of the buffer: where pages are put.
    pub road: Appender,
    /// Of the pages queue: where runs are asked for.
    pub tasks: Appender,
    /// What becomes of archived pages.
    pub archived: Archived,
    pub metrics: Metrics,
    pub clock: Clock,
}

impl Reindexer {
    pub fn new(parts: Parts, options: Options) -> Self {
        let Parts { registry, confluence, road, tasks, archived, metrics, clock } = parts;
        let (stamper, owner) = (Arc::new(Stamper::new(clock)), Uuid::new_v4().to_string());
        Self { registry, confluence, road, tasks, stamper, metrics, options, archived, owner }
    }

    pub(super) fn clock(&self) -> &Clock {
        self.stamper.clock()
    }

    /// Works until `stop`, then gives back what is in hand, so that another process goes on at once.
    pub async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        tokio::join!(this.work_on_runs(&stop), this.ask_for_due_runs(&stop));
    }

    async fn work_on_runs(self: &Arc<Self>, stop: &CancellationToken) {
        let mut runs = JoinSet::new();
        let mut failures = 0;
        loop {
            let claimed = match runs.len() < RUNS_MAX {
                true => stop.run_until_cancelled(self.claim()).await,
                false => Some(Ok(None)),
            };
            let wait = match claimed {
                None => break,
                Some(Ok(Some(held))) => {
                    failures = 0;
                    let (this, stop) = (Arc::clone(self), stop.clone());
                    runs.spawn(async move { this.carry(held, &stop).await });
                    continue;
                }
                Some(Ok(None)) => {
                    failures = 0;
                    backoff::wait(0, CLAIM_EVERY, CLAIM_EVERY)
                }
                Some(Err(error)) => {
                    if failures == 0 {
                        tracing::warn!(%error, "no run can be claimed; it is tried again");
                    }
                    failures += 1;
                    backoff::wait(failures - 1, CLAIM_EVERY, CLAIM_WAIT_MAX)
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = runs.join_next() => tell_panic(ended),
                () = self.registry.run_asked() => {}
                () = sleep(wait) => {}
            }
        }
        let given_back = async {
            while let Some(ended) = runs.join_next().await {
                tell_panic(ended);
            }
        };
        if timeout(GIVE_BACK_TIMEOUT, given_back).await.is_err() {
            tracing::warn!("not all reindexes were given back; they go on elsewhere when their leases are over");
        }
    }

    async fn claim(&self) -> Result<Option<Held>, Unavailable> {
        let (asked, now_ms) = (Instant::now(), self.clock().now_ms());
        let until_ms = now_ms.saturating_add(LEASE.as_millis() as u64);
        let run: Option<Run> = self.registry.claim_run(&self.owner, now_ms, until_ms).await?;
        Ok(run.map(|run| Held::new(self.registry.clone(), &self.owner, self.clock().clone(), run, asked)))
    }
}

/// The run goes on when its lease is over.
fn tell_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a reindex was cut off by a fault of the program");
    }
}
