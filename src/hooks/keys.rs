//! Atlassian's public keys: fetched when a token names one, and kept for a while.
//!
//! Whoever can reach us can make up names of keys, so what that costs is bounded. The set of Forge's keys is fetched by one
//! call at a time, at most once in [`SET_FRESH`] for a name that it does not hold. Keys of installs are fetched one by one,
//! [`INSTALL_FETCHES_MAX`] at once; their names become part of a URL, and so have a narrow alphabet.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::jwt::{PublicKey, jwk_set};
use crate::outbound::{Limits, Outbound};
use crate::problem::{Code, Problem};
use crate::telemetry::Metrics;

/// What a key server's answer may take: Forge waits 5 seconds for ours.
const FETCH: Limits = Limits { time: Duration::from_secs(3), body_bytes_max: 64 << 10 };
/// For how long a fetched key is taken without asking again.
const KEY_LIFE: Duration = Duration::from_secs(3_600);
/// For how long it is taken while the key server does not answer.
const KEY_LIFE_UNANSWERED: Duration = Duration::from_secs(24 * 3_600);
/// For how long a fetched set is taken to be all the keys there are.
const SET_FRESH: Duration = Duration::from_secs(10);
/// How long nobody asks again after a set could not be fetched.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);
/// Keys of installs that are fetched at once, and that are kept.
const INSTALL_FETCHES_MAX: usize = 4;
const INSTALL_KEYS_MAX: usize = 64;
/// Longest name of a key of installs, in bytes: they are UUIDs.
const INSTALL_KEY_ID_BYTES_MAX: usize = 64;

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoKey {
    /// There is none of that name: the token proves nothing.
    Unknown,
    /// Nobody can tell now; a retry helps.
    Unavailable,
}

impl NoKey {
    /// `setting` is where the keys are looked for.
    pub fn problem(self, setting: &str) -> Problem {
        match self {
            Self::Unknown => {
                let detail = format!("the token is signed with a key that `{setting}` does not know");
                Problem::new(Code::HookUnverified, detail)
            }
            Self::Unavailable => {
                let detail = format!("the keys that tokens are checked with can't be fetched now from `{setting}`");
                Problem::new(Code::KeysUnavailable, detail)
            }
        }
    }
}

pub struct Keys {
    outbound: Outbound,
    metrics: Metrics,
    installs_url: String,
    installs: Mutex<HashMap<String, Kept>>,
    install_fetches: Semaphore,
    set_url: String,
    set: Mutex<Set>,
    /// Held by the one who fetches the set.
    set_fetch: tokio::sync::Mutex<()>,
}

struct Kept {
    key: PublicKey,
    at: Instant,
}

#[derive(Default)]
struct Set {
    keys: HashMap<String, PublicKey>,
    fetched: Option<Instant>,
    failed: Option<Instant>,
}

impl Set {
    /// `None` where the key server must be asked.
    fn find(&self, name: &str, now: Instant) -> Option<Result<PublicKey, NoKey>> {
        let age = now - self.fetched?;
        match self.keys.get(name) {
            Some(key) if age < KEY_LIFE => Some(Ok(key.clone())),
            None if age < SET_FRESH => Some(Err(NoKey::Unknown)),
            _ => None,
        }
    }

    /// While the key server does not answer.
    fn find_unanswered(&self, name: &str, now: Instant) -> Result<PublicKey, NoKey> {
        let known = self.keys.get(name).zip(self.fetched);
        let known = known.filter(|(_, fetched)| now - *fetched < KEY_LIFE_UNANSWERED);
        known.map(|(key, _)| key.clone()).ok_or(NoKey::Unavailable)
    }
}

impl Keys {
    pub fn new(outbound: Outbound, installs_url: String, set_url: String, metrics: Metrics) -> Self {
        Self {
            outbound,
            metrics,
            installs_url,
            installs: Mutex::default(),
            install_fetches: Semaphore::new(INSTALL_FETCHES_MAX),
            set_url,
            set: Mutex::default(),
            set_fetch: tokio::sync::Mutex::default(),
        }
    }

    /// A key of Forge's set.
    pub async fn of_forge(&self, name: &str) -> Result<PublicKey, NoKey> {
        if let Some(found) = self.set().find(name, Instant::now()) {
            return found;
        }
        let _one_at_a_time = self.set_fetch.lock().await;
        {
            // Who waited finds what the one before it has fetched.
            let (set, now) = (self.set(), Instant::now());
            if let Some(found) = set.find(name, now) {
                return found;
            }
            if set.failed.is_some_and(|failed| now - failed < FAILURE_PAUSE) {
                return set.find_unanswered(name, now);
            }
        }
        let fetched = self.fetch(&self.set_url).await;
        let fetched = fetched.and_then(|body| jwk_set(&body).map_err(|error| self.failed(&error)));
        let (mut set, now) = (self.set(), Instant::now());
        match fetched {
            Ok(keys) => *set = Set { keys: keys.into_iter().collect(), fetched: Some(now), failed: None },
            Err(_) => {
                set.failed = Some(now);
                return set.find_unanswered(name, now);
            }
        }
        set.keys.get(name).cloned().ok_or(NoKey::Unknown)
    }

    /// A key of Connect's key server.
    pub async fn of_installs(&self, name: &str) -> Result<PublicKey, NoKey> {
        if !is_install_key_id(name) {
            return Err(NoKey::Unknown);
        }
        let kept = |life: Duration| {
            let installs = self.installs.lock().expect("no holder panics");
            installs.get(name).filter(|kept| kept.at.elapsed() < life).map(|kept| kept.key.clone())
        };
        if let Some(key) = kept(KEY_LIFE) {
            return Ok(key);
        }
        let _permit = self.install_fetches.try_acquire().map_err(|_| NoKey::Unavailable)?;
        let fetched = self.fetch(&format!("{}/{name}", self.installs_url)).await;
        let fetched = fetched.and_then(|body| PublicKey::from_pem(&body).map_err(|error| self.failed(&error)));
        match fetched {
            Ok(key) => {
                self.keep(name, &key);
                Ok(key)
            }
            Err(NoKey::Unavailable) => kept(KEY_LIFE_UNANSWERED).ok_or(NoKey::Unavailable),
            Err(NoKey::Unknown) => Err(NoKey::Unknown),
        }
    }

    fn keep(&self, name: &str, key: &PublicKey) {
        let mut installs = self.installs.lock().expect("no holder panics");
        if installs.len() >= INSTALL_KEYS_MAX
            && let Some(oldest) = installs.iter().min_by_key(|(_, kept)| kept.at).map(|(name, _)| name.clone())
        {
            installs.remove(&oldest);
        }
        installs.insert(name.to_owned(), Kept { key: key.clone(), at: Instant::now() });
    }

    async fn fetch(&self, url: &str) -> Result<bytes::Bytes, NoKey> {
        let reply = self.outbound.get(url, &[], FETCH).await.map_err(|error| self.failed(&error))?;
        match reply.status {
            200 => {
                self.metrics.hook_keys_fetched(true);
                Ok(reply.body)
            }
            // A store of files says so of one that is not there.
            400 | 403 | 404 | 410 => Err(NoKey::Unknown),
            status => Err(self.failed(&format!("it answered {status}"))),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> NoKey {
        self.metrics.hook_keys_fetched(false);
        tracing::warn!(%error, "a key server gave no keys");
        NoKey::Unavailable
    }

    fn set(&self) -> std::sync::MutexGuard<'_, Set> {
        self.set.lock().expect("no holder panics")
    }
}

/// It becomes part of a URL.
fn is_install_key_id(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=INSTALL_KEY_ID_BYTES_MAX).contains(&name.len()) && name.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_lead_elsewhere_is_no_key() {
        assert!(is_install_key_id("0e50fccb-239d-4991-a5db-dc850ba3f236"));
        for bad in ["", "a/b", "..", "../x", "a%2fb", "a.b", "a?b", "a#b", "a b", "ä", &"a".repeat(65)] {
            assert!(!is_install_key_id(bad), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_is_asked_again_for_a_name_that_it_lacks_once_it_is_not_fresh_any_more() {
        let key = PublicKey::from_pem(b"-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n").unwrap();
        let keys = HashMap::from([("known".to_owned(), key)]);
        let set = Set { keys, fetched: Some(Instant::now()), failed: None };
        let told = |name: &str| set.find(name, Instant::now()).map(|found| found.map(drop));
        assert_eq!((told("known"), told("other")), (Some(Ok(())), Some(Err(NoKey::Unknown))));
        tokio::time::advance(SET_FRESH).await;
        assert_eq!((told("known"), told("other")), (Some(Ok(())), None));
        tokio::time::advance(KEY_LIFE).await;
        assert_eq!(told("known"), None);
        let unanswered = |name: &str| set.find_unanswered(name, Instant::now()).map(drop);
        assert_eq!((unanswered("known"), unanswered("other")), (Ok(()), Err(NoKey::Unavailable)));
        tokio::time::advance(KEY_LIFE_UNANSWERED).await;
        assert_eq!(unanswered("known"), Err(NoKey::Unavailable));
    }
}
