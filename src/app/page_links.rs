//! Joins page links: one function per mover, which answers `None` where its role does not run here or page links are
//! off. What a mover needs is in `Joint`; a new one is one more function and one more line in [`start`].

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Part;
use super::places::Places;
use crate::admin::{Desk, PageLinks};
use crate::buffer::{self, DeadLetters, Pending};
use crate::config::{Config, Role};
use crate::envelope::{Clock, Stamper};
use crate::hooks::Hooks;
use crate::outbound::Outbound;
use crate::registry::Registry;
use crate::telemetry::Metrics;

/// How long a connection to a key server may take to come about.
const KEYS_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What is there to be joined.
pub(super) struct Joint<'a> {
    pub config: &'a Config,
    pub places: &'a Places,
    pub metrics: &'a Metrics,
    pub clock: &'a Clock,
    /// Cancelled when a part has ended that should not.
    pub broken: &'a CancellationToken,
}

/// The mover that receives webhooks, for the data plane: part of the role `set`.
pub(super) fn hooks(joint: &Joint<'_>) -> Option<Hooks> {
    let (registry, (tasks, _)) = of_role(joint, Role::Set)?;
    let options = joint.config.page_links.as_ref()?.hooks.clone();
    let outbound = Outbound::new(KEYS_CONNECT_TIMEOUT, &[]).expect("no authority is given that could be wrong");
    let stamper = Stamper::new(joint.clock.clone());
    Some(Hooks::new(options, registry.clone(), tasks.clone(), outbound, stamper, joint.metrics.clone()))
}

/// What the control plane knows of sites: part of the role `admin`.
pub(super) fn admin(joint: &Joint<'_>) -> Option<PageLinks> {
    let (registry, (tasks, taker)) = of_role(joint, Role::Admin)?;
    Some(PageLinks {
        registry: registry.clone(),
        tasks: tasks.clone(),
        letters: Desk::new(DeadLetters::of(taker), joint.clock.clone()),
        waiting_tasks: Pending::of(taker),
        waiting_sets: joint.places.buffer.as_ref().map(|(_, taker)| Pending::of(taker)),
        cadence: joint.config.page_links.as_ref()?.reindex.cadence,
        stamper: Arc::new(Stamper::new(joint.clock.clone())),
    })
}

/// Starts what reads pages. One client of Confluence serves all of it, so that its limits per site hold.
pub(super) fn start(joint: &Joint<'_>) -> Vec<Part> {
    [pages(joint), reindex(joint)].into_iter().flatten().collect()
}

/// The worker that reads the pages that the queue names.
fn pages(joint: &Joint<'_>) -> Option<Part> {
    let (registry, (_, tasks)) = of_role(joint, Role::Pages)?;
    let (road, _) = joint.places.buffer.as_ref()?;
    let _ = (registry, tasks, road, joint.metrics, joint.clock);
    None
}

/// The worker that reads whole sites.
fn reindex(joint: &Joint<'_>) -> Option<Part> {
    let (registry, (tasks, _)) = of_role(joint, Role::Reindex)?;
    let (road, _) = joint.places.buffer.as_ref()?;
    let _ = (registry, tasks, road, joint.broken);
    None
}

/// Registry and queue of page links, where this role runs here and page links are on.
fn of_role<'a>(joint: &Joint<'a>, role: Role) -> Option<(&'a Registry, &'a (buffer::Appender, buffer::Taker))> {
    joint.places.registry.as_ref().zip(joint.places.pages.as_ref()).filter(|_| joint.config.roles.has(role))
}
