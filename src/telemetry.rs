//! What the process tells about itself: metrics, log lines and trace contexts.
//!
//! A leaf: it knows nothing of buffers, stores or requests, and is told numbers and fixed words. Every label comes from
//! a closed set, so that no account, flow or webhook key can ever become a label. A [`Metrics`] has a registry of its
//! own; two servers in one process count apart.

pub mod logs;
pub mod meter;
pub mod metrics;
mod striped;
pub mod trace;

pub use meter::Meter;
pub use metrics::{HookOutcome, Metrics};
