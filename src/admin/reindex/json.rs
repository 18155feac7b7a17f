//! The JSON forms of reindexes. The control plane writes them and its client reads them, from these very types.

use serde::{Deserialize, Serialize};

/// How far a site's reindexes are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub site: String,
    /// Why it is not read, and what would change that; absent for an active site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_active: Option<String>,
    /// The open one, and the last ones, newest first.
    pub runs: Vec<Progress>,
    /// When the next one is asked for by schedule; absent while one is open, and where none is scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
    /// A full one has ended well since the site was added.
    pub complete: bool,
    /// When the last one that ended well began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reindex_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<u64>,
    /// Pages of the site that are known to be there.
    pub pages_known: u64,
}

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    pub number: u64,
    /// `full`, `since-last` or `since`.
    pub scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    pub state: State,
    /// When it was asked for, the last time where several askings were joined; also in milliseconds since the epoch.
    pub asked_at: String,
    pub asked_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began_at: Option<String>,
    pub pages_seen: u64,
    pub pages_changed: u64,
    pub pages_swept: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nobody has begun it yet.
    Asked,
    /// Reading the site's list.
    Listing,
    /// Asking for what the list did not name.
    Sweeping,
    Waiting,
    Succeeded,
    Failed,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Waits {
    pub until: String,
    pub why: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Next {
    pub at: String,
    pub scope: String,
}

/// What to read: what was changed since then, all, or what was changed since the last one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
}

/// It was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Of the task, in logs and dead letters.
    pub id: String,
    /// When; also in milliseconds since the epoch.
    pub asked_at: String,
    pub asked_ms: u64,
    pub site: String,
    pub scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}
