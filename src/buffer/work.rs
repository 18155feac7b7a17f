//! What whoever takes from a buffer needs to work on what it has taken. It judges no message.
//!
//! | file | holds |
//! | --- | --- |
//! | `held` | what is in hand stays hidden, and is given back |
//! | `settle` | removing and burying, entry by entry, until each is done |
//! | `last` | what a take brings that runs at a stop |
//! | `attempts` | how often a message failed on its own |

mod attempts;
mod held;
pub mod last;
pub mod settle;

pub use attempts::{Attempts, Failures};
pub use held::{Hand, Held};
