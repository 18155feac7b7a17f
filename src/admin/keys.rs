//! What is stored: listed, shown, and purged, a page at a time.
//!
//! The caller drives: each call looks at a page, and answers where the next one begins (`next`, the next call's `after`).
//! So every call is short, and a walk that was cut off goes on where it was. A purge repeated from the beginning is
//! harmless, too.
//!
//! A purge goes to the store and not over the road: a delete request would need a version, and whichever it took would
//! beat events that are newer than what the operator saw, or lose to those that are not. The store removes an entry only
//! while it is the one that was seen. So it needs no buffer, and is done when it is answered.
//!
//! The paths are other ones than the data plane's, so that whoever takes one plane for the other is told so, and never
//! takes what is known of an entry for its payload.
//!
//! A token that is bound to accounts sees and purges entries of its accounts alone. Keys that are reserved to another
//! ([`Grants`](crate::envelope::Grants)) stay, too, unless the token is bound to none.
//!
//! Limits: [`SCAN_MAX`] keys of a page, [`WALKS_MAX`] pages at once, [`TURN_WAIT_MAX`].

pub mod json;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Admin;
use super::answer::{Failure, bounded, invalid};
use super::body::read_json;
use crate::auth::Caller;
use crate::envelope::stamp::rfc_3339;
use crate::envelope::{Account, Accounts, Clock, Flow, WebhookKey};
use crate::problem::{Code, Problem};
use crate::store::catalog::{Change, Changed, Choice, Cursor, PageError, Seen, To};
use crate::store::{Catalog, ReadError, WriteError};
use json::{Entry, Failed, ListQuery, Listing, Looked, PurgeRequest, Purged};

/// Keys that one page looks at, unless the caller says less: some 10 ms of the store's time, a megabyte of an answer.
pub const SCAN_MAX: usize = 1_000;
/// Pages at once: each may hold a connection to the store, and batches need them more.
const WALKS_MAX: usize = 2;
/// How long a call waits for the pages of others.
const TURN_WAIT_MAX: Duration = Duration::from_secs(10);
/// Largest body, in bytes: names, a prefix and a cursor.
const BODY_BYTES_MAX: usize = 64 << 10;
const FORM: &str = "must be an object with accountId, and may have flowId, prefix, scanLimit, after and dryRun";

type Answer<T> = Result<Json<T>, Failure>;

/// What is stored, and who looks at it. Cheap to clone.
#[derive(Clone)]
pub struct Shelf {
    catalog: Catalog,
    walks: Arc<Semaphore>,
    clock: Clock,
}

/// Which page of a walk a call is about.
pub struct Ask {
    after: Option<Cursor>,
    look_max: usize,
}

pub fn routes() -> Router<Admin> {
    Router::new().route("/v1/entries", get(list)).route("/v1/entries/{*key}", get(show)).route("/v1/purge", post(purge))
}

async fn list(
    State(admin): State<Admin>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Listing> {
    let caller = admin.caller(&headers)?;
    let Query(query) =
        query.map_err(|_| invalid("the query may have accountId, flowId, prefix, scanLimit and after"))?;
    let ListQuery { account_id, flow_id, prefix, scan_limit, after } = query;
    let choice = choice(&caller, account_id.as_deref(), flow_id.as_deref(), prefix)?;
    let ask = Ask::new(after, scan_limit)?;
    let _turn = admin.shelf.turn().await?;
    let (seen, looked) = admin.shelf.page(&choice, &ask).await?;
    Ok(Json(Listing { entries: seen.iter().map(entry).collect(), looked }))
}

async fn show(
    State(admin): State<Admin>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Entry> {
    let caller = admin.caller(&headers)?;
    let wrong = |detail: String| Failure::from(Problem::new(Code::InvalidKey, detail));
    let Path(key) = path.map_err(|_| wrong("the path must be UTF-8, percent-encoded where needed".to_owned()))?;
    let key = WebhookKey::parse(&key).map_err(|error| wrong(format!("the webhook key {error}")))?;
    match admin.shelf.find(&key).await?.filter(|seen| caller.accounts.allow(&seen.account)) {
        Some(seen) => Ok(Json(entry(&seen))),
        None => Err(Problem::new(Code::NotFound, "nothing that this token may see is stored under this key").into()),
    }
}

async fn purge(State(admin): State<Admin>, headers: HeaderMap, body: Body) -> Answer<Purged> {
    let caller = admin.caller(&headers)?;
    let asked: PurgeRequest = read_json(&headers, body, BODY_BYTES_MAX, FORM).await?;
    let PurgeRequest { account_id, flow_id, prefix, scan_limit, after, dry_run } = asked;
    let choice = choice(&caller, Some(&account_id), flow_id.as_deref(), prefix)?;
    let ask = Ask::new(after, scan_limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)))?;

    let _turn = admin.shelf.turn().await?;
    let (seen, looked) = admin.shelf.page(&choice, &ask).await?;
    let found = seen.len();
    let grants = admin.auth.grants();
    let may_go = |seen: &Seen| {
        caller.accounts == Accounts::All || !grants.reserves_to_another(&seen.key, &caller.name, &seen.account)
    };
    let changes: Vec<Change> = seen.iter().filter(|seen| may_go(seen)).map(|seen| seen.change(To::Gone)).collect();
    let reserved = found - changes.len();
    if dry_run {
        return Ok(Json(Purged { purged: changes.len(), superseded: 0, reserved, failed: Vec::new(), looked }));
    }
    let Done { removed: purged, superseded, failed, .. } = admin.shelf.change(&changes).await?;
    let by = caller.name;
    tracing::info!(by, account = account_id, flow = flow_id, purged, superseded, reserved, "entries were purged");
    Ok(Json(Purged { purged, superseded, reserved, failed, looked }))
}

/// What became of changes.
#[derive(Default)]
pub struct Done {
    pub rewritten: usize,
    pub removed: usize,
    pub superseded: usize,
    pub failed: Vec<Failed>,
}

impl Ask {
    pub fn new(after: Option<String>, scan_limit: Option<usize>) -> Result<Self, Failure> {
        Ok(Self { after: after.map(Cursor), look_max: bounded("scanLimit", scan_limit, SCAN_MAX, SCAN_MAX)? })
    }
}

impl Shelf {
    pub fn new(catalog: Catalog, clock: Clock) -> Self {
        Self { catalog, walks: Arc::new(Semaphore::new(WALKS_MAX)), clock }
    }

    /// Held for a page and for what is done to it.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, Failure> {
        match tokio::time::timeout(TURN_WAIT_MAX, self.walks.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Problem::new(Code::Overloaded, "others are looking through what is stored; try again").into()),
        }
    }

    pub async fn page(&self, choice: &Choice, ask: &Ask) -> Result<(Vec<Seen>, Looked), Failure> {
        let as_of_ms = self.clock.now_ms();
        let page = self.catalog.page(choice, ask.after.as_ref(), ask.look_max, as_of_ms).await?;
        let (scanned, total) = match choice.accounts {
            Accounts::All => (Some(page.looked_at), self.catalog.count().await.ok()),
            Accounts::Only(_) => (None, None),
        };
        let next = page.next.map(|Cursor(text)| text);
        Ok((page.entries, Looked { complete: next.is_none(), as_of_ms, next, scanned, total }))
    }

    /// One live entry without its payload.
    pub async fn find(&self, key: &WebhookKey) -> Result<Option<Seen>, Failure> {
        self.catalog.find(key, self.clock.now_ms()).await.map_err(|error| unreadable(key, error))
    }

    pub async fn change(&self, changes: &[Change]) -> Result<Done, Failure> {
        let mut done = Done::default();
        let results = self.catalog.change(changes, self.clock.now_ms()).await;
        for (change, result) in changes.iter().zip(results) {
            match result {
                Ok(Changed::Rewritten) => done.rewritten += 1,
                Ok(Changed::Removed) => done.removed += 1,
                Ok(Changed::Superseded) => done.superseded += 1,
                Err(WriteError::Unavailable(reason)) => return Err(cut_off(&reason)),
                Err(WriteError::Refused(reason)) => {
                    tracing::warn!(key = %change.key, reason, "the store refuses to change this entry");
                    let detail = "the store refuses to change it; the log of the server says why".to_owned();
                    done.failed.push(Failed { webhook_key: change.key.to_string(), detail });
                }
            }
        }
        Ok(done)
    }
}

/// Some of the page may be done.
fn cut_off(reason: &str) -> Failure {
    // Addresses of a backend are for the operator's log, not for an answer.
    tracing::warn!(reason, "the control plane can't reach the store");
    let detail = "the store can't be reached; some of this page may have changed already, and the same call once more is \
                  harmless";
    Problem::new(Code::StoreUnavailable, detail).into()
}

impl From<PageError> for Failure {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Unavailable(reason) => crate::store::Unavailable(reason).into(),
            PageError::Cursor => invalid("after: must be the next of an earlier answer of this store; or leave it out"),
        }
    }
}

fn unreadable(key: &WebhookKey, error: ReadError) -> Failure {
    match error {
        ReadError::Unavailable(reason) => crate::store::Unavailable(reason).into(),
        ReadError::Unreadable(reason) => {
            tracing::error!(%key, reason, "the entry can't be read");
            let detail = "the store holds a value under this key that hookcache did not write";
            Problem::new(Code::EntryUnreadable, detail).into()
        }
    }
}

/// What is asked of another account by name is refused, whether there are such entries or not.
fn choice(
    caller: &Caller,
    account: Option<&str>,
    flow: Option<&str>,
    prefix: Option<String>,
) -> Result<Choice, Failure> {
    let account = account.map(Account::parse).transpose().map_err(|error| invalid(format!("accountId: {error}")))?;
    let flow = flow.map(Flow::parse).transpose().map_err(|error| invalid(format!("flowId: {error}")))?;
    let prefix = prefix.unwrap_or_default();
    if !prefix.is_empty() {
        WebhookKey::parse(&prefix).map_err(|error| invalid(format!("prefix: {error}")))?;
    }
    if account.as_ref().is_some_and(|account| !caller.accounts.allow(account)) {
        let detail = "this token may look after entries of its own accounts only";
        return Err(Problem::new(Code::ForbiddenAccount, detail).into());
    }
    Ok(Choice { accounts: caller.accounts.clone(), account, flow, prefix })
}

fn entry(seen: &Seen) -> Entry {
    Entry {
        webhook_key: seen.key.to_string(),
        account_id: seen.account.to_string(),
        flow_id: seen.flow.to_string(),
        id: seen.id.clone(),
        e_tag: seen.version.to_string(),
        event_time: rfc_3339(seen.version.time_ms()),
        expires_at: seen.expires_at_ms.map(rfc_3339),
        payload_bytes: seen.payload_bytes,
    }
}
