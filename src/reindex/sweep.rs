//! The second step of a full run: pages that are known, and that the list did not name. Each is asked for by id.

use futures_util::{StreamExt, stream};

use super::carry::{Progress, Target};
use super::judge::Bookmark;
use super::put::{Put, Sighting};
use super::trouble::Trouble;
use super::worker::Reindexer;
use crate::confluence::{FetchError, RemotePage};
use crate::registry::{Fetched, PageRow, Run};

/// Pages that one step asks for: what a crash repeats, and what is held in memory.
const SWEPT_AT_ONCE: usize = 20;
/// ... and how many of them at the same time, where the site's limits allow it.
const ASKED_AT_ONCE: usize = 4;

/// What asking for a page has come to.
struct Asked {
    row: PageRow,
    at_ms: u64,
    answer: Result<Option<RemotePage>, FetchError>,
}

impl Reindexer {
    /// Asks for the next pages that the list did not name. What is there takes its status, what is not is dropped.
    pub(super) async fn sweep_some(&self, target: &Target, run: &Run, put: &mut Put) -> Result<Progress, Trouble> {
        let bookmark = Bookmark::read(run.cursor.as_deref());
        let unmet = self.registry.pages_unmet(&run.site, run.number, bookmark.swept_to, SWEPT_AT_ONCE).await?;
        let Some(last) = unmet.last().map(|row| row.page) else { return Ok(Progress::Done(run.clone())) };
        let swept = unmet.len() as u64;
        let asked: Vec<Asked> =
            stream::iter(unmet).map(|row| self.ask(target, row)).buffered(ASKED_AT_ONCE).collect().await;

        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for Asked { row, at_ms, answer } in asked {
            match answer {
                Ok(Some(page)) => there.push(Sighting { page, at_ms }),
                Ok(None) => gone.push((row, at_ms)),
                // One page that can't be read must not keep the others from being swept.
                Err(FetchError::Unusable(why)) => {
                    tracing::warn!(site = %run.site, page = row.page, why, "a page could not be read; it stays as it is");
                    let fetched = Fetched { at_ms, result: why };
                    self.registry.note_failed(&run.site, row.page, &fetched).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut rows = self.put(target, there, put).await?;
        rows.extend(self.drop_pages(target, gone).await?);
        rows.iter_mut().for_each(|row| row.sweep = run.number);
        self.registry.note_read(&run.site, &rows).await?;
        let bookmark = Bookmark { swept_to: last, ..bookmark };
        Ok(Progress::On(Run { cursor: Some(bookmark.write()), pages_swept: run.pages_swept + swept, ..run.clone() }))
    }

    async fn ask(&self, target: &Target, row: PageRow) -> Asked {
        let at_ms = self.clock().now_ms();
        let answer = self.confluence.page(&target.access, row.page).await;
        Asked { row, at_ms, answer }
    }
}
