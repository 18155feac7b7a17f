//! A few multiplexed connections to one primary, which all reads of a runtime share: requests are pipelined as they come,
//! and single reads that come at the same time are one request.
//!
//! A read is sent again where its connection broke before the answer came: reading twice is harmless, and a restart of
//! Redis while nobody was reading stays unseen.
//!
//! Where changes are tracked, each connection knows its server, and an answer comes with what it is worth to whoever
//! wants to remember it; `tracking` says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisResult, Value};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::Options;
use super::endpoint::PIPELINE_REQUESTS_MAX;
use super::fault::{Fault, Reach};
use super::gather::Gather;
use super::kept::{Kept, Make};
use super::primary::Primary;
use super::tracking::{News, Origin, Tracker, Worth, server_of};
use crate::store::changes::Lease;

/// Pause after a first failed attempt to connect.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);

pub(super) struct Shared {
    lines: Arc<Lines>,
    gather: Gather,
    /// Reads in flight, of which a request of many keys is one. One too many is told so at once: in a queue it would
    /// only wait for its timeout.
    room: Arc<Semaphore>,
}

/// The connections themselves.
pub(super) struct Lines {
    connections: Vec<Kept<Connected>>,
    next: AtomicUsize,
    timeout: Duration,
    tracker: Option<Arc<Tracker>>,
}

/// One result per command, and until when every change to them is told.
pub(super) struct Answers {
    pub(super) replies: Vec<Result<Value, Fault>>,
    pub(super) lease: Option<Lease>,
}

/// What a read of one key found, and until when every change to it is told.
pub(super) struct Reply {
    pub(super) value: Value,
    pub(super) lease: Option<Lease>,
}

#[derive(Clone)]
struct Connected {
    connection: MultiplexedConnection,
    /// `None` where nobody asks for it.
    origin: Option<Origin>,
}

struct Connector {
    primary: Primary,
    config: AsyncConnectionConfig,
    is_tracked: bool,
}

impl Make for Connector {
    type Value = Connected;

    const PAUSE_MIN: Duration = RECONNECT_PAUSE_MIN;

    fn what(&self) -> String {
        self.primary.to_string()
    }

    async fn make(&mut self) -> Result<Connected, Fault> {
        let since = Instant::now();
        let mut connection = self.primary.connect(&self.config).await?;
        let server = match self.is_tracked {
            true => server_of(&mut connection).await?,
            false => None,
        };
        Ok(Connected { connection, origin: server.map(|server| Origin { server, since }) })
    }
}

impl Shared {
    /// Must be called within a runtime, which keeps the connections. With news, changes are tracked.
    pub(super) fn new(primary: &Primary, options: &Options, news: Option<&News>) -> Self {
        let config = primary.endpoint().config(options.read_timeout);
        let is_tracked = news.is_some();
        let connect = |_| Kept::new(Connector { primary: primary.clone(), config: config.clone(), is_tracked });
        let lines = Arc::new(Lines {
            connections: (0..options.read_connections).map(connect).collect(),
            next: AtomicUsize::new(0),
            timeout: options.read_timeout,
            tracker: news.map(|news| news.tracker(primary, options)),
        });
        let room = Arc::new(Semaphore::new(options.read_connections * PIPELINE_REQUESTS_MAX));
        Self { gather: Gather::new(lines.clone()), lines, room }
    }

    /// One result per command. An error means that none of the answers is known.
    pub(super) async fn ask(&self, request: &mut Pipeline) -> Result<Answers, Fault> {
        let _room = self.room.try_acquire().map_err(|_| no_room())?;
        self.lines.ask(request).await
    }

    /// The reply to a command that reads one key.
    pub(super) async fn ask_one(&self, get: Cmd) -> Result<Reply, Fault> {
        let room = self.room.clone().try_acquire_owned().map_err(|_| no_room())?;
        self.gather.ask(get, room).await
    }
}

fn no_room() -> Fault {
    Fault::new(Reach::Server, "too many reads wait for it already (store.read_connections)")
}

impl Lines {
    /// One result per command. An error means that none of the answers is known.
    pub(super) async fn ask(&self, request: &mut Pipeline) -> Result<Answers, Fault> {
        request.ignore_errors();
        let deadline = Instant::now() + self.timeout;
        let asked = timeout_at(deadline, self.ask_until_answered(request, deadline)).await;
        asked.unwrap_or_else(|_| Err(Fault::slow()))
    }

    /// Each attempt finds at most one connection broken; after the last of them comes a new one.
    async fn ask_until_answered(&self, request: &Pipeline, deadline: Instant) -> Result<Answers, Fault> {
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
    async fn ask_once(&self, request: &Pipeline, deadline: Instant) -> Result<Answers, Fault> {
        let kept = self.pick();
        let mut live = kept.fresh().await?;
        let lease = match self.worth(&live.value) {
            Worth::Told(lease) => Some(lease),
            Worth::Untold => None,
            Worth::Outdated => {
                kept.report_stale(&live);
                return Err(Fault::new(Reach::Connection, "the primary is elsewhere by now"));
            }
        };
        let query = request.query_async::<Vec<RedisResult<Value>>>(&mut live.value.connection);
        let fault = match timeout_at(deadline, query).await {
            Ok(Ok(replies)) => {
                let replies = replies.into_iter().map(|reply| reply.map_err(|error| Fault::from(&error))).collect();
                return Ok(Answers { replies, lease });
            }
            Ok(Err(error)) => Fault::from(&error),
            Err(_) => Fault::slow(),
        };
        if matches!(fault.reach, Reach::Connection | Reach::Slow) {
            kept.report_stale(&live);
        }
        Err(fault)
    }

    fn worth(&self, connected: &Connected) -> Worth {
        self.tracker.as_ref().map_or(Worth::Untold, |tracker| tracker.worth(connected.origin.as_ref()))
    }

    /// The next connection that is up; where none is, the next one.
    fn pick(&self) -> &Kept<Connected> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.connections.len();
        let mut in_turn = (0..count).map(|i| &self.connections[start.wrapping_add(i) % count]);
        in_turn.find(|kept| kept.is_fresh()).unwrap_or(&self.connections[start % count])
    }
}
