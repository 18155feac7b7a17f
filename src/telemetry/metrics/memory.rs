//! Memory in front of the store: what it answers, how much it holds, and whether it hears of changes.

use prometheus::core::GenericCounter;
use prometheus::{Gauge, IntCounter, IntGauge};

use super::{Maker, Metrics};
use crate::telemetry::striped::Striped;

/// Where an answer to a get came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// An entry that was remembered.
    Hit,
    /// The absence of one that was remembered.
    Absent,
    /// The store.
    Miss,
    /// The store, and the next get asks it again: nobody tells of changes.
    Bypass,
}

impl Lookup {
    const ALL: [Self; 4] = [Self::Hit, Self::Absent, Self::Miss, Self::Bypass];

    /// `None` where what is remembered is that there is nothing.
    pub fn of_remembered<T>(entry: Option<T>) -> Self {
        if entry.is_some() { Self::Hit } else { Self::Absent }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Absent => "absent",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

/// What a memory in front of the store is like now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub entries: usize,
    pub bytes: usize,
    /// As many as it may hold.
    pub bytes_max: usize,
    /// Keys that were told to have changed, since the start.
    pub invalidations: u64,
    /// Times that everything may have changed, since the start.
    pub epochs: u64,
    /// Is every change told now? `None` where nobody is asked to tell.
    pub is_coherent: Option<bool>,
}

pub(super) struct Series {
    /// In the order of [`Lookup::ALL`]. Hits come from all threads at once.
    lookups: [GenericCounter<Striped>; Lookup::ALL.len()],
    entries: IntGauge,
    bytes: IntGauge,
    bytes_max: IntGauge,
    invalidations: IntCounter,
    epochs: IntCounter,
    coherent: Gauge,
}

impl Series {
    pub fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        let series = Self {
            lookups: make.striped(
                "hookcache_l1_lookups_total",
                "Keys that were asked for, by where the answer came from: hit and absent (memory), miss and bypass (the \
                 store; a bypass is not remembered, as nobody tells of changes). None without get.cache.",
                ("result", Lookup::ALL.map(Lookup::label)),
            )?,
            entries: make.gauge("hookcache_l1_entries", "Keys of which memory holds something.")?,
            bytes: make.gauge("hookcache_l1_bytes", "Bytes that memory holds.")?,
            bytes_max: make
                .gauge("hookcache_l1_bytes_max", "Bytes that memory may hold (get.cache_max_bytes); 0 without one.")?,
            invalidations: make
                .counter("hookcache_l1_invalidations_total", "Keys that the store told to have changed.")?,
            epochs: make.counter(
                "hookcache_l1_epochs_total",
                "Times that everything in memory went out of date: a lost connection, another primary, an emptied store.",
            )?,
            coherent: make.float(
                "hookcache_l1_coherent",
                "1 while every change is told; 0 while answers may be as old as get.cache allows; NaN where nobody is to \
                 tell, as get.cache is bounded or off, or the process has no role get.",
            )?,
        };
        series.coherent.set(f64::NAN);
        Ok(series)
    }
}

impl Metrics {
    pub fn lookup(&self, lookup: Lookup) {
        self.0.memory.lookups[lookup as usize].inc();
    }

    pub fn memory(&self, memory: Memory) {
        let (series, count) = (&self.0.memory, |count: usize| i64::try_from(count).unwrap_or(i64::MAX));
        series.entries.set(count(memory.entries));
        series.bytes.set(count(memory.bytes));
        series.bytes_max.set(count(memory.bytes_max));
        series.coherent.set(memory.is_coherent.map_or(f64::NAN, |is_coherent| f64::from(u8::from(is_coherent))));
        for (counter, total) in [(&series.invalidations, memory.invalidations), (&series.epochs, memory.epochs)] {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}
