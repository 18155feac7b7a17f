//! What page links are called on the road: whoever stores must know it, also where no webhook is received.

/// Their caller, which may set every account.
pub const CALLER: &str = "source:confluence";
/// What their webhook keys begin with, and nobody else's.
pub const KEY_PREFIX: &str = "confluence:";
/// The flow of everything that they store.
pub const FLOW: &str = "page-links";
