//! Hears of every change from one primary: a connection of its own in RESP3, with `CLIENT TRACKING` in its broadcasting
//! mode on the prefix of the entries.
//!
//! Redis then pushes the name of each entry that is written, removed, evicted or expires, whoever does it, and tells when
//! it was emptied. It remembers nothing of what we read, and needs a few bytes for each push that we have not taken yet.
//! A push moves on a generation of [`Changes`], at once and in the task that reads the connection.
//!
//! *Which server.* An answer is as good as its [`Lease`] only where it comes from the very server that is listened to. So
//! each connection that reads asks for the `run_id` of its server when it is made, and is compared with ours before each
//! read. Where they differ, the one that was made later knows better where the primary is: an older connection is made
//! anew, and a newer one makes us listen anew. A run id holds as long as the connection does, as a restart ends it.
//!
//! *Heartbeat.* Every [`HEARTBEAT`] it asks for the server's role, in a cluster for its view of it, and a Sentinel where
//! the primary is: one that was replaced and lives on doesn't know it. An answer renews the lease, by [`HEARTBEAT`] and
//! the time that an answer may take. No answer, another role or another primary is a loss: the lease ends and the epoch
//! moves on, at once; it connects again through [`Primary`], so finds where the primary is now, and moves on the epoch
//! once more. Another view of the cluster moves on the epoch, and has the map of its slots made anew.
//!
//! *Replicas.* A primary that was demoted and lives on keeps its connections, and the name that led to it may lead to the
//! new one only a while later. So a replica is not listened to but left, again and again until the name leads to a
//! primary; the connections that read follow, as theirs are older.
//!
//! Each primary in use has one tracker in a process, which ends with the last of the connections that read from it. A
//! server that has no tracking, or a user who lacks `+client|tracking`, `+info` or, in a cluster, `+cluster|info`, tells
//! nothing: it is asked again now and then, and [`Changes::standing`] says why.

mod ears;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use deadpool_redis::redis::aio::{MultiplexedConnection, SendError};
use deadpool_redis::redis::{Cmd, PushInfo, PushKind, RedisResult, Value, cmd};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use self::ears::Ears;
use super::fault::{Fault, Reach};
use super::primary::Primary;
use super::slots::Address;
use super::{KEY_PREFIX, Mode, Options};
use crate::envelope::Clock;
use crate::store::changes::{Changes, Lease};

/// Time between two questions: a connection that is open on our side alone is found out within this time and a read's.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// A lease outlasts the heartbeat that should renew it by the time that its answer may take, and by this.
const LEASE_MARGIN: Duration = Duration::from_secs(1);
/// Pauses between attempts, doubled each time, and up to a half longer or shorter: many processes lose their primary at
/// the same moment.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Longest pause where the server answers and refuses: an operator has to act.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(10);

/// As HELLO names it.
const REPLICA: &str = "replica";

/// All that hear of changes in a process, and what they hear. Cheap to clone.
#[derive(Clone)]
pub(super) struct News {
    pub(super) changes: Changes,
    clock: Clock,
    /// Counts the views of a cluster that differed from the one before.
    pub(super) moved: watch::Sender<u64>,
    /// One for each primary, however many read from it.
    trackers: Arc<Mutex<HashMap<String, Weak<Tracker>>>>,
}

impl News {
    pub(super) fn new(changes: Changes, clock: Clock) -> Self {
        Self { changes, clock, moved: watch::Sender::new(0), trackers: Arc::default() }
    }

    /// The tracker of a primary, which listens as long as somebody has it. Must be called within a runtime.
    pub(super) fn tracker(&self, primary: &Primary, options: &Options) -> Arc<Tracker> {
        let mut trackers = self.trackers.lock().unwrap_or_else(PoisonError::into_inner);
        trackers.retain(|_, tracker| tracker.strong_count() > 0);
        if let Some(tracker) = trackers.get(&primary.to_string()).and_then(Weak::upgrade) {
            return tracker;
        }
        let tracker = Arc::new(Tracker::start(primary, options, self.clone()));
        trackers.insert(primary.to_string(), Arc::downgrade(&tracker));
        tracker
    }
}

/// The `run_id` of a server.
pub(super) type ServerId = Arc<str>;

/// A connection's server, and when we began to look where it is.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) server: ServerId,
    pub(super) since: Instant,
}

/// What an answer over some connection is worth.
pub(super) enum Worth {
    /// Every change to it is told while the lease is good.
    Told(Lease),
    /// Nobody tells of changes now.
    Untold,
    /// Nothing: the primary is elsewhere by now.
    Outdated,
}

/// Listens to one primary until it is dropped.
pub(super) struct Tracker {
    ears: Arc<Ears>,
    _task: AbortOnDropHandle<()>,
}

impl Tracker {
    fn start(primary: &Primary, options: &Options, news: News) -> Self {
        let (source, primary) = (news.changes.source(), primary.with_pushes());
        let ears = Arc::new(Ears::new(source));
        let listener = Listener {
            ears: Arc::clone(&ears),
            primary,
            news,
            patience: options.read_timeout,
            is_of_cluster: matches!(options.mode, Mode::Cluster { .. }),
        };
        Self { ears, _task: AbortOnDropHandle::new(tokio::spawn(listener.run())) }
    }

    /// What is an answer worth that is about to be asked for over a connection from there? To be asked before that.
    pub(super) fn worth(&self, origin: Option<&Origin>) -> Worth {
        let session = self.ears.session();
        match (&session.heard, origin) {
            (None, _) | (_, None) => Worth::Untold,
            (Some(heard), Some(origin)) if heard.server == origin.server => Worth::Told(self.ears.lease()),
            (Some(heard), Some(origin)) if heard.since > origin.since => Worth::Outdated,
            (Some(_), Some(_)) => {
                let number = session.number;
                drop(session);
                self.ears.end(number, "the primary is elsewhere by now");
                Worth::Untold
            }
        }
    }
}

/// Which server a connection leads to; `None` where our user may not know.
pub(super) async fn server_of(connection: &mut MultiplexedConnection) -> Result<Option<ServerId>, Fault> {
    let info: RedisResult<String> = cmd("INFO").arg("server").query_async(connection).await;
    match info.map_err(|error| Fault::from(&error)) {
        Ok(info) => Ok(info.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().into())),
        Err(fault) if matches!(fault.reach, Reach::Slow | Reach::Connection) => Err(fault),
        Err(_) => Ok(None),
    }
}

struct Listener {
    ears: Arc<Ears>,
    primary: Primary,
    news: News,
    /// How long an answer may take.
    patience: Duration,
    is_of_cluster: bool,
}

/// What a heartbeat looks at.
#[derive(Debug, PartialEq, Eq)]
struct Pulse {
    role: String,
    /// What CLUSTER INFO says, as far as it concerns who serves what; empty where there is no cluster.
    cluster: Vec<String>,
}

impl Listener {
    async fn run(self) {
        let (mut pause, mut is_told) = (PAUSE_MIN, false);
        loop {
            let number = self.ears.open();
            let fault = match self.listen(number).await {
                Ok(()) => Fault::new(Reach::Connection, "the connection that tells of changes has ended"),
                Err(fault) => fault,
            };
            self.ears.end(number, fault.text());
            if self.ears.session().has_begun {
                (pause, is_told) = (PAUSE_MIN, false);
            }
            if !std::mem::replace(&mut is_told, true) {
                let (endpoint, reason) = (self.primary.to_string(), fault.text());
                tracing::warn!(endpoint, reason, "Redis doesn't tell of changes now (get.cache); trying on");
            }
            let longest = match fault.reach {
                Reach::Slow | Reach::Connection => PAUSE_MAX,
                _ => REFUSED_PAUSE_MAX,
            };
            sleep(jittered(pause.min(longest))).await;
            pause = (pause * 2).min(REFUSED_PAUSE_MAX);
        }
    }

    /// `Ok` where the session was ended by somebody else.
    async fn listen(&self, number: u64) -> Result<(), Fault> {
        let since = Instant::now();
        let (ears, changes) = (Arc::clone(&self.ears), self.news.changes.clone());
        let config = self.primary.endpoint().config(self.patience).set_push_sender(move |push: PushInfo| {
            match push.kind {
                PushKind::Invalidate => invalidate(&changes, &push.data),
                PushKind::Disconnection => ears.end(number, "the connection that tells of changes broke"),
                _ => {}
            }
            Ok::<(), SendError>(())
        });
        let (mut connection, address) = self.primary.connect_where(&config).await?;
        let server = server_of(&mut connection).await?.ok_or_else(|| refused("+info", "it names no run_id"))?;
        let mut track = cmd("CLIENT");
        track.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(KEY_PREFIX);
        ask(&mut connection, &track, "+client|tracking").await?;
        let asked_ms = self.news.clock.now_ms();
        let mut pulse = self.pulse(&mut connection).await?;
        if pulse.role == REPLICA {
            return Err(Fault::new(Reach::Server, "store.url leads to a replica"));
        }
        if !self.ears.begin(number, Origin { server, since }, self.lease_from(asked_ms)) {
            return Ok(());
        }
        tracing::info!(endpoint = %self.primary, "Redis tells of changes");
        loop {
            if timeout(HEARTBEAT, self.ears.until_over()).await.is_ok() {
                return Ok(());
            }
            let asked_ms = self.news.clock.now_ms();
            let (now, primary) = tokio::join!(self.pulse(&mut connection), self.whereabouts());
            let now = now?;
            if let Some(primary) = primary.filter(|primary| *primary != address) {
                return Err(Fault::new(Reach::Connection, format!("the primary is {primary} by now, not {address}")));
            }
            if now.role != pulse.role {
                let text = format!("its role was {} and is {}", pulse.role, now.role);
                return Err(Fault::new(Reach::Connection, text));
            }
            if now.cluster != pulse.cluster {
                self.news.changes.everything_changed();
                self.news.moved.send_modify(|moved| *moved += 1);
            }
            pulse = now;
            self.ears.renew(number, self.lease_from(asked_ms));
        }
    }

    /// Where the Sentinels know the primary; `None` where there are none.
    async fn whereabouts(&self) -> Option<Address> {
        match &self.primary {
            Primary::Known(_) => None,
            // For no longer than Redis itself may take: a lease must not run out because a Sentinel doesn't answer.
            Primary::Watched(watched) => watched.whereabouts(self.patience).await,
        }
    }

    /// What is asked now and answered shows that all changes before it were told.
    fn lease_from(&self, asked_ms: u64) -> u64 {
        asked_ms.saturating_add((HEARTBEAT + self.patience + LEASE_MARGIN).as_millis() as u64)
    }

    async fn pulse(&self, connection: &mut MultiplexedConnection) -> Result<Pulse, Fault> {
        // Says the role, and takes no permission.
        let hello = ask(connection, &cmd("HELLO"), "+hello").await?;
        let role = field(&hello, "role").unwrap_or_default().to_owned();
        let cluster = match self.is_of_cluster {
            true => {
                let mut info = cmd("CLUSTER");
                info.arg("INFO");
                view(&ask(connection, &info, "+cluster|info").await?)
            }
            false => Vec::new(),
        };
        Ok(Pulse { role, cluster })
    }
}

/// `rule` is what lets our user ask.
async fn ask(connection: &mut MultiplexedConnection, command: &Cmd, rule: &str) -> Result<Value, Fault> {
    command.query_async(connection).await.map_err(|error| {
        let fault = Fault::from(&error);
        match fault.reach {
            Reach::Slow | Reach::Connection => fault,
            _ => refused(rule, fault.detail()),
        }
    })
}

fn refused(rule: &str, why: &str) -> Fault {
    Fault::new(Reach::Server, format!("Redis can't tell of changes ({why}): it must allow our user {rule}"))
}

/// One key, several, or none at all where the server was emptied.
fn invalidate(changes: &Changes, data: &[Value]) {
    match data {
        [Value::Array(keys)] => keys.iter().for_each(|key| match key {
            Value::BulkString(key) => {
                if let Some(key) = key.strip_prefix(KEY_PREFIX.as_bytes()) {
                    changes.key_changed(changes.hash(key));
                }
            }
            _ => changes.everything_changed(),
        }),
        _ => changes.everything_changed(),
    }
}

/// A text field of an answer that is a map.
fn field<'a>(answer: &'a Value, name: &str) -> Option<&'a str> {
    let text = |value: &'a Value| match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text.as_str()),
        _ => None,
    };
    let Value::Map(fields) = answer else { return None };
    fields.iter().find(|(key, _)| text(key) == Some(name)).and_then(|(_, value)| text(value))
}

/// The lines of CLUSTER INFO that change when nodes come, go, or serve other slots; not those that count messages.
fn view(info: &Value) -> Vec<String> {
    let text = match info {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::VerbatimString { text, .. } => text.clone(),
        _ => String::new(),
    };
    let concerns = |line: &&str| line.starts_with("cluster_") && !line.starts_with("cluster_stats_");
    text.lines().map(str::trim).filter(concerns).map(str::to_owned).collect()
}

/// Between a half and one and a half of it.
fn jittered(pause: Duration) -> Duration {
    // A new state of the standard hasher is a random number.
    let random = RandomState::new().build_hasher().finish();
    pause / 2 + pause.mul_f64(f64::from(random as u16) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn pushes_name_keys_or_everything() {
        let changes = Changes::new(Clock::system());
        let entry = |name: &str| bulk(&format!("{KEY_PREFIX}{name}"));
        let (a, b, c) = (changes.hash(b"a"), changes.hash(b"b"), changes.hash(b"c"));
        let stamps = || [a, b, c].map(|hash| changes.stamp(hash));
        let before = stamps();
        invalidate(&changes, &[Value::Array(vec![entry("a"), entry("c"), bulk("another:prefix")])]);
        let after = stamps();
        assert_ne!(after[0], before[0]);
        assert_eq!(after[1], before[1]);
        assert_ne!(after[2], before[2]);
        for emptied in [&[Value::Nil][..], &[], &[Value::Array(vec![Value::Int(1)])]] {
            let before = stamps();
            invalidate(&changes, emptied);
            assert!(stamps().iter().zip(before).all(|(now, before)| *now != before), "{emptied:?}");
        }
    }

    #[test]
    fn a_view_of_a_cluster_leaves_out_what_only_counts() {
        let text = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_known_nodes:6\r\ncluster_size:3\r\n\
            cluster_current_epoch:6\r\ncluster_my_epoch:2\r\ncluster_stats_messages_sent:1483\r\n";
        let seen = view(&bulk(text));
        let want = ["state:ok", "slots_assigned:16384", "known_nodes:6", "size:3", "current_epoch:6", "my_epoch:2"];
        assert_eq!(seen, want.map(|line| format!("cluster_{line}")));
        assert_eq!(view(&bulk(&text.replace("1483", "1484"))), seen);
        assert_ne!(view(&bulk(&text.replace("current_epoch:6", "current_epoch:7"))), seen);
    }

    #[test]
    fn a_jittered_pause_is_about_as_long() {
        let pause = Duration::from_secs(1);
        assert!((0..100).map(|_| jittered(pause)).all(|jittered| jittered >= pause / 2 && jittered <= pause * 3 / 2));
    }
}
