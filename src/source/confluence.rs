//! Confluence's webhooks: from a verified event to a task for the pages worker.

pub mod task;

pub use task::{EventName, Lifecycle, PageTask, ReindexScope, What};

/// The name of this source as a caller; the prefix [`KEY_PREFIX`] of webhook keys is reserved to it.
pub const CALLER: &str = "source:confluence";
pub const KEY_PREFIX: &str = "confluence:";
/// The flow of everything that this source stores.
pub const FLOW: &str = "page-links";
