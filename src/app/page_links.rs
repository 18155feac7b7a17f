//! Joins page links: one function per mover, which answers `None` where its role does not run here or page links are
//! off. What a mover needs is in `Joint`; a new one is one more function and one more line in [`start`].

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_util::sync::CancellationToken;

use super::health;
use super::places::Places;
use super::{Part, StartError};
use crate::admin::{self, Desk};
use crate::buffer::{self, DeadLetters, Pending};
use crate::config::{Config, PageLinks, Reading, Role};
use crate::confluence::Confluence;
use crate::envelope::{Clock, Stamper};
use crate::hooks::Hooks;
use crate::outbound::Outbound;
use crate::pages::{self, Pages};
use crate::registry::Registry;
use crate::reindex::{self, Reindexer};
use crate::serve::{Links, Serve};
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

/// Who tells links: part of the role `get`. It needs the store alone.
pub(super) fn links(config: &Config, serve: Option<&Serve>) -> Option<Links> {
    let archived = config.page_links.as_ref()?.reading.archived;
    serve.map(|serve| Links::new(serve.clone(), archived))
}

/// What must be there for the roles that receive webhooks and read pages.
pub(super) fn needs(config: &Config, places: &Places) -> Option<health::PageLinks> {
    let (registry, (appender, taker)) = places.registry.as_ref().zip(places.pages.as_ref())?;
    let needs = || health::PageLinks { registry: registry.clone(), appender: appender.clone(), taker: taker.clone() };
    config.roles.has_any(&[Role::Set, Role::Pages, Role::Reindex]).then(needs)
}

/// What the control plane knows of sites: part of the role `admin`.
pub(super) fn admin(joint: &Joint<'_>) -> Option<admin::PageLinks> {
    let (registry, (tasks, taker)) = of_role(joint, Role::Admin)?;
    Some(admin::PageLinks {
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
pub(super) fn start(joint: &Joint<'_>) -> Result<Vec<Part>, StartError> {
    let reads = joint.config.roles.has_any(&[Role::Pages, Role::Reindex]);
    let Some(page_links) = joint.config.page_links.as_ref().filter(|_| reads) else { return Ok(Vec::new()) };
    let Reading { client, connect_timeout, ca_file, .. } = &page_links.reading;
    let authorities = ca_file.as_deref().map_or(Ok(Vec::new()), authorities)?;
    let outbound =
        Outbound::new(*connect_timeout, &authorities).map_err(|error| wrong_ca(ca_file.as_deref(), &error))?;
    let confluence = Confluence::new(outbound, client.clone(), joint.clock.clone());
    Ok([pages(joint, page_links, &confluence), reindex(joint, page_links, &confluence)].into_iter().flatten().collect())
}

/// The worker that reads the pages that the queue names.
fn pages(joint: &Joint<'_>, page_links: &PageLinks, confluence: &Confluence) -> Option<Part> {
    let (registry, (queue, taker)) = of_role(joint, Role::Pages)?;
    let (road, _) = joint.places.buffer.as_ref()?;
    let parts = pages::Parts {
        registry: registry.clone(),
        confluence: confluence.clone(),
        queue: queue.clone(),
        taker: taker.clone(),
        road: road.clone(),
        archived: page_links.reading.archived,
        metrics: joint.metrics.clone(),
        clock: joint.clock.clone(),
    };
    let worker = Pages::new(parts, page_links.reading.pages.clone());
    Some(Part::start(joint.broken, |stop| worker.run(stop)))
}

/// The worker that reads whole sites.
fn reindex(joint: &Joint<'_>, page_links: &PageLinks, confluence: &Confluence) -> Option<Part> {
    let (registry, (tasks, _)) = of_role(joint, Role::Reindex)?;
    let (road, _) = joint.places.buffer.as_ref()?;
    let parts = reindex::Parts {
        registry: registry.clone(),
        confluence: confluence.clone(),
        road: road.clone(),
        tasks: tasks.clone(),
        archived: page_links.reading.archived,
        metrics: joint.metrics.clone(),
        clock: joint.clock.clone(),
    };
    let worker = Reindexer::new(parts, page_links.reindex.clone());
    Some(Part::start(joint.broken, |stop| worker.run(stop)))
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(wrong_ca(Some(path), &"there is none in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong_ca(Some(path), &error)),
    }
}

fn wrong_ca(path: Option<&Path>, why: &dyn Display) -> StartError {
    let path = path.unwrap_or(Path::new("")).display();
    StartError::PageLinks(format!("confluence.ca_file: {path} holds no PEM certificate that can be used: {why}"))
}

/// Registry and queue of page links, where this role runs here and page links are on.
fn of_role<'a>(joint: &Joint<'a>, role: Role) -> Option<(&'a Registry, &'a (buffer::Appender, buffer::Taker))> {
    joint.places.registry.as_ref().zip(joint.places.pages.as_ref()).filter(|_| joint.config.roles.has(role))
}
