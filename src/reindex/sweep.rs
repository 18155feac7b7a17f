//! The second step of a full run: pages that are known, and that the list did not name. Each is asked for by id.

use futures_util::{StreamExt, stream};

use super::carry::{Progress, Target};
use super::judge::Bookmark;
use super::put::{Made, Put, Sighting};
use super::trouble::Trouble;
use super::worker::Reindexer;
use crate::confluence::FetchError;
use crate::registry::{Fetched, PageRow, Run};

/// Pages that one step asks for: what a crash repeats, and what is held in memory.
const SWEPT_AT_ONCE: usize = 20;
/// ... and how many of them at the same time, where the site's limits allow it.
const ASKED_AT_ONCE: usize = 4;

/// What asking for a page has come to.
enum Asked {
    Made(Made),
    /// It can't be read; it stays as it is.
    Unusable {
        page: u64,
        fetched: Fetched,
    },
}

impl Reindexer {
    /// Asks for the next pages that the list did not name. What is there takes its status, what is not is dropped.
    pub(super) async fn sweep_some(&self, target: &Target, run: &Run, put: &mut Put) -> Result<Progress, Trouble> {
        let bookmark = Bookmark::read(run.cursor.as_deref());
        let unmet = self.registry.pages_unmet(&run.site, run.number, bookmark.swept_to, SWEPT_AT_ONCE).await?;
        let Some(last) = unmet.last().map(|row| row.page) else { return Ok(Progress::Done(run.clone())) };
        let swept = unmet.len() as u64;
        let ask = |row: PageRow| self.ask_about(target, row);
        let mut asking = stream::iter(unmet).map(ask).buffered(ASKED_AT_ONCE);
        let mut made = Vec::new();
        while let Some(asked) = asking.next().await {
            match asked? {
                Asked::Made(one) => made.push(one),
                // One page that can't be read must not keep the others from being swept.
                Asked::Unusable { page, fetched } => {
                    tracing::warn!(site = %run.site, page, why = fetched.result, "a page can't be read; it stays as it is");
                    self.registry.note_failed(&run.site, page, &fetched).await?;
                }
            }
        }
        let mut rows = self.put(target, made, put).await?;
        rows.iter_mut().for_each(|row| row.sweep = run.number);
        self.registry.note_read(&run.site, &rows).await?;
        let bookmark = Bookmark { swept_to: last, ..bookmark };
        Ok(Progress::On(Run { cursor: Some(bookmark.write()), pages_swept: run.pages_swept + swept, ..run.clone() }))
    }

    async fn ask_about(&self, target: &Target, row: PageRow) -> Result<Asked, Trouble> {
        let asked_ms = self.clock().now_ms();
        let (found, at_ms) = match self.ask_for_page(&target.access, row.page).await {
            Ok(answer) => answer,
            Err(FetchError::Unusable(result)) => {
                return Ok(Asked::Unusable { page: row.page, fetched: Fetched { at_ms: asked_ms, result } });
            }
            Err(error) => return Err(error.into()),
        };
        let made = match found {
            Some(page) => self.made(target, Sighting { page, at_ms }).await?,
            None => None,
        };
        Ok(Asked::Made(made.unwrap_or_else(|| self.made_gone(target, row, at_ms))))
    }
}
