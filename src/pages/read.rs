//! One page, from a fetch to an envelope.

use std::time::Duration;

use super::batch::PageJob;
use super::lanes::Shown;
use super::worker::{Not, Pages};
use super::{READ_LAG_MAX, puts_off};
use crate::confluence::{Access, FetchError, RemotePage};
use crate::envelope::WireForm;
use crate::page;
use crate::registry::{Fetched, PageRow, Site, SiteState};
use crate::source::confluence::EventName;
use crate::telemetry::metrics::{PageRead, TaskDone, TaskPutOff};

/// A read that began this long after an event shows what the event tells of: sites answer late, and clocks differ.
const SURELY_AFTER: Duration = Duration::from_secs(5);
/// Larger bodies are searched on a thread that serves nobody else.
const INLINE_BYTES_MAX: usize = 64 << 10;

impl Pages {
    /// Reads the page, unless that can bring nothing. What it was read as is on the road when this is done.
    pub(super) async fn read(&self, job: &PageJob) -> Result<TaskDone, Not> {
        let Some(site) = self.registry.site(&job.site).await? else { return Ok(TaskDone::NoSite) };
        if site.state != SiteState::Active {
            return Ok(TaskDone::Inactive);
        }
        let row = self.registry.page(&job.site, job.page).await?;
        if row.as_ref().and_then(|row| row.last_event).is_none_or(|(_, at_ms)| at_ms < job.at_ms) {
            self.registry.note_event(&job.site, job.page, job.event, job.at_ms).await?;
        }
        if row.as_ref().is_some_and(|row| was_read_since(row, job)) {
            return Ok(TaskDone::Skipped);
        }
        let row = row.unwrap_or_else(|| PageRow::unread(job.page));
        let read_at_ms = self.clock().now_ms();
        let (access, found) = self.fetch(&site, job, read_at_ms).await?;
        match found {
            Some(found) => self.found(&site, &access, job, &row, found, read_at_ms).await,
            None => self.not_found(&site, job, row, read_at_ms).await,
        }
    }

    async fn fetch(&self, site: &Site, job: &PageJob, at_ms: u64) -> Result<(Access, Option<RemotePage>), Not> {
        let age = self.age(job.at_ms);
        let refused = |wait: Duration, why: String| Not::Later { wait, cause: TaskPutOff::Refused, why };
        let Some(credential) = self.registry.credential(&site.id).await? else {
            let why = "it is not known as whom to ask the site (`hookcache confluence add` gives it a credential)";
            return Err(refused(puts_off::by_age(age, None), why.to_owned()));
        };
        if let Some(left) = self.lanes.refuses(&site.id, &credential) {
            let why = "the site has refused this credential a moment ago".to_owned();
            return Err(refused(puts_off::by_age(age, None).min(left), why));
        }
        let full = |wait| Not::Later { wait, cause: TaskPutOff::Busy, why: "others of its site go first".to_owned() };
        let place = self.lanes.enter(&site.id).map_err(full)?;
        let access = site.access(credential);
        let error = match self.confluence.page(&access, job.page).await {
            Ok(found) => {
                self.metrics.page_read(if found.is_some() { PageRead::Read } else { PageRead::NotFound });
                place.leave(Shown::Answer);
                return Ok((access, found));
            }
            Err(error) => error,
        };
        let text = error.to_string();
        let (shown, read, not) = match error {
            FetchError::Busy { after, .. } => {
                place.leave(Shown::Nothing);
                return Err(Not::Later { wait: after, cause: TaskPutOff::Busy, why: text });
            }
            FetchError::Later { after, .. } => {
                let wait = puts_off::by_age(age, after);
                (Shown::Away { after }, PageRead::Away, Not::Later { wait, cause: TaskPutOff::Away, why: text.clone() })
            }
            FetchError::Unauthorized(_) => {
                let shown = Shown::Refused(access.credential.clone());
                (shown, PageRead::Refused, refused(puts_off::by_age(age, None), text.clone()))
            }
            FetchError::Unusable(_) => (Shown::Nothing, PageRead::Unusable, Not::Alone(text.clone())),
        };
        place.leave(shown);
        self.metrics.page_read(read);
        let fetched = Fetched { at_ms, result: text };
        self.registry.note_failed(&site.id, job.page, &fetched).await?;
        Err(not)
    }

    async fn found(
        &self,
        site: &Site,
        access: &Access,
        job: &PageJob,
        row: &PageRow,
        mut found: RemotePage,
        read_at_ms: u64,
    ) -> Result<TaskDone, Not> {
        let age = self.age(job.at_ms);
        if job.version.is_some_and(|told| told > found.version) && age < READ_LAG_MAX {
            let wait = puts_off::late(age).unwrap_or_else(|| puts_off::by_age(age, None));
            let why = format!("the site still shows version {}", found.version);
            return Err(Not::Later { wait, cause: TaskPutOff::Late, why });
        }
        let named = self.registry.note_name(site, found.site_url.as_deref()).await?;
        let site = named.as_ref().unwrap_or(site);
        if let (None, Some(space_id)) = (&found.space_key, found.space_id) {
            let known = row.space_key.clone().filter(|_| row.space_id == Some(space_id));
            found.space_key = match known {
                Some(key) => Some(key),
                None => self.space_key(access, space_id, age).await?,
            };
        }
        let read = PageRow::read(&found, read_at_ms);
        let (version, status) = (found.version, found.status.as_str());
        let form = self.envelope(site, found, read_at_ms).await?;
        // Before it is put: wherever this is cut off, a drop after it is by this version, and wins.
        self.registry.note_on_its_way(&site.id, std::slice::from_ref(&read)).await?;
        self.put(form).await?;
        self.registry.note_read(&site.id, std::slice::from_ref(&read)).await?;
        self.metrics.page_on_road_after(age);
        tracing::info!(id = job.id, site = %site.id, page = job.page, version, status, "a page is on the road");
        self.take_back_if_dropped(site, &read, read_at_ms).await?;
        self.take_back_if_gone(site, read).await?;
        Ok(TaskDone::Stored)
    }

    async fn not_found(&self, site: &Site, job: &PageJob, row: PageRow, read_at_ms: u64) -> Result<TaskDone, Not> {
        let was_to_go = matches!(job.event, EventName::PageRemoved | EventName::PageTrashed);
        if !was_to_go && let Some(wait) = puts_off::late(self.age(job.at_ms)) {
            return Err(Not::Later { wait, cause: TaskPutOff::Late, why: "the page is not there yet".to_owned() });
        }
        self.drop_page(site, row, read_at_ms).await?;
        tracing::info!(id = job.id, site = %site.id, page = job.page, "a page is not there, or not to be seen: dropped");
        Ok(TaskDone::Dropped)
    }

    /// By the highest version that is known. A read that began before this one may bring a higher one meanwhile: then
    /// either it finds the page dropped, or the page is dropped here by that version, too.
    async fn drop_page(&self, site: &Site, mut row: PageRow, read_at_ms: u64) -> Result<(), Not> {
        let mut dropped = None;
        loop {
            row = self.registry.page(&site.id, row.page).await?.unwrap_or(row);
            if dropped.is_some_and(|version| version >= row.version) {
                return Ok(());
            }
            dropped = Some(row.version);
            self.put(page::dropped(self.stamp(), &site.id, &site.account, row.page, row.version, read_at_ms)).await?;
            self.registry.note_read(&site.id, &[row.clone().gone(read_at_ms)]).await?;
        }
    }

    async fn space_key(&self, access: &Access, space_id: u64, age: Duration) -> Result<Option<String>, Not> {
        let error = match self.confluence.space_key(access, space_id).await {
            Ok(key) => return Ok(key),
            Err(error) => error,
        };
        let why = error.to_string();
        Err(match error {
            FetchError::Busy { after, .. } => Not::Later { wait: after, cause: TaskPutOff::Busy, why },
            FetchError::Later { after, .. } => {
                Not::Later { wait: puts_off::by_age(age, after), cause: TaskPutOff::Away, why }
            }
            FetchError::Unauthorized(_) => {
                Not::Later { wait: puts_off::by_age(age, None), cause: TaskPutOff::Refused, why }
            }
            FetchError::Unusable(_) => Not::Alone(why),
        })
    }

    async fn envelope(&self, site: &Site, found: RemotePage, read_at_ms: u64) -> Result<WireForm, Not> {
        let (home, stamp) = (site.home(self.archived), self.stamp());
        let is_small = found.body.as_deref().is_none_or(|body| body.len() <= INLINE_BYTES_MAX);
        let make = move || {
            let body = found.body.as_deref().unwrap_or_default();
            home.envelope(stamp, &found.facts(), body, read_at_ms)
        };
        let made = if is_small { Ok(make()) } else { tokio::task::spawn_blocking(make).await };
        match made {
            Ok(made) => made.map_err(|error| Not::Alone(format!("{error}: add the site again with the right one"))),
            Err(error) => Err(Not::Alone(format!("the page can't be searched: {error}"))),
        }
    }

    /// What was put on the road of a page that a later read did not find goes again: that one may have dropped it by a lower
    /// version.
    async fn take_back_if_dropped(&self, site: &Site, read: &PageRow, read_at_ms: u64) -> Result<(), Not> {
        // Just after what was put here, which it must beat, and before all that was read later.
        let at_ms = read_at_ms + 1;
        let now = self.registry.page(&site.id, read.page).await?;
        if now.is_none_or(|now| now.status.is_some()) {
            return Ok(());
        }
        self.put(page::dropped(self.stamp(), &site.id, &site.account, read.page, read.version, at_ms)).await?;
        tracing::info!(site = %site.id, page = read.page, "taken back, as the page has gone meanwhile");
        Ok(())
    }

    /// What was put on the road for a site that went meanwhile goes again: whoever purged it may have looked before.
    async fn take_back_if_gone(&self, site: &Site, read: PageRow) -> Result<(), Not> {
        let now = self.registry.site(&site.id).await?;
        if now.is_some_and(|site| !matches!(site.state, SiteState::Uninstalled { .. })) {
            return Ok(());
        }
        let (stamp, page, version) = (self.stamp(), read.page, read.version);
        let at_ms = stamp.at_ms;
        self.put(page::dropped(stamp, &site.id, &site.account, page, version, at_ms)).await?;
        self.registry.note_read(&site.id, &[read.gone(at_ms)]).await?;
        tracing::info!(site = %site.id, page, "taken back, as the site has gone meanwhile");
        Ok(())
    }
}

/// Was the page read since its last event, so that another read can bring nothing?
fn was_read_since(row: &PageRow, job: &PageJob) -> bool {
    let surely_after_ms = job.at_ms.saturating_add(SURELY_AFTER.as_millis() as u64);
    let read_well = |fetched: &Fetched| fetched.result == Fetched::OK && fetched.at_ms >= surely_after_ms;
    row.status.is_some() && row.last_fetch.as_ref().is_some_and(read_well) && row.version >= job.version.unwrap_or(0)
}
