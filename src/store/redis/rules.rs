//! The TTL rules that operators set while it runs: one hash, at most [`RULES_MAX`] fields.
//!
//! A field names its scope: `a/<account>`, `f/<flow>` or `af/<account>/<flow>`; no name has a slash. Its value is a
//! number of seconds, or `never`.

use std::time::Duration;

use deadpool_redis::redis::{self, FromRedisValue, Pipeline, Value, pipe};

use super::RULES_KEY;
use super::fault::{Fault, Reach};
use super::leases::{Lease, Leases};
use crate::envelope::{Account, Flow};
use crate::store::Unavailable;
use crate::ttl::{Scope, Ttl};

/// Dynamic rules that may be set. Every process loads all of them, every few seconds.
const RULES_MAX: usize = 10_000;

/// Sets one rule unless that makes one too many. KEYS: the hash; ARGV: field, value, limit.
const SET_RULE: &str = "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 \
    and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end \
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return 1";

const NEVER: &str = "never";

#[derive(Clone)]
pub struct RuleBook {
    leases: Leases,
}

impl RuleBook {
    pub(super) fn new(leases: Leases) -> Self {
        Self { leases }
    }

    pub async fn load(&self) -> Result<Vec<(Scope, Ttl)>, Unavailable> {
        let mut load = pipe();
        load.cmd("HGETALL").arg(RULES_KEY);
        let mut lease = self.leases.lease().await?;
        let fields: Vec<(String, String)> = run_one(&mut lease, load).await?;
        let mut rules = Vec::with_capacity(fields.len());
        for (field, value) in fields {
            match parse(&field, &value) {
                Some(rule) => rules.push(rule),
                None => tracing::warn!(key = RULES_KEY, field, "not a TTL rule; it is ignored"),
            }
        }
        Ok(rules)
    }

    pub async fn set(&self, scope: &Scope, ttl: Ttl) -> Result<(), Unavailable> {
        let mut set = pipe();
        set.cmd("EVAL").arg(SET_RULE).arg(1).arg(RULES_KEY).arg(field(scope)).arg(value(ttl)).arg(RULES_MAX);
        let mut lease = self.leases.lease().await?;
        let was_set: bool = run_one(&mut lease, set).await?;
        if !was_set {
            return Err(Unavailable(format!("there are {RULES_MAX} TTL rules, the most there may be: unset some")));
        }
        Ok(self.leases.acknowledged(&mut lease).await?)
    }

    pub async fn unset(&self, scope: &Scope) -> Result<bool, Unavailable> {
        let mut unset = pipe();
        unset.cmd("HDEL").arg(RULES_KEY).arg(field(scope));
        let mut lease = self.leases.lease().await?;
        let was_there: bool = run_one(&mut lease, unset).await?;
        self.leases.acknowledged(&mut lease).await?;
        Ok(was_there)
    }
}

async fn run_one<T: FromRedisValue>(lease: &mut Lease, command: Pipeline) -> Result<T, Fault> {
    let mut replies = lease.run(command).await?;
    let reply = replies.pop().unwrap_or(Ok(Value::Nil))?;
    redis::from_redis_value(reply).map_err(|e| Fault::new(Reach::Server, e.to_string()))
}

fn field(scope: &Scope) -> String {
    match scope {
        Scope::AccountFlow(account, flow) => format!("af/{account}/{flow}"),
        Scope::Account(account) => format!("a/{account}"),
        Scope::Flow(flow) => format!("f/{flow}"),
    }
}

fn value(ttl: Ttl) -> String {
    match ttl {
        Ttl::For(time) => time.as_secs().to_string(),
        Ttl::Never => NEVER.to_owned(),
    }
}

fn parse(field: &str, value: &str) -> Option<(Scope, Ttl)> {
    let account = |text| Account::parse(text).ok();
    let flow = |text| Flow::parse(text).ok();
    let scope = match *field.split('/').collect::<Vec<_>>() {
        ["a", name] => Scope::Account(account(name)?),
        ["f", name] => Scope::Flow(flow(name)?),
        ["af", of, name] => Scope::AccountFlow(account(of)?, flow(name)?),
        _ => return None,
    };
    let ttl = match value {
        NEVER => Ttl::Never,
        seconds => Ttl::For(Duration::from_secs(seconds.parse().ok().filter(|&seconds| seconds > 0)?)),
    };
    Some((scope, ttl))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_has_a_field_of_its_own() {
        let (account, flow) = (Account::parse("a:b").unwrap(), Flow::parse("a:b").unwrap());
        let scopes = [Scope::Account(account.clone()), Scope::Flow(flow.clone()), Scope::AccountFlow(account, flow)];
        for scope in scopes {
            for ttl in [Ttl::Never, Ttl::For(Duration::from_secs(1))] {
                assert_eq!(parse(&field(&scope), &value(ttl)), Some((scope.clone(), ttl)));
            }
        }
    }

    #[test]
    fn what_is_no_rule_is_told_apart() {
        for (field, value) in [("", "1"), ("a", "1"), ("a/", "1"), ("x/a", "1"), ("af/a", "1"), ("af/a/b/c", "1")] {
            assert_eq!(parse(field, value), None, "{field}");
        }
        for value in ["", "0", "-1", "1.5", "Never"] {
            assert_eq!(parse("a/b", value), None, "{value}");
        }
    }
}
