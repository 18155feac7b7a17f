//! The buffer on local disk: durable by group commit, fair between accounts, and first in first out within one as far
//! as redelivery allows.
//!
//! What survives a crash lies in the file: messages, how often each was taken (written with the next commit, never
//! waited for, so a crash may forget the latest ones) and dead letters. What need not survive lies in memory: which
//! messages are ready and which are hidden until when. So what was in flight at a crash is offered again at once.
//!
//! | file | holds |
//! | --- | --- |
//! | `index` | what is known of each message without its body, and what is hidden, in memory |
//! | `ready` | what may be taken, and whose turn it is |
//! | `ledger` | the tables, and the commands of the group commit |
//! | `dead` | walks over the dead letters |
//! | `pending` | looking at messages without taking them |
//!
//! Limits: `bytes_max` bytes of messages and dead letters together; about 150 bytes of memory for each message.

mod dead;
mod index;
mod ledger;
mod pending;
mod ready;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use self::index::{Index, Taken};
use self::ledger::{Command, Ledger};
use super::{AppendError, Delivery, Depth, HIDE_MAX, MessageId, Receipt, TAKE_MAX, Unavailable};
use crate::disk::committer::stopped;
use crate::disk::{Committer, Fault, OpenError, Storage, inspect::Inspected};
use crate::envelope::{Clock, Poison, WireForm};

pub use dead::DeadLetters;
pub use pending::Pending;

/// How an embedded buffer is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file.
    pub path: PathBuf,
    /// For how long a taken message is hidden.
    pub visibility: Duration,
    /// How long a take waits for a first message.
    pub wait: Duration,
    /// Appends are refused as `Full` beyond this many bytes of messages and dead letters.
    pub bytes_max: u64,
}

#[derive(Clone)]
pub struct Appender {
    shared: Arc<Shared>,
    bytes_max: u64,
}

#[derive(Clone)]
pub struct Taker {
    shared: Arc<Shared>,
    visibility: Duration,
    wait: Duration,
}

struct Shared {
    committer: Committer<Command>,
    live: Arc<Live>,
    clock: Clock,
}

/// What is shared with the thread that commits.
struct Live {
    index: Mutex<Index>,
    /// Woken for each message that becomes ready, and when something is hidden for a shorter time than before.
    ready: Notify,
}

impl Live {
    fn index(&self) -> MutexGuard<'_, Index> {
        // Every change of the index is complete before anything in it could panic.
        self.index.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Opens the buffer in its file. When the last half is dropped, the file is closed.
pub fn open(options: Options) -> Result<(Appender, Taker), OpenError> {
    let storage = Storage::File(options.path.clone());
    open_on(storage, options, Clock::system())
}

/// Looks at its file from outside, and leaves it as it is.
pub fn inspect(options: &Options) -> Inspected {
    crate::disk::inspect::inspect(&options.path, ledger::FORMAT)
}

/// Opens the buffer in any storage, with any clock; `options.path` is not looked at.
pub fn open_on(storage: Storage, options: Options, clock: Clock) -> Result<(Appender, Taker), OpenError> {
    let live = Arc::new(Live { index: Mutex::new(Index::new()), ready: Notify::new() });
    let ledger = Ledger::new(live.clone(), options.bytes_max);
    let committer = Committer::start(storage, ledger::FORMAT, ledger)?;
    let shared = Arc::new(Shared { committer, live, clock });
    let taker = Taker { shared: shared.clone(), visibility: options.visibility.min(HIDE_MAX), wait: options.wait };
    Ok((Appender { shared, bytes_max: options.bytes_max }, taker))
}

impl Appender {
    pub async fn append(&self, message: WireForm) -> Result<MessageId, AppendError> {
        let (reply, answer) = oneshot::channel();
        let enqueued_at_ms = self.shared.clock.now_ms();
        self.shared.committer.send(Command::Append { message, enqueued_at_ms, reply }).await.map_err(append_error)?;
        answer.await.unwrap_or_else(|_| Err(append_error(stopped())))
    }

    pub async fn check(&self) -> Result<(), Unavailable> {
        self.shared.committer.check().await.map_err(unavailable)?;
        let bytes = self.shared.live.index().bytes();
        if bytes >= self.bytes_max { Err(Unavailable(ledger::beyond(self.bytes_max))) } else { Ok(()) }
    }
}

fn append_error(fault: Fault) -> AppendError {
    match fault {
        Fault::Full(_) => AppendError::Full(fault.to_string()),
        Fault::Broken(_) => AppendError::Unavailable(fault.to_string()),
    }
}

fn unavailable(fault: Fault) -> Unavailable {
    Unavailable(fault.to_string())
}

/// Gives back what was taken, unless it reached the caller.
struct GiveBack<'a> {
    live: &'a Live,
    taken: Vec<Taken>,
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        let mut index = self.live.index();
        for taken in self.taken.drain(..) {
            index.hide(taken, Duration::ZERO, Instant::now());
            self.live.ready.notify_one();
        }
    }
}

impl Taker {
    pub async fn take(&self, max: usize) -> Result<Vec<Delivery>, Unavailable> {
        let deadline = Instant::now() + self.wait;
        loop {
            // Registered before the index is looked at, so that no wake-up falls in between.
            let mut woken = std::pin::pin!(self.shared.live.ready.notified());
            woken.as_mut().enable();
            let now = Instant::now();
            let (taken, more, next) = {
                let mut index = self.shared.live.index();
                let taken = index.take(max.min(TAKE_MAX), now, now + self.visibility);
                (taken, index.has_ready(), index.next_hidden())
            };
            if !taken.is_empty() {
                if more {
                    self.shared.live.ready.notify_one();
                }
                let deliveries = self.read(taken).await?;
                if !deliveries.is_empty() {
                    return Ok(deliveries);
                }
                continue;
            }
            if now >= deadline || max == 0 {
                return Ok(Vec::new());
            }
            tokio::select! {
                () = woken => {}
                () = sleep_until(next.map_or(deadline, |next| next.min(deadline))) => {}
            }
        }
    }

    /// Reads the bodies of what was taken, off the runtime's threads. What is no longer in the file was deleted
    /// meanwhile by who had taken it before.
    async fn read(&self, taken: Vec<Taken>) -> Result<Vec<Delivery>, Unavailable> {
        let mut give_back = GiveBack { live: &self.shared.live, taken: taken.clone() };
        let read = move |transaction: &redb::ReadTransaction| ledger::read_messages(transaction, &taken);
        let rows = self.shared.committer.read(read).await.map_err(unavailable)?;
        let taken = std::mem::take(&mut give_back.taken);
        let session = self.shared.live.index().session();
        let deliver = |(taken, row): (Taken, Option<ledger::Message>)| {
            row.map(|row| Delivery {
                message_id: message_id(taken.seq),
                receipt: write_receipt(session, taken),
                body: row.body,
                receive_count: taken.receive_count,
                traceparent: row.traceparent,
            })
        };
        Ok(taken.into_iter().zip(rows).filter_map(deliver).collect())
    }

    /// What the receipts prove, `None` for those of another session or form: stale by nature.
    fn parse(&self, receipts: &[Receipt]) -> Vec<Option<Taken>> {
        let session = self.shared.live.index().session();
        receipts.iter().map(|receipt| read_receipt(session, receipt)).collect()
    }

    pub async fn delete(&self, receipts: &[Receipt]) -> Vec<Result<(), Unavailable>> {
        self.remove(self.parse(receipts).into_iter().map(|taken| taken.map(|taken| (taken, None))).collect()).await
    }

    pub async fn bury(&self, messages: &[(Delivery, Poison)]) -> Vec<Result<(), Unavailable>> {
        let receipts: Vec<Receipt> = messages.iter().map(|(delivery, _)| delivery.receipt.clone()).collect();
        let taken = self.parse(&receipts).into_iter().zip(messages);
        let at_ms = self.shared.clock.now_ms();
        let burial = |poison: &Poison| ledger::Burial { poison: poison.clone(), at_ms };
        self.remove(taken.map(|(taken, (_, poison))| taken.map(|taken| (taken, Some(burial(poison))))).collect()).await
    }

    /// Removes each, and buries those that come with a burial. One command for all: they share a commit anyway.
    async fn remove(&self, items: Vec<Option<(Taken, Option<ledger::Burial>)>>) -> Vec<Result<(), Unavailable>> {
        let count = items.len();
        let removals: Vec<_> = items.into_iter().flatten().collect();
        if removals.is_empty() {
            return vec![Ok(()); count];
        }
        let (reply, answer) = oneshot::channel();
        let result = match self.shared.committer.send(Command::Remove { removals, reply }).await {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(stopped())),
            Err(fault) => Err(fault),
        };
        vec![result.map_err(unavailable); count]
    }

    pub async fn hide(&self, receipts: &[Receipt], time: Duration) -> Vec<Result<(), Unavailable>> {
        let taken = self.parse(receipts);
        let mut index = self.shared.live.index();
        for taken in taken.into_iter().flatten() {
            index.hide(taken, time.min(HIDE_MAX), Instant::now());
            self.shared.live.ready.notify_one();
        }
        vec![Ok(()); receipts.len()]
    }

    pub fn visibility(&self) -> Duration {
        self.visibility
    }

    pub async fn depth(&self) -> Result<Depth, Unavailable> {
        let now_ms = self.shared.clock.now_ms();
        Ok(self.shared.live.index().depth(Instant::now(), now_ms))
    }
}

fn message_id(seq: u64) -> MessageId {
    MessageId(seq.to_string())
}

/// `session-seq-count`: another session's count may repeat ours, as the latest counts don't survive a crash.
fn write_receipt(session: u64, taken: Taken) -> Receipt {
    Receipt(format!("{session:016x}-{}-{}", taken.seq, taken.receive_count))
}

fn read_receipt(session: u64, receipt: &Receipt) -> Option<Taken> {
    let mut parts = receipt.0.splitn(3, '-');
    let of = u64::from_str_radix(parts.next()?, 16).ok()?;
    let (seq, receive_count) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (of == session).then_some(Taken { seq, receive_count })
}
