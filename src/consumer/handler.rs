//! The consumer where the queue itself hands batches over, and removes what is not returned to it (AWS Lambda).
//!
//! It answers with the messages that must come again, one by one: those that are neither stored nor among the dead
//! letters. It never fails as a whole, so that what is done is never done again for the sake of what is not.
//!
//! It keeps no count of attempts: whoever hands over keeps no process alive for that, and the queue's own count of
//! receives also counts outages. So a message that only fails alone comes again until the queue gives it up.

use std::ops::Range;
use std::time::Duration;

use tokio::time::timeout;

use super::apply::{Verdict, apply};
use super::report;
use super::rulings::{RuleSource, Rulings};
use crate::buffer::{Burier, Delivery, MessageId};
use crate::envelope::{Clock, Poison};
use crate::store::Writer;

/// Messages that go to the store together. A huge batch is written in parts: what is stored when the time is over need
/// not come again.
const PART_MESSAGES_MAX: usize = 100;
/// A batch may take one part in so many of the time that its caller has: the rest is for the answer, on a machine that
/// may be slow.
const SHARE_OF_TIME: u32 = 2;
/// A batch takes no longer than this, however much time there is: a store that answers nothing must not cost minutes.
const BATCH_TIME_MAX: Duration = Duration::from_secs(30);
/// The first connection may take this long before there is anything to do. A start is given 10 seconds.
const WARM_UP_TIME_MAX: Duration = Duration::from_secs(3);

/// Stores batches. Made once; each batch is handed to [`Handler::handle`].
pub struct Handler {
    writer: Writer,
    rules: RuleSource,
    burier: Burier,
    clock: Clock,
}

/// The store takes nothing now.
struct Outage(String);

/// A batch, and which of its messages need not come again.
struct Batch<'a> {
    messages: &'a [Delivery],
    settled: Vec<bool>,
}

impl Batch<'_> {
    fn parts(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let count = self.messages.len();
        (0..count).step_by(PART_MESSAGES_MAX).map(move |from| from..count.min(from + PART_MESSAGES_MAX))
    }
}

impl Handler {
    pub fn new(writer: Writer, rules: RuleSource, burier: Burier, clock: Clock) -> Self {
        Self { writer, rules, burier, clock }
    }

    /// Connects and loads the TTL rules before there is a batch. A store that is away is told, and heals by itself.
    pub async fn warm_up(&self) {
        let error = match timeout(WARM_UP_TIME_MAX, self.rules.rulings()).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store does not answer".to_owned(),
        };
        tracing::error!(error, "started without the store; until it is back, all messages are returned to the queue");
    }

    /// Stores a batch within a share of `time`, which is what its caller has left. Returns who must come again.
    pub async fn handle(&self, messages: &[Delivery], time: Duration) -> Vec<MessageId> {
        let mut batch = Batch { messages, settled: vec![false; messages.len()] };
        let time = (time / SHARE_OF_TIME).min(BATCH_TIME_MAX);
        let worked = timeout(time, self.work(&mut batch)).await;
        let unsettled = messages.iter().zip(&batch.settled).filter(|(_, settled)| !**settled);
        let left: Vec<MessageId> = unsettled.map(|(message, _)| message.message_id.clone()).collect();
        let error = match worked {
            // Whatever is left then has a line of its own.
            Ok(Ok(())) => return left,
            Ok(Err(Outage(error))) => error,
            Err(_) => format!("not done within {} ms", time.as_millis()),
        };
        let (returned, of) = (left.len(), messages.len());
        tracing::warn!(returned, of, error, "returned to the queue, which offers them again; nothing is lost");
        left
    }

    async fn work(&self, batch: &mut Batch<'_>) -> Result<(), Outage> {
        for part in batch.parts() {
            let rulings = self.rules.rulings().await.map_err(|error| Outage(error.to_string()))?;
            if let Err(outage) = self.step(batch, part.clone(), &rulings).await {
                self.one_by_one(batch, part, &rulings, outage).await?;
            }
        }
        Ok(())
    }

    /// The store failed. It was a connection that had broken while nobody looked, or a single message, which must not
    /// take the others with it for ever: then it answers now, and takes some.
    async fn one_by_one(
        &self,
        batch: &mut Batch<'_>,
        part: Range<usize>,
        rulings: &Rulings,
        Outage(error): Outage,
    ) -> Result<(), Outage> {
        let left: Vec<usize> = part.filter(|&i| !batch.settled[i]).collect();
        let mut took_some = false;
        for i in left {
            self.writer.check().await.map_err(|_| Outage(error.clone()))?;
            match self.step(batch, i..i + 1, rulings).await {
                Ok(()) => took_some = true,
                Err(Outage(error)) => report::put_off(&batch.messages[i], &error),
            }
        }
        if took_some { Ok(()) } else { Err(Outage(error)) }
    }

    /// Applies once, and settles what can be. The error is that of messages whose outcome is not known.
    async fn step(&self, batch: &mut Batch<'_>, part: Range<usize>, rulings: &Rulings) -> Result<(), Outage> {
        let messages = &batch.messages[part.clone()];
        let verdicts = apply(messages, &self.writer, rulings, self.clock.now_ms()).await;
        let (mut poison, mut outage) = (Vec::new(), None);
        for ((i, message), verdict) in part.zip(messages).zip(verdicts) {
            match verdict {
                Verdict::Done(done) => {
                    report::stored(message, &done);
                    batch.settled[i] = true;
                }
                Verdict::Poison(its) => poison.push((i, its)),
                Verdict::Retry(retry) if retry.alone => report::put_off(message, &retry.error),
                Verdict::Retry(retry) => outage = Some(Outage(retry.error)),
            }
        }
        self.bury(batch, poison).await;
        outage.map_or(Ok(()), Err)
    }

    async fn bury(&self, batch: &mut Batch<'_>, poison: Vec<(usize, Poison)>) {
        if poison.is_empty() {
            return;
        }
        let letters: Vec<_> = poison.iter().map(|(i, its)| (batch.messages[*i].clone(), its.clone())).collect();
        let results = self.burier.bury(&letters).await;
        for ((i, its), result) in poison.iter().zip(results) {
            let message = &batch.messages[*i];
            match result {
                Ok(()) => {
                    report::dead_lettered(message, its);
                    batch.settled[*i] = true;
                }
                Err(error) => report::not_dead_lettered(message, its, &error),
            }
        }
    }
}

#[cfg(all(test, feature = "embedded", feature = "sqs"))]
mod tests;
