//! From the store to a reader: the mover behind the get API.
//!
//! A payload is served as the bytes that were set, never re-serialised. A store that is down is a problem of its own,
//! never an absent entry. What a token may not see is absent, in the very words of what is absent, whether it is
//! remembered or read. It never writes, and knows neither the store's backend nor HTTP headers' names: the edge gives them.
//!
//! | file | holds |
//! | --- | --- |
//! | `page` | an entry, made ready to be served |
//! | `many` | many keys in one call |
//! | `wait` | gets that wait for news |
//! | `links` | the links of a page of Confluence, of some kinds and in parts |
//!
//! Limits: [`KEYS_PER_GET_MAX`], [`ANSWER_BYTES_MAX`] and [`LARGE_GETS_MAX`] bound what many keys at once can take.
//! [`LINKS_MAX`] bounds an answer of links.

mod links;
mod many;
mod page;
mod wait;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::auth::{Auth, Caller, Known, Scope};
use crate::envelope::{Clock, WebhookKey};
use crate::problem::{Code, Problem};
use crate::store::l1::{self, L1, Make};
use crate::store::{ReadError, Reader, Standing};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Lookup, Memory, StoreCall};

pub use links::{LINKS_DEFAULT, LINKS_MAX, Links, LinksRequest};
pub use many::{ANSWER_BYTES_MAX, KEYS_PER_GET_MAX};
pub use page::{Page, Ready, Text};
pub use wait::Waiter;

/// Gets of many keys at once: each holds up to [`ANSWER_BYTES_MAX`] of memory until its answer is sent. Further ones
/// wait for their turn.
pub const LARGE_GETS_MAX: usize = 16;

/// The mover. Cheap to clone.
#[derive(Clone)]
pub struct Serve {
    reader: Reader,
    /// `None` where every get asks the store.
    l1: Option<L1<Ready>>,
    auth: Auth,
    /// For how long a reader may keep an answer; zero for never without asking.
    max_age: Duration,
    clock: Clock,
    metrics: Metrics,
    large_gets: Arc<Semaphore>,
    /// Gets that waited so far, or wait.
    waiters: Arc<AtomicU64>,
    /// When an outage was logged last, in seconds since the epoch.
    outage_told_seconds: Arc<AtomicU64>,
}

/// What is under a key.
enum Found {
    Kept(l1::Found<Ready>),
    Read(Option<Ready>),
}

impl Found {
    fn get(&self) -> Option<&Ready> {
        match self {
            Self::Kept(found) => found.get(),
            Self::Read(ready) => ready.as_ref(),
        }
    }
}

impl Serve {
    /// `memory` is what it may remember; without it every get asks the store.
    pub fn new(
        reader: Reader,
        memory: Option<l1::Options>,
        auth: Auth,
        max_age: Duration,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let of_reads = metrics.clone();
        let on_read = move |took| of_reads.store_call(StoreCall::Read, took);
        let l1 = memory.map(|options| L1::new(reader.clone(), clock.clone(), options, Box::new(on_read)));
        let (large_gets, outage_told_seconds) = (Arc::new(Semaphore::new(LARGE_GETS_MAX)), Arc::default());
        let waiters = Arc::default();
        Self { reader, l1, auth, max_age, clock, metrics, large_gets, waiters, outage_told_seconds }
    }

    /// The same for another runtime, within which this is called.
    pub fn for_this_runtime(&self) -> Self {
        let reader = self.reader.for_this_runtime();
        let l1 = self.l1.as_ref().map(|l1| l1.with_reader(reader.clone()));
        Self { reader, l1, ..self.clone() }
    }

    /// What it remembers, in numbers, and whether every change is told; `None` where it remembers nothing.
    pub fn memory(&self) -> Option<(Memory, Standing)> {
        let (l1, counts, standing) = (self.l1.as_ref()?, self.reader.counts(), self.reader.standing());
        let size = l1.size();
        let memory = Memory {
            entries: size.items,
            bytes: size.bytes,
            bytes_max: l1.bytes_max(),
            invalidations: counts.invalidations,
            epochs: counts.epochs,
            is_coherent: (standing != Standing::Unasked).then_some(standing == Standing::Told),
        };
        Some((memory, standing))
    }

    /// The caller of an `Authorization` header, if it may get.
    pub fn authorize(&self, authorization: Option<&str>) -> Result<Caller, Problem> {
        Ok(self.auth.authorize(authorization, Scope::Get)?)
    }

    /// The same, for one of many calls on a connection.
    pub fn authorize_again(&self, known: &Known, authorization: Option<&str>) -> Result<Arc<Caller>, Problem> {
        Ok(self.auth.authorize_again(known, authorization, Scope::Get)?)
    }

    /// The live entry under a key. `if_none_match` is the header's value, if any.
    pub async fn get(&self, caller: &Caller, key: &str, if_none_match: Option<&str>) -> Result<Page, Problem> {
        let page = |ready: Option<&Ready>| self.page(caller, ready, if_none_match);
        if let Some(page) = self.remembered(key, page) {
            return page;
        }
        let key = parsed(key)?;
        page(self.find_one(&key).await?.get())
    }

    /// What is under a key.
    async fn find_one(&self, key: &WebhookKey) -> Result<Found, Problem> {
        let found = self.find(std::slice::from_ref(key)).await.pop();
        let found = found.unwrap_or_else(|| Err(ReadError::Unavailable("no answer to a read".to_owned())));
        found.map_err(|error| self.unreadable(key, &error))
    }

    /// The page of what is remembered of a key. That it is no key is found out by who asks the store.
    fn remembered<R>(&self, key: &str, page: impl Fn(Option<&Ready>) -> R) -> Option<R> {
        let (lookup, page) = self.l1.as_ref()?.look(key, |ready| (Lookup::of_remembered(ready), page(ready)))?;
        self.metrics.lookup(lookup);
        Some(page)
    }

    /// One result per key, in order.
    async fn find(&self, keys: &[WebhookKey]) -> Vec<Result<Found, ReadError>> {
        let Some(l1) = &self.l1 else {
            let begin = Instant::now();
            let read = self.reader.get_many(keys).await;
            self.metrics.store_call(StoreCall::Read, begin.elapsed());
            return read.into_iter().map(|entry| Ok(Found::Read(entry?.map(Ready::make)))).collect();
        };
        let found = l1.find(keys).await;
        for found in &found {
            self.metrics.lookup(match found {
                Ok(l1::Found::Remembered(_)) => Lookup::of_remembered(found.as_ref().ok().and_then(l1::Found::get)),
                Ok(l1::Found::Read(kept)) if !kept.lasts() => Lookup::Bypass,
                Ok(l1::Found::Read(_)) | Err(_) => Lookup::Miss,
            });
        }
        found.into_iter().map(|found| found.map(Found::Kept)).collect()
    }

    /// The answer to a caller. What it may not see is absent.
    fn page(&self, caller: &Caller, ready: Option<&Ready>, if_none_match: Option<&str>) -> Result<Page, Problem> {
        match ready.filter(|ready| caller.accounts.allow(&ready.account)) {
            Some(ready) => Ok(ready.page(if_none_match, self.max_age_seconds(ready.expires_at_ms))),
            None => Err(not_found()),
        }
    }

    fn max_age_seconds(&self, expires_at_ms: Option<u64>) -> u64 {
        if self.max_age.is_zero() {
            return 0;
        }
        let left = expires_at_ms.map_or(u64::MAX, |at| at.saturating_sub(self.clock.now_ms()) / 1_000);
        left.min(self.max_age.as_secs())
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

fn parsed(key: &str) -> Result<WebhookKey, Problem> {
    WebhookKey::parse(key).map_err(|e| Problem::new(Code::InvalidKey, format!("the key {e}")))
}

fn not_found() -> Problem {
    Problem::new(Code::NotFound, "nothing is stored under this key")
}

/// Weak comparison of an `If-None-Match` header (RFC 9110, section 13.1.2): `*`, or a list of tags.
fn matches(if_none_match: &str, etag: &[u8]) -> bool {
    // Our tags are hexadecimal, so a comma never stands inside one that could match.
    let same = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag;
    if_none_match.trim() == "*" || if_none_match.split(',').any(|tag| same(tag.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_takes_lists_weak_tags_and_the_star() {
        for header in ["\"ab\"", "W/\"ab\"", "*", " * ", "\"x\", \"ab\"", "\"x\",W/\"ab\" , \"y\"", "\"a,b\", \"ab\""] {
            assert!(matches(header, b"\"ab\""), "{header}");
        }
        for header in ["", "ab", "\"abc\"", "\"x\"", "w/\"ab\"", "**"] {
            assert!(!matches(header, b"\"ab\""), "{header}");
        }
    }
}
