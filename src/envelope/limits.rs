//! Limits of names, payloads and wire forms. Those of HTTP stand in `http::limits`, those of a backend beside it.

use std::time::Duration;

/// Longest account or flow, in bytes (its alphabet is ASCII).
pub const NAME_BYTES_MAX: usize = 128;
/// Longest webhook key, in Unicode scalar values.
pub const KEY_CHARS_MAX: usize = 512;
/// Most webhook keys that one set or delete may name, unless configured lower.
pub const KEYS_PER_REQUEST_MAX: usize = 1_000;
/// Longest event id, in Unicode scalar values.
pub const EVENT_ID_CHARS_MAX: usize = 128;
/// Longest id of an acceptance and longest caller name, in bytes (API Gateway's are far shorter).
pub const ID_BYTES_MAX: usize = 128;
pub const CALLER_BYTES_MAX: usize = 512;
/// Largest wire form on every backend, in bytes: SQS's 1 MiB less 16 KiB for message attributes.
pub const WIRE_BYTES_MAX: usize = 1_032_192;
/// What one set may write in all: number of keys x bytes of payload.
pub const FAN_OUT_BYTES_MAX: usize = 64 << 20;
/// Deepest nesting of arrays and objects in a payload.
pub const PAYLOAD_DEPTH_MAX: usize = 100;
/// Largest `ttlSeconds` and largest TTL of a rule, in seconds: 100 years.
pub const TTL_SECONDS_MAX: u64 = 100 * 365 * 86_400;
/// How far an event time may lie in the future of its arrival.
pub const EVENT_TIME_AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
/// Latest arrival that a wire form may name, in milliseconds since the epoch: the end of the year 9999. What lies beyond
/// was written in another unit, and would pin its keys. No bound by the clock: one that was set back must not make
/// dead letters.
pub const ARRIVAL_MS_MAX: u64 = 253_402_300_799_999;
/// A wire form that arrived longer ago than this is dead-lettered `too-old`.
pub const HORIZON: Duration = Duration::from_secs(15 * 86_400);
/// A tombstone outlives the horizon by this much, so that no wire form that it guards against can outlive it.
pub const TOMBSTONE_MARGIN: Duration = Duration::from_secs(10 * 60);
/// Faults that one answer lists at most.
pub const FAULTS_MAX: usize = 20;
/// Elements that an array of sets may hold.
pub const SETS_PER_ARRAY_MAX: usize = 100;
