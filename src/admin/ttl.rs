//! TTL rules: seen, set, removed, explained, and applied to what is stored already.

pub mod apply;

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::auth::Caller;
use crate::envelope::{Account, Accounts, Flow, NameError};
use crate::problem::{Code, Problem};
use crate::ttl::json::scope_of;
use crate::ttl::{Explanation, ListedRule, Listing, Origin, Rules, Scope, Ttl};

use super::Admin;
use super::answer::{Failure, invalid};
use super::body::read_json;

/// Largest body, in bytes. A rule takes about thirty.
const BODY_BYTES_MAX: usize = 4 << 10;
const FORM: &str = "must be {\"ttlSeconds\": 60} or {\"never\": true}, with whole seconds from 1 to 100 years";
/// Dynamic rules that there may be: consumers hold all of them, and load them every other second.
const RULES_MAX: usize = 10_000;

type Answer<T> = Result<Json<T>, Failure>;

/// What a rule's path names: an account, a flow, or both.
#[derive(Deserialize)]
pub struct Names {
    account: Option<String>,
    flow: Option<String>,
}

#[derive(Serialize)]
pub struct Removed {
    removed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    account_id: String,
    flow_id: String,
    ttl_seconds: Option<u64>,
}

pub async fn list(State(admin): State<Admin>, headers: HeaderMap) -> Answer<Listing> {
    let caller = admin.caller(&headers)?;
    let mut listing = admin.rules().await?.listing();
    listing.rules.retain(|rule| may_touch(&caller, &rule.scope));
    Ok(Json(listing))
}

pub async fn explain(
    State(admin): State<Admin>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Answer<Explanation> {
    let caller = admin.caller(&headers)?;
    let Query(asked) = asked.map_err(|_| {
        invalid("the query must be accountId=...&flowId=..., and may have ttlSeconds=... with a whole number")
    })?;
    let account = Account::parse(&asked.account_id).map_err(named("accountId"))?;
    let flow = Flow::parse(&asked.flow_id).map_err(named("flowId"))?;
    if !caller.accounts.allow(&account) {
        return Err(forbidden());
    }
    let requested = match asked.ttl_seconds.map(Ttl::from_seconds).transpose() {
        Ok(Some(Ttl::For(time))) => Some(time),
        Ok(_) => None::<Duration>,
        Err(error) => return Err(invalid(format!("ttlSeconds: {error}"))),
    };
    Ok(Json(admin.rules().await?.explain(&account, &flow, requested)))
}

pub async fn put(
    State(admin): State<Admin>,
    headers: HeaderMap,
    path: Result<Path<Names>, PathRejection>,
    body: Body,
) -> Answer<ListedRule> {
    let caller = admin.caller(&headers)?;
    admin.set(&caller, scope(path)?, &headers, body).await
}

pub async fn delete(
    State(admin): State<Admin>,
    headers: HeaderMap,
    path: Result<Path<Names>, PathRejection>,
) -> Answer<Removed> {
    let caller = admin.caller(&headers)?;
    admin.unset(&caller, scope(path)?).await
}

impl Admin {
    /// The rules that hold now: those of the configuration, and those of the store.
    async fn rules(&self) -> Result<Rules, Failure> {
        Ok(self.rules.load().with_dynamic(self.book.load().await?))
    }

    async fn set(&self, caller: &Caller, scope: Scope, headers: &HeaderMap, body: Body) -> Answer<ListedRule> {
        if !may_touch(caller, &scope) {
            return Err(forbidden());
        }
        let ttl: Ttl = read_json(headers, body, BODY_BYTES_MAX, FORM).await?;
        self.rules.load().check(&scope, ttl).map_err(|error| invalid(error.to_string()))?;
        let kept = self.book.load().await?;
        if kept.len() >= RULES_MAX && !kept.iter().any(|(of, _)| *of == scope) {
            return Err(invalid(format!("there are {RULES_MAX} dynamic rules already; remove one that is not needed")));
        }
        self.book.set(&scope, ttl).await?;
        tracing::info!(by = caller.name, %scope, %ttl, "a TTL rule was set");
        Ok(Json(ListedRule { scope, origin: Origin::Dynamic, ttl }))
    }

    async fn unset(&self, caller: &Caller, scope: Scope) -> Answer<Removed> {
        if !may_touch(caller, &scope) {
            return Err(forbidden());
        }
        let removed = self.book.unset(&scope).await?;
        tracing::info!(by = caller.name, %scope, removed, "a TTL rule was removed");
        Ok(Json(Removed { removed }))
    }
}

/// A rule for a flow in any account is about other accounts too.
fn may_touch(caller: &Caller, scope: &Scope) -> bool {
    match (&caller.accounts, scope.account()) {
        (Accounts::All, _) => true,
        (accounts, Some(account)) => accounts.allow(account),
        (Accounts::Only(_), None) => false,
    }
}

fn scope(path: Result<Path<Names>, PathRejection>) -> Result<Scope, Failure> {
    let Path(Names { account, flow }) =
        path.map_err(|_| invalid("the path must be UTF-8, percent-encoded where needed"))?;
    scope_of(account.as_deref(), flow.as_deref()).map_err(invalid)
}

fn named(what: &'static str) -> impl Fn(NameError) -> Failure {
    move |error| invalid(format!("{what}: {error}"))
}

fn forbidden() -> Failure {
    let detail = "this token may see and set TTL rules of its own accounts only";
    Problem::new(Code::ForbiddenAccount, detail).into()
}
