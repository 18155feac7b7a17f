//! How pages are read: the keys of `confluence` that are about calls to sites, and those of `pages` that are about the
//! worker.

use std::path::PathBuf;
use std::time::Duration;

use super::{MILLISECOND, MINUTE, SECOND};
use crate::config::PagesOptions;
use crate::config::fields::Fields;
use crate::confluence;
use crate::page::Archived;

/// How sites are asked, and what becomes of what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub client: confluence::Options,
    pub connect_timeout: Duration,
    /// PEM: trusted beside the public authorities.
    pub ca_file: Option<PathBuf>,
    pub archived: Archived,
    pub pages: PagesOptions,
}

/// `None` only where a fault says why.
pub(super) fn read(fields: &mut Fields<'_>) -> Option<Reading> {
    let client = confluence::Options {
        requests_at_once: fields.count("confluence.requests_at_once", 1..=64),
        requests_per_second: fields.number("confluence.requests_per_second", 1..=1_000),
        request_timeout: fields.duration("confluence.request_timeout", SECOND..=5 * MINUTE),
        answer_bytes_max: usize::try_from(fields.size("confluence.answer_bytes_max", 1 << 20..=256 << 20)).ok()?,
    };
    let connect_timeout = fields.duration("confluence.connect_timeout", 100 * MILLISECOND..=MINUTE);
    let ca_file = fields.optional("confluence.ca_file").map(PathBuf::from);
    let archived = fields.choice("confluence.archived", &Archived::ALL.map(|policy| (policy.as_str(), policy)));
    let pages = PagesOptions {
        tasks_in_hand_max: fields.count("pages.tasks_in_hand_max", 1..=1_024),
        reads_per_site_max: client.requests_at_once,
        attempts_max: fields.number("pages.attempts_max", 1..=1_000),
        drain_deadline: fields.duration("pages.drain_deadline", Duration::ZERO..=10 * MINUTE),
    };
    Some(Reading { client, connect_timeout, ca_file, archived: archived?, pages })
}
