//! The one thread that writes a database file, in group commits.
//!
//! It takes every command that is waiting, applies them all in one write transaction, syncs once, then answers each.
//! While it syncs, the next ones gather; so the busier it is, the more commands share a sync.
//!
//! # After a fault
//!
//! Every command of the failed commit is told so, and the file is opened again at once, then with growing pauses; the
//! engine refuses to go on after a fault, and whether the failed commit is on the disk is not known until then. The
//! [`Book`] reads the file again, so that what it holds in memory is true. Whatever was acknowledged before is in the
//! file; what was not may be, too. After a full disk, commands that need room are refused for a while, so that they
//! don't fail those which make room (which may need some, too: the engine writes new pages before it frees old ones);
//! where even these fail, or the disk is broken, all are refused, for pauses that grow. Reads go on once the file is
//! open again.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{ReadTransaction, WriteTransaction};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::file::{File, Format};
use super::{Fault, OpenError, Storage};

/// Commands that wait for the committer; beyond it the callers wait. Four times what one commit takes at a usual load.
const WAITING_MAX: usize = 256;
/// Bytes of commands in one commit, unless a single command is larger: bounds the memory and the time of a commit.
const COMMIT_BYTES_MAX: usize = 32 << 20;
/// Pauses between attempts to open the file or to commit again, doubled each time: a passing fault is mended soon, and a
/// lasting one costs next to nothing, though each opening walks the whole file.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// For how long commands that need room are refused after a full disk, before one of them may try again.
const FULL_PAUSE: Duration = Duration::from_millis(500);
/// Longest sleep until upkeep: the wall clock, which decides when it is due, may be set in between.
const UPKEEP_SLEEP_MAX: Duration = Duration::from_secs(3_600);

/// What a file is about: which commands there are, and what is kept of it in memory.
pub trait Book: Send + 'static {
    type Command: Send + 'static;
    /// What [`Book::apply`] found out for [`Book::committed`].
    type Applied;

    /// Called after each opening, before anything is applied: makes what is held in memory match the file.
    fn load(&mut self, transaction: &ReadTransaction) -> Result<(), Fault>;

    /// Bytes that a command will write, roughly.
    fn bytes(command: &Self::Command) -> usize;

    /// Does it need room on the disk? Those that make room, or barely need any, don't.
    fn grows(command: &Self::Command) -> bool;

    /// Puts the effect of all commands into the transaction. Nothing in memory changes yet. With no commands at all it
    /// is called for upkeep.
    fn apply(&mut self, transaction: &WriteTransaction, commands: &[Self::Command]) -> Result<Self::Applied, Fault>;

    /// All of it is synced: brings memory up to date and answers.
    fn committed(&mut self, commands: Vec<Self::Command>, applied: Self::Applied);

    /// The commit of this command failed.
    fn refuse(command: Self::Command, fault: &Fault);

    /// How long until upkeep is due; `None` where there is none.
    fn upkeep_in(&self) -> Option<Duration>;
}

enum Order<C> {
    Command(C),
    Check(oneshot::Sender<Result<(), Fault>>),
    /// A reader ran into a fault in this opening of the file.
    Mend(u64),
}

/// The handle. When the last clone goes, the thread ends after its commit and the file is closed by then.
pub struct Committer<C> {
    inner: Arc<Inner<C>>,
}

impl<C> Clone for Committer<C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<C> {
    /// `None` only while dropping.
    orders: Option<mpsc::Sender<Order<C>>>,
    thread: Option<JoinHandle<()>>,
    file: Arc<File>,
}

impl<C> Drop for Inner<C> {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It ends within the commit at hand; a panic of it was told to every caller by the closed channel.
            let _ = thread.join();
        }
    }
}

impl<C: Send + 'static> Committer<C> {
    /// Opens the file, lets the book read it, and starts the thread.
    pub fn start<B: Book<Command = C>>(storage: Storage, format: Format, mut book: B) -> Result<Self, OpenError> {
        let path = storage.path().to_owned();
        let unusable = |detail: String| OpenError::Unusable { path: path.clone(), detail };
        let file = Arc::new(File::open(storage, format)?);
        file.read(|transaction| Ok(book.load(transaction)))
            .map_err(|error| error.fault)
            .and_then(|loaded| loaded)
            .map_err(|fault| unusable(fault.to_string()))?;
        // A runtime of its own, for one timer: a blocking receive has no timeout.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|e| unusable(e.to_string()))?;
        let (orders, inbox) = mpsc::channel(WAITING_MAX);
        let worker = Worker { book, file: file.clone(), inbox, health: Health::Well, refusal: None, failures: 0 };
        let thread = std::thread::Builder::new()
            .name(format!("{}-commit", format.kind))
            .spawn(move || runtime.block_on(worker.run()))
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { inner: Arc::new(Inner { orders: Some(orders), thread: Some(thread), file }) })
    }

    fn orders(&self) -> Result<&mpsc::Sender<Order<C>>, Fault> {
        self.inner.orders.as_ref().ok_or_else(stopped)
    }

    /// Hands a command over; its answer comes by whatever it carries. Waits while too many are waiting.
    pub async fn send(&self, command: C) -> Result<(), Fault> {
        self.orders()?.send(Order::Command(command)).await.map_err(|_| stopped())
    }

    /// Is the file open, and is there room as far as is known?
    pub async fn check(&self) -> Result<(), Fault> {
        let (reply, answer) = oneshot::channel();
        self.orders()?.send(Order::Check(reply)).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Reads on a snapshot, on a thread for blocking work: even a small read may have to wait for the disk, and the
    /// runtime's own threads serve everybody.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, Fault> {
        let file = self.inner.file.clone();
        let done = tokio::task::spawn_blocking(move || file.read(read)).await.map_err(|_| stopped())?;
        done.map_err(|error| {
            if let Some(orders) = &self.inner.orders {
                // Where the inbox is full, a command that follows will meet the fault itself.
                let _ = orders.try_send(Order::Mend(error.opening));
            }
            error.fault
        })
    }
}

/// The answer where the committer is gone.
pub(crate) fn stopped() -> Fault {
    Fault::Broken("it is being closed".to_owned())
}

enum Health {
    Well,
    Broken { fault: Fault, retry_at: Instant, pause: Duration },
}

struct Worker<B: Book> {
    book: B,
    file: Arc<File>,
    inbox: mpsc::Receiver<Order<B::Command>>,
    health: Health,
    refusal: Option<Refusal>,
    /// Commits that failed since the last one that did not.
    failures: u32,
}

/// What is refused for a while after a fault, though the file is open again.
struct Refusal {
    what: Refused,
    until: Instant,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Refused {
    WhatGrows,
    All,
}

impl<B: Book> Worker<B> {
    async fn run(mut self) {
        let mut orders = Vec::with_capacity(WAITING_MAX);
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                received = self.inbox.recv_many(&mut orders, WAITING_MAX) => if received == 0 { break },
                () = until(wake_at) => {}
            }
            self.refusal.take_if(|refusal| Instant::now() >= refusal.until);
            self.mend_if_due();
            self.serve(&mut orders);
        }
        self.file.close();
    }

    fn wake_at(&self) -> Option<Instant> {
        match &self.health {
            Health::Broken { retry_at, .. } => Some(*retry_at),
            Health::Well => {
                let due = Instant::now() + self.book.upkeep_in()?.min(UPKEEP_SLEEP_MAX);
                Some(self.refusal.as_ref().map_or(due, |refusal| refusal.until.max(due)))
            }
        }
    }

    fn serve(&mut self, orders: &mut Vec<Order<B::Command>>) {
        if orders.is_empty() && self.upkeep_is_due() {
            self.commit(Vec::new());
        }
        let mut batch = Vec::with_capacity(orders.len());
        let mut bytes = 0;
        for order in orders.drain(..) {
            let command = match order {
                Order::Command(command) => command,
                Order::Check(reply) => {
                    // Nobody may be waiting for it any more.
                    let _ = reply.send(self.state());
                    continue;
                }
                Order::Mend(opening) => {
                    self.mend(opening);
                    continue;
                }
            };
            let size = B::bytes(&command);
            if bytes + size > COMMIT_BYTES_MAX && !batch.is_empty() {
                self.commit(std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += size;
            batch.push(command);
        }
        if !batch.is_empty() {
            self.commit(batch);
        }
    }

    fn upkeep_is_due(&self) -> bool {
        matches!(self.health, Health::Well) && self.refusal.is_none() && self.book.upkeep_in() == Some(Duration::ZERO)
    }

    fn state(&self) -> Result<(), Fault> {
        if let Health::Broken { fault, .. } = &self.health {
            return Err(fault.clone());
        }
        self.refusal.as_ref().map_or(Ok(()), |refusal| Err(refusal.fault.clone()))
    }

    fn commit(&mut self, commands: Vec<B::Command>) {
        if let Health::Broken { fault, .. } = &self.health {
            commands.into_iter().for_each(|command| B::refuse(command, fault));
            return;
        }
        let asked = !commands.is_empty();
        let commands = self.refuse_for_now(commands);
        if asked && commands.is_empty() {
            return;
        }
        match self.try_commit(&commands) {
            Ok(applied) => {
                self.failures = 0;
                self.book.committed(commands, applied);
            }
            Err(fault) => {
                let grew = commands.iter().any(B::grows);
                commands.into_iter().for_each(|command| B::refuse(command, &fault));
                self.failed(fault, grew);
            }
        }
    }

    fn refuse_for_now(&self, commands: Vec<B::Command>) -> Vec<B::Command> {
        let Some(Refusal { what, fault, .. }) = &self.refusal else {
            return commands;
        };
        let (refused, rest): (Vec<_>, Vec<_>) =
            commands.into_iter().partition(|command| *what == Refused::All || B::grows(command));
        refused.into_iter().for_each(|command| B::refuse(command, fault));
        rest
    }

    fn try_commit(&mut self, commands: &[B::Command]) -> Result<B::Applied, Fault> {
        let transaction = self.file.begin_write()?;
        let applied = self.book.apply(&transaction, commands)?;
        transaction.commit().map_err(|error| Fault::from(redb::Error::from(error)))?;
        Ok(applied)
    }

    fn failed(&mut self, fault: Fault, grew: bool) {
        tracing::error!(path = %self.file.path().display(), %fault, "a commit failed; the file is opened again");
        let now = Instant::now();
        let (what, pause) = match fault {
            Fault::Full(_) if grew => (Refused::WhatGrows, FULL_PAUSE),
            Fault::Full(_) | Fault::Broken(_) => (Refused::All, PAUSE_MIN * 2u32.saturating_pow(self.failures)),
        };
        self.failures = self.failures.saturating_add(1).min(16);
        self.refusal = Some(Refusal { what, until: now + pause.min(PAUSE_MAX), fault });
        self.reopen(PAUSE_MIN);
    }

    fn mend(&mut self, opening: u64) {
        if matches!(self.health, Health::Well) && opening == self.file.opening() {
            tracing::error!(path = %self.file.path().display(), "a read failed; the file is opened again");
            self.reopen(PAUSE_MIN);
        }
    }

    fn mend_if_due(&mut self) {
        if let Health::Broken { retry_at, pause, .. } = self.health
            && Instant::now() >= retry_at
        {
            self.reopen((pause * 2).min(PAUSE_MAX));
        }
    }

    fn reopen(&mut self, pause: Duration) {
        let opened = self.file.reopen().and_then(|()| {
            self.file.read(|transaction| Ok(self.book.load(transaction))).map_err(|error| error.fault).flatten()
        });
        self.health = match opened {
            Ok(()) => {
                tracing::info!(path = %self.file.path().display(), "the file is open again");
                Health::Well
            }
            Err(fault) => Health::Broken { fault, retry_at: Instant::now() + pause, pause },
        };
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
