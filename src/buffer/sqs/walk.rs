//! Walks over the dead-letter queue.
//!
//! SQS has no order and no cursor: to look at a letter is to receive it, which hides it. So a walk hides what it looks
//! at, does what was ruled, and gives the rest back at its end. It needs `sqs:ReceiveMessage`, `sqs:DeleteMessage` and
//! `sqs:ChangeMessageVisibility` on the dead-letter queue, and `sqs:SendMessage` on the queue.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_sqs::operation::receive_message::builders::ReceiveMessageFluentBuilder;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::entry::{Attributes, DETAIL, ENTRIES_MAX, MESSAGE_ID, REASON, TRACEPARENT};
use super::fault::Fault;
use super::outgoing::{self, Outgoing};
use super::taker::{Taker, delete, hide};
use crate::buffer::dead::reason_of;
use crate::buffer::{DeadLetter, MessageId, Ruling, TAKE_MAX, Unavailable, Walk, Walked};
use crate::envelope::limits::WIRE_BYTES_MAX;
use crate::envelope::wire::TooLarge;
use crate::envelope::{Account, PoisonCode};

/// How long a walk hides a letter. It gives it back sooner, at its end; if that fails, this is how long others don't
/// see it.
const WALK_VISIBILITY: Duration = Duration::from_secs(30);
/// A walk ends before the first letter that it saw is offered again.
const WALK_TIME_MAX: Duration = Duration::from_secs(20);
/// A walk waits this long for an answer: with no wait at all, SQS asks only some of its servers.
const WAIT_SECONDS: i32 = 1;
/// Receives at once: 10,000 letters at 30 ms a call take 8 seconds, where one after the other would take 30.
const RECEIVES_MAX: usize = 4;
/// Calls at once that give letters back.
const GIVE_BACKS_MAX: usize = 8;
const MOVED_BY_QUEUE: &str = "the queue itself moved it, after too many receives";

/// The half that looks after dead letters.
#[derive(Clone)]
pub struct DeadLetters(Taker);

/// A letter that is hidden by this walk.
struct Held {
    letter: DeadLetter,
    handle: String,
}

/// Letters that were ruled to go.
#[derive(Default)]
struct Ruled {
    redriven: Vec<(Held, Option<Account>)>,
    dropped: Vec<Held>,
}

impl DeadLetters {
    pub fn of(taker: &Taker) -> Self {
        Self(taker.clone())
    }

    pub async fn count(&self) -> Result<u64, Unavailable> {
        let counts = self.0.counts(self.0.options.keys.dead_letter_url, &self.0.options.dead_letter_url).await?;
        Ok(counts.iter().sum())
    }

    pub async fn walk(
        &self,
        walk: &Walk,
        mut rule: impl FnMut(&DeadLetter) -> Ruling + Send,
    ) -> Result<Walked, Unavailable> {
        let (mut walked, mut kept) = (Walked::default(), Vec::new());
        let done = self.look(walk.letters_max, &mut rule, &mut walked, &mut kept).await;
        self.give_back(&kept).await;
        match done {
            Err(error) if walked.seen == 0 => return Err(error),
            Err(error) => tracing::warn!(%error, "a walk over the dead letters ends early"),
            Ok(()) => {}
        }
        Ok(walked)
    }

    /// Receives until there are enough, none come any more, or [`WALK_TIME_MAX`] is over. `kept` tells what is hidden
    /// and not gone by then.
    async fn look(
        &self,
        letters_max: usize,
        rule: &mut (impl FnMut(&DeadLetter) -> Ruling + Send),
        walked: &mut Walked,
        kept: &mut Vec<String>,
    ) -> Result<(), Unavailable> {
        let (start, mut met) = (Instant::now(), HashSet::new());
        while start.elapsed() < WALK_TIME_MAX {
            let room = letters_max - walked.seen;
            // Where there is no more room, one letter more tells that the walk is not complete.
            let messages = self.receive(room.max(1)).await?;
            walked.complete = messages.is_empty();
            if walked.complete || room == 0 {
                kept.extend(messages.into_iter().filter_map(|message| message.receipt_handle));
                return Ok(());
            }
            let (mut ruled, mut stopped) = (Ruled::default(), false);
            for mut message in messages {
                let Some(handle) = message.receipt_handle.take() else { continue };
                let held = Held { letter: dead_letter(message), handle };
                // SQS may deliver a letter twice.
                if stopped || !met.insert(held.letter.message_id.clone()) {
                    kept.push(held.handle);
                    continue;
                }
                let ruling = rule(&held.letter);
                stopped = ruling == Ruling::Stop;
                walked.seen += usize::from(!stopped);
                match ruling {
                    Ruling::Leave | Ruling::Stop => kept.push(held.handle),
                    Ruling::Redrive(account) => ruled.redriven.push((held, account)),
                    Ruling::Drop => ruled.dropped.push(held),
                }
            }
            self.settle(ruled, walked, kept).await;
            if stopped {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn settle(&self, ruled: Ruled, walked: &mut Walked, kept: &mut Vec<String>) {
        let sent = self.send(&ruled.redriven).await;
        let mut going = ruled.dropped;
        for ((held, _), sent) in ruled.redriven.into_iter().zip(sent) {
            match sent {
                Ok(()) => going.push(held),
                Err(error) => {
                    kept.push(held.handle);
                    walked.results.push((held.letter.message_id, Err(error)));
                }
            }
        }
        let handles: Vec<_> = going.iter().map(|held| held.handle.as_str()).collect();
        let gone = delete(&self.0.clients.calls, self.queue(), &handles).await;
        for (held, gone) in going.into_iter().zip(gone) {
            if gone.is_err() {
                kept.push(held.handle);
            }
            walked.results.push((held.letter.message_id, gone));
        }
    }

    /// The same bodies, to the queue that they came from. One result each.
    async fn send(&self, letters: &[(Held, Option<Account>)]) -> Vec<Result<(), Unavailable>> {
        let queue = (self.0.options.keys.queue_url, self.0.options.queue_url.as_str());
        let mut results = Vec::with_capacity(letters.len());
        for batch in outgoing::batches(letters.iter().map(redriven).collect()) {
            results.extend(outgoing::send(&self.0.clients.calls, queue, batch).await);
        }
        results
    }

    fn queue(&self) -> (&'static str, &str) {
        (self.0.options.keys.dead_letter_url, &self.0.options.dead_letter_url)
    }

    async fn give_back(&self, handles: &[String]) {
        let handles: Vec<&str> = handles.iter().map(String::as_str).collect();
        let chunks: Vec<&[&str]> = handles.chunks(ENTRIES_MAX).collect();
        for chunks in chunks.chunks(GIVE_BACKS_MAX) {
            let calls = chunks.iter().map(|chunk| hide(&self.0.clients.calls, self.queue(), chunk, Duration::ZERO));
            // Where this fails, they are hidden for no longer than WALK_VISIBILITY.
            join_all(calls).await;
        }
    }

    /// Receives up to `max`, by up to [`RECEIVES_MAX`] calls at once. Fails where none was answered.
    async fn receive(&self, max: usize) -> Result<Vec<Message>, Unavailable> {
        let shares = (0..RECEIVES_MAX).map(|call| max.saturating_sub(call * TAKE_MAX).min(TAKE_MAX));
        let calls = shares.filter(|share| *share > 0).map(|share| self.receive_once(share));
        let (mut messages, mut fault, mut answered) = (Vec::new(), None, false);
        for answer in join_all(calls).await {
            match answer {
                Ok(received) => {
                    answered = true;
                    messages.extend(received);
                }
                Err(error) => fault = Some(error),
            }
        }
        match fault {
            // None of what was received may be forgotten: it is hidden. And an error is not the end of the queue.
            Some(error) if !answered || messages.is_empty() => Err(error),
            _ => Ok(messages),
        }
    }

    async fn receive_once(&self, max: usize) -> Result<Vec<Message>, Unavailable> {
        let call = timed(self.0.clients.receive.receive_message())
            .queue_url(&self.0.options.dead_letter_url)
            .max_number_of_messages(max as i32)
            .wait_time_seconds(WAIT_SECONDS)
            .visibility_timeout(WALK_VISIBILITY.as_secs() as i32)
            .message_attribute_names(REASON)
            .message_attribute_names(DETAIL)
            .message_attribute_names(MESSAGE_ID)
            .message_attribute_names(TRACEPARENT);
        let received = call.send().await.map_err(|e| Fault::of(&e).unavailable(self.0.options.keys.dead_letter_url))?;
        Ok(received.messages.unwrap_or_default())
    }
}

/// Asks for the time of sending under both names of that list: older emulators know only the deprecated one.
#[expect(deprecated)]
fn timed(call: ReceiveMessageFluentBuilder) -> ReceiveMessageFluentBuilder {
    let sent = MessageSystemAttributeName::SentTimestamp;
    let deprecated = QueueAttributeName::from(sent.as_str());
    call.attribute_names(deprecated).message_system_attribute_names(sent)
}

/// A letter as it will lie in the queue again.
fn redriven((held, account): &(Held, Option<Account>)) -> Outgoing<'_> {
    // SQS bodies are text; what is none could not have been received from it.
    let body = std::str::from_utf8(&held.letter.body).unwrap_or_default();
    let attributes = Attributes::default().with_traceparent(held.letter.traceparent.as_deref());
    Outgoing::with(body, attributes, account.clone()).unwrap_or_else(|| Outgoing::bare(body))
}

fn dead_letter(message: Message) -> DeadLetter {
    let attribute = |name: &str| message.message_attributes.as_ref()?.get(name)?.string_value.clone();
    let body_bytes = message.body.as_ref().map_or(0, String::len);
    let (reason, detail) = match attribute(REASON) {
        // No room was left for attributes; a wire form leaves it always.
        None if body_bytes > WIRE_BYTES_MAX => {
            (PoisonCode::NotDecodable, TooLarge { size_bytes: body_bytes }.to_string())
        }
        None => (PoisonCode::ReceiveCountExceeded, MOVED_BY_QUEUE.to_owned()),
        Some(reason) => reason_of(&reason, attribute(DETAIL).unwrap_or_default()),
    };
    let (former_id, traceparent) = (attribute(MESSAGE_ID).map(MessageId), attribute(TRACEPARENT));
    let sent = message.attributes.as_ref().and_then(|all| all.get(&MessageSystemAttributeName::SentTimestamp));
    DeadLetter {
        since_ms: sent.and_then(|sent| sent.parse().ok()),
        message_id: MessageId(message.message_id.unwrap_or_default()),
        former_id,
        body: Bytes::from(message.body.unwrap_or_default()),
        reason,
        detail,
        traceparent,
    }
}
