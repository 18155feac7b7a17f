//! The reader: a few shared connections, over which all reads are pipelined as they come.
//!
//! A read is sent again where its connection broke before the answer came: reading twice is harmless, and a restart of
//! Redis while nobody was reading stays unseen.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use deadpool_redis::redis::{Pipeline, RedisResult, Value, pipe};
use tokio::sync::Semaphore;

use super::endpoint::{Endpoint, PIPELINE_REQUESTS_MAX};
use super::fault::{Fault, Reach};
use super::shared::Shared;
use super::{MARK_KEY, Options, RedisKey, header};
use crate::envelope::WebhookKey;
use crate::store::{Entry, ReadError, Unavailable};

/// Keys of one request. A reply holds up what comes behind it on its connection, so that it is kept below some MiB.
const REQUEST_KEYS_MAX: usize = 64;

#[derive(Clone)]
pub struct Reader(Arc<Inner>);

struct Inner {
    connections: Vec<Shared>,
    next: AtomicUsize,
    /// Requests in flight. One too many is told so at once: in a queue it would only wait for its timeout.
    room: Semaphore,
    timeout: Duration,
}

impl Reader {
    pub(super) fn new(endpoint: &Endpoint, options: &Options) -> Self {
        let connect = |_| Shared::new(endpoint.clone(), options.read_timeout);
        Self(Arc::new(Inner {
            connections: (0..options.read_connections).map(connect).collect(),
            next: AtomicUsize::new(0),
            room: Semaphore::new(options.read_connections * PIPELINE_REQUESTS_MAX),
            timeout: options.read_timeout,
        }))
    }

    pub async fn get(&self, key: &WebhookKey) -> Result<Option<Entry>, ReadError> {
        let keys = std::slice::from_ref(key);
        self.read(keys).await.pop().unwrap_or(Ok(None))
    }

    pub async fn get_many(&self, keys: &[WebhookKey]) -> Vec<Result<Option<Entry>, ReadError>> {
        let mut results = Vec::with_capacity(keys.len());
        for keys in keys.chunks(REQUEST_KEYS_MAX) {
            results.extend(self.read(keys).await);
        }
        results
    }

    pub async fn check(&self) -> Result<(), Unavailable> {
        // Unlike PING, a server that may not answer reads refuses this.
        let mut exists = pipe();
        exists.cmd("EXISTS").arg(MARK_KEY);
        for reply in self.0.ask(&mut exists).await? {
            reply?;
        }
        Ok(())
    }

    /// GETs in a pipeline rather than one MGET, for which a key of another type is as good as absent.
    async fn read(&self, keys: &[WebhookKey]) -> Vec<Result<Option<Entry>, ReadError>> {
        let mut gets = pipe();
        for key in keys {
            gets.cmd("GET").arg(RedisKey(key));
        }
        match self.0.ask(&mut gets).await {
            Ok(replies) => replies.into_iter().map(entry).collect(),
            Err(fault) => vec![Err(ReadError::Unavailable(fault.text().to_owned())); keys.len()],
        }
    }
}

impl Inner {
    async fn ask(&self, request: &mut Pipeline) -> Result<Vec<Result<Value, Fault>>, Fault> {
        request.ignore_errors();
        let Ok(_room) = self.room.try_acquire() else {
            return Err(Fault::new(Reach::Server, "too many reads wait for it already (store.read_connections)"));
        };
        let asked = tokio::time::timeout(self.timeout, self.ask_until_answered(request)).await;
        asked.unwrap_or_else(|_| Err(Fault::slow()))
    }

    /// Each attempt finds at most one connection broken; after the last of them comes a new one.
    async fn ask_until_answered(&self, request: &Pipeline) -> Result<Vec<Result<Value, Fault>>, Fault> {
        for _ in 0..self.connections.len() {
            match self.ask_once(request).await {
                Err(fault) if fault.reach == Reach::Connection => {}
                result => return result,
            }
        }
        self.ask_once(request).await
    }

    async fn ask_once(&self, request: &Pipeline) -> Result<Vec<Result<Value, Fault>>, Fault> {
        let shared = self.pick();
        let mut live = shared.live().await?;
        let replies = request.query_async::<Vec<RedisResult<Value>>>(&mut live.connection).await;
        match replies {
            Ok(replies) => Ok(replies.into_iter().map(|reply| reply.map_err(|error| Fault::from(&error))).collect()),
            Err(error) => {
                let fault = Fault::from(&error);
                if fault.reach == Reach::Connection {
                    shared.report_broken(&live);
                }
                Err(fault)
            }
        }
    }

    /// The next connection that is up; where none is, the next one.
    fn pick(&self) -> &Shared {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.connections.len();
        let mut in_turn = (0..count).map(|i| &self.connections[start.wrapping_add(i) % count]);
        in_turn.find(|shared| shared.is_up()).unwrap_or(&self.connections[start % count])
    }
}

fn entry(reply: Result<Value, Fault>) -> Result<Option<Entry>, ReadError> {
    match reply {
        Ok(Value::Nil) => Ok(None),
        Ok(Value::BulkString(value)) => {
            header::decode(&Bytes::from(value)).map_err(|foreign| ReadError::Unreadable(foreign.to_string()))
        }
        Ok(_) => Err(ReadError::Unavailable("Redis gave an answer that GET doesn't give".to_owned())),
        Err(fault) if fault.reach == Reach::Command => Err(ReadError::Unreadable(fault.text().to_owned())),
        Err(fault) => Err(ReadError::Unavailable(fault.text().to_owned())),
    }
}
