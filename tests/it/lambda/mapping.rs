//! The same function behind another mapping, ministack's own, written by others; and `make aws-local`.

use std::process::Command;

use serde_json::{Value, json};

use super::{Store, set};
use crate::support::sqs::client;
use crate::support::stack::{Letter, take_letters};
use crate::support::{Lambda, Ministack, Redis, eventually, http_post, repository, tool};

/// A zip whose `bootstrap` starts that program, in base64. The program itself is large where it is built for tests.
fn zip(program: &str) -> String {
    let script = "import base64, io, sys, zipfile\nfile = io.BytesIO()\nzip = zipfile.ZipFile(file, 'w')\n\
         zip.writestr('bootstrap', '#!/bin/sh\\nexec \"%s\"\\n' % sys.argv[1])\nzip.close()\n\
         print(base64.b64encode(file.getvalue()).decode())";
    let output = Command::new(tool("venv/bin/python")).args(["-c", script, program]).output().expect("Python");
    String::from_utf8(output.stdout).expect("base64").trim().to_owned()
}

async fn create(url: String, what: Value) {
    let reply = http_post(&url, what.to_string()).await;
    assert!(reply.status.is_success(), "{}", reply.text());
}

#[tokio::test]
async fn long_ministacks_own_mapping_hands_over_what_is_stored_and_leaves_what_is_returned() {
    let (mut redis, sqs) = tokio::join!(Redis::start(), Ministack::start_services("sqs,lambda"));
    let (queues, endpoint) = (sqs.queues("webhooks").await, sqs.endpoint_url());
    let sqs = client(&endpoint);
    let short = sqs.set_queue_attributes().queue_url(&queues.queue_url).attributes("VisibilityTimeout".into(), "1");
    short.send().await.expect("the queue takes it");
    let variables = json!({
        "HOOKCACHE_STORE__URL": redis.url(),
        "HOOKCACHE_BUFFER__QUEUE_URL": queues.queue_url,
        "HOOKCACHE_BUFFER__DEAD_LETTER_URL": queues.dead_letter_url,
        "HOOKCACHE_BUFFER__ENDPOINT_URL": endpoint,
    });
    let function = json!({
        "FunctionName": "hookcache",
        "Runtime": "provided.al2023",
        "Handler": "bootstrap",
        "Role": "arn:aws:iam::000000000000:role/hookcache",
        "Code": { "ZipFile": zip(&Lambda::program().display().to_string()) },
        "Environment": { "Variables": variables },
        "Timeout": 30,
    });
    create(format!("{endpoint}/2015-03-31/functions"), function).await;
    let mapping = json!({
        "FunctionName": "hookcache",
        "EventSourceArn": "arn:aws:sqs:us-east-1:000000000000:webhooks",
        "BatchSize": 10,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
    });
    create(format!("{endpoint}/2015-03-31/event-source-mappings"), mapping).await;

    let send = async |body: &str| {
        sqs.send_message().queue_url(&queues.queue_url).message_body(body).send().await.expect("the queue takes it");
    };
    let keys: Vec<String> = (0..15).map(|i| format!("k{i}")).collect();
    for key in &keys {
        send(&set("up", "acme", key)).await;
    }
    send("not ours").await;
    let letters: Vec<Letter> = take_letters(&sqs, &queues.dead_letter_url, 1).await;
    assert_eq!((letters[0].reason(), &*letters[0].body), ("not-decodable", "not ours"));
    let store = Store::new(&redis);
    for key in &keys {
        eventually(&format!("{key} is stored"), || async { store.get(key).await }).await;
    }

    redis.stop();
    send(&set("up", "acme", "during-the-outage")).await;
    redis.start_again().await;
    let store = Store::new(&redis);
    eventually("what came in the outage is stored", || async { store.get("during-the-outage").await }).await;
    let more = sqs.receive_message().queue_url(&queues.dead_letter_url).send().await.expect("an answer");
    assert!(more.messages().is_empty(), "{more:?}");
}

#[test]
fn long_make_aws_local_shows_the_road_and_ends() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["test", "--locked", "--workspace", "--test", "aws_local", "--", "--once"];
    let output = Command::new(cargo).args(args).current_dir(repository()).output().expect("cargo");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for word in ["{\"text\":\"hello\"}", "foreign-key", "redriven: 1", "{\"text\":\"mine\"}"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}
