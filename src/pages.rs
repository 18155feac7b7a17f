//! Pages: reads what the queue of page links names, and puts what it links to on the road. A mover: it takes tasks, asks
//! sites, writes down what it has read in the registry, and knows no backend.
//!
//! A task leaves the queue only when its envelope is in the buffer, when there is nothing to be done, or as a dead letter.
//! All of it may come twice and in any order: versions decide, and states of a site by their times.
//!
//! | task | what is done |
//! | --- | --- |
//! | a page | it is read, and its links are put on the road; a page that is not there, or not to be seen, is dropped |
//! | a space that is gone | a task for each page that is known of it, in parts: what is still there is kept |
//! | a lifecycle | the state of the site; `enabled` asks for a reindex, a site that left for good is purged |
//! | a reindex | it is asked for in the registry |
//!
//! *Nobody waits for another's site.* Each site has a lane: so many reads at once, and none while it is away. What finds
//! its lane full is hidden until its turn. A site that is away makes no dead letter: its tasks come again, ever more
//! rarely, until they are too old. What one page alone makes unusable counts attempts, as long as its site answers others.
//!
//! *What a site does not want is not done.* Tasks of a site that is paused, disabled, uninstalled or not known are
//! deleted: the reindex that its return asks for repairs it.
//!
//! Limits: [`Options`], [`READ_LATE`], [`READ_LAG_MAX`], [`UNINSTALLED_RETENTION`], those of `lanes` and `puts_off`.
//!
//! | file | holds |
//! | --- | --- |
//! | `worker` | the loop: take, do, settle, pause, drain |
//! | `batch` | from messages to jobs: what is about one page is one job |
//! | `lanes` | whose site is asked when |
//! | `read` | one page, from a fetch to an envelope |
//! | `others` | tasks about spaces, lifecycles and reindexes |
//! | `purge` | a site that left for good goes, and what is known of pages that are long gone |
//! | `puts_off` | how long what can't be done now waits |

mod batch;
mod lanes;
mod others;
mod purge;
mod puts_off;
mod read;
mod worker;

use std::time::Duration;

pub use worker::{Pages, Parts};

/// A site answers an event's own page late now and then: a page that is not there, or older than the event tells, is read
/// again within this time of the event. Then a page that is not there is gone.
pub const READ_LATE: Duration = Duration::from_secs(6);
/// After this time of an event, a page that is still older than the event tells is taken as it is.
pub const READ_LAG_MAX: Duration = Duration::from_secs(10 * 60);
/// For how long the links of a site are kept after it has uninstalled the app.
pub const UNINSTALLED_RETENTION: Duration = Duration::from_secs(30 * 86_400);

/// How the worker works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Tasks in hand at once.
    pub tasks_in_hand_max: usize,
    /// Reads of one site at once: what its client allows.
    pub reads_per_site_max: usize,
    /// A page that could not be used this often, while its site answered others, is dead-lettered.
    pub attempts_max: u32,
    /// What is in hand at a stop may take this long to finish; then it is given back.
    pub drain_deadline: Duration,
}
