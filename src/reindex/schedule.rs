//! Asking for the runs that are due. They are asked for like those that a person wants: by a task in the pages queue.
//!
//! Several processes may ask for the same run; the registry makes one of them. After asking, a process waits for a while
//! before it asks again, so that a queue that nobody takes from does not fill.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::trouble::Trouble;
use super::worker::Reindexer;
use crate::backoff;
use crate::envelope::SiteId;
use crate::registry::{Due, Site, SiteState};
use crate::source::confluence::{PageTask, ReindexScope, What};

/// How often the list of sites is looked at: a new site is read after this time.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Sites that one query lists.
const SITES_AT_ONCE: usize = 200;
/// Runs that others ask for put off the next one: how long what is known of a site is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(5 * 60);
/// Who has asked waits this long for the run to appear.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30 * 60);
/// How often the metrics are brought up to date.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// What is known of the sites, and when the metrics were told of them.
#[derive(Default)]
struct Diary {
    /// Sites that need no look for a while.
    rests: HashMap<SiteId, Rest>,
    told: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Rest {
    /// A site that was removed and added again is another one.
    added_ms: u64,
    until_ms: u64,
}

impl Reindexer {
    pub(super) async fn ask_for_due_runs(&self, stop: &CancellationToken) {
        let (mut diary, mut failing) = (Diary::default(), false);
        loop {
            match stop.run_until_cancelled(self.look(&mut diary)).await {
                None => return,
                Some(Ok(())) => failing = false,
                Some(Err(why)) => {
                    if !failing {
                        tracing::warn!(?why, "due reindexes can't be asked for; it is tried again");
                    }
                    failing = true;
                }
            }
            if stop.run_until_cancelled(sleep(backoff::wait(0, LOOK_EVERY, LOOK_EVERY))).await.is_none() {
                return;
            }
        }
    }

    async fn look(&self, diary: &mut Diary) -> Result<(), Trouble> {
        let (mut there, mut after) = (HashSet::new(), None);
        loop {
            let sites = self.registry.sites(after.as_ref(), SITES_AT_ONCE).await?;
            for site in sites.iter().filter(|site| site.state == SiteState::Active) {
                there.insert(site.id.clone());
                let now_ms = self.clock().now_ms();
                let rests = |rest: &&Rest| rest.added_ms == site.added_ms && rest.until_ms > now_ms;
                if diary.rests.get(&site.id).filter(rests).is_none() {
                    let rest = Rest { added_ms: site.added_ms, until_ms: self.look_at(site).await? };
                    diary.rests.insert(site.id.clone(), rest);
                }
            }
            match sites.last() {
                Some(last) if sites.len() >= SITES_AT_ONCE => after = Some(last.id.clone()),
                _ => break,
            }
        }
        diary.rests.retain(|site, _| there.contains(site));
        self.tell_backlog(diary).await
    }

    /// Asks for a run of the site where one is due. Until when the site needs no other look.
    async fn look_at(&self, site: &Site) -> Result<u64, Trouble> {
        let now_ms = self.clock().now_ms();
        let after = |time: Duration| now_ms.saturating_add(time.as_millis() as u64);
        let last = self.registry.runs(&site.id, 1).await?;
        let (_, last_full_ms) = self.registry.last_success(&site.id).await?;
        match self.options.cadence.next(site, last.first(), last_full_ms) {
            Some(Due { at_ms, scope }) if at_ms <= now_ms => {
                self.ask_for(site, scope).await?;
                Ok(after(ASK_AGAIN_AFTER))
            }
            Some(Due { at_ms, .. }) => Ok(at_ms.min(after(BELIEVED_FOR))),
            None => Ok(after(BELIEVED_FOR)),
        }
    }

    async fn ask_for(&self, site: &Site, scope: ReindexScope) -> Result<(), Trouble> {
        let task = PageTask::new(self.stamper.stamp(), site.id.clone(), site.account.clone(), What::Reindex(scope));
        tracing::info!(site = %site.id, id = task.id, ?scope, "a reindex is due, and asked for");
        self.tasks.append(task.encode()).await?;
        Ok(())
    }

    async fn tell_backlog(&self, diary: &mut Diary) -> Result<(), Trouble> {
        if diary.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return Ok(());
        }
        let backlog = self.registry.backlog().await?;
        let now_ms = self.clock().now_ms();
        let behind_ms = backlog.oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms));
        self.metrics.reindex_backlog(backlog.open_runs, Duration::from_millis(behind_ms));
        diary.told = Some(Instant::now());
        Ok(())
    }
}
