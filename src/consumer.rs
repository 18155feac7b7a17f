//! The consumer: takes from the buffer, writes to the store. A mover: it knows no backend.
//!
//! [`apply`] is the core, free of the buffer and of loops: a batch in, one verdict per message out. [`Consumer`] is the
//! worker around it, which takes, applies and settles:
//!
//! * several pollers take; permits bound how many batches are in hand; no batch waits for another;
//! * a message leaves the buffer when each of its keys has a final outcome, or as a dead letter with its reason;
//! * while the store is down it pauses: nothing is taken, what is in hand stays hidden and is tried again in place, and
//!   no attempt is counted. It probes the store, and goes on by itself;
//! * what fails alone while the store is healthy is tried again later, and dead-lettered after `attempts_max`.
//!
//! [`Handler`] is what stands around `apply` where the queue itself hands batches over, and removes what is not returned
//! to it (AWS Lambda).
//!
//! Neither sends a message to the dead letters because of an outage, and neither drops one.

mod apply;
mod breaker;
mod handler;
mod report;
mod rulings;
mod worker;

use std::time::Duration;

pub use apply::{Done, Retry, Verdict, apply};
pub use breaker::Breaker;
pub use handler::Handler;
pub use rulings::{Policy, RuleSource, Rulings};
pub use worker::Consumer;

/// How the worker works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Takes that run at once.
    pub pollers: usize,
    /// Batches in hand at once, each of at most ten messages.
    pub batches_in_flight_max: usize,
    /// What failed this often on its own is dead-lettered.
    pub attempts_max: u32,
    /// Shortest and longest time between two probes of a store that is down.
    pub pause_min: Duration,
    pub pause_max: Duration,
    /// What is in hand at a stop may take this long to finish; then it is given back.
    pub drain_deadline: Duration,
}
