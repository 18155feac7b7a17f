//! What an event source mapping sends, and what it takes for an answer. Of a record, only what the consumer asks is read:
//! it comes with every batch, and most of it says nothing here.

use hookcache::buffer::{Delivery, MessageId, Receipt};
use serde::{Deserialize, Serialize};

/// A batch of the queue.
#[derive(Deserialize)]
pub struct Event {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: String,
    /// SQS takes none without a body.
    body: String,
    message_attributes: Option<MessageAttributes>,
}

/// Those that we know.
#[derive(Deserialize)]
struct MessageAttributes {
    traceparent: Option<Text>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    string_value: Option<String>,
}

/// The messages that must come again (`ReportBatchItemFailures`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    batch_item_failures: Vec<Failure>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: String,
}

impl From<Event> for Vec<Delivery> {
    fn from(event: Event) -> Self {
        event.records.into_iter().map(Delivery::from).collect()
    }
}

impl From<Record> for Delivery {
    fn from(record: Record) -> Self {
        let traceparent = record.message_attributes.and_then(|attributes| attributes.traceparent);
        Self {
            message_id: MessageId(record.message_id),
            // The mapping itself deletes, and counts receives.
            receipt: Receipt(String::new()),
            body: record.body.into(),
            receive_count: 1,
            traceparent: traceparent.and_then(|text| text.string_value),
        }
    }
}

impl From<Vec<MessageId>> for Answer {
    fn from(left: Vec<MessageId>) -> Self {
        Self { batch_item_failures: left.into_iter().map(|MessageId(id)| Failure { item_identifier: id }).collect() }
    }
}
