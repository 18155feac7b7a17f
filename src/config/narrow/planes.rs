//! The keys of `http`, `limits` and `get`: what the planes take, for how long they wait, and what they remember.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::fields::Fields;
use crate::config::{Cache, GetOptions, HttpOptions, LimitsOptions, Role, Roles, Threads};
use crate::envelope::limits::KEYS_PER_REQUEST_MAX;
use crate::ingest::SetRate;
use crate::store::l1;
use crate::store::redis::Tracking;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
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
        close_delay: fields.duration("http.close_delay", Duration::ZERO..=MINUTE),
    }
}

pub(super) fn threads(fields: &mut Fields<'_>) -> Option<Threads> {
    let names = Threads::ALL.map(|threads| format!("{:?}", threads.as_str())).join(" or ");
    let named = |text: &str| Threads::ALL.into_iter().find(|threads| threads.as_str() == text);
    fields.parsed("http.threads", |text| named(text).ok_or_else(|| format!("must be {names}")))
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

pub(super) fn get(fields: &mut Fields<'_>) -> Option<GetOptions> {
    let max_age = Duration::from_secs(fields.number("get.max_age_seconds", 0..=86_400).into());
    let bytes_max = fields.size("get.cache_max_bytes", 1 << 20..=1 << 40);
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let cache = fields.parsed("get.cache", |text| parse_cache(text, bytes_max));
    Some(GetOptions { max_age, cache: cache? })
}

fn parse_cache(text: &str, bytes_max: usize) -> Result<Cache, String> {
    let allowed = || {
        "must be \"coherent\", \"coherent(time)\" with a time from 0s to 60s, \"bounded(time)\" with one from 1ms to 60s, \
         or \"off\""
            .to_owned()
    };
    let within = |name: &str, min: Duration| {
        let time = text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
        let time = humantime::parse_duration(time.trim()).ok().filter(|time| (min..=MINUTE).contains(time))?;
        Some(l1::Options { bytes_max, stale_max: time })
    };
    let coherent = || within("coherent", Duration::ZERO).map(Cache::Coherent);
    let bounded = || within("bounded", MILLISECOND).map(Cache::Bounded);
    match text {
        "coherent" => Ok(Cache::Coherent(l1::Options { bytes_max, stale_max: SECOND })),
        "off" => Ok(Cache::Off),
        _ => coherent().or_else(bounded).ok_or_else(allowed),
    }
}

/// Redis is to tell of changes where somebody remembers what it has told nothing of.
pub(super) fn tracking(roles: Option<&Roles>, get: Option<&GetOptions>) -> Tracking {
    match (roles, get) {
        (Some(roles), Some(GetOptions { cache: Cache::Coherent(_), .. })) if roles.has(Role::Get) => Tracking::On,
        _ => Tracking::Off,
    }
}
