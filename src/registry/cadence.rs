//! When the next reindex of a site is due. Pure: whoever asks for runs and whoever tells of them judge alike.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Run, Site};
use crate::envelope::SiteId;
use crate::source::confluence::ReindexScope;

/// The next run begins this long after the end of the last one at the earliest, whatever is due; a shorter interval
/// shortens it. What has failed is tried again then.
const REST: Duration = Duration::from_secs(15 * 60);
/// Runs are spread over this part of their interval, so that not all sites are read at once.
const SPREAD: u32 = 10;

/// How often a site is reindexed by itself; `None`: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    pub every: Option<Duration>,
    pub full_every: Option<Duration>,
}

/// A run that is due at a moment, milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub at_ms: u64,
    pub scope: ReindexScope,
}

impl Cadence {
    /// `last` is the newest run of the site, `last_full_ms` the start of its last full one that ended well. `None` where a
    /// run is open, and where runs are only asked for by others.
    pub fn next(&self, site: &Site, last: Option<&Run>, last_full_ms: Option<u64>) -> Option<Due> {
        let interval = self.every.into_iter().chain(self.full_every).min()?;
        let Some(last) = last else { return Some(Due { at_ms: site.added_ms, scope: ReindexScope::Full }) };
        let ended = last.ended.as_ref()?;
        let rested_ms = ended.at_ms.saturating_add(ms(REST.min(interval)));
        let later = |from_ms: u64, interval: Duration| {
            from_ms.saturating_add(ms(interval)).saturating_add(spread_ms(&site.id, interval))
        };
        let full_ms = match (last_full_ms, self.full_every) {
            // A site that was never read as a whole is, whatever the intervals.
            (None, _) => Some(0),
            (Some(last_full_ms), Some(every)) => Some(later(last_full_ms, every)),
            (Some(_), None) => None,
        };
        let next_ms = match (&ended.error, self.every) {
            (Some(_), _) => Some(rested_ms),
            (None, Some(every)) => Some(later(last.asked_ms, every)),
            (None, None) => None,
        };
        let at_ms = next_ms.into_iter().chain(full_ms).min()?.max(rested_ms);
        let scope = match full_ms {
            Some(full_ms) if full_ms <= at_ms => ReindexScope::Full,
            _ => ReindexScope::SinceLast,
        };
        Some(Due { at_ms, scope })
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The same for a site in every process and at every start.
fn spread_ms(site: &SiteId, interval: Duration) -> u64 {
    let hash = Sha256::digest(site.as_str().as_bytes());
    let part = u64::from(u16::from_be_bytes([hash[0], hash[1]]));
    ms(interval / SPREAD).saturating_mul(part) / u64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confluence::Product;
    use crate::envelope::Account;
    use crate::registry::{Ended, JoinedBy, Phase, SiteState};

    const HOUR_MS: u64 = 3_600_000;
    const WEEK_MS: u64 = 7 * 24 * HOUR_MS;
    const CADENCE: Cadence =
        Cadence { every: Some(Duration::from_secs(3_600)), full_every: Some(Duration::from_secs(7 * 86_400)) };
    /// When the last run was asked for.
    const ASKED_MS: u64 = 1_000 * HOUR_MS;

    fn site() -> Site {
        Site {
            id: SiteId::parse("acme").unwrap(),
            account: Account::parse("acme").unwrap(),
            product: Product::Cloud,
            base_url: "https://acme.atlassian.net/wiki".to_owned(),
            api_base: "https://acme.atlassian.net/wiki".to_owned(),
            display_url: None,
            aliases: Vec::new(),
            joined_by: JoinedBy::Operator,
            state: SiteState::Active,
            added_ms: 5,
            last_event_ms: None,
        }
    }

    fn run(ended: Option<Ended>) -> Run {
        Run {
            site: site().id,
            number: 7,
            scope: ReindexScope::SinceLast,
            asked_ms: ASKED_MS,
            began_ms: Some(ASKED_MS),
            watermark_ms: None,
            phase: Phase::Listing,
            cursor: None,
            pages_seen: 0,
            pages_changed: 0,
            pages_swept: 0,
            waiting: None,
            ended,
        }
    }

    fn ended(error: Option<&str>) -> Run {
        run(Some(Ended { at_ms: ASKED_MS + 60_000, error: error.map(str::to_owned) }))
    }

    /// The interval, and at most a tenth of it more.
    fn is_about(at_ms: u64, from_ms: u64, interval_ms: u64) -> bool {
        (from_ms + interval_ms..=from_ms + interval_ms + interval_ms / 10).contains(&at_ms)
    }

    #[test]
    fn a_new_site_is_read_as_a_whole_at_once() {
        let due = CADENCE.next(&site(), None, None);
        assert_eq!(due, Some(Due { at_ms: 5, scope: ReindexScope::Full }));
    }

    #[test]
    fn nothing_is_due_while_a_run_is_open() {
        assert_eq!(CADENCE.next(&site(), Some(&run(None)), None), None);
    }

    #[test]
    fn an_incremental_run_comes_every_hour_and_a_full_one_every_week() {
        let due = CADENCE.next(&site(), Some(&ended(None)), Some(ASKED_MS - 24 * HOUR_MS)).unwrap();
        assert!(due.scope == ReindexScope::SinceLast && is_about(due.at_ms, ASKED_MS, HOUR_MS), "{due:?}");
        let due = CADENCE.next(&site(), Some(&ended(None)), Some(ASKED_MS - 2 * WEEK_MS)).unwrap();
        assert_eq!(due, Due { at_ms: ASKED_MS + 60_000 + 900_000, scope: ReindexScope::Full });
        let due = CADENCE.next(&site(), Some(&ended(None)), None).unwrap();
        assert_eq!(due.scope, ReindexScope::Full);
    }

    #[test]
    fn what_failed_is_tried_again_after_a_rest_with_its_own_scope() {
        let rested_ms = ASKED_MS + 60_000 + 900_000;
        let due = CADENCE.next(&site(), Some(&ended(Some("down"))), Some(ASKED_MS - HOUR_MS));
        assert_eq!(due, Some(Due { at_ms: rested_ms, scope: ReindexScope::SinceLast }));
        let due = CADENCE.next(&site(), Some(&ended(Some("down"))), None);
        assert_eq!(due, Some(Due { at_ms: rested_ms, scope: ReindexScope::Full }));
    }

    #[test]
    fn an_interval_that_is_never_asks_for_nothing() {
        let never = Cadence { every: None, full_every: None };
        assert_eq!(never.next(&site(), None, None), None);
        let weekly = Cadence { every: None, ..CADENCE };
        let due = weekly.next(&site(), Some(&ended(None)), Some(ASKED_MS)).unwrap();
        assert!(due.scope == ReindexScope::Full && is_about(due.at_ms, ASKED_MS, WEEK_MS), "{due:?}");
        let hourly = Cadence { full_every: None, ..CADENCE };
        let due = hourly.next(&site(), Some(&ended(None)), Some(1)).unwrap();
        assert!(due.scope == ReindexScope::SinceLast && is_about(due.at_ms, ASKED_MS, HOUR_MS), "{due:?}");
    }
}
