//! The buffer on Amazon SQS, or whatever speaks its protocol: a standard queue and a dead-letter queue, both made by
//! the operator. Nothing of the SDK leaves this file and its folder.
//!
//! It never creates, purges or reconfigures a queue. It needs the permissions `sqs:SendMessage`, `sqs:ReceiveMessage`,
//! `sqs:DeleteMessage`, `sqs:ChangeMessageVisibility` and `sqs:GetQueueAttributes` on both queues.
//!
//! | file | holds |
//! | --- | --- |
//! | `connect` | region, credentials, timeouts and retries of the clients |
//! | `appender` | coalescing appends into batch sends |
//! | `taker` | take, delete, hide, depth |
//! | `dead` | burying: how a reason travels beside a message |
//! | `walk` | looking at dead letters, redriving and dropping them |
//! | `outgoing` | batches from one of our queues to the other |
//! | `entry` | what a message may hold, and what it weighs |
//! | `fault` | what an answer of SQS means to us |

mod appender;
mod connect;
mod dead;
mod entry;
mod fault;
mod outgoing;
mod taker;
mod walk;

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;

pub use appender::Appender;
pub use taker::Taker;
pub use walk::DeadLetters;

use self::connect::Clients;
use self::fault::Fault;

/// How an SQS buffer is opened.
#[derive(Debug, Clone)]
pub struct Options {
    pub queue_url: String,
    pub dead_letter_url: String,
    /// Any SQS-compatible endpoint; AWS's own where `None`.
    pub endpoint_url: Option<String>,
    /// Where `None`: the region that the queue URL names, then the environment's.
    pub region: Option<String>,
    /// For how long a taken message is hidden.
    pub visibility: Duration,
    /// The long poll: at most 20 seconds.
    pub wait: Duration,
}

/// The configuration is wrong, and the operator must act. A backend that can't be reached is no such error.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("buffer.region: not set, and neither buffer.queue_url nor the environment (AWS_REGION) names a region")]
    NoRegion,
    #[error("no AWS credentials for the queue of buffer.queue_url: {0}")]
    NoCredentials(String),
    #[error("{key}: there is no queue {url}; create it, or correct the URL")]
    NoQueue { key: &'static str, url: String },
    #[error("{key}: SQS refuses sqs:GetQueueAttributes on {url} ({code}); check credentials and permissions")]
    Denied { key: &'static str, url: String, code: String },
    #[error(
        "{key}: {url} is a FIFO queue, which delivers nothing of an account while one of its messages is taken; use a standard queue"
    )]
    Fifo { key: &'static str, url: String },
    #[error("buffer.dead_letter_url: must not be the same queue as buffer.queue_url")]
    SameQueue,
}

const QUEUE_KEY: &str = "buffer.queue_url";
const DEAD_LETTER_KEY: &str = "buffer.dead_letter_url";
/// Receives that a queue must allow at least, and should allow: its own limit is a net for crashes, not for outages.
const RECEIVES_MIN: u64 = 100;
const RECEIVES_ADVISED: u64 = 1_000;
/// How long a queue should keep messages: SQS's longest. An outage of the store that lasts longer than the queue keeps
/// them is the one way in which SQS itself loses what was accepted.
const RETENTION_ADVISED: Duration = Duration::from_secs(14 * 86_400);
const FIFO_SUFFIX: &str = ".fifo";

/// Opens both halves. A queue that does not exist or refuses us is an error; an endpoint that does not answer is logged,
/// and calls answer `Unavailable` until it does.
pub async fn open(options: Options) -> Result<(Appender, Taker), OpenError> {
    let (queue, dead) = ((QUEUE_KEY, &options.queue_url), (DEAD_LETTER_KEY, &options.dead_letter_url));
    for (key, url) in [queue, dead] {
        if url.ends_with(FIFO_SUFFIX) {
            return Err(OpenError::Fifo { key, url: url.clone() });
        }
    }
    if options.queue_url == options.dead_letter_url {
        return Err(OpenError::SameQueue);
    }
    let clients = connect::connect(&options).await?;
    let (first, second) = tokio::join!(check_queue(&clients, queue), check_queue(&clients, dead));
    first.and(second)?;
    Ok((Appender::new(&clients, &options), Taker::new(&clients, options)))
}

async fn check_queue(clients: &Clients, (key, url): (&'static str, &String)) -> Result<(), OpenError> {
    let url = url.clone();
    match reach(&clients.calls, &url).await {
        Ok(found) => {
            let retention = retention_advice(found.retention_seconds.as_deref());
            for advice in [redrive_advice(found.redrive_policy.as_deref()), retention].into_iter().flatten() {
                tracing::warn!("{key}: {advice}");
            }
            Ok(())
        }
        Err(Fault::NoQueue) => Err(OpenError::NoQueue { key, url }),
        Err(Fault::Refused(code)) => Err(OpenError::Denied { key, url, code }),
        Err(Fault::Unavailable(why)) => {
            tracing::warn!(
                "the queue {url} can't be reached now ({why}); if this lasts, check {key} and buffer.endpoint_url"
            );
            Ok(())
        }
    }
}

/// What a queue says of itself, as it says it.
struct Found {
    redrive_policy: Option<String>,
    retention_seconds: Option<String>,
}

/// Does the queue answer?
async fn reach(client: &Client, url: &str) -> Result<Found, Fault> {
    use QueueAttributeName::{MessageRetentionPeriod, QueueArn, RedrivePolicy};
    const ASKED: [QueueAttributeName; 3] = [QueueArn, RedrivePolicy, MessageRetentionPeriod];
    let call = client.get_queue_attributes().queue_url(url).set_attribute_names(Some(ASKED.to_vec()));
    let mut all = call.send().await.map_err(|e| Fault::of(&e))?.attributes.unwrap_or_default();
    Ok(Found { redrive_policy: all.remove(&RedrivePolicy), retention_seconds: all.remove(&MessageRetentionPeriod) })
}

/// What to tell an operator whose queue moves good messages to the dead letters while the store is down for a while.
fn redrive_advice(policy: Option<&str>) -> Option<String> {
    let policy: serde_json::Value = serde_json::from_str(policy?).ok()?;
    let count = &policy["maxReceiveCount"];
    // SQS itself writes a number, and takes text as well.
    let receives_max = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
    (receives_max < RECEIVES_MIN).then(|| {
        format!(
            "the queue gives a message up after {receives_max} receives (maxReceiveCount), which a pause of the store \
             may reach; {RECEIVES_ADVISED} is advised"
        )
    })
}

/// What to tell an operator whose queue forgets messages sooner than it could.
fn retention_advice(seconds: Option<&str>) -> Option<String> {
    let kept = Duration::from_secs(seconds?.parse().ok()?);
    (kept < RETENTION_ADVISED).then(|| {
        let (hours, days) = (kept.as_secs() / 3_600, RETENTION_ADVISED.as_secs() / 86_400);
        format!(
            "the queue keeps a message for {hours} hours (MessageRetentionPeriod), and forgets it in an outage of the \
             store that lasts longer; {days} days are advised"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_forgets_early_is_told_of() {
        let four_days = retention_advice(Some("345600")).unwrap();
        assert!(four_days.contains("96 hours") && four_days.contains("14 days"), "{four_days}");
        for enough in [Some("1209600"), Some(""), None] {
            assert_eq!(retention_advice(enough), None, "{enough:?}");
        }
    }

    #[test]
    fn a_queue_that_gives_up_early_is_told_of() {
        for (policy, told) in [
            (r#"{"deadLetterTargetArn":"a","maxReceiveCount":3}"#, true),
            (r#"{"deadLetterTargetArn":"a","maxReceiveCount":"3"}"#, true),
            (r#"{"deadLetterTargetArn":"a","maxReceiveCount":1000}"#, false),
            ("{}", false),
            ("", false),
        ] {
            assert_eq!(redrive_advice(Some(policy)).is_some(), told, "{policy}");
        }
        assert_eq!(redrive_advice(None), None);
    }
}
