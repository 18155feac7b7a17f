//! A value that many share, made anew whenever one of them finds it stale: a connection that broke, a map of a cluster
//! that has changed.
//!
//! A task of its own makes it, so that a caller who gives up early doesn't end an attempt that others wait for. While
//! it can't be made callers are told so at once; the task tries again, less and less often.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::fault::{Fault, Reach};

/// Longest pause after a failed attempt; the first is [`Make::PAUSE_MIN`], and each is twice the one before.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How a value is made.
pub(super) trait Make: Send + 'static {
    type Value: Clone + Send + Sync + 'static;

    /// Least time from one attempt to the next.
    const PAUSE_MIN: Duration;

    /// For the log: what can't be reached when an attempt fails.
    fn what(&self) -> String;

    fn make(&mut self) -> impl Future<Output = Result<Self::Value, Fault>> + Send;
}

#[derive(Clone)]
enum State<T> {
    Unknown,
    Up(Live<T>),
    Down(Fault),
}

/// A value, and the number under which it is reported stale.
#[derive(Clone)]
pub(super) struct Live<T> {
    pub(super) value: T,
    number: u64,
}

pub(super) struct Kept<T> {
    state: watch::Receiver<State<T>>,
    /// Highest number that was reported stale.
    stale: watch::Sender<u64>,
    _keeper: AbortOnDropHandle<()>,
}

impl<T: Clone + Send + Sync + 'static> Kept<T> {
    pub(super) fn new(maker: impl Make<Value = T>) -> Self {
        let (state, state_seen) = watch::channel(State::Unknown);
        let (stale, stale_seen) = watch::channel(0);
        let keeper = tokio::spawn(keep(maker, state, stale_seen));
        Self { state: state_seen, stale, _keeper: AbortOnDropHandle::new(keeper) }
    }

    pub(super) fn is_fresh(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(live) if !self.is_stale(live))
    }

    /// The value that nobody has found stale, as soon as it is known whether there is one.
    pub(super) async fn fresh(&self) -> Result<Live<T>, Fault> {
        self.when(|live| !self.is_stale(live)).await
    }

    /// The last value, although a newer one may be on its way.
    pub(super) async fn latest(&self) -> Result<Live<T>, Fault> {
        self.when(|_| true).await
    }

    async fn when(&self, is_good: impl Fn(&Live<T>) -> bool) -> Result<Live<T>, Fault> {
        let mut state = self.state.clone();
        let is_known = |state: &State<T>| match state {
            State::Unknown => false,
            State::Up(live) => is_good(live),
            State::Down(_) => true,
        };
        match state.wait_for(is_known).await.as_deref() {
            Ok(State::Up(live)) => Ok(live.clone()),
            Ok(State::Down(fault)) => Err(Fault::new(Reach::Server, fault.text())),
            Ok(State::Unknown) | Err(_) => Err(Fault::new(Reach::Server, "the store is closing")),
        }
    }

    /// A report counts at once, not only when the keeper has seen it.
    fn is_stale(&self, live: &Live<T>) -> bool {
        live.number <= *self.stale.borrow()
    }

    /// From now on the value at hand is not fresh, if there is one.
    pub(super) fn report_latest_stale(&self) {
        let state = self.state.borrow().clone();
        if let State::Up(live) = state {
            self.report_stale(&live);
        }
    }

    /// From now on it is not fresh, and a new one is made.
    pub(super) fn report_stale(&self, live: &Live<T>) {
        self.stale.send_if_modified(|stale| {
            let news = live.number > *stale;
            *stale = live.number.max(*stale);
            news
        });
    }
}

async fn keep<M: Make>(mut maker: M, state: watch::Sender<State<M::Value>>, mut stale: watch::Receiver<u64>) {
    let mut number = 0;
    let mut pause = M::PAUSE_MIN;
    let mut told = false;
    loop {
        let began = Instant::now();
        match maker.make().await {
            Ok(value) => {
                number += 1;
                pause = M::PAUSE_MIN;
                state.send_replace(State::Up(Live { value, number }));
                if std::mem::take(&mut told) {
                    tracing::info!(endpoint = maker.what(), "Redis answers again");
                }
                if stale.wait_for(|stale| *stale >= number).await.is_err() {
                    return;
                }
                sleep_until(began + M::PAUSE_MIN).await;
            }
            Err(fault) => {
                if !std::mem::replace(&mut told, true) {
                    let (endpoint, reason) = (maker.what(), fault.text());
                    tracing::warn!(endpoint, reason, "store.url: Redis can't be reached; trying on");
                }
                state.send_replace(State::Down(fault));
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
