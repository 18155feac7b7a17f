//! The reader: each read goes to the primary that serves its key, over connections that all reads share.

use bytes::Bytes;
use deadpool_redis::redis::{Value, cmd, pipe};

use super::fault::{Fault, Reach};
use super::shared::Shared;
use super::topology::{Route, Topology};
use super::{RedisKey, header};
use crate::envelope::WebhookKey;
use crate::store::{Entry, ReadError, Unavailable};

/// Keys of one request. A reply holds up what comes behind it on its connection, so that it is kept below some MiB.
const REQUEST_KEYS_MAX: usize = 64;

#[derive(Clone)]
pub struct Reader(Topology<Shared>);

impl Reader {
    pub(super) fn new(topology: Topology<Shared>) -> Self {
        Self(topology)
    }

    pub async fn get(&self, key: &WebhookKey) -> Result<Option<Entry>, ReadError> {
        let keys = std::slice::from_ref(key);
        let no_answer = || Err(ReadError::Unavailable("Redis gave no answer to a read".to_owned()));
        self.read(keys).await.pop().unwrap_or_else(no_answer)
    }

    pub async fn get_many(&self, keys: &[WebhookKey]) -> Vec<Result<Option<Entry>, ReadError>> {
        let mut results = Vec::with_capacity(keys.len());
        for keys in keys.chunks(REQUEST_KEYS_MAX) {
            results.extend(self.read(keys).await);
        }
        results
    }

    /// A cluster can be read as long as one of its primaries can: what lies on the others is told key by key, and must
    /// not take every reader out of service.
    pub async fn check(&self) -> Result<(), Unavailable> {
        let mut why = Fault::new(Reach::Server, "there is no primary");
        for answer in self.0.ask_each(exists).await? {
            match answer {
                Ok(()) => return Ok(()),
                Err(fault) => why = fault,
            }
        }
        Err(why.into())
    }

    async fn read(&self, keys: &[WebhookKey]) -> Vec<Result<Option<Entry>, ReadError>> {
        let slot_of = |number: usize| RedisKey(&keys[number]).slot();
        let replies = self.0.scatter(keys.len(), slot_of, |route, numbers| get(route, keys, numbers)).await;
        replies.into_iter().map(entry).collect()
    }
}

/// GETs in a pipeline rather than one MGET, for which a key of another type is as good as absent.
async fn get(route: Route<Shared>, keys: &[WebhookKey], numbers: Vec<usize>) -> Vec<Result<Value, Fault>> {
    let mut gets = pipe();
    for &number in &numbers {
        let mut get = cmd("GET");
        get.arg(RedisKey(&keys[number]));
        route.add(&mut gets, get);
    }
    route.node.ask(&mut gets).await.unwrap_or_else(|fault| numbers.iter().map(|_| Err(fault.clone())).collect())
}

/// Unlike PING, a server that may not answer reads refuses this.
async fn exists(route: Route<Shared>) -> Result<(), Fault> {
    let mut exists = pipe();
    exists.cmd("EXISTS").arg(&route.marks[0]);
    match route.node.ask(&mut exists).await?.pop() {
        Some(Err(fault)) if fault.reach != Reach::Elsewhere => Err(fault),
        Some(_) => Ok(()),
        None => Err(Fault::new(Reach::Server, "Redis gave no answer to a read")),
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
