//! Gets that wait for news: an answer that would tell the caller nothing new is held until there is one, or for as long as
//! the caller would wait.
//!
//! To a caller that has no version, absence is no news; to one that has a version (`If-None-Match`), that version is none,
//! and its absence is. It registers for changes before it reads, so that none is missed in between; while it waits it
//! costs its memory and nothing else.

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
        loop {
            let found = self.find_one(&waiter.key).await?;
            let seen = found.get().filter(|ready| caller.accounts.allow(&ready.account));
            let is_over = is_news(seen, if_none_match)
                || tokio::select! {
                    biased;
                    () = &mut cut_short => true,
                    () = sleep_until(deadline) => true,
                    () = waiter.changed() => false,
                    () = self.expiry(seen) => false,
                };
            if is_over {
                return self.page(caller, seen, if_none_match);
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
