//! From pages to envelopes on the road, and to what is noted of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;

use super::carry::Target;
use super::trouble::Trouble;
use super::worker::Reindexer;
use crate::buffer::AppendError;
use crate::confluence::RemotePage;
use crate::envelope::{Account, SiteId, WireForm};
use crate::extract::NotABaseUrl;
use crate::page;
use crate::registry::{Fetched, PageRow};

/// Envelopes that are put at the same time: as many as one commit or a few sends take.
const PUT_AT_ONCE: usize = 100;

/// A page, and when the answer that shows it was asked for, milliseconds since the epoch.
pub struct Sighting {
    pub page: RemotePage,
    pub at_ms: u64,
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
    pub(super) async fn put(
        &self,
        target: &Target,
        sightings: Vec<Sighting>,
        put: &mut Put,
    ) -> Result<Vec<PageRow>, Trouble> {
        let mut rows = Vec::with_capacity(sightings.len());
        let mut left = sightings.into_iter().peekable();
        while left.peek().is_some() {
            let some: Vec<Sighting> = left.by_ref().take(PUT_AT_ONCE).collect();
            let some = self.whole(target, some).await?;
            let (made, forms): (Vec<PageRow>, Vec<WireForm>) = self.extract(target, some).await?.into_iter().unzip();
            // Asked just before, as nothing may be put for a site that is gone.
            let site = self.active(&target.site.id).await?;
            put.account = Some(site.account);
            put.versions.extend(made.iter().map(|row| (row.page, row.version)));
            rows.extend(self.append(made, forms).await?);
        }
        Ok(rows)
    }

    /// Drops pages that are not there any more, or not to be seen.
    pub(super) async fn drop_pages(&self, target: &Target, gone: Vec<(PageRow, u64)>) -> Result<Vec<PageRow>, Trouble> {
        let (id, account) = (&target.site.id, &target.site.account);
        let drop_one = |(row, at_ms): (PageRow, u64)| {
            let form = page::dropped(self.stamper.stamp(), id, account, row.page, row.version, at_ms);
            (row.gone(at_ms), form)
        };
        let (rows, forms) = gone.into_iter().map(drop_one).unzip();
        self.append(rows, forms).await
    }

    /// What was put for a site that was removed meanwhile goes again: whoever removed it may have looked before.
    pub(super) async fn take_back_if_removed(&self, site: &SiteId, put: &Put) {
        let Put { account: Some(account), versions } = put else { return };
        if versions.is_empty() || !matches!(self.registry.site(site).await, Ok(None)) {
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

    /// With the keys of their spaces and their bodies, where the list has left them out.
    async fn whole(&self, target: &Target, sightings: Vec<Sighting>) -> Result<Vec<Sighting>, Trouble> {
        let mut whole = Vec::with_capacity(sightings.len());
        for mut sighting in sightings {
            if sighting.page.body.is_none() {
                let at_ms = self.clock().now_ms();
                // One that has gone in between is for the sweep.
                let Some(page) = self.confluence.page(&target.access, sighting.page.id).await? else { continue };
                sighting = Sighting { page, at_ms };
            }
            let page = &mut sighting.page;
            if let (None, Some(space_id)) = (&page.space_key, page.space_id) {
                page.space_key = self.confluence.space_key(&target.access, space_id).await?;
            }
            whole.push(sighting);
        }
        Ok(whole)
    }

    /// On a thread of its own kind: a large page takes milliseconds.
    async fn extract(&self, target: &Target, sightings: Vec<Sighting>) -> Result<Vec<(PageRow, WireForm)>, Trouble> {
        let (stamper, home) = (Arc::clone(&self.stamper), Arc::clone(&target.home));
        let extract = move || {
            let one = |Sighting { page, at_ms }: Sighting| {
                let body = page.body.as_deref().unwrap_or_default();
                let form = home.envelope(stamper.stamp(), &page.facts(), body, at_ms)?;
                Ok((PageRow::read(&page, at_ms), form))
            };
            sightings.into_iter().map(one).collect::<Result<Vec<_>, NotABaseUrl>>()
        };
        let extracted = tokio::task::spawn_blocking(extract).await;
        let extracted = extracted.map_err(|error| Trouble::Odd(format!("pages can't be read: {error}")))?;
        extracted.map_err(|error| {
            Trouble::Hopeless(format!("{error}. Add the site again with the right one: `hookcache confluence add`"))
        })
    }

    /// One by one a buffer may refuse an envelope for ever; that says so in the page's row, and the run goes on.
    async fn append(&self, mut rows: Vec<PageRow>, forms: Vec<WireForm>) -> Result<Vec<PageRow>, Trouble> {
        let results = join_all(forms.into_iter().map(|form| self.road.append(form))).await;
        for (row, result) in rows.iter_mut().zip(results) {
            match result {
                Ok(_) => {}
                Err(AppendError::Refused(why)) => {
                    tracing::warn!(page = row.page, why, "the buffer refuses a page");
                    let at_ms = row.last_fetch.as_ref().map_or(0, |fetched| fetched.at_ms);
                    row.last_fetch = Some(Fetched { at_ms, result: format!("the buffer refuses it: {why}") });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(rows)
    }
}
