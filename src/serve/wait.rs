//! Gets that wait for news: an answer that would tell the caller nothing new is held until there is one, or for as long as
//! the caller would wait.
//!
//! To a caller that has no version, absence is no news; to one that has a version (`If-None-Match`), that version is none,
//! and its absence is. It registers for changes before it reads, so that none is missed in between; while it waits it
//! costs its memory, in which there is no payload, and nothing else. When its time is over it looks once more: what has
//! changed a moment before may not have woken it yet.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{Page, Ready, Serve, Text, matches, parsed};
use crate::auth::Caller;
use crate::envelope::WebhookKey;
use crate::problem::Problem;
use crate::store::{Change, Watch};

/// Least time until an entry is looked at again that should have expired: its store may know another time.
const EXPIRY_PAUSE: Duration = Duration::from_millis(50);
/// When everything may have changed, each looks again within this time, so that they don't all ask the store together.
const SPREAD_MAX: Duration = Duration::from_secs(1);
/// The golden ratio in 64 bits: its multiples fall evenly, however many there are.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A key whose changes are seen from now on.
pub struct Waiter {
    key: WebhookKey,
    watch: Watch,
    /// Its place among those who look again when everything may have changed.
    spread: Duration,
}

impl Waiter {
    /// Returns when it is worth to look again.
    async fn changed(&mut self) {
        match self.watch.changed().await {
            Change::Key | Change::Unknown => {}
            Change::Everything => sleep(self.spread).await,
        }
    }
}

impl Serve {
    /// Begins to watch a key.
    pub fn waiter(&self, key: &str) -> Result<Waiter, Problem> {
        let (key, number) = (parsed(key)?, self.waiters.fetch_add(1, Ordering::Relaxed));
        let spread = SPREAD_MAX.mul_f64(number.wrapping_mul(GOLDEN) as f64 / u64::MAX as f64);
        Ok(Waiter { watch: self.reader.watch(&key), key, spread })
    }

    /// Like [`Serve::get`], but what is no news is answered only after `wait`, or as soon as `cut_short` is done.
    pub async fn get_news(
        &self,
        caller: &Caller,
        mut waiter: Waiter,
        if_none_match: Option<&str>,
        wait: Duration,
        cut_short: impl Future<Output = ()>,
    ) -> Result<Page, Problem> {
        let (deadline, mut cut_short) = (Instant::now() + wait, pin!(cut_short));
        let mut is_last_look = wait.is_zero();
        loop {
            let seen = {
                let found = self.find_one(&waiter.key).await?;
                let seen = found.get().filter(|ready| caller.accounts.allow(&ready.account));
                if is_last_look || is_news(seen, if_none_match) {
                    return self.page(caller, seen, if_none_match);
                }
                seen.map(Ready::without_payload)
            };
            tokio::select! {
                biased;
                () = &mut cut_short => return self.page(caller, seen.as_ref(), if_none_match),
                () = sleep_until(deadline) => is_last_look = true,
                () = waiter.changed() => {}
                () = self.expiry(seen.as_ref()) => {}
            }
        }
    }

    /// Returns when an entry has expired, which no store tells of in time.
    async fn expiry(&self, ready: Option<&Ready>) {
        match ready.and_then(|ready| ready.expires_at_ms) {
            Some(at_ms) => {
                let left = Duration::from_millis(at_ms.saturating_sub(self.clock.now_ms()));
                sleep(left.max(EXPIRY_PAUSE)).await;
            }
            None => std::future::pending().await,
        }
    }
}

fn is_news(seen: Option<&Ready>, if_none_match: Option<&str>) -> bool {
    match (seen, if_none_match) {
        (Some(ready), Some(tags)) => !matches(tags, ready.text(Text::ETag)),
        (Some(_), None) | (None, Some(_)) => true,
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use bytes::Bytes;
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::auth::{Auth, Policy, Scope};
    use crate::disk::Storage;
    use crate::envelope::{Account, Clock, Flow, Grants, Version};
    use crate::store::{Effect, Reader, Write, Writer, embedded};
    use crate::telemetry::Metrics;

    const NOW_MS: u64 = 1_000_000;
    const EXPIRES_AT_MS: u64 = NOW_MS + 60_000;

    /// Nothing is remembered; under `k` is something that expires in a minute by a clock that stands still.
    async fn serve() -> (Serve, Writer, Arc<AtomicU64>) {
        let hands = Arc::new(AtomicU64::new(NOW_MS));
        let shown = hands.clone();
        let clock = Clock::from_fn(move || shown.load(Ordering::SeqCst));
        let storage = Storage::given(|| Ok(Box::new(InMemoryBackend::new())));
        let (writer, reader, _) = embedded::open_on(storage, clock.clone()).unwrap();
        let writer = Writer::Embedded(writer);
        let write = Write {
            id: "id".to_owned(),
            at_ms: NOW_MS,
            account: Account::parse("acme").unwrap(),
            version: Version::of_event(0, NOW_MS, "event"),
            keys: vec![parsed("k").unwrap()],
            effect: Effect::Put {
                flow: Flow::parse("flow").unwrap(),
                payload: Bytes::from_static(b"1"),
                expires_at_ms: Some(EXPIRES_AT_MS),
            },
        };
        assert!(writer.write(&[write], NOW_MS).await[0][0].is_ok());
        let auth = Auth::new(Policy::Open, Grants { callers: None, reserved: vec![] });
        let reader = Reader::Embedded(reader);
        (Serve::new(reader, None, auth, Duration::ZERO, clock, Metrics::new()), writer, hands)
    }

    #[tokio::test]
    async fn what_has_expired_when_the_time_is_over_is_answered_as_absent() {
        let (serve, _writer, hands) = serve().await;
        let caller = serve.auth.authorize(None, Scope::Get).unwrap();
        // Done as soon as it waits: it has looked by then, and nothing will wake it.
        let meanwhile = async {
            hands.store(EXPIRES_AT_MS, Ordering::SeqCst);
            std::future::pending().await
        };
        let wait = Duration::from_millis(20);
        let page = serve.get_news(&caller, serve.waiter("k").unwrap(), Some("*"), wait, meanwhile).await;
        assert_eq!(page.unwrap_err().code, crate::problem::Code::NotFound);
    }

    #[tokio::test]
    async fn what_is_no_news_is_told_without_its_payload_when_the_wait_is_cut_short() {
        let (serve, _writer, _) = serve().await;
        let caller = serve.auth.authorize(None, Scope::Get).unwrap();
        let (waiter, wait) = (serve.waiter("k").unwrap(), Duration::from_secs(3_600));
        let page = serve.get_news(&caller, waiter, Some("*"), wait, async {}).await.unwrap();
        assert!(page.not_modified && page.payload.is_empty());
        assert_eq!(page.text(Text::ETag), serve.get(&caller, "k", None).await.unwrap().text(Text::ETag));
    }
}
