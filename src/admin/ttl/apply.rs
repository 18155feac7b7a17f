//! The rules, applied to what is stored already, a page at a time.
//!
//! A rule holds for what is stored from then on. This makes it hold for what was stored before: an entry of the scope
//! expires at its event time and the TTL that the rules give its account and flow now; one that has expired by them is
//! removed. An entry for which a rule that is narrower than the scope decides is left as it is, since nothing that the
//! operator changed is about it. The `ttlSeconds` that a set came with is kept nowhere: such an entry gets the rules'
//! TTL, too.
//!
//! Repeating it is harmless: what expires when the rules say is not touched.

use std::collections::HashMap;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;

use super::{Answer, forbidden, may_touch};
use crate::admin::Admin;
use crate::admin::answer::invalid;
use crate::admin::body::read_json;
use crate::admin::keys::Ask;
use crate::admin::keys::json::{Applied, ApplyRequest};
use crate::auth::Caller;
use crate::envelope::{Account, Flow};
use crate::store::catalog::{Change, Choice, Seen, To};
use crate::ttl::json::scope_of;
use crate::ttl::{Rules, Scope, Ttl};

/// Largest body, in bytes: names and a cursor.
const BODY_BYTES_MAX: usize = 64 << 10;
const FORM: &str = "must be an object with accountId, flowId or both, and may have scanLimit, after and dryRun";

pub async fn apply(State(admin): State<Admin>, headers: HeaderMap, body: Body) -> Answer<Applied> {
    let caller = admin.caller(&headers)?;
    let asked: ApplyRequest = read_json(&headers, body, BODY_BYTES_MAX, FORM).await?;
    let ApplyRequest { account_id, flow_id, scan_limit, after, dry_run } = asked;
    let scope = scope_of(account_id.as_deref(), flow_id.as_deref()).map_err(invalid)?;
    if !may_touch(&caller, &scope) {
        return Err(forbidden());
    }
    let ask = Ask::new(after, scan_limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)))?;

    let _turn = admin.shelf.turn().await?;
    let (seen, looked) = admin.shelf.page(&choice(&caller, &scope), &ask).await?;
    let rules = admin.rules().await?;
    let Plan { changes, unchanged, narrower } = plan(&rules, &scope, &seen);
    let mut applied =
        Applied { rewritten: 0, removed: 0, unchanged, narrower, superseded: 0, failed: Vec::new(), looked };
    if dry_run {
        let now_ms = applied.looked.as_of_ms;
        let is_over = |change: &&Change| matches!(change.to, To::ExpireAt(Some(at)) if at <= now_ms);
        applied.removed = changes.iter().filter(is_over).count();
        applied.rewritten = changes.len() - applied.removed;
        return Ok(Json(applied));
    }
    let done = admin.shelf.change(&changes).await?;
    (applied.rewritten, applied.removed, applied.superseded) = (done.rewritten, done.removed, done.superseded);
    applied.failed = done.failed;
    let Applied { rewritten, removed, superseded, .. } = applied;
    tracing::info!(by = caller.name, %scope, rewritten, removed, superseded, "TTL rules were applied to what is stored");
    Ok(Json(applied))
}

fn choice(caller: &Caller, scope: &Scope) -> Choice {
    Choice {
        accounts: caller.accounts.clone(),
        account: scope.account().cloned(),
        flow: scope.flow().cloned(),
        prefix: String::new(),
    }
}

/// What the rules make of a page.
struct Plan {
    changes: Vec<Change>,
    unchanged: usize,
    narrower: usize,
}

fn plan(rules: &Rules, scope: &Scope, seen: &[Seen]) -> Plan {
    // A page is of few accounts and flows.
    let mut resolved: HashMap<(&Account, &Flow), Option<Ttl>> = HashMap::new();
    let mut plan = Plan { changes: Vec::new(), unchanged: 0, narrower: 0 };
    for seen in seen {
        let resolve = || rules.resolve_within(scope, &seen.account, &seen.flow);
        let Some(ttl) = *resolved.entry((&seen.account, &seen.flow)).or_insert_with(resolve) else {
            plan.narrower += 1;
            continue;
        };
        let expires_at_ms = ttl.expires_at_ms(seen.version.time_ms());
        match expires_at_ms == seen.expires_at_ms {
            true => plan.unchanged += 1,
            false => plan.changes.push(seen.change(To::ExpireAt(expires_at_ms))),
        }
    }
    plan
}
