//! Where the links of a page are: what is known of it, what is stored, what waits, what is dead, and what to do.
//!
//! | file | holds |
//! | --- | --- |
//! | `json` | the answer |
//! | `advice` | what it means, in a sentence or two; pure |
//!
//! Limits: [`WAITING_MAX`] messages and [`LETTERS_MAX`] dead letters of each queue are looked at.

mod advice;
pub mod json;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;

use super::answer::{Failure, invalid};
use super::page_links::{PageLinks, site_id};
use super::reindex::not_active;
use super::{Admin, Desk};
use crate::buffer::Pending;
use crate::envelope::stamp::rfc_3339;
use crate::envelope::{WebhookKey, peek};
use crate::page::key_of;
use crate::registry::{PageRow, Site};
use crate::source::confluence::{CALLER, PageTask, What};
use crate::store::catalog::Seen;
use json::{Dead, Event, Explained, Fetch, Known, Stored, Waiting};

/// Messages of a queue that are looked at: some tens of megabytes that are read and dropped.
const WAITING_MAX: usize = 10_000;
/// Dead letters of a queue that are looked at: on SQS, a hundred calls.
const LETTERS_MAX: usize = 1_000;

pub fn routes() -> Router<Admin> {
    Router::new().route("/v1/sites/{site}/pages/{page}", get(explain))
}

async fn explain(
    State(admin): State<Admin>,
    headers: HeaderMap,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Explained>, Failure> {
    let caller = admin.caller(&headers)?;
    let page_links = admin.page_links()?;
    let Path((site, page)) = path.map_err(|_| invalid("the path must be UTF-8, percent-encoded where needed"))?;
    let site = page_links.site(&caller, &site_id(Ok(Path(site)))?).await?;
    let page: u64 = page.parse().map_err(|_| invalid("the page must be named by its id, a number"))?;
    Ok(Json(admin.explain_page(page_links, &site, page).await?))
}

impl Admin {
    async fn explain_page(&self, page_links: &PageLinks, site: &Site, page: u64) -> Result<Explained, Failure> {
        let key = key_of(&site.id, page);
        // What moves is looked at from its beginning to its end, so that nothing is missed that moves on meanwhile.
        let waiting = page_links.waiting(site, page, &key).await?;
        let row = page_links.registry.page(&site.id, page).await?;
        let dead = self.dead(page_links, site, page, &key).await?;
        let stored = self.shelf.find(&key).await?.filter(|seen| seen.account == site.account);
        let status = page_links.reindex_status(site).await?;
        let mut explained = Explained {
            site: site.id.to_string(),
            not_active: not_active(site),
            page: page.to_string(),
            webhook_key: key.to_string(),
            account_id: site.account.to_string(),
            known: row.as_ref().map(known),
            stored: stored.as_ref().map(stored_as),
            waiting,
            dead,
            last_reindex: status.runs.into_iter().next(),
            next_reindex: status.next,
            advice: String::new(),
        };
        explained.advice = advice::of(&explained, row.as_ref().is_some_and(is_unread));
        Ok(explained)
    }

    async fn dead(&self, page_links: &PageLinks, site: &Site, page: u64, key: &WebhookKey) -> Result<Dead, Failure> {
        let of_tasks =
            async |desk: &Desk| desk.naming(LETTERS_MAX, |letter| is_task_of(&letter.body, site, page)).await;
        let (pages_queue, walked) = of_tasks(&page_links.letters).await?;
        let mut dead = Dead { pages_queue, looked_at: walked.seen, complete: walked.complete, ..Dead::default() };
        match &self.dead_letters {
            Some(desk) => {
                let (letters, walked) = desk.naming(LETTERS_MAX, |letter| is_set_of(&letter.body, key)).await?;
                dead.buffer = letters;
                dead.looked_at += walked.seen;
                dead.complete &= walked.complete;
            }
            // An embedded buffer that runs elsewhere.
            None => dead.complete = false,
        }
        Ok(dead)
    }
}

impl PageLinks {
    async fn waiting(&self, site: &Site, page: u64, key: &WebhookKey) -> Result<Waiting, Failure> {
        let (pages_queue, complete) = count(&self.waiting_tasks, |body| is_task_of(body, site, page)).await?;
        let mut waiting = Waiting { pages_queue, buffer: None, complete };
        if let Some(pending) = &self.waiting_sets {
            let (buffer, complete) = count(pending, |body| is_set_of(body, key)).await?;
            waiting.buffer = buffer;
            waiting.complete &= complete;
        }
        Ok(waiting)
    }
}

async fn count(
    pending: &Pending,
    mut is_one: impl FnMut(&[u8]) -> bool + Send,
) -> Result<(Option<u64>, bool), Failure> {
    let mut count = 0;
    let looked = pending.look(WAITING_MAX, |body| count += u64::from(is_one(body))).await?;
    Ok(looked.map_or((None, true), |looked| (Some(count), looked.complete)))
}

/// However old it is.
fn is_task_of(body: &[u8], site: &Site, page: u64) -> bool {
    let task = PageTask::decode(&Bytes::copy_from_slice(body), 0);
    task.is_ok_and(|task| task.site == site.id && matches!(task.what, What::Page { page: its, .. } if its == page))
}

/// A key of page links holds nothing that JSON would escape, and stands whole between quotes.
fn is_set_of(body: &[u8], key: &WebhookKey) -> bool {
    let named = format!("\"{key}\"");
    let holds = body.windows(named.len()).any(|window| window == named.as_bytes());
    holds && peek(body).by.as_deref() == Some(CALLER)
}

/// Was its last event not followed by a read?
fn is_unread(row: &PageRow) -> bool {
    let fetched_ms = row.last_fetch.as_ref().map(|fetched| fetched.at_ms);
    row.last_event.is_some_and(|(_, at_ms)| fetched_ms.is_none_or(|fetched_ms| fetched_ms < at_ms))
}

fn known(row: &PageRow) -> Known {
    Known {
        title: row.title.clone(),
        space: row.space_key.clone(),
        version: row.version,
        status: row.status.map(|status| status.as_str().to_owned()),
        last_event: row.last_event.map(|(event, at_ms)| Event { name: event.as_str().to_owned(), at: rfc_3339(at_ms) }),
        last_fetch: row
            .last_fetch
            .as_ref()
            .map(|fetched| Fetch { at: rfc_3339(fetched.at_ms), result: fetched.result.clone() }),
    }
}

fn stored_as(seen: &Seen) -> Stored {
    Stored {
        version: seen.version.order(),
        read_at: rfc_3339(seen.version.time_ms()),
        expires_at: seen.expires_at_ms.map(rfc_3339),
        payload_bytes: seen.payload_bytes,
        id: seen.id.clone(),
    }
}
