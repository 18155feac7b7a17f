//! Leased connections to one primary, one holder at a time: they serve batches and the control plane.
//!
//! Before a lease the pool asks whether the connection lives, which costs a round trip, unless it was leased a moment
//! ago: a connection that broke since then shows it at the first command, as one that breaks under a lease does.
//!
//! Also here: how a batch is acknowledged by replicas or by the append-only file, which is true of a connection, not of
//! a command.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult, Timeouts};
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, Pipeline, RedisResult, Value, cmd, pipe};
use deadpool_redis::{Manager, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Options;
use super::fault::{Fault, Reach};
use super::primary::Primary;
use super::topology::Route;
use crate::store::Acknowledge;

/// How long the record lives that moves the replication offset before a wait, in milliseconds. A node has four at most.
const MARK_MS: u64 = 60_000;
/// How long a lease may wait for its turn. Who holds one is bounded by its own timeouts, so a longer wait than those
/// means that Redis is busy, not that it is down; to fail for it would turn load into a pause.
const TURN_MAX: Duration = Duration::from_secs(30);

/// A connection that was leased within this time is leased again unasked. Under load that halves the round trips of a
/// batch; with a pause in between, a restart of Redis stays unseen.
const UNASKED_MAX: Duration = Duration::from_secs(1);
/// How long a connection that is asked may take to answer. A new one is made of one that takes longer: it may lead
/// nowhere, and who leases it can wait for a connection, but not for all of `store.write_timeout` first.
const ASKED_MAX: Duration = Duration::from_millis(500);

type Pool = managed::Pool<Asking>;
type Connection = managed::Object<Asking>;

/// The pool's manager: it connects as reads do, and asks only connections that were idle for a while.
pub(super) struct Asking {
    primary: Primary,
    config: AsyncConnectionConfig,
    asks: Manager,
}

/// A connection of the pool.
pub(super) struct Pooled {
    connection: MultiplexedConnection,
    leased: Leased,
}

/// When it was leased last, by both clocks: a machine that is frozen (AWS Lambda) may stop the one, and a person may set
/// back the other.
struct Leased(Instant, SystemTime);

impl Leased {
    fn now() -> Self {
        Self(Instant::now(), SystemTime::now())
    }

    fn is_a_moment_ago(&self) -> bool {
        self.0.elapsed() < UNASKED_MAX && self.1.elapsed().is_ok_and(|age| age < UNASKED_MAX)
    }
}

impl Asking {
    fn new(primary: &Primary, response_timeout: Duration) -> Self {
        let endpoint = primary.endpoint();
        let asks = Manager::new(endpoint.info().clone()).expect("what is a ConnectionInfo already needs no parsing");
        Self { primary: primary.clone(), config: endpoint.writer_config(response_timeout), asks }
    }
}

impl managed::Manager for Asking {
    type Type = Pooled;
    type Error = Fault;

    async fn create(&self) -> Result<Pooled, Fault> {
        Ok(Pooled { connection: self.primary.connect(&self.config).await?, leased: Leased::now() })
    }

    async fn recycle(&self, pooled: &mut Pooled, metrics: &Metrics) -> RecycleResult<Fault> {
        let last = std::mem::replace(&mut pooled.leased, Leased::now());
        if last.is_a_moment_ago() {
            return Ok(());
        }
        managed::Manager::recycle(&self.asks, &mut pooled.connection, metrics).await.map_err(|error| match error {
            RecycleError::Backend(error) => RecycleError::Backend(Fault::from(&error)),
            RecycleError::Message(text) => RecycleError::Message(text),
        })
    }
}

pub(super) struct Leases {
    pool: Pool,
    /// As many as the pool has connections: who has one never waits in the pool itself.
    turns: Arc<Semaphore>,
    acknowledge: Acknowledge,
    /// How long Redis may wait for replicas or for its disk; shorter than the reply's own timeout.
    acknowledge_timeout_ms: u64,
    /// How long a lease may take once it is its turn: check and connect.
    lease_timeout: Duration,
}

/// One leased connection.
pub(super) struct Lease {
    /// `None` once it was closed.
    connection: Option<Connection>,
    pool: Pool,
    /// After the connection, so that it is back in the pool when the next one's turn comes.
    _turn: OwnedSemaphorePermit,
}

impl Leases {
    pub(super) fn new(primary: &Primary, options: &Options) -> Self {
        let timeouts = Timeouts {
            wait: Some(options.write_timeout),
            create: Some(primary.connect_time_max()),
            recycle: Some(options.write_timeout.min(ASKED_MAX)),
        };
        let pool = Pool::builder(Asking::new(primary, options.write_timeout))
            .max_size(options.write_connections)
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a pool with timeouts needs a runtime, and has one");
        Self {
            pool,
            turns: Arc::new(Semaphore::new(options.write_connections)),
            acknowledge: options.acknowledge,
            acknowledge_timeout_ms: (options.write_timeout * 3 / 4).as_millis().max(1) as u64,
            lease_timeout: options.write_timeout + primary.connect_time_max(),
        }
    }

    pub(super) async fn lease(&self) -> Result<Lease, Fault> {
        let Ok(Ok(turn)) = tokio::time::timeout(TURN_MAX, self.turns.clone().acquire_owned()).await else {
            let text = "no free connection in time: Redis is slow, or store.write_connections too few";
            return Err(Fault::new(Reach::Server, text));
        };
        match tokio::time::timeout(self.lease_timeout, self.pool.get()).await {
            Ok(Ok(connection)) => Ok(Lease { connection: Some(connection), pool: self.pool.clone(), _turn: turn }),
            Ok(Err(error)) => Err(Fault::of_pool(error)),
            Err(_) => {
                drop_idle(&self.pool);
                Err(Fault::new(Reach::Server, "no connection in time"))
            }
        }
    }

    /// Is a reply all that an acknowledgement takes?
    pub(super) fn replies_acknowledge(&self) -> bool {
        self.acknowledge == Acknowledge::Memory
    }

    /// Waits until what this connection saw so far is as safe as `store.acknowledge` says.
    pub(super) async fn acknowledged(&self, lease: &mut Lease, route: &Route<Self>) -> Result<(), Fault> {
        match self.replies_acknowledge() {
            true => Ok(()),
            false => self.mark(lease, route).await,
        }
    }

    /// Would a write be taken and acknowledged now?
    pub(super) async fn check(&self, route: &Route<Self>) -> Result<(), Fault> {
        let mut lease = self.lease().await?;
        self.mark(&mut lease, route).await
    }

    /// Writes a record of our own, and waits for it as `store.acknowledge` says. It moves this connection's replication
    /// offset past all that happened before, also what other connections wrote: a batch of duplicates writes nothing,
    /// and a wait for nothing is answered at once, although what they duplicate may not have reached a replica yet.
    async fn mark(&self, lease: &mut Lease, route: &Route<Self>) -> Result<(), Fault> {
        let mut moved = Fault::new(Reach::Server, "the node serves no slot");
        for key in route.marks.iter() {
            let mut set = cmd("SET");
            set.arg(key).arg(1).arg("PX").arg(MARK_MS);
            let mut commands = pipe();
            route.add(&mut commands, set);
            match self.acknowledge {
                Acknowledge::Memory => {}
                Acknowledge::Replicas(count) => {
                    commands.cmd("WAIT").arg(count).arg(self.acknowledge_timeout_ms);
                }
                Acknowledge::Aof => {
                    commands.cmd("WAITAOF").arg(1).arg(0).arg(self.acknowledge_timeout_ms);
                }
            }
            match self.judge(lease.run(commands).await?) {
                // Its slot is on the move. That of the next key may not be.
                Err(fault) if fault.reach == Reach::Elsewhere => moved = fault,
                judged => return judged,
            }
        }
        Err(Fault::new(Reach::Server, format!("the slots of a node are on the move: {}", moved.detail())))
    }

    /// The replies to the mark, and to the wait behind it.
    fn judge(&self, replies: Vec<Result<Value, Fault>>) -> Result<(), Fault> {
        let mut replies = replies.into_iter();
        let nothing = || Err(Fault::new(Reach::Server, "Redis gave no answer to a write"));
        replies.next().unwrap_or_else(nothing).map_err(of_server)?;
        if self.replies_acknowledge() {
            return Ok(());
        }
        let answer = replies.next().unwrap_or_else(nothing).map_err(|fault| self.explain(fault))?;
        // Only what is known to be safe is: an answer that nobody foresaw acknowledges nothing.
        let why_not = match (self.acknowledge, answer) {
            (Acknowledge::Replicas(count), Value::Int(answered)) if answered >= i64::from(count) => return Ok(()),
            (Acknowledge::Replicas(count), Value::Int(answered)) => {
                format!("store.acknowledge = replicas({count}): only {answered} answered in time")
            }
            (Acknowledge::Aof, Value::Array(synced)) if matches!(synced[..], [Value::Int(1..), ..]) => return Ok(()),
            (Acknowledge::Aof, Value::Array(_)) => {
                "store.acknowledge = aof: the append-only file was not synced in time".to_owned()
            }
            _ => "Redis gave an answer that WAIT and WAITAOF don't give".to_owned(),
        };
        Err(Fault::new(Reach::Server, why_not))
    }

    /// Why a wait was refused.
    fn explain(&self, fault: Fault) -> Fault {
        match (self.acknowledge, fault.reach) {
            (Acknowledge::Aof, Reach::Command | Reach::Server) => {
                let needs = "needs Redis 7.2 or later with appendonly on";
                Fault::new(Reach::Server, format!("store.acknowledge = aof {needs}: {}", fault.text()))
            }
            _ => of_server(fault),
        }
    }
}

/// A server that can't take the mark, or wait, is down for us, however well it feels.
fn of_server(fault: Fault) -> Fault {
    match fault.reach {
        Reach::Command => Fault::new(Reach::Server, fault.text()),
        _ => fault,
    }
}

fn drop_idle(pool: &Pool) {
    pool.retain(|_, _| false);
}

impl Lease {
    /// One result per command. An error means that none of the answers is known; then, and where an answer says that
    /// the connection leads to the wrong place, it is closed, together with those that idle: they lead there too.
    pub(super) async fn run(&mut self, mut commands: Pipeline) -> Result<Vec<Result<Value, Fault>>, Fault> {
        let Some(connection) = &mut self.connection else {
            return Err(Fault::new(Reach::Connection, "the connection was closed"));
        };
        commands.ignore_errors();
        let replies = match commands.query_async::<Vec<RedisResult<Value>>>(&mut connection.connection).await {
            Ok(replies) => replies,
            Err(error) => {
                let fault = Fault::from(&error);
                self.close_after(&fault);
                return Err(fault);
            }
        };
        let results: Vec<_> = replies.into_iter().map(|reply| reply.map_err(|error| Fault::from(&error))).collect();
        for fault in results.iter().filter_map(|result| result.as_ref().err()) {
            self.close_after(fault);
        }
        Ok(results)
    }

    fn close_after(&mut self, fault: &Fault) {
        if !matches!(fault.reach, Reach::Connection | Reach::Slow) {
            return;
        }
        if let Some(connection) = self.connection.take() {
            drop(Connection::take(connection));
            drop_idle(&self.pool);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_leased_unasked_only_where_both_clocks_say_that_it_was_leased_a_moment_ago() {
        let Leased(now, wall) = Leased::now();
        assert!(Leased(now, wall).is_a_moment_ago());
        assert!(!Leased(now, wall - UNASKED_MAX).is_a_moment_ago(), "frozen together with the monotonic clock");
        assert!(!Leased(now, wall + Duration::from_secs(3_600)).is_a_moment_ago(), "set back since");
        tokio::time::advance(UNASKED_MAX).await;
        assert!(!Leased(now, wall).is_a_moment_ago());
    }
}
