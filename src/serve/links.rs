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

use serde::Serialize;

use super::{Page, Ready, Serve, Text, matches};
use crate::auth::Caller;
use crate::envelope::stamp::rfc_3339;
use crate::page::{Archived, IndexFacts, StoredPage, index_key_of, key_of};
use crate::problem::{Code, Problem};
use crate::store::ReadError;

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
        let mut found = Vec::with_capacity(keys.len());
        for (key, one) in keys.iter().zip(self.serve.find(&keys).await) {
            found.push(one.map_err(|error| self.serve.unreadable(key, &error))?);
        }
        let mut found = found.iter().map(|one| one.get().filter(|ready| caller.accounts.allow(&ready.account)));
        let entry = found.next().flatten().ok_or_else(super::not_found)?;
        let index = found.next().flatten();

        let not_ours = |key| self.serve.unreadable(key, &ReadError::Unreadable("not of page links".to_owned()));
        let page = StoredPage::parse(entry.payload()).ok_or_else(|| not_ours(&keys[0]))?;
        if !asked.statuses().map_or(self.archived.shows(page.status), |asked| asked.contains(&page.status)) {
            let status = page.status.as_str();
            let detail = format!("the page is {status}: its links are told to those who ask with status={status}");
            return Err(Problem::new(Code::NotFound, detail));
        }
        let from = cursor.map_or(Ok(0), |cursor| place(cursor, &page))?;
        let kept = page.links(asked.kinds(), from, asked.limit()).ok_or_else(|| not_ours(&keys[0]))?;
        let facts = match index {
            Some(index) => IndexFacts::parse(index.payload()).ok_or_else(|| not_ours(&keys[1]))?,
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
        Ok(self.page(entry, index, text, if_none_match))
    }

    fn index(&self, facts: IndexFacts) -> Index {
        let lag_ms = facts.last_reindex_ms.map(|at| self.serve.clock.now_ms().saturating_sub(at));
        Index {
            complete: facts.complete,
            last_reindex_at: facts.last_reindex_ms.map(rfc_3339),
            lag_seconds: lag_ms.map(|ms| ms / 1_000),
        }
    }

    fn page(&self, entry: &Ready, index: Option<&Ready>, text: String, if_none_match: Option<&str>) -> Page {
        let opaque = match index {
            Some(index) => format!("\"{}-{}\"", version(entry), version(index)),
            None => format!("\"{}-0\"", version(entry)),
        };
        let not_modified = if_none_match.is_some_and(|header| matches(header, opaque.as_bytes()));
        let modified = later(entry.text(Text::LastModified), index.map(|index| index.text(Text::LastModified)));
        let max_age_seconds = self.serve.max_age_seconds(entry.expires_at_ms);
        entry.retold(&format!("W/{opaque}"), modified, text, not_modified, max_age_seconds)
    }
}

/// The text of an entry's tag, without its quotes.
fn version(ready: &Ready) -> &str {
    std::str::from_utf8(ready.text(Text::ETag)).unwrap_or_default().trim_matches('"')
}

/// The later of two HTTP dates.
fn later<'a>(one: &'a [u8], other: Option<&'a [u8]>) -> &'a [u8] {
    let at = |date| httpdate::parse_http_date(std::str::from_utf8(date).ok()?).ok();
    other.filter(|other| at(*other) > at(one)).unwrap_or(one)
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
