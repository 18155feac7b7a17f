//! A rolling update, as Kubernetes makes it of `k8s/overlays/production`: all pods of `set`, `get` and `consume` are
//! replaced under load, over a real Redis and an SQS emulator, by the order and the times of the manifests.
//!
//! What is waited out in full, such as `preStop`, is waited for shorter here, in proportion; what is only a limit, such as
//! `terminationGracePeriodSeconds`, is as long as there.

mod load;
mod pod;
mod service;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::support::sqs::client;
use crate::support::stack::{Stack, series};
use crate::support::{eventually, eventually_within, http_get};

use super::starts;
use load::Load;
use pod::{Deployment, End};
use service::Service;

/// Pods of each Deployment.
const PODS: usize = 2;
/// Events that are accepted before an update, between two of them, and after the last.
const EVENTS: usize = 50;
const UPDATES_LONG: usize = 5;
/// Between two calls of one caller: they are to meet all that happens, and not to take all of a small machine.
const PACE: Duration = Duration::from_millis(10);
const PACE_LONG: Duration = Duration::from_millis(2);
/// So that what a killed consumer had in hand comes back soon.
const VISIBILITY: Duration = Duration::from_secs(10);
/// As long as calls may take to be finished: then no caller here is so slow that its connection is closed untold.
const CLOSE_DELAY: &str = "10s";
/// Far more than the visibility of what a busy machine left in nobody's hand.
const PATIENCE: Duration = Duration::from_secs(120);
/// What one consumer may have in hand: `consumer.batches_in_flight_max` of 10 messages each.
const IN_HAND_MAX: usize = 160;

struct Cluster {
    stack: Stack,
    sets: Arc<Service>,
    gets: Arc<Service>,
    set: Deployment,
    get: Deployment,
    consume: Deployment,
}

impl Cluster {
    async fn start() -> Self {
        let (stack, starts) = tokio::join!(Stack::start(), tokio::task::spawn_blocking(starts));
        let starts = starts.expect("no panic");
        let mut env = vec![
            ("HOOKCACHE_BUFFER__VISIBILITY".to_owned(), format!("{}s", VISIBILITY.as_secs())),
            ("HOOKCACHE_BUFFER__WAIT".to_owned(), "1s".to_owned()),
            // A Redis that is frozen for a moment is no outage here.
            ("HOOKCACHE_STORE__READ_TIMEOUT".to_owned(), "30s".to_owned()),
            ("HOOKCACHE_STORE__CONNECT_TIMEOUT".to_owned(), "30s".to_owned()),
            ("HOOKCACHE_HTTP__CLOSE_DELAY".to_owned(), CLOSE_DELAY.to_owned()),
        ];
        env.extend(stack.function_environment().into_iter().map(|(name, value)| (name.to_owned(), value)));
        let workload = |role: &str| {
            let name = format!("Deployment hookcache-{role}");
            starts.iter().find(|start| start.overlay == "production" && start.name == name).expect("a workload").clone()
        };
        let (sets, gets) = (Arc::default(), Arc::default());
        let (set, get, consume) = tokio::join!(
            Deployment::start(workload("set"), env.clone(), Some(Arc::clone(&sets)), PODS),
            Deployment::start(workload("get"), env.clone(), Some(Arc::clone(&gets)), PODS),
            Deployment::start(workload("consume"), env.clone(), None, PODS),
        );
        Self { stack, sets, gets, set, get, consume }
    }

    /// All Deployments at once, as a changed ConfigMap would have it.
    async fn update(&mut self) {
        tokio::join!(self.set.update(), self.get.update(), self.consume.update());
    }

    /// What was accepted is readable, nothing became a dead letter, and what was stored twice changed nothing.
    async fn nothing_is_lost(self, load: Load) {
        let accepted = load.end().await;
        for (key, last) in &accepted.last {
            self.until_read(key, *last).await;
        }
        let left = || async { (self.messages(&self.stack.queues.queue_url).await == 0).then_some(()) };
        eventually_within(PATIENCE, "the queue is empty", left).await;
        assert_eq!(self.messages(&self.stack.queues.dead_letter_url).await, 0, "dead letters");

        let sent_again = (self.sets.sent_again(), self.gets.sent_again());
        assert_eq!(sent_again, (0, 0), "sets and gets whose connection was closed without an answer");

        let replaced = self.consume.ends.len();
        let logs = self.consume.logs().await;
        for log in [&logs, &self.set.logs().await, &self.get.logs().await].into_iter().flatten() {
            assert_ne!(log["level"], "ERROR", "{log}");
        }
        let mut changed: HashMap<&str, (usize, u64)> = HashMap::new();
        for line in logs.iter().filter(|line| line["message"] == "stored") {
            let (times, keys) = changed.entry(line["id"].as_str().expect("an id")).or_default();
            *times += 1;
            *keys += line["changed"].as_u64().expect("a number");
        }
        assert!(changed.values().all(|(_, keys)| *keys <= 1), "an event that came again changed its key again");
        let unseen = accepted.ids.iter().filter(|id| !changed.contains_key(id.as_str())).count();
        assert_eq!(unseen, 0, "accepted, and stored by nobody");
        let again: usize = changed.values().map(|(times, _)| times - 1).sum();
        assert!(again <= replaced * IN_HAND_MAX, "{again} came again, and {replaced} consumers were replaced");
        println!("{} events, {} gets; stored again: {again}", accepted.ids.len(), accepted.gets,);
    }

    async fn until_read(&self, key: &str, last: u64) {
        eventually_within(PATIENCE, &format!("{key} is {last}"), || async {
            for pod in self.get.pods() {
                let reply = http_get(&format!("{}/v1/keys/{key}", pod.url())).await;
                if reply.status != 200 || reply.text() != last.to_string() {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    async fn messages(&self, url: &str) -> u64 {
        use aws_sdk_sqs::types::QueueAttributeName::{
            ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible,
        };
        let names = [ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible];
        let call = client(&self.stack.sqs.endpoint_url()).get_queue_attributes().queue_url(url);
        let counts = call.set_attribute_names(Some(names.to_vec())).send().await.expect("an answer").attributes;
        counts.expect("counts").values().map(|count| count.parse::<u64>().expect("a number")).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_under_load_fails_no_call_and_loses_no_event() {
    let mut cluster = Cluster::start().await;
    let load = Load::start(&cluster.sets, &cluster.gets, PACE);
    load.until_accepted(EVENTS).await;
    cluster.update().await;
    load.until_accepted(EVENTS).await;
    for deployment in [&cluster.set, &cluster.get, &cluster.consume] {
        assert_eq!(deployment.ends, [End::ByItself; PODS], "{deployment:?}");
    }
    cluster.nothing_is_lost(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_many_rolling_updates_under_load_fail_no_call_and_lose_no_event() {
    let mut cluster = Cluster::start().await;
    let load = Load::start(&cluster.sets, &cluster.gets, PACE_LONG);
    for _ in 0..UPDATES_LONG {
        load.until_accepted(EVENTS).await;
        cluster.update().await;
    }
    load.until_accepted(EVENTS).await;
    for deployment in [&cluster.set, &cluster.get, &cluster.consume] {
        assert_eq!(deployment.ends, [End::ByItself; PODS * UPDATES_LONG], "{deployment:?}");
    }
    cluster.nothing_is_lost(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_what_a_consumer_had_in_hand_that_was_killed_after_its_grace_comes_back() {
    let mut cluster = Cluster::start().await;
    let load = Load::start(&cluster.sets, &cluster.gets, PACE_LONG);
    load.until_accepted(EVENTS).await;
    // No batch can be finished now, so what the consumers take is in their hands.
    cluster.stack.redis.pause();
    let stuck = cluster.consume.pods().next().expect("a pod");
    let metrics = format!("{}/metrics", stuck.admin_url());
    let batches = || async { series(&http_get(&metrics).await.text(), "hookcache_consumer_batches_total") };
    let before = batches().await;
    load.until_accepted(1).await;
    eventually("a batch in hand", || async { (batches().await > before).then_some(()) }).await;
    stuck.signal("STOP");
    cluster.stack.redis.resume();
    cluster.consume.workload.grace_seconds = 3;
    cluster.update().await;
    assert_eq!(cluster.consume.ends.first(), Some(&End::Killed));
    load.until_accepted(EVENTS).await;
    cluster.nothing_is_lost(load).await;
}

/// A line of a log.
fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
