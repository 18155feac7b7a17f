//! Reindex: the mover itself, between a stand-in for Confluence, a real registry, buffer and consumer, and a real store.

mod full;
mod incremental;
mod leases;
mod names;
mod rig;
mod schedule;
mod trouble;
