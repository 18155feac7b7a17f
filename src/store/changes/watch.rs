//! Those who wait for changes of a key. One who waits costs its memory and nothing else, while changes are told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Changes, Hash, Stamp};

/// How often somebody who waits is told to look where nobody tells of changes.
const POLL_PAUSE: Duration = Duration::from_secs(1);

/// Why whoever waits for a key should look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It may have changed.
    Key,
    /// Everything may have: whoever wakes many at once should spread them out.
    Everything,
    /// Nobody tells of changes now, and some time has passed.
    Unknown,
}

/// Waits for changes of one key.
pub struct Watch {
    changes: Changes,
    hash: Hash,
    notify: Arc<Notify>,
    /// What was known when somebody looked last.
    seen: Stamp,
}

impl Watch {
    pub(super) fn new(changes: Changes, hash: Hash, notify: Arc<Notify>) -> Self {
        Self { seen: changes.stamp(hash), changes, hash, notify }
    }

    /// Returns when the key may have changed since the watch began, or since this returned last: at once where it was
    /// told in between. Look at the key *after* [`Changes::watch`], and again each time this returns. May return for
    /// nothing. Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Change {
        loop {
            // Before the look at the stamp, so that what comes in between wakes it.
            let notified = self.notify.notified();
            let now = self.changes.stamp(self.hash);
            let seen = std::mem::replace(&mut self.seen, now);
            if now.epoch != seen.epoch {
                return Change::Everything;
            }
            if now.generation != seen.generation {
                return Change::Key;
            }
            match self.changes.is_told() {
                true => notified.await,
                false if timeout(POLL_PAUSE, notified).await.is_err() => return Change::Unknown,
                false => {}
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.changes.unwatch(self.hash);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt;

    use super::*;
    use crate::envelope::Clock;

    fn changes() -> Changes {
        Changes::new(Clock::from_fn(|| 1_000))
    }

    #[tokio::test]
    async fn a_change_between_the_watch_and_the_wait_is_not_missed() {
        let changes = changes();
        let source = changes.source();
        source.begin(u64::MAX);
        let mut watch = changes.watch(b"k");
        changes.key_changed(changes.hash(b"k"));
        assert_eq!(watch.changed().await, Change::Key);
        assert!(watch.changed().now_or_never().is_none(), "each change is told once");
        changes.everything_changed();
        assert_eq!(watch.changed().await, Change::Everything);
        source.lose("it broke");
        assert_eq!(watch.changed().await, Change::Everything);
    }

    #[tokio::test]
    async fn many_who_wait_are_woken_and_leave_nothing_behind() {
        let changes = changes();
        let source = changes.source();
        source.begin(u64::MAX);
        let wait = |_| {
            let mut watch = changes.watch(b"k");
            tokio::spawn(async move { watch.changed().await })
        };
        let waiting: Vec<_> = (0..1_000).map(wait).collect();
        tokio::task::yield_now().await;
        changes.key_changed(changes.hash(b"k"));
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), Change::Key);
        }
        assert!(changes.0.waiting().is_empty());
        assert_eq!(changes.0.watches.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_tells_whoever_waits_looks_again_after_a_while() {
        let changes = changes();
        let mut watch = changes.watch(b"k");
        let begin = tokio::time::Instant::now();
        assert_eq!(watch.changed().await, Change::Unknown);
        assert_eq!(begin.elapsed(), POLL_PAUSE);
        changes.key_changed(changes.hash(b"k"));
        assert_eq!(watch.changed().await, Change::Key);
    }

    #[test]
    fn a_change_is_seen_by_whoever_began_to_watch_before_it() {
        // Two threads race; whichever comes first, the change is in the stamp or in the watch.
        for _ in 0..200 {
            let changes = changes();
            let (theirs, changed) = (changes.clone(), Arc::new(AtomicBool::new(false)));
            let flag = Arc::clone(&changed);
            let writer = std::thread::spawn(move || {
                flag.store(true, Ordering::SeqCst);
                theirs.key_changed(theirs.hash(b"k"));
            });
            let mut watch = changes.watch(b"k");
            let seen = changed.load(Ordering::SeqCst);
            writer.join().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let told = runtime.unwrap().block_on(watch.changed());
            assert!(seen || told == Change::Key, "{told:?}");
        }
    }
}
