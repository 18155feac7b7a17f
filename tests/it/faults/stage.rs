//! The three roles as processes of their own, over a real Redis and an SQS emulator, and what stands in between.
//!
//! ```text
//! set, consume -> microburst (SQS) -> tap -> local-aws-sqs
//! consume, get -> microburst (Redis) -> redis-server, whose append-only file is synced at each write
//! ```

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::sqs::client;
use crate::support::stack::{Letter, series, take_letters};
use crate::support::{Hookcache, LocalAwsSqs, Microburst, Queues, Redis, Reply, SqsTap, http_get};

/// Short, so that what a lost answer took comes back soon.
pub const VISIBILITY: Duration = Duration::from_secs(6);
/// Far more than any wait here takes, put-offs and pauses included.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Lines of a log that a failure shows.
const LAST_LINES: usize = 20;

pub struct Stage {
    pub redis: Redis,
    pub redis_faults: Microburst,
    pub sqs_faults: Microburst,
    pub tap: SqsTap,
    pub set: Hookcache,
    pub consume: Hookcache,
    pub get: Hookcache,
    queues: Queues,
    client: Client,
    _sqs: LocalAwsSqs,
}

impl Stage {
    /// `settings` of the consumer, as in the environment.
    pub async fn start(seed: u64, settings: &[(&str, &str)]) -> Self {
        let durable = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"];
        let (redis, sqs) = tokio::join!(Redis::start_with(&durable), LocalAwsSqs::start());
        let queues = sqs.queues("webhooks").await;
        let tap = SqsTap::start(&sqs.endpoint_url(), seed).await;
        let tap_url = tap.endpoint_url();
        let (redis_faults, sqs_faults) =
            tokio::join!(Microburst::redis(redis.port(), seed), Microburst::sqs(&tap_url, seed));
        let (redis_url, endpoint) =
            (format!("redis://{}", redis_faults.address()), format!("http://{}", sqs_faults.address()));
        let visibility = format!("{}s", VISIBILITY.as_secs());
        let mut env = vec![
            ("HOOKCACHE_STORE__URL", redis_url.as_str()),
            ("HOOKCACHE_BUFFER__QUEUE_URL", &queues.queue_url),
            ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", &queues.dead_letter_url),
            ("HOOKCACHE_BUFFER__ENDPOINT_URL", &endpoint),
            ("HOOKCACHE_BUFFER__VISIBILITY", &visibility),
            ("HOOKCACHE_BUFFER__WAIT", "1s"),
            // What is read is what the store has at that moment.
            ("HOOKCACHE_GET__CACHE", "off"),
            ("HOOKCACHE_CONSUMER__PAUSE_MIN", "50ms"),
            ("HOOKCACHE_CONSUMER__PAUSE_MAX", "100ms"),
        ];
        env.extend(settings);
        let (set, consume, get) = tokio::join!(
            Hookcache::start(&["--roles", "set"], &env),
            Hookcache::start(&["--roles", "consume"], &env),
            Hookcache::start(&["--roles", "get"], &env),
        );
        let client = client(&sqs.endpoint_url());
        Self { redis, redis_faults, sqs_faults, tap, set, consume, get, queues, client, _sqs: sqs }
    }

    /// No more faults, but for the tap's own.
    pub async fn calm(&self) {
        self.tap.refuse_sends(0.0);
        self.redis_faults.set(&[]).await;
        self.sqs_faults.set(&[]).await;
    }

    /// Puts a message into the queue by hand, past all faults.
    pub async fn put(&self, body: &str) {
        let send = self.client.send_message().queue_url(&self.queues.queue_url).message_body(body);
        send.send().await.expect("the queue takes it");
    }

    /// Waits until the queue is empty, what was taken included. However full it is, it must get emptier.
    pub async fn drained(&self) {
        let (mut fewest, mut since) = (u64::MAX, Instant::now());
        loop {
            let left = self.counts(&self.queues.queue_url).await.values().sum();
            if left == 0 {
                return;
            }
            if left < fewest {
                (fewest, since) = (left, Instant::now());
            }
            self.be_patient(since, "the queue is empty");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until the consumer knows that the store is down.
    pub async fn paused(&self) {
        let url = format!("{}/metrics", self.consume.admin_url());
        let is_paused = || async { series(&http_get(&url).await.text(), "hookcache_consumer_paused") == Some(1.0) };
        self.until("the consumer pauses", is_paused).await;
    }

    /// Reads a key, until the answer is about the key.
    pub async fn read(&self, key: &str) -> Reply {
        let (url, reply) = (format!("{}/v1/keys/{key}", self.get.url()), Mutex::new(None));
        let answered = || async {
            let read = http_get(&url).await;
            let is_about_it = read.status != StatusCode::SERVICE_UNAVAILABLE;
            *reply.lock().expect("one task") = Some(read);
            is_about_it
        };
        self.until(&format!("{key} can be read"), answered).await;
        reply.into_inner().expect("one task").expect("an answer")
    }

    /// Waits for a state, for longer than other tests do: a message that was put off comes back in its own time.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, state: impl Fn() -> F) {
        let start = Instant::now();
        while !state().await {
            self.be_patient(start, what);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Panics when patience is over, with the consumer's last words.
    fn be_patient(&self, since: Instant, what: &str) {
        if since.elapsed() > PATIENCE {
            let log = self.consume.captured().stderr;
            let last_words: Vec<&str> = log.lines().rev().take(LAST_LINES).collect();
            panic!("not within {PATIENCE:?}: {what}; the consumer: {last_words:#?}");
        }
    }

    /// All dead letters; they are gone from their queue then.
    pub async fn take_dead_letters(&self) -> Vec<Letter> {
        let count = self.dead_letters().await;
        take_letters(&self.client, &self.queues.dead_letter_url, count as usize).await
    }

    /// How many there are.
    pub async fn dead_letters(&self) -> u64 {
        self.counts(&self.queues.dead_letter_url).await.values().sum()
    }

    async fn counts(&self, url: &str) -> HashMap<QueueAttributeName, u64> {
        let call = self.client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
        let found = call.send().await.expect("the queue's attributes").attributes.expect("attributes");
        let is_count = |name: &QueueAttributeName| name.as_str().starts_with("ApproximateNumberOfMessages");
        let counts = found.into_iter().filter(|(name, _)| is_count(name));
        counts.map(|(name, count)| (name, count.parse().expect("a number"))).collect()
    }
}

/// SQS throttles and fails: a fifth of all calls, in the shapes of SQS.
pub fn sqs_errors() -> Vec<Value> {
    let error = |probability: f64, code: &str, status: u16| json!({ "service": "sqs", "probability": probability, "error": { "code": code, "status": status } });
    vec![
        error(0.1, "ThrottlingException", 400),
        error(0.06, "InternalError", 500),
        error(0.06, "ServiceUnavailable", 503),
    ]
}

/// Connections to SQS are reset, before a call or within its answer, answers are cut short, and the rest is slow.
pub fn sqs_cuts() -> Vec<Value> {
    let cut = |effect: Value| with(json!({ "service": "sqs", "probability": 0.05 }), effect);
    vec![
        cut(json!({ "reset": true })),
        cut(json!({ "response": { "truncate_frac": 0.5 } })),
        cut(json!({ "response": { "truncate_bytes": 0 } })),
        cut(json!({ "response": { "abort_frac": 0.5 } })),
        json!({ "service": "sqs", "latency": { "min": 1, "max": 40 } }),
    ]
}

/// A fifth of all commands is refused, with what Redis says of itself.
pub fn redis_errors() -> Vec<Value> {
    let codes = ["LOADING Redis is loading the dataset in memory", "OOM command not allowed", "BUSY Redis is busy"];
    let more = ["READONLY You can't write against a read only replica.", "NOSCRIPT No matching script."];
    let rule = |code: &&str| json!({ "service": "redis", "probability": 0.045, "error": { "code": code } });
    codes.iter().chain(&more).map(rule).collect()
}

/// Connections to Redis are reset, before a command or within its answer, and the rest is slow.
pub fn redis_cuts() -> Vec<Value> {
    let cut = |effect: Value| with(json!({ "service": "redis", "probability": 0.04 }), effect);
    vec![
        cut(json!({ "reset": true })),
        cut(json!({ "cut_reply": { "after_bytes": 0 } })),
        cut(json!({ "cut_reply": { "after_bytes": 3 } })),
        json!({ "service": "redis", "latency": { "min": 0, "max": 10 } }),
    ]
}

/// Redis answers, and takes no write.
pub fn redis_full() -> Vec<Value> {
    vec![json!({ "service": "redis", "operation": "evalsha", "error": { "code": "OOM command not allowed" } })]
}

fn with(mut rule: Value, effect: Value) -> Value {
    let (rule_fields, effect) = (rule.as_object_mut().expect("an object"), effect);
    rule_fields.extend(effect.as_object().expect("an object").clone());
    rule
}
