//! One multiplexed connection that many readers share, made anew whenever it breaks.
//!
//! A task of its own connects, so that a reader that gives up early doesn't end an attempt that others wait for. While
//! Redis is away readers are told so at once; the task tries again, less and less often.

use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::Endpoint;
use super::fault::{Fault, Reach};

/// Pause after a failed attempt to connect, doubled each time up to the second one.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) enum State {
    Connecting,
    Up(Live),
    Down(Fault),
}

/// A connection, and the number under which it is reported broken.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    number: u64,
}

pub(super) struct Shared {
    state: watch::Receiver<State>,
    /// Highest number that was reported broken.
    broken: watch::Sender<u64>,
    _keeper: AbortOnDropHandle<()>,
}

impl Shared {
    pub(super) fn new(endpoint: Endpoint, response_timeout: Duration) -> Self {
        let (state, state_seen) = watch::channel(State::Connecting);
        let (broken, broken_seen) = watch::channel(0);
        let keeper = tokio::spawn(keep(endpoint, response_timeout, state, broken_seen));
        Self { state: state_seen, broken, _keeper: AbortOnDropHandle::new(keeper) }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(live) if self.is_whole(live))
    }

    /// The connection, as soon as it is known whether there is one.
    pub(super) async fn live(&self) -> Result<Live, Fault> {
        let mut state = self.state.clone();
        let is_known = |state: &State| match state {
            State::Connecting => false,
            State::Up(live) => self.is_whole(live),
            State::Down(_) => true,
        };
        match state.wait_for(is_known).await.as_deref() {
            Ok(State::Up(live)) => Ok(live.clone()),
            Ok(State::Down(fault)) => Err(Fault::new(Reach::Server, fault.text())),
            Ok(State::Connecting) | Err(_) => Err(Fault::new(Reach::Server, "the store is closing")),
        }
    }

    /// A report counts at once, not only when the keeper has seen it.
    fn is_whole(&self, live: &Live) -> bool {
        live.number > *self.broken.borrow()
    }

    /// From now on nobody gets this connection.
    pub(super) fn report_broken(&self, live: &Live) {
        self.broken.send_if_modified(|broken| {
            let news = live.number > *broken;
            *broken = live.number.max(*broken);
            news
        });
    }
}

async fn keep(
    endpoint: Endpoint,
    response_timeout: Duration,
    state: watch::Sender<State>,
    mut broken: watch::Receiver<u64>,
) {
    let mut number = 0;
    let mut pause = RECONNECT_PAUSE_MIN;
    let mut told = false;
    loop {
        match endpoint.connect(response_timeout).await {
            Ok(connection) => {
                number += 1;
                pause = RECONNECT_PAUSE_MIN;
                state.send_replace(State::Up(Live { connection, number }));
                if std::mem::take(&mut told) {
                    tracing::info!(%endpoint, "Redis answers again");
                }
                if broken.wait_for(|broken| *broken >= number).await.is_err() {
                    return;
                }
                state.send_replace(State::Connecting);
            }
            Err(error) => {
                let fault = Fault::from(&error);
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%endpoint, reason = fault.text(), "store.url: Redis can't be reached; trying on");
                }
                state.send_replace(State::Down(fault));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
            }
        }
    }
}
