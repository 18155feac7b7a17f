//! Reads of one key that come at the same time, joined into one request.
//!
//! A request costs a system call or two, a wake-up and some bookkeeping on either side, whether it asks for one key or
//! for many; and reads come in bunches, as one wake-up of a thread finds many connections ready. Nothing waits for
//! others to come: what is there when the task gets its turn goes out, and what comes meanwhile goes out next, whether
//! or not the answer is there.

use std::sync::Arc;

use deadpool_redis::redis::{Cmd, pipe};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::fault::{Fault, Reach};
use super::shared::{Answers, Lines, Reply};

/// Reads that go out as one request. A reply holds up what comes behind it on its connection, so that it is kept below
/// some MiB.
pub(super) const REQUEST_KEYS_MAX: usize = 64;

/// The way in. When it is dropped, the task ends with what it has.
pub(super) struct Gather(mpsc::UnboundedSender<Ask>);

/// One read. What is not answered yet is bounded by the permits.
struct Ask {
    get: Cmd,
    reply: oneshot::Sender<Result<Reply, Fault>>,
    _room: OwnedSemaphorePermit,
}

impl Gather {
    pub(super) fn new(lines: Arc<Lines>) -> Self {
        let (asks, inbox) = mpsc::unbounded_channel();
        tokio::spawn(gather(inbox, lines));
        Self(asks)
    }

    /// The reply to a command of one key, which is given up with the caller if it has not gone out by then.
    pub(super) async fn ask(&self, get: Cmd, room: OwnedSemaphorePermit) -> Result<Reply, Fault> {
        let closing = || Err(Fault::new(Reach::Server, "the store is closing"));
        let (reply, answer) = oneshot::channel();
        if self.0.send(Ask { get, reply, _room: room }).is_err() {
            return closing();
        }
        answer.await.unwrap_or_else(|_| closing())
    }
}

async fn gather(mut inbox: mpsc::UnboundedReceiver<Ask>, lines: Arc<Lines>) {
    let mut asks = Vec::with_capacity(REQUEST_KEYS_MAX);
    while inbox.recv_many(&mut asks, REQUEST_KEYS_MAX).await > 0 {
        asks.retain(|ask| !ask.reply.is_closed());
        if !asks.is_empty() {
            let asks = std::mem::replace(&mut asks, Vec::with_capacity(REQUEST_KEYS_MAX));
            tokio::spawn(answer(asks, lines.clone()));
        }
    }
}

async fn answer(asks: Vec<Ask>, lines: Arc<Lines>) {
    let mut request = pipe();
    let mut replies = Vec::with_capacity(asks.len());
    for Ask { get, reply, _room } in asks {
        request.add_command(get);
        replies.push((reply, _room));
    }
    match lines.ask(&mut request).await {
        Ok(Answers { replies: values, lease }) => {
            for ((reply, _room), value) in replies.into_iter().zip(values) {
                // Whoever has gone needs none.
                let _ = reply.send(value.map(|value| Reply { value, lease: lease.clone() }));
            }
        }
        Err(fault) => replies.into_iter().for_each(|(reply, _room)| drop(reply.send(Err(fault.clone())))),
    }
}
