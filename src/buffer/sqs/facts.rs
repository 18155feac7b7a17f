//! What a queue says of itself, as plain data: for `doctor`, and for `create`, which makes queues as `doctor` wants
//! them. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// A queue that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueFacts {
    /// By SQS's own names, such as `VisibilityTimeout`. What an endpoint doesn't know is not there.
    pub(super) attributes: BTreeMap<String, String>,
}

/// When the queue itself moves a message to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    pub target_arn: String,
    pub receives_max: u64,
}

impl QueueFacts {
    pub fn new(attributes: BTreeMap<String, String>) -> Self {
        Self { attributes }
    }

    /// As SQS says it; `None` where it is absent or empty.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.attribute(name)?.parse().ok()
    }

    pub fn seconds(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_secs)
    }

    pub fn arn(&self) -> Option<&str> {
        self.attribute("QueueArn")
    }

    pub fn redrive(&self) -> Option<Redrive> {
        let policy = self.json("RedrivePolicy")?;
        let count = &policy["maxReceiveCount"];
        // SQS itself writes a number, and takes text as well.
        let receives_max = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
        Some(Redrive { target_arn: policy["deadLetterTargetArn"].as_str()?.to_owned(), receives_max })
    }

    /// Whom a dead-letter queue names as the only queues that may move messages to it; `None` where it names none.
    pub fn redrive_sources(&self) -> Option<Vec<String>> {
        let policy = self.json("RedriveAllowPolicy")?;
        let sources = policy["sourceQueueArns"].as_array().filter(|_| policy["redrivePermission"] == "byQueue")?;
        Some(sources.iter().filter_map(|arn| arn.as_str().map(str::to_owned)).collect())
    }

    /// By SQS's own key or by one of KMS.
    pub fn is_encrypted(&self) -> bool {
        self.attribute("SqsManagedSseEnabled") == Some("true") || self.attribute("KmsMasterKeyId").is_some()
    }

    /// Does its policy refuse calls that come without TLS?
    pub fn is_tls_only(&self) -> bool {
        let refuses = |statement: &Value| {
            let secure = &statement["Condition"]["Bool"]["aws:SecureTransport"];
            statement["Effect"] == "Deny" && (secure == "false" || secure == &Value::Bool(false))
        };
        self.json("Policy").is_some_and(|policy| statements(&policy).iter().any(refuses))
    }

    pub(super) fn json(&self, name: &str) -> Option<Value> {
        serde_json::from_str(self.attribute(name)?).ok()
    }
}

/// The statements of a policy, which may be written as a list or as a single one.
pub(super) fn statements(policy: &Value) -> Vec<Value> {
    match &policy["Statement"] {
        Value::Array(list) => list.clone(),
        Value::Object(one) => vec![Value::Object(one.clone())],
        _ => Vec::new(),
    }
}
