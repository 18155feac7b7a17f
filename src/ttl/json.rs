//! The JSON forms of TTLs, scopes and rules: `{"ttlSeconds":60}` or `{"never":true}`, beside `accountId` and `flowId`.
//! The control plane writes them and its client reads them, from these very types.

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Origin, Rules, Scope, Ttl};
use crate::envelope::request::whole_number;
use crate::envelope::{Account, Flow};

/// The answer of `GET /v1/ttl`: the bounds, and the rules, sorted by scope, the dynamic one of a scope first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    pub default: Ttl,
    pub min: Ttl,
    pub max: Ttl,
    pub rules: Vec<ListedRule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRule {
    pub scope: Scope,
    pub origin: Origin,
    pub ttl: Ttl,
}

impl Rules {
    pub fn listing(&self) -> Listing {
        let listed = |origin| move |(scope, ttl)| ListedRule { scope, origin, ttl };
        let dynamic = self.dynamic_rules.iter().map(listed(Origin::Dynamic));
        let mut rules: Vec<_> = dynamic.chain(self.static_rules.iter().map(listed(Origin::Static))).collect();
        // The sort is stable, so a dynamic rule stays before the static one that it beats.
        rules.sort_by(|a, b| a.scope.cmp(&b.scope));
        Listing { default: self.default, min: Ttl::For(self.min), max: Ttl::For(self.max), rules }
    }
}

impl Serialize for Ttl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(1))?;
        match self {
            Self::For(time) => map.serialize_entry("ttlSeconds", &time.as_secs())?,
            Self::Never => map.serialize_entry("never", &true)?,
        }
        map.end()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawTtl {
    #[serde(default, deserialize_with = "whole_number")]
    ttl_seconds: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    never: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownRule<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_id: Option<&'a str>,
    origin: Origin,
    #[serde(flatten)]
    ttl: Ttl,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawRule {
    account_id: Option<String>,
    flow_id: Option<String>,
    origin: Origin,
    #[serde(default, deserialize_with = "whole_number")]
    ttl_seconds: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    never: Option<bool>,
}

/// A member may be absent, but not null.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    bool::deserialize(from).map(Some)
}

/// The two ways to write a TTL, of which exactly one must be there.
pub fn ttl_of(seconds: Option<u64>, never: Option<bool>) -> Result<Ttl, String> {
    match (seconds, never) {
        (Some(seconds), None) => Ttl::from_seconds(seconds).map_err(|error| error.to_string()),
        (None, Some(true)) => Ok(Ttl::Never),
        _ => Err("must have exactly one of \"ttlSeconds\" (a number) and \"never\" (true)".to_owned()),
    }
}

/// The scope of these names; at least one must be there.
pub fn scope_of(account: Option<&str>, flow: Option<&str>) -> Result<Scope, String> {
    let account = account.map(Account::parse).transpose().map_err(|error| format!("accountId {error}"))?;
    let flow = flow.map(Flow::parse).transpose().map_err(|error| format!("flowId {error}"))?;
    match (account, flow) {
        (Some(account), Some(flow)) => Ok(Scope::AccountFlow(account, flow)),
        (Some(account), None) => Ok(Scope::Account(account)),
        (None, Some(flow)) => Ok(Scope::Flow(flow)),
        (None, None) => Err("a rule needs an account, a flow, or both".to_owned()),
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = RawTtl::deserialize(from)?;
        ttl_of(raw.ttl_seconds, raw.never).map_err(de::Error::custom)
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        if let Some(account) = self.account() {
            map.serialize_entry("accountId", account.as_str())?;
        }
        if let Some(flow) = self.flow() {
            map.serialize_entry("flowId", flow.as_str())?;
        }
        map.end()
    }
}

impl Serialize for ListedRule {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let account_id = self.scope.account().map(Account::as_str);
        let flow_id = self.scope.flow().map(Flow::as_str);
        ShownRule { account_id, flow_id, origin: self.origin, ttl: self.ttl }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for ListedRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = RawRule::deserialize(from)?;
        let scope = scope_of(raw.account_id.as_deref(), raw.flow_id.as_deref()).map_err(de::Error::custom)?;
        let ttl = ttl_of(raw.ttl_seconds, raw.never).map_err(de::Error::custom)?;
        Ok(Self { scope, origin: raw.origin, ttl })
    }
}
