//! From pages to envelopes on the road, and to what is noted of them.
//!
//! A page's body is dropped before another page is asked for: a few large ones fill the room that the client has for them
//! ([`outbound`](crate::outbound)), and who holds one must not wait for another.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::future::join_all;

use super::carry::Target;
use super::trouble::Trouble;
use super::worker::Reindexer;
use crate::buffer::AppendError;
use crate::confluence::{FetchError, RemotePage};
use crate::envelope::{Account, SiteId, WireForm};
use crate::extract::NotABaseUrl;
use crate::page;
use crate::registry::{Fetched, JoinedBy, PageRow, Run, SiteState};

/// Envelopes that are put at the same time, and their bytes: as many as one commit or a few sends take, and what is held
/// in memory.
const PUT_AT_ONCE: usize = 100;
const PUT_BYTES_AT_ONCE: usize = 8 << 20;
/// Bodies up to this many bytes take a fraction of a millisecond; larger ones are read on a thread of their own kind.
const READ_HERE_BYTES_MAX: usize = 64 << 10;

/// A page, and when the answer that shows it was asked for, milliseconds since the epoch.
pub struct Sighting {
    pub page: RemotePage,
    pub at_ms: u64,
}

/// A page's envelope, and what is noted of it once the buffer has it.
pub struct Made {
    pub row: PageRow,
    pub form: WireForm,
}

/// What was put on the road since the place of the run was kept last, or is about to be.
#[derive(Debug, Default)]
pub struct Put {
    account: Option<Account>,
    /// Pages and their versions.
    versions: BTreeMap<u64, u64>,
}

impl Put {
    pub fn clear(&mut self) {
        self.versions.clear();
    }
}

impl Reindexer {
    /// Puts pages on the road. Every one of them is durable when it returns; their rows are for the caller to note.
    pub(super) async fn put_pages(
        &self,
        target: &Target,
        mut sightings: Vec<Sighting>,
        put: &mut Put,
    ) -> Result<Vec<PageRow>, Trouble> {
        // Those without a body come last, when no body of the list is held any more.
        sightings.sort_by_key(|sighting| sighting.page.body.is_none());
        let (mut rows, mut some, mut bytes) = (Vec::with_capacity(sightings.len()), Vec::new(), 0);
        for sighting in sightings {
            let Some(made) = self.made(target, sighting).await? else { continue };
            bytes += made.form.body.len();
            some.push(made);
            if some.len() >= PUT_AT_ONCE || bytes >= PUT_BYTES_AT_ONCE {
                bytes = 0;
                rows.extend(self.put(target, std::mem::take(&mut some), put).await?);
            }
        }
        rows.extend(self.put(target, some, put).await?);
        Ok(rows)
    }

    /// The same, of envelopes that are made.
    pub(super) async fn put(&self, target: &Target, made: Vec<Made>, put: &mut Put) -> Result<Vec<PageRow>, Trouble> {
        if made.is_empty() {
            return Ok(Vec::new());
        }
        // Asked just before, as nothing may be put for a site that is gone.
        let site = self.active(&target.site.id).await?;
        put.account = Some(site.account);
        put.versions.extend(made.iter().map(|made| (made.row.page, made.row.version)));
        let (mut rows, forms): (Vec<PageRow>, Vec<WireForm>) =
            made.into_iter().map(|made| (made.row, made.form)).unzip();
        // Before they are put: wherever this is cut off, a drop after it is by these versions, and wins.
        let read: Vec<PageRow> = rows.iter().filter(|row| row.status.is_some()).cloned().collect();
        self.registry.note_on_its_way(&site.id, &read).await?;
        let results = join_all(forms.into_iter().map(|form| self.road.append(form))).await;
        for (row, result) in rows.iter_mut().zip(results) {
            match result {
                Ok(_) => {}
                // It will never take this one: that is told of the page, and the run goes on.
                Err(AppendError::Refused(why)) => {
                    tracing::warn!(site = %site.id, page = row.page, why, "the buffer refuses a page");
                    let at_ms = row.last_fetch.as_ref().map_or(0, |fetched| fetched.at_ms);
                    row.last_fetch = Some(Fetched { at_ms, result: format!("the buffer refuses it: {why}") });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(rows)
    }

    /// Notes what was put. What another has noted meanwhile, and can't have known of this, is put right: a page that a later
    /// read did not find goes again, and one that went here goes by the version that an earlier read has brought.
    pub(super) async fn note_put(
        &self,
        target: &Target,
        run: &Run,
        mut rows: Vec<PageRow>,
        put: &mut Put,
    ) -> Result<(), Trouble> {
        rows.iter_mut().for_each(|row| row.sweep = run.number);
        while !rows.is_empty() {
            self.registry.note_read(&run.site, &rows).await?;
            let ids: Vec<u64> = rows.iter().map(|row| row.page).collect();
            let now: HashMap<u64, PageRow> =
                self.registry.pages(&run.site, &ids).await?.into_iter().map(|row| (row.page, row)).collect();
            let drops = rows.into_iter().filter_map(|row| {
                let now = now.get(&row.page)?;
                let at_ms = row.last_fetch.as_ref().map_or(0, |fetched| fetched.at_ms);
                let (version, at_ms) = match row.status {
                    // Just after what was put here, which it must beat, and before all that was read later.
                    Some(_) if now.status.is_none() => (row.version, at_ms + 1),
                    None if now.version > row.version => (now.version, at_ms),
                    _ => return None,
                };
                Some(self.made_gone(target, PageRow { version, ..row }, at_ms))
            });
            let drops = drops.collect();
            rows = self.put(target, drops, put).await?;
        }
        Ok(())
    }

    /// `None` where the page has gone since it was listed, or can't be read: that is for the sweep.
    pub(super) async fn made(&self, target: &Target, sighting: Sighting) -> Result<Option<Made>, Trouble> {
        let Sighting { mut page, mut at_ms } = sighting;
        if page.body.is_none() {
            let asked_ms = self.clock().now_ms();
            (page, at_ms) = match self.ask_for_page(&target.access, page.id).await {
                Ok((Some(found), asked_ms)) => (found, asked_ms),
                Ok((None, _)) => return Ok(None),
                // One page that can't be read must not keep the others from being read.
                Err(FetchError::Unusable(result)) => {
                    tracing::warn!(site = %target.site.id, page = page.id, why = result, "a page can't be read");
                    let fetched = Fetched { at_ms: asked_ms, result };
                    self.registry.note_failed(&target.site.id, page.id, &fetched).await?;
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            };
        }
        if let (None, Some(space_id)) = (&page.space_key, page.space_id) {
            page.space_key = self.ask_for_space_key(&target.access, space_id).await?;
        }
        let home = Arc::clone(&target.home);
        let stamp = self.stamper.stamp();
        let (id, body) = (page.id, page.body.take());
        let bytes = body.as_deref().map_or(0, str::len);
        let read = move || {
            let body = body.as_deref().unwrap_or_default();
            let form = home.envelope(stamp, &page.facts(), body, at_ms)?;
            Ok::<_, NotABaseUrl>(Made { row: PageRow::read(&page, at_ms), form })
        };
        let made = match bytes <= READ_HERE_BYTES_MAX {
            true => read(),
            false => {
                let read = tokio::task::spawn_blocking(read).await;
                read.map_err(|error| Trouble::Odd(format!("the page {id} can't be read: {error}")))?
            }
        };
        made.map(Some).map_err(|error| {
            Trouble::Hopeless(format!("{error}. Add the site again with the right one: `hookcache confluence add`"))
        })
    }

    /// The envelope that drops a page which is not there any more, or not to be seen.
    pub(super) fn made_gone(&self, target: &Target, row: PageRow, at_ms: u64) -> Made {
        let (site, account) = (&target.site.id, &target.site.account);
        let form = page::dropped(self.stamper.stamp(), site, account, row.page, row.version, at_ms);
        Made { row: row.gone(at_ms), form }
    }

    /// What was put for a site that was removed meanwhile, or is about to be, goes again: whoever removes it may have looked
    /// before.
    pub(super) async fn take_back_if_removed(&self, site: &SiteId, put: &Put) {
        let Put { account: Some(account), versions } = put else { return };
        let removed = match self.registry.site(site).await {
            Ok(found) => found.is_none_or(|found| {
                matches!(found.state, SiteState::Uninstalled { .. }) && found.joined_by == JoinedBy::Operator
            }),
            Err(_) => false,
        };
        if versions.is_empty() || !removed {
            return;
        }
        let drop_one = |(page, version): (&u64, &u64)| {
            let stamp = self.stamper.stamp();
            let at_ms = stamp.at_ms;
            self.road.append(page::dropped(stamp, site, account, *page, *version, at_ms))
        };
        let failed = join_all(versions.iter().map(drop_one)).await.iter().filter(|result| result.is_err()).count();
        tracing::info!(%site, pages = versions.len(), failed, "taken back, as the site was removed meanwhile");
    }
}
