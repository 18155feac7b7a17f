//! The first step of a run, again and again: a part of the site's list.

use super::carry::{Progress, Target};
use super::judge::{self, Bookmark, Part};
use super::put::{Put, Sighting};
use super::trouble::Trouble;
use super::worker::Reindexer;
use crate::confluence::{Listing, Order};
use crate::registry::{Phase, Run};
use crate::source::confluence::ReindexScope;

impl Reindexer {
    /// Reads a part of the list, puts what is to be put, and notes all of it. What it puts is added to `put` before it is.
    pub(super) async fn list_part(&self, target: &Target, run: &Run, put: &mut Put) -> Result<Progress, Trouble> {
        let bookmark = Bookmark::read(run.cursor.as_deref());
        let order = match run.scope {
            ReindexScope::Full => Order::Id,
            ReindexScope::SinceLast | ReindexScope::Since(_) => Order::LatestFirst,
        };
        let (listing, read_at_ms) = self.ask_for_list(&target.access, order, bookmark.next.as_deref()).await?;
        let named = self.registry.note_name(&target.site, listing.site_url.as_deref()).await?;
        let named = named.map(|site| target.named(site, self.archived));
        let target = named.as_ref().unwrap_or(target);
        let mut run = self.begun(run, &listing, read_at_ms).await?;
        let last = listing.pages.last().map(|page| page.id);
        let pages = bookmark.unseen(listing.pages);
        let (pages, all_older) = match run.watermark_ms {
            Some(watermark_ms) => judge::since(watermark_ms, pages),
            None => (pages, false),
        };
        let ids: Vec<u64> = pages.iter().map(|page| page.id).collect();
        let part = Part::new(pages, self.registry.pages(&run.site, &ids).await?);
        let met_new = part.names_new(run.number);
        run.pages_seen += part.pages.len() as u64;
        run.pages_changed += self.settle_part(target, &run, part, read_at_ms, put).await?;

        let ended = |run: Run| match run.scope {
            ReindexScope::Full => {
                Progress::On(Run { phase: Phase::Sweeping, cursor: Some(Bookmark::default().write()), ..run })
            }
            ReindexScope::SinceLast | ReindexScope::Since(_) => Progress::Done(run),
        };
        match listing.next.filter(|_| !all_older) {
            None => Ok(ended(run)),
            Some(next) => {
                let bookmark = Bookmark { last, ..bookmark }.turn(next, met_new).map_err(Trouble::Hopeless)?;
                Ok(Progress::On(Run { cursor: Some(bookmark.write()), ..run }))
            }
        }
    }

    /// The run, with its beginning and its watermark: they are known with the first part.
    async fn begun(&self, run: &Run, listing: &Listing, read_at_ms: u64) -> Result<Run, Trouble> {
        if run.began_ms.is_some() {
            return Ok(run.clone());
        }
        // The earlier one of both clocks: the next run begins rather too early than too late.
        let began_ms = listing.site_time_ms.unwrap_or(read_at_ms).min(read_at_ms);
        let (last_success_ms, _) = self.registry.last_success(&run.site).await?;
        let seen_ms = last_success_ms.map(|ms| ms.saturating_sub(self.options.overlap.as_millis() as u64));
        let watermark_ms = match run.scope {
            ReindexScope::Full => None,
            ReindexScope::SinceLast => seen_ms,
            // What lies between the last success and `since` would be looked at by nobody else.
            ReindexScope::Since(since_ms) => Some(seen_ms.map_or(since_ms, |seen_ms| seen_ms.min(since_ms))),
        };
        Ok(Run { began_ms: Some(began_ms), watermark_ms, ..run.clone() })
    }

    /// Puts the pages of a part on the road, all of them or those that have changed, and notes that the run has met them.
    /// How many have changed.
    async fn settle_part(
        &self,
        target: &Target,
        run: &Run,
        part: Part,
        read_at_ms: u64,
        put: &mut Put,
    ) -> Result<u64, Trouble> {
        let anew = run.scope == ReindexScope::Full;
        let mut rows = Vec::with_capacity(part.pages.len());
        let (mut changed, mut sightings) = (0, Vec::new());
        let unchanged: Vec<bool> = part.pages.iter().map(|page| part.is_unchanged(page)).collect();
        for (page, unchanged) in part.pages.into_iter().zip(unchanged) {
            changed += u64::from(!unchanged);
            if anew || !unchanged {
                sightings.push(Sighting { page, at_ms: read_at_ms });
            } else if let Some(row) = part.known.get(&page.id) {
                rows.push(row.clone());
            }
        }
        let read = self.put_pages(target, sightings, put).await?;
        self.note_put(target, run, read, put).await?;
        rows.iter_mut().for_each(|row| row.sweep = run.number);
        self.registry.note_read(&run.site, &rows).await?;
        Ok(changed)
    }
}
