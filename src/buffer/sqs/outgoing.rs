//! Messages that go from one of our queues to the other: batches, sent with one result per message.

use std::collections::{HashMap, HashSet};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;

use super::entry::{Attributes, BATCH_BYTES_MAX, ENTRIES_MAX};
use super::fault::{EntryFault, Fault};
use super::taker::all;
use crate::buffer::Unavailable;
use crate::envelope::Account;

/// A message as it will lie in the queue that it goes to.
pub(super) struct Outgoing<'a> {
    body: &'a str,
    attributes: Attributes,
    group: Option<Account>,
    size_bytes: usize,
}

impl<'a> Outgoing<'a> {
    /// `None` where SQS would not carry both body and attributes.
    pub fn with(body: &'a str, attributes: Attributes, group: Option<Account>) -> Option<Self> {
        let group_bytes = group.as_ref().map_or(0, |group| group.as_str().len());
        let size_bytes = body.len() + attributes.size_bytes() + group_bytes;
        (size_bytes <= BATCH_BYTES_MAX).then_some(Self { body, attributes, group, size_bytes })
    }

    /// The body and nothing else.
    pub fn bare(body: &'a str) -> Self {
        Self { body, attributes: Attributes::default(), group: None, size_bytes: body.len() }
    }

    fn entry(self, index: usize) -> Option<SendMessageBatchRequestEntry> {
        let mut entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(self.body);
        entry = entry.set_message_group_id(self.group.map(|group| group.to_string()));
        for (name, value) in self.attributes.into_values() {
            entry = entry.message_attributes(name, value);
        }
        entry.build().ok()
    }
}

/// Cuts messages, in their order, to what one call carries. Apart from the calls: an iterator over function items that
/// lived across an await would hide from the compiler that the future may go to another thread.
pub(super) fn batches(messages: Vec<Outgoing<'_>>) -> Vec<Vec<Outgoing<'_>>> {
    let mut batches = Vec::new();
    let mut messages = messages.into_iter().peekable();
    while let Some(first) = messages.next() {
        let (mut size_bytes, mut batch) = (first.size_bytes, vec![first]);
        while let Some(message) = messages.next_if(|next| fits(batch.len(), size_bytes + next.size_bytes)) {
            size_bytes += message.size_bytes;
            batch.push(message);
        }
        batches.push(batch);
    }
    batches
}

fn fits(others: usize, size_bytes: usize) -> bool {
    others < ENTRIES_MAX && size_bytes <= BATCH_BYTES_MAX
}

/// Sends one of [`batches`].
pub(super) async fn send(
    client: &Client,
    (key, url): (&str, &str),
    batch: Vec<Outgoing<'_>>,
) -> Vec<Result<(), Unavailable>> {
    let count = batch.len();
    let entries = batch.into_iter().enumerate().filter_map(|(index, message)| message.entry(index)).collect();
    let call = client.send_message_batch().queue_url(url).set_entries(Some(entries));
    let done = match call.send().await {
        Ok(done) => done,
        Err(error) => return all(count, Fault::of(&error), key),
    };
    let sent: HashSet<&str> = done.successful().iter().map(|entry| entry.id()).collect();
    let failed: HashMap<&str, EntryFault> =
        done.failed().iter().map(|entry| (entry.id(), EntryFault::of(entry))).collect();
    let result = |id: String| match failed.get(id.as_str()) {
        Some(EntryFault::Unavailable(code) | EntryFault::Refused(code)) => {
            Err(Unavailable(format!("SQS takes no such message in the queue of {key}: {code}")))
        }
        None if sent.contains(id.as_str()) => Ok(()),
        None => Err(Unavailable(format!("SQS did not say what became of the message for the queue of {key}"))),
    };
    (0..count).map(|index| result(index.to_string())).collect()
}
