//! The half that looks at what waits in the buffer, taken or not, and takes nothing: for an operator who asks how much
//! there is, and where an event is.
//!
//! An embedded buffer is read on snapshots, oldest first, a few messages at a time. SQS shows a message only to who takes
//! it, so there it can't be known.

#[cfg(feature = "embedded")]
use super::embedded;
#[cfg(feature = "sqs")]
use super::sqs;
use super::{Depth, Taker, Unavailable};

/// The half that looks at what waits. Cheap to clone.
#[derive(Clone)]
pub enum Pending {
    #[cfg(feature = "embedded")]
    Embedded(embedded::Pending),
    #[cfg(feature = "sqs")]
    Sqs(Box<sqs::Taker>),
}

/// How far a look has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    pub seen: usize,
    /// There was no other message to look at.
    pub complete: bool,
}

impl Pending {
    /// Of the buffer that this taker takes from.
    pub fn of(taker: &Taker) -> Self {
        match taker {
            #[cfg(feature = "embedded")]
            Taker::Embedded(taker) => Self::Embedded(embedded::Pending::of(taker)),
            #[cfg(feature = "sqs")]
            Taker::Sqs(taker) => Self::Sqs(Box::new(taker.clone())),
        }
    }

    pub async fn depth(&self) -> Result<Depth, Unavailable> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(pending) => Ok(pending.depth()),
            #[cfg(feature = "sqs")]
            Self::Sqs(taker) => taker.depth().await,
        }
    }

    /// Shows the bodies of at most `messages_max` messages. `None` where the backend can't look.
    #[cfg_attr(not(feature = "embedded"), expect(unused_variables, reason = "SQS can't look"))]
    pub async fn look(
        &self,
        messages_max: usize,
        see: impl FnMut(&[u8]) + Send,
    ) -> Result<Option<Looked>, Unavailable> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(pending) => pending.look(messages_max, see).await.map(Some),
            #[cfg(feature = "sqs")]
            Self::Sqs(_) => Ok(None),
        }
    }
}
