//! `make aws-local`: the road of AWS on this machine, in the foreground: API Gateway and SQS (LocalStack), the Lambda
//! behind stand-ins of its Runtime API and of its event source mapping, Redis, and the get API.
//!
//! It shows itself: a set and its get, a message that becomes a dead letter, its reason, and how it is put back on the
//! road. Then it stays until Ctrl-C, for whoever wants to try more; with `--once` it ends. Everything dies with it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::lambda::Mapping;
use support::sqs::client;
use support::stack::Stack;
use support::{Lambda, LocalStack, Redis, eventually, hookcache};

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "it needs only some of what the tests share")]
mod support;

const FUNCTION_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() {
    println!(
        "starting API Gateway, SQS, Redis, the get API and the Lambda (LocalStack is installed the first time) ..."
    );
    let (redis, gateway) = tokio::join!(Redis::start(), LocalStack::start());
    let (queues, door) = (gateway.queues().clone(), gateway.url());
    let stack = Stack { redis, sqs: gateway, queues };
    let reader = stack.hookcache("", &["--roles", "get,admin"]).await;
    let lambda = Lambda::start(&stack.function_environment()).await;
    let mapping = Mapping::new(client(&stack.sqs.endpoint_url()), &stack.queues.queue_url, FUNCTION_TIMEOUT);
    tokio::spawn(feed(mapping, lambda));

    let shell = Shell { door, get: reader.url(), admin: reader.admin_url() };
    show(&shell).await;
    if std::env::args().any(|arg| arg == "--once") {
        return;
    }
    println!("\nIt stays until Ctrl-C. To go on in another terminal:\n\n{}", shell.exports());
    let _ = tokio::signal::ctrl_c().await;
}

/// Hands batches to the function for as long as it runs, and passes on what the function logs.
async fn feed(mapping: Mapping, mut lambda: Lambda) {
    let mut told = 0;
    loop {
        mapping.round(&mut lambda).await;
        let log = lambda.captured().stderr;
        for line in log[told..].lines() {
            println!("  lambda: {line}");
        }
        told = log.len();
    }
}

async fn show(shell: &Shell) {
    let body = |account: &str, text: &str| {
        format!(r#"{{"accountId":"{account}","flowId":"f","webhookKeys":["greeting"],"data":{{"text":"{text}"}}}}"#)
    };
    let post = |body: String| {
        format!("curl -sS \"$HOOKCACHE_URL/v1/set\" -H 'Content-Type: application/json' -d '{body}' && echo")
    };
    let get = "curl -sS \"$GET_URL/v1/keys/greeting\" && echo";
    println!("\n# A set goes through the queue and the Lambda into Redis:");
    shell.run(&post(body("acme", "hello"))).await;
    shell.run_until(get, "\"hello\"").await;
    println!("\n# Another account may not have that key. Its set becomes a dead letter, with its reason:");
    shell.run(&post(body("other", "mine"))).await;
    shell.run_until("hookcache dead-letters list", "foreign-key").await;
    println!("\n# Once the key is free, the letter goes back on the road, and is stored:");
    shell.run("hookcache keys purge --account acme --prefix greeting --yes").await;
    shell.run_until("hookcache dead-letters redrive --all", "redriven: 1").await;
    shell.run_until(get, "\"mine\"").await;
}

/// Commands as a person would type them.
struct Shell {
    door: String,
    get: String,
    admin: String,
}

impl Shell {
    fn exports(&self) -> String {
        let Self { door, get, admin } = self;
        let folder = Path::new(hookcache::PROGRAM).parent().expect("it lies in a folder").display();
        format!("export HOOKCACHE_URL={door} GET_URL={get} HOOKCACHE_ADMIN_URL={admin}\nexport PATH={folder}:$PATH\n")
    }

    async fn run(&self, line: &str) {
        self.run_until(line, "").await;
    }

    /// Repeats it until its output holds a word; shows it with its last output.
    async fn run_until(&self, line: &str, word: &str) {
        let script = format!("{}{line}", self.exports());
        let output = eventually(&format!("{word} of {line}"), || async {
            let output = Command::new("bash").args(["-c", &script]).output().expect("bash");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (output.status.success() && text.contains(word)).then(|| text.trim_end().to_owned())
        })
        .await;
        println!("$ {line}\n{output}");
    }
}
