//! The same requests through both doors: the set API of a real hookcache, and API Gateway into SQS with a real hookcache
//! behind it. What is taken ends as the same bytes under the same keys with the same time to live; what is refused is
//! refused by both. The gateway refuses with a status, or the consumer with a dead letter.

mod exceptions;
mod inputs;

use std::collections::BTreeMap;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use hookcache::auth::token::Token;
use http::Method;

use self::exceptions::{EXCEPTIONS, Exception};
use self::inputs::{ACCOUNT, Input, LONG_ACCOUNT, RESERVED_PREFIX, deletes, sets};
use super::door::{Door, StandIn};
use crate::support::LocalStack;
use crate::support::localstack::CALLER;
use crate::support::sqs::{RECEIVES_MAX, client, create_queues};
use crate::support::stack::take_letters;
use crate::support::{Hookcache, Queues, Redis, TempDir, eventually, http_send};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Taken,
    Refused,
    /// A status of 500 and more: nobody knows.
    Failed,
}

/// Where an exception holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doors {
    All,
    StandIn,
    LocalStack,
}

impl Doors {
    fn hold(self, door: &Door) -> bool {
        match self {
            Self::All => true,
            Self::StandIn => matches!(door, Door::StandIn(_)),
            Self::LocalStack => matches!(door, Door::LocalStack(_)),
        }
    }
}

/// What became of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fate {
    verdict: Verdict,
    /// What is found under its keys.
    entries: BTreeMap<String, Option<Entry>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    payload: Vec<u8>,
    account: String,
    flow: String,
    /// From the event's time, or the arrival, to the expiry.
    ttl: time::Duration,
    /// Of an event that its producer named.
    version: Option<String>,
}

/// One hookcache, with its own queues and store, and what it calls a refusal.
struct Side {
    hookcache: Hookcache,
    queues: Queues,
    sqs: Client,
    token: String,
    _redis: Redis,
}

impl Side {
    async fn start(endpoint_url: &str, queues: Queues, roles: &str) -> Self {
        let (redis, token, folder) = (Redis::start().await, Token::generate().unwrap(), TempDir::new().unwrap());
        let path = folder.path().join("hookcache.toml");
        let Queues { queue_url, dead_letter_url } = &queues;
        let text = format!(
            "[store]\nurl = \"{}\"\n[buffer]\nqueue_url = \"{queue_url}\"\ndead_letter_url = \"{dead_letter_url}\"\n\
             endpoint_url = \"{endpoint_url}\"\nwait = \"1s\"\n\
             [ttl]\nmax = \"36500d\"\n[keys.reserved]\n\"{RESERVED_PREFIX}\" = \"account:vip\"\n\
             [[auth.tokens]]\nname = \"upstream\"\nhash = \"{}\"\nscopes = [\"set\", \"get\"]\naccounts = [{ACCOUNT:?}, \
             {LONG_ACCOUNT:?}]\n\
             [[auth.callers]]\nname = \"{CALLER}\"\naccounts = [{ACCOUNT:?}, {LONG_ACCOUNT:?}]\n",
            redis.url(),
            token.hash(),
        );
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let hookcache = Hookcache::start(&["--config", &path, "--roles", roles], &[]).await;
        let token = format!("Bearer {}", token.reveal());
        Self { hookcache, queues, sqs: client(endpoint_url), token, _redis: redis }
    }

    /// The status that the set API answers.
    async fn post(&self, input: &Input) -> u16 {
        let url = format!("{}/v1/{}", self.hookcache.url(), input.call);
        let mut headers = vec![("authorization", self.token.as_str())];
        headers.extend(input.content_type.map(|content_type| ("content-type", content_type)));
        http_send(Method::POST, &url, &headers, input.body.clone()).await.status.as_u16()
    }

    /// Waits until each message is stored or dead, and takes the dead ones.
    async fn settle(&self) -> Vec<String> {
        let visible = QueueAttributeName::ApproximateNumberOfMessages;
        let taken = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
        let count = |url: String, names: Vec<QueueAttributeName>| async move {
            let call = self.sqs.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.clone()));
            let answer = call.send().await.expect("the queue's attributes");
            let number = |name| answer.attributes().and_then(|all| all.get(name)).and_then(|text| text.parse().ok());
            names.iter().map(|name| number(name).unwrap_or(0_usize)).sum::<usize>()
        };
        eventually("an empty queue", || async {
            let left = count(self.queues.queue_url.clone(), vec![visible.clone(), taken.clone()]).await;
            (left == 0).then_some(())
        })
        .await;
        let dead = count(self.queues.dead_letter_url.clone(), vec![visible]).await;
        let letters = take_letters(&self.sqs, &self.queues.dead_letter_url, dead).await;
        letters.into_iter().map(|letter| letter.body).collect()
    }

    async fn entries(&self, input: &Input) -> BTreeMap<String, Option<Entry>> {
        let mut entries = BTreeMap::new();
        for key in &input.keys {
            entries.insert(key.clone(), self.entry(key, &input.text()).await);
        }
        entries
    }

    async fn entry(&self, key: &str, body: &str) -> Option<Entry> {
        let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let url = format!("{}/v1/keys/{encoded}", self.hookcache.url());
        let reply = http_send(Method::GET, &url, &[("authorization", &self.token)], "").await;
        // Some of what is refused are keys that can't be.
        if reply.status == 404 || reply.status == 400 || reply.status == 414 {
            return None;
        }
        assert_eq!(reply.status, 200, "{key}: {}", reply.text());
        let version = reply.header("etag").trim_matches('"').to_owned();
        let time_ms = i64::from_str_radix(&version[16..32], 16).expect("a time");
        let expires_at = reply.header("hookcache-expires-at");
        let expires_at = time::OffsetDateTime::parse(expires_at, &time::format_description::well_known::Rfc3339);
        let time = time::OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(time_ms);
        Some(Entry {
            account: reply.header("hookcache-account-id").to_owned(),
            flow: reply.header("hookcache-flow-id").to_owned(),
            ttl: expires_at.expect("an expiry") - time,
            version: Some(version).filter(|_| body.contains("eventTime")),
            payload: reply.body.to_vec(),
        })
    }
}

/// Both doors, and what is behind them.
struct Both {
    door: Door,
    direct: Side,
    behind: Side,
}

impl Both {
    async fn start(door: Door) -> Self {
        let endpoint_url = door.endpoint_url();
        let queues = create_queues(&client(&endpoint_url), "direct", RECEIVES_MAX).await;
        let (direct, behind) = tokio::join!(
            Side::start(&endpoint_url, queues, "set,consume,get"),
            Side::start(&endpoint_url, door.queues().clone(), "consume,get"),
        );
        Self { door, direct, behind }
    }

    /// Everything through both; for each input its name, and its fate at the set API and at the gateway.
    async fn send(&self, inputs: &[Input]) -> Vec<(String, Fate, Fate)> {
        let (mut direct, mut gateway) = (Vec::new(), Vec::new());
        for input in inputs {
            direct.push(verdict(self.direct.post(input).await));
            let answer = self.door.post(input.call, input.content_type, &input.body).await;
            let id = (answer.status == 202).then(|| answer.json()["id"].as_str().expect("an id").to_owned());
            gateway.push((verdict(answer.status), id));
        }
        assert_eq!(self.direct.settle().await, Vec::<String>::new(), "what the set API takes is stored");
        let dead = self.behind.settle().await;
        let is_dead = |id: &str| dead.iter().any(|body| body.starts_with(&format!(r#"{{"v":1,"id":"{id}","#)));
        let mut fates = Vec::new();
        for ((input, direct), (at_gateway, id)) in inputs.iter().zip(direct).zip(gateway) {
            let refused_later = id.is_some_and(|id| is_dead(&id));
            let behind = if refused_later { Verdict::Refused } else { at_gateway };
            let direct = Fate { verdict: direct, entries: self.direct.entries(input).await };
            let behind = Fate { verdict: behind, entries: self.behind.entries(input).await };
            fates.push((input.name.clone(), direct, behind));
        }
        fates
    }
}

fn verdict(status: u16) -> Verdict {
    match status {
        200..300 => Verdict::Taken,
        400..500 => Verdict::Refused,
        _ => Verdict::Failed,
    }
}

async fn both_doors_do_the_same(door: Door) {
    let both = Both::start(door).await;
    let (sets, deletes) = (sets(), deletes());
    let mut fates = both.send(&sets).await;
    fates.extend(both.send(&deletes).await);
    assert!(fates.len() >= 60, "{}", fates.len());
    // Of each kind there are many, or the comparison would say little.
    for wanted in [Verdict::Taken, Verdict::Refused] {
        let alike = fates.iter().filter(|(_, direct, behind)| direct.verdict == wanted && direct == behind).count();
        assert!(alike >= 50, "only {alike} are {wanted:?} by both");
    }
    let mut wrong = Vec::new();
    let mut expected: Vec<&Exception> = EXCEPTIONS.iter().filter(|one| one.doors.hold(&both.door)).collect();
    for (name, direct, behind) in &fates {
        let verdicts = (direct.verdict, behind.verdict);
        let listed = expected.iter().position(|one| one.input == name && (one.set_api, one.gateway) == verdicts);
        match listed {
            Some(at) => drop(expected.remove(at)),
            None if direct == behind => {}
            None => wrong.push(format!(
                "{name}: {:.600} at the set API, {:.600} at the gateway",
                debug(direct),
                debug(behind)
            )),
        }
    }
    wrong.extend(expected.iter().map(|one| format!("{}: is listed, and does not differ", one.input)));
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), fates.len(), wrong.join("\n"));
}

fn debug(fate: &Fate) -> String {
    format!("{fate:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn both_doors_do_the_same_with_templates_by_velocity() {
    both_doors_do_the_same(Door::StandIn(Box::new(StandIn::start().await))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_both_doors_do_the_same_with_localstack() {
    both_doors_do_the_same(Door::LocalStack(Box::new(LocalStack::start().await))).await;
}
