//! Webhooks of Confluence as an AWS Lambda behind API Gateway: it verifies them, puts them into the queue of page links,
//! and answers. What it does with one is `hookcache::hooks`'s; README.md in the folder above says how it is built and
//! configured.

// The futures of a webhook and of the Runtime API's client nest deeper than the compiler follows by default.
#![recursion_limit = "256"]

use std::process::ExitCode;
use std::time::SystemTime;

use hookcache::envelope::Clock;
use hookcache::function;
use hookcache::function::proxy::Response;
use hookcache::function::webhooks::{self, Webhooks};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::Value;

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
    let webhooks = webhooks::open(&function::sources(), Clock::system()).await.map_err(|error| error.to_string())?;
    let answer = service_fn(|event| answer(&webhooks, event));
    lambda_runtime::run(answer).await.map_err(|error| format!("the Runtime API failed: {error}"))
}

async fn answer(webhooks: &Webhooks, event: LambdaEvent<Value>) -> Result<Response, String> {
    let time = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    webhooks.answer(event.payload, time).await.map_err(|error| error.to_string())
}
