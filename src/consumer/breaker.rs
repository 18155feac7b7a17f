//! The pause: while the store is down nothing is taken, and one probe at a time asks whether it is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::backoff;
use crate::store::Writer;
use crate::telemetry::Metrics;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Breaker(Arc<Inner>);

struct Inner {
    /// The store's error, while the consumer pauses.
    reason: watch::Sender<Option<String>>,
    /// Something was written since the last pause. Where nothing was, the next pause is longer than the last.
    written: AtomicBool,
    metrics: Metrics,
}

impl Breaker {
    pub fn new(metrics: Metrics) -> Self {
        let reason = watch::Sender::new(None);
        Self(Arc::new(Inner { reason, written: AtomicBool::new(true), metrics }))
    }

    /// Why the consumer pauses, if it does.
    pub fn pause_reason(&self) -> Option<String> {
        self.0.reason.borrow().clone()
    }

    pub(super) fn pause(&self, error: &str) {
        let began = self.0.reason.send_if_modified(|reason| {
            let began = reason.is_none();
            reason.get_or_insert_with(|| error.to_owned());
            began
        });
        if began {
            self.0.metrics.paused();
            tracing::warn!(error, "paused: the consumer waits for the store; nothing is lost");
        }
    }

    pub(super) fn wrote(&self) {
        self.0.written.store(true, Ordering::Relaxed);
    }

    /// Waits while there is a pause.
    pub(super) async fn flowing(&self) {
        // It fails only when the sender is gone, and `self` holds it.
        let _ = self.0.reason.subscribe().wait_for(Option::is_none).await;
    }

    /// Ends pauses: probes the store, at growing intervals, for as long as it lives.
    pub(super) async fn probe(&self, writer: &Writer, min: Duration, max: Duration, end: &CancellationToken) {
        let mut reason = self.0.reason.subscribe();
        let mut waits = 0;
        while end.run_until_cancelled(reason.wait_for(Option::is_some)).await.is_some_and(|seen| seen.is_ok()) {
            if self.0.written.swap(false, Ordering::Relaxed) {
                waits = 0;
            }
            let began = Instant::now();
            let back = async {
                loop {
                    sleep(backoff::wait(waits, min, max)).await;
                    waits = waits.saturating_add(1);
                    match writer.check().await {
                        Ok(()) => break,
                        Err(error) => tracing::debug!(%error, "the store is still away"),
                    }
                }
            };
            if end.run_until_cancelled(back).await.is_none() {
                return;
            }
            self.0.reason.send_replace(None);
            self.0.metrics.resumed();
            tracing::info!(paused_ms = began.elapsed().as_millis() as u64, "resumed: the store is back");
        }
    }
}
