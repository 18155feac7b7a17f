//! Why a TTL is what it is: every rule that had a say, in the order of their rank, and what became of each.

use std::time::Duration;

use serde::Serialize;

use super::{Level, Origin, Rules, Scope, Ttl};
use crate::envelope::{Account, Flow};

/// The answer of `GET /v1/ttl/explain`. `ttl` is always what [`Rules::resolve`] gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    #[serde(flatten)]
    pub ttl: Ttl,
    pub winner: Winner,
    /// Which bound the winner ran into.
    pub clamped: Option<Clamp>,
    /// The bounds of every TTL but `never`, in seconds.
    pub min_seconds: u64,
    pub max_seconds: u64,
    /// Whether a set's own `ttlSeconds` is followed for this account and flow; elsewhere it is ignored.
    pub request_followed: bool,
    /// Every rule that there is for this account and flow, the first in rank first.
    pub candidates: Vec<Candidate>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Winner {
    pub origin: Origin,
    /// Absent for a request and for the default.
    #[serde(flatten)]
    pub scope: Option<Scope>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clamp {
    /// Raised to `ttl.min`.
    Min,
    /// Lowered to `ttl.max`.
    Max,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    pub origin: Origin,
    #[serde(flatten)]
    pub scope: Option<Scope>,
    /// What the rule says, before any clamp.
    #[serde(flatten)]
    pub ttl: Ttl,
    pub fate: Fate,
}

/// What became of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    Used,
    RaisedToMin,
    LoweredToMax,
    /// It says `never`, which `ttl.allow_never` doesn't allow it (any more); it won, and gives the maximum.
    NeverNotAllowedUsesMax,
    /// A request's own TTL, where `ttl.allow_request` doesn't allow one.
    RequestNotAllowed,
    /// A rule before it won.
    Outranked,
}

impl Rules {
    /// How [`Rules::resolve`] comes to its answer.
    pub fn explain(&self, account: &Account, flow: &Flow, requested: Option<Duration>) -> Explanation {
        let mut candidates = self.candidates(account, flow, requested);
        let standing = |candidate: &Candidate| candidate.fate == Fate::Outranked;
        let winner = candidates.iter_mut().find(|candidate| standing(candidate));
        let (ttl, clamped, winner) = match winner {
            Some(winner) => {
                let (ttl, clamped) = self.outcome(winner);
                winner.fate = fate(winner.ttl, ttl, clamped);
                (ttl, clamped, Winner { origin: winner.origin, scope: winner.scope.clone() })
            }
            // The default always stands; this arm only spares a panic.
            None => (self.default, None, Winner { origin: Origin::Default, scope: None }),
        };
        Explanation {
            ttl,
            winner,
            clamped,
            min_seconds: self.min.as_secs(),
            max_seconds: self.max.as_secs(),
            request_followed: self.follows_request(account, flow),
            candidates,
        }
    }

    fn candidates(&self, account: &Account, flow: &Flow, requested: Option<Duration>) -> Vec<Candidate> {
        let mut found = Vec::new();
        if let Some(time) = requested {
            let fate = if self.follows_request(account, flow) { Fate::Outranked } else { Fate::RequestNotAllowed };
            found.push(Candidate { origin: Origin::Request, scope: None, ttl: Ttl::For(time), fate });
        }
        for level in Level::ALL {
            for (origin, rules) in [(Origin::Dynamic, &self.dynamic_rules), (Origin::Static, &self.static_rules)] {
                if let Some(ttl) = level.find(rules, account, flow) {
                    let scope = Some(level.scope(account, flow));
                    found.push(Candidate { origin, scope, ttl, fate: Fate::Outranked });
                }
            }
        }
        found.push(Candidate { origin: Origin::Default, scope: None, ttl: self.default, fate: Fate::Outranked });
        found
    }

    fn outcome(&self, winner: &Candidate) -> (Ttl, Option<Clamp>) {
        let scope = winner.scope.as_ref();
        self.settle((scope.and_then(Scope::account), scope.and_then(Scope::flow)), winner.ttl)
    }
}

fn fate(said: Ttl, came_to: Ttl, clamped: Option<Clamp>) -> Fate {
    match clamped {
        Some(_) if said == Ttl::Never && came_to != Ttl::Never => Fate::NeverNotAllowedUsesMax,
        Some(Clamp::Min) => Fate::RaisedToMin,
        Some(Clamp::Max) => Fate::LoweredToMax,
        None => Fate::Used,
    }
}
