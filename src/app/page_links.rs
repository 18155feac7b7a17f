//! Joins page links: one function per mover, which answers `None` where its role does not run here or page links are
//! off. What a mover needs is in `Joint`; a new one is one more function and one more line in [`start`].

use tokio_util::sync::CancellationToken;

use super::Part;
use super::places::Places;
use crate::buffer;
use crate::config::{Config, Role};
use crate::envelope::Clock;
use crate::registry::Registry;
use crate::telemetry::Metrics;

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
pub(super) fn hooks(joint: &Joint<'_>) -> Option<()> {
    let (registry, (tasks, _)) = of_role(joint, Role::Set)?;
    let _ = (registry, tasks, joint.metrics, joint.clock);
    None
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
