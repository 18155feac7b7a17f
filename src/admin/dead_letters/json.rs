//! The JSON forms of dead letters. The control plane writes them and its client reads them, from these very types.

use serde::{Deserialize, Serialize};

pub use crate::admin::looked::Looked;
use crate::envelope::request::whole_number;

/// A dead letter without its body.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Letter {
    /// The letter's own name.
    pub message_id: String,
    /// The message's name while it was alive, where that was another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former_message_id: Option<String>,
    pub reason: String,
    pub detail: String,
    /// Since when it lies there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// What its body says of itself, where that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Arrival at the edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    pub body_bytes: usize,
}

/// A dead letter with its body.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Whole {
    #[serde(flatten)]
    pub letter: Letter,
    /// The message as it lay in the buffer; what is not UTF-8 is replaced.
    pub body: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listing {
    pub letters: Vec<Letter>,
    #[serde(flatten)]
    pub looked: Looked,
}

/// What became of the letters that matched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settled {
    pub done: usize,
    /// One for each that could not be redriven or dropped now; repeating it is harmless.
    pub failed: Vec<Failed>,
    /// Of the ids that were asked for, those that no letter has among those that were looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    #[serde(flatten)]
    pub looked: Looked,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    pub message_id: String,
    pub detail: String,
}

/// Whose dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queue {
    /// Sets and deletes that could not be stored.
    #[default]
    Buffer,
    /// Pages that could not be read, and other tasks of page links.
    Pages,
}

impl Queue {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buffer => "buffer",
            Self::Pages => "pages",
        }
    }
}

/// Which letters to redrive or to drop: by ids, by filter, or all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selection {
    #[serde(default)]
    pub queue: Queue,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<String>,
    #[serde(default, deserialize_with = "whole_number", skip_serializing_if = "Option::is_none")]
    pub older_than_seconds: Option<u64>,
    #[serde(default, deserialize_with = "whole_number", skip_serializing_if = "Option::is_none")]
    pub newer_than_seconds: Option<u64>,
    /// Must be written out where nothing narrows the choice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    #[serde(default, deserialize_with = "whole_number", skip_serializing_if = "Option::is_none")]
    pub scan_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Leaves letters that died after this: a later call of the same redrive must not meet what the first one redrove.
    #[serde(default, deserialize_with = "whole_number", skip_serializing_if = "Option::is_none")]
    pub as_of_ms: Option<u64>,
}

/// The query of a list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListQuery {
    #[serde(default)]
    pub queue: Queue,
    pub reason: Option<String>,
    pub account_id: Option<String>,
    pub flow_id: Option<String>,
    pub older_than_seconds: Option<u64>,
    pub newer_than_seconds: Option<u64>,
    pub limit: Option<usize>,
    pub scan_limit: Option<usize>,
    pub after: Option<String>,
}

/// The query of one letter.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShowQuery {
    #[serde(default)]
    pub queue: Queue,
    pub scan_limit: Option<usize>,
}
