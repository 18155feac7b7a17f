//! What an error of Redis means: is it true of everything now or of one command alone, and is the connection still good.

use std::fmt::Display;
use std::sync::Arc;

use deadpool::managed::PoolError;
use deadpool_redis::redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::{Unavailable, WriteError};

/// An error of Redis, read.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) reach: Reach,
    text: Arc<str>,
    /// What the server or the library said, without what we make of it.
    detail: Arc<str>,
    pub(super) redirect: Option<Arc<Redirect>>,
}

/// A node of a cluster that sends us to another one.
#[derive(Debug)]
pub(super) struct Redirect {
    pub(super) entry: Entry,
    /// `host:port`, as the node says it.
    pub(super) to: String,
}

/// As whose guest a command comes to a node of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// The node serves the slot.
    Served,
    /// The node is taking the slot over, and answers for it only who says ASKING just before.
    Imported,
}

/// What a fault is true of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// This command alone, as far as is known.
    Command,
    /// Nothing but that the server doesn't know the script (any more).
    Script,
    /// This slot of a cluster: another node is to be asked.
    Elsewhere,
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
/// Who we are is not good enough.
const AUTH_CODES: [&str; 2] = ["NOAUTH", "WRONGPASS"];

impl Fault {
    pub(super) fn new(reach: Reach, text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        Self { reach, detail: Arc::clone(&text), text, redirect: None }
    }

    fn explained(reach: Reach, meaning: &str, error: &RedisError) -> Self {
        let (text, detail) = (format!("{meaning}: {error}").into(), error.to_string().into());
        Self { reach, text, detail, redirect: None }
    }

    pub(super) fn slow() -> Self {
        Self::new(Reach::Slow, "no answer in time")
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The same, of one node among several.
    pub(super) fn at(&self, node: &impl Display) -> Self {
        Self { text: format!("{node}: {}", self.text).into(), ..self.clone() }
    }

    /// Does it cast doubt on who serves what, or on whether that node still lives?
    pub(super) fn is_of_topology(&self) -> bool {
        match self.reach {
            Reach::Command | Reach::Script => false,
            Reach::Elsewhere => self.redirect.as_ref().is_none_or(|redirect| redirect.entry == Entry::Served),
            Reach::Server | Reach::Slow | Reach::Connection => true,
        }
    }

    pub(super) fn of_pool(error: PoolError<Self>) -> Self {
        match error {
            PoolError::Backend(fault) => fault,
            PoolError::Timeout(_) => Self::new(Reach::Server, "no connection in time"),
            _ => Self::new(Reach::Server, "the store is closing"),
        }
    }
}

impl From<&RedisError> for Fault {
    fn from(error: &RedisError) -> Self {
        let code = error.code().unwrap_or_default();
        let server = |meaning| Self::explained(Reach::Server, meaning, error);
        if error.kind() == ErrorKind::AuthenticationFailed || AUTH_CODES.contains(&code) {
            return server("Redis refuses the user or the password of store.url");
        }
        if code == "NOPERM" {
            return server("the user of store.url lacks a permission");
        }
        if SERVER_CODES.contains(&code) {
            return Self::new(Reach::Server, error.to_string());
        }
        if let Some(redirect) = redirect(error) {
            let meaning = "store.url leads to a Redis Cluster: set store.mode = \"cluster\"";
            return Self { redirect: Some(redirect), ..Self::explained(Reach::Elsewhere, meaning, error) };
        }
        if code == "CROSSSLOT" {
            return server("store.url leads to a Redis Cluster: set store.mode = \"cluster\"");
        }
        if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
            return Self::explained(Reach::Connection, "store.url leads to a replica", error);
        }
        if is_too_old(error) {
            return server("store.url must lead to Redis 6.2 or later");
        }
        if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) {
            return Self::new(Reach::Script, error.to_string());
        }
        if error.is_timeout() {
            return Self::slow();
        }
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => Self::new(Reach::Command, error.to_string()),
            _ => Self::explained(Reach::Connection, "no connection to Redis (store.url)", error),
        }
    }
}

fn redirect(error: &RedisError) -> Option<Arc<Redirect>> {
    let entry = match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved) => Entry::Served,
        ErrorKind::Server(ServerErrorKind::Ask) => Entry::Imported,
        _ => return None,
    };
    let to = error.redirect_node().map(|(to, _)| to.to_owned()).unwrap_or_default();
    Some(Arc::new(Redirect { entry, to }))
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
    fn a_redirect_is_told_with_where_it_leads() {
        for (line, entry) in [("MOVED 3999 10.0.0.1:6381", Entry::Served), ("ASK 3999 10.0.0.1:6381", Entry::Imported)]
        {
            let fault = reply(line);
            let redirect = fault.redirect.as_ref().expect("it has one");
            assert_eq!((fault.reach, redirect.entry, &*redirect.to), (Reach::Elsewhere, entry, "10.0.0.1:6381"));
            assert!(fault.text().contains("store.mode"), "{line}");
            assert!(matches!(WriteError::from(fault), WriteError::Unavailable(_)), "{line}");
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
