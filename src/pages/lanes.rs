//! Lanes: whose site is asked when, so that one that is slow or away never holds up the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::puts_off;
use crate::confluence::Credential;
use crate::envelope::SiteId;

/// Sites that are remembered; beyond it those go that nobody asks and that are not away.
const SITES_MAX: usize = 10_000;
/// Longest wait for a place in a lane: what finds it full then comes again.
const FULL_WAIT_MAX: Duration = Duration::from_secs(5 * 60);
/// What a read is thought to take until one has been seen.
const READ_TIME_AT_FIRST: Duration = Duration::from_millis(200);

pub struct Lanes {
    sites: Mutex<HashMap<SiteId, Lane>>,
    at_once: usize,
}

struct Lane {
    running: usize,
    /// When the next place comes free, after all that were promised.
    next: Instant,
    read_time: Duration,
    /// Usable answers so far.
    answers: u64,
    away: Option<Away>,
    /// A credential that it refused, and until when it is not tried again.
    refused: Option<(Credential, Instant)>,
}

#[derive(Clone, Copy)]
struct Away {
    since: Instant,
    until: Instant,
}

/// What a read has shown of its site.
pub enum Shown {
    /// It works.
    Answer,
    /// It can't answer; not before `after`.
    Away { after: Option<Duration> },
    /// It refuses this credential.
    Refused(Credential),
    /// Nothing: it was not asked, or its answer made no sense.
    Nothing,
}

/// A place in a lane, until it is dropped.
pub struct Place {
    lanes: Arc<Lanes>,
    site: SiteId,
    began: Instant,
}

impl Lanes {
    pub fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self { sites: Mutex::default(), at_once: at_once.max(1) })
    }

    fn sites(&self) -> MutexGuard<'_, HashMap<SiteId, Lane>> {
        self.sites.lock().expect("no code panics while it holds this lock")
    }

    fn with<T>(&self, site: &SiteId, work: impl FnOnce(&mut Lane) -> T) -> T {
        let mut sites = self.sites();
        if sites.len() >= SITES_MAX && !sites.contains_key(site) {
            sites.retain(|_, lane| lane.running > 0 || lane.away.is_some());
        }
        work(sites.entry(site.clone()).or_insert_with(Lane::new))
    }

    /// A place now, or how long to wait until there may be one.
    pub fn enter(self: &Arc<Self>, site: &SiteId) -> Result<Place, Duration> {
        let (now, at_once) = (Instant::now(), self.at_once);
        self.with(site, |lane| lane.enter(now, at_once))?;
        Ok(Place { lanes: self.clone(), site: site.clone(), began: now })
    }

    /// Usable answers of the site so far.
    pub fn answers(&self, site: &SiteId) -> u64 {
        self.with(site, |lane| lane.answers)
    }

    /// For how long this credential is not tried, as the site refused it.
    pub fn refuses(&self, site: &SiteId, credential: &Credential) -> Option<Duration> {
        self.with(site, |lane| {
            let (refused, until) = lane.refused.as_ref()?;
            until.checked_duration_since(Instant::now()).filter(|left| refused == credential && !left.is_zero())
        })
    }
}

impl Lane {
    fn new() -> Self {
        let now = Instant::now();
        Self { running: 0, next: now, read_time: READ_TIME_AT_FIRST, answers: 0, away: None, refused: None }
    }

    fn enter(&mut self, now: Instant, at_once: usize) -> Result<(), Duration> {
        match self.away {
            Some(away) if away.until > now => return Err(away.until - now),
            // One goes to see whether it is back.
            Some(_) if self.running > 0 => return Err(self.read_time.max(puts_off::away(Duration::ZERO, None))),
            _ => {}
        }
        if self.running >= at_once {
            let step = self.read_time / u32::try_from(at_once).unwrap_or(u32::MAX);
            self.next = (self.next.max(now) + step).min(now + FULL_WAIT_MAX);
            return Err(self.next - now);
        }
        self.running += 1;
        Ok(())
    }

    fn saw(&mut self, shown: Shown, took: Duration) {
        let now = Instant::now();
        match shown {
            Shown::Answer => {
                self.answers += 1;
                (self.away, self.refused) = (None, None);
                self.read_time = (self.read_time * 7 + took) / 8;
            }
            Shown::Away { after } => {
                let since = self.away.map_or(now, |away| away.since);
                self.away = Some(Away { since, until: now + puts_off::away(now - since, after) });
            }
            // Tried again after a while even if it stays the same: a site refuses by mistake, too.
            Shown::Refused(credential) => self.refused = Some((credential, now + FULL_WAIT_MAX)),
            Shown::Nothing => {}
        }
    }
}

impl Place {
    /// The read has ended.
    pub fn leave(self, shown: Shown) {
        let took = self.began.elapsed();
        self.lanes.with(&self.site, |lane| lane.saw(shown, took));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lanes.with(&self.site, |lane| lane.running -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> SiteId {
        SiteId::parse(name).unwrap()
    }

    fn wait(lanes: &Arc<Lanes>, name: &str) -> Duration {
        lanes.enter(&site(name)).err().expect("no place")
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_hands_out_later_turns_and_leaves_the_others_alone() {
        let lanes = Lanes::new(2);
        let places = [lanes.enter(&site("a")).unwrap(), lanes.enter(&site("a")).unwrap()];
        let waits: Vec<u128> = (0..3).map(|_| wait(&lanes, "a").as_millis()).collect();
        assert_eq!(waits, [100, 200, 300], "half a read each, as two run at once");
        assert!(lanes.enter(&site("b")).is_ok());
        drop(places);
        assert!(lanes.enter(&site("a")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_never_further_away_than_the_longest_wait() {
        let lanes = Lanes::new(1);
        let _place = lanes.enter(&site("a")).unwrap();
        let last = (0..100_000).fold(None, |_, _| Some(wait(&lanes, "a")));
        assert_eq!(last, Some(FULL_WAIT_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_that_is_away_is_asked_by_one_at_a_time_until_it_answers() {
        let lanes = Lanes::new(4);
        lanes.enter(&site("a")).unwrap().leave(Shown::Away { after: Some(Duration::from_secs(60)) });
        assert_eq!(wait(&lanes, "a"), Duration::from_secs(60));
        assert!(lanes.enter(&site("b")).is_ok());
        tokio::time::sleep(Duration::from_secs(61)).await;
        let probe = lanes.enter(&site("a")).unwrap();
        wait(&lanes, "a");
        probe.leave(Shown::Away { after: None });
        // A twentieth of the 61 seconds that it is away.
        assert_eq!(wait(&lanes, "a"), Duration::from_millis(3_050));
        tokio::time::sleep(Duration::from_secs(4)).await;
        lanes.enter(&site("a")).unwrap().leave(Shown::Answer);
        let both = (lanes.enter(&site("a")), lanes.enter(&site("a")));
        assert!(both.0.is_ok() && both.1.is_ok());
        assert_eq!((lanes.answers(&site("a")), lanes.answers(&site("b"))), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_credential_is_left_alone_and_a_new_one_is_tried_at_once() {
        let (lanes, old) = (Lanes::new(1), Credential::Bearer("old".into()));
        lanes.enter(&site("a")).unwrap().leave(Shown::Refused(old.clone()));
        assert!(lanes.refuses(&site("a"), &old).is_some());
        assert!(lanes.refuses(&site("a"), &Credential::Bearer("new".into())).is_none());
        tokio::time::sleep(FULL_WAIT_MAX).await;
        assert!(lanes.refuses(&site("a"), &old).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_shows_nothing_leaves_its_place_and_changes_nothing() {
        let lanes = Lanes::new(1);
        lanes.enter(&site("a")).unwrap().leave(Shown::Nothing);
        drop(lanes.enter(&site("a")).unwrap());
        assert!(lanes.enter(&site("a")).is_ok());
        assert_eq!(lanes.answers(&site("a")), 0);
    }
}
