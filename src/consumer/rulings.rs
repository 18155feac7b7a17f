//! What `apply` asks: TTL rules, and who may touch what.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::envelope::Grants;
use crate::store::{RuleBook, Unavailable};
use crate::ttl::Rules;

/// Dynamic rules are at most this old when a batch starts. A change must be effective within 5 seconds; this leaves
/// three for the batch itself.
const RULES_AGE_MAX: Duration = Duration::from_secs(2);

/// What one batch is judged by.
#[derive(Debug, Clone)]
pub struct Rulings {
    pub rules: Arc<Rules>,
    pub grants: Arc<Grants>,
}

/// What the configuration says now: the static rules and the grants.
#[derive(Clone)]
pub struct Policy(Arc<dyn Fn() -> Rulings + Send + Sync>);

impl Policy {
    pub fn from_fn(now: impl Fn() -> Rulings + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    fn now(&self) -> Rulings {
        (self.0)()
    }
}

/// The rules of the configuration and those of the store, joined and kept for a short time. Nothing is loaded while
/// nobody asks, so an idle process costs nothing.
pub struct RuleSource {
    policy: Policy,
    book: RuleBook,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    /// By both clocks: a machine that is frozen (AWS Lambda) may stop the one, and a person may set back the other.
    loaded: (Instant, SystemTime),
    /// The static rules that `joined` was made of: a reload of the configuration shows at once.
    of: Arc<Rules>,
    joined: Arc<Rules>,
}

impl RuleSource {
    pub fn new(policy: Policy, book: RuleBook) -> Self {
        Self { policy, book, kept: Mutex::new(None) }
    }

    pub async fn rulings(&self) -> Result<Rulings, Unavailable> {
        let Rulings { rules: of, grants } = self.policy.now();
        // Held while it loads: others that need the rules would load the very same.
        let mut kept = self.kept.lock().await;
        if let Some(kept) = &*kept
            && is_young(kept.loaded)
            && Arc::ptr_eq(&kept.of, &of)
        {
            return Ok(Rulings { rules: kept.joined.clone(), grants });
        }
        let loaded = (Instant::now(), SystemTime::now());
        let joined = Arc::new(of.with_dynamic(self.book.load().await?));
        *kept = Some(Kept { loaded, of, joined: joined.clone() });
        Ok(Rulings { rules: joined, grants })
    }
}

fn is_young((monotonic, wall): (Instant, SystemTime)) -> bool {
    monotonic.elapsed() < RULES_AGE_MAX && wall.elapsed().is_ok_and(|age| age < RULES_AGE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rules_grow_old_by_either_clock_and_a_clock_that_was_set_back_makes_none_young() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        assert!(is_young((now, wall)));
        assert!(!is_young((now, wall - RULES_AGE_MAX)), "frozen together with the monotonic clock");
        assert!(!is_young((now, wall + Duration::from_secs(3_600))), "set back since");
        tokio::time::advance(RULES_AGE_MAX).await;
        assert!(!is_young((now, wall)));
    }
}
