//! The store on local disk: an outcome is reported once it is synced, and many writes share a sync.
//!
//! Readers never wait for writers: each read is on a snapshot of its own. Whether an entry is still alive is checked
//! with the clock on every read; that what has expired also leaves the file is a matter of room, and is done some
//! hundreds at a time beside the writes, or at the time of the next expiry where there are none.
//!
//! Every commit is told to [`Changes`] after its sync and before its outcomes, so that whoever has been told of an
//! outcome never reads what was there before it.
//!
//! | file | holds |
//! | --- | --- |
//! | `decide` | what a write does to what a key holds: pure |
//! | `row` | how an entry or a tombstone lies in its table |
//! | `catalog` | the half that looks after what is stored |
//! | `ledger` | the tables, and the commands of the group commit |

mod catalog;
mod decide;
mod ledger;
mod row;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;

pub use self::catalog::Catalog;
use self::ledger::{Command, Ledger};
use super::changes::{Changes, Source};
use super::{Answer, Entry, Outcome, ReadError, Unavailable, Write, WriteError};
use crate::disk::committer::stopped;
use crate::disk::{Committer, Fault, OpenError, Storage, inspect::Inspected};
use crate::envelope::{Clock, WebhookKey};
use crate::ttl::{Scope, Ttl};

/// How an embedded store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file.
    pub path: PathBuf,
}

#[derive(Clone)]
pub struct Writer {
    committer: Committer<Command>,
}

#[derive(Clone)]
pub struct Reader {
    committer: Committer<Command>,
    clock: Clock,
    changes: Changes,
    /// Every commit is told, by the ledger.
    told: Arc<Source>,
}

#[derive(Clone)]
pub struct RuleBook {
    committer: Committer<Command>,
}

/// Opens the store in its file. When the last handle is dropped, the file is closed.
pub fn open(options: Options, clock: Clock) -> Result<(Writer, Reader, RuleBook), OpenError> {
    open_on(Storage::File(options.path), clock)
}

/// A store that is gone with its last handle.
#[cfg(test)]
pub(in crate::store) fn open_in_memory(clock: Clock) -> (Writer, Reader, RuleBook) {
    let storage = Storage::given(|| Ok(Box::new(redb::backends::InMemoryBackend::new())));
    open_on(storage, clock).expect("memory takes a store")
}

/// Looks at its file from outside, and leaves it as it is.
pub fn inspect(options: &Options) -> Inspected {
    crate::disk::inspect::inspect(&options.path, ledger::FORMAT)
}

/// Opens the store in any storage.
pub fn open_on(storage: Storage, clock: Clock) -> Result<(Writer, Reader, RuleBook), OpenError> {
    let changes = Changes::new(clock.clone());
    let committer = Committer::start(storage, ledger::FORMAT, Ledger::new(clock.clone(), changes.clone()))?;
    let told = Arc::new(changes.source());
    told.begin(u64::MAX);
    let reader = Reader { committer: committer.clone(), clock, changes, told };
    Ok((Writer { committer: committer.clone() }, reader, RuleBook { committer }))
}

fn unavailable(fault: Fault) -> Unavailable {
    Unavailable(fault.to_string())
}

impl Writer {
    pub async fn write(&self, writes: &[Write], now_ms: u64) -> Vec<Vec<Result<Outcome, WriteError>>> {
        if writes.is_empty() {
            return Vec::new();
        }
        let (reply, answer) = oneshot::channel();
        let result = match self.committer.send(Command::Write { writes: writes.to_vec(), now_ms, reply }).await {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(stopped())),
            Err(fault) => Err(fault),
        };
        result.unwrap_or_else(|fault| {
            let error = WriteError::Unavailable(fault.to_string());
            writes.iter().map(|write| vec![Err(error.clone()); write.keys.len()]).collect()
        })
    }

    pub async fn check(&self) -> Result<(), Unavailable> {
        self.committer.check().await.map_err(unavailable)
    }

    pub fn catalog(&self) -> Catalog {
        Catalog::new(self.committer.clone())
    }
}

impl Reader {
    pub async fn get(&self, key: &WebhookKey) -> Result<Option<Entry>, ReadError> {
        let mut results = self.get_many(std::slice::from_ref(key)).await;
        results.pop().unwrap_or_else(|| Err(ReadError::Unavailable(stopped().to_string())))
    }

    pub async fn get_many(&self, keys: &[WebhookKey]) -> Vec<Result<Option<Entry>, ReadError>> {
        let (now_ms, wanted) = (self.clock.now_ms(), keys.to_vec());
        let read = move |transaction: &redb::ReadTransaction| ledger::read_entries(transaction, &wanted, now_ms);
        self.committer
            .read(read)
            .await
            .unwrap_or_else(|fault| vec![Err(ReadError::Unavailable(fault.to_string())); keys.len()])
    }

    pub(super) async fn answer(&self, keys: &[WebhookKey]) -> Vec<Answer> {
        let found = self.get_many(keys).await;
        found.into_iter().map(|found| Answer { found, lease: Some(self.told.lease()) }).collect()
    }

    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    pub async fn check(&self) -> Result<(), Unavailable> {
        self.committer.read(|_| Ok(())).await.map_err(unavailable)
    }
}

impl RuleBook {
    pub async fn load(&self) -> Result<Vec<(Scope, Ttl)>, Unavailable> {
        let rules = self.committer.read(ledger::read_rules).await.map_err(unavailable)?;
        rules.map_err(Unavailable)
    }

    pub async fn set(&self, scope: &Scope, ttl: Ttl) -> Result<(), Unavailable> {
        self.change(scope, Some(ttl)).await.map(|_| ())
    }

    pub async fn unset(&self, scope: &Scope) -> Result<bool, Unavailable> {
        self.change(scope, None).await
    }

    /// Tells whether there was a rule before.
    async fn change(&self, scope: &Scope, ttl: Option<Ttl>) -> Result<bool, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.committer.send(Command::Rule { scope: scope.clone(), ttl, reply }).await.map_err(unavailable)?;
        answer.await.unwrap_or_else(|_| Err(stopped())).map_err(unavailable)
    }
}

#[cfg(test)]
mod tests;
