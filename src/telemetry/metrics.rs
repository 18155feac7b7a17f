//! Prometheus metrics. All names, labels and buckets stand here and nowhere else.

mod hooks;
mod memory;
mod pages;
mod reindex;

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::GenericCounter;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::meter::{Meter, Meters};
use super::striped::Striped;
use crate::envelope::PoisonCode;

pub use hooks::HookOutcome;
pub use memory::{Lookup, Memory};
pub use pages::{PageRead, TaskDone, TaskPutOff};

/// Seconds of an HTTP request or a store call: from the memory of a near machine to a timeout.
pub(super) const CALL_BUCKETS: [f64; 13] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
/// Seconds from acceptance to being readable: from milliseconds to the length of an outage.
const ROAD_BUCKETS: [f64; 14] =
    [0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3_600.0];

/// Causes of a retry.
const RETRY_ALONE: &str = "alone";
const RETRY_STORE: &str = "store";

/// A call to the store, by its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreCall {
    Write,
    Read,
}

impl StoreCall {
    const ALL: [Self; 2] = [Self::Write, Self::Read];

    fn label(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// All metrics of one server. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Series>);

struct Series {
    registry: Registry,
    http: Meters,
    gets_held: IntGauge,
    set_to_readable: Histogram,
    buffer_messages: IntGaugeVec,
    buffer_oldest_age: Gauge,
    appended: IntCounterVec,
    rate_limited: IntCounter,
    batches: IntCounter,
    outcomes: IntCounterVec,
    attempts: IntCounter,
    retries: IntCounterVec,
    dead_letters: IntCounterVec,
    deletes_failed: IntCounter,
    take_errors: IntCounter,
    /// In the order of [`StoreCall::ALL`].
    store_seconds: [Histogram; StoreCall::ALL.len()],
    store_errors: IntCounterVec,
    memory: memory::Series,
    ready: Gauge,
    paused: IntGauge,
    pauses: IntCounter,
    reloads: IntCounterVec,
    hooks: hooks::Series,
    pages: pages::Series,
    reindex: reindex::Series,
}

impl Metrics {
    /// A fresh registry. Every series whose labels are known by now is at zero, so that an increase from none to one is
    /// seen as one; those of requests begin with the first request.
    pub fn new() -> Self {
        Self::register().expect("names and labels of metrics are constants, and distinct")
    }

    fn register() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let make = Maker { registry: &registry };
        let store_seconds = make.histograms(
            "hookcache_store_seconds",
            "Time of a call to the store, by direction; a write is a whole batch, its decoding included.",
            &["call"],
        )?;
        let series = Series {
            http: make.kept(Meters::new()?)?,
            gets_held: make
                .gauge("hookcache_gets_held", "Gets that wait for news now (Prefer: wait); each takes a connection.")?,
            set_to_readable: make.histogram(
                "hookcache_set_to_readable_seconds",
                "Time from an event's acceptance until the store acknowledged it.",
            )?,
            buffer_messages: make.gauges(
                "hookcache_buffer_messages",
                "Messages in the buffer by state: visible, in_flight or dead.",
                &["state"],
            )?,
            buffer_oldest_age: make.float(
                "hookcache_buffer_oldest_age_seconds",
                "Age of the oldest message, taken or not, 0 where there is none; NaN where the backend can't tell.",
            )?,
            appended: make.counters(
                "hookcache_appends_total",
                "Appends to the buffer by result: accepted or failed.",
                &["result"],
            )?,
            rate_limited: make.counter(
                "hookcache_sets_rate_limited_total",
                "Sets and deletes that were refused because of limits.sets_per_second.",
            )?,
            batches: make.counter("hookcache_consumer_batches_total", "Batches that the consumer has taken.")?,
            outcomes: make.counters(
                "hookcache_consumer_outcomes_total",
                "What writes did to keys, by outcome.",
                &["outcome"],
            )?,
            attempts: make.counter("hookcache_consumer_attempts_total", "Messages tried, retries included.")?,
            retries: make.counters(
                "hookcache_consumer_retries_total",
                "Messages to be tried again, by cause: alone (this message) or store (every message).",
                &["cause"],
            )?,
            dead_letters: make.counters(
                "hookcache_dead_letters_total",
                "Messages that the consumer has put aside for good, by reason.",
                &["reason"],
            )?,
            deletes_failed: make.counter(
                "hookcache_consumer_deletes_failed_total",
                "Attempts to remove a finished message that failed; each is tried again.",
            )?,
            take_errors: make.counter(
                "hookcache_consumer_take_errors_total",
                "Attempts to take messages that the buffer refused.",
            )?,
            store_seconds: StoreCall::ALL.map(|call| store_seconds.with_label_values(&[call.label()])),
            store_errors: make.counters(
                "hookcache_store_errors_total",
                "Calls to the store that failed, by direction.",
                &["call"],
            )?,
            memory: memory::Series::new(&make)?,
            ready: make.float(
                "hookcache_ready",
                "1 where /readyz has said last that every role of the process can do its work, or else 0; NaN where \
                 nobody has asked it yet.",
            )?,
            paused: make
                .gauge("hookcache_consumer_paused", "1 while the consumer pauses because the store is down.")?,
            pauses: make.counter("hookcache_consumer_pauses_total", "Pauses of the consumer that have begun.")?,
            reloads: make.counters(
                "hookcache_config_reloads_total",
                "Reloads of the configuration by result: applied or refused.",
                &["result"],
            )?,
            hooks: hooks::Series::new(&make)?,
            pages: pages::Series::new(&make)?,
            reindex: reindex::Series::new(&make)?,
            registry: registry.clone(),
        };
        let build = make.gauges("hookcache_build_info", "1, with the version as a label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        series.buffer_oldest_age.set(f64::NAN);
        series.ready.set(f64::NAN);
        series.begin_at_zero();
        Ok(Self(Arc::new(series)))
    }

    /// The words that [`Metrics::outcome`] will be called with.
    pub fn begin_outcomes_at_zero(&self, outcomes: impl IntoIterator<Item = &'static str>) {
        for outcome in outcomes {
            self.0.outcomes.with_label_values(&[outcome]);
        }
    }

    /// The exposition format of Prometheus, version 0.0.4.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory can't fail, and an empty page is better than none if a label were ever broken.
        let _ = TextEncoder::new().encode(&self.0.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// For a thread of its own that serves HTTP.
    pub fn meter(&self) -> Meter {
        self.0.http.meter()
    }

    /// One more get is held, or one less.
    pub fn held(&self, change: i64) {
        self.0.gets_held.add(change);
    }

    pub fn appended(&self, accepted: bool) {
        self.0.appended.with_label_values(&[append_label(accepted)]).inc();
    }

    pub fn rate_limited(&self) {
        self.0.rate_limited.inc();
    }

    pub fn buffer_depth(&self, visible: u64, in_flight: u64, dead: u64, oldest_age: Option<Duration>) {
        for (state, count) in [("visible", visible), ("in_flight", in_flight), ("dead", dead)] {
            self.0.buffer_messages.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.0.buffer_oldest_age.set(oldest_age.map_or(f64::NAN, |age| age.as_secs_f64()));
    }

    pub fn batch(&self) {
        self.0.batches.inc();
    }

    pub fn tried(&self, messages: usize) {
        self.0.attempts.inc_by(messages as u64);
    }

    pub fn outcome(&self, outcome: &'static str) {
        self.0.outcomes.with_label_values(&[outcome]).inc();
    }

    pub fn readable_after(&self, time: Duration) {
        self.0.set_to_readable.observe(time.as_secs_f64());
    }

    pub fn retry_alone(&self) {
        self.0.retries.with_label_values(&[RETRY_ALONE]).inc();
    }

    pub fn retry_store(&self) {
        self.0.retries.with_label_values(&[RETRY_STORE]).inc();
    }

    pub fn dead_letter(&self, reason: &'static str) {
        self.0.dead_letters.with_label_values(&[reason]).inc();
    }

    pub fn delete_failed(&self) {
        self.0.deletes_failed.inc();
    }

    pub fn take_failed(&self) {
        self.0.take_errors.inc();
    }

    pub fn store_call(&self, call: StoreCall, took: Duration) {
        self.0.store_seconds[call as usize].observe(took.as_secs_f64());
    }

    pub fn store_error(&self, call: StoreCall) {
        self.0.store_errors.with_label_values(&[call.label()]).inc();
    }

    pub fn ready(&self, is_ready: bool) {
        self.0.ready.set(f64::from(u8::from(is_ready)));
    }

    pub fn paused(&self) {
        self.0.paused.set(1);
        self.0.pauses.inc();
    }

    pub fn resumed(&self) {
        self.0.paused.set(0);
    }

    pub fn reloaded(&self, applied: bool) {
        self.0.reloads.with_label_values(&[reload_label(applied)]).inc();
    }
}

impl Series {
    fn begin_at_zero(&self) {
        let begin = |counters: &IntCounterVec, labels: &[&str]| {
            labels.iter().for_each(|label| drop(counters.with_label_values(&[label])));
        };
        begin(&self.store_errors, &[StoreCall::Write.label(), StoreCall::Read.label()]);
        begin(&self.appended, &[append_label(true), append_label(false)]);
        begin(&self.retries, &[RETRY_ALONE, RETRY_STORE]);
        begin(&self.reloads, &[reload_label(true), reload_label(false)]);
        self.hooks.begin_at_zero();
        self.pages.begin_at_zero();
        begin(&self.dead_letters, &PoisonCode::ALL.map(PoisonCode::as_str));
        self.reindex.begin_at_zero();
    }
}

fn append_label(accepted: bool) -> &'static str {
    if accepted { "accepted" } else { "failed" }
}

fn reload_label(applied: bool) -> &'static str {
    if applied { "applied" } else { "refused" }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes a metric and registers it.
struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn kept<T: prometheus::core::Collector + Clone + 'static>(&self, metric: T) -> Result<T, prometheus::Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.kept(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.kept(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    /// A counter for each value of one label, in their order.
    fn striped<const N: usize>(
        &self,
        name: &str,
        help: &str,
        (label, values): (&str, [&str; N]),
    ) -> Result<[GenericCounter<Striped>; N], prometheus::Error> {
        let of_value = |value| self.kept(GenericCounter::with_opts(Opts::new(name, help).const_label(label, value))?);
        let counters = values.into_iter().map(of_value).collect::<Result<Vec<_>, _>>()?;
        Ok(counters.try_into().unwrap_or_else(|_| unreachable!("one for each value")))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.kept(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.kept(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn float(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.kept(Gauge::new(name, help)?)
    }

    fn histogram(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(ROAD_BUCKETS.to_vec());
        self.kept(Histogram::with_opts(options)?)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(CALL_BUCKETS.to_vec());
        self.kept(HistogramVec::new(options, labels)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_in_one_process_count_apart() {
        let (one, other) = (Metrics::new(), Metrics::new());
        for _ in 0..2 {
            one.meter().request("data", "set", "POST", 202, Duration::from_millis(2));
        }
        one.tried(3);
        let series = r#"hookcache_http_requests_total{method="POST",plane="data",route="set",status="202"} 2"#;
        assert!(one.text().contains(series), "{}", one.text());
        for (bound, count) in [("0.001", 0), ("0.0025", 2), ("+Inf", 2)] {
            let labels = format!(r#"plane="data",route="set",le="{bound}""#);
            let bucket = format!("hookcache_http_request_seconds_bucket{{{labels}}} {count}\n");
            assert!(one.text().contains(&bucket), "{bucket} in {}", one.text());
        }
        assert!(one.text().contains("hookcache_consumer_attempts_total 3"));
        assert!(!other.text().contains("status=\"202\""));
        assert!(other.text().contains("hookcache_consumer_attempts_total 0"));
    }

    #[test]
    fn what_has_not_happened_yet_is_counted_as_zero() {
        let metrics = Metrics::new();
        metrics.begin_outcomes_at_zero(["written"]);
        for series in [
            r#"hookcache_dead_letters_total{reason="foreign-key"} 0"#,
            r#"hookcache_consumer_outcomes_total{outcome="written"} 0"#,
            r#"hookcache_consumer_retries_total{cause="store"} 0"#,
            r#"hookcache_appends_total{result="failed"} 0"#,
            r#"hookcache_config_reloads_total{result="refused"} 0"#,
            r#"hookcache_store_errors_total{call="read"} 0"#,
            r#"hookcache_hooks_total{outcome="unverified"} 0"#,
            r#"hookcache_pages_queue_messages{state="dead"} 0"#,
            r#"hookcache_pages_tasks_total{outcome="dropped"} 0"#,
            r#"hookcache_pages_put_off_total{cause="away"} 0"#,
            r#"hookcache_pages_reads_total{result="not-found"} 0"#,
            r#"hookcache_pages_dead_letters_total{reason="too-old"} 0"#,
            r#"hookcache_hook_key_fetches_total{result="failed"} 0"#,
            r#"hookcache_reindex_runs_total{result="failed"} 0"#,
            r#"hookcache_reindex_pages_total{what="swept"} 0"#,
            "hookcache_reindex_open_runs 0",
        ] {
            assert!(metrics.text().contains(series), "{series} in {}", metrics.text());
        }
    }

    #[test]
    fn an_age_that_the_backend_cannot_tell_is_not_zero() {
        let metrics = Metrics::new();
        metrics.buffer_depth(1, 2, 3, None);
        assert!(metrics.text().contains("hookcache_buffer_oldest_age_seconds NaN"));
        assert!(metrics.text().contains(r#"hookcache_buffer_messages{state="dead"} 3"#));
        metrics.buffer_depth(0, 0, 0, Some(Duration::from_millis(1_500)));
        assert!(metrics.text().contains("hookcache_buffer_oldest_age_seconds 1.5"));
    }
}
