//! Webhooks of Confluence, over real sockets: between senders whose tokens Atlassian's own libraries make, and a real
//! registry and a real queue.

mod bodies;
mod connect;
mod edge;
mod faults;
mod forge;
mod secret;
pub mod stage;
mod tokens;
