//! How long an entry lives: rules, their resolution and its explanation. Pure.
//!
//! The narrowest rule wins: the request's own `ttlSeconds` (only where rules allow it), account + flow, account, flow
//! in any account, default. In one scope a dynamic rule (set while running) beats a static one (configuration file).
//! Then the minimum and the maximum clamp. `never` passes the clamp, and stands only where it is allowed: a rule that
//! says `never` and is no longer allowed to (its configuration has changed since) gives the maximum.
//!
//! | file | holds |
//! | --- | --- |
//! | `table` | rules by scope, looked up without an allocation |
//! | `explain` | which rule won, and what became of the others |
//! | `json` | the forms that the control plane and its client share |

pub mod explain;
pub mod json;
pub mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::envelope::limits::TTL_SECONDS_MAX;
use crate::envelope::{Account, Flow, NameError};

pub use explain::{Candidate, Clamp, Explanation, Fate, Winner};
pub use json::{ListedRule, Listing};
pub use table::RuleTable;

/// How long an entry lives after its event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// At least one second, in whole seconds.
    For(Duration),
    Never,
}

/// What a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    AccountFlow(Account, Flow),
    Account(Account),
    Flow(Flow),
}

/// Where a rule was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Request,
    Dynamic,
    Static,
    Default,
}

/// Where something is allowed: `account/flow`, and `*` (`None`) stands for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopePattern {
    pub account: Option<Account>,
    pub flow: Option<Flow>,
}

/// All rules, of which one resolves a pair of account and flow. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rules {
    pub default: Ttl,
    pub min: Duration,
    pub max: Duration,
    /// Where a request's own `ttlSeconds` is followed; elsewhere it is ignored.
    pub allow_request: Vec<ScopePattern>,
    /// Where a rule may say `never`.
    pub allow_never: Vec<ScopePattern>,
    pub static_rules: Arc<RuleTable>,
    pub dynamic_rules: Arc<RuleTable>,
}

/// Why a rule can't be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("a TTL must have 1 to {TTL_SECONDS_MAX} whole seconds")]
    OutOfRange,
    #[error("`never` is not allowed here: ttl.allow_never must have a pattern that covers the whole of it")]
    NeverNotAllowed,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("must be `account/flow`, with `*` for any")]
    Form,
    #[error("account and flow {0}, or be `*`")]
    Name(NameError),
}

impl Ttl {
    /// A TTL of that many seconds, where that is allowed at all.
    pub fn from_seconds(seconds: u64) -> Result<Self, RuleError> {
        match seconds {
            1..=TTL_SECONDS_MAX => Ok(Self::For(Duration::from_secs(seconds))),
            _ => Err(RuleError::OutOfRange),
        }
    }

    /// When what happened then expires, in milliseconds since the epoch; `None` is never.
    pub fn expires_at_ms(self, event_time_ms: u64) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::For(time) => Some(event_time_ms.saturating_add(time.as_secs().saturating_mul(1_000))),
        }
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(time) => write!(f, "{}s", time.as_secs()),
            Self::Never => f.write_str("never"),
        }
    }
}

impl Scope {
    pub fn account(&self) -> Option<&Account> {
        match self {
            Self::AccountFlow(account, _) | Self::Account(account) => Some(account),
            Self::Flow(_) => None,
        }
    }

    pub fn flow(&self) -> Option<&Flow> {
        match self {
            Self::AccountFlow(_, flow) | Self::Flow(flow) => Some(flow),
            Self::Account(_) => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccountFlow(account, flow) => write!(f, "account {account}, flow {flow}"),
            Self::Account(account) => write!(f, "account {account}"),
            Self::Flow(flow) => write!(f, "flow {flow}"),
        }
    }
}

impl ScopePattern {
    pub const ANY: Self = Self { account: None, flow: None };

    /// Reads `account/flow`. Neither can hold a `/` or be `*` itself, so there is one way to read it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (account, flow) = text.split_once('/').ok_or(PatternError::Form)?;
        let account = match account {
            "*" => None,
            name => Some(Account::parse(name).map_err(PatternError::Name)?),
        };
        let flow = match flow {
            "*" => None,
            name => Some(Flow::parse(name).map_err(PatternError::Name)?),
        };
        Ok(Self { account, flow })
    }

    /// Does it cover all that has this account and this flow, where `None` means any?
    fn covers(&self, account: Option<&Account>, flow: Option<&Flow>) -> bool {
        (self.account.is_none() || self.account.as_ref() == account)
            && (self.flow.is_none() || self.flow.as_ref() == flow)
    }
}

impl Rules {
    /// The TTL of what this account and flow store. Allocates nothing; [`Rules::explain`] tells how it came about.
    pub fn resolve(&self, account: &Account, flow: &Flow, requested: Option<Duration>) -> Ttl {
        if let Some(time) = requested
            && self.follows_request(account, flow)
        {
            return self.clamp(time).0;
        }
        self.resolve_by_rules(account, flow).1
    }

    /// The same without a request, for what a rule of this scope has a say in: `None` where a narrower rule decides, or
    /// where the scope does not cover this account and flow.
    pub fn resolve_within(&self, scope: &Scope, account: &Account, flow: &Flow) -> Option<Ttl> {
        let covers = scope.account().is_none_or(|of| of == account) && scope.flow().is_none_or(|of| of == flow);
        let (level, ttl) = self.resolve_by_rules(account, flow);
        let is_narrower = level.is_some_and(|level| level < Level::of(scope));
        (covers && !is_narrower).then_some(ttl)
    }

    /// The level of the rule that wins, `None` for the default, and what it comes to.
    fn resolve_by_rules(&self, account: &Account, flow: &Flow) -> (Option<Level>, Ttl) {
        for level in Level::ALL {
            for rules in [&self.dynamic_rules, &self.static_rules] {
                if let Some(ttl) = level.find(rules, account, flow) {
                    return (Some(level), self.settle(level.names(account, flow), ttl).0);
                }
            }
        }
        (None, self.settle((None, None), self.default).0)
    }

    /// May a rule of this scope say this?
    pub fn check(&self, scope: &Scope, ttl: Ttl) -> Result<(), RuleError> {
        self.check_named(scope.account(), scope.flow(), ttl)
    }

    /// May the default be what it is? It covers everything, so `never` needs the pattern `*/*`.
    pub fn check_default(&self) -> Result<(), RuleError> {
        self.check_named(None, None, self.default)
    }

    fn check_named(&self, account: Option<&Account>, flow: Option<&Flow>, ttl: Ttl) -> Result<(), RuleError> {
        match ttl {
            Ttl::Never if self.allows_never(account, flow) => Ok(()),
            Ttl::Never => Err(RuleError::NeverNotAllowed),
            Ttl::For(time) if time.subsec_nanos() != 0 => Err(RuleError::OutOfRange),
            Ttl::For(time) => Ttl::from_seconds(time.as_secs()).map(|_| ()),
        }
    }

    /// The same rules with other dynamic ones. What a dynamic rule may say is checked when it is set; one that has
    /// become illegal since is read as [`Rules::explain`] says, and never dropped.
    pub fn with_dynamic(&self, rules: Vec<(Scope, Ttl)>) -> Self {
        Self { dynamic_rules: Arc::new(rules.into_iter().collect()), ..self.clone() }
    }

    fn follows_request(&self, account: &Account, flow: &Flow) -> bool {
        self.allow_request.iter().any(|pattern| pattern.covers(Some(account), Some(flow)))
    }

    fn allows_never(&self, account: Option<&Account>, flow: Option<&Flow>) -> bool {
        self.allow_never.iter().any(|pattern| pattern.covers(account, flow))
    }

    /// What the rule of these names comes to in the end.
    fn settle(&self, (account, flow): (Option<&Account>, Option<&Flow>), ttl: Ttl) -> (Ttl, Option<Clamp>) {
        match ttl {
            Ttl::For(time) => self.clamp(time),
            Ttl::Never if self.allows_never(account, flow) => (Ttl::Never, None),
            Ttl::Never => (Ttl::For(self.max), Some(Clamp::Max)),
        }
    }

    fn clamp(&self, time: Duration) -> (Ttl, Option<Clamp>) {
        // The maximum has the last word, though the configuration refuses a minimum above it.
        match time {
            _ if time > self.max => (Ttl::For(self.max), Some(Clamp::Max)),
            _ if time < self.min => (Ttl::For(self.min), Some(Clamp::Min)),
            _ => (Ttl::For(time), None),
        }
    }
}

/// The scopes that one pair of account and flow has, narrowest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    AccountFlow,
    Account,
    Flow,
}

impl Level {
    const ALL: [Self; 3] = [Self::AccountFlow, Self::Account, Self::Flow];

    fn of(scope: &Scope) -> Self {
        match scope {
            Scope::AccountFlow(..) => Self::AccountFlow,
            Scope::Account(_) => Self::Account,
            Scope::Flow(_) => Self::Flow,
        }
    }

    fn find(self, rules: &RuleTable, account: &Account, flow: &Flow) -> Option<Ttl> {
        match self {
            Self::AccountFlow => rules.account_flow(account, flow),
            Self::Account => rules.account(account),
            Self::Flow => rules.flow(flow),
        }
    }

    fn names<'a>(self, account: &'a Account, flow: &'a Flow) -> (Option<&'a Account>, Option<&'a Flow>) {
        match self {
            Self::AccountFlow => (Some(account), Some(flow)),
            Self::Account => (Some(account), None),
            Self::Flow => (None, Some(flow)),
        }
    }

    fn scope(self, account: &Account, flow: &Flow) -> Scope {
        match self {
            Self::AccountFlow => Scope::AccountFlow(account.clone(), flow.clone()),
            Self::Account => Scope::Account(account.clone()),
            Self::Flow => Scope::Flow(flow.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
