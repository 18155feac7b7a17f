//! Dead letters: listed, shown, put back on the road, dropped.
//!
//! | file | holds |
//! | --- | --- |
//! | `choice` | which letters a call is about, and which its caller may see |
//! | `json` | what is asked and answered |
//!
//! There are those of the buffer, and with page links those of the pages queue; a call is about one of both.
//!
//! Whose a letter is, its body says, read leniently. A token that is bound to accounts sees the letters of its accounts
//! alone, and is told nothing of others, not even their number. A token with the scope `set` may read a letter of its
//! accounts by the id that its set was answered with. It does so here and not on the data plane: on SQS it takes a walk
//! over the whole queue, which hides what it looks at, and of such walks there is one at a time.
//!
//! Limits: [`SCAN_MAX`] letters of a walk, [`ROWS_MAX`] of a list, one walk at a time, [`WALK_WAIT_MAX`].

mod choice;
pub mod json;

use std::collections::{BTreeSet, HashMap};
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
use crate::auth::{Caller, Scope};
use crate::buffer::{DeadLetter, DeadLetters, MessageId, Ruling, Unavailable, Walk, Walked, Which};
use crate::envelope::stamp::rfc_3339;
use crate::envelope::{Clock, Peek, peek};
use crate::problem::{Code, Problem};
use choice::{Filter, Sight};
use json::{Failed, Letter, ListQuery, Listing, Looked, Queue, Selection, Settled, ShowQuery, Whole};

/// Letters that a walk looks at, unless the caller says otherwise, and at most: SQS hides 120,000 messages of a queue.
pub const SCAN_DEFAULT: usize = 10_000;
pub const SCAN_MAX: usize = 100_000;
/// Letters in one list, unless the caller says otherwise, and at most: a megabyte or so.
const ROWS_DEFAULT: usize = 100;
const ROWS_MAX: usize = 1_000;
/// What one walk hides, another does not see.
const WALKS_MAX: usize = 1;
/// How long a call waits for another's walk: about as long as one takes.
const WALK_WAIT_MAX: Duration = Duration::from_secs(20);
/// Largest body, in bytes: 100 ids with room to spare.
const BODY_BYTES_MAX: usize = 64 << 10;
/// The end of the year 9999, which RFC 3339 can't pass.
const AS_OF_MS_MAX: u64 = 253_402_300_799_999;
const FORM: &str = "must be an object with ids, or any of reason, accountId, flowId, olderThanSeconds and \
                    newerThanSeconds, or \"all\": true; and may have queue (\"buffer\" or \"pages\"), scanLimit, after and asOfMs";

type Answer<T> = Result<Json<T>, Failure>;

/// The dead letters, and who looks at them. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    letters: DeadLetters,
    walks: Arc<Semaphore>,
    clock: Clock,
}

/// What is done to letters.
#[derive(Clone, Copy)]
enum Act {
    Redrive,
    Drop,
}

pub fn routes() -> Router<Admin> {
    Router::new()
        .route("/v1/dead-letters", get(list))
        .route("/v1/dead-letters/{id}", get(show))
        .route("/v1/dead-letters/redrive", post(redrive))
        .route("/v1/dead-letters/drop", post(drop_letters))
}

async fn list(
    State(admin): State<Admin>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Listing> {
    let caller = admin.caller(&headers)?;
    let Query(query) = query.map_err(|_| {
        invalid(
            "the query may have queue, reason, accountId, flowId, olderThanSeconds, newerThanSeconds, limit, scanLimit, after",
        )
    })?;
    let filter = Filter::of_query(&query).map_err(invalid)?;
    allowed(&caller, &filter)?;
    let rows_max = bounded("limit", query.limit, ROWS_DEFAULT, ROWS_MAX)?;
    let walk = walk(&filter, query.after, query.scan_limit)?;
    Ok(Json(admin.desk(query.queue)?.list(&Sight::of(&caller), &filter, &walk, rows_max).await?))
}

async fn show(
    State(admin): State<Admin>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<ShowQuery>, QueryRejection>,
) -> Answer<Whole> {
    let caller = admin.anyone(&headers)?;
    if !caller.may(Scope::Admin) && !caller.may(Scope::Set) {
        let detail = "this call needs a token with the scope \"admin\" or \"set\"";
        return Err(Problem::new(Code::ForbiddenScope, detail).into());
    }
    let Path(id) = path.map_err(|_| invalid("the path must be UTF-8, percent-encoded where needed"))?;
    let Query(query) = query.map_err(|_| invalid("the query may have queue and scanLimit, and nothing else"))?;
    let filter = Filter { ids: [id].into(), ..Filter::default() };
    let walk = walk(&filter, None, query.scan_limit)?;
    Ok(Json(admin.desk(query.queue)?.find(&Sight::of(&caller), &filter, &walk).await?))
}

async fn redrive(State(admin): State<Admin>, headers: HeaderMap, body: Body) -> Answer<Settled> {
    admin.settle(Act::Redrive, &headers, body).await
}

async fn drop_letters(State(admin): State<Admin>, headers: HeaderMap, body: Body) -> Answer<Settled> {
    admin.settle(Act::Drop, &headers, body).await
}

impl Admin {
    fn desk(&self, queue: Queue) -> Result<&Desk, Failure> {
        if queue == Queue::Pages {
            return Ok(&self.page_links()?.letters);
        }
        self.dead_letters.as_ref().ok_or_else(|| {
            let detail =
                "the buffer is embedded, and its dead letters are where it runs: with the roles set and consume";
            Problem::new(Code::NoSuchRoute, detail).into()
        })
    }

    async fn settle(&self, act: Act, headers: &HeaderMap, body: Body) -> Answer<Settled> {
        let caller = self.caller(headers)?;
        let selection: Selection = read_json(headers, body, BODY_BYTES_MAX, FORM).await?;
        let filter = Filter::of_selection(&selection).map_err(invalid)?;
        if filter.is_empty() != selection.all {
            return Err(invalid("needs either ids or a filter, or \"all\": true, and not both"));
        }
        if selection.as_of_ms.is_some_and(|ms| ms > AS_OF_MS_MAX) {
            return Err(invalid(format!("asOfMs: at most {AS_OF_MS_MAX}")));
        }
        allowed(&caller, &filter)?;
        // What is no size on this machine is beyond the bound anyway.
        let scan_limit = selection.scan_limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let walk = walk(&filter, selection.after, scan_limit)?;
        let desk = self.desk(selection.queue)?;
        let as_of_ms = selection.as_of_ms.unwrap_or_else(|| desk.clock.now_ms());
        Ok(Json(desk.settle(act, &caller, (&filter, as_of_ms), &walk).await?))
    }
}

impl Desk {
    pub fn new(letters: DeadLetters, clock: Clock) -> Self {
        Self { letters, walks: Arc::new(Semaphore::new(WALKS_MAX)), clock }
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Failure> {
        match tokio::time::timeout(WALK_WAIT_MAX, self.walks.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Problem::new(Code::Overloaded, "others are looking through the dead letters; try again").into()),
        }
    }

    async fn list(&self, sight: &Sight, filter: &Filter, walk: &Walk, rows_max: usize) -> Result<Listing, Failure> {
        let _turn = self.turn().await?;
        let now_ms = self.clock.now_ms();
        let mut letters = Vec::new();
        let rule = |letter: &DeadLetter| {
            let peek = peek(&letter.body);
            if !sight.covers(peek.account.as_ref()) || !filter.matches(letter, &peek, now_ms) {
                return Ruling::Leave;
            }
            if letters.len() >= rows_max {
                return Ruling::Stop;
            }
            letters.push(row(letter, peek));
            Ruling::Leave
        };
        let walked = self.letters.walk(walk, rule).await?;
        Ok(Listing { letters, looked: self.looked(sight, &walked, now_ms).await })
    }

    /// The first letter of that name.
    async fn find(&self, sight: &Sight, filter: &Filter, walk: &Walk) -> Result<Whole, Failure> {
        let _turn = self.turn().await?;
        let now_ms = self.clock.now_ms();
        let mut found = None;
        let rule = |letter: &DeadLetter| {
            let peek = peek(&letter.body);
            if !sight.covers(peek.account.as_ref()) || !filter.matches(letter, &peek, now_ms) {
                return Ruling::Leave;
            }
            let body = String::from_utf8_lossy(&letter.body).into_owned();
            found = Some(Whole { letter: row(letter, peek), body });
            Ruling::Stop
        };
        let walked = self.letters.walk(walk, rule).await?;
        found.ok_or_else(|| {
            let detail = match walked.complete {
                true => "no dead letter that this token may see has this id".to_owned(),
                false => format!(
                    "none of those that were looked at has this id, and there are more: scanLimit is {}",
                    walk.letters_max
                ),
            };
            Problem::new(Code::NoSuchDeadLetter, detail).into()
        })
    }

    /// Those of which `named` holds, among the first `letters_max`, and how far it has looked.
    pub async fn naming(
        &self,
        letters_max: usize,
        mut named: impl FnMut(&DeadLetter) -> bool + Send,
    ) -> Result<(Vec<Letter>, Walked), Failure> {
        let _turn = self.turn().await?;
        let mut letters = Vec::new();
        let rule = |letter: &DeadLetter| {
            if named(letter) {
                letters.push(row(letter, peek(&letter.body)));
            }
            Ruling::Leave
        };
        let walked = self.letters.walk(&Walk { which: Which::All, letters_max }, rule).await?;
        Ok((letters, walked))
    }

    /// What dies again while this goes on, since its cause is still there, is left: it would go round and round.
    async fn settle(
        &self,
        act: Act,
        caller: &Caller,
        (filter, as_of_ms): (&Filter, u64),
        walk: &Walk,
    ) -> Result<Settled, Failure> {
        let _turn = self.turn().await?;
        let (sight, now_ms) = (Sight::of(caller), self.clock.now_ms());
        let mut events: HashMap<MessageId, Option<String>> = HashMap::new();
        let (mut found, mut whole) = (BTreeSet::new(), BTreeSet::new());
        let rule = |letter: &DeadLetter| {
            // A letter's own name names one letter; once all are found, no other can match.
            if !filter.ids.is_empty() && whole.len() == filter.ids.len() {
                return Ruling::Stop;
            }
            let peek = peek(&letter.body);
            let is_new = letter.since_ms.is_some_and(|since_ms| since_ms > as_of_ms);
            if is_new || !sight.covers(peek.account.as_ref()) || !filter.matches(letter, &peek, now_ms) {
                return Ruling::Leave;
            }
            found.extend(choice::names(letter, &peek).map(str::to_owned));
            if filter.ids.contains(&letter.message_id.0) {
                whole.insert(letter.message_id.clone());
            }
            events.insert(letter.message_id.clone(), peek.id);
            match act {
                Act::Redrive => Ruling::Redrive(peek.account),
                Act::Drop => Ruling::Drop,
            }
        };
        let walked = self.letters.walk(walk, rule).await?;
        let mut failed = Vec::new();
        for (message_id, result) in &walked.results {
            let event = events.get(message_id).and_then(Option::as_deref);
            if let Err(error) = result {
                failed.push(report_failure(message_id, event, error));
            } else {
                report_done(act, caller, message_id, event);
            }
        }
        let done = walked.results.len() - failed.len();
        let missing = filter.ids.difference(&found).cloned().collect();
        Ok(Settled { done, failed, missing, looked: self.looked(&sight, &walked, as_of_ms).await })
    }

    async fn looked(&self, sight: &Sight, walked: &Walked, as_of_ms: u64) -> Looked {
        let next = walked.next.as_ref().map(|id| id.0.clone());
        let (scanned, total) = match sight.is_whole() {
            true => (Some(walked.seen), self.letters.count().await.ok()),
            false => (None, None),
        };
        Looked { complete: walked.complete, as_of_ms, next, scanned, total }
    }
}

fn report_done(act: Act, caller: &Caller, MessageId(message_id): &MessageId, event: Option<&str>) {
    let by = caller.name.as_str();
    match act {
        Act::Redrive => tracing::info!(by, message_id, id = event, "a dead letter was redriven"),
        Act::Drop => tracing::info!(by, message_id, id = event, "a dead letter was dropped"),
    }
}

fn report_failure(MessageId(message_id): &MessageId, event: Option<&str>, error: &Unavailable) -> Failed {
    // Addresses of a backend are for the operator's log, not for an answer.
    tracing::warn!(message_id, id = event, %error, "a dead letter stays where it is, or left a copy there");
    let detail = "the buffer could not do it now; it stays a dead letter, and repeating it is harmless".to_owned();
    Failed { message_id: message_id.clone(), detail }
}

fn row(letter: &DeadLetter, peek: Peek) -> Letter {
    Letter {
        message_id: letter.message_id.0.clone(),
        former_message_id: letter.former_id.as_ref().map(|id| id.0.clone()),
        reason: letter.reason.as_str().to_owned(),
        detail: letter.detail.clone(),
        since: letter.since_ms.map(rfc_3339),
        id: peek.id,
        account_id: peek.account.map(|account| account.to_string()),
        flow_id: peek.flow.map(|flow| flow.to_string()),
        by: peek.by,
        at: peek.at_ms.map(rfc_3339),
        body_bytes: letter.body.len(),
    }
}

fn walk(filter: &Filter, after: Option<String>, scan_limit: Option<usize>) -> Result<Walk, Failure> {
    let letters_max = bounded("scanLimit", scan_limit, SCAN_DEFAULT, SCAN_MAX)?;
    let mut ids = filter.ids.iter();
    let which = match (after, ids.next(), ids.next()) {
        (Some(after), ..) => Which::After(MessageId(after)),
        (None, Some(id), None) => Which::Named(MessageId(id.clone())),
        _ => Which::All,
    };
    Ok(Walk { which, letters_max })
}

/// What is asked of another account by name is refused, whether there are such letters or not.
fn allowed(caller: &Caller, filter: &Filter) -> Result<(), Failure> {
    match &filter.account {
        Some(account) if !caller.accounts.allow(account) => {
            let detail = "this token may look after dead letters of its own accounts only";
            Err(Problem::new(Code::ForbiddenAccount, detail).into())
        }
        _ => Ok(()),
    }
}
