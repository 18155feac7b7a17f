//! What an answer of SQS means to us: who must act, and whether a retry helps.

use std::error::Error;

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::BatchResultErrorEntry;

use crate::buffer::Unavailable;

/// Why a whole call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not reached, no answer in time, throttled, or a fault of SQS itself.
    Unavailable(String),
    NoQueue,
    /// SQS answered, and won't do it: its error code.
    Refused(String),
}

impl Fault {
    pub fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let SdkError::ServiceError(answer) = error else { return Self::Unavailable(chain(error)) };
        let status = answer.raw().status().as_u16();
        let code = answer.err().code().map_or_else(|| format!("HTTP {status}"), |code| short(code).to_owned());
        if status >= 500 || status == 429 || is_passing(&code) {
            return Self::Unavailable(format!("SQS answers {code}"));
        }
        match code.as_str() {
            "QueueDoesNotExist" | "NonExistentQueue" => Self::NoQueue,
            _ => Self::Refused(code),
        }
    }

    /// Is it what a message holds that SQS refuses, rather than the call?
    pub fn is_about_messages(&self) -> bool {
        const CODES: [&str; 6] = [
            "BatchRequestTooLong",
            "InvalidAttributeValue",
            "InvalidMessageContents",
            "InvalidParameterCombination",
            "InvalidParameterValue",
            "UnsupportedOperation",
        ];
        matches!(self, Self::Refused(code) if CODES.contains(&code.as_str()))
    }

    /// For a caller, who can only try again; `key` tells the operator where to look.
    pub fn unavailable(self, key: &str) -> Unavailable {
        Unavailable(match self {
            Self::Unavailable(why) => format!("{key}: {why}"),
            Self::NoQueue => format!("the queue of {key} does not exist"),
            Self::Refused(code) => format!("SQS refuses calls to the queue of {key}: {code}"),
        })
    }
}

/// Why one entry of a batch failed. The text of SQS is left out: it may quote the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryFault {
    Unavailable(String),
    /// Sending the same again never helps.
    Refused(String),
}

impl EntryFault {
    pub fn of(entry: &BatchResultErrorEntry) -> Self {
        let code = short(entry.code()).to_owned();
        if entry.sender_fault() && !is_passing(&code) { Self::Refused(code) } else { Self::Unavailable(code) }
    }
}

/// Throttling and the like, which SQS sends as a 4xx or as the sender's fault.
fn is_passing(code: &str) -> bool {
    const CODES: [&str; 8] = [
        "InternalError",
        "InternalFailure",
        "OverLimit",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "TooManyRequestsException",
    ];
    code.contains("Throttl") || CODES.contains(&code)
}

/// `AWS.SimpleQueueService.NonExistentQueue` and `com.amazonaws.sqs#QueueDoesNotExist` without what stands before.
fn short(code: &str) -> &str {
    code.rsplit(['.', '#']).next().unwrap_or(code)
}

/// An error with all its causes, in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(code: &str, sender_fault: bool) -> BatchResultErrorEntry {
        let entry = BatchResultErrorEntry::builder().id("0").code(code).sender_fault(sender_fault);
        entry.message("holds the payload").build().unwrap()
    }

    #[test]
    fn throttling_passes_even_where_it_is_called_the_senders_fault() {
        for (code, sender_fault) in [("AWS.SimpleQueueService.ThrottlingException", true), ("InternalError", false)] {
            assert!(matches!(EntryFault::of(&entry(code, sender_fault)), EntryFault::Unavailable(_)), "{code}");
        }
        let refused = EntryFault::of(&entry("InvalidMessageContents", true));
        assert_eq!(refused, EntryFault::Refused("InvalidMessageContents".into()));
    }
}
