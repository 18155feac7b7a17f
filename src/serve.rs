//! From the store to a reader: the mover behind the get API.
//!
//! A payload is served as the bytes that were set, never re-serialised. A store that is down is a problem of its own,
//! never an absent entry. What a token may not see is absent, in the very words of what is absent. It never writes,
//! and knows neither the store's backend nor HTTP headers' names: the edge gives them.
//!
//! | file | holds |
//! | --- | --- |
//! | `many` | many keys in one call |
//! | `links` | the links of a page of Confluence, of some kinds and in parts |
//!
//! Limits: [`KEYS_PER_GET_MAX`], [`ANSWER_BYTES_MAX`] and [`LARGE_GETS_MAX`] bound what many keys at once can take.
//! [`LINKS_MAX`] bounds an answer of links.

mod links;
mod many;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::auth::{Auth, Caller, Scope};
use crate::envelope::stamp::rfc_3339;
use crate::envelope::{Clock, WebhookKey};
use crate::problem::{Code, Problem};
use crate::store::{Entry, ReadError, Reader};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::StoreCall;

pub use links::{LINKS_DEFAULT, LINKS_MAX, Links, LinksRequest};
pub use many::{ANSWER_BYTES_MAX, KEYS_PER_GET_MAX};

/// Gets of many keys at once: each holds up to [`ANSWER_BYTES_MAX`] of memory until its answer is sent. Further ones
/// wait for their turn.
pub const LARGE_GETS_MAX: usize = 16;

/// The mover. Cheap to clone.
#[derive(Clone)]
pub struct Serve {
    reader: Reader,
    auth: Auth,
    /// For how long a reader may keep an answer; zero for never without asking.
    max_age: Duration,
    clock: Clock,
    metrics: Metrics,
    large_gets: Arc<Semaphore>,
    /// When an outage was logged last, in seconds since the epoch.
    outage_told_seconds: Arc<AtomicU64>,
}

/// An entry, ready to be served.
#[derive(Debug, Clone)]
pub struct Page {
    /// The reader has this version already; the payload need not be sent.
    pub not_modified: bool,
    /// The version, in quotes.
    pub etag: String,
    /// Event time, milliseconds since the epoch.
    pub modified_ms: u64,
    pub cache_control: String,
    pub account: String,
    pub flow: String,
    pub id: String,
    /// RFC 3339; absent when the entry never expires.
    pub expires_at: Option<String>,
    pub payload: Bytes,
}

impl Serve {
    pub fn new(reader: Reader, auth: Auth, max_age: Duration, clock: Clock, metrics: Metrics) -> Self {
        let (large_gets, outage_told_seconds) = (Arc::new(Semaphore::new(LARGE_GETS_MAX)), Arc::default());
        Self { reader, auth, max_age, clock, metrics, large_gets, outage_told_seconds }
    }

    /// The caller of an `Authorization` header, if it may get.
    pub fn authorize(&self, authorization: Option<&str>) -> Result<Caller, Problem> {
        Ok(self.auth.authorize(authorization, Scope::Get)?)
    }

    /// The live entry under a key. `if_none_match` is the header's value, if any.
    pub async fn get(&self, caller: &Caller, key: &str, if_none_match: Option<&str>) -> Result<Page, Problem> {
        let key = WebhookKey::parse(key).map_err(|e| Problem::new(Code::InvalidKey, format!("the key {e}")))?;
        let begin = Instant::now();
        let found = self.reader.get(&key).await;
        self.metrics.store_call(StoreCall::Read, begin.elapsed());
        let found = found.map_err(|error| self.unreadable(&key, &error))?;
        match found.filter(|entry| caller.accounts.allow(&entry.account)) {
            Some(entry) => Ok(self.page(entry, if_none_match)),
            None => Err(nothing()),
        }
    }

    fn page(&self, entry: Entry, if_none_match: Option<&str>) -> Page {
        let etag = etag(&entry);
        Page {
            not_modified: if_none_match.is_some_and(|header| matches(header, &etag)),
            etag,
            modified_ms: entry.version.time_ms(),
            cache_control: self.cache_control(entry.expires_at_ms),
            account: entry.account.to_string(),
            flow: entry.flow.to_string(),
            id: entry.id,
            expires_at: entry.expires_at_ms.map(rfc_3339),
            payload: entry.payload,
        }
    }

    fn cache_control(&self, expires_at_ms: Option<u64>) -> String {
        let left = expires_at_ms.map_or(u64::MAX, |at| at.saturating_sub(self.clock.now_ms()) / 1_000);
        match left.min(self.max_age.as_secs()) {
            0 => "private, no-cache".to_owned(),
            seconds => format!("private, max-age={seconds}"),
        }
    }

    fn unreadable(&self, key: &WebhookKey, error: &ReadError) -> Problem {
        // The backend's own words are for the log alone: they can name hosts and paths.
        match error {
            ReadError::Unavailable(why) => {
                self.metrics.store_error(StoreCall::Read);
                // Every read fails in an outage, and one line a second tells it as well as ten thousand.
                let now_seconds = self.clock.now_ms() / 1_000;
                if self.outage_told_seconds.swap(now_seconds, Ordering::Relaxed) != now_seconds {
                    tracing::warn!(why, "the store can't be read");
                }
                Problem::new(Code::StoreUnavailable, "the store can't be reached now; the key may be there: try again")
            }
            ReadError::Unreadable(why) => {
                tracing::warn!(%key, why, "an entry can't be read");
                Problem::new(Code::EntryUnreadable, "the store holds a value here that hookcache did not write")
            }
        }
    }
}

/// What is absent, and what is not for the caller to see.
fn nothing() -> Problem {
    Problem::new(Code::NotFound, "nothing is stored under this key")
}

fn etag(entry: &Entry) -> String {
    format!("\"{}\"", entry.version)
}

/// Weak comparison of an `If-None-Match` header (RFC 9110, section 13.1.2): `*`, or a list of tags.
fn matches(if_none_match: &str, etag: &str) -> bool {
    // Our tags are hexadecimal, so a comma never stands inside one that could match.
    let same = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag) == etag;
    if_none_match.trim() == "*" || if_none_match.split(',').any(|tag| same(tag.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_takes_lists_weak_tags_and_the_star() {
        for header in ["\"ab\"", "W/\"ab\"", "*", " * ", "\"x\", \"ab\"", "\"x\",W/\"ab\" , \"y\"", "\"a,b\", \"ab\""] {
            assert!(matches(header, "\"ab\""), "{header}");
        }
        for header in ["", "ab", "\"abc\"", "\"x\"", "w/\"ab\"", "**"] {
            assert!(!matches(header, "\"ab\""), "{header}");
        }
    }
}
