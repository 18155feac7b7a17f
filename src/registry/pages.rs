//! Pages: what is known of each, without its links, which lie in the store.
//!
//! Three things come to a row, each in any order: what an event told, what a fetch that succeeded has read, and how the
//! last fetch ended. Each has its own time, and each is overwritten by a later one of its kind alone: a fetch that failed
//! never hides what an earlier one, which ended after it, has read.

use std::collections::BTreeMap;

use super::database::{Database, Fault, Row, Sql, Value, clipped};
use super::{EventName, Fetched, PageRow, Registry, SiteId, Status, TEXT_CHARS_MAX, Unavailable};

/// Rows that one statement reads or writes.
const BATCH_MAX: usize = 100;
/// Confluence's keys of spaces have at most 255 characters.
const SPACE_KEY_CHARS_MAX: usize = 255;
/// Rows that one statement of [`Registry::prune`] removes.
const PRUNE_MAX: u64 = 1_000;

const COLUMNS: &str =
    "page, title, space_id, space_key, version, status, event, event_ms, fetch_ms, fetch_result, sweep";

/// Parameters of a row in [`Registry::note_read`], beside the site.
const READ_PARAMETERS: usize = 9;
/// What was read replaces what was read before; how the fetch ended replaces how one before it ended. A version never
/// falls: a list can be older than a page that was read before it, and a page is dropped by its highest version.
const ON_READ: &str = "ON CONFLICT (site, page) DO UPDATE SET \
    title = CASE WHEN excluded.read_ms >= COALESCE(pages.read_ms, 0) THEN excluded.title ELSE pages.title END, \
    space_id = CASE WHEN excluded.read_ms >= COALESCE(pages.read_ms, 0) THEN excluded.space_id ELSE pages.space_id END, \
    space_key = CASE WHEN excluded.read_ms >= COALESCE(pages.read_ms, 0) THEN excluded.space_key ELSE pages.space_key END, \
    version = CASE WHEN excluded.version > pages.version THEN excluded.version ELSE pages.version END, \
    status = CASE WHEN excluded.read_ms >= COALESCE(pages.read_ms, 0) THEN excluded.status ELSE pages.status END, \
    read_ms = CASE WHEN excluded.read_ms >= COALESCE(pages.read_ms, 0) THEN excluded.read_ms ELSE pages.read_ms END, \
    fetch_result = CASE WHEN excluded.fetch_ms >= COALESCE(pages.fetch_ms, 0) THEN excluded.fetch_result \
        ELSE pages.fetch_result END, \
    fetch_ms = CASE WHEN excluded.fetch_ms >= COALESCE(pages.fetch_ms, 0) THEN excluded.fetch_ms ELSE pages.fetch_ms END, \
    sweep = CASE WHEN excluded.sweep > pages.sweep THEN excluded.sweep ELSE pages.sweep END";
/// Parameters of a row in [`Registry::note_on_its_way`], beside the site.
const WAY_PARAMETERS: usize = 3;
/// Changes what may be behind what the road is about to have, and nothing else. A row that was brought up to a version
/// which the road may not have is not one that was read well: whoever finds it so reads the page again.
const ON_ITS_WAY: &str = "ON CONFLICT (site, page) DO UPDATE SET \
    version = CASE WHEN excluded.version > pages.version THEN excluded.version ELSE pages.version END, \
    fetch_result = excluded.fetch_result, \
    fetch_ms = CASE WHEN excluded.fetch_ms >= COALESCE(pages.fetch_ms, 0) THEN excluded.fetch_ms ELSE pages.fetch_ms END \
    WHERE excluded.version > pages.version \
    OR (pages.status IS NULL AND excluded.fetch_ms >= COALESCE(pages.fetch_ms, 0))";
const NOTE_EVENT: &str = "INSERT INTO pages (site, page, title, version, sweep, event, event_ms) \
    VALUES ($1, $2, '', 0, 0, $3, $4) ON CONFLICT (site, page) DO UPDATE SET event = excluded.event, \
    event_ms = excluded.event_ms WHERE excluded.event_ms >= COALESCE(pages.event_ms, 0)";
const NOTE_SITE_EVENT: &str =
    "UPDATE sites SET last_event_ms = $2 WHERE site = $1 AND (last_event_ms IS NULL OR last_event_ms < $2)";
const NOTE_FAILED: &str = "INSERT INTO pages (site, page, title, version, sweep, fetch_ms, fetch_result) \
    VALUES ($1, $2, '', 0, 0, $3, $4) ON CONFLICT (site, page) DO UPDATE SET fetch_ms = excluded.fetch_ms, \
    fetch_result = excluded.fetch_result WHERE excluded.fetch_ms >= COALESCE(pages.fetch_ms, 0)";
const PRUNE: &str = "DELETE FROM pages WHERE (site, page) IN (SELECT site, page FROM pages WHERE status IS NULL AND \
    COALESCE(event_ms, 0) < $1 AND COALESCE(fetch_ms, 0) < $1 AND COALESCE(read_ms, 0) < $1 LIMIT $2)";

impl Registry {
    pub async fn page(&self, site: &SiteId, page: u64) -> Result<Option<PageRow>, Unavailable> {
        Ok(self.pages(site, &[page]).await?.pop())
    }

    /// Several pages of one site, in any order; those that are not known are left out.
    pub async fn pages(&self, site: &SiteId, pages: &[u64]) -> Result<Vec<PageRow>, Unavailable> {
        let database = self.database().await?;
        let mut found = Vec::with_capacity(pages.len());
        for some in pages.chunks(BATCH_MAX) {
            let names: Vec<String> = (2..some.len() + 2).map(|n| format!("${n}")).collect();
            let rest = format!("page IN ({})", names.join(", "));
            found.extend(select(database, site, &rest, some.iter().map(|page| (*page).into()).collect()).await?);
        }
        Ok(found)
    }

    /// Makes the row where there is none. Also sets the site's `last_event_ms`.
    pub async fn note_event(&self, site: &SiteId, page: u64, event: EventName, at_ms: u64) -> Result<(), Unavailable> {
        let noting = async {
            let mut transaction = self.database().await?.begin().await?;
            transaction.execute(NOTE_SITE_EVENT, vec![site.into(), at_ms.into()]).await?;
            let values = vec![site.into(), page.into(), event.as_str().into(), at_ms.into()];
            transaction.execute(NOTE_EVENT, values).await?;
            transaction.commit().await
        };
        of_a_site(noting.await)
    }

    /// What was read of pages; makes the rows where there are none. Leaves `last_event` as it is. An older fetch never
    /// overwrites a later one; only `version` and `sweep` never fall, whichever fetch is older.
    pub async fn note_read(&self, site: &SiteId, rows: &[PageRow]) -> Result<(), Unavailable> {
        let database = self.database().await?;
        let rows: Vec<PageRow> = once_each(rows).into_values().collect();
        for some in rows.chunks(BATCH_MAX) {
            let mut values = vec![site.into()];
            some.iter().for_each(|row| values.extend(read_values(row)));
            of_a_site(database.write(note_read(some.len()), values).await.map(|_| ()))?;
        }
        Ok(())
    }

    /// What is about to be put on the road, before it is: whoever drops one of these pages from now on drops it by a
    /// version that is not below the one put. That a page is there is noted by [`Registry::note_read`] alone.
    pub async fn note_on_its_way(&self, site: &SiteId, rows: &[PageRow]) -> Result<(), Unavailable> {
        let database = self.database().await?;
        let rows: Vec<PageRow> = once_each(rows).into_values().collect();
        for some in rows.chunks(BATCH_MAX) {
            let mut values = vec![site.into()];
            some.iter().for_each(|row| values.extend([row.page.into(), row.version.into(), fetched_ms(row).into()]));
            of_a_site(database.write(note_on_its_way(some.len()), values).await.map(|_| ()))?;
        }
        Ok(())
    }

    /// A fetch that failed: only `last_fetch` changes; makes the row where there is none.
    pub async fn note_failed(&self, site: &SiteId, page: u64, fetched: &Fetched) -> Result<(), Unavailable> {
        let result = clipped(&fetched.result, TEXT_CHARS_MAX);
        let values = vec![site.into(), page.into(), fetched.at_ms.into(), result.into()];
        of_a_site(self.database().await?.write(NOTE_FAILED, values).await.map(|_| ()))
    }

    /// Known pages that are there (status is some) in a space, from after `after`, by id.
    pub async fn pages_of_space(
        &self,
        site: &SiteId,
        space_key: Option<&str>,
        space_id: Option<u64>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<PageRow>, Unavailable> {
        let rest = "page > $2 AND status IS NOT NULL AND (space_key = $3 OR space_id = $4) ORDER BY page LIMIT $5";
        let key = space_key.map(|key| clipped(key, SPACE_KEY_CHARS_MAX));
        let values = vec![after.into(), key.into(), space_id.into(), limit.into()];
        select(self.database().await?, site, rest, values).await
    }

    /// Pages of which something may be stored ([`PageRow::may_be_stored`]), and that no sweep since number `sweep` has met,
    /// from after `after`, by id.
    pub async fn pages_unmet(
        &self,
        site: &SiteId,
        sweep: u64,
        after: u64,
        limit: usize,
    ) -> Result<Vec<PageRow>, Unavailable> {
        let rest = "page > $2 AND (status IS NOT NULL OR (version > 0 AND COALESCE(fetch_result, '') <> $5)) \
            AND sweep < $3 ORDER BY page LIMIT $4";
        let values = vec![after.into(), sweep.into(), limit.into(), Fetched::NOT_FOUND.into()];
        select(self.database().await?, site, rest, values).await
    }

    /// All pages of a site, from after `after`, by id.
    pub async fn pages_after(&self, site: &SiteId, after: u64, limit: usize) -> Result<Vec<PageRow>, Unavailable> {
        let values = vec![after.into(), limit.into()];
        select(self.database().await?, site, "page > $2 ORDER BY page LIMIT $3", values).await
    }

    /// How many pages of a site are there (status is some).
    pub async fn pages_known(&self, site: &SiteId) -> Result<u64, Unavailable> {
        let count = "SELECT COUNT(*) AS known FROM pages WHERE site = $1 AND status IS NOT NULL";
        let row = self.database().await?.read_one(count, vec![site.into()]).await?;
        Ok(row.map_or(Ok(0), |row| row.number("known"))?)
    }

    /// Rows of pages that are gone (status none) and whose last event and fetch lie before `before_ms` go. How many.
    pub async fn prune(&self, before_ms: u64) -> Result<u64, Unavailable> {
        let database = self.database().await?;
        let mut pruned = 0;
        loop {
            let some = database.write(PRUNE, vec![before_ms.into(), PRUNE_MAX.into()]).await?;
            pruned += some;
            if some < PRUNE_MAX {
                return Ok(pruned);
            }
        }
    }
}

/// What is written for a site that is gone has no effect, and is no error.
fn of_a_site(result: Result<(), Fault>) -> Result<(), Unavailable> {
    match result {
        Ok(()) | Err(Fault::NoSuchSite) => Ok(()),
        Err(Fault::Unavailable(error)) => Err(error),
    }
}

/// The rows of a site (`$1`) of which `rest` holds.
async fn select(
    database: &Database,
    site: &SiteId,
    rest: &str,
    mut values: Vec<Value>,
) -> Result<Vec<PageRow>, Unavailable> {
    values.insert(0, site.into());
    let rows =
        database.read(Sql::Made(format!("SELECT {COLUMNS} FROM pages WHERE site = $1 AND {rest}")), values).await?;
    Ok(rows.iter().map(page_of).collect::<Result<_, _>>()?)
}

/// By page, as one statement can't write a row twice; in one order, so that two writers never wait for each other.
fn once_each(rows: &[PageRow]) -> BTreeMap<u64, PageRow> {
    let mut once = BTreeMap::new();
    for row in rows {
        let kept = once.entry(row.page).or_insert_with(|| row.clone());
        let (version, sweep) = (kept.version.max(row.version), kept.sweep.max(row.sweep));
        if fetched_ms(row) >= fetched_ms(kept) {
            *kept = row.clone();
        }
        (kept.version, kept.sweep) = (version, sweep);
    }
    once
}

fn fetched_ms(row: &PageRow) -> u64 {
    row.last_fetch.as_ref().map_or(0, |fetched| fetched.at_ms)
}

/// `$1` is the site; the rows follow.
fn note_read(rows: usize) -> Sql {
    let row = |i: usize| {
        let first = 2 + i * READ_PARAMETERS;
        let names: Vec<String> = (first..first + READ_PARAMETERS).map(|n| format!("${n}")).collect();
        // The start of the fetch stands twice.
        format!("($1, {}, ${})", names.join(", "), first + READ_PARAMETERS - 1)
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    Sql::Made(format!(
        "INSERT INTO pages (site, page, title, space_id, space_key, version, status, sweep, fetch_result, fetch_ms, \
         read_ms) VALUES {} {ON_READ}",
        rows.join(", ")
    ))
}

/// `$1` is the site; the rows follow.
fn note_on_its_way(rows: usize) -> Sql {
    let row = |i: usize| {
        let first = 2 + i * WAY_PARAMETERS;
        format!("($1, ${first}, '', ${}, 0, ${}, '{}')", first + 1, first + 2, Fetched::ON_ITS_WAY)
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    Sql::Made(format!(
        "INSERT INTO pages (site, page, title, version, sweep, fetch_ms, fetch_result) VALUES {} {ON_ITS_WAY}",
        rows.join(", ")
    ))
}

fn read_values(row: &PageRow) -> [Value; READ_PARAMETERS] {
    let result = row.last_fetch.as_ref().map_or("ok", |fetched| clipped(&fetched.result, TEXT_CHARS_MAX));
    [
        row.page.into(),
        clipped(&row.title, TEXT_CHARS_MAX).into(),
        row.space_id.into(),
        row.space_key.as_deref().map(|key| clipped(key, SPACE_KEY_CHARS_MAX)).into(),
        row.version.into(),
        row.status.map(status_name).into(),
        row.sweep.into(),
        result.into(),
        fetched_ms(row).into(),
    ]
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Current => "current",
        Status::Archived => "archived",
        Status::Trashed => "trashed",
    }
}

fn page_of(row: &Row) -> Result<PageRow, Fault> {
    let page = row.number("page")?;
    let status = match row.optional_text("status")?.as_deref() {
        None => None,
        Some("current") => Some(Status::Current),
        Some("archived") => Some(Status::Archived),
        Some("trashed") => Some(Status::Trashed),
        Some(_) => return Err(Unavailable(format!("the row of the page {page} has a strange status")).into()),
    };
    // An event that only a newer version knows tells this one nothing.
    let event = row.optional_text("event")?.and_then(|name| EventName::parse(&name));
    let fetched = row.optional_number("fetch_ms")?;
    Ok(PageRow {
        page,
        title: row.text("title")?,
        space_id: row.optional_number("space_id")?,
        space_key: row.optional_text("space_key")?,
        version: row.number("version")?,
        status,
        last_event: event.zip(row.optional_number("event_ms")?),
        last_fetch: match fetched {
            Some(at_ms) => Some(Fetched { at_ms, result: row.text("fetch_result")? }),
            None => None,
        },
        sweep: row.number("sweep")?,
    })
}
