//! Confluence's webhooks: from a verified body to a task for the pages worker. Pure; whether the sender is who it says is
//! for the mover to check, before anything here is called.
//!
//! | file | holds |
//! | --- | --- |
//! | `body` | the envelopes of Connect, Forge and Data Center, read to one event |
//! | `install` | what a site tells when it installs or leaves a Connect app, and what it is made of |
//! | `hosts` | which servers hookcache may call because a webhook said so |
//! | `descriptor` | the descriptor of the Connect app |
//! | `task` | what lies in the pages queue |

pub mod body;
pub mod descriptor;
pub mod hosts;
pub mod install;
pub mod task;

pub use crate::envelope::page_links::{CALLER, FLOW, KEY_PREFIX};
pub use body::{Heard, Told};
pub use hosts::AllowedHosts;
pub use install::Installed;
pub use task::{EventName, Lifecycle, PageTask, ReindexScope, What};

/// Where cloud apps post, and their descriptor lies. A Connect webhook has its event's name behind it.
pub const HOOKS_PATH: &str = "/v1/hooks/confluence";
/// Where the descriptor of the Connect app lies.
pub const DESCRIPTOR_PATH: &str = "/v1/hooks/confluence/atlassian-connect.json";
