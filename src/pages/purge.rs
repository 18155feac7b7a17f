//! A site that left for good goes, with all that is stored of its pages; and so does what is known of pages that are gone.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::UNINSTALLED_RETENTION;
use super::worker::{Not, Pages};
use crate::envelope::SiteId;
use crate::envelope::limits::HORIZON;
use crate::page;
use crate::registry::{PageRow, Site, SiteState};
use crate::source::confluence::ReindexScope;

/// How often it is looked for what is due, and how soon again where that failed.
const PASS_EVERY: Duration = Duration::from_secs(86_400);
const PASS_RETRY: Duration = Duration::from_secs(10 * 60);
/// Sites, and pages of one site, that are handled at once.
const SITES_AT_ONCE: usize = 100;
const PAGES_AT_ONCE: usize = 100;
/// Rows of pages that are gone are kept for as long as a late event may come, and a little more.
const GONE_ROWS_KEPT: Duration = HORIZON.saturating_add(Duration::from_secs(86_400));

impl Pages {
    /// Once a day, until `stop`.
    pub(super) async fn look_after_sites(&self, stop: &CancellationToken) {
        loop {
            let Some(passed) = stop.run_until_cancelled(self.pass()).await else { return };
            let wait = match passed {
                Ok(()) => PASS_EVERY,
                Err(not) => {
                    tracing::warn!(why = not.why(), "sites that left can't be purged now; it is tried again");
                    PASS_RETRY
                }
            };
            if stop.run_until_cancelled(sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    async fn pass(&self) -> Result<(), Not> {
        let mut after = None;
        loop {
            let sites = self.registry.sites(after.as_ref(), SITES_AT_ONCE).await?;
            let Some(last) = sites.last() else { break };
            after = Some(last.id.clone());
            for site in &sites {
                self.purge_if_due(&site.id).await?;
            }
        }
        let before_ms = self.clock().now_ms().saturating_sub(GONE_ROWS_KEPT.as_millis() as u64);
        let rows = self.registry.prune(before_ms).await?;
        if rows > 0 {
            tracing::info!(rows, "what was known of pages that are long gone is forgotten");
        }
        Ok(())
    }

    /// Deletes what is stored of a site, and then forgets it: where an operator removed it, at once; where it uninstalled
    /// the app, once the retention is over. It may be cut off at any point, and goes on.
    pub(super) async fn purge_if_due(&self, site: &SiteId) -> Result<(), Not> {
        let (mut after, mut pages) = (0, 0);
        loop {
            // Asked each time: it may join again meanwhile.
            let Some(site) = self.registry.site(site).await? else { return Ok(()) };
            if !is_due(&site, self.clock().now_ms()) {
                return self.mend_if_begun(&site, pages).await;
            }
            let rows = self.registry.pages_after(&site.id, after, PAGES_AT_ONCE).await?;
            let Some(last) = rows.last() else {
                self.put(page::index_dropped(self.stamp(), &site.id, &site.account)).await?;
                self.registry.forget_site(&site.id).await?;
                tracing::info!(site = %site.id, pages, "a site has left: what was stored of it is deleted");
                return Ok(());
            };
            after = last.page;
            // Before the first is deleted: if this is cut off, and the site joins again, it is read as a whole.
            self.registry.forget_success(&site.id).await?;
            pages += self.drop_pages(&site, rows).await?;
        }
    }

    async fn drop_pages(&self, site: &Site, rows: Vec<PageRow>) -> Result<usize, Not> {
        let rows: Vec<PageRow> = rows.into_iter().filter(PageRow::may_be_stored).collect();
        let now_ms = self.clock().now_ms();
        let drop_one =
            |row: &PageRow| page::dropped(self.stamp(), &site.id, &site.account, row.page, row.version, now_ms);
        for appended in join_all(rows.iter().map(|row| self.road.append(drop_one(row)))).await {
            appended.map_err(Not::buffer)?;
        }
        let (count, gone) = (rows.len(), rows.into_iter().map(|row| row.gone(now_ms)).collect::<Vec<_>>());
        self.registry.note_read(&site.id, &gone).await?;
        Ok(count)
    }

    /// It has joined again while its pages were being deleted: all of it is read anew.
    async fn mend_if_begun(&self, site: &Site, pages: usize) -> Result<(), Not> {
        if pages > 0 {
            self.registry.ask_for_run(&site.id, ReindexScope::Full, self.clock().now_ms()).await?;
        }
        Ok(())
    }
}

/// [`SiteState::REMOVED`] is since long ago.
fn is_due(site: &Site, now_ms: u64) -> bool {
    let SiteState::Uninstalled { since_ms } = site.state else { return false };
    now_ms.saturating_sub(since_ms) >= UNINSTALLED_RETENTION.as_millis() as u64
}
