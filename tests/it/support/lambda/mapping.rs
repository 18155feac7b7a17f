//! A stand-in of Lambda's event source mapping for SQS, with `ReportBatchItemFailures`: one poller.
//!
//! The queue itself hides what was received, counts receives, and gives up what was received too often.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName};
use serde_json::{Map, Value, json};

use super::{Lambda, Outcome};

/// Messages that are received at once.
const BATCH_SIZE: i32 = 10;

pub struct Mapping {
    client: Client,
    queue_url: String,
    /// How long a function may take: AWS's word for it is the function's timeout.
    timeout: Duration,
}

/// One batch, and what became of it.
#[derive(Debug)]
pub struct Round {
    pub received: usize,
    pub deleted: usize,
}

impl Mapping {
    pub fn new(client: Client, queue_url: &str, timeout: Duration) -> Self {
        Self { client, queue_url: queue_url.to_owned(), timeout }
    }

    /// Receives a batch, waiting a moment for it; hands it to the function, unless it is empty; deletes what is done.
    pub async fn round(&self, lambda: &mut Lambda) -> Round {
        let messages = self.receive().await;
        if messages.is_empty() {
            return Round { received: 0, deleted: 0 };
        }
        let records: Vec<Value> = messages.iter().map(record_of).collect();
        let outcome = lambda.invoke_within(&records, self.timeout).await;
        let failed = failed_ids(&outcome, &messages);
        let is_done = |message: &&Message| {
            failed.as_ref().is_some_and(|failed| !failed.contains(message.message_id().unwrap_or_default()))
        };
        let done: Vec<&Message> = messages.iter().filter(is_done).collect();
        self.delete(&done).await;
        Round { received: messages.len(), deleted: done.len() }
    }

    async fn receive(&self) -> Vec<Message> {
        let receive = self.client.receive_message().queue_url(&self.queue_url).wait_time_seconds(1);
        let receive = receive.max_number_of_messages(BATCH_SIZE).message_attribute_names("All");
        let receive = receive.message_system_attribute_names(MessageSystemAttributeName::All);
        receive.send().await.expect("the queue answers").messages.unwrap_or_default()
    }

    async fn delete(&self, messages: &[&Message]) {
        if messages.is_empty() {
            return;
        }
        let mut delete = self.client.delete_message_batch().queue_url(&self.queue_url);
        for (index, message) in messages.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string());
            let entry = entry.receipt_handle(message.receipt_handle().expect("a receipt"));
            delete = delete.entries(entry.build().expect("an id and a receipt"));
        }
        // What is not deleted comes again: such is a queue.
        let _ = delete.send().await;
    }
}

/// Who comes again. `None` stands for the whole batch: the function failed, or its answer is none that Lambda takes.
fn failed_ids(outcome: &Outcome, messages: &[Message]) -> Option<HashSet<String>> {
    let Outcome::Answered(body) = outcome else { return None };
    let answer: Value = serde_json::from_slice(body).ok()?;
    let known: HashSet<&str> = messages.iter().filter_map(Message::message_id).collect();
    let failures = answer["batchItemFailures"].as_array()?;
    let ids = failures.iter().map(|failure| failure["itemIdentifier"].as_str().filter(|id| known.contains(id)));
    ids.map(|id| id.map(str::to_owned)).collect()
}

/// A record as Lambda makes one, for a test that hands batches over itself.
pub fn record(message_id: &str, body: &str) -> Value {
    let attributes = json!({
        "ApproximateReceiveCount": "1",
        "SentTimestamp": "1767225600000",
        "SenderId": "AIDAIENQZJOLO23YVJ4VO",
        "ApproximateFirstReceiveTimestamp": "1767225600001",
    });
    json!({
        "messageId": message_id,
        "receiptHandle": format!("receipt of {message_id}"),
        "body": body,
        "attributes": attributes,
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:webhooks",
        "awsRegion": "us-east-1",
    })
}

fn record_of(message: &Message) -> Value {
    let mut record = record(message.message_id().unwrap_or_default(), message.body().unwrap_or_default());
    record["receiptHandle"] = message.receipt_handle().into();
    let attributes = message.attributes().into_iter().flatten();
    let attributes = attributes.map(|(name, value)| (name.as_str().to_owned(), Value::from(value.as_str())));
    record["attributes"] = attributes.collect();
    let mut attributes = Map::new();
    for (name, value) in message.message_attributes().into_iter().flatten() {
        let of = json!({
            "stringValue": value.string_value(),
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": value.data_type(),
        });
        attributes.insert(name.clone(), of);
    }
    record["messageAttributes"] = attributes.into();
    record
}
