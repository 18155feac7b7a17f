//! How a command looks through many things (dead letters, entries) by several calls, and shows how far it is.
//!
//! A store, and a buffer that keeps order, is walked in steps, each from where the last one ended. A buffer without order
//! (SQS) begins anew with each call; so there a step goes on only while all that it looked at are gone, and otherwise the
//! whole is looked at by one call.

use std::io::{IsTerminal, Write};

use crate::admin::dead_letters::SCAN_MAX;
use crate::admin::looked::Looked;

/// How many one step looks at: a second or so for letters. Entries: all that a call looks at.
const STEP: usize = 1_000;
const _: () = assert!(STEP <= crate::admin::keys::SCAN_MAX);
const BAR_CHARS: usize = 30;

/// What to do after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Done,
    On,
    /// On, from the beginning: what was seen comes again, unless it is gone.
    Again,
}

pub struct Pace {
    /// How many may still be looked at.
    left: usize,
    step: usize,
    after: Option<String>,
}

impl Pace {
    pub fn new(scan_limit: usize) -> Self {
        Self::resumed(scan_limit, None)
    }

    /// From where an earlier walk ended.
    pub fn resumed(scan_limit: usize, after: Option<String>) -> Self {
        Self { left: scan_limit, step: STEP, after }
    }

    pub fn scan_limit(&self) -> usize {
        self.step.min(self.left)
    }

    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// `gone` of those that were looked at are not there any more.
    pub fn next(&mut self, looked: &Looked, gone: usize) -> Next {
        let asked = self.scan_limit();
        if looked.complete {
            return Next::Done;
        }
        let scanned = looked.scanned.unwrap_or(asked);
        let all_gone = gone > 0 && looked.scanned == Some(gone);
        if looked.next.is_some() || all_gone {
            self.after.clone_from(&looked.next);
            self.left = self.left.saturating_sub(scanned.max(1));
            return if self.left == 0 { Next::Done } else { Next::On };
        }
        if asked >= self.left.min(SCAN_MAX) {
            return Next::Done;
        }
        self.step = SCAN_MAX;
        Next::Again
    }
}

/// A line on standard error that is written over again and again, where that is a terminal.
#[derive(Default)]
pub struct StatusLine {
    shown: bool,
}

impl StatusLine {
    /// Is it shown?
    pub fn show(&mut self, text: &str) -> bool {
        let mut out = std::io::stderr();
        if !out.is_terminal() {
            return false;
        }
        self.shown = true;
        // What can't be shown is not worth an error.
        let _ = write!(out, "\r\x1b[2K{text}");
        let _ = out.flush();
        true
    }

    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[2K");
        }
    }
}

/// How far a walk has come, on a [`StatusLine`].
pub struct Progress {
    what: &'static str,
    scanned: usize,
    status: StatusLine,
}

impl Progress {
    pub fn new(what: &'static str) -> Self {
        Self { what, scanned: 0, status: StatusLine::default() }
    }

    pub fn show(&mut self, looked: &Looked, count: usize) {
        self.scanned += looked.scanned.unwrap_or(0);
        self.status.show(&line(self.scanned, looked.total, count, self.what));
    }

    pub fn clear(&mut self) {
        self.status.clear();
    }
}

fn line(scanned: usize, total: Option<u64>, count: usize, what: &str) -> String {
    let Some(total) = total.filter(|total| *total > 0) else { return format!("{scanned} looked at, {count} {what}") };
    // What is gone by now counts no more in the total.
    let total = (total as usize).max(scanned);
    format!("{} {scanned} of about {total} looked at, {count} {what}", bar(scanned, total))
}

/// `[####----]`; full where `total` is nothing.
pub fn bar(done: usize, total: usize) -> String {
    let full = (done.min(total) * BAR_CHARS).checked_div(total).unwrap_or(BAR_CHARS);
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR_CHARS - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(complete: bool, next: Option<&str>, scanned: usize) -> Looked {
        Looked { complete, as_of_ms: 0, next: next.map(str::to_owned), scanned: Some(scanned), total: None }
    }

    #[test]
    fn a_buffer_with_order_is_walked_in_steps_up_to_the_limit() {
        let mut pace = Pace::new(2_500);
        assert_eq!(pace.scan_limit(), STEP);
        assert_eq!(pace.next(&looked(false, Some("1000"), 1_000), 0), Next::On);
        assert_eq!((pace.after(), pace.scan_limit()), (Some("1000"), STEP));
        assert_eq!(pace.next(&looked(false, Some("2000"), 1_000), 7), Next::On);
        assert_eq!(pace.scan_limit(), 500);
        assert_eq!(pace.next(&looked(false, Some("2500"), 500), 0), Next::Done);
        assert_eq!(Pace::new(10).next(&looked(true, None, 3), 0), Next::Done);
    }

    #[test]
    fn a_queue_is_looked_at_as_a_whole_unless_all_that_was_seen_is_gone() {
        let mut pace = Pace::new(10_000);
        assert_eq!(pace.next(&looked(false, None, 1_000), 1_000), Next::On);
        assert_eq!(pace.scan_limit(), STEP);
        assert_eq!(pace.next(&looked(false, None, 1_000), 999), Next::Again);
        assert_eq!(pace.scan_limit(), 9_000);
        assert_eq!(pace.next(&looked(false, None, 9_000), 0), Next::Done);
    }

    #[test]
    fn a_limit_below_a_step_takes_one_call() {
        let mut pace = Pace::new(5);
        assert_eq!(pace.scan_limit(), 5);
        assert_eq!(pace.next(&looked(false, None, 5), 0), Next::Done);
    }

    #[test]
    fn the_line_says_how_far_it_is() {
        assert_eq!(
            line(50, Some(100), 3, "redriven"),
            "[###############---------------] 50 of about 100 looked at, 3 redriven"
        );
        assert_eq!(line(5, None, 0, "found"), "5 looked at, 0 found");
        assert!(line(200, Some(1), 0, "found").starts_with("[##############################]"));
    }
}
