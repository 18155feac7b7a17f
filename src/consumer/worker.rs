//! The loop around [`apply`]: take, apply, settle, pause, drain.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff;
use crate::buffer::work::{Attempts, Hand, Held, last, settle};
use crate::buffer::{Delivery, TAKE_MAX, Taker};
use crate::envelope::{Clock, Poison, PoisonCode};
use crate::store::{Outcome, Writer};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::StoreCall;

use super::apply::{Done, Retry, Verdict, apply};
use super::breaker::Breaker;
use super::rulings::RuleSource;
use super::{Options, report};

/// Waits between tries of a message that failed alone. Long enough at the end that it costs nothing to keep trying.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(5 * 60);
/// Waits between takes that the buffer refused.
const TAKE_WAIT_MIN: Duration = Duration::from_millis(200);
const TAKE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Giving back what is unfinished at a stop may take this long, beyond the deadline. What is not given back is offered
/// again when its visibility ends.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(3);

/// The worker. Made, then run once.
pub struct Consumer {
    taker: Taker,
    writer: Writer,
    rules: RuleSource,
    metrics: Metrics,
    options: Options,
    clock: Clock,
    breaker: Breaker,
    held: Held,
    attempts: Mutex<Attempts>,
    /// Messages that the store has taken.
    written: AtomicU64,
    /// Batches in hand.
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
    /// The drain deadline is over: leave everything as it is.
    abandon: CancellationToken,
}

impl Consumer {
    pub fn new(
        taker: Taker,
        writer: Writer,
        rules: RuleSource,
        metrics: Metrics,
        options: Options,
        clock: Clock,
    ) -> Self {
        metrics.begin_outcomes_at_zero(Outcome::ALL.map(Outcome::as_str));
        Self {
            breaker: Breaker::new(metrics.clone()),
            held: Held::new(taker.clone()),
            attempts: Mutex::default(),
            written: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            permits: Arc::new(Semaphore::new(options.batches_in_flight_max)),
            abandon: CancellationToken::new(),
            taker,
            writer,
            rules,
            metrics,
            options,
            clock,
        }
    }

    /// Tells whether, and why, it pauses.
    pub fn breaker(&self) -> Breaker {
        self.breaker.clone()
    }

    /// Works until `stop`, then finishes what is in hand within the drain deadline and gives back the rest. Ends so, too,
    /// when a task of its own has ended that should not: half a consumer would pause for ever, or take things twice.
    pub async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let stop = stop.child_token();
        // Heartbeat and probe outlast the stop: what is in hand still needs them.
        let end = CancellationToken::new();
        let helpers = TaskTracker::new();
        let heart = (this.clone(), end.clone());
        spawn_vital(&helpers, &stop, async move {
            heart.1.run_until_cancelled(heart.0.held.heartbeat()).await;
        });
        let probe = (this.clone(), end.clone());
        spawn_vital(&helpers, &stop, async move {
            let Options { pause_min, pause_max, .. } = probe.0.options;
            probe.0.breaker.probe(&probe.0.writer, pause_min, pause_max, &probe.1).await;
        });
        let pollers = TaskTracker::new();
        for _ in 0..this.options.pollers {
            let poller = (this.clone(), stop.clone());
            spawn_vital(&pollers, &stop, async move { poller.0.poll(&poller.1).await });
        }
        pollers.close();
        pollers.wait().await;
        this.drain().await;
        end.cancel();
        helpers.close();
        helpers.wait().await;
    }

    async fn drain(&self) {
        self.tasks.close();
        if timeout(self.options.drain_deadline, self.tasks.wait()).await.is_ok() {
            return;
        }
        self.abandon.cancel();
        if timeout(GIVE_BACK_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("not all unfinished messages were given back; they are offered again later");
        }
    }

    async fn poll(self: Arc<Self>, stop: &CancellationToken) {
        let mut failures = 0;
        loop {
            // A permit comes before the take: nothing is taken that nobody can work on. The pause is asked for last, as
            // it may begin while this waits for a permit.
            let ready = async {
                let permit = self.permits.clone().acquire_owned().await;
                self.breaker.flowing().await;
                permit
            };
            let Some(Ok(permit)) = stop.run_until_cancelled(ready).await else { return };
            let Some(taken) = last::take(self.taker.take(TAKE_MAX), stop).await else { return };
            match taken {
                Ok(batch) => {
                    if failures > 0 {
                        tracing::info!(failures, "the buffer is back");
                    }
                    failures = 0;
                    if !batch.is_empty() {
                        self.metrics.batch();
                        let (this, stop) = (self.clone(), stop.clone());
                        self.tasks.spawn(async move {
                            this.carry(batch, &stop).await;
                            drop(permit);
                        });
                    }
                }
                Err(error) => {
                    self.metrics.take_failed();
                    if failures == 0 {
                        tracing::warn!(%error, "nothing can be taken; it is tried again");
                    }
                    drop(permit);
                    let wait = backoff::wait(failures, TAKE_WAIT_MIN, TAKE_WAIT_MAX);
                    failures = failures.saturating_add(1);
                    if stop.run_until_cancelled(sleep(wait)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// One batch, from taken to settled or given back.
    async fn carry(&self, batch: Vec<Delivery>, stop: &CancellationToken) {
        let hand = self.held.hold(&batch);
        self.abandon.run_until_cancelled(self.work(&hand, batch, stop)).await;
        // Whatever is still in hand now was left by a stop.
        hand.give_back().await;
    }

    /// Tries the batch until each message is settled. Ends early at a stop while the store is down.
    async fn work(&self, hand: &Hand<'_>, mut pending: Vec<Delivery>, stop: &CancellationToken) {
        // What has seen an outage goes on one by one: where a single message makes the store fail, it must not take the
        // others of its batch with it for ever.
        let mut singly = false;
        while !pending.is_empty() {
            if self.breaker.pause_reason().is_some() && stop.run_until_cancelled(self.breaker.flowing()).await.is_none()
            {
                return;
            }
            let rest = pending.split_off(if singly { 1 } else { pending.len() });
            let mut left = self.step(hand, std::mem::replace(&mut pending, rest), singly).await;
            if !left.is_empty() {
                singly = true;
                left.append(&mut pending);
                pending = left;
            }
        }
    }

    /// Applies once, and settles what can be. Returns what an outage left; the pause has begun then.
    async fn step(&self, hand: &Hand<'_>, batch: Vec<Delivery>, singly: bool) -> Vec<Delivery> {
        let rulings = match self.rules.rulings().await {
            Ok(rulings) => rulings,
            Err(error) => {
                self.breaker.pause(&error.to_string());
                return batch;
            }
        };
        self.metrics.tried(batch.len());
        let began = Instant::now();
        let verdicts = apply(&batch, &self.writer, &rulings, self.clock.now_ms()).await;
        self.metrics.store_call(StoreCall::Write, began.elapsed());

        let (mut done, mut poison, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for (message, verdict) in batch.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Done(its) => {
                    self.note_done(&message, &its);
                    done.push(message);
                }
                Verdict::Poison(its) => poison.push((message, its)),
                Verdict::Retry(its) => {
                    self.metrics.store_error(StoreCall::Write);
                    // The store is asked again before a message is blamed.
                    if (its.alone || singly) && self.writer.check().await.is_ok() {
                        poison.extend(self.put_off(hand, message, its).await);
                    } else {
                        self.metrics.retry_store();
                        self.breaker.pause(&its.error);
                        left.push(message);
                    }
                }
            }
        }
        self.remove(hand, done).await;
        self.bury(hand, poison).await;
        left
    }

    fn note_done(&self, message: &Delivery, done: &Done) {
        self.written.fetch_add(1, Ordering::Relaxed);
        self.breaker.wrote();
        if done.changed() > 0 {
            let time_ms = self.clock.now_ms().saturating_sub(done.at_ms);
            self.metrics.readable_after(Duration::from_millis(time_ms));
        }
        done.outcomes.iter().for_each(|outcome| self.metrics.outcome(outcome.as_str()));
        report::stored(message, done);
    }

    /// Offers a message again later, or, after enough attempts, returns it for the dead letters.
    async fn put_off(&self, hand: &Hand<'_>, message: Delivery, retry: Retry) -> Option<(Delivery, Poison)> {
        self.metrics.retry_alone();
        let failures = self.attempts().failed(&message.message_id, self.written.load(Ordering::Relaxed));
        if failures.counted >= self.options.attempts_max {
            let detail = format!("failed {} times while the store was healthy: {}", failures.counted, retry.error);
            return Some((message, Poison { code: PoisonCode::AttemptsExhausted, detail }));
        }
        let wait = backoff::wait(failures.all - 1, RETRY_MIN, RETRY_MAX);
        let wait_ms = wait.as_millis() as u64;
        tracing::warn!(id = %retry.id, error = %retry.error, attempts = failures.counted, wait_ms, "put off");
        hand.offer_again(&message.receipt, wait).await;
        None
    }

    async fn remove(&self, hand: &Hand<'_>, done: Vec<Delivery>) {
        let receipts = done.iter().map(|message| message.receipt.clone()).collect();
        let left = settle::remove(&self.taker, receipts, |_| self.metrics.delete_failed()).await;
        if left > 0 {
            tracing::warn!(messages = left, "stored, but not yet removed from the buffer; done when offered again");
        }
        done.iter().for_each(|message| self.settled(hand, message));
    }

    async fn bury(&self, hand: &Hand<'_>, poison: Vec<(Delivery, Poison)>) {
        let failed = |error: &_| tracing::warn!(%error, "a message could not be dead-lettered; it is tried again");
        let left = settle::bury(&self.taker, &poison, failed).await;
        for (i, (message, its)) in poison.iter().enumerate() {
            if left.contains(&i) {
                hand.drop_one(&message.receipt);
            } else {
                self.settled(hand, message);
                self.metrics.dead_letter(its.code.as_str());
                report::dead_lettered(message, its);
            }
        }
    }

    fn settled(&self, hand: &Hand<'_>, message: &Delivery) {
        hand.drop_one(&message.receipt);
        self.attempts().forget(&message.message_id);
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().expect("no code panics while it holds this lock")
    }
}

/// Spawns what must not end alone: its end, by a panic too, is a stop.
fn spawn_vital(tasks: &TaskTracker, stop: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    let guard = stop.clone().drop_guard();
    tasks.spawn(async move {
        work.await;
        drop(guard);
    });
}
