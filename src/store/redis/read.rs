//! The reader: each read goes to the primary that serves its key, over connections that all reads share.

use std::sync::Arc;

use bytes::Bytes;
use deadpool_redis::redis::{Value, cmd, pipe};

use super::fault::{self, Fault, Reach};
use super::gather::REQUEST_KEYS_MAX;
use super::shared::{Answers, Reply, Shared};
use super::topology::{Route, Site, Topology};
use super::tracking::News;
use super::{Options, RedisKey, header};
use crate::envelope::WebhookKey;
use crate::store::changes::Changes;
use crate::store::{Answer, Entry, ReadError, Unavailable};

#[derive(Clone)]
pub struct Reader {
    topology: Topology<Shared>,
    opened: Arc<Opened>,
}

/// What all readers of one store share.
pub(super) struct Opened {
    pub(super) site: Site,
    pub(super) options: Options,
    pub(super) changes: Changes,
    /// `None` where nobody tells of changes.
    pub(super) news: Option<News>,
}

impl Reader {
    pub(super) fn new(opened: Opened) -> Self {
        Self { topology: opened.topology(), opened: Arc::new(opened) }
    }

    /// Over connections of its own, which the runtime keeps within which this is called.
    pub fn for_this_runtime(&self) -> Self {
        Self { topology: self.opened.topology(), opened: self.opened.clone() }
    }

    pub async fn get(&self, key: &WebhookKey) -> Result<Option<Entry>, ReadError> {
        let no_answer = || Err(ReadError::Unavailable("Redis gave no answer to a read".to_owned()));
        self.get_many(std::slice::from_ref(key)).await.pop().unwrap_or_else(no_answer)
    }

    pub async fn get_many(&self, keys: &[WebhookKey]) -> Vec<Result<Option<Entry>, ReadError>> {
        self.answer(keys).await.into_iter().map(|answer| answer.found).collect()
    }

    pub(in crate::store) async fn answer(&self, keys: &[WebhookKey]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(keys.len());
        for keys in keys.chunks(REQUEST_KEYS_MAX) {
            answers.extend(self.read(keys).await);
        }
        answers
    }

    pub(in crate::store) fn changes(&self) -> &Changes {
        &self.opened.changes
    }

    /// A cluster can be read as long as one of its primaries can: what lies on the others is told key by key, and must
    /// not take every reader out of service.
    pub async fn check(&self) -> Result<(), Unavailable> {
        let mut why = Fault::new(Reach::Server, "there is no primary");
        for answer in self.topology.ask_each(exists).await? {
            match answer {
                Ok(()) => return Ok(()),
                Err(fault) => why = fault,
            }
        }
        Err(why.into())
    }

    async fn read(&self, keys: &[WebhookKey]) -> Vec<Answer> {
        let slot_of = |number: usize| RedisKey(&keys[number]).slot();
        let replies = self.topology.scatter(keys.len(), slot_of, |route, numbers| get(route, keys, numbers)).await;
        let answer = |reply| match reply {
            Ok(Reply { value, lease }) => Answer { found: entry(Ok(value)), lease },
            Err(fault) => Answer { found: entry(Err(fault)), lease: None },
        };
        replies.into_iter().map(answer).collect()
    }
}

impl Opened {
    /// Must be called within a runtime, which keeps the connections.
    fn topology(&self) -> Topology<Shared> {
        let news = self.news.clone();
        let open = move |primary: &_, options: &_| Shared::new(primary, options, news.as_ref());
        Topology::new(&self.site, &self.options, Box::new(open), self.news.as_ref())
    }
}

/// GETs in a pipeline rather than one MGET, for which a key of another type is as good as absent.
async fn get(route: Route<Shared>, keys: &[WebhookKey], numbers: Vec<usize>) -> Vec<Result<Reply, Fault>> {
    let get = |number: usize| {
        let mut get = cmd("GET");
        get.arg(RedisKey(&keys[number]));
        get
    };
    if let ([number], fault::Entry::Served) = (numbers.as_slice(), route.entry) {
        return vec![route.node.ask_one(get(*number)).await];
    }
    let mut gets = pipe();
    numbers.iter().for_each(|number| route.add(&mut gets, get(*number)));
    match route.node.ask(&mut gets).await {
        Ok(Answers { replies, lease }) => {
            let with_lease = |value| Reply { value, lease: lease.clone() };
            replies.into_iter().map(|reply| reply.map(with_lease)).collect()
        }
        Err(fault) => numbers.iter().map(|_| Err(fault.clone())).collect(),
    }
}

/// Unlike PING, a server that may not answer reads refuses this.
async fn exists(route: Route<Shared>) -> Result<(), Fault> {
    let mut exists = pipe();
    exists.cmd("EXISTS").arg(&route.marks[0]);
    match route.node.ask(&mut exists).await?.replies.pop() {
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
