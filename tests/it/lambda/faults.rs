//! Redis, SQS and the function itself fail: each message is stored in the end, and none is dead-lettered for it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::Value;

use super::{FUNCTION_TIMEOUT, Store, over_redis, returned, set, until_deleted};
use crate::support::hookcache::run;
use crate::support::lambda::{Mapping, Outcome, record};
use crate::support::sqs::{client, create_queues};
use crate::support::stack::Stack;
use crate::support::{Lambda, Ministack, Redis, Staller, eventually};

/// Until the queue has given a message up: some rounds of a second each.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(30);

/// Records `0` to `count - 1`; each key is named like its record, but for one that holds up whatever it is written with.
fn batch_with_a_stall(count: usize, stalls: usize) -> Vec<Value> {
    let key = |i: usize| if i == stalls { "stall-me".to_owned() } else { i.to_string() };
    (0..count).map(|i| record(&i.to_string(), &set("up", "acme", &key(i)))).collect()
}

/// What was not returned is stored.
async fn assert_stored(store: &Store, batch: &[Value], left: &BTreeSet<String>) {
    for record in batch {
        let id = record["messageId"].as_str().expect("an id");
        if !left.contains(id) {
            let key =
                if record["body"].as_str().is_some_and(|body| body.contains("stall-me")) { "stall-me" } else { id };
            assert!(store.get(key).await.is_some(), "{id} was not returned, and is not stored");
        }
    }
}

/// Hands over what is left until nothing is.
async fn until_none_is_left(lambda: &Lambda, batch: &[Value]) {
    let mut left = batch.to_vec();
    while !left.is_empty() {
        let again = returned(lambda.invoke(&left).await);
        assert!(again.len() < left.len(), "none of {again:?} is stored");
        left.retain(|record| again.contains(record["messageId"].as_str().expect("an id")));
    }
}

#[tokio::test]
async fn while_redis_is_down_every_message_is_returned_and_then_stored_by_the_same_process() {
    let mut stack = Stack::start().await;
    let sqs = client(&stack.sqs.endpoint_url());
    let seconds = ("VisibilityTimeout".into(), "1".to_owned());
    let attributes = sqs.set_queue_attributes().queue_url(&stack.queues.queue_url).attributes(seconds.0, seconds.1);
    attributes.send().await.expect("the queue takes it");
    let mut lambda = Lambda::start(&stack.function_environment()).await;
    let mapping = Mapping::new(sqs, &stack.queues.queue_url, FUNCTION_TIMEOUT);
    lambda.until_idle().await;
    let pid = lambda.pid();

    stack.redis.stop();
    for i in 0..15 {
        stack.put(&set("up", "acme", &format!("k{i}"))).await;
    }
    for _ in 0..3 {
        assert_eq!(mapping.round(&mut lambda).await.deleted, 0, "nothing is stored, and nothing is done");
    }
    let lines = lambda.logged("returned to the queue, which offers them again; nothing is lost", 1).await;
    assert!(
        lines.iter().all(|line| line["error"].as_str().is_some_and(|error| error.contains("store.url"))),
        "{lines:?}"
    );
    stack.redis.start_again().await;
    until_deleted(&mapping, &mut lambda, 15).await;

    let store = Store::new(&stack.redis);
    for i in 0..15 {
        assert!(store.get(&format!("k{i}")).await.is_some(), "k{i}");
    }
    assert_eq!(lambda.pid(), pid, "no crash");
    let dead = client(&stack.sqs.endpoint_url());
    let dead = dead.receive_message().queue_url(&stack.queues.dead_letter_url).send().await.expect("an answer");
    assert!(dead.messages().is_empty(), "an outage makes no dead letters: {dead:?}");
}

#[tokio::test]
async fn when_the_time_is_over_in_mid_batch_only_what_is_not_stored_is_returned() {
    let redis = Redis::start().await;
    let (staller, store) = (Staller::start(&redis).await, Store::new(&redis));
    let mut lambda = over_redis(staller.url(), &[("HOOKCACHE_STORE__WRITE_TIMEOUT", "60s")]).await;
    // Two parts of a batch: the second is stuck.
    let batch = batch_with_a_stall(150, 120);
    let left = returned(lambda.invoke_within(&batch, Duration::from_secs(8)).await);
    assert!(left.contains("120") && left.len() < batch.len(), "{left:?}");
    assert_stored(&store, &batch, &left).await;
    staller.go_on();
    until_none_is_left(&lambda, &batch).await;
    assert_stored(&store, &batch, &BTreeSet::new()).await;
}

#[tokio::test]
async fn a_message_that_makes_the_store_fail_takes_no_other_with_it() {
    let redis = Redis::start().await;
    let (staller, store) = (Staller::start(&redis).await, Store::new(&redis));
    let lambda = over_redis(staller.url(), &[("HOOKCACHE_STORE__WRITE_TIMEOUT", "1s")]).await;
    let batch = batch_with_a_stall(10, 3);
    let only = BTreeSet::from(["3".to_owned()]);
    // On a slow machine, others may also take longer than a second, and come again.
    eventually("all others are stored", || async {
        let left = returned(lambda.invoke(&batch).await);
        assert_stored(&store, &batch, &left).await;
        (left == only).then_some(())
    })
    .await;
    let lines = lambda.logged("put off", 1).await;
    assert!(lines.iter().any(|line| line["message_id"] == "3"), "{lines:?}");
}

#[tokio::test]
async fn a_function_that_dies_in_mid_batch_leaves_nothing_that_its_repetition_does_not_mend() {
    let redis = Redis::start().await;
    let (staller, store) = (Staller::start(&redis).await, Store::new(&redis));
    let mut lambda = over_redis(staller.url(), &[("HOOKCACHE_STORE__WRITE_TIMEOUT", "60s")]).await;
    let batch = batch_with_a_stall(150, 120);
    let death = async {
        staller.until_stalled().await;
        lambda.kill();
    };
    let (outcome, ()) = tokio::join!(lambda.invoke(&batch), death);
    assert!(matches!(outcome, Outcome::TimedOut), "{outcome:?}");
    assert!(store.get("0").await.is_some() && store.get("149").await.is_none(), "it died in mid-batch");
    staller.go_on();
    lambda.start_again().await;
    until_none_is_left(&lambda, &batch).await;
    assert_stored(&store, &batch, &BTreeSet::new()).await;
}

#[tokio::test]
async fn connections_that_died_while_it_was_frozen_are_made_anew_and_nothing_is_returned() {
    let redis = Redis::start().await;
    let (lambda, store) = (over_redis(redis.url(), &[]).await, Store::new(&redis));
    for i in 0..3 {
        let key = format!("k{i}");
        assert_eq!(returned(lambda.invoke(&[record("1", &set("up", "acme", &key))]).await), BTreeSet::new());
        lambda.freeze().await;
        assert_ne!(redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]), "0");
        // In one round, for longer than a connection is trusted unasked.
        tokio::time::sleep(Duration::from_millis(if i == 1 { 1_500 } else { 0 })).await;
        lambda.thaw();
        let key = format!("after-{key}");
        assert_eq!(returned(lambda.invoke(&[record("2", &set("up", "acme", &key))]).await), BTreeSet::new());
        assert!(store.get(&key).await.is_some(), "{key}");
    }
}

#[tokio::test]
async fn a_connection_that_was_alive_a_moment_ago_is_made_anew_also_where_it_is_the_rules_that_need_it() {
    let redis = Redis::start().await;
    let lambda = over_redis(redis.url(), &[]).await;
    // The rules are loaded at the start, and kept for two seconds; the connection is trusted unasked for one.
    lambda.until_idle().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(returned(lambda.invoke(&[record("1", &set("up", "acme", "k1"))]).await), BTreeSet::new());
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_ne!(redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]), "0");
    assert_eq!(returned(lambda.invoke(&[record("2", &set("up", "acme", "k2"))]).await), BTreeSet::new());
    assert!(Store::new(&redis).get("k2").await.is_some());
}

#[tokio::test]
async fn wrong_credentials_are_told_and_every_message_is_returned_until_they_are_right() {
    let redis = Redis::start_with(&["--save", "", "--requirepass", "right"]).await;
    let url = redis.url().replace("redis://", "redis://:s3cr3t@");
    let lambda = over_redis(url, &[]).await;
    lambda.until_idle().await;
    let told = "started without the store; until it is back, all messages are returned to the queue";
    let told = lambda.logged(told, 1).await;
    let error = told[0]["error"].as_str().expect("a text");
    assert!(error.contains("refuses the user or the password of store.url"), "{error}");

    let batch = [record("1", &set("up", "acme", "k1")), record("2", &set("up", "acme", "k2"))];
    let pid = lambda.pid();
    for _ in 0..2 {
        assert_eq!(returned(lambda.invoke(&batch).await), BTreeSet::from(["1".to_owned(), "2".to_owned()]));
    }
    redis.ok(&["-a", "right", "CONFIG", "SET", "requirepass", "s3cr3t"]);
    assert_eq!(returned(lambda.invoke(&batch).await), BTreeSet::new());
    assert_eq!(lambda.pid(), pid, "no crash");
    assert!(!lambda.captured().stderr.contains("s3cr3t"));
}

#[tokio::test]
async fn poison_that_cannot_be_dead_lettered_now_is_returned_and_the_rest_is_stored() {
    let redis = Redis::start().await;
    let (lambda, store) = (over_redis(redis.url(), &[]).await, Store::new(&redis));
    let batch = [record("1", &set("up", "acme", "k")), record("2", "not ours")];
    assert_eq!(returned(lambda.invoke(&batch).await), BTreeSet::from(["2".to_owned()]));
    assert!(store.get("k").await.is_some());
    let lines = lambda.logged("can't be dead-lettered now", 1).await;
    assert_eq!((&lines[0]["message_id"], &lines[0]["reason"]), (&"2".into(), &"not-decodable".into()));
    assert!(lines[0]["error"].as_str().is_some_and(|error| error.contains("buffer.dead_letter_url")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_what_the_queue_gives_up_in_an_outage_is_listed_and_stored_once_it_is_redriven() {
    let (redis, sqs) = tokio::join!(Redis::start(), Ministack::start());
    let sqs_client = client(&sqs.endpoint_url());
    let queues = create_queues(&sqs_client, "webhooks", 2).await;
    let attributes = sqs_client.set_queue_attributes().queue_url(&queues.queue_url);
    attributes.attributes("VisibilityTimeout".into(), "1").send().await.expect("the queue takes it");
    let mut stack = Stack { redis, sqs, queues };
    let mut lambda = Lambda::start(&stack.function_environment()).await;
    let mapping = Mapping::new(sqs_client.clone(), &stack.queues.queue_url, FUNCTION_TIMEOUT);

    stack.redis.stop();
    stack.put(&set("up", "acme", "k")).await;
    let waits = async || {
        let depth = sqs_client.get_queue_attributes().queue_url(&stack.queues.dead_letter_url);
        let depth = depth.attribute_names(QueueAttributeName::ApproximateNumberOfMessages).send().await;
        let attributes = depth.expect("an answer").attributes.expect("attributes");
        attributes[&QueueAttributeName::ApproximateNumberOfMessages] != "0"
    };
    let (mut received, deadline) = (0, Instant::now() + GIVEN_UP_WITHIN);
    while !waits().await {
        assert!(Instant::now() < deadline, "it was received {received} times");
        let round = mapping.round(&mut lambda).await;
        assert_eq!(round.deleted, 0, "nothing is stored, and nothing is done");
        received += round.received;
    }
    assert_eq!(received, 2, "as often as maxReceiveCount says");
    stack.redis.start_again().await;

    let hookcache = stack.hookcache("", &["--roles", "admin"]).await;
    let url = hookcache.admin_url();
    let dead_letters = |args: &[&str]| {
        let output = run(&[&["dead-letters"], args].concat(), &[("HOOKCACHE_ADMIN_URL", &url)]);
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let listed = dead_letters(&["list"]);
    assert!(listed.contains("receive-count-exceeded"), "{listed}");
    assert_eq!(dead_letters(&["redrive", "--all"]), "redriven: 1\n");
    until_deleted(&mapping, &mut lambda, 1).await;
    assert!(Store::new(&stack.redis).get("k").await.is_some());
}
