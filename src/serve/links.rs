//! The links of a page: some of what the store holds under its key, and how fresh the index of its site is.
//!
//! ```json
//! {"page":{...},"links":[{...}],"next":null,
//!  "index":{"complete":true,"lastReindexAt":"2026-01-01T00:00:00Z","lagSeconds":60}}
//! ```
//!
//! Whoever may get a page's key may get its links, and nobody else learns that there is such a page. `page` and each link
//! are the bytes that are stored. A page that is archived or in the trash is told to those who ask for its status; where
//! `confluence.archived` is `keep`, one that is archived is told to everybody.
//!
//! *A list in parts is one list.* `next` holds for the list that it was made of. When the page has other links since, it
//! is refused ([`Code::CursorOutdated`]) and the list is to be begun anew; a read that has found the same links changes
//! nothing. So no link is passed over, and none is told twice.
//!
//! The ETag is weak: it stands for the page and the index as they are stored. `lagSeconds` grows with each second, and
//! changes nothing that would be worth another answer: whoever has been answered 304 can count it from `lastReindexAt`.

mod request;

use std::time::Instant;

use serde::Serialize;

use super::{Page, Serve, matches};
use crate::auth::Caller;
use crate::envelope::WebhookKey;
use crate::envelope::stamp::rfc_3339;
use crate::page::{Archived, IndexFacts, StoredPage, index_key_of, key_of};
use crate::problem::{Code, Problem};
use crate::store::{Entry, ReadError};
use crate::telemetry::metrics::StoreCall;

use request::Cursor;
pub use request::{LINKS_DEFAULT, LINKS_MAX, LinksRequest};

/// The mover, where page links are on. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    serve: Serve,
    archived: Archived,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    complete: bool,
    last_reindex_at: Option<String>,
    lag_seconds: Option<u64>,
}

impl Links {
    pub fn new(serve: Serve, archived: Archived) -> Self {
        Self { serve, archived }
    }

    /// The caller of an `Authorization` header, if it may get.
    pub fn authorize(&self, authorization: Option<&str>) -> Result<Caller, Problem> {
        self.serve.authorize(authorization)
    }

    /// Some of the links of a page. `if_none_match` is the header's value, if any.
    pub async fn get(
        &self,
        caller: &Caller,
        asked: &LinksRequest,
        if_none_match: Option<&str>,
    ) -> Result<Page, Problem> {
        let cursor = asked.cursor()?;
        let keys = [key_of(asked.site(), asked.page()), index_key_of(asked.site())];
        let begin = Instant::now();
        let mut found = self.serve.reader.get_many(&keys).await.into_iter();
        self.serve.metrics.store_call(StoreCall::Read, begin.elapsed());
        let mut next = |key: &WebhookKey| {
            let found = found.next().unwrap_or(Ok(None)).map_err(|error| self.serve.unreadable(key, &error))?;
            Ok::<_, Problem>(found.filter(|entry| caller.accounts.allow(&entry.account)))
        };
        let entry = next(&keys[0])?.ok_or_else(super::nothing)?;
        let index = next(&keys[1])?;

        let not_ours = |key| self.serve.unreadable(key, &ReadError::Unreadable("not of page links".to_owned()));
        let page = StoredPage::parse(&entry.payload).ok_or_else(|| not_ours(&keys[0]))?;
        if !asked.statuses().map_or(self.archived.shows(page.status), |asked| asked.contains(&page.status)) {
            let status = page.status.as_str();
            let detail = format!("the page is {status}: its links are told to those who ask with status={status}");
            return Err(Problem::new(Code::NotFound, detail));
        }
        let from = cursor.map_or(Ok(0), |cursor| place(cursor, &page))?;
        let kept = page.links(asked.kinds(), from, asked.limit()).ok_or_else(|| not_ours(&keys[0]))?;
        let facts = match &index {
            Some(index) => IndexFacts::parse(&index.payload).ok_or_else(|| not_ours(&keys[1]))?,
            None => IndexFacts::default(),
        };
        let next = kept.next.map(|place| asked.cursor_at(place, page.fingerprint()));
        let text = format!(
            r#"{{"page":{},"links":[{}],"next":{},"index":{}}}"#,
            page.page,
            kept.links.join(","),
            json(&next),
            json(&self.index(facts))
        );
        Ok(self.page(entry, index.as_ref(), text, if_none_match))
    }

    fn index(&self, facts: IndexFacts) -> Index {
        let lag_ms = facts.last_reindex_ms.map(|at| self.serve.clock.now_ms().saturating_sub(at));
        Index {
            complete: facts.complete,
            last_reindex_at: facts.last_reindex_ms.map(rfc_3339),
            lag_seconds: lag_ms.map(|ms| ms / 1_000),
        }
    }

    fn page(&self, entry: Entry, index: Option<&Entry>, text: String, if_none_match: Option<&str>) -> Page {
        let of_index = index.map_or_else(|| "0".to_owned(), |index| index.version.to_string());
        let opaque = format!("\"{}-{of_index}\"", entry.version);
        let page = self.serve.page(entry, None);
        Page {
            not_modified: if_none_match.is_some_and(|header| matches(header, &opaque)),
            etag: format!("W/{opaque}"),
            modified_ms: page.modified_ms.max(index.map_or(0, |index| index.version.time_ms())),
            payload: text.into(),
            ..page
        }
    }
}

/// Where the list goes on.
fn place(cursor: Cursor, page: &StoredPage<'_>) -> Result<usize, Problem> {
    if cursor.list == page.fingerprint() {
        return Ok(cursor.place);
    }
    let detail = "the page has other links than when the list was begun: begin it anew, without cursor";
    Err(Problem::new(Code::CursorOutdated, detail))
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain texts and numbers are always JSON")
}
