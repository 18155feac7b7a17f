//! What is set and deleted: a seeded stream of events, and what became of each.

use std::collections::BTreeSet;
use std::sync::Arc;

use hookcache::envelope::Version;
use serde_json::{Value, json};

/// Who owns the common keys, in turn.
const ACCOUNTS: [&str; 3] = ["acme", "globex", "initech"];
const INTRUDER: &str = "intruder";
/// Keys whose entries are set once, before all faults, and stay; those that lapse; those that live a second only.
pub const OWNED: usize = 8;
const LAPSING: usize = 8;
const BRIEF: usize = 20;
const INTRUDERS: usize = 20;
const KEYS_PER_EVENT_MAX: usize = 4;
/// How far an event may lie back when it is sent.
const EVENT_AGE_MS_MAX: u64 = 3_000;
/// `ttl.default`, and the one that some sets ask for.
const TTL_DEFAULT_SECONDS: u64 = 7 * 86_400;
const TTL_LONG_SECONDS: u64 = 3_600;
const PAYLOAD_BYTES_MAX: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Set { ttl_seconds: Option<u64>, padding: usize },
    Delete,
}

/// One event, as its producer knows it.
#[derive(Debug)]
pub struct Event {
    pub number: usize,
    pub account: &'static str,
    pub keys: Vec<String>,
    pub action: Action,
    /// Event id and time, where its producer names it.
    pub named: Option<(String, u64)>,
}

/// One version that the cache may hold because of an event: the event itself where its producer names it, otherwise
/// each attempt to send it.
#[derive(Debug)]
pub struct Candidate {
    pub event: Arc<Event>,
    pub attempt: u32,
    /// Unknown where an attempt was never answered. Hexadecimal, as in an ETag: compares as the versions do.
    pub version: Option<String>,
    pub accepted: bool,
    /// Those of its acceptances.
    pub ids: Vec<String>,
}

impl Event {
    pub fn payload(&self, attempt: u32) -> String {
        let Action::Set { padding, .. } = self.action else { return String::new() };
        let attempt = if self.named.is_some() { 0 } else { attempt };
        format!(r#"{{"n":{}, "try":{attempt}, "pad":"{}"}}"#, self.number, "x".repeat(padding))
    }

    /// The body of its request.
    pub fn body(&self, attempt: u32) -> String {
        let mut body = json!({ "accountId": self.account, "webhookKeys": self.keys });
        if let Some((id, time_ms)) = &self.named {
            body["eventId"] = id.as_str().into();
            body["eventTime"] = rfc_3339(*time_ms).into();
        }
        let Action::Set { ttl_seconds, .. } = self.action else { return body.to_string() };
        body["flowId"] = "orders".into();
        if let Some(seconds) = ttl_seconds {
            body["ttlSeconds"] = seconds.into();
        }
        let mut text = body.to_string();
        text.truncate(text.len() - 1);
        // Its own bytes, spaces and all: they must come back as they are.
        format!(r#"{text},"data":{}}}"#, self.payload(attempt))
    }

    /// May it write under this key? An intruder may not, where the key is owned.
    pub fn may_write(&self, key: &str) -> bool {
        self.account != INTRUDER || !key.starts_with("owned:")
    }

    pub fn is_foreign(&self) -> bool {
        self.keys.iter().any(|key| !self.may_write(key))
    }

    /// When what has this version goes, in milliseconds since the epoch; a delete leaves nothing that could.
    pub fn expires_at_ms(&self, version: &str) -> u64 {
        let Action::Set { ttl_seconds, .. } = self.action else { return 0 };
        time_ms(version) + ttl_seconds.unwrap_or(TTL_DEFAULT_SECONDS) * 1_000
    }
}

/// The event time in a version.
fn time_ms(version: &str) -> u64 {
    u64::from_str_radix(&version[16..32], 16).expect("a version in hexadecimal digits")
}

pub fn rfc_3339(ms: u64) -> String {
    hookcache::envelope::stamp::rfc_3339(ms)
}

/// The version of an acceptance: its id is a UUIDv7, which begins with its time.
pub fn version_of_arrival(id: &str) -> String {
    let digits: String = id.chars().filter(|c| *c != '-').take(12).collect();
    let at_ms = u64::from_str_radix(&digits, 16).unwrap_or_else(|e| panic!("{id} is no UUID: {e}"));
    Version::of_arrival(0, at_ms, id).to_string()
}

pub fn now_ms() -> u64 {
    hookcache::envelope::Clock::system().now_ms()
}

/// The seeded stream.
pub struct Events {
    random: fastrand::Rng,
    seed: u64,
    number: usize,
    common: usize,
}

impl Events {
    /// Over this many common keys.
    pub fn new(seed: u64, common: usize) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), seed, number: 0, common }
    }

    /// What is there before all faults: an owner for each owned key, and what later lapses.
    pub fn first(&mut self) -> Vec<Arc<Event>> {
        let keys = (0..OWNED).map(|i| format!("owned:{i}")).chain((0..LAPSING).map(|i| format!("lapsing:{i}")));
        keys.map(|key| self.event(ACCOUNTS[0], vec![key], set(None, 0), None)).collect()
    }

    /// Requests of one event, or of an array of sets, until there are this many events.
    pub fn requests(&mut self, events: usize, array_max: usize) -> Vec<Vec<Arc<Event>>> {
        let (mut requests, mut left) = (Vec::new(), events);
        while left > 0 {
            let first = self.any();
            let mut request = vec![first];
            while request[0].action != Action::Delete && request.len() < left.min(array_max) && self.random.u8(..) > 16
            {
                let next = self.any();
                if next.action == Action::Delete {
                    break;
                }
                request.push(next);
            }
            left -= request.len();
            requests.push(request);
        }
        requests
    }

    fn any(&mut self) -> Arc<Event> {
        match self.random.u8(..100) {
            0..75 => self.common(|random| {
                let ttl = random.bool().then_some(TTL_LONG_SECONDS);
                set(ttl, random.usize(..PAYLOAD_BYTES_MAX))
            }),
            75..85 => self.common(|_| Action::Delete),
            85..90 => {
                let keys = vec![self.key("owned", OWNED), self.key("intruder", INTRUDERS)];
                let named = self.maybe_named();
                self.event(INTRUDER, keys, set(None, 10), named)
            }
            90..95 => {
                let (key, named) = (self.key("brief", BRIEF), self.maybe_named());
                self.event(ACCOUNTS[0], vec![key], set(Some(1), 10), named)
            }
            _ => {
                let (key, named) = (self.key("lapsing", LAPSING), Some(self.name(now_ms())));
                self.event(ACCOUNTS[0], vec![key], set(Some(1), 10), named)
            }
        }
    }

    fn common(&mut self, action: impl FnOnce(&mut fastrand::Rng) -> Action) -> Arc<Event> {
        let (account, count) = (self.random.usize(..ACCOUNTS.len()), self.random.usize(1..=KEYS_PER_EVENT_MAX));
        // Every third key is of this account.
        let key = |random: &mut fastrand::Rng| {
            let row = random.usize(..self.common / ACCOUNTS.len());
            format!("common:{}", row * ACCOUNTS.len() + account)
        };
        let keys: BTreeSet<String> = (0..count).map(|_| key(&mut self.random)).collect();
        let (named, action) = (self.maybe_named(), action(&mut self.random));
        self.event(ACCOUNTS[account], keys.into_iter().collect(), action, named)
    }

    fn key(&mut self, kind: &str, count: usize) -> String {
        format!("{kind}:{}", self.random.usize(..count))
    }

    fn maybe_named(&mut self) -> Option<(String, u64)> {
        let time_ms = now_ms() - self.random.u64(..EVENT_AGE_MS_MAX);
        self.random.bool().then(|| self.name(time_ms))
    }

    fn name(&self, time_ms: u64) -> (String, u64) {
        (format!("{}-{}", self.seed, self.number), time_ms)
    }

    fn event(
        &mut self,
        account: &'static str,
        keys: Vec<String>,
        action: Action,
        named: Option<(String, u64)>,
    ) -> Arc<Event> {
        self.number += 1;
        Arc::new(Event { number: self.number - 1, account, keys, action, named })
    }
}

fn set(ttl_seconds: Option<u64>, padding: usize) -> Action {
    Action::Set { ttl_seconds, padding }
}

/// A message that nobody can store, and the reason code of its dead letter.
pub fn poison(number: usize) -> (String, &'static str) {
    let id = format!("poison-{number}");
    let wire = |at_ms: u64, request: Value| json!({ "v": 1, "id": id, "at": at_ms, "by": "hand", "set": request });
    let request = json!({ "accountId": "acme", "flowId": "f", "webhookKeys": ["poison"], "data": 1 });
    const DAYS_16_MS: u64 = 16 * 86_400_000;
    match number % 4 {
        0 => (format!("{id}, which is no JSON"), "not-decodable"),
        1 => (wire(now_ms(), request).to_string().replacen("\"v\":1", "\"v\":1,\"v\":1", 1), "not-decodable"),
        2 => (wire(now_ms(), json!({ "accountId": "acme" })).to_string(), "not-valid"),
        _ => (wire(now_ms() - DAYS_16_MS, request).to_string(), "too-old"),
    }
}
