//! The consumer as an AWS Lambda: an event source mapping hands it batches of the queue, and deletes all messages but
//! those that it names in its answer (`ReportBatchItemFailures`). What it does with a batch is `hookcache::consumer`'s;
//! here stands the translation. README.md beside this folder says how it is built and configured.

// The futures of a batch and of the Runtime API's client nest deeper than the compiler follows by default.
#![recursion_limit = "256"]

mod event;

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::SystemTime;

use event::{Answer, Event};
use hookcache::buffer::Delivery;
use hookcache::envelope::Clock;
use hookcache::function;
use hookcache::function::consumer::{self, Consumer};
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
    let consumer = consumer::open(&function::sources(), Clock::system()).map_err(|error| error.to_string())?;
    consumer.warm_up().await;
    let answer = service_fn(|event| answer(&consumer, event));
    lambda_runtime::run(answer).await.map_err(|error| format!("the Runtime API failed: {error}"))
}

async fn answer(consumer: &Consumer, event: LambdaEvent<Event>) -> Result<Answer, Infallible> {
    let time = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    let messages: Vec<Delivery> = event.payload.into();
    Ok(consumer.handle(&messages, time).await.into())
}
