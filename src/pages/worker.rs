//! The loop: take, do, settle, pause, drain.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::batch::{Job, Work, sorted};
use super::lanes::Lanes;
use super::{Options, puts_off};
use crate::backoff;
use crate::buffer::work::{Attempts, Hand, Held, last, settle};
use crate::buffer::{AppendError, Appender, Delivery, TAKE_MAX, Taker};
use crate::confluence::Confluence;
use crate::envelope::{Clock, Poison, PoisonCode, Stamp, Stamper, WireForm};
use crate::page::Archived;
use crate::registry::{Registry, Unavailable};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{TaskDone, TaskPutOff};

/// Waits between takes that the queue refused, and pauses while registry or buffer are down.
const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(15);
/// Waits between tries of a page that could not be used.
const ALONE_MIN: Duration = Duration::from_secs(1);
const ALONE_MAX: Duration = Duration::from_secs(5 * 60);
/// Giving back what is unfinished at a stop may take this long, beyond the deadline. What is not given back is offered
/// again when its visibility ends.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(3);

/// The mover. Made, then run once.
pub struct Pages {
    pub(super) registry: Registry,
    pub(super) confluence: Confluence,
    pub(super) queue: Appender,
    taker: Taker,
    pub(super) road: Appender,
    pub(super) archived: Archived,
    pub(super) metrics: Metrics,
    pub(super) lanes: Arc<Lanes>,
    stamper: Stamper,
    options: Options,
    held: Held,
    attempts: Mutex<Attempts>,
    pause: Mutex<Pause>,
    permits: Arc<Semaphore>,
    /// What is in hand.
    tasks: TaskTracker,
    /// The drain deadline is over: leave everything as it is.
    abandon: CancellationToken,
}

/// What it works with.
pub struct Parts {
    pub registry: Registry,
    pub confluence: Confluence,
    /// The queue of page links, both halves.
    pub queue: Appender,
    pub taker: Taker,
    /// Of the buffer: where envelopes are put.
    pub road: Appender,
    /// What becomes of archived pages.
    pub archived: Archived,
    pub metrics: Metrics,
    pub clock: Clock,
}

/// While the registry or the buffer is down nothing is taken.
struct Pause {
    until: Instant,
    failures: u32,
}

/// Why a task is not done.
#[derive(Debug)]
pub(super) enum Not {
    /// Not now; whose fault it is stays with its site.
    Later { wait: Duration, cause: TaskPutOff, why: String },
    /// Nothing can be done now: the registry, the buffer or the queue is down.
    Down { cause: TaskPutOff, why: String },
    /// This page alone could not be used.
    Alone(String),
    /// It can never be done.
    Never(Poison),
}

impl Not {
    pub(super) fn buffer(error: AppendError) -> Self {
        let why = error.to_string();
        match error {
            AppendError::Unavailable(_) | AppendError::Full(_) => Self::Down { cause: TaskPutOff::Buffer, why },
            AppendError::Refused(_) => Self::Never(Poison { code: PoisonCode::NotValid, detail: why }),
        }
    }

    pub(super) fn why(&self) -> &str {
        match self {
            Self::Later { why, .. } | Self::Down { why, .. } | Self::Alone(why) => why,
            Self::Never(poison) => &poison.detail,
        }
    }
}

impl From<Unavailable> for Not {
    fn from(error: Unavailable) -> Self {
        Self::Down { cause: TaskPutOff::Registry, why: error.to_string() }
    }
}

impl Pages {
    pub fn new(parts: Parts, options: Options) -> Self {
        let Parts { registry, confluence, queue, taker, road, archived, metrics, clock } = parts;
        Self {
            lanes: Lanes::new(options.reads_per_site_max),
            held: Held::new(taker.clone()),
            attempts: Mutex::default(),
            pause: Mutex::new(Pause { until: Instant::now(), failures: 0 }),
            permits: Arc::new(Semaphore::new(options.tasks_in_hand_max.max(1))),
            tasks: TaskTracker::new(),
            abandon: CancellationToken::new(),
            stamper: Stamper::new(clock),
            registry,
            confluence,
            queue,
            taker,
            road,
            archived,
            metrics,
            options,
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        self.stamper.clock()
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamper.stamp()
    }

    pub(super) fn age(&self, at_ms: u64) -> Duration {
        Duration::from_millis(self.clock().now_ms().saturating_sub(at_ms))
    }

    /// Puts an envelope on the road; it is durable when this is done.
    pub(super) async fn put(&self, form: WireForm) -> Result<(), Not> {
        self.road.append(form).await.map(drop).map_err(Not::buffer)
    }

    /// Works until `stop`, then finishes what is in hand within the drain deadline and gives back the rest.
    pub async fn run(self, stop: CancellationToken) {
        let (this, end) = (Arc::new(self), CancellationToken::new());
        let work = async {
            tokio::join!(this.poll(&stop), this.look_after_sites(&stop));
            this.drain().await;
            end.cancel();
        };
        // What is in hand at the stop is kept hidden until the end.
        tokio::join!(work, end.run_until_cancelled(this.held.heartbeat()));
    }

    async fn drain(&self) {
        self.tasks.close();
        if timeout(self.options.drain_deadline, self.tasks.wait()).await.is_ok() {
            return;
        }
        self.abandon.cancel();
        if timeout(GIVE_BACK_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("not all unfinished tasks were given back; they are offered again later");
        }
    }

    async fn poll(self: &Arc<Self>, stop: &CancellationToken) {
        let mut failures = 0;
        loop {
            // Permits come before the take: nothing is taken that nobody can work on.
            let ready = async {
                let permits = self.permits().await;
                self.flowing().await;
                permits
            };
            let Some(Some(permits)) = stop.run_until_cancelled(ready).await else { return };
            let Some(taken) = last::take(self.taker.take(permits.num_permits()), stop).await else { return };
            match taken {
                Ok(batch) => {
                    failures = 0;
                    self.begin(batch, permits);
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(%error, "no task of page links can be taken; it is tried again");
                    }
                    drop(permits);
                    let wait = backoff::wait(failures, WAIT_MIN, WAIT_MAX);
                    failures = failures.saturating_add(1);
                    if stop.run_until_cancelled(sleep(wait)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// At least one, at most as many as one take brings.
    async fn permits(&self) -> Option<OwnedSemaphorePermit> {
        let mut permits = self.permits.clone().acquire_owned().await.ok()?;
        while permits.num_permits() < TAKE_MAX
            && let Ok(more) = self.permits.clone().try_acquire_owned()
        {
            permits.merge(more);
        }
        Some(permits)
    }

    fn begin(self: &Arc<Self>, batch: Vec<Delivery>, mut permits: OwnedSemaphorePermit) {
        let (works, poison) = sorted(batch, self.clock().now_ms());
        for work in works {
            let (this, permits) = (self.clone(), permits.split(work.messages.len()));
            self.tasks.spawn(async move {
                this.carry(work).await;
                drop(permits);
            });
        }
        if !poison.is_empty() {
            let this = self.clone();
            self.tasks.spawn(async move {
                let messages: Vec<Delivery> = poison.iter().map(|(message, _)| message.clone()).collect();
                let hand = this.held.hold(&messages);
                this.bury(&hand, poison).await;
                drop(permits);
            });
        }
    }

    /// From taken to settled or given back.
    async fn carry(&self, work: Work) {
        let hand = self.held.hold(&work.messages);
        self.abandon.run_until_cancelled(self.work(&hand, work)).await;
        // Whatever is still in hand now was left by a stop.
        hand.give_back().await;
    }

    async fn work(&self, hand: &Hand<'_>, Work { messages, job }: Work) {
        let (done, at_ms) = match &job {
            Job::Page(job) => (self.read(job).await, job.first_ms),
            Job::Other(task) => (self.other(task).await, task.at_ms),
        };
        match done {
            Ok(done) => self.finish(hand, messages, done).await,
            Err(Not::Later { wait, cause, why }) => self.put_off(hand, &messages, wait, cause, &why).await,
            Err(Not::Down { cause, why }) => {
                self.stand_still(&why);
                self.put_off(hand, &messages, puts_off::by_age(self.age(at_ms), None), cause, &why).await;
            }
            Err(Not::Alone(why)) => self.alone(hand, messages, &job, why).await,
            Err(Not::Never(poison)) => {
                let poison = messages.into_iter().map(|message| (message, poison.clone())).collect();
                self.bury(hand, poison).await;
            }
        }
    }

    async fn finish(&self, hand: &Hand<'_>, messages: Vec<Delivery>, done: TaskDone) {
        self.pause().failures = 0;
        self.metrics.page_tasks_done(done, messages.len());
        let receipts = messages.iter().map(|message| message.receipt.clone()).collect();
        let failed = |error: &_| tracing::debug!(%error, "a task that is done could not be removed; it is tried again");
        settle::remove(&self.taker, receipts, failed).await;
        messages.iter().for_each(|message| self.settled(hand, message));
    }

    async fn put_off(&self, hand: &Hand<'_>, messages: &[Delivery], wait: Duration, cause: TaskPutOff, why: &str) {
        self.metrics.page_tasks_put_off(cause, messages.len());
        for message in messages {
            let wait = backoff::spread(wait);
            let message_id = &message.message_id.0;
            tracing::debug!(message_id, cause = cause.as_str(), why, ?wait, "a task of page links is put off");
            hand.offer_again(&message.receipt, wait).await;
        }
    }

    /// Again later, or, after enough attempts while the site answered others, to the dead letters.
    async fn alone(&self, hand: &Hand<'_>, messages: Vec<Delivery>, job: &Job, why: String) {
        let site = match job {
            Job::Page(job) => &job.site,
            Job::Other(task) => &task.site,
        };
        let answers = self.lanes.answers(site);
        let mut poison = Vec::new();
        for message in messages {
            let failures = self.attempts().failed(&message.message_id, answers);
            if failures.counted >= self.options.attempts_max {
                let detail = format!("failed {} times while its site answered others: {why}", failures.counted);
                poison.push((message, Poison { code: PoisonCode::AttemptsExhausted, detail }));
                continue;
            }
            let wait = backoff::wait(failures.all - 1, ALONE_MIN, ALONE_MAX);
            tracing::warn!(%site, why, attempts = failures.counted, ?wait, "a task of page links failed alone");
            self.put_off(hand, std::slice::from_ref(&message), wait, TaskPutOff::Alone, &why).await;
        }
        self.bury(hand, poison).await;
    }

    async fn bury(&self, hand: &Hand<'_>, poison: Vec<(Delivery, Poison)>) {
        let failed = |error: &_| tracing::warn!(%error, "a task could not be dead-lettered; it is tried again");
        let left = settle::bury(&self.taker, &poison, failed).await;
        for (i, (message, its)) in poison.iter().enumerate() {
            if left.contains(&i) {
                hand.drop_one(&message.receipt);
                continue;
            }
            self.settled(hand, message);
            self.metrics.page_task_dead(its.code.as_str());
            let message_id = &message.message_id.0;
            tracing::warn!(message_id, reason = %its.code, detail = %its.detail, "a task of page links is dead-lettered");
        }
    }

    fn settled(&self, hand: &Hand<'_>, message: &Delivery) {
        hand.drop_one(&message.receipt);
        self.attempts().forget(&message.message_id);
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().expect("no code panics while it holds this lock")
    }

    fn pause(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().expect("no code panics while it holds this lock")
    }

    /// Takes nothing for a while. Of those that are in hand together the first failure alone counts.
    fn stand_still(&self, why: &str) {
        let mut pause = self.pause();
        if pause.until > Instant::now() {
            return;
        }
        pause.until = Instant::now() + backoff::wait(pause.failures, WAIT_MIN, WAIT_MAX);
        pause.failures = pause.failures.saturating_add(1);
        self.metrics.pages_paused();
        tracing::warn!(why, "paused: the pages worker waits; nothing is lost");
    }

    async fn flowing(&self) {
        loop {
            let until = self.pause().until;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}
