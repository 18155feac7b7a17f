//! Reindexes: how far they are, and asking for one.
//!
//! Asking puts a task into the pages queue, like the schedule and a site that enables the app do; the worker of that
//! queue joins it to a run that is open, or opens one. So the answer is that it was asked for, and a look tells how far
//! it is: the first run that was asked for then or later, and reads as much, is the one, or stands for it.

pub mod json;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Admin;
use super::answer::{Failure, invalid};
use super::body::read_json;
use super::page_links::{PageLinks, site_id};
use crate::envelope::stamp::rfc_3339;
use crate::problem::{Code, Problem};
use crate::registry::{Due, Phase, Run, Site, SiteState};
use crate::source::confluence::{PageTask, ReindexScope, What};
use json::{Asked, Next, Progress, Request, State as RunState, Status, Waits};

/// Runs that a look tells of.
const RUNS_TOLD_MAX: usize = 10;
/// Largest body, in bytes.
const BODY_BYTES_MAX: usize = 4 << 10;
const FORM: &str = "must be an object that may have since, a moment in RFC 3339, or \"full\": true, but not both";

pub fn routes() -> Router<Admin> {
    Router::new().route("/v1/sites/{site}/reindex", get(status).post(ask))
}

async fn status(
    State(admin): State<Admin>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Status>, Failure> {
    let caller = admin.caller(&headers)?;
    let page_links = admin.page_links()?;
    let site = page_links.site(&caller, &site_id(path)?).await?;
    Ok(Json(page_links.reindex_status(&site).await?))
}

async fn ask(
    State(admin): State<Admin>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
    body: Body,
) -> Result<(StatusCode, Json<Asked>), Failure> {
    let caller = admin.caller(&headers)?;
    let page_links = admin.page_links()?;
    let request: Request = read_json(&headers, body, BODY_BYTES_MAX, FORM).await?;
    let site = page_links.site(&caller, &site_id(path)?).await?;
    let asked = scope_of(&request, page_links.now_ms())?;
    if let Some(why) = not_active(&site) {
        return Err(Problem::new(Code::SiteNotActive, why).into());
    }
    let (_, last_full_ms) = page_links.registry.last_success(&site.id).await?;
    // Of a site that was never read as a whole, nothing is known that a part of it could bring up to date.
    let scope = if last_full_ms.is_none() && asked == ReindexScope::SinceLast { ReindexScope::Full } else { asked };
    let stamp = page_links.stamper.stamp();
    let (id, asked_ms) = (stamp.id.clone(), stamp.at_ms);
    let task = PageTask::new(stamp, site.id.clone(), site.account.clone(), What::Reindex(scope));
    page_links.tasks.append(task.encode()).await?;
    tracing::info!(by = caller.name, site = %site.id, id, ?scope, "a reindex was asked for");
    let (word, since) = spelled(scope);
    let (asked_at, site) = (rfc_3339(asked_ms), site.id.to_string());
    let asked = Asked { id, asked_at, asked_ms, site, scope: word.to_owned(), since };
    Ok((StatusCode::ACCEPTED, Json(asked)))
}

impl PageLinks {
    pub(super) async fn reindex_status(&self, site: &Site) -> Result<Status, Failure> {
        let now_ms = self.now_ms();
        let runs = self.registry.runs(&site.id, RUNS_TOLD_MAX).await?;
        let (last_ms, last_full_ms) = self.registry.last_success(&site.id).await?;
        let due = match site.state {
            SiteState::Active => self.cadence.next(site, runs.first(), last_full_ms),
            _ => None,
        };
        Ok(Status {
            site: site.id.to_string(),
            not_active: not_active(site),
            runs: runs.iter().map(|run| progress(run, now_ms)).collect(),
            next: due.map(|Due { at_ms, scope }| Next { at: rfc_3339(at_ms), scope: spelled(scope).0.to_owned() }),
            complete: last_full_ms.is_some(),
            last_reindex_at: last_ms.map(rfc_3339),
            lag_seconds: last_ms.map(|ms| now_ms.saturating_sub(ms) / 1_000),
            pages_known: self.registry.pages_known(&site.id).await?,
        })
    }
}

/// Why the site is not read, and what would change that.
pub(super) fn not_active(site: &Site) -> Option<String> {
    let id = &site.id;
    match site.state {
        SiteState::Active => None,
        SiteState::Paused => {
            Some(format!("the site is paused: `hookcache confluence resume --site {id}` lets it go on"))
        }
        SiteState::Disabled => Some("the app is disabled on the site: its administrator can enable it".to_owned()),
        SiteState::REMOVED => Some("the site is being removed: it can be added again".to_owned()),
        SiteState::Uninstalled { since_ms } => {
            let since = rfc_3339(since_ms);
            Some(format!("the app was uninstalled from the site at {since}: its administrator can install it again"))
        }
    }
}

fn scope_of(request: &Request, now_ms: u64) -> Result<ReindexScope, Failure> {
    match (&request.since, request.full) {
        (Some(_), true) => Err(invalid(FORM)),
        (None, true) => Ok(ReindexScope::Full),
        (None, false) => Ok(ReindexScope::SinceLast),
        (Some(since), false) => {
            let moment = OffsetDateTime::parse(since, &Rfc3339);
            let ms = moment.ok().and_then(|moment| u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok());
            match ms.ok_or_else(|| invalid("since: must be a moment in RFC 3339, such as 2026-01-31T00:00:00Z"))? {
                ms if ms > now_ms => Err(invalid("since: must not lie in the future")),
                ms => Ok(ReindexScope::Since(ms)),
            }
        }
    }
}

fn spelled(scope: ReindexScope) -> (&'static str, Option<String>) {
    match scope {
        ReindexScope::Full => ("full", None),
        ReindexScope::SinceLast => ("since-last", None),
        ReindexScope::Since(ms) => ("since", Some(rfc_3339(ms))),
    }
}

fn progress(run: &Run, now_ms: u64) -> Progress {
    let (scope, since) = spelled(run.scope);
    let waits = run.waiting.as_ref().filter(|waiting| waiting.until_ms > now_ms && run.ended.is_none());
    let state = match (&run.ended, run.began_ms, waits, run.phase) {
        (Some(ended), ..) if ended.error.is_some() => RunState::Failed,
        (Some(_), ..) => RunState::Succeeded,
        (None, _, Some(_), _) => RunState::Waiting,
        (None, None, None, _) => RunState::Asked,
        (None, Some(_), None, Phase::Listing) => RunState::Listing,
        (None, Some(_), None, Phase::Sweeping) => RunState::Sweeping,
    };
    Progress {
        number: run.number,
        scope: scope.to_owned(),
        since,
        state,
        asked_at: rfc_3339(run.asked_ms),
        asked_ms: run.asked_ms,
        began_at: run.began_ms.map(rfc_3339),
        pages_seen: run.pages_seen,
        pages_changed: run.pages_changed,
        pages_swept: run.pages_swept,
        waits: waits.map(|waiting| Waits { until: rfc_3339(waiting.until_ms), why: waiting.why.clone() }),
        ended_at: run.ended.as_ref().map(|ended| rfc_3339(ended.at_ms)),
        error: run.ended.as_ref().and_then(|ended| ended.error.clone()),
    }
}
