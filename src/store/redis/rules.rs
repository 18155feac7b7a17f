//! The TTL rules that operators set while it runs: one hash, at most [`RULES_MAX`] fields.
//!
//! A field names its scope: `a/<account>`, `f/<flow>` or `af/<account>/<flow>`; no name has a slash. Its value is a
//! number of seconds, or `never`.

use std::time::Duration;

use deadpool_redis::redis::{self, Cmd, FromRedisValue, Value, cmd, pipe};

use super::RULES_KEY;
use super::fault::{Fault, Reach};
use super::leases::Leases;
use super::slots::slot_of;
use super::topology::{Route, Topology};
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
pub struct RuleBook(Topology<Leases>);

impl RuleBook {
    pub(super) fn new(topology: Topology<Leases>) -> Self {
        Self(topology)
    }

    pub async fn load(&self) -> Result<Vec<(Scope, Ttl)>, Unavailable> {
        let mut load = cmd("HGETALL");
        load.arg(RULES_KEY);
        let fields: Vec<(String, String)> = self.run(|route| ask(route, load.clone())).await?;
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
        let mut set = cmd("EVAL");
        set.arg(SET_RULE).arg(1).arg(RULES_KEY).arg(field(scope)).arg(value(ttl)).arg(RULES_MAX);
        let was_set: bool = self.run(|route| change(route, set.clone())).await?;
        match was_set {
            true => Ok(()),
            false => Err(Unavailable(format!("there are {RULES_MAX} TTL rules, the most there may be: unset some"))),
        }
    }

    pub async fn unset(&self, scope: &Scope) -> Result<bool, Unavailable> {
        let mut unset = cmd("HDEL");
        unset.arg(RULES_KEY).arg(field(scope));
        Ok(self.run(|route| change(route, unset.clone())).await?)
    }

    /// Runs one command where the rules lie.
    async fn run<T: FromRedisValue, Sent>(&self, send: impl Fn(Route<Leases>) -> Sent) -> Result<T, Fault>
    where
        Sent: Future<Output = Result<Value, Fault>>,
    {
        let one = |route, _| {
            let sent = send(route);
            async { vec![sent.await] }
        };
        let mut replies = self.0.scatter(1, |_| slot_of([RULES_KEY.as_bytes()]), one).await;
        let reply = replies.pop().unwrap_or(Ok(Value::Nil))?;
        redis::from_redis_value(reply).map_err(|e| Fault::new(Reach::Server, e.to_string()))
    }
}

async fn ask(route: Route<Leases>, command: Cmd) -> Result<Value, Fault> {
    let mut commands = pipe();
    route.add(&mut commands, command);
    let mut lease = route.node.lease().await?;
    lease.run(commands).await?.pop().unwrap_or(Ok(Value::Nil))
}

/// The same, acknowledged as a write is.
async fn change(route: Route<Leases>, command: Cmd) -> Result<Value, Fault> {
    let mut commands = pipe();
    route.add(&mut commands, command);
    let mut lease = route.node.lease().await?;
    let reply = lease.run(commands).await?.pop().unwrap_or(Ok(Value::Nil))?;
    route.node.acknowledged(&mut lease, &route).await?;
    Ok(reply)
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
