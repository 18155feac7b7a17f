//! Tasks about spaces, lifecycles and reindexes.

use futures_util::future::join_all;

use super::worker::{Not, Pages};
use crate::envelope::SiteId;
use crate::registry::{PageRow, SiteState};
use crate::source::confluence::{EventName, Lifecycle, PageTask, ReindexScope, What};
use crate::telemetry::metrics::TaskDone;

/// Pages of a space that are handled at once: their rows are in memory, and one commit or a few sends take their tasks.
const SPACE_PAGES_AT_ONCE: usize = 100;

impl Pages {
    pub(super) async fn other(&self, task: &PageTask) -> Result<TaskDone, Not> {
        match &task.what {
            What::Lifecycle(lifecycle) => self.lifecycle(task, *lifecycle).await,
            What::Reindex(scope) => self.reindex(task, *scope).await,
            What::Space { space_key, space_id, event } => {
                self.space(task, space_key.as_deref(), *space_id, *event).await
            }
            // It is a job of its own kind.
            What::Page { .. } => Ok(TaskDone::Skipped),
        }
    }

    async fn lifecycle(&self, task: &PageTask, lifecycle: Lifecycle) -> Result<TaskDone, Not> {
        let Some(site) = self.registry.site(&task.site).await? else { return Ok(TaskDone::NoSite) };
        match lifecycle {
            Lifecycle::Installed | Lifecycle::Enabled => {
                self.registry.set_state(&site.id, SiteState::Active, task.at_ms).await?;
                self.ask(&site.id, None, task.at_ms).await?;
            }
            Lifecycle::Disabled => {
                self.registry.set_state(&site.id, SiteState::Disabled, task.at_ms).await?;
            }
            Lifecycle::Uninstalled => {
                // Whoever has told it may have said more: since when.
                if !matches!(site.state, SiteState::Uninstalled { .. }) {
                    let state = SiteState::Uninstalled { since_ms: task.at_ms };
                    self.registry.set_state(&site.id, state, task.at_ms).await?;
                }
                self.purge_if_due(&site.id).await?;
            }
        }
        tracing::info!(id = task.id, site = %site.id, ?lifecycle, "a site has changed its state");
        Ok(TaskDone::Lifecycle)
    }

    async fn reindex(&self, task: &PageTask, scope: ReindexScope) -> Result<TaskDone, Not> {
        match self.registry.site(&task.site).await? {
            None => Ok(TaskDone::NoSite),
            Some(_) => self.ask(&task.site, Some(scope), task.at_ms).await,
        }
    }

    /// Asks for a reindex; where no scope is given, for what has changed since the last one, or for all of it where there
    /// was none. A site that is paused or disabled is read when it is back. Whoever put the task at `task_ms` finds the run
    /// by its time, which is not before, whatever our clock says.
    async fn ask(&self, site: &SiteId, scope: Option<ReindexScope>, task_ms: u64) -> Result<TaskDone, Not> {
        let known = self.registry.site(site).await?;
        if known.is_none_or(|site| matches!(site.state, SiteState::Uninstalled { .. })) {
            return Ok(TaskDone::Inactive);
        }
        let scope = match scope {
            Some(scope) => scope,
            None => match self.registry.last_success(site).await? {
                (_, Some(_)) => ReindexScope::SinceLast,
                (_, None) => ReindexScope::Full,
            },
        };
        let asked_ms = self.clock().now_ms().max(task_ms);
        let run = self.registry.ask_for_run(site, scope, asked_ms).await?;
        tracing::info!(%site, ?scope, number = run.map(|run| run.number), "a reindex is asked for");
        Ok(TaskDone::Reindex)
    }

    /// A task for each page that is known of the space: what becomes of it, its own read tells. It may be cut off and begin
    /// anew: who was read meanwhile is not read again.
    async fn space(
        &self,
        task: &PageTask,
        key: Option<&str>,
        id: Option<u64>,
        event: EventName,
    ) -> Result<TaskDone, Not> {
        let Some(site) = self.registry.site(&task.site).await? else { return Ok(TaskDone::NoSite) };
        if site.state != SiteState::Active {
            return Ok(TaskDone::Inactive);
        }
        let event = match event {
            EventName::SpaceTrashed => EventName::PageTrashed,
            _ => EventName::PageRemoved,
        };
        let (mut after, mut pages) = (0, 0);
        loop {
            let rows = self.registry.pages_of_space(&site.id, key, id, after, SPACE_PAGES_AT_ONCE).await?;
            let Some(last) = rows.last() else { break };
            after = last.page;
            pages += rows.len();
            let of = |row: &PageRow| PageTask {
                id: self.stamp().id,
                what: What::Page { page: row.page, event, version: None },
                ..task.clone()
            };
            for appended in join_all(rows.iter().map(|row| self.queue.append(of(row).encode()))).await {
                appended.map_err(Not::buffer)?;
            }
        }
        tracing::info!(id = task.id, site = %site.id, key, space_id = id, pages, "the pages of a space are looked at");
        Ok(TaskDone::Space)
    }
}
