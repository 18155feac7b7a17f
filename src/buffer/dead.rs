//! The half that looks after dead letters: looks at them, puts them back on the road, or drops them.
//!
//! # The contract, which the suite of the buffer holds every backend to
//!
//! *A walk* shows letters one by one to its caller, who rules what becomes of each. It holds a few letters in memory at
//! a time, looks at [`Walk::letters_max`] at most, and says whether there were more. Walks are for one caller at a
//! time: what one hides, another does not see.
//!
//! *Redriving* appends the same body, byte for byte, before the letter goes (embedded: in one transaction; SQS: a crash
//! in between leaves a copy, which is harmless). It is a new message with a new name, and its attempts count from the
//! beginning. Its wire form is what it was, so a letter that is `too-old` becomes one again. A walk that
//! goes on may meet it then, under its new name.
//!
//! *One result per item.* Each letter that was ruled to go has one result. A letter that is gone already counts as done.
//!
//! | | embedded | SQS |
//! | --- | --- | --- |
//! | order | oldest first; [`Walked::next`] tells where to go on | none: each walk begins anew |
//! | while it is looked at | a letter stays where it is | it is hidden from others, for 30 seconds at most |

use bytes::Bytes;

#[cfg(feature = "embedded")]
use super::embedded;
#[cfg(feature = "sqs")]
use super::sqs;
use super::{MessageId, Taker, Unavailable};
use crate::envelope::{Account, PoisonCode};

/// The half that looks after dead letters. Cheap to clone.
#[derive(Clone)]
pub enum DeadLetters {
    #[cfg(feature = "embedded")]
    Embedded(embedded::DeadLetters),
    #[cfg(feature = "sqs")]
    Sqs(sqs::DeadLetters),
}

/// A message that was put aside for good.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub message_id: MessageId,
    /// Its name while it was alive, where that was another one.
    pub former_id: Option<MessageId>,
    pub body: Bytes,
    pub reason: PoisonCode,
    pub detail: String,
    /// When it was put aside, milliseconds since the epoch. Of what SQS moved itself: when it was sent.
    pub since_ms: Option<u64>,
    pub traceparent: Option<String>,
}

/// Which letters a walk looks at, and how many.
#[derive(Debug, Clone)]
pub struct Walk {
    pub which: Which,
    pub letters_max: usize,
}

#[derive(Debug, Clone)]
pub enum Which {
    All,
    /// Those that come after this one, which an earlier walk named as its [`Walked::next`].
    After(MessageId),
    /// The one of this name, where the backend finds letters by name. Otherwise all: the caller looks for it.
    Named(MessageId),
}

/// What is to become of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    Leave,
    /// Look at no more; this one does not count as looked at.
    Stop,
    /// Back on the road. The account, where it is known, names the queue's message group again.
    Redrive(Option<Account>),
    /// Away for good.
    Drop,
}

/// What a walk has done.
#[derive(Debug, Clone, Default)]
pub struct Walked {
    /// Letters that were looked at.
    pub seen: usize,
    /// One for each letter that was ruled to go.
    pub results: Vec<(MessageId, Result<(), Unavailable>)>,
    /// There was no other letter to look at.
    pub complete: bool,
    /// Where to go on, on a backend that keeps order; `None` where it is complete.
    pub next: Option<MessageId>,
}

impl DeadLetters {
    /// Of the buffer that this taker takes from.
    pub fn of(taker: &Taker) -> Self {
        match taker {
            #[cfg(feature = "embedded")]
            Taker::Embedded(taker) => Self::Embedded(embedded::DeadLetters::of(taker)),
            #[cfg(feature = "sqs")]
            Taker::Sqs(taker) => Self::Sqs(sqs::DeadLetters::of(taker)),
        }
    }

    /// Looks at letters, and does what `rule` says of each. Fails where it could look at none; where the backend goes
    /// away on the way, it tells what was done until then. Dropping the future stops it: what was done stays done.
    pub async fn walk(
        &self,
        walk: &Walk,
        rule: impl FnMut(&DeadLetter) -> Ruling + Send,
    ) -> Result<Walked, Unavailable> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(letters) => letters.walk(walk, rule).await,
            #[cfg(feature = "sqs")]
            Self::Sqs(letters) => letters.walk(walk, rule).await,
        }
    }

    /// How many there are; approximate on SQS.
    pub async fn count(&self) -> Result<u64, Unavailable> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(letters) => Ok(letters.count()),
            #[cfg(feature = "sqs")]
            Self::Sqs(letters) => letters.count().await,
        }
    }
}

/// A reason that this version does not know was given by a newer one: its text is kept in the detail.
pub(super) fn reason_of(reason: &str, detail: String) -> (PoisonCode, String) {
    match PoisonCode::ALL.into_iter().find(|code| code.as_str() == reason) {
        Some(code) => (code, detail),
        None => (PoisonCode::NotValid, format!("{reason}: {detail}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_only_a_newer_version_knows_is_kept_in_the_detail() {
        let known = reason_of("too-old", "why".to_owned());
        assert_eq!(known, (PoisonCode::TooOld, "why".to_owned()));
        let unknown = reason_of("too-new", "why".to_owned());
        assert_eq!(unknown, (PoisonCode::NotValid, "too-new: why".to_owned()));
    }
}
