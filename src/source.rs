//! From a verified caller's raw request to a wire form. Pure and synchronous: no I/O, no clock, time is an argument.
//!
//! "Verified" is a type: only a source makes a [`WireForm`](crate::envelope::WireForm), and only from a request that
//! keeps every rule. The one source is [`direct`]: the set and the delete request as the set API takes them. Sources
//! for the webhooks of other services take their place beside it, one file per service.
//!
//! | file | holds |
//! | --- | --- |
//! | `direct` | set and delete requests as they are |
//! | `schema` | the JSON Schemas in `config/schemas/`, which name every fault of such a request by JSON pointer |

pub mod confluence;
pub mod direct;
pub mod schema;

pub use direct::{Accepted, Direct};

use crate::envelope::Fault;

/// Why a request was not accepted. The caller must change it; a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// At least one, at most [`FAULTS_MAX`](crate::envelope::limits::FAULTS_MAX).
    Faults(Vec<Fault>),
    /// The wire form would take `size` bytes.
    TooLarge { limit: usize, size: usize },
    /// The payload times its keys would take `size` bytes.
    FanOut { limit: usize, size: usize },
}
