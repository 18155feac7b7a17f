//! Whose turn it is to ask a site.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::FetchError;
use crate::backoff;
use crate::envelope::SiteId;

/// A turn is waited for as long as this; who does not get one by then comes again later.
pub(super) const TURN_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long a site is left alone that does not say for how long, at first and at most; and at most, whatever it says.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);
const TOLD_PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// Sites that are remembered; beyond it those go that nobody asks at the moment.
const SITES_MAX: usize = 10_000;
/// Keys of spaces that are remembered per site, and for how long.
const SPACES_MAX: usize = 10_000;
const SPACE_AGE_MAX: Duration = Duration::from_secs(10 * 60);

pub(super) struct Turns {
    sites: Mutex<HashMap<SiteId, Arc<Site>>>,
    at_once: usize,
    /// Between two requests, once those of the first second are used up.
    interval: Duration,
    burst: u32,
}

struct Site {
    slots: Arc<Semaphore>,
    pace: Mutex<Pace>,
    spaces: Arc<AsyncMutex<HashMap<u64, Space>>>,
}

struct Pace {
    /// When a request is due that comes after all that were granted (the generic cell rate algorithm).
    due: Instant,
    alone_until: Option<Instant>,
    /// Times in a row that the site wanted to be left alone.
    pauses: u32,
}

struct Space {
    key: Option<String>,
    asked: Instant,
}

/// The right to send one request now. Dropped when it has been answered.
pub(super) struct Turn(#[allow(dead_code, reason = "it is held, and never looked at")] OwnedSemaphorePermit);

impl Turns {
    pub fn new(at_once: usize, per_second: u32) -> Self {
        let burst = per_second.max(1);
        Self { sites: Mutex::default(), at_once: at_once.max(1), interval: Duration::from_secs(1) / burst, burst }
    }

    fn site(&self, site: &SiteId) -> Arc<Site> {
        let mut sites = self.sites.lock().expect("no code panics while it holds this lock");
        if sites.len() >= SITES_MAX && !sites.contains_key(site) {
            sites.retain(|_, known| Arc::strong_count(known) > 1 || known.is_left_alone());
        }
        let fresh = || {
            let pace = Pace { due: Instant::now(), alone_until: None, pauses: 0 };
            let slots = Arc::new(Semaphore::new(self.at_once));
            Arc::new(Site { slots, pace: Mutex::new(pace), spaces: Arc::default() })
        };
        sites.entry(site.clone()).or_insert_with(fresh).clone()
    }

    /// Waits for a turn, for [`TURN_WAIT_MAX`] at most.
    pub async fn take(&self, site: &SiteId) -> Result<Turn, FetchError> {
        let (site, until) = (self.site(site), Instant::now() + TURN_WAIT_MAX);
        site.wait_while_left_alone(until).await?;
        let slot = timeout_at(until, site.slots.clone().acquire_owned()).await;
        let Ok(Ok(slot)) = slot else {
            let why = format!("{} requests run already (confluence.requests_at_once)", self.at_once);
            return Err(FetchError::Busy { after: TURN_WAIT_MAX, why });
        };
        // While it waited for a slot, another's answer may have been a 429.
        site.wait_while_left_alone(until).await?;
        let due = site.pace().claim(self.interval, self.burst, until);
        match due {
            Ok(at) => sleep_until(at).await,
            Err(after) => {
                let why = format!("{} were sent within a second (confluence.requests_per_second)", self.burst);
                return Err(FetchError::Busy { after, why });
            }
        }
        Ok(Turn(slot))
    }

    /// The site wants to be left alone, for that long where it says so. For how long it will be.
    pub fn leave_alone(&self, site: &SiteId, told: Option<Duration>) -> Duration {
        let site = self.site(site);
        let mut pace = site.pace();
        let wait =
            told.map_or_else(|| backoff::wait(pace.pauses, PAUSE_MIN, PAUSE_MAX), |told| told.min(TOLD_PAUSE_MAX));
        pace.pauses = pace.pauses.saturating_add(1);
        let until = Instant::now() + wait;
        pace.alone_until = Some(pace.alone_until.map_or(until, |before| before.max(until)));
        wait
    }

    /// The site has answered as it should.
    pub fn answered(&self, site: &SiteId) {
        self.site(site).pace().pauses = 0;
    }

    /// What is known of a site's spaces. Whoever holds it asks for a space that is not known; others wait for that very
    /// answer.
    pub async fn spaces(&self, site: &SiteId) -> Spaces {
        Spaces(self.site(site).spaces.clone().lock_owned().await)
    }
}

impl Site {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().expect("no code panics while it holds this lock")
    }

    fn is_left_alone(&self) -> bool {
        self.pace().alone_for().is_some()
    }

    async fn wait_while_left_alone(&self, until: Instant) -> Result<(), FetchError> {
        let left = self.pace().alone_for();
        match left {
            None => Ok(()),
            Some(left) if Instant::now() + left > until => {
                Err(FetchError::Busy { after: left, why: "the site has asked for less (429)".to_owned() })
            }
            Some(left) => {
                sleep(left).await;
                Ok(())
            }
        }
    }
}

impl Pace {
    fn alone_for(&self) -> Option<Duration> {
        self.alone_until.and_then(|until| until.checked_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// When the next request may be sent, which is then granted; or how long it takes until one may.
    fn claim(&mut self, interval: Duration, burst: u32, until: Instant) -> Result<Instant, Duration> {
        let now = Instant::now();
        let due = self.due.max(now);
        let ahead = due - now;
        let wait = (ahead + interval).saturating_sub(interval * burst);
        if now + wait > until {
            return Err(wait);
        }
        self.due = due + interval;
        Ok(now + wait)
    }
}

/// Keys of spaces, by their ids.
pub(super) struct Spaces(OwnedMutexGuard<HashMap<u64, Space>>);

impl Spaces {
    /// `Some(None)`: it was asked for lately, and can't be seen.
    pub fn get(&self, id: u64) -> Option<Option<String>> {
        self.0.get(&id).filter(|space| space.asked.elapsed() < SPACE_AGE_MAX).map(|space| space.key.clone())
    }

    pub fn keep(&mut self, id: u64, key: Option<String>) {
        if self.0.len() >= SPACES_MAX {
            self.0.clear();
        }
        self.0.insert(id, Space { key, asked: Instant::now() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> SiteId {
        SiteId::parse(name).unwrap()
    }

    fn after(refused: Result<Turn, FetchError>) -> Duration {
        match refused {
            Err(FetchError::Busy { after, .. }) => after,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("a turn"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_requests_run_at_once_than_allowed_and_another_site_does_not_wait() {
        let turns = Turns::new(2, 1_000);
        let (one, _two) = (turns.take(&site("a")).await.unwrap(), turns.take(&site("a")).await.unwrap());
        assert_eq!(after(turns.take(&site("a")).await), TURN_WAIT_MAX);
        let began = Instant::now();
        turns.take(&site("b")).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(one);
        turns.take(&site("a")).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_first_second_requests_keep_their_distance() {
        let (turns, began) = (Turns::new(100, 10), Instant::now());
        for sent in 0..30u32 {
            turns.take(&site("a")).await.unwrap();
            let due = Duration::from_millis(100) * sent.saturating_sub(9);
            let elapsed = began.elapsed();
            assert!(elapsed >= due && elapsed <= due + Duration::from_millis(2), "{sent}: {elapsed:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_too_long_is_told_when_to_come_again() {
        let turns = Arc::new(Turns::new(100, 1));
        turns.take(&site("a")).await.unwrap();
        // One waits for the next second, so the one after that is too far away.
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take(&site("a")).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert_eq!(after(turns.take(&site("a")).await), Duration::from_secs(2));
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_that_wants_to_be_left_alone_is_left_alone_by_everybody() {
        let turns = Turns::new(4, 100);
        assert_eq!(turns.leave_alone(&site("a"), Some(Duration::from_secs(7))), Duration::from_secs(7));
        // A shorter wish of an earlier answer does not shorten it.
        turns.leave_alone(&site("a"), Some(Duration::from_secs(1)));
        assert_eq!(after(turns.take(&site("a")).await), Duration::from_secs(7));
        turns.take(&site("b")).await.unwrap();
        sleep(Duration::from_secs(7)).await;
        turns.take(&site("a")).await.unwrap();
        assert_eq!(turns.leave_alone(&site("a"), Some(Duration::from_secs(1_000_000))), TOLD_PAUSE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_that_does_not_say_how_long_is_asked_ever_more_rarely() {
        let turns = Turns::new(4, 100);
        let waits: Vec<_> = (0..12).map(|_| turns.leave_alone(&site("a"), None)).collect();
        assert!(waits[0] <= PAUSE_MIN && waits[11] >= PAUSE_MAX / 2 && waits[11] <= PAUSE_MAX, "{waits:?}");
        turns.answered(&site("a"));
        assert!(turns.leave_alone(&site("a"), None) <= PAUSE_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_of_spaces_are_known_for_a_while() {
        let turns = Turns::new(1, 1);
        let mut spaces = turns.spaces(&site("a")).await;
        assert_eq!(spaces.get(1), None);
        spaces.keep(1, Some("DOC".into()));
        spaces.keep(2, None);
        drop(spaces);
        let spaces = turns.spaces(&site("a")).await;
        assert_eq!((spaces.get(1), spaces.get(2)), (Some(Some("DOC".into())), Some(None)));
        sleep(SPACE_AGE_MAX).await;
        assert_eq!(spaces.get(1), None);
    }
}
