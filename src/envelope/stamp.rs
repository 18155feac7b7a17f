//! Ids and arrival times.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::{Builder, Uuid};

/// Where "now" comes from: milliseconds since the epoch. Passed in, so that a test may hold the hands.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    pub fn system() -> Self {
        Self::from_fn(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    pub fn from_fn(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    pub fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

/// How far another clock is ahead of ours (negative: behind), when it said `said_ms` at some moment of this span of our
/// time; 0 where the two may agree.
pub fn gap_ms(said_ms: u64, span_ms: RangeInclusive<u64>) -> i64 {
    let difference = |a: u64, b: u64| i64::try_from(a.saturating_sub(b)).unwrap_or(i64::MAX);
    difference(said_ms, *span_ms.end()) - difference(*span_ms.start(), said_ms)
}

/// One acceptance: its name and when it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// A UUIDv7 (RFC 9562, section 5.7) whose time is `at_ms`.
    pub id: String,
    /// Milliseconds since the epoch.
    pub at_ms: u64,
}

/// Makes stamps that strictly increase: `(at, id)` of a later call is greater, even when the clock stands still or
/// goes back.
pub struct Stamper {
    clock: Clock,
    last: Mutex<(u64, u32)>,
}

/// Stamps that one millisecond can hold before the next one is borrowed: 26 bits of counter.
const COUNTER_MAX: u32 = (1 << 26) - 1;

impl Stamper {
    pub fn new(clock: Clock) -> Self {
        Self { clock, last: Mutex::new((0, 0)) }
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn stamp(&self) -> Stamp {
        let now = self.clock.now_ms();
        let mut last = self.last.lock().expect("no code panics while it holds this lock");
        *last = match *last {
            (at, _) if now > at => (now, 0),
            (at, COUNTER_MAX) => (at + 1, 0),
            (at, count) => (at, count + 1),
        };
        let (at_ms, count) = *last;
        drop(last);
        Stamp { id: uuid_v7(at_ms, count).to_string(), at_ms }
    }
}

/// RFC 9562, section 6.2, method 1: a counter in the most significant random bits, the rest random.
fn uuid_v7(at_ms: u64, count: u32) -> Uuid {
    let random = Uuid::new_v4().into_bytes();
    let mut tail = [0; 10];
    tail[0] = (count >> 22) as u8 & 0x0f;
    tail[1] = (count >> 14) as u8;
    tail[2] = (count >> 8) as u8 & 0x3f;
    tail[3] = count as u8;
    tail[4..].copy_from_slice(&random[10..]);
    Builder::from_unix_timestamp_millis(at_ms, &tail).into_uuid()
}

/// A moment in milliseconds, as RFC 3339. What lies beyond the year 9999 is told as its end.
pub fn rfc_3339(ms: u64) -> String {
    const LAST: &str = "9999-12-31T23:59:59.999Z";
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| LAST.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_may_agree_with_ours_has_no_gap() {
        for (said, gap) in [(100, 0), (150, 0), (200, 0), (205, 5), (90, -10)] {
            assert_eq!(gap_ms(said, 100..=200), gap, "{said}");
        }
    }

    #[test]
    fn moments_are_told_in_rfc_3339_to_the_end_of_time() {
        assert_eq!(rfc_3339(1_767_225_600_000), "2026-01-01T00:00:00Z");
        assert_eq!(rfc_3339(1_767_225_600_123), "2026-01-01T00:00:00.123Z");
        assert_eq!(rfc_3339(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn stamps_increase_while_the_clock_stands_still_or_goes_back() {
        let hands = Arc::new(std::sync::atomic::AtomicU64::new(1_700_000_000_000));
        let clock = {
            let hands = hands.clone();
            Clock::from_fn(move || hands.load(std::sync::atomic::Ordering::Relaxed))
        };
        let stamper = Stamper::new(clock);
        let mut last = (0, String::new());
        for step in 0..50_000u64 {
            if step % 1_000 == 999 {
                hands.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            }
            let stamp = stamper.stamp();
            let this = (stamp.at_ms, stamp.id);
            assert!(this > last, "{this:?} after {last:?}");
            last = this;
        }
    }

    #[test]
    fn an_id_is_a_version_7_uuid_of_its_arrival_time() {
        let stamper = Stamper::new(Clock::from_fn(|| 1_700_000_000_123));
        let stamp = stamper.stamp();
        let id = Uuid::parse_str(&stamp.id).unwrap();
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        assert_eq!(seconds * 1_000 + u64::from(nanos) / 1_000_000, stamp.at_ms);
    }
}
