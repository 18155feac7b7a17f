//! Gets that are held: how many at once, and what ends a hold before its time.
//!
//! A held get keeps its connection, which counts in `http.connections_max`, and what it is made of in memory. It is
//! answered with what is there, as soon as its client has closed its side, so that clients that have given up leave no
//! holds behind, and at once when the server stops.

use tokio::sync::SemaphorePermit;

use super::Shared;
use super::limits::HELD_SHARE_MAX;
use super::socket::Peer;

/// Holds of a listener at once; at least one.
pub(super) fn places(connections_max: usize) -> usize {
    (connections_max as f64 * HELD_SHARE_MAX).ceil() as usize
}

/// A place among the held. It is free again when this is dropped.
pub(super) struct Hold<'a> {
    shared: &'a Shared,
    peer: &'a Peer,
    _place: SemaphorePermit<'a>,
}

impl Shared {
    /// `None` where too many are held already.
    pub(super) fn hold<'a>(&'a self, peer: &'a Peer) -> Option<Hold<'a>> {
        let place = self.held.try_acquire().ok()?;
        self.metrics.held(1);
        Some(Hold { shared: self, peer, _place: place })
    }
}

impl Hold<'_> {
    /// Returns when there is a reason to answer at once.
    pub(super) async fn cut_short(&self) {
        tokio::select! {
            () = self.shared.stop.cancelled() => {}
            () = self.peer.client_closed() => {}
        }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.shared.metrics.held(-1);
    }
}
