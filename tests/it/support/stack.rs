//! Redis and SQS as production has them, and what a test reads of them behind the program's back.

use std::collections::BTreeMap;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;

use super::sqs::{Emulator, client};
use super::{Hookcache, Ministack, Queues, Redis, eventually, http_get};

pub struct Stack<S = Ministack> {
    pub redis: Redis,
    pub sqs: S,
    pub queues: Queues,
}

/// A dead letter as it lies in its queue.
#[derive(Debug)]
pub struct Letter {
    pub body: String,
    /// The string attributes beside it.
    pub attributes: BTreeMap<String, String>,
}

impl Letter {
    pub fn reason(&self) -> &str {
        self.attributes.get("reason").map_or("", String::as_str)
    }

    pub fn detail(&self) -> &str {
        self.attributes.get("detail").map_or("", String::as_str)
    }
}

impl Stack {
    pub async fn start() -> Self {
        let (redis, sqs) = tokio::join!(Redis::start(), Ministack::start());
        let queues = sqs.queues("webhooks").await;
        Self { redis, sqs, queues }
    }
}

impl<S: Emulator> Stack<S> {
    /// The lines of a configuration file that lead to it. They end inside a table of their own.
    pub fn toml(&self) -> String {
        let Queues { queue_url, dead_letter_url } = &self.queues;
        let (redis, endpoint) = (self.redis.url(), self.sqs.endpoint_url());
        format!(
            "[store]\nurl = \"{redis}\"\n[buffer]\nqueue_url = \"{queue_url}\"\ndead_letter_url = \
             \"{dead_letter_url}\"\nendpoint_url = \"{endpoint}\"\nwait = \"1s\"\n"
        )
    }

    /// The variables that lead the Lambda to it.
    pub fn function_environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("HOOKCACHE_STORE__URL", self.redis.url()),
            ("HOOKCACHE_BUFFER__QUEUE_URL", self.queues.queue_url.clone()),
            ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", self.queues.dead_letter_url.clone()),
            ("HOOKCACHE_BUFFER__ENDPOINT_URL", self.sqs.endpoint_url()),
        ]
    }

    /// The program over it, with more lines of configuration.
    pub async fn hookcache(&self, toml: &str, args: &[&str]) -> Hookcache {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("hookcache.toml");
        std::fs::write(&path, self.toml() + toml).expect("it is ours");
        let path = path.display().to_string();
        let hookcache = Hookcache::start(&[&["--config", path.as_str()], args].concat(), &[]).await;
        // Its file has been read; from here on it runs as it is.
        drop(folder);
        hookcache
    }

    fn client(&self) -> Client {
        client(&self.sqs.endpoint_url())
    }

    /// Puts a message into the queue by hand.
    pub async fn put(&self, body: &str) {
        let send = self.client().send_message().queue_url(&self.queues.queue_url).message_body(body);
        send.send().await.expect("the queue takes it");
    }

    /// Takes dead letters until there are this many. They are gone from their queue then.
    pub async fn take_dead(&self, count: usize) -> Vec<Letter> {
        take_letters(&self.client(), &self.queues.dead_letter_url, count).await
    }
}

/// Takes messages out of a queue until there are this many.
pub async fn take_letters(client: &Client, url: &str, count: usize) -> Vec<Letter> {
    let letters = std::sync::Mutex::new(Vec::new());
    eventually(&format!("{count} dead letters"), || async {
        let receive = client.receive_message().queue_url(url).max_number_of_messages(10);
        let received = receive.message_attribute_names("All").send().await.expect("an answer");
        let mut deletes = client.delete_message_batch().queue_url(url);
        for (index, message) in received.messages().iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string());
            let handle = message.receipt_handle().expect("a receipt");
            deletes = deletes.entries(entry.receipt_handle(handle).build().expect("an id and a receipt"));
            let text = |value: &aws_sdk_sqs::types::MessageAttributeValue| value.string_value().map(str::to_owned);
            let attributes = message.message_attributes().into_iter().flatten();
            let attributes = attributes.filter_map(|(name, value)| Some((name.clone(), text(value)?)));
            let body = message.body().unwrap_or_default().to_owned();
            letters.lock().expect("one task").push(Letter { body, attributes: attributes.collect() });
        }
        if !received.messages().is_empty() {
            let deleted = deletes.send().await.expect("an answer");
            assert!(deleted.failed().is_empty(), "{deleted:?}");
        }
        (letters.lock().expect("one task").len() >= count).then_some(())
    })
    .await;
    letters.into_inner().expect("one task")
}

/// A series of the metrics page; `None` where there is no such line.
pub fn series(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// How many messages were dead-lettered, by the page of `/metrics` of who would have done it.
pub fn dead_lettered(page: &str) -> f64 {
    let counts: Vec<f64> = page
        .lines()
        .filter(|line| line.starts_with("hookcache_dead_letters_total{"))
        .map(|line| line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number"))
        .collect();
    assert!(!counts.is_empty(), "every reason has a series: {page}");
    counts.iter().sum()
}

/// Waits until a series of `/metrics` has a value.
pub async fn until_series(hookcache: &Hookcache, name: &str, value: f64) {
    let url = format!("{}/metrics", hookcache.admin_url());
    eventually(&format!("{name} {value}"), || async {
        let page = http_get(&url).await.text();
        series(&page, name).filter(|found| *found == value)
    })
    .await;
}
