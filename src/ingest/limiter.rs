//! How many sets and deletes an account may send: a token bucket for each account, in the memory of this process.
//!
//! A full bucket is the same as none. So only those are kept that are not full: an account that has been quiet for a
//! while is forgotten, and made-up names make no bucket last longer than the time that one token takes. What a bucket
//! needs to remember is one moment, when it will be full again (the generic cell rate algorithm). This table and its
//! bound are the point, and what the crate for it (`governor`) leaves to its user.
//!
//! Limits: [`BUCKETS_MAX`] buckets at once. Beyond it those that are there stay, and an account that has none waits
//! until one is full: nobody gets free of a limit by sending under many names.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::envelope::Account;

/// Buckets that are not full, at once: some 20 MB with the longest names. It takes more than this many sets per second
/// to get there, as each makes one bucket for at most a second.
const BUCKETS_MAX: usize = 65_536;

/// What each account may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetRate {
    pub per_second: NonZeroU32,
    /// How many at once, after a while of sending none.
    pub burst: NonZeroU32,
}

/// Why a set must wait, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until the account has a token again.
    ForToken(Duration),
    /// Until there is room for another bucket.
    ForRoom(Duration),
}

pub struct Limiter {
    /// Time that one token takes.
    token: Duration,
    /// Time that an empty bucket takes to be full.
    bucket: Duration,
    buckets_max: usize,
    buckets: Mutex<Buckets>,
}

/// The buckets that are not full.
#[derive(Default)]
struct Buckets {
    full_at: HashMap<Account, Instant>,
    by_time: BTreeSet<(Instant, Account)>,
}

impl Limiter {
    pub fn new(rate: SetRate) -> Self {
        let token = Duration::from_secs(1) / rate.per_second.get();
        let bucket = token * rate.burst.get();
        Self { token, bucket, buckets_max: BUCKETS_MAX, buckets: Mutex::default() }
    }

    /// Takes a token out of the account's bucket, or nothing where it has none.
    pub fn take(&self, account: &Account, now: Instant) -> Result<(), Wait> {
        let mut buckets = self.buckets.lock().expect("no code panics while it holds this lock");
        buckets.forget_full(now);
        let full_at = buckets.full_at.get(account).copied();
        if full_at.is_none()
            && buckets.full_at.len() >= self.buckets_max
            && let Some((first, _)) = buckets.by_time.first()
        {
            return Err(Wait::ForRoom(first.duration_since(now)));
        }
        let then_full_at = full_at.unwrap_or(now) + self.token;
        let missing = then_full_at.duration_since(now);
        if missing > self.bucket {
            return Err(Wait::ForToken(missing - self.bucket));
        }
        buckets.put(account, full_at, then_full_at);
        Ok(())
    }
}

impl Buckets {
    fn forget_full(&mut self, now: Instant) {
        while self.by_time.first().is_some_and(|(full_at, _)| *full_at <= now)
            && let Some((_, account)) = self.by_time.pop_first()
        {
            self.full_at.remove(&account);
        }
    }

    fn put(&mut self, account: &Account, before: Option<Instant>, full_at: Instant) {
        if let Some(before) = before {
            self.by_time.remove(&(before, account.clone()));
        }
        self.by_time.insert((full_at, account.clone()));
        self.full_at.insert(account.clone(), full_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(per_second: u32, burst: u32) -> Limiter {
        let [per_second, burst] = [per_second, burst].map(|n| NonZeroU32::new(n).unwrap());
        Limiter::new(SetRate { per_second, burst })
    }

    fn account(name: &str) -> Account {
        Account::parse(name).unwrap()
    }

    fn accepted(limiter: &Limiter, name: &str, now: Instant, tries: usize) -> usize {
        (0..tries).filter(|_| limiter.take(&account(name), now).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        for (per_second, burst) in [(1, 1), (3, 3), (10, 500), (1_000_000, 7)] {
            let (limiter, start) = (limiter(per_second, burst), Instant::now());
            assert_eq!(accepted(&limiter, "a", start, 2_000), burst as usize);
            for second in 1..5 {
                let now = start + Duration::from_secs(second);
                assert_eq!(accepted(&limiter, "a", now, 2_000), burst.min(per_second) as usize, "second {second}");
            }
            let rested = start + Duration::from_secs(3_600);
            assert_eq!(accepted(&limiter, "a", rested, 2_000), burst as usize, "a rest fills it, and no more");
        }
    }

    #[test]
    fn after_the_wait_there_is_a_token_and_before_it_there_is_none() {
        let (limiter, start) = (limiter(7, 2), Instant::now());
        assert_eq!(accepted(&limiter, "a", start, 9), 2);
        let later = start + Duration::from_millis(40);
        let Err(Wait::ForToken(wait)) = limiter.take(&account("a"), later) else { panic!("it must wait") };
        let early = later + wait - Duration::from_nanos(1);
        assert_eq!(limiter.take(&account("a"), early), Err(Wait::ForToken(Duration::from_nanos(1))));
        assert_eq!(limiter.take(&account("a"), later + wait), Ok(()));
    }

    #[test]
    fn each_account_has_a_bucket_of_its_own_and_full_ones_are_forgotten() {
        let (limiter, start) = (limiter(1, 2), Instant::now());
        for name in ["a", "b", "c"] {
            assert_eq!(accepted(&limiter, name, start, 9), 2);
        }
        // Now only `d` has a bucket that is not full.
        let rested = start + Duration::from_secs(2);
        assert_eq!(accepted(&limiter, "d", rested, 1), 1);
        let buckets = limiter.buckets.lock().unwrap();
        assert_eq!((buckets.full_at.len(), buckets.by_time.len()), (1, 1));
    }

    #[test]
    fn a_request_that_looked_at_the_clock_before_another_is_counted_after_it() {
        let (limiter, earlier) = (limiter(1, 1), Instant::now());
        let later = earlier + Duration::from_millis(5);
        assert_eq!(limiter.take(&account("a"), later), Ok(()));
        assert_eq!(limiter.take(&account("a"), earlier), Err(Wait::ForToken(Duration::from_millis(1_005))));
    }

    #[test]
    fn a_flood_of_names_grows_nothing_and_frees_nobody() {
        let limiter = Limiter { buckets_max: 100, ..limiter(1, 2) };
        let start = Instant::now();
        assert_eq!(accepted(&limiter, "busy", start, 9), 2);
        let made_up = (0..10_000).map(|n| limiter.take(&account(&format!("x{n}")), start));
        let (passed, refused): (Vec<_>, Vec<_>) = made_up.partition(Result::is_ok);
        assert_eq!((passed.len(), refused.len()), (99, 9_901));
        assert!(refused.iter().all(|wait| *wait == Err(Wait::ForRoom(Duration::from_secs(1)))));
        assert_eq!(accepted(&limiter, "busy", start, 9), 0, "it is still counted");
        assert_eq!(limiter.buckets.lock().unwrap().full_at.len(), 100);
        let later = start + Duration::from_secs(1);
        assert_eq!(accepted(&limiter, "newcomer", later, 1), 1, "after the wait there is room");
        assert_eq!(accepted(&limiter, "busy", later, 9), 1, "and the busy one is counted as before");
    }
}
