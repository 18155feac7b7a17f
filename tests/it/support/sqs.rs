//! Two independent SQS emulators, each a real process.

use std::ffi::OsString;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::types::QueueAttributeName;

use super::process::{Process, Recipe};
use super::{free_port, repository, tool};

const PROBE: &str = "GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
const REGION: &str = "us-east-1";
/// `maxReceiveCount`: a net for crashes, which no ordinary test reaches.
pub const RECEIVES_MAX: u32 = 1_000;

/// A queue and its dead-letter queue.
#[derive(Debug, Clone)]
pub struct Queues {
    pub queue_url: String,
    pub dead_letter_url: String,
}

/// Where queues lie.
pub trait Emulator {
    fn endpoint_url(&self) -> String;
}

/// From PyPI: strict about characters and receipts.
pub struct Ministack {
    process: Process,
}

/// From npm: written by others, in another language.
pub struct LocalAwsSqs {
    process: Process,
}

impl Ministack {
    pub async fn start() -> Self {
        Self::start_services("sqs").await
    }

    /// Several, with commas between them.
    pub async fn start_services(services: &str) -> Self {
        let port = free_port();
        let env = [
            ("GATEWAY_PORT", port.to_string()),
            ("BIND_HOST", "127.0.0.1".into()),
            ("MINISTACK_HOST", "127.0.0.1".into()),
            ("SERVICES", services.into()),
            ("LOG_LEVEL", "WARNING".into()),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), OsString::from(value))).to_vec();
        let program = tool("venv/bin/python");
        let args = ["-m", "ministack"].map(Into::into).to_vec();
        let recipe = Recipe { program, args, env, port, probe: PROBE, ready: &["HTTP/1.1 "] };
        Self { process: Process::start(recipe).await }
    }

    pub fn endpoint_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.process.port())
    }

    pub async fn queues(&self, name: &str) -> Queues {
        create_queues(&client(&self.endpoint_url()), name, RECEIVES_MAX).await
    }
}

impl Emulator for Ministack {
    fn endpoint_url(&self) -> String {
        Self::endpoint_url(self)
    }
}

impl LocalAwsSqs {
    pub async fn start() -> Self {
        let port = free_port();
        tool("npm/node_modules/local-aws-sqs");
        let script = repository().join("tests/tools/local-aws-sqs.js").into();
        let args = vec![script, port.to_string().into()];
        let recipe =
            Recipe { program: "node".into(), args, env: Vec::new(), port, probe: PROBE, ready: &["HTTP/1.1 "] };
        Self { process: Process::start(recipe).await }
    }

    pub fn endpoint_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.process.port())
    }

    pub async fn queues(&self, name: &str) -> Queues {
        create_queues(&client(&self.endpoint_url()), name, RECEIVES_MAX).await
    }
}

/// A plain client of an emulator, for what a test does behind our back.
pub fn client(endpoint_url: &str) -> Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(endpoint_url)
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .build();
    Client::from_conf(config)
}

/// Creates `name` and `name-dead`; after `receives_max` receives the queue itself moves a message.
pub async fn create_queues(client: &Client, name: &str, receives_max: u32) -> Queues {
    let dead_letter_url = create_queue(client, &format!("{name}-dead"), None).await;
    let answer = client.get_queue_attributes().queue_url(&dead_letter_url);
    let answer = answer.attribute_names(QueueAttributeName::QueueArn).send().await.expect("the queue's attributes");
    let arn = &answer.attributes().expect("attributes")[&QueueAttributeName::QueueArn];
    let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":{receives_max}}}"#);
    Queues { queue_url: create_queue(client, name, Some(policy)).await, dead_letter_url }
}

async fn create_queue(client: &Client, name: &str, redrive_policy: Option<String>) -> String {
    let mut request = client.create_queue().queue_name(name);
    if let Some(policy) = redrive_policy {
        request = request.attributes(QueueAttributeName::RedrivePolicy, policy);
    }
    request.send().await.expect("a new queue").queue_url.expect("its URL")
}
