//! That one process at a time has a run: a lease that is renewed while there is work.
//!
//! Wall clocks of processes may differ by [`CLOCKS_APART_MAX`]: a holder that could not renew its lease stops that much
//! before others may take it. Where clocks differ by more, two may work on a run for a moment. Then each part is put
//! twice, which is harmless, and the one that lost the lease learns it when it keeps its place.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::trouble::Trouble;
use crate::envelope::Clock;
use crate::registry::{Lease, Registry, Run};

/// For how long a run is claimed. So long it rests after a crash, where there are several processes.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often the lease is renewed: some renewals may fail before it is lost.
const RENEW_EVERY: Duration = Duration::from_secs(6);
/// How much the clocks of two processes may differ without two holders at once.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(10);
const _: () = assert!(RENEW_EVERY.as_secs() * 2 < LEASE.as_secs() - CLOCKS_APART_MAX.as_secs());

/// A run, held.
pub struct Held {
    registry: Registry,
    owner: String,
    clock: Clock,
    /// As the registry has it.
    run: Run,
    /// By our own clock that never jumps: no renewal, no work.
    good_until: Instant,
}

impl Held {
    /// `claimed` is from just before the claim.
    pub fn new(registry: Registry, owner: &str, clock: Clock, run: Run, claimed: Instant) -> Self {
        Self { registry, owner: owner.to_owned(), clock, run, good_until: claimed + LEASE - CLOCKS_APART_MAX }
    }

    pub fn run(&self) -> &Run {
        &self.run
    }

    fn lease(&self) -> Lease {
        let until_ms = self.clock.now_ms().saturating_add(LEASE.as_millis() as u64);
        Lease { owner: self.owner.clone(), until_ms }
    }

    /// Works, and renews the lease meanwhile. Work that goes on without a lease is dropped.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Trouble> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = sleep(RENEW_EVERY) => self.keep(self.run.clone()).await?,
            }
        }
    }

    /// Keeps the run's progress, and renews the lease. Tries until the lease is over.
    pub async fn keep(&mut self, run: Run) -> Result<(), Trouble> {
        loop {
            let asked = Instant::now();
            match self.registry.advance_run(&run, &self.lease()).await {
                Ok(true) => {
                    (self.run, self.good_until) = (run, asked + LEASE - CLOCKS_APART_MAX);
                    return Ok(());
                }
                Ok(false) => return Err(Trouble::Gone),
                Err(error) if Instant::now() >= self.good_until => {
                    tracing::warn!(site = %run.site, number = run.number, %error, "the run could not be kept");
                    return Err(Trouble::Gone);
                }
                Err(error) => {
                    tracing::debug!(site = %run.site, number = run.number, %error, "the run is kept a little later");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// For whoever ends the run, or gives it back.
    pub fn into_parts(self) -> (Run, Lease) {
        let lease = self.lease();
        (self.run, lease)
    }
}
