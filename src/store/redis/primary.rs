//! A primary: at an address that is known, or where the Sentinels say it is, each time that we connect.
//!
//! A connection that ends, or that leads to a server which is no primary any more, is made anew through here, and so
//! finds the new primary after a failover. Sentinel itself ends the connections to a primary that it demotes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, RedisResult, Value, cmd};
use tokio::time::timeout;

use super::endpoint::Endpoint;
use super::fault::{Fault, Reach};
use super::slots::Address;

#[derive(Clone)]
pub(super) enum Primary {
    Known(Arc<Endpoint>),
    Watched(Arc<Watched>),
}

/// A primary that Sentinels watch.
pub(super) struct Watched {
    /// They are asked in turn, beginning with the one that led to the primary the last time.
    pub(super) sentinels: Vec<Endpoint>,
    pub(super) first: AtomicUsize,
    /// Under which name they know it.
    pub(super) name: String,
    /// How it is reached, wherever it is.
    pub(super) endpoint: Endpoint,
}

impl Primary {
    pub(super) fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Known(endpoint) => endpoint,
            Self::Watched(watched) => &watched.endpoint,
        }
    }

    /// The same primary, in the protocol that has pushes.
    pub(super) fn with_pushes(&self) -> Self {
        match self {
            Self::Known(endpoint) => Self::Known(Arc::new(endpoint.with_pushes())),
            Self::Watched(watched) => Self::Watched(Arc::new(Watched {
                sentinels: watched.sentinels.clone(),
                first: AtomicUsize::new(0),
                name: watched.name.clone(),
                endpoint: watched.endpoint.with_pushes(),
            })),
        }
    }

    /// How long [`Self::connect`] may take.
    pub(super) fn connect_time_max(&self) -> Duration {
        match self {
            Self::Known(endpoint) => endpoint.connect_timeout(),
            // To ask where it is takes as long as to connect to it, at most.
            Self::Watched(watched) => 2 * watched.endpoint.connect_timeout(),
        }
    }

    pub(super) async fn connect(&self, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, Fault> {
        Ok(self.connect_where(config).await?.0)
    }

    /// The same, with where it is.
    pub(super) async fn connect_where(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<(MultiplexedConnection, Address), Fault> {
        match self {
            Self::Known(endpoint) => Ok((endpoint.connect(config).await?, endpoint.address())),
            Self::Watched(watched) => {
                let connected = timeout(self.connect_time_max(), watched.connect(config)).await;
                connected.unwrap_or_else(|_| Err(Fault::new(Reach::Server, "no Sentinel led to the primary in time")))
            }
        }
    }
}

impl fmt::Display for Primary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(endpoint) => endpoint.fmt(f),
            Self::Watched(watched) => {
                let sentinels: Vec<String> = watched.sentinels.iter().map(Endpoint::to_string).collect();
                write!(f, "{} as known to {}", watched.name, sentinels.join(","))
            }
        }
    }
}

impl Watched {
    /// Asks until a Sentinel leads to a primary that says itself that it is one.
    async fn connect(&self, config: &AsyncConnectionConfig) -> Result<(MultiplexedConnection, Address), Fault> {
        let first = self.first.load(Ordering::Relaxed);
        let mut why = Fault::new(Reach::Server, "store.url names no Sentinel");
        for turn in 0..self.sentinels.len() {
            let at = first.wrapping_add(turn) % self.sentinels.len();
            match self.connect_as_told(&self.sentinels[at], config).await {
                Ok(connected) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(connected);
                }
                Err(fault) => why = fault,
            }
        }
        // The next attempt begins with another, should the first one have taken all the time.
        self.first.store(first.wrapping_add(1), Ordering::Relaxed);
        Err(why)
    }

    async fn connect_as_told(
        &self,
        sentinel: &Endpoint,
        config: &AsyncConnectionConfig,
    ) -> Result<(MultiplexedConnection, Address), Fault> {
        let address = self.ask_in_time(sentinel).await.map_err(|text| Fault::new(Reach::Server, text))?;
        let mut connection = self.endpoint.at(&address).connect(config).await?;
        let role: RedisResult<Value> = cmd("ROLE").query_async(&mut connection).await;
        match role.map_err(|error| Fault::from(&error))? {
            Value::Array(role) if role.first() == Some(&Value::BulkString(b"master".to_vec())) => {
                Ok((connection, address))
            }
            _ => {
                let text = format!("Sentinel {sentinel} names {address}, which is no primary now");
                Err(Fault::new(Reach::Server, text))
            }
        }
    }

    /// Where the primary is, as the Sentinel says that led to it the last time. `None` where that one gives no answer
    /// within this time: the next one is asked then when this is called again, and led by from there on.
    pub(super) async fn whereabouts(&self, patience: Duration) -> Option<Address> {
        let first = self.first.load(Ordering::Relaxed);
        match timeout(patience, self.ask_in_time(&self.sentinels[first % self.sentinels.len()])).await {
            Ok(Ok(address)) => Some(address),
            Ok(Err(_)) | Err(_) => {
                self.first.store(first.wrapping_add(1), Ordering::Relaxed);
                None
            }
        }
    }

    async fn ask_in_time(&self, sentinel: &Endpoint) -> Result<Address, String> {
        let share = self.endpoint.connect_timeout() / self.sentinels.len() as u32;
        let asked = timeout(share, self.ask(sentinel)).await;
        asked.unwrap_or_else(|_| Err(format!("Sentinel {sentinel}: no answer in time")))
    }

    /// Where is the primary? The error is for the operator to read.
    async fn ask(&self, sentinel: &Endpoint) -> Result<Address, String> {
        let asked = sentinel.connect(&sentinel.config(sentinel.connect_timeout())).await;
        let mut connection = asked.map_err(|fault| {
            // Whatever it refuses us for, the keys are not those of the primary.
            let keys = "store.url, store.sentinel_username_file, store.sentinel_password_file";
            format!("Sentinel {sentinel} ({keys}): {}", fault.detail())
        })?;
        let name = self.name.as_str();
        let answer: RedisResult<Option<(String, u16)>> =
            cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).query_async(&mut connection).await;
        match answer {
            Ok(Some((host, port))) => Ok(Address { host, port }),
            Ok(None) => Err(format!("Sentinel {sentinel} knows no primary `{name}` (store.sentinel_master)")),
            Err(error) => Err(format!("Sentinel {sentinel} doesn't say where `{name}` is: {error}")),
        }
    }
}
