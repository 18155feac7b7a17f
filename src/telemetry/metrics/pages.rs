//! Page links: what became of tasks, and of the pages that they name.

use std::time::Duration;

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGaugeVec};

use super::{Maker, Metrics};
use crate::envelope::PoisonCode;

/// What became of a task that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskDone {
    /// The page's links are on the road.
    Stored,
    /// The page is not there, or not to be seen: its links go.
    Dropped,
    /// It was read since.
    Skipped,
    /// Nobody knows the site.
    NoSite,
    /// The site is paused, disabled or uninstalled.
    Inactive,
    /// The pages of a space have tasks of their own now.
    Space,
    /// The state of a site.
    Lifecycle,
    /// The reindex is asked for.
    Reindex,
}

impl TaskDone {
    pub const ALL: [Self; 8] = [
        Self::Stored,
        Self::Dropped,
        Self::Skipped,
        Self::NoSite,
        Self::Inactive,
        Self::Space,
        Self::Lifecycle,
        Self::Reindex,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Dropped => "dropped",
            Self::Skipped => "skipped",
            Self::NoSite => "no-site",
            Self::Inactive => "inactive",
            Self::Space => "space",
            Self::Lifecycle => "lifecycle",
            Self::Reindex => "reindex",
        }
    }
}

/// Why a task comes again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskPutOff {
    /// Others of its site go first: our own limits, and the site's wish.
    Busy,
    /// The site can't answer.
    Away,
    /// The site takes no credential that is known.
    Refused,
    /// The page is not there yet, or not as new as its event.
    Late,
    /// This page alone could not be used.
    Alone,
    /// The registry is down.
    Registry,
    /// The buffer, or the queue, takes nothing.
    Buffer,
}

impl TaskPutOff {
    pub const ALL: [Self; 7] =
        [Self::Busy, Self::Away, Self::Refused, Self::Late, Self::Alone, Self::Registry, Self::Buffer];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Away => "away",
            Self::Refused => "refused",
            Self::Late => "late",
            Self::Alone => "alone",
            Self::Registry => "registry",
            Self::Buffer => "buffer",
        }
    }
}

/// How a read of a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageRead {
    Read,
    NotFound,
    Away,
    Refused,
    Unusable,
}

impl PageRead {
    const ALL: [Self; 5] = [Self::Read, Self::NotFound, Self::Away, Self::Refused, Self::Unusable];

    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::NotFound => "not-found",
            Self::Away => "away",
            Self::Refused => "refused",
            Self::Unusable => "unusable",
        }
    }
}

const QUEUE_STATES: [&str; 3] = ["visible", "in_flight", "dead"];

pub(super) struct Series {
    messages: IntGaugeVec,
    oldest_age: Gauge,
    tasks: IntCounterVec,
    put_off: IntCounterVec,
    reads: IntCounterVec,
    dead_letters: IntCounterVec,
    pauses: IntCounter,
    event_to_road: Histogram,
}

impl Series {
    pub fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            messages: make.gauges(
                "hookcache_pages_queue_messages",
                "Tasks in the queue of page links by state: visible, in_flight or dead.",
                &["state"],
            )?,
            oldest_age: make.float(
                "hookcache_pages_queue_oldest_age_seconds",
                "Age of its oldest task, taken or not, 0 where there is none; NaN where the backend can't tell.",
            )?,
            tasks: make.counters(
                "hookcache_pages_tasks_total",
                "Tasks of page links that are done, by outcome.",
                &["outcome"],
            )?,
            put_off: make.counters(
                "hookcache_pages_put_off_total",
                "Tasks of page links that come again later, by cause.",
                &["cause"],
            )?,
            reads: make.counters(
                "hookcache_pages_reads_total",
                "Reads of single pages by result: read, not-found, away, refused or unusable.",
                &["result"],
            )?,
            dead_letters: make.counters(
                "hookcache_pages_dead_letters_total",
                "Tasks of page links that were put aside for good, by reason.",
                &["reason"],
            )?,
            pauses: make.counter(
                "hookcache_pages_pauses_total",
                "Pauses of the pages worker, because the registry or the buffer was down.",
            )?,
            event_to_road: make.histogram(
                "hookcache_pages_event_to_road_seconds",
                "Time from the arrival of a page's event until its links were on the road.",
            )?,
        })
    }

    pub fn begin_at_zero(&self) {
        QUEUE_STATES.iter().for_each(|state| drop(self.messages.with_label_values(&[state])));
        TaskDone::ALL.iter().for_each(|done| drop(self.tasks.with_label_values(&[done.as_str()])));
        TaskPutOff::ALL.iter().for_each(|cause| drop(self.put_off.with_label_values(&[cause.as_str()])));
        PageRead::ALL.iter().for_each(|read| drop(self.reads.with_label_values(&[read.as_str()])));
        PoisonCode::ALL.iter().for_each(|code| drop(self.dead_letters.with_label_values(&[code.as_str()])));
    }
}

impl Metrics {
    pub fn pages_depth(&self, visible: u64, in_flight: u64, dead: u64, oldest_age: Option<Duration>) {
        let series = &self.0.pages;
        for (state, count) in QUEUE_STATES.into_iter().zip([visible, in_flight, dead]) {
            series.messages.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        series.oldest_age.set(oldest_age.map_or(f64::NAN, |age| age.as_secs_f64()));
    }

    pub fn page_tasks_done(&self, done: TaskDone, tasks: usize) {
        self.0.pages.tasks.with_label_values(&[done.as_str()]).inc_by(tasks as u64);
    }

    pub fn page_tasks_put_off(&self, cause: TaskPutOff, tasks: usize) {
        self.0.pages.put_off.with_label_values(&[cause.as_str()]).inc_by(tasks as u64);
    }

    pub fn page_read(&self, read: PageRead) {
        self.0.pages.reads.with_label_values(&[read.as_str()]).inc();
    }

    pub fn page_task_dead(&self, reason: &'static str) {
        self.0.pages.dead_letters.with_label_values(&[reason]).inc();
    }

    pub fn pages_paused(&self) {
        self.0.pages.pauses.inc();
    }

    pub fn page_on_road_after(&self, time: Duration) {
        self.0.pages.event_to_road.observe(time.as_secs_f64());
    }
}
