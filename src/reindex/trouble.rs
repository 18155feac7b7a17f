//! What can go wrong with a step of a run, and what becomes of the run then.

use std::time::Duration;

use crate::buffer::AppendError;
use crate::confluence::FetchError;
use crate::registry::Unavailable;

/// Why a step was not done. None of it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The run goes on later, not before `after` where that is known.
    Later { after: Option<Duration>, why: String },
    /// An answer that makes no sense. It is asked for a few times before the run fails.
    Odd(String),
    /// The site refuses the credential.
    Unauthorized(String),
    /// The run fails. The text says what the operator can do.
    Hopeless(String),
    /// The run is another's, or its scope was changed, or its site is not active any more.
    Gone,
}

impl Trouble {
    pub fn later(why: impl Into<String>) -> Self {
        Self::Later { after: None, why: why.into() }
    }
}

impl From<Unavailable> for Trouble {
    fn from(error: Unavailable) -> Self {
        Self::later(error.to_string())
    }
}

impl From<AppendError> for Trouble {
    fn from(error: AppendError) -> Self {
        Self::later(error.to_string())
    }
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Later { after, why } => Self::Later { after, why: format!("the site can't answer now: {why}") },
            FetchError::Busy { after, .. } => Self::Later { after: Some(after), why: error.to_string() },
            FetchError::Unusable(_) => Self::Odd(error.to_string()),
            FetchError::Unauthorized(_) => Self::Unauthorized(error.to_string()),
        }
    }
}
