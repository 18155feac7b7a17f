//! The second step of a full run: pages that are known, and that the list did not name. Each is asked for by id.

use std::collections::HashMap;

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
    /// It is not there, or not to be seen.
    Gone {
        row: PageRow,
        at_ms: u64,
    },
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
        let (mut made, mut gone) = (Vec::new(), Vec::new());
        while let Some(asked) = asking.next().await {
            match asked? {
                Asked::Made(one) => made.push(one),
                Asked::Gone { row, at_ms } => gone.push((row, at_ms)),
                // One page that can't be read must not keep the others from being swept.
                Asked::Unusable { page, fetched } => {
                    tracing::warn!(site = %run.site, page, why = fetched.result, "a page can't be read; it stays as it is");
                    self.registry.note_failed(&run.site, page, &fetched).await?;
                }
            }
        }
        made.extend(self.made_gone_all(target, gone).await?);
        let rows = self.put(target, made, put).await?;
        self.note_put(target, run, rows, put).await?;
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
        Ok(made.map_or(Asked::Gone { row, at_ms }, Asked::Made))
    }

    /// Envelopes that drop these pages, by the highest version that is known of each by now: it may have risen while they
    /// were asked for.
    async fn made_gone_all(&self, target: &Target, gone: Vec<(PageRow, u64)>) -> Result<Vec<Made>, Trouble> {
        let ids: Vec<u64> = gone.iter().map(|(row, _)| row.page).collect();
        let mut now: HashMap<u64, PageRow> =
            self.registry.pages(&target.site.id, &ids).await?.into_iter().map(|row| (row.page, row)).collect();
        let made = gone.into_iter().map(|(row, at_ms)| {
            let row = now.remove(&row.page).unwrap_or(row);
            self.made_gone(target, row, at_ms)
        });
        Ok(made.collect())
    }
}
