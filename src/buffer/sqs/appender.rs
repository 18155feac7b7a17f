//! Concurrent appends become batch sends, one result per message.
//!
//! One task collects. While nothing is in flight, a message is sent at once. Otherwise it waits for company: until a
//! batch is full, a send comes back, or [`COLLECT_MAX`] is over. A caller that goes away takes nothing with it: what it
//! has handed over is sent all the same.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connect::Clients;
use super::entry::{Attributes, BATCH_BYTES_MAX, ENTRIES_MAX, is_legal};
use super::fault::{EntryFault, Fault};
use super::{Options, reach};
use crate::buffer::{AppendError, MessageId, Unavailable};
use crate::envelope::WireForm;

/// Batch sends in flight. 80 messages at a round trip of 10 ms are 8,000 messages per second and process; more sends
/// would only make smaller batches, and SQS is paid by the call.
const SENDS_MAX: usize = 8;
/// Messages that wait for a place in a batch. Over it, callers are sent away at once: each may weigh 1 MiB.
const WAITING_MAX: usize = 1_024;
/// How long a message waits for company while others are in flight: about one round trip.
const COLLECT_MAX: Duration = Duration::from_millis(10);
/// What has waited longer than this to be sent is given up: its caller has been told, or soon would be, to come back.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The half that puts in.
#[derive(Clone)]
pub struct Appender {
    jobs: mpsc::Sender<Job>,
    client: Client,
    /// The setting that names the queue.
    key: &'static str,
    queue_url: String,
}

type Answer = Result<MessageId, AppendError>;

/// One message on its way, and who waits for it.
struct Job {
    body: String,
    group: String,
    traceparent: Option<String>,
    size_bytes: usize,
    since: Instant,
    answer: oneshot::Sender<Answer>,
}

impl Appender {
    pub(super) fn new(clients: &Clients, options: &Options) -> Self {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let (client, key, queue_url) = (clients.calls.clone(), options.keys.queue_url, options.queue_url.clone());
        // It ends by itself, all sent, when the last Appender is gone.
        tokio::spawn(collect(waiting, Sender { client: client.clone(), key, queue_url: queue_url.clone() }));
        Self { jobs, client, key, queue_url }
    }

    pub async fn append(&self, message: WireForm) -> Answer {
        let (answer, answered) = oneshot::channel();
        let job = Job::new(message, answer)?;
        self.jobs.try_send(job).map_err(|_| unavailable("too many messages wait to be sent to SQS"))?;
        answered.await.unwrap_or_else(|_| Err(unavailable("it is shutting down")))
    }

    pub async fn check(&self) -> Result<(), Unavailable> {
        reach(&self.client, &self.queue_url).await.map(|_| ()).map_err(|fault| fault.unavailable(self.key))
    }
}

impl Job {
    /// What SQS would refuse is refused here, so that it can't spoil the batch of others.
    fn new(message: WireForm, answer: oneshot::Sender<Answer>) -> Result<Self, AppendError> {
        let body = std::str::from_utf8(&message.body).map_err(|_| refused("it is not UTF-8"))?;
        if body.is_empty() {
            return Err(refused("it is empty"));
        }
        if let Some(character) = body.chars().find(|c| !is_legal(*c)) {
            let code = u32::from(character);
            return Err(refused(&format!("it holds the character U+{code:04X}, which SQS does not take")));
        }
        let group = message.account.as_str().to_owned();
        let attributes = Attributes::default().with_traceparent(message.traceparent.as_deref());
        let size_bytes = body.len() + group.len() + attributes.size_bytes();
        if size_bytes > BATCH_BYTES_MAX {
            let what = format!("it takes {size_bytes} bytes, of which SQS takes at most {BATCH_BYTES_MAX}");
            return Err(refused(&what));
        }
        let (body, traceparent) = (body.to_owned(), message.traceparent);
        Ok(Self { body, group, traceparent, size_bytes, since: Instant::now(), answer })
    }

    fn entry(&self, index: usize) -> Option<SendMessageBatchRequestEntry> {
        let mut entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(&self.body);
        // Fair queues: an account that floods the queue delays itself, and no other.
        entry = entry.message_group_id(&self.group);
        for (name, value) in Attributes::default().with_traceparent(self.traceparent.as_deref()).into_values() {
            entry = entry.message_attributes(name, value);
        }
        // It fails only without id or body, and both are there.
        entry.build().ok()
    }

    fn answer(self, answer: Answer) {
        // Nobody listens where the caller has gone away, which is its right.
        let _ = self.answer.send(answer);
    }
}

/// Messages that go together.
#[derive(Default)]
struct Batch {
    jobs: Vec<Job>,
    size_bytes: usize,
}

impl Batch {
    fn fits(&self, job: &Job) -> bool {
        self.jobs.len() < ENTRIES_MAX && self.size_bytes + job.size_bytes <= BATCH_BYTES_MAX
    }

    fn push(&mut self, job: Job) {
        self.size_bytes += job.size_bytes;
        self.jobs.push(job);
    }
}

/// What is collected at the moment.
#[derive(Default)]
struct Collected {
    batch: Batch,
    /// The first message that did not fit any more; it opens the next batch.
    next: Option<Job>,
    /// Waited long enough for company.
    due: bool,
}

impl Collected {
    fn is_full(&self) -> bool {
        self.next.is_some() || self.batch.jobs.len() == ENTRIES_MAX
    }

    fn push(&mut self, job: Job) {
        if self.batch.fits(&job) {
            self.batch.push(job);
        } else {
            self.next = Some(job);
        }
    }

    fn take(&mut self) -> Batch {
        let batch = std::mem::take(&mut self.batch);
        self.due = false;
        if let Some(job) = self.next.take() {
            self.batch.push(job);
        }
        batch
    }

    fn due_at(&self) -> Option<Instant> {
        self.batch.jobs.first().filter(|_| !self.due).map(|job| job.since + COLLECT_MAX)
    }
}

async fn collect(mut waiting: mpsc::Receiver<Job>, sender: Sender) {
    let mut collected = Collected::default();
    let mut sends = JoinSet::new();
    let mut open = true;
    while open || !collected.batch.jobs.is_empty() || !sends.is_empty() {
        while !collected.is_full() {
            let Ok(job) = waiting.try_recv() else { break };
            collected.push(job);
        }
        let ready = sends.is_empty() || collected.is_full() || collected.due || !open;
        if ready && !collected.batch.jobs.is_empty() && sends.len() < SENDS_MAX {
            let (sender, batch) = (sender.clone(), collected.take());
            sends.spawn(async move { sender.send_fresh(batch.jobs).await });
            continue;
        }
        let due_at = collected.due_at();
        tokio::select! {
            job = waiting.recv(), if open && !collected.is_full() => match job {
                Some(job) => collected.push(job),
                None => open = false,
            },
            Some(_) = sends.join_next() => collected.due = true,
            () = until(due_at), if due_at.is_some() => collected.due = true,
        }
    }
}

async fn until(time: Option<Instant>) {
    if let Some(time) = time {
        tokio::time::sleep_until(time).await;
    }
}

/// Sends batches to the one queue.
#[derive(Clone)]
struct Sender {
    client: Client,
    key: &'static str,
    queue_url: String,
}

impl Sender {
    /// Sends what has not waited too long.
    async fn send_fresh(&self, jobs: Vec<Job>) {
        let (fresh, stale): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.since.elapsed() < WAIT_MAX);
        for job in stale {
            job.answer(Err(unavailable("SQS is slow, and the message has waited too long to be sent")));
        }
        if let Some(rest) = self.send(fresh).await {
            // SQS refused the call for one message and says not which: alone, each gets its own answer.
            for job in rest {
                self.send(vec![job]).await;
            }
        }
    }

    /// One call; answers everyone, unless the call was refused for one message among several: those come back.
    async fn send(&self, jobs: Vec<Job>) -> Option<Vec<Job>> {
        if jobs.is_empty() {
            return None;
        }
        let entries = jobs.iter().enumerate().filter_map(|(index, job)| job.entry(index)).collect();
        let call = self.client.send_message_batch().queue_url(&self.queue_url).set_entries(Some(entries));
        let done = match call.send().await {
            Ok(done) => done,
            Err(error) => {
                let fault = Fault::of(&error);
                if fault.is_about_messages() && jobs.len() > 1 {
                    return Some(jobs);
                }
                let error = whole_call(fault, self.key);
                jobs.into_iter().for_each(|job| job.answer(Err(error.clone())));
                return None;
            }
        };
        let mut answers: HashMap<&str, Answer> = HashMap::with_capacity(jobs.len());
        for sent in done.successful() {
            answers.insert(sent.id(), Ok(MessageId(sent.message_id().to_owned())));
        }
        for failed in done.failed() {
            answers.insert(failed.id(), Err(one_entry(EntryFault::of(failed))));
        }
        for (index, job) in jobs.into_iter().enumerate() {
            let silent = || Err(unavailable("SQS did not say what became of the message"));
            job.answer(answers.remove(index.to_string().as_str()).unwrap_or_else(silent));
        }
        None
    }
}

fn whole_call(fault: Fault, key: &'static str) -> AppendError {
    match fault {
        Fault::Refused(ref code) if fault.is_about_messages() => refused(&format!("SQS answers {code}")),
        fault => AppendError::Unavailable(fault.unavailable(key).0),
    }
}

fn one_entry(fault: EntryFault) -> AppendError {
    match fault {
        EntryFault::Unavailable(code) => unavailable(&format!("SQS answers {code}")),
        EntryFault::Refused(code) => refused(&format!("SQS answers {code}")),
    }
}

fn unavailable(why: &str) -> AppendError {
    AppendError::Unavailable(why.to_owned())
}

fn refused(why: &str) -> AppendError {
    AppendError::Refused(why.to_owned())
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::config::{BehaviorVersion, Config};
    use bytes::Bytes;

    use super::*;
    use crate::envelope::Account;

    #[tokio::test(start_paused = true)]
    async fn what_has_waited_too_long_is_given_up_unsent() {
        // A client without endpoint, region and credentials: a call would fail with another text.
        let config = Config::builder().behavior_version(BehaviorVersion::latest()).build();
        let sender = Sender { client: Client::from_conf(config), key: "", queue_url: String::new() };
        let (answer, answered) = oneshot::channel();
        let (account, body) = (Account::parse("a").unwrap(), Bytes::from_static(b"x"));
        let job = Job::new(WireForm { id: "i".into(), account, traceparent: None, body }, answer).unwrap();
        tokio::time::advance(WAIT_MAX).await;
        sender.send_fresh(vec![job]).await;
        let error = answered.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("waited too long"), "{error}");
    }
}
