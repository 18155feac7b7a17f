//! What an error of Redis means: is it true of everything now or of one command alone, and is the connection still good.

use std::sync::Arc;

use deadpool::managed::PoolError;
use deadpool_redis::redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::{Unavailable, WriteError};

/// An error of Redis, read.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) reach: Reach,
    text: Arc<str>,
}

/// What a fault is true of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// This command alone, as far as is known.
    Command,
    /// Nothing but that the server doesn't know the script (any more).
    Script,
    /// Every command now.
    Server,
    /// Every command now: the server is too slow, or gone without a word. Which, only time tells.
    Slow,
    /// Every command now, and this connection is of no use any more: it is broken, or leads to a server that is no
    /// primary any more, so that the address must be resolved anew.
    Connection,
}

/// What the server says of itself, not of the command that it refused.
const SERVER_CODES: [&str; 9] =
    ["OOM", "MISCONF", "NOREPLICAS", "BUSY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNKILLABLE"];
/// What only a cluster says.
const CLUSTER_CODES: [&str; 3] = ["MOVED", "ASK", "CROSSSLOT"];
/// Who we are is not good enough.
const AUTH_CODES: [&str; 2] = ["NOAUTH", "WRONGPASS"];

impl Fault {
    pub(super) fn new(reach: Reach, text: impl Into<Arc<str>>) -> Self {
        Self { reach, text: text.into() }
    }

    pub(super) fn slow() -> Self {
        Self::new(Reach::Slow, "no answer in time")
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn of_pool(error: PoolError<RedisError>) -> Self {
        match error {
            PoolError::Backend(error) => Self::from(&error),
            PoolError::Timeout(_) => Self::new(Reach::Server, "no connection in time"),
            other => Self::new(Reach::Server, other.to_string()),
        }
    }
}

impl From<&RedisError> for Fault {
    fn from(error: &RedisError) -> Self {
        let code = error.code().unwrap_or_default();
        if error.kind() == ErrorKind::AuthenticationFailed || AUTH_CODES.contains(&code) {
            return Self::new(Reach::Server, format!("Redis refuses the user or the password of store.url: {error}"));
        }
        if code == "NOPERM" {
            return Self::new(Reach::Server, format!("the user of store.url lacks a permission: {error}"));
        }
        if SERVER_CODES.contains(&code) {
            return Self::new(Reach::Server, error.to_string());
        }
        if CLUSTER_CODES.contains(&code) {
            let text = format!("store.url leads to a Redis Cluster, which this version doesn't speak to: {error}");
            return Self::new(Reach::Server, text);
        }
        if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
            return Self::new(Reach::Connection, format!("store.url leads to a replica: {error}"));
        }
        if is_too_old(error) {
            return Self::new(Reach::Server, format!("store.url must lead to Redis 6.2 or later: {error}"));
        }
        if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) {
            return Self::new(Reach::Script, error.to_string());
        }
        if error.is_timeout() {
            return Self::slow();
        }
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => Self::new(Reach::Command, error.to_string()),
            _ => Self::new(Reach::Connection, format!("no connection to Redis (store.url): {error}")),
        }
    }
}

/// A server that doesn't know `PXAT`, or a command of ours, is of no use for any write.
fn is_too_old(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    let unknown = ["syntax error", "unknown command"].iter().any(|unknown| detail.starts_with(unknown));
    unknown && error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError)
}

impl From<Fault> for WriteError {
    fn from(fault: Fault) -> Self {
        match fault.reach {
            Reach::Command => Self::Refused(fault.text().to_owned()),
            _ => Self::Unavailable(fault.text().to_owned()),
        }
    }
}

impl From<Fault> for Unavailable {
    fn from(fault: Fault) -> Self {
        Self(fault.text().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deadpool_redis::redis::{Value, parse_redis_value};

    fn reply(line: &str) -> Fault {
        match parse_redis_value(format!("-{line}\r\n").as_bytes()) {
            Ok(Value::ServerError(error)) => Fault::from(&RedisError::from(error)),
            other => panic!("not an error: {other:?}"),
        }
    }

    #[test]
    fn what_is_true_of_every_command_is_told_from_what_is_true_of_one() {
        let server = [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Redis is configured to save RDB snapshots, but",
            "NOREPLICAS Not enough good replicas to write.",
            "BUSY Redis is busy running a script.",
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "CLUSTERDOWN The cluster is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "MOVED 3999 127.0.0.1:6381",
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOPERM this user has no permissions to run the 'evalsha' command",
            "ERR syntax error",
            "ERR unknown command 'EVALSHA', with args beginning with:",
        ];
        for line in server {
            assert_eq!(reply(line).reach, Reach::Server, "{line}");
        }
        assert_eq!(reply("READONLY You can't write against a read only replica.").reach, Reach::Connection);
        assert_eq!(reply("NOSCRIPT No matching script.").reach, Reach::Script);
        for line in ["ERR string exceeds maximum allowed size", "WRONGTYPE Operation against a key", "NEWCODE x"] {
            assert_eq!(reply(line).reach, Reach::Command, "{line}");
            assert!(matches!(WriteError::from(reply(line)), WriteError::Refused(_)), "{line}");
        }
    }

    #[test]
    fn a_fault_that_an_operator_must_mend_names_its_key() {
        for line in ["WRONGPASS x", "NOAUTH x", "NOPERM x", "READONLY x", "MOVED 1 a:1", "ERR syntax error"] {
            assert!(reply(line).text().contains("store.url"), "{line}");
        }
    }

    #[test]
    fn a_broken_connection_is_told_from_a_slow_server() {
        let io = |kind| Fault::from(&RedisError::from(std::io::Error::from(kind))).reach;
        assert_eq!(io(std::io::ErrorKind::BrokenPipe), Reach::Connection);
        assert_eq!(io(std::io::ErrorKind::ConnectionRefused), Reach::Connection);
        assert_eq!(io(std::io::ErrorKind::TimedOut), Reach::Slow);
    }
}
