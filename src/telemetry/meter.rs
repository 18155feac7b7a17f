//! Counts of HTTP requests, for each thread that serves them apart: a thread writes nothing that others write as well, and
//! a scrape adds up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::metrics::CALL_BUCKETS;

const REQUESTS: &str = "hookcache_http_requests_total";
const REQUESTS_HELP: &str = "HTTP requests by plane, route, method and status.";
const SECONDS: &str = "hookcache_http_request_seconds";
const SECONDS_HELP: &str =
    "Time from a request's head to its answer, by plane and route; key-wait for gets that may be held.";

/// The counts of one thread. Only a scrape ever waits for its lock.
#[derive(Clone, Default)]
pub struct Meter(Arc<Mutex<Counts>>);

/// Few enough to be looked through: a thread meets a handful of routes and statuses.
#[derive(Default)]
struct Counts {
    requests: Vec<(Request, u64)>,
    seconds: Vec<(Path, Times)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    status: u16,
    method: &'static str,
    path: Path,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Path {
    route: &'static str,
    plane: &'static str,
}

#[derive(Clone, Default)]
struct Times {
    /// Not cumulative; the last one is for what is beyond all.
    buckets: [u64; CALL_BUCKETS.len() + 1],
    sum: f64,
}

impl Meter {
    /// All but the status are words of closed sets: pass no part of a request.
    pub fn request(&self, plane: &'static str, route: &'static str, method: &'static str, status: u16, took: Duration) {
        let path = Path { route, plane };
        let mut counts = self.counts();
        *of(&mut counts.requests, Request { status, method, path }) += 1;
        let (times, seconds) = (of(&mut counts.seconds, path), took.as_secs_f64());
        times.buckets[CALL_BUCKETS.partition_point(|bound| *bound < seconds)] += 1;
        times.sum += seconds;
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a key, made where there is none.
fn of<K: Copy + PartialEq, V: Default>(places: &mut Vec<(K, V)>, key: K) -> &mut V {
    let at = places.iter().position(|(of, _)| *of == key).unwrap_or_else(|| {
        places.push((key, V::default()));
        places.len() - 1
    });
    &mut places[at].1
}

/// All meters of one server.
#[derive(Clone)]
pub(super) struct Meters {
    meters: Arc<Mutex<Vec<Meter>>>,
    descriptions: Arc<[Desc; 2]>,
}

impl Meters {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let describe = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())
        };
        let descriptions = [
            describe(REQUESTS, REQUESTS_HELP, &["method", "plane", "route", "status"])?,
            describe(SECONDS, SECONDS_HELP, &["plane", "route"])?,
        ];
        Ok(Self { meters: Arc::default(), descriptions: Arc::new(descriptions) })
    }

    /// It is kept to the end, as what was counted never becomes less.
    pub(super) fn meter(&self) -> Meter {
        let meter = Meter::default();
        self.all().push(meter.clone());
        meter
    }

    fn all(&self) -> MutexGuard<'_, Vec<Meter>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Meters {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (mut requests, mut seconds) = (BTreeMap::<Request, u64>::new(), BTreeMap::<Path, Times>::new());
        for meter in self.all().iter() {
            let counts = meter.counts();
            counts.requests.iter().for_each(|(request, count)| *requests.entry(*request).or_default() += count);
            counts.seconds.iter().for_each(|(path, times)| seconds.entry(*path).or_default().add(times));
        }
        let requests = requests.into_iter().map(|(request, count)| request.metric(count)).collect();
        let seconds = seconds.into_iter().map(|(path, times)| path.metric(&times)).collect();
        vec![
            family(REQUESTS, REQUESTS_HELP, MetricType::COUNTER, requests),
            family(SECONDS, SECONDS_HELP, MetricType::HISTOGRAM, seconds),
        ]
    }
}

impl Request {
    fn metric(&self, count: u64) -> Metric {
        let Self { status, method, path: Path { route, plane } } = self;
        let status = status.to_string();
        let labels = [("method", *method), ("plane", plane), ("route", route), ("status", &status)];
        let (mut metric, mut counter) = (Metric::from_label(labels.map(label).to_vec()), Counter::default());
        counter.set_value(count as f64);
        metric.set_counter(counter);
        metric
    }
}

impl Path {
    fn metric(&self, times: &Times) -> Metric {
        let labels = [("plane", self.plane), ("route", self.route)];
        let mut metric = Metric::from_label(labels.map(label).to_vec());
        metric.set_histogram(times.histogram());
        metric
    }
}

impl Times {
    fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(ours, theirs)| *ours += theirs);
        self.sum += other.sum;
    }

    fn histogram(&self) -> Histogram {
        let mut count = 0;
        let bucket = |(bound, more): (&f64, &u64)| {
            count += more;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(CALL_BUCKETS.iter().zip(&self.buckets).map(bucket).collect());
        histogram.set_sample_count(self.buckets.iter().sum());
        histogram.set_sample_sum(self.sum);
        histogram
    }
}

fn label((name, value): (&str, &str)) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

fn family(name: &str, help: &str, of_type: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(of_type);
    family.set_metric(metrics);
    family
}
