//! The keys of `confluence` and `registry`, and what page links mean for other keys.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::reading::{self, Reading};
use super::{MINUTE, apps, is_embedded_buffer};
use crate::config::fields::{Fields, parse_ttl, spell_ttl};
use crate::config::{BufferOptions, Config, PageLinks, ReindexOptions, Role};
use crate::hooks;
use crate::registry::{self, Cadence, Key};
use crate::ttl::Ttl;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// What it reads of its own keys, before it is known whether it counts.
pub(super) struct Read {
    hooks: hooks::Options,
    registry: registry::Options,
    reindex: ReindexOptions,
    reading: Reading,
}

/// `None` only where a fault says why.
pub(super) fn read(fields: &mut Fields<'_>, data_dir: &Path) -> Option<Read> {
    let hooks = apps::read(fields);
    let reindex = reindex(fields);
    let reading = reading::read(fields);
    let url = fields.url("registry.url", &["postgres", "postgresql"]);
    let key = key(fields)?;
    let registry = match (url, key) {
        (Some(url), Some(key)) => registry::Options::Postgres { url, key },
        (Some(_), None) => {
            let text = "is needed with registry.url: a file with 64 hexadecimal digits, the same key for every process \
                        that uses this registry; `openssl rand -hex 32` makes one";
            fields.refuse("registry.key_file", text);
            return None;
        }
        (None, key) => registry::Options::Sqlite {
            path: data_dir.join("registry.db"),
            key: key.unwrap_or_else(|| Key::MadeAtFirst(data_dir.join("registry.key"))),
        },
    };
    Some(Read { hooks: hooks?, registry, reindex: reindex?, reading: reading? })
}

/// What seals the secrets; `Some(None)` where it is not set, and `None` only where a fault says why.
fn key(fields: &mut Fields<'_>) -> Option<Option<Key>> {
    let file = fields.optional("registry.key_file").map(|path| Key::File(path.into()));
    let is_key = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let text = fields.parsed("registry.key", |text| match text.trim() {
        "" => Ok(None),
        text if is_key(text) => Ok(Some(Key::Text(text.to_owned()))),
        _ => Err("must be 64 hexadecimal digits, as `openssl rand -hex 32` makes them".to_owned()),
    });
    match (file, text?) {
        (Some(_), Some(_)) => {
            fields.refuse("registry.key", "is at odds with registry.key_file: set one of them");
            None
        }
        (file, text) => Some(file.or(text)),
    }
}

fn reindex(fields: &mut Fields<'_>) -> Option<ReindexOptions> {
    let every = interval(fields, "reindex.every", MINUTE..=30 * DAY);
    let full_every = interval(fields, "reindex.full_every", HOUR..=365 * DAY);
    let overlap = fields.duration("reindex.overlap", MINUTE..=30 * DAY);
    Some(ReindexOptions { cadence: Cadence { every: every?, full_every: full_every? }, overlap })
}

/// `Some(None)` is never.
fn interval(fields: &mut Fields<'_>, key: &'static str, range: RangeInclusive<Duration>) -> Option<Option<Duration>> {
    let allowed = || {
        let [min, max] = [range.start(), range.end()].map(|time| spell_ttl(Ttl::For(*time)));
        format!("must be \"never\" or a time with a unit, {min} to {max}, such as \"6h\"")
    };
    fields.parsed(key, |text| match parse_ttl(text) {
        Ok(Ttl::Never) => Ok(None),
        Ok(Ttl::For(time)) if range.contains(&time) => Ok(Some(time)),
        _ => Err(allowed()),
    })
}

pub(super) fn join(read: Read, queue: BufferOptions) -> PageLinks {
    let Read { hooks, registry, reindex, reading } = read;
    PageLinks { hooks, registry, queue, reindex, reading }
}

/// What can't hold beside page links.
pub(super) fn check(fields: &mut Fields<'_>, config: &Config) {
    let Some(page_links) = &config.page_links else { return };
    check_roles(fields, config, page_links);
}

/// An embedded backend lives in one process, so all who need it must live there.
fn check_roles(fields: &mut Fields<'_>, config: &Config, page_links: &PageLinks) {
    let has = |role| config.roles.has(role);
    let reads_pages = [Role::Pages, Role::Reindex].into_iter().find(|role| has(*role));
    if is_embedded_buffer(&config.buffer)
        && let Some(role) = reads_pages
        && !has(Role::Consume)
    {
        let text = format!(
            "has {} without consume, which needs it in one process while the buffer is embedded: set buffer.queue_url to \
             run them apart",
            role.as_str()
        );
        fields.refuse("roles", text);
    }
    let registry = matches!(page_links.registry, registry::Options::Sqlite { .. });
    let (what, keys) = match (registry, is_embedded_buffer(&page_links.queue)) {
        (true, true) => ("registry and the queue of page links are", "registry.url and pages.queue_url"),
        (true, false) => ("registry is", "registry.url"),
        (false, true) => ("queue of page links is", "pages.queue_url"),
        (false, false) => return,
    };
    let without_pages =
        [Role::Set, Role::Admin, Role::Reindex].into_iter().find(|role| has(*role) && !has(Role::Pages));
    let lacking = match without_pages {
        Some(role) => (role, Role::Pages),
        None if has(Role::Pages) && !has(Role::Set) => (Role::Pages, Role::Set),
        None => return,
    };
    let text = format!(
        "has {} without {}, which need each other in one process while confluence.enabled is true and the {what} \
         embedded: set {keys} to run them apart",
        lacking.0.as_str(),
        lacking.1.as_str(),
    );
    fields.refuse("roles", text);
}
