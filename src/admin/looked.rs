//! How far a call has looked, in the JSON of every call that walks through many things.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Looked {
    /// All that there is was looked at.
    pub complete: bool,
    /// When this was asked, milliseconds since the epoch: for dead letters the next call's `asOfMs`.
    pub as_of_ms: u64,
    /// Where to go on: the next call's `after`. Absent at the end, and on a buffer that keeps no order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// How much was looked at, and how much there is (approximate on SQS and Redis), whoever's it is. Not told to a
    /// token that is bound to accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scanned: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}
