//! Looks at the two queues, and changes nothing: what they say of themselves, what we may do there, what time it is.
//!
//! A permission is tried with a batch of no entries: who may not make the call is told so, and who may is told that the
//! batch is empty. No call to receive is harmless, so that one is not tried.

use std::time::SystemTime;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::date_time::{DateTime, Format};

use super::facts::QueueFacts;
use super::fault::Fault;
use super::{OpenError, Options, check_urls, connect, reach, refusal};
use crate::envelope::{Clock, stamp::gap_ms};

/// What the roles of a process do to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Send,
    Delete,
    Hide,
}

impl Action {
    /// The permission that it takes.
    pub fn permission(self) -> &'static str {
        match self {
            Self::Send => "sqs:SendMessage",
            Self::Delete => "sqs:DeleteMessage",
            Self::Hide => "sqs:ChangeMessageVisibility",
        }
    }
}

/// What is done to each of the queues.
#[derive(Debug, Clone, Default)]
pub struct Actions {
    pub queue: Vec<Action>,
    pub dead_letters: Vec<Action>,
}

/// Both queues, as they were found.
#[derive(Debug)]
pub struct Inspected {
    pub queue: Look,
    pub dead_letters: Look,
}

/// One queue, as it was found.
#[derive(Debug)]
pub enum Look {
    Seen(Seen),
    /// An operator must act.
    Refused(OpenError),
    /// It can't be reached now, which may heal by itself: why.
    Away(String),
}

#[derive(Debug, Default)]
pub struct Seen {
    pub facts: QueueFacts,
    /// What was tried and refused.
    pub denied: Vec<Action>,
    /// How far SQS's clock is ahead of ours; `None` where no answer said.
    pub clock_gap_ms: Option<i64>,
}

/// Looks at both queues. An error is one of the configuration, for which nothing had to be asked.
pub async fn inspect(options: &Options, actions: &Actions) -> Result<Inspected, OpenError> {
    check_urls(options)?;
    let client = connect::connect(options).await?.calls;
    let (queue, dead_letters) = tokio::join!(
        look(&client, (options.keys.queue_url, &options.queue_url), &actions.queue),
        look(&client, (options.keys.dead_letter_url, &options.dead_letter_url), &actions.dead_letters)
    );
    Ok(Inspected { queue, dead_letters })
}

async fn look(client: &Client, (key, url): (&'static str, &String), actions: &[Action]) -> Look {
    let facts = match reach(client, url).await {
        Ok(facts) => facts,
        Err(Fault::Unavailable(why)) => return Look::Away(why),
        Err(fault) => return Look::Refused(refusal(key, url, fault)),
    };
    let mut seen = Seen { facts, ..Seen::default() };
    for &action in actions {
        let tried = attempt(client, url, action).await;
        if tried.is_denied {
            seen.denied.push(action);
        }
        seen.clock_gap_ms = seen.clock_gap_ms.or(tried.clock_gap_ms);
    }
    Look::Seen(seen)
}

#[derive(Default)]
struct Tried {
    is_denied: bool,
    clock_gap_ms: Option<i64>,
}

async fn attempt(client: &Client, url: &str, action: Action) -> Tried {
    let clock = Clock::system();
    let asked_ms = clock.now_ms();
    // An answer that is no error, as some emulators give, says all the same that it was not refused.
    match action {
        Action::Send => {
            let call = client.send_message_batch().queue_url(url).set_entries(Some(Vec::new()));
            call.send().await.err().map(|error| Tried::of(&error, asked_ms, &clock))
        }
        Action::Delete => {
            let call = client.delete_message_batch().queue_url(url).set_entries(Some(Vec::new()));
            call.send().await.err().map(|error| Tried::of(&error, asked_ms, &clock))
        }
        Action::Hide => {
            let call = client.change_message_visibility_batch().queue_url(url).set_entries(Some(Vec::new()));
            call.send().await.err().map(|error| Tried::of(&error, asked_ms, &clock))
        }
    }
    .unwrap_or_default()
}

impl Tried {
    fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>, asked_ms: u64, clock: &Clock) -> Self {
        let SdkError::ServiceError(answer) = error else { return Self::default() };
        let is_denied = answer.err().code().is_some_and(|code| code.contains("AccessDenied"));
        let said = answer.raw().headers().get("date").and_then(date_ms);
        Self { is_denied, clock_gap_ms: said.map(|said| gap_ms(said, asked_ms..=clock.now_ms())) }
    }
}

/// A `Date` header, in milliseconds since the epoch.
fn date_ms(text: &str) -> Option<u64> {
    let at = SystemTime::try_from(DateTime::from_str(text, Format::HttpDate).ok()?).ok()?;
    u64::try_from(at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_header_is_read() {
        assert_eq!(date_ms("Tue, 24 Nov 2026 18:28:05 GMT"), Some(1_795_544_885_000));
        assert_eq!(date_ms("yesterday"), None);
    }
}
