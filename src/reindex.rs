//! Reindex: reads whole sites from the lists of their REST API, and repairs what no event told. A mover: it takes runs
//! from the registry, pages from the site, and puts what they link to on the road. It knows no backend.
//!
//! Two kinds of run, of which a site has one at a time, whatever the number of processes:
//!
//! * *Incremental*: pages, the latest change first, down to those that the last success has seen for certain (its start,
//!   by the site's own clock, less `reindex.overlap`). What is known to be unchanged is not put again.
//! * *Full*: every page by id, each of them put anew, which also mends a store that has lost some. Then what is known
//!   and the list did not name is asked for by id: moves, archives, trash, purges and permissions change no date.
//!
//! A run goes part by part: list, extract, put, wait until the buffer has all of it, note the pages, keep the place. So
//! a crash at any point repeats one part at most, and that is harmless: versions decide. Only a list that has come to
//! its end makes a success; one that goes round in circles fails the run.
//!
//! It never holds more than one part of a list in memory, never reads a site that is not active, and never gives up a
//! run because the site, the registry or the buffer is down: the run waits, and says for what.
//!
//! | file | holds |
//! | --- | --- |
//! | `worker` | claiming runs, several at once, and giving them back at a stop |
//! | `carry` | one run, from claimed to ended or given back |
//! | `lease` | that one process at a time has a run |
//! | `list`, `sweep` | the two steps of a run: a part of the list, some pages that it did not name |
//! | `ask` | asking the site, and waiting for a turn |
//! | `put` | from pages to envelopes on the road |
//! | `judge` | what is unchanged, where a list ends, when it has no end; pure |
//! | `trouble` | what can go wrong, and whether it is worth another try |
//! | `schedule` | asking for the runs that are due |

mod ask;
mod carry;
mod judge;
mod lease;
mod list;
mod put;
mod schedule;
mod sweep;
mod trouble;
mod worker;

use std::time::Duration;

pub use worker::{Parts, Reindexer};

use crate::registry::Cadence;

/// How sites are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How often by itself.
    pub cadence: Cadence,
    /// How much of what the last success has seen an incremental run looks at again: for what a site lists late.
    pub overlap: Duration,
}
