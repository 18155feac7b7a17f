//! The consumer as an AWS Lambda: an event source mapping hands it batches of the queue, and deletes all messages but
//! those that it names in its answer (`ReportBatchItemFailures`). What it does with a batch is `hookcache::consumer`'s;
//! here stands the translation. README.md beside this folder says how it is built and configured.

// The futures of a batch and of the Runtime API's client nest deeper than the compiler follows by default.
#![recursion_limit = "256"]

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::SystemTime;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use hookcache::buffer::{Delivery, MessageId, Receipt};
use hookcache::consumer::Handler;
use hookcache::envelope::Clock;
use hookcache::function::{self, consumer};
use lambda_runtime::{LambdaEvent, service_fn};

/// One thread: a function mostly has less than one core.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Logging may not have begun yet.
            eprintln!("{}", error.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), String> {
    let handler = consumer::open(&function::sources(), Clock::system()).map_err(|error| error.to_string())?;
    handler.warm_up().await;
    let answer = service_fn(|event| answer(&handler, event));
    lambda_runtime::run(answer).await.map_err(|error| format!("the Runtime API failed: {error}"))
}

async fn answer(handler: &Handler, event: LambdaEvent<SqsEvent>) -> Result<SqsBatchResponse, Infallible> {
    let time = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    let messages: Vec<Delivery> = event.payload.records.into_iter().map(delivery).collect();
    let mut response = SqsBatchResponse::default();
    let left = handler.handle(&messages, time).await;
    response.set_failures(left.into_iter().map(|MessageId(id)| id));
    Ok(response)
}

fn delivery(message: SqsMessage) -> Delivery {
    let count = message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
    let traceparent = message.message_attributes.get("traceparent").and_then(|of| of.string_value.clone());
    Delivery {
        message_id: MessageId(message.message_id.unwrap_or_default()),
        receipt: Receipt(message.receipt_handle.unwrap_or_default()),
        body: message.body.unwrap_or_default().into(),
        receive_count: count.unwrap_or(1),
        traceparent,
    }
}
