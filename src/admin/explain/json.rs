//! The JSON form of what is known of a page. The control plane writes it and its client reads it, from these very types.

use serde::{Deserialize, Serialize};

use crate::admin::dead_letters::json::Letter;
use crate::admin::reindex::json::{Next, Progress};

/// Where a page's links are, station by station.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    pub site: String,
    /// Why the site is not read, and what would change that; absent for an active site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_active: Option<String>,
    pub page: String,
    /// The key of its links.
    pub webhook_key: String,
    pub account_id: String,
    /// Absent where no event and no reindex has ever told of it, or all of that is long past.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<Known>,
    /// What lies under the key now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<Stored>,
    pub waiting: Waiting,
    pub dead: Dead,
    /// The open reindex of the site, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reindex: Option<Progress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_reindex: Option<Next>,
    /// What this means, and what to do.
    pub advice: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// The version that was read last; 0 while none was.
    pub version: u64,
    /// `current`, `archived` or `trashed`; absent where the page is not there, or not to be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_event: Option<Event>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_fetch: Option<Fetch>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    pub name: String,
    pub at: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fetch {
    pub at: String,
    /// `ok`, `not-found`, or what went wrong.
    pub result: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// Of the page.
    pub version: u64,
    /// When it was read.
    pub read_at: String,
    /// Absent where it never expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    pub payload_bytes: u64,
    /// The id of the envelope that brought it, in logs.
    pub id: String,
}

/// How many messages that name the page wait. Absent where it can't be known: SQS shows messages only to who takes them,
/// and an embedded buffer only where it runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Tasks to read it, in the pages queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages_queue: Option<u64>,
    /// What was read of it, in the buffer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer: Option<u64>,
    /// All that waits was looked at, as far as it can be looked at.
    pub complete: bool,
}

/// Dead letters that name the page.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dead {
    /// Of the pages queue.
    pub pages_queue: Vec<Letter>,
    /// Of the buffer.
    pub buffer: Vec<Letter>,
    /// How many were looked at, whatever they name.
    pub looked_at: usize,
    /// All of them were looked at.
    pub complete: bool,
}
