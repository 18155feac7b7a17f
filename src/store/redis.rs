//! The store on Redis or Valkey, one node (6.2 or later, which brought `PXAT`).
//!
//! One string per webhook key under `hc:v1:k:{}:` (the empty braces keep a key's own braces from choosing its slot in a
//! cluster), and our own records under `hc:v1:c:`, where no webhook key can reach. A small script, `put.lua`, compares
//! what is there with what comes and writes it, so that the guard holds whoever writes at the same time.
//!
//! Writes go over leased connections, one lease per batch. Reads share a few multiplexed connections, since a lease
//! per read would cost a round trip of its own. Nothing is sent while there is nothing to do.
//!
//! The ACL user needs `~hc:v1:*`, `+get +set +getrange +exists +unlink +hgetall +hset +hdel +hexists +hlen`, and
//! `+eval +evalsha +script|load +ping +unwatch`; for the control plane's walks also `+scan +dbsize +strlen +setrange
//! +persist +pexpireat`; with `store.acknowledge` also `+wait` or `+waitaof`, and with a number
//! of a database in the URL `+select`.
//!
//! It never evicts keys, never subscribes to anything, and scans only where an operator asks for it.
//!
//! | file | holds |
//! | --- | --- |
//! | `header` | how a value is laid out |
//! | `endpoint` | where Redis is, how it is reached, who we are there |
//! | `fault` | what an error of Redis means: who must act, and is the connection still good |
//! | `leases` | the pool of leased connections; acknowledgement by replicas and by the append-only file |
//! | `shared` | one multiplexed connection that is made anew whenever it breaks |
//! | `write`, `read`, `rules`, `catalog` | the halves |

mod catalog;
mod endpoint;
mod fault;
mod header;
mod leases;
mod read;
mod rules;
mod shared;
mod write;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use deadpool_redis::redis::{RedisWrite, ToRedisArgs};

pub use catalog::Catalog;
pub use endpoint::OpenError;
#[cfg(fuzzing)]
pub use header::recode;
pub use read::Reader;
pub use rules::RuleBook;
pub use write::Writer;

use crate::envelope::WebhookKey;
use crate::store::Acknowledge;

/// Prefix of the entries, and of our own records.
const KEY_PREFIX: &str = "hc:v1:k:{}:";
const RULES_KEY: &str = "hc:v1:c:ttl";
const MARK_KEY: &str = "hc:v1:c:mark";

/// How a Redis store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// `redis://[user[:password]@]host[:port][/db]`, or `rediss://` for TLS.
    pub url: String,
    /// ACL user and password from files, which beat those of the URL; read again at every connect.
    pub username_file: Option<PathBuf>,
    pub password_file: Option<PathBuf>,
    /// A PEM file of certificate authorities to trust in place of the public ones.
    pub ca_file: Option<PathBuf>,
    pub acknowledge: Acknowledge,
    /// Shared multiplexed connections that serve reads.
    pub read_connections: usize,
    /// Leased connections that serve batches and the control plane.
    pub write_connections: usize,
    pub connect_timeout: Duration,
    pub read_timeout: Duration,
    pub write_timeout: Duration,
}

/// Opens the three halves. A Redis that can't be reached now is no error: it is logged, and heals by itself.
///
/// Must be called within a Tokio runtime, which keeps the shared connections.
pub fn open(options: &Options) -> Result<(Writer, Reader, RuleBook), OpenError> {
    let endpoint = endpoint::Endpoint::new(options)?;
    let leases = leases::Leases::new(&endpoint, options)?;
    let reader = Reader::new(&endpoint, options);
    Ok((Writer::new(leases.clone()), reader, RuleBook::new(leases)))
}

/// Where an entry lies, as one argument that is never built on its own: writers send thousands of them.
struct RedisKey<'a>(&'a WebhookKey);

impl ToRedisArgs for RedisKey<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        write_joined(out, [KEY_PREFIX.as_bytes(), self.0.as_str().as_bytes()]);
    }
}

/// Writes parts as one argument, without joining them first.
fn write_joined<W: ?Sized + RedisWrite>(out: &mut W, parts: [&[u8]; 2]) {
    let mut arg = out.writer_for_next_arg();
    for part in parts {
        arg.write_all(part).expect("writing to memory never fails");
    }
}
