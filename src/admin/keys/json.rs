//! The JSON forms of what is stored. The control plane writes them and its client reads them, from these very types.

use serde::{Deserialize, Serialize};

pub use crate::admin::looked::Looked;
use crate::envelope::request::whole_number;

/// An entry without its payload.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub webhook_key: String,
    pub account_id: String,
    pub flow_id: String,
    /// The id of the 202.
    pub id: String,
    /// Its version, as the data plane's `ETag` has it between quotes.
    pub e_tag: String,
    pub event_time: String,
    /// Absent where it never expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    pub payload_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listing {
    pub entries: Vec<Entry>,
    #[serde(flatten)]
    pub looked: Looked,
}

/// The query of a list.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListQuery {
    pub account_id: Option<String>,
    pub flow_id: Option<String>,
    pub prefix: Option<String>,
    pub scan_limit: Option<usize>,
    pub after: Option<String>,
}

/// What to purge: all of an account, or what a flow and a prefix narrow it to; one page of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PurgeRequest {
    pub account_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    #[serde(default, deserialize_with = "whole_number", skip_serializing_if = "Option::is_none")]
    pub scan_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Says what would be done, and does nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What became of a page of entries that matched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Purged {
    pub purged: usize,
    /// Written anew or gone since they were seen; left as they are.
    pub superseded: usize,
    /// Reserved to another than the caller (`[keys.reserved]`); left as they are.
    pub reserved: usize,
    /// One for each that the store refused to change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failed>,
    #[serde(flatten)]
    pub looked: Looked,
}

/// For which scope to apply the rules to what is stored; one page of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<String>,
    #[serde(default, deserialize_with = "whole_number", skip_serializing_if = "Option::is_none")]
    pub scan_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Says what would be done, and does nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What became of a page of entries of the scope.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Applied {
    /// They expire at another time now.
    pub rewritten: usize,
    /// By the rules they had expired already.
    pub removed: usize,
    /// They expire when the rules say.
    pub unchanged: usize,
    /// A narrower rule than the scope's decides; left as they are.
    pub narrower: usize,
    /// Written anew or gone since they were seen; left as they are.
    pub superseded: usize,
    /// One for each that the store refused to change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failed>,
    #[serde(flatten)]
    pub looked: Looked,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    pub webhook_key: String,
    pub detail: String,
}
