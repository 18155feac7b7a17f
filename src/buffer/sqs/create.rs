//! Makes the two queues of a buffer as they should be, or changes what differs. It never removes a queue, a message or a
//! permission, and makes nothing worse that is better than asked for.
//!
//! A queue is made bare, and then changed like one that was there before: one way for both, and an emulator that
//! doesn't know an attribute still gets all the others. Whoever was cut off runs it again.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;

use super::facts::QueueFacts;
use super::fault::Fault;
use super::wanted::{Change, Transport, WantedDeadLetters, WantedQueue};
use super::{FIFO_SUFFIX, OpenError, Options, connect, reach};

/// What to make.
#[derive(Debug, Clone)]
pub struct Plan {
    pub queue: String,
    pub dead_letters: String,
    /// The queue hides what was taken for this long at least.
    pub visibility: Duration,
    pub mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Apply,
    /// Says what it would do, and does nothing.
    DryRun,
}

/// What became of one queue.
#[derive(Debug, Clone)]
pub struct Made {
    pub name: String,
    /// `None` where a dry run found no such queue.
    pub url: Option<String>,
    pub was_there: bool,
    pub changes: Vec<(Change, Effect)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// By a dry run.
    Planned,
    Applied,
    /// The endpoint does not know the attribute, or not this value: its error code.
    Unknown(String),
    /// The endpoint took it, and does not show it.
    NotShown,
}

/// Why queues could not be made. Running it again goes on where it stopped.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "{name}: a FIFO queue delivers nothing of an account while one of its messages is taken; choose a name without {FIFO_SUFFIX}"
    )]
    Fifo { name: String },
    #[error("{name}: the queue and its dead-letter queue must be two queues")]
    Same { name: String },
    #[error("{name}: SQS refuses {action} ({code}); check credentials and permissions")]
    Refused { name: String, action: &'static str, code: String },
    #[error("{name}: SQS can't be reached ({why}); check the endpoint, and try again")]
    Unavailable { name: String, why: String },
}

/// Makes or mends both queues; of `access` the endpoint, the region and the credentials are used. The dead-letter queue
/// comes first in the answer.
pub async fn create(access: &Options, plan: &Plan) -> Result<[Made; 2], CreateError> {
    for name in [&plan.queue, &plan.dead_letters] {
        if name.ends_with(FIFO_SUFFIX) {
            return Err(CreateError::Fifo { name: name.clone() });
        }
    }
    if plan.queue == plan.dead_letters {
        return Err(CreateError::Same { name: plan.queue.clone() });
    }
    let client = connect::connect(access).await?.calls;
    let transport = match &access.endpoint_url {
        Some(url) if !url.starts_with("https://") => Transport::Plain,
        _ => Transport::Tls,
    };
    let dead = Maker::find_or_make(&client, &plan.dead_letters, plan.mode).await?;
    let queue = Maker::find_or_make(&client, &plan.queue, plan.mode).await?;
    let (dead_arn, queue_arn) = (dead.arn(), queue.arn());
    let wanted_dead = WantedDeadLetters { arn: &dead_arn, queue_arn: &queue_arn, transport };
    let visibility = plan.visibility;
    let wanted_queue = WantedQueue { arn: &queue_arn, dead_letter_arn: &dead_arn, visibility, transport };
    // In this order, as a queue may only name dead letters that let it.
    let dead = dead.mend(|found| wanted_dead.changes(found)).await?;
    let queue = queue.mend(|found| wanted_queue.changes(found)).await?;
    Ok([dead, queue])
}

/// One queue in the making.
struct Maker<'a> {
    client: &'a Client,
    mode: Mode,
    name: &'a str,
    /// `None` in a dry run that found no such queue.
    url: Option<String>,
    was_there: bool,
    found: QueueFacts,
}

impl<'a> Maker<'a> {
    async fn find_or_make(client: &'a Client, name: &'a str, mode: Mode) -> Result<Self, CreateError> {
        let answer = client.get_queue_url().queue_name(name).send().await;
        let url = match answer.map_err(|e| Fault::of(&e)) {
            Ok(found) => found.queue_url,
            Err(Fault::NoQueue) => None,
            Err(fault) => return Err(error(name, "sqs:GetQueueUrl", fault)),
        };
        let was_there = url.is_some();
        let url = match (url, mode) {
            (None, Mode::Apply) => {
                let made = client.create_queue().queue_name(name).send().await;
                made.map_err(|e| error(name, "sqs:CreateQueue", Fault::of(&e)))?.queue_url
            }
            (url, _) => url,
        };
        let mut maker = Self { client, mode, name, url, was_there, found: QueueFacts::default() };
        maker.found = maker.look().await?;
        Ok(maker)
    }

    async fn look(&self) -> Result<QueueFacts, CreateError> {
        let Some(url) = &self.url else { return Ok(QueueFacts::default()) };
        reach(self.client, url).await.map_err(|fault| error(self.name, "sqs:GetQueueAttributes", fault))
    }

    fn arn(&self) -> String {
        self.found.arn().map_or_else(|| format!("(the ARN of {})", self.name), str::to_owned)
    }

    async fn mend(self, differs: impl Fn(&QueueFacts) -> Vec<Change>) -> Result<Made, CreateError> {
        let mut changes = Vec::new();
        for change in differs(&self.found) {
            let effect = match self.mode {
                Mode::DryRun => Effect::Planned,
                Mode::Apply => self.set(&change).await?,
            };
            changes.push((change, effect));
        }
        if self.mode == Mode::Apply && !changes.is_empty() {
            let left = differs(&self.look().await?);
            for (change, effect) in &mut changes {
                let is_left = left.iter().any(|other| other.attribute == change.attribute);
                if is_left && *effect == Effect::Applied {
                    *effect = Effect::NotShown;
                }
            }
        }
        Ok(Made { name: self.name.to_owned(), url: self.url, was_there: self.was_there, changes })
    }

    async fn set(&self, change: &Change) -> Result<Effect, CreateError> {
        let url = self.url.as_deref().unwrap_or_default();
        let name = QueueAttributeName::from(change.attribute);
        let call = self.client.set_queue_attributes().queue_url(url).attributes(name, &change.to);
        match call.send().await.map_err(|e| Fault::of(&e)) {
            Ok(_) => Ok(Effect::Applied),
            Err(Fault::Refused(code)) if is_about_attributes(&code) => Ok(Effect::Unknown(code)),
            Err(fault) => Err(error(self.name, "sqs:SetQueueAttributes", fault)),
        }
    }
}

fn is_about_attributes(code: &str) -> bool {
    code.starts_with("InvalidAttribute") || code.starts_with("InvalidParameter") || code == "UnsupportedOperation"
}

fn error(name: &str, action: &'static str, fault: Fault) -> CreateError {
    let name = name.to_owned();
    match fault {
        Fault::Unavailable(why) => CreateError::Unavailable { name, why },
        Fault::Refused(code) => CreateError::Refused { name, action, code },
        Fault::NoQueue => CreateError::Refused { name, action, code: "QueueDoesNotExist".to_owned() },
    }
}
