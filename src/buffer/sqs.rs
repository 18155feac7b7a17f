//! The buffer on Amazon SQS, or whatever speaks its protocol: a standard queue and a dead-letter queue, both made by
//! the operator (`hookcache queues create`). Nothing of the SDK leaves this file and its folder.
//!
//! The halves never create, purge or reconfigure a queue. They need the permissions `sqs:SendMessage`,
//! `sqs:ReceiveMessage`, `sqs:DeleteMessage`, `sqs:ChangeMessageVisibility` and `sqs:GetQueueAttributes` on both queues.
//! [`Burier`] needs `sqs:SendMessage` on the dead-letter queue alone.
//! Whoever makes the queues with [`create()`] needs `sqs:GetQueueUrl`, `sqs:CreateQueue`, `sqs:SetQueueAttributes` and
//! `sqs:GetQueueAttributes`.
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
//! | `facts`, `wanted` | what a queue says of itself, and how it should be; pure |
//! | `inspect`, `create` | looking at the queues, and making them as they should be |

mod appender;
mod connect;
mod create;
mod dead;
mod entry;
mod facts;
mod fault;
mod inspect;
mod outgoing;
mod taker;
mod walk;
pub mod wanted;

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;

pub use appender::Appender;
pub use create::{CreateError, Effect, Made, Mode, Plan, create};
pub use dead::Burier;
pub use facts::{QueueFacts, Redrive};
pub use inspect::{Action, Actions, Inspected, Look, Seen, inspect};
pub use taker::Taker;
pub use walk::DeadLetters;

use self::connect::Clients;
use self::fault::Fault;

/// How an SQS buffer is opened. The default leads nowhere.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How errors name the two queues.
    pub keys: Keys,
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

/// The settings that name the two queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    pub queue_url: &'static str,
    pub dead_letter_url: &'static str,
}

impl Default for Keys {
    fn default() -> Self {
        Self { queue_url: "buffer.queue_url", dead_letter_url: "buffer.dead_letter_url" }
    }
}

/// The configuration is wrong, and the operator must act. A backend that can't be reached is no such error.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("buffer.region: not set, and neither buffer.queue_url nor the environment (AWS_REGION) names a region")]
    NoRegion,
    #[error("no AWS credentials for the queues on SQS: {0}")]
    NoCredentials(String),
    #[error("{key}: there is no queue {url}; create it (`hookcache queues create`), or correct the URL")]
    NoQueue { key: &'static str, url: String },
    #[error("{key}: SQS refuses sqs:GetQueueAttributes on {url} ({code}); check credentials and permissions")]
    Denied { key: &'static str, url: String, code: String },
    #[error(
        "{key}: {url} is a FIFO queue, which delivers nothing of an account while one of its messages is taken; use a standard queue"
    )]
    Fifo { key: &'static str, url: String },
    #[error("{}: must not be the same queue as {}", .0.dead_letter_url, .0.queue_url)]
    SameQueue(Keys),
}

const FIFO_SUFFIX: &str = ".fifo";

/// Opens both halves. A queue that does not exist or refuses us is an error; an endpoint that does not answer is logged,
/// and calls answer `Unavailable` until it does.
pub async fn open(options: Options) -> Result<(Appender, Taker), OpenError> {
    check_urls(&options)?;
    let Keys { queue_url, dead_letter_url } = options.keys;
    let (queue, dead) = ((queue_url, &options.queue_url), (dead_letter_url, &options.dead_letter_url));
    let clients = connect::connect(&options).await?;
    let (first, second) = tokio::join!(check_queue(&clients, queue), check_queue(&clients, dead));
    first.and(second)?;
    Ok((Appender::new(&clients, &options), Taker::new(&clients, options)))
}

/// What can be told without asking anybody.
fn check_urls(options: &Options) -> Result<(), OpenError> {
    let Keys { queue_url, dead_letter_url } = options.keys;
    for (key, url) in [(queue_url, &options.queue_url), (dead_letter_url, &options.dead_letter_url)] {
        if url.ends_with(FIFO_SUFFIX) {
            return Err(OpenError::Fifo { key, url: url.clone() });
        }
    }
    match options.queue_url == options.dead_letter_url {
        true => Err(OpenError::SameQueue(options.keys)),
        false => Ok(()),
    }
}

async fn check_queue(clients: &Clients, (key, url): (&'static str, &String)) -> Result<(), OpenError> {
    match reach(&clients.calls, url).await {
        Ok(_) => Ok(()),
        Err(Fault::Unavailable(why)) => {
            tracing::warn!(
                "the queue {url} can't be reached now ({why}); if this lasts, check {key} and buffer.endpoint_url"
            );
            Ok(())
        }
        Err(fault) => Err(refusal(key, url, fault)),
    }
}

/// What an operator must act on, of a queue that answered.
fn refusal(key: &'static str, url: &str, fault: Fault) -> OpenError {
    let url = url.to_owned();
    match fault {
        Fault::NoQueue => OpenError::NoQueue { key, url },
        Fault::Refused(code) | Fault::Unavailable(code) => OpenError::Denied { key, url, code },
    }
}

/// Does the queue answer? What it says of itself.
async fn reach(client: &Client, url: &str) -> Result<QueueFacts, Fault> {
    let call = client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
    let all = call.send().await.map_err(|e| Fault::of(&e))?.attributes.unwrap_or_default();
    Ok(QueueFacts::new(all.into_iter().map(|(name, value)| (name.as_str().to_owned(), value)).collect()))
}
