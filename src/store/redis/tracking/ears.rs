//! What is heard of one primary, and by which of the connections that follow each other: news of one that is over must
//! neither end the next one nor pass for it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Origin;
use crate::store::changes::{Lease, Source};

/// What is heard, and by which of the connections that follow each other.
pub(super) struct Ears {
    session: Mutex<Session>,
    ended: Notify,
    source: Source,
}

#[derive(Default)]
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) has_begun: bool,
    is_over: bool,
    /// Whom we listen to; `None` where we don't.
    pub(super) heard: Option<Origin>,
}

impl Ears {
    pub(super) fn new(source: Source) -> Self {
        Self { session: Mutex::default(), ended: Notify::new(), source }
    }

    /// For what is read from the server that we listen to.
    pub(super) fn lease(&self) -> Lease {
        self.source.lease()
    }

    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self) -> u64 {
        let mut session = self.session();
        *session = Session { number: session.number + 1, ..Session::default() };
        session.number
    }

    /// False where the session is over already.
    pub(super) fn begin(&self, number: u64, origin: Origin, until_ms: u64) -> bool {
        let mut session = self.session();
        let is_open = session.number == number && !session.is_over;
        if is_open {
            // Within the lock: who sees the new epoch compares with this server.
            session.has_begun = true;
            session.heard = Some(origin);
            self.source.begin(until_ms);
        }
        is_open
    }

    pub(super) fn renew(&self, number: u64, until_ms: u64) {
        let session = self.session();
        if session.number == number && !session.is_over {
            self.source.renew(until_ms);
        }
    }

    /// Harmless where it is over already, or is not the one at hand.
    pub(super) fn end(&self, number: u64, why: &str) {
        let mut session = self.session();
        if session.number == number && !session.is_over {
            session.is_over = true;
            session.heard = None;
            self.source.lose(why);
            self.ended.notify_one();
        }
    }

    pub(super) async fn until_over(&self) {
        loop {
            let ended = self.ended.notified();
            if self.session().is_over {
                return;
            }
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::envelope::Clock;
    use crate::store::changes::Changes;

    #[test]
    fn a_session_that_is_over_does_not_begin_and_an_old_one_ends_nothing() {
        let changes = Changes::new(Clock::system());
        let ears = Ears::new(changes.source());
        let origin = || Origin { server: "a".into(), since: Instant::now() };
        let first = ears.open();
        ears.end(first, "it broke before it was heard");
        assert!(!ears.begin(first, origin(), u64::MAX));
        let second = ears.open();
        assert!(ears.begin(second, origin(), u64::MAX));
        ears.end(first, "late news of the first");
        assert!(ears.lease().is_good(1));
        ears.end(second, "it broke");
        ears.renew(second, u64::MAX);
        assert!(!ears.lease().is_good(1));
    }
}
