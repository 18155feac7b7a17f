//! The buffer: where an accepted envelope lies until every one of its keys is written.
//!
//! A place: it hides its backend in an enum, and opens as two halves, so that direction is a type; a third one, for
//! whoever looks after what was put aside, is `dead`, and a fourth one, which only looks, is `pending`. Where the queue
//! itself hands messages out, all that is left of them is [`Burier`]. It knows nothing of what a wire form says, and
//! never reads one.
//!
//! # The contract, which one suite of tests holds every backend to
//!
//! *At least once, in no order.* What [`Appender::append`] has acknowledged is offered by [`Taker::take`] until it is
//! deleted or buried, across crashes and restarts. It may be offered more than once, and in any order.
//!
//! *Fair between accounts.* A message is not held up by the backlog of another account. The embedded buffer serves
//! accounts in rounds; SQS does it by the message group, which is the account (its fair queues: quiet groups come first).
//! An emulator of SQS does nothing of the kind.
//!
//! *Taking hides.* A taken message is hidden for [`Taker::visibility`]. Who needs longer calls [`Taker::hide`]; who
//! wants it back sooner calls it with a shorter time. What was in flight when an embedded buffer's process died is
//! offered again at once on start.
//!
//! *One result per item.* Every batch call answers with exactly one result per item, in the order of the items.
//!
//! *Who limits and retries.* A caller may pass batches of any length: the backend cuts them to what it can carry. A
//! backend repeats a call at most once, and only where a second effect is harmless: another copy of a wire form has the
//! same id and version, and `delete`, `hide` and `bury` may be repeated at will. The consumer does so.

mod dead;
#[cfg(feature = "embedded")]
pub mod embedded;
mod pending;
#[cfg(feature = "sqs")]
pub mod sqs;
pub mod work;

use std::time::Duration;

use bytes::Bytes;

use crate::envelope::{Poison, WireForm};

pub use dead::{DeadLetter, DeadLetters, Ruling, Walk, Walked, Which};
pub use pending::{Looked, Pending};

/// Longest time that a message can be hidden for, on every backend: SQS's 12 hours.
pub const HIDE_MAX: Duration = Duration::from_secs(12 * 3_600);
/// Messages that one [`Taker::take`] returns at most, on every backend: SQS's limit.
pub const TAKE_MAX: usize = 10;

/// The half that puts in. Cheap to clone; concurrent appends are coalesced into one group commit or batch send.
#[derive(Clone)]
pub enum Appender {
    #[cfg(feature = "embedded")]
    Embedded(embedded::Appender),
    #[cfg(feature = "sqs")]
    Sqs(sqs::Appender),
}

/// The half that takes out. Cheap to clone; several pollers may take at once.
#[derive(Clone)]
pub enum Taker {
    #[cfg(feature = "embedded")]
    Embedded(embedded::Taker),
    #[cfg(feature = "sqs")]
    Sqs(sqs::Taker),
}

/// The half that puts dead letters aside where the queue itself hands messages out, and removes them (AWS Lambda). Cheap
/// to clone.
#[derive(Clone)]
pub enum Burier {
    #[cfg(feature = "sqs")]
    Sqs(sqs::Burier),
}

/// The buffer's own name of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub String);

/// What proves that a message was taken. Valid until the message is hidden no more; a stale one is harmless.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt(pub String);

/// A message, taken.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub message_id: MessageId,
    pub receipt: Receipt,
    pub body: Bytes,
    /// How often it was taken, this time included. Crashes and pauses count too, so it is no measure of poison.
    pub receive_count: u32,
    pub traceparent: Option<String>,
}

/// Why a message could not be appended. Nothing of it is in the buffer, or at worst a harmless duplicate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The backend can't take it now; a retry helps.
    #[error("the buffer is unavailable: {0}")]
    Unavailable(String),
    /// The disk, or the buffer's share of it, is full; a retry helps once it drains.
    #[error("the buffer is full: {0}")]
    Full(String),
    /// The backend will never take this message.
    #[error("the buffer refuses this message: {0}")]
    Refused(String),
}

/// The backend can't do it now; a retry helps.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the buffer is unavailable: {0}")]
pub struct Unavailable(pub String);

/// How full the buffer is. SQS's own figures are approximate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Ready to be taken.
    pub visible: u64,
    /// Taken, and hidden until their time is over.
    pub in_flight: u64,
    /// Dead letters, where a place for them is known.
    pub dead: u64,
    /// Age of the oldest message, taken or not; zero where there is none. `None` where the backend can't tell (SQS tells
    /// CloudWatch only).
    pub oldest_age: Option<Duration>,
}

impl Appender {
    /// Waits until the message is durable (embedded: fsync; SQS: acknowledged for this very entry).
    pub async fn append(&self, message: WireForm) -> Result<MessageId, AppendError> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(appender) => appender.append(message).await,
            #[cfg(feature = "sqs")]
            Self::Sqs(appender) => appender.append(message).await,
        }
    }

    /// Can it be reached, and would it take a message? Cheap enough for a readiness probe.
    pub async fn check(&self) -> Result<(), Unavailable> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(appender) => appender.check().await,
            #[cfg(feature = "sqs")]
            Self::Sqs(appender) => appender.check().await,
        }
    }
}

impl Taker {
    /// Takes up to `max` messages (at most [`TAKE_MAX`]). Waits while there are none, for as long as the backend's
    /// long poll lasts, then answers with an empty list. Dropping the future loses nothing: what it may have taken is
    /// offered again.
    pub async fn take(&self, max: usize) -> Result<Vec<Delivery>, Unavailable> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(taker) => taker.take(max).await,
            #[cfg(feature = "sqs")]
            Self::Sqs(taker) => taker.take(max).await,
        }
    }

    /// Removes messages for good. A message that is gone already counts as removed.
    pub async fn delete(&self, receipts: &[Receipt]) -> Vec<Result<(), Unavailable>> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(taker) => taker.delete(receipts).await,
            #[cfg(feature = "sqs")]
            Self::Sqs(taker) => taker.delete(receipts).await,
        }
    }

    /// Hides taken messages for `time` from now (at most [`HIDE_MAX`]); zero offers them again at once. A receipt that
    /// is stale is ignored.
    pub async fn hide(&self, receipts: &[Receipt], time: Duration) -> Vec<Result<(), Unavailable>> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(taker) => taker.hide(receipts, time).await,
            #[cfg(feature = "sqs")]
            Self::Sqs(taker) => taker.hide(receipts, time).await,
        }
    }

    /// Moves messages to the dead letters, with their reasons. The dead letter is durable before the message is gone,
    /// so that a crash in between leaves a second copy rather than none. The result is that of the dead letter: a message
    /// that can't be removed after it is offered again.
    pub async fn bury(&self, messages: &[(Delivery, Poison)]) -> Vec<Result<(), Unavailable>> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(taker) => taker.bury(messages).await,
            #[cfg(feature = "sqs")]
            Self::Sqs(taker) => taker.bury(messages).await,
        }
    }

    /// For how long [`Taker::take`] hides what it returns.
    pub fn visibility(&self) -> Duration {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(taker) => taker.visibility(),
            #[cfg(feature = "sqs")]
            Self::Sqs(taker) => taker.visibility(),
        }
    }

    pub async fn depth(&self) -> Result<Depth, Unavailable> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(taker) => taker.depth().await,
            #[cfg(feature = "sqs")]
            Self::Sqs(taker) => taker.depth().await,
        }
    }
}

#[cfg(feature = "sqs")]
impl Burier {
    /// Puts copies of messages among the dead letters, with their reasons. One result per message; where it is `Ok`, the
    /// dead letter is durable, and the message may go.
    pub async fn bury(&self, messages: &[(Delivery, Poison)]) -> Vec<Result<(), Unavailable>> {
        match self {
            Self::Sqs(burier) => burier.bury(messages).await,
        }
    }
}
