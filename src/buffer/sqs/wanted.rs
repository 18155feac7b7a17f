//! What a queue should be like: what `create` makes, and what `doctor` measures by. Pure.

use std::time::Duration;

use serde_json::json;

use super::facts::{QueueFacts, statements};

const DAY: Duration = Duration::from_secs(86_400);
/// Receives that a queue must allow at least, and should allow (SQS's own most): its limit is a net for crashes, not
/// for outages, in which messages are received again and again.
pub const RECEIVES_MIN: u64 = 100;
pub const RECEIVES_ADVISED: u64 = 1_000;
/// How long a queue must keep messages at least, and should keep them. An outage of the store that lasts longer is the
/// one way in which SQS itself loses what was accepted; wire forms are of use for 15 days.
pub const RETENTION_MIN: Duration = Duration::from_secs(4 * DAY.as_secs());
pub const RETENTION_ADVISED: Duration = Duration::from_secs(10 * DAY.as_secs());
/// How long dead letters should be kept: SQS's longest. What the queue itself moved keeps its age, so this is longer
/// than [`RETENTION_ADVISED`]: whoever mends the cause has four days at least.
pub const DEAD_RETENTION_ADVISED: Duration = Duration::from_secs(14 * DAY.as_secs());
/// The largest message: SQS's own most, which the largest wire form and what goes beside it fit into.
pub const MESSAGE_BYTES: u64 = 1 << 20;
/// For whoever else receives: hookcache names its own wait with each poll.
const LONG_POLL: Duration = Duration::from_secs(20);
const TLS_ONLY_SID: &str = "TlsOnly";

/// One attribute that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub attribute: &'static str,
    pub from: Option<String>,
    pub to: String,
}

/// How the queue of a buffer should be.
#[derive(Debug, Clone)]
pub(super) struct WantedQueue<'a> {
    pub arn: &'a str,
    pub dead_letter_arn: &'a str,
    pub visibility: Duration,
    pub transport: Transport,
}

/// How its dead-letter queue should be.
#[derive(Debug, Clone)]
pub(super) struct WantedDeadLetters<'a> {
    pub arn: &'a str,
    pub queue_arn: &'a str,
    pub transport: Transport,
}

/// How queues are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tls,
    /// Plain HTTP: a queue that asks for TLS could not be reached.
    Plain,
}

impl WantedQueue<'_> {
    /// What differs. An attribute that is better than asked for stays.
    pub fn changes(&self, found: &QueueFacts) -> Vec<Change> {
        let mut changes = Changes::new(found);
        changes.at_least("VisibilityTimeout", seconds_up(self.visibility));
        changes.at_least("MessageRetentionPeriod", RETENTION_ADVISED.as_secs());
        changes.common(self.arn, self.transport);
        let fine = |redrive: &super::facts::Redrive| {
            redrive.target_arn == self.dead_letter_arn && redrive.receives_max >= RECEIVES_ADVISED
        };
        if !found.redrive().is_some_and(|redrive| fine(&redrive)) {
            let policy =
                json!({ "deadLetterTargetArn": self.dead_letter_arn, "maxReceiveCount": RECEIVES_ADVISED.to_string() });
            changes.set("RedrivePolicy", policy.to_string());
        }
        changes.list
    }
}

impl WantedDeadLetters<'_> {
    pub fn changes(&self, found: &QueueFacts) -> Vec<Change> {
        let mut changes = Changes::new(found);
        changes.at_least("MessageRetentionPeriod", DEAD_RETENTION_ADVISED.as_secs());
        changes.common(self.arn, self.transport);
        let mut sources = found.redrive_sources().unwrap_or_default();
        if !sources.iter().any(|arn| arn == self.queue_arn) {
            sources.push(self.queue_arn.to_owned());
            let policy = json!({ "redrivePermission": "byQueue", "sourceQueueArns": sources });
            changes.set("RedriveAllowPolicy", policy.to_string());
        }
        changes.list
    }
}

struct Changes<'a> {
    found: &'a QueueFacts,
    list: Vec<Change>,
}

impl<'a> Changes<'a> {
    fn new(found: &'a QueueFacts) -> Self {
        Self { found, list: Vec::new() }
    }

    fn set(&mut self, attribute: &'static str, to: impl Into<String>) {
        let from = self.found.attribute(attribute).map(str::to_owned);
        self.list.push(Change { attribute, from, to: to.into() });
    }

    fn at_least(&mut self, attribute: &'static str, least: u64) {
        if self.found.number(attribute).is_none_or(|found| found < least) {
            self.set(attribute, least.to_string());
        }
    }

    /// What both queues should have.
    fn common(&mut self, arn: &str, transport: Transport) {
        self.at_least("MaximumMessageSize", MESSAGE_BYTES);
        self.at_least("ReceiveMessageWaitTimeSeconds", LONG_POLL.as_secs());
        if self.found.number("DelaySeconds").is_some_and(|delay| delay > 0) {
            self.set("DelaySeconds", "0");
        }
        if !self.found.is_encrypted() {
            self.set("SqsManagedSseEnabled", "true");
        }
        // A policy that can't be read is its owner's affair.
        let readable = self.found.attribute("Policy").is_none() || self.found.json("Policy").is_some();
        if transport == Transport::Tls && readable && !self.found.is_tls_only() {
            self.set("Policy", with_tls_only(self.found, arn));
        }
    }
}

/// The queue's policy with one more statement; what else it says stays.
fn with_tls_only(found: &QueueFacts, arn: &str) -> String {
    let mut policy = found.json("Policy").unwrap_or_else(|| json!({ "Version": "2012-10-17" }));
    let mut all = statements(&policy);
    all.push(json!({
        "Sid": TLS_ONLY_SID, "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": arn,
        "Condition": { "Bool": { "aws:SecureTransport": "false" } },
    }));
    policy["Statement"] = all.into();
    policy.to_string()
}

fn seconds_up(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: &str = "arn:aws:sqs:eu-west-1:1:q";
    const DEAD: &str = "arn:aws:sqs:eu-west-1:1:q-dead";

    fn facts(attributes: &[(&str, &str)]) -> QueueFacts {
        QueueFacts::new(attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn queue(transport: Transport) -> WantedQueue<'static> {
        WantedQueue { arn: QUEUE, dead_letter_arn: DEAD, visibility: Duration::from_millis(60_500), transport }
    }

    fn dead(transport: Transport) -> WantedDeadLetters<'static> {
        WantedDeadLetters { arn: DEAD, queue_arn: QUEUE, transport }
    }

    /// The queue after its changes.
    fn after(found: &QueueFacts, changes: &[Change]) -> QueueFacts {
        let mut attributes = found.attributes.clone();
        attributes.extend(changes.iter().map(|change| (change.attribute.to_owned(), change.to.clone())));
        QueueFacts::new(attributes)
    }

    #[test]
    fn what_was_changed_needs_no_change() {
        let fresh = facts(&[("VisibilityTimeout", "30"), ("MessageRetentionPeriod", "345600"), ("DelaySeconds", "5")]);
        for transport in [Transport::Tls, Transport::Plain] {
            let changes = queue(transport).changes(&fresh);
            assert_eq!(queue(transport).changes(&after(&fresh, &changes)), []);
            assert!(changes.iter().any(|change| change.attribute == "VisibilityTimeout" && change.to == "61"));
            assert_eq!(changes.iter().any(|change| change.attribute == "Policy"), transport == Transport::Tls);
            let changes = dead(transport).changes(&fresh);
            assert_eq!(dead(transport).changes(&after(&fresh, &changes)), []);
        }
    }

    #[test]
    fn what_is_better_than_asked_for_stays() {
        let better = [
            ("VisibilityTimeout", "43200"),
            ("MessageRetentionPeriod", "1209600"),
            ("MaximumMessageSize", "1048576"),
            ("ReceiveMessageWaitTimeSeconds", "20"),
            ("KmsMasterKeyId", "alias/ours"),
            ("RedrivePolicy", r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:1:q-dead","maxReceiveCount":1000}"#),
        ];
        assert_eq!(queue(Transport::Plain).changes(&facts(&better)), []);
    }

    #[test]
    fn what_others_wrote_into_policies_stays_in_them() {
        let theirs = r#"{"Version":"2012-10-17","Id":"x","Statement":{"Sid":"Theirs","Effect":"Allow"}}"#;
        let sources = r#"{"redrivePermission":"byQueue","sourceQueueArns":["arn:other"]}"#;
        let found = facts(&[("Policy", theirs), ("RedriveAllowPolicy", sources)]);
        let changes = dead(Transport::Tls).changes(&found);
        let to = |name: &str| &changes.iter().find(|change| change.attribute == name).expect(name).to;
        assert!(to("Policy").contains("Theirs") && to("Policy").contains(TLS_ONLY_SID), "{}", to("Policy"));
        assert!(to("RedriveAllowPolicy").contains("arn:other") && to("RedriveAllowPolicy").contains(QUEUE));
        let unreadable = facts(&[("Policy", "not JSON")]);
        assert!(dead(Transport::Tls).changes(&unreadable).iter().all(|change| change.attribute != "Policy"));
    }
}
