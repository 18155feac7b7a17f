//! Reindex: runs, pages, and how far it is behind.

use std::time::Duration;

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge};

use super::{Maker, Metrics};

const SUCCEEDED: &str = "succeeded";
const FAILED: &str = "failed";
const SEEN: &str = "seen";
const CHANGED: &str = "changed";
const SWEPT: &str = "swept";

pub(super) struct Series {
    runs: IntCounterVec,
    pages: IntCounterVec,
    put_off: IntCounter,
    open_runs: IntGauge,
    behind: Gauge,
}

impl Series {
    pub fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            runs: make.counters(
                "hookcache_reindex_runs_total",
                "Runs of a reindex that have ended here, by result: succeeded or failed.",
                &["result"],
            )?,
            pages: make.counters(
                "hookcache_reindex_pages_total",
                "Pages by what a reindex has done: seen in a list, changed since they were read last, or swept, which is \
                 asked for because the list did not name them.",
                &["what"],
            )?,
            put_off: make.counter(
                "hookcache_reindex_retries_total",
                "Steps of a reindex that are tried again later: a rate limit, or a site, registry or buffer that is down.",
            )?,
            open_runs: make
                .gauge("hookcache_reindex_open_runs", "Runs of active sites that are asked for and have not ended.")?,
            behind: make.float(
                "hookcache_reindex_behind_seconds",
                "Time since the last good reindex began, of the active site where that is longest.",
            )?,
        })
    }

    pub fn begin_at_zero(&self) {
        for result in [SUCCEEDED, FAILED] {
            self.runs.with_label_values(&[result]);
        }
        for what in [SEEN, CHANGED, SWEPT] {
            self.pages.with_label_values(&[what]);
        }
    }
}

impl Metrics {
    pub fn reindex_ended(&self, succeeded: bool) {
        let result = if succeeded { SUCCEEDED } else { FAILED };
        self.0.reindex.runs.with_label_values(&[result]).inc();
    }

    pub fn reindexed(&self, seen: u64, changed: u64, swept: u64) {
        for (what, count) in [(SEEN, seen), (CHANGED, changed), (SWEPT, swept)] {
            self.0.reindex.pages.with_label_values(&[what]).inc_by(count);
        }
    }

    pub fn reindex_put_off(&self) {
        self.0.reindex.put_off.inc();
    }

    pub fn reindex_backlog(&self, open_runs: u64, behind: Duration) {
        self.0.reindex.open_runs.set(i64::try_from(open_runs).unwrap_or(i64::MAX));
        self.0.reindex.behind.set(behind.as_secs_f64());
    }
}
