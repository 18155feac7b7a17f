//! The store on Redis or Valkey (6.2 or later, which brought `PXAT`): one server, one that Sentinels watch, or a cluster.
//!
//! One string per webhook key under `hc:v1:k:{}:` (the empty braces keep a key's own braces from choosing its slot in a
//! cluster), and our own records under `hc:v1:c:`, where no webhook key can reach. A small script, `put.lua`, compares
//! what is there with what comes and writes it, so that the guard holds whoever writes at the same time.
//!
//! Writes go over leased connections, one lease per batch and primary. Reads share a few multiplexed connections to each
//! primary, since a lease per read would cost a round trip of its own. Nothing is sent while there is nothing to do, but
//! for the heartbeat of a reader that hears of changes ([`Tracking::On`]).
//!
//! *Cluster.* Keys of one write scatter over the slots, so that each call of the script writes one key; calls and reads
//! are pipelined per primary. MOVED and ASK are followed at once, a few times; then the fault is told, and what was
//! written is repeated by the consumer, which is harmless. Replicas are never read. *Sentinel.* Each new connection asks
//! where the primary is, and asks the server itself whether it is one.
//!
//! *Acknowledgement* is asked for on the very connections that wrote, of each primary that was written to. Before WAIT
//! or WAITAOF goes a write of our own: `hc:v1:c:mark`, in a cluster with a tag that puts it into a slot which that node
//! serves: `hc:v1:c:mark:{n}`. There are four at most for each node, since the slot of one may be on the move.
//!
//! The ACL user needs `~hc:v1:*`, `+get +set +getrange +exists +unlink +hgetall +hset +hdel +hexists +hlen`, and
//! `+eval +evalsha +script|load +ping +unwatch`; for the control plane's walks also `+scan +dbsize +strlen +setrange
//! +persist +pexpireat`; with `store.acknowledge` also `+wait` or `+waitaof`, with a number of a database in the URL
//! `+select`, in a cluster `+cluster|slots +asking`, with Sentinel `+role` and, at the Sentinels,
//! `+sentinel|get-master-addr-by-name`. To hear of changes `+client|tracking +info`, in a cluster also `+cluster|info`.
//! `+info +time` let `doctor` see more.
//!
//! It never evicts keys, subscribes to nothing but changes, and scans only where an operator asks for it.
//!
//! | file | holds |
//! | --- | --- |
//! | `header` | how a value is laid out |
//! | `endpoint`, `credentials` | one server: where it is, how it is reached, who we are there |
//! | `primary` | a primary at a known address, or where the Sentinels say it is |
//! | `fault` | what an error of Redis means: who must act, and is the connection still good |
//! | `kept` | a value that many share, made anew when it is found stale |
//! | `leases` | leased connections to one primary; acknowledgement by replicas and by the append-only file |
//! | `shared` | multiplexed connections to one primary |
//! | `gather` | single reads that come at the same time, joined into one request |
//! | `tracking` | hearing of every change from one primary |
//! | `topology`, `cluster`, `slots` | who serves what, and how commands come there |
//! | `write`, `read`, `rules`, `catalog` | the halves |
//! | `facts`, `inspect` | what a server says of itself, and looking at it for `doctor` |

mod catalog;
mod cluster;
mod credentials;
mod endpoint;
mod facts;
mod fault;
mod gather;
mod header;
mod inspect;
mod kept;
mod leases;
mod primary;
mod read;
mod rules;
mod shared;
mod slots;
mod topology;
mod tracking;
mod write;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use deadpool_redis::redis::{RedisWrite, ToRedisArgs};

pub use catalog::Catalog;
pub use endpoint::OpenError;
pub use facts::{Facts, Look, Node, Version};
#[cfg(fuzzing)]
pub use header::recode;
pub use inspect::{Use, inspect};
pub use read::Reader;
pub use rules::RuleBook;
pub use write::Writer;

use self::leases::Leases;
use self::read::Opened;
use self::slots::{Slot, slot_of};
use self::topology::{Site, Topology};
use self::tracking::News;
use crate::envelope::{Clock, WebhookKey};
use crate::store::Acknowledge;
use crate::store::changes::Changes;

/// Prefix of the entries, and of our own records.
const KEY_PREFIX: &str = "hc:v1:k:{}:";
const RULES_KEY: &str = "hc:v1:c:ttl";
const MARK_KEY: &str = "hc:v1:c:mark";

/// How a Redis store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    pub mode: Mode,
    /// ACL user and password from files, which beat those of the URL; read again at every connect.
    pub username_file: Option<PathBuf>,
    pub password_file: Option<PathBuf>,
    /// A PEM file of certificate authorities to trust in place of the public ones.
    pub ca_file: Option<PathBuf>,
    pub acknowledge: Acknowledge,
    /// Shared multiplexed connections that serve reads, to each primary, of each runtime that reads.
    pub read_connections: usize,
    /// Leased connections that serve batches and the control plane, to each primary.
    pub write_connections: usize,
    pub connect_timeout: Duration,
    pub read_timeout: Duration,
    pub write_timeout: Duration,
    pub tracking: Tracking,
}

/// Does the reader hear of every change, whoever makes it?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracking {
    /// By a connection more to each primary, over which goes a heartbeat.
    On,
    Off,
}

/// What stands at the other end. A URL is `redis://[user[:password]@]host[:port][/db]`, or `rediss://` for TLS; where
/// there are several, all but host and port must be the same.
#[derive(Debug, Clone)]
pub enum Mode {
    /// One server, or a name that leads to the one that is the primary.
    Standalone { url: String },
    /// Sentinels, which know a primary under the name `master`. Scheme, user, password and database of the URLs are for
    /// the primary; the Sentinels are reached in the same way, as the user that these files name, if any.
    Sentinel { urls: Vec<String>, master: String, username_file: Option<PathBuf>, password_file: Option<PathBuf> },
    /// Some nodes of a cluster, which tell the others.
    Cluster { urls: Vec<String> },
}

/// Opens the three halves. A Redis that can't be reached now is no error: it is logged, and heals by itself.
///
/// Must be called within a Tokio runtime, which keeps the shared connections.
pub fn open(options: &Options, clock: Clock) -> Result<(Writer, Reader, RuleBook), OpenError> {
    let counts =
        [("store.read_connections", options.read_connections), ("store.write_connections", options.write_connections)];
    if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
        return Err(OpenError::Zero { key });
    }
    let site = Site::new(options)?;
    let leases = Topology::new(&site, options, Box::new(Leases::new), None);
    let changes = Changes::new(clock.clone());
    let news = match options.tracking {
        Tracking::On => Some(News::new(changes.clone(), clock)),
        Tracking::Off => None,
    };
    let reader = Reader::new(Opened { site, options: options.clone(), changes, news });
    Ok((Writer::new(leases.clone()), reader, RuleBook::new(leases)))
}

/// Where an entry lies, as one argument that is never built on its own: writers send thousands of them.
struct RedisKey<'a>(&'a WebhookKey);

impl RedisKey<'_> {
    fn parts(&self) -> [&[u8]; 2] {
        [KEY_PREFIX.as_bytes(), self.0.as_str().as_bytes()]
    }

    fn slot(&self) -> Slot {
        slot_of(self.parts())
    }
}

impl ToRedisArgs for RedisKey<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        write_joined(out, self.parts());
    }
}

/// Writes parts as one argument, without joining them first.
fn write_joined<W: ?Sized + RedisWrite>(out: &mut W, parts: [&[u8]; 2]) {
    let mut arg = out.writer_for_next_arg();
    for part in parts {
        arg.write_all(part).expect("writing to memory never fails");
    }
}
