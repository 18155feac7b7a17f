//! The keys of `http` and `limits`: what the planes take, and for how long they wait.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::fields::Fields;
use crate::config::{HttpOptions, LimitsOptions};
use crate::envelope::limits::KEYS_PER_REQUEST_MAX;
use crate::ingest::SetRate;

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// Sets per second and account, and those at once, that can be told from no limit: no process takes that many.
const SETS_PER_SECOND_MAX: u32 = 1_000_000;

pub(super) fn http(fields: &mut Fields<'_>) -> HttpOptions {
    let wait = 100 * MILLISECOND..=10 * MINUTE;
    HttpOptions {
        connections_max: fields.count("http.connections_max", 1..=100_000),
        header_read_timeout: fields.duration("http.header_read_timeout", 100 * MILLISECOND..=5 * MINUTE),
        body_read_timeout: fields.duration("http.body_read_timeout", wait.clone()),
        request_timeout: fields.duration("http.request_timeout", wait),
        idle_timeout: fields.duration("http.idle_timeout", 100 * MILLISECOND..=HOUR),
        drain_deadline: fields.duration("http.drain_deadline", Duration::ZERO..=10 * MINUTE),
    }
}

pub(super) fn limits(fields: &mut Fields<'_>) -> LimitsOptions {
    let keys_per_request_max = fields.count("limits.keys_per_request_max", 1..=KEYS_PER_REQUEST_MAX as u32);
    let per_second = NonZeroU32::new(fields.number("limits.sets_per_second", 0..=SETS_PER_SECOND_MAX));
    let burst = NonZeroU32::new(fields.number("limits.sets_burst", 0..=SETS_PER_SECOND_MAX));
    if per_second.is_none() && burst.is_some() {
        fields.refuse("limits.sets_burst", "is for limits.sets_per_second alone: set that too, or leave this at 0");
    }
    let set_rate = per_second.map(|per_second| SetRate { per_second, burst: burst.unwrap_or(per_second) });
    LimitsOptions { keys_per_request_max, set_rate }
}
