//! A few multiplexed connections to one primary, which all reads share: requests are pipelined as they come.
//!
//! A read is sent again where its connection broke before the answer came: reading twice is harmless, and a restart of
//! Redis while nobody was reading stays unseen.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, Pipeline, RedisResult, Value};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::Options;
use super::endpoint::PIPELINE_REQUESTS_MAX;
use super::fault::{Fault, Reach};
use super::kept::{Kept, Make};
use super::primary::Primary;

/// Pause after a first failed attempt to connect.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);

pub(super) struct Shared {
    connections: Vec<Kept<MultiplexedConnection>>,
    next: AtomicUsize,
    /// Requests in flight. One too many is told so at once: in a queue it would only wait for its timeout.
    room: Semaphore,
    timeout: Duration,
}

struct Connector {
    primary: Primary,
    config: AsyncConnectionConfig,
}

impl Make for Connector {
    type Value = MultiplexedConnection;

    const PAUSE_MIN: Duration = RECONNECT_PAUSE_MIN;

    fn what(&self) -> String {
        self.primary.to_string()
    }

    async fn make(&mut self) -> Result<MultiplexedConnection, Fault> {
        self.primary.connect(&self.config).await
    }
}

impl Shared {
    pub(super) fn new(primary: &Primary, options: &Options) -> Self {
        let config = primary.endpoint().config(options.read_timeout);
        let connect = |_| Kept::new(Connector { primary: primary.clone(), config: config.clone() });
        Self {
            connections: (0..options.read_connections).map(connect).collect(),
            next: AtomicUsize::new(0),
            room: Semaphore::new(options.read_connections * PIPELINE_REQUESTS_MAX),
            timeout: options.read_timeout,
        }
    }

    /// One result per command. An error means that none of the answers is known.
    pub(super) async fn ask(&self, request: &mut Pipeline) -> Result<Vec<Result<Value, Fault>>, Fault> {
        request.ignore_errors();
        let Ok(_room) = self.room.try_acquire() else {
            return Err(Fault::new(Reach::Server, "too many reads wait for it already (store.read_connections)"));
        };
        let deadline = Instant::now() + self.timeout;
        let asked = timeout_at(deadline, self.ask_until_answered(request, deadline)).await;
        asked.unwrap_or_else(|_| Err(Fault::slow()))
    }

    /// Each attempt finds at most one connection broken; after the last of them comes a new one.
    async fn ask_until_answered(
        &self,
        request: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Result<Value, Fault>>, Fault> {
        for _ in 0..self.connections.len() {
            match self.ask_once(request, deadline).await {
                Err(fault) if fault.reach == Reach::Connection => {}
                result => return result,
            }
        }
        self.ask_once(request, deadline).await
    }

    /// A server that doesn't answer in time may be gone without a word, and its place taken by another: whoever comes
    /// next connects anew, and so asks where the primary is.
    async fn ask_once(&self, request: &Pipeline, deadline: Instant) -> Result<Vec<Result<Value, Fault>>, Fault> {
        let kept = self.pick();
        let mut live = kept.fresh().await?;
        let asked = timeout_at(deadline, request.query_async::<Vec<RedisResult<Value>>>(&mut live.value)).await;
        let fault = match asked {
            Ok(Ok(replies)) => {
                return Ok(replies.into_iter().map(|reply| reply.map_err(|error| Fault::from(&error))).collect());
            }
            Ok(Err(error)) => Fault::from(&error),
            Err(_) => Fault::slow(),
        };
        if matches!(fault.reach, Reach::Connection | Reach::Slow) {
            kept.report_stale(&live);
        }
        Err(fault)
    }

    /// The next connection that is up; where none is, the next one.
    fn pick(&self) -> &Kept<MultiplexedConnection> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.connections.len();
        let mut in_turn = (0..count).map(|i| &self.connections[start.wrapping_add(i) % count]);
        in_turn.find(|kept| kept.is_fresh()).unwrap_or(&self.connections[start % count])
    }
}
