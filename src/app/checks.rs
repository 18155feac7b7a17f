//! What `doctor` finds of the places that the roles of a process open: for `hookcache doctor`, and at every start.
//!
//! A start is refused only for what is dangerous; a backend that can't be looked at is none of that, as it heals by
//! itself, and whoever opens it says so.

use std::time::Duration;

use tokio::time::timeout;

use super::StartError;
use super::places::{uses_buffer, uses_page_links, uses_store};
#[cfg(feature = "sqs")]
use crate::buffer::sqs;
use crate::config::{BufferOptions, Cache, Config, Role, StoreOptions};
use crate::doctor::{self, Finding, Severity, Sheet, local};
use crate::registry::inspect::{Inspected, State, inspect};
use crate::store::redis;

/// The longest that looking at Redis and SQS delays a start.
const START_DELAY_MAX: Duration = Duration::from_secs(5);
/// The longest that `hookcache doctor` waits for one of them.
const PATIENCE: Duration = Duration::from_secs(20);

/// All that there is to look at.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = elsewhere(config, PATIENCE).await;
    findings.extend(registry(config).await);
    findings.extend(files(config));
    findings.extend(here(config));
    findings
}

/// Refuses what is dangerous, and logs what is risky. Opening the files judges them itself.
pub(super) async fn before_start(config: &Config) -> Result<(), StartError> {
    let mut findings = elsewhere(config, START_DELAY_MAX).await;
    findings.extend(here(config));
    let mut dangerous = Vec::new();
    for finding in findings {
        let Finding { check, place, found, mend, severity } = &finding;
        let mend = mend.as_deref().unwrap_or_default();
        match severity {
            Severity::Dangerous => dangerous.push(finding.to_string()),
            Severity::Risky => tracing::warn!(check, place, mend, "{found}"),
            Severity::Note | Severity::Unseen => tracing::debug!(check, place, mend, "{found}"),
            Severity::Ok => {}
        }
    }
    match dangerous.is_empty() {
        true => Ok(()),
        false => Err(StartError::Refused(dangerous.join("\n"))),
    }
}

/// Opening it judges it, too, so a start does not look twice.
async fn registry(config: &Config) -> Vec<Finding> {
    let Some(page_links) = config.page_links.as_ref().filter(|_| uses_page_links(config)) else { return Vec::new() };
    let inspected = match timeout(PATIENCE, inspect(&page_links.registry)).await {
        Ok(inspected) => inspected,
        Err(_) => Inspected { state: State::Away(no_answer(PATIENCE)), proves_itself: None },
    };
    doctor::registry::judge(&inspected)
}

/// Places that are reached over the network.
async fn elsewhere(config: &Config, patience: Duration) -> Vec<Finding> {
    let (mut store, queues) = tokio::join!(store(config, patience), queues(config, patience));
    store.extend(queues);
    store
}

async fn store(config: &Config, patience: Duration) -> Vec<Finding> {
    let options = match &config.store {
        StoreOptions::Redis(options) if uses_store(config) => options,
        _ => return Vec::new(),
    };
    let kind = match options.mode {
        redis::Mode::Standalone { .. } | redis::Mode::Sentinel { .. } => doctor::redis::Kind::Single,
        redis::Mode::Cluster { .. } => doctor::redis::Kind::ClusterNode,
    };
    let wanted = doctor::redis::Wanted { kind, acknowledge: options.acknowledge, uses: store_uses(config) };
    let mut sheet = Sheet::new("the store");
    match timeout(patience, redis::inspect(options, &wanted.uses)).await {
        Ok(Ok(nodes)) => return doctor::redis::judge(&nodes, &wanted),
        Ok(Err(error)) => sheet.refused("redis-reached", &error),
        Err(_) => sheet.unseen("redis-reached", no_answer(patience), "check store.url and the network"),
    }
    sheet.finish()
}

fn store_uses(config: &Config) -> Vec<redis::Use> {
    let uses = [
        (Role::Consume, redis::Use::Write),
        (Role::Consume, redis::Use::LoadRules),
        (Role::Get, redis::Use::Read),
        (Role::Admin, redis::Use::ChangeRules),
        (Role::Admin, redis::Use::Walk),
    ];
    let of_roles = uses.into_iter().filter(|(role, _)| config.roles.has(*role)).map(|(_, of_role)| of_role);
    let tracks = config.roles.has(Role::Get) && matches!(config.get.cache, Cache::Coherent(_));
    of_roles.chain(tracks.then_some(redis::Use::Track)).collect()
}

/// The buffer, and the queue of page links.
#[cfg(feature = "sqs")]
async fn queues(config: &Config, patience: Duration) -> Vec<Finding> {
    use doctor::sqs::Wanted;
    let look = async |options: Option<&BufferOptions>, name, actions, wanted| match options {
        Some(BufferOptions::Sqs(options)) => queue(options, name, &actions, &wanted, patience).await,
        _ => Vec::new(),
    };
    let buffer = Some(&config.buffer).filter(|_| uses_buffer(config));
    let pages = config.page_links.as_ref().filter(|_| uses_page_links(config)).map(|page_links| &page_links.queue);
    let wanted = Wanted { batch_time: batch_time(config) };
    // Whoever reads pages hides a task for as long as it takes.
    let pages_wanted = Wanted { batch_time: Duration::ZERO };
    let (mut buffer, pages) = tokio::join!(
        look(buffer, "the buffer", buffer_actions(config), wanted),
        look(pages, "the queue of page links", pages_actions(config), pages_wanted),
    );
    buffer.extend(pages);
    buffer
}

#[cfg(feature = "sqs")]
async fn queue(
    options: &sqs::Options,
    name: &str,
    actions: &sqs::Actions,
    wanted: &doctor::sqs::Wanted,
    patience: Duration,
) -> Vec<Finding> {
    let mut sheet = Sheet::new(name);
    match timeout(patience, sqs::inspect(options, actions)).await {
        Ok(Ok(inspected)) => return doctor::sqs::judge(&inspected, options, wanted),
        Ok(Err(error)) => sheet.refused("sqs-queue", &error),
        Err(_) => {
            let mend = format!("check {}, buffer.endpoint_url and the network", options.keys.queue_url);
            sheet.unseen("sqs-queue", no_answer(patience), mend);
        }
    }
    sheet.finish()
}

#[cfg(not(feature = "sqs"))]
async fn queues(_: &Config, _: Duration) -> Vec<Finding> {
    Vec::new()
}

#[cfg(feature = "sqs")]
fn buffer_actions(config: &Config) -> sqs::Actions {
    use sqs::{Action, Actions};
    let has = |role| config.roles.has(role);
    let mut actions = Actions::default();
    let puts_pages_in = config.page_links.is_some() && config.roles.has_any(&[Role::Pages, Role::Reindex]);
    if has(Role::Set) || has(Role::Admin) || puts_pages_in {
        actions.queue.push(Action::Send);
    }
    if has(Role::Consume) {
        actions.queue.extend([Action::Delete, Action::Hide]);
        actions.dead_letters.push(Action::Send);
    }
    if has(Role::Admin) {
        actions.dead_letters.extend([Action::Delete, Action::Hide]);
    }
    actions
}

#[cfg(feature = "sqs")]
fn pages_actions(config: &Config) -> sqs::Actions {
    use sqs::{Action, Actions};
    let mut actions = Actions::default();
    // All that use it put tasks in, if only to ask for a reindex.
    actions.queue.push(Action::Send);
    if config.roles.has(Role::Pages) {
        actions.queue.extend([Action::Delete, Action::Hide]);
        actions.dead_letters.push(Action::Send);
    }
    if config.roles.has(Role::Admin) {
        actions.dead_letters.extend([Action::Delete, Action::Hide]);
    }
    actions
}

/// For how long a batch may be in hand: one write to the store, or what is left of it when the process ends.
#[cfg(feature = "sqs")]
fn batch_time(config: &Config) -> Duration {
    let write = match &config.store {
        StoreOptions::Redis(options) => options.connect_timeout + options.write_timeout,
        #[cfg(feature = "embedded")]
        StoreOptions::Embedded(_) => Duration::ZERO,
    };
    write.max(config.consumer.drain_deadline)
}

fn no_answer(patience: Duration) -> String {
    format!("can't be looked at: no answer within {} seconds", patience.as_secs())
}

/// What this machine gives.
fn here(config: &Config) -> Vec<Finding> {
    let backend_connections = match &config.store {
        // One reader for each thread that serves gets, and one for the probes.
        StoreOptions::Redis(options) => {
            options.read_connections * (config.threads.own() + 1) + options.write_connections
        }
        #[cfg(feature = "embedded")]
        StoreOptions::Embedded(_) => 0,
    };
    let mut findings = local::judge_descriptors(local::Descriptors {
        connections_max: config.http.connections_max as u64,
        backend_connections: backend_connections as u64,
        limit: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
    });
    findings.extend(rooms(config));
    findings
}

#[cfg(feature = "embedded")]
fn rooms(config: &Config) -> Vec<Finding> {
    use crate::disk::inspect::room;
    use local::{Growth, judge_room};
    let mut findings = Vec::new();
    for options in embedded_queues(config) {
        let growth = Growth::UpTo { bytes_max: options.bytes_max, key: "buffer.max_bytes" };
        findings.extend(room(&options.path).into_iter().flat_map(|room| judge_room(&options.path, room, growth)));
    }
    if let StoreOptions::Embedded(options) = &config.store
        && uses_store(config)
    {
        findings.extend(room(&options.path).into_iter().flat_map(|room| judge_room(&options.path, room, Growth::Open)));
    }
    findings
}

#[cfg(feature = "embedded")]
fn files(config: &Config) -> Vec<Finding> {
    use crate::{buffer, store};
    let mut findings = Vec::new();
    for options in embedded_queues(config) {
        findings.extend(local::judge_file(&options.path, &buffer::embedded::inspect(options)));
    }
    if let StoreOptions::Embedded(options) = &config.store
        && uses_store(config)
    {
        findings.extend(local::judge_file(&options.path, &store::embedded::inspect(options)));
    }
    findings
}

/// The buffer and the queue of page links, as far as they are embedded and used.
#[cfg(feature = "embedded")]
fn embedded_queues(config: &Config) -> Vec<&crate::buffer::embedded::Options> {
    let buffer = Some(&config.buffer).filter(|_| uses_buffer(config));
    let pages = config.page_links.as_ref().filter(|_| uses_page_links(config)).map(|page_links| &page_links.queue);
    buffer.into_iter().chain(pages).filter_map(embedded_queue).collect()
}

#[cfg(feature = "embedded")]
fn embedded_queue(options: &BufferOptions) -> Option<&crate::buffer::embedded::Options> {
    match options {
        BufferOptions::Embedded(options) => Some(options),
        #[cfg(feature = "sqs")]
        BufferOptions::Sqs(_) => None,
    }
}

#[cfg(not(feature = "embedded"))]
fn rooms(_: &Config) -> Vec<Finding> {
    Vec::new()
}

#[cfg(not(feature = "embedded"))]
fn files(_: &Config) -> Vec<Finding> {
    Vec::new()
}
