//! Taking messages out, and what may become of them. Every call reads what SQS says of each single message.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::receive_message::builders::ReceiveMessageFluentBuilder;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageSystemAttributeName, QueueAttributeName,
};
use bytes::Bytes;

use super::Options;
use super::connect::Clients;
use super::entry::{ENTRIES_MAX, TRACEPARENT};
use super::fault::{EntryFault, Fault};
use crate::buffer::{Delivery, Depth, HIDE_MAX, MessageId, Receipt, TAKE_MAX, Unavailable};

/// Longest long poll that SQS offers.
const WAIT_SECONDS_MAX: u64 = 20;

/// The half that takes out.
#[derive(Clone)]
pub struct Taker {
    pub(super) clients: Clients,
    pub(super) options: Options,
}

impl Taker {
    pub(super) fn new(clients: &Clients, options: Options) -> Self {
        Self { clients: clients.clone(), options }
    }

    pub async fn take(&self, max: usize) -> Result<Vec<Delivery>, Unavailable> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let call = receive_counted(&self.clients.receive)
            .queue_url(&self.options.queue_url)
            .max_number_of_messages(max.min(TAKE_MAX) as i32)
            .wait_time_seconds(self.options.wait.as_secs().min(WAIT_SECONDS_MAX) as i32)
            .visibility_timeout(hide_seconds(self.options.visibility))
            .message_attribute_names(TRACEPARENT);
        let taken = call.send().await.map_err(|e| Fault::of(&e).unavailable(self.options.keys.queue_url))?;
        Ok(taken.messages.unwrap_or_default().into_iter().filter_map(delivery).collect())
    }

    pub async fn delete(&self, receipts: &[Receipt]) -> Vec<Result<(), Unavailable>> {
        let handles: Vec<_> = receipts.iter().map(|Receipt(handle)| handle.as_str()).collect();
        delete(&self.clients.calls, (self.options.keys.queue_url, &self.options.queue_url), &handles).await
    }

    pub async fn hide(&self, receipts: &[Receipt], time: Duration) -> Vec<Result<(), Unavailable>> {
        let handles: Vec<_> = receipts.iter().map(|Receipt(handle)| handle.as_str()).collect();
        hide(&self.clients.calls, (self.options.keys.queue_url, &self.options.queue_url), &handles, time).await
    }

    pub fn visibility(&self) -> Duration {
        self.options.visibility
    }

    pub async fn depth(&self) -> Result<Depth, Unavailable> {
        let (queue, dead) = tokio::join!(
            self.counts(self.options.keys.queue_url, &self.options.queue_url),
            self.counts(self.options.keys.dead_letter_url, &self.options.dead_letter_url)
        );
        let (queue, dead) = (queue?, dead?);
        let [visible, in_flight, delayed] = queue;
        Ok(Depth { visible, in_flight: in_flight + delayed, dead: dead.iter().sum(), oldest_age: None })
    }

    /// Visible, in flight, delayed.
    pub(super) async fn counts(&self, key: &str, url: &str) -> Result<[u64; 3], Unavailable> {
        const COUNTS: [QueueAttributeName; 3] = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let call = self.clients.calls.get_queue_attributes().queue_url(url);
        let call = call.set_attribute_names(Some(COUNTS.to_vec()));
        let found = call.send().await.map_err(|e| Fault::of(&e).unavailable(key))?;
        let count = |name: QueueAttributeName| found.attributes()?.get(&name)?.parse().ok();
        Ok(COUNTS.map(|name| count(name).unwrap_or(0)))
    }
}

/// Asks for the receive count under both names of that list: older emulators know only the deprecated one.
#[expect(deprecated)]
fn receive_counted(client: &Client) -> ReceiveMessageFluentBuilder {
    let count = MessageSystemAttributeName::ApproximateReceiveCount;
    let deprecated = QueueAttributeName::from(count.as_str());
    client.receive_message().attribute_names(deprecated).message_system_attribute_names(count)
}

/// Removes messages of one queue.
pub(super) async fn delete(
    client: &Client,
    (key, url): (&str, &str),
    handles: &[&str],
) -> Vec<Result<(), Unavailable>> {
    let mut results = Vec::with_capacity(handles.len());
    for chunk in handles.chunks(ENTRIES_MAX) {
        let entry = |(index, handle): (usize, &&str)| {
            DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(*handle).build().ok()
        };
        let entries = chunk.iter().enumerate().filter_map(entry).collect();
        let call = client.delete_message_batch().queue_url(url).set_entries(Some(entries));
        results.extend(match call.send().await {
            Ok(done) => each(chunk.len(), done.successful().iter().map(|entry| entry.id()), done.failed()),
            Err(error) => all(chunk.len(), Fault::of(&error), key),
        });
    }
    results
}

/// Hides messages of one queue for `time`.
pub(super) async fn hide(
    client: &Client,
    (key, url): (&str, &str),
    handles: &[&str],
    time: Duration,
) -> Vec<Result<(), Unavailable>> {
    let mut results = Vec::with_capacity(handles.len());
    for chunk in handles.chunks(ENTRIES_MAX) {
        let entry = |(index, handle): (usize, &&str)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string());
            entry.receipt_handle(*handle).visibility_timeout(hide_seconds(time)).build().ok()
        };
        let entries = chunk.iter().enumerate().filter_map(entry).collect();
        let call = client.change_message_visibility_batch().queue_url(url).set_entries(Some(entries));
        results.extend(match call.send().await {
            Ok(done) => each(chunk.len(), done.successful().iter().map(|entry| entry.id()), done.failed()),
            Err(error) => all(chunk.len(), Fault::of(&error), key),
        });
    }
    results
}

/// What became of each of `count` entries, whose ids are their indices, of a delete or a hide. An entry that SQS calls
/// our fault has a stale receipt: the message is gone, or belongs to whoever took it next. Repeating changes nothing.
fn each<'a>(
    count: usize,
    successful: impl Iterator<Item = &'a str>,
    failed: &[BatchResultErrorEntry],
) -> Vec<Result<(), Unavailable>> {
    let mut results: HashMap<&str, Result<(), Unavailable>> = successful.map(|id| (id, Ok(()))).collect();
    for entry in failed {
        results.insert(
            entry.id(),
            match EntryFault::of(entry) {
                EntryFault::Refused(_) => Ok(()),
                EntryFault::Unavailable(code) => Err(Unavailable(format!("SQS answers {code}"))),
            },
        );
    }
    let silent = || Err(Unavailable("SQS did not say what became of the message".to_owned()));
    (0..count).map(|index| results.remove(index.to_string().as_str()).unwrap_or_else(silent)).collect()
}

/// The call failed as a whole.
pub(super) fn all(count: usize, fault: Fault, key: &str) -> Vec<Result<(), Unavailable>> {
    vec![Err(fault.unavailable(key)); count]
}

/// Whole seconds, rounded up, so that a message is never offered earlier than asked for.
fn hide_seconds(time: Duration) -> i32 {
    let time = time.min(HIDE_MAX);
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)) as i32
}

/// `None` where SQS names no receipt: nothing could ever be done with such a message, so it is left where it is.
fn delivery(message: Message) -> Option<Delivery> {
    let receipt = Receipt(message.receipt_handle?);
    let count =
        message.attributes.as_ref().and_then(|all| all.get(&MessageSystemAttributeName::ApproximateReceiveCount));
    let receive_count = count.and_then(|count| count.parse().ok()).unwrap_or(1);
    let traceparent = message.message_attributes.as_ref().and_then(|all| all.get(TRACEPARENT)?.string_value.clone());
    let message_id = MessageId(message.message_id.unwrap_or_default());
    let body = Bytes::from(message.body.unwrap_or_default());
    Some(Delivery { message_id, receipt, body, receive_count, traceparent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hiding_lasts_whole_seconds_rounded_up_and_at_most_12_hours() {
        let seconds = |time: Duration| hide_seconds(time);
        assert_eq!(seconds(Duration::ZERO), 0);
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_secs(30)), 30);
        assert_eq!(seconds(Duration::MAX), 43_200);
    }

    #[test]
    fn an_entry_of_which_nothing_is_said_is_not_taken_for_done() {
        let failed =
            BatchResultErrorEntry::builder().id("1").code("InternalError").sender_fault(false).build().unwrap();
        let stale =
            BatchResultErrorEntry::builder().id("2").code("ReceiptHandleIsInvalid").sender_fault(true).build().unwrap();
        let results = each(4, ["0"].into_iter(), &[failed, stale]);
        assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, false]);
    }
}
