//! What `apply` asks: TTL rules, and who may touch what.

use std::sync::Arc;
use std::time::Duration;

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
    loaded: Instant,
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
            && kept.loaded.elapsed() < RULES_AGE_MAX
            && Arc::ptr_eq(&kept.of, &of)
        {
            return Ok(Rulings { rules: kept.joined.clone(), grants });
        }
        let loaded = Instant::now();
        let joined = Arc::new(of.with_dynamic(self.book.load().await?));
        *kept = Some(Kept { loaded, of, joined: joined.clone() });
        Ok(Rulings { rules: joined, grants })
    }
}
