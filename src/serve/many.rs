//! Many keys in one call. The payloads are spliced into the answer as the bytes that they are.

use std::collections::HashSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;

use super::{Ready, Serve, Text};
use crate::auth::Caller;
use crate::envelope::{WebhookKey, first_items};
use crate::problem::{Code, Item, Problem};

/// Webhook keys that one call may ask for.
pub const KEYS_PER_GET_MAX: usize = 1_000;
/// Largest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Keys that are read at once: the answer's size is looked at in between, so that it bounds the memory taken.
const KEYS_PER_READ: usize = 32;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request<'a> {
    #[serde(borrow)]
    webhook_keys: &'a RawValue,
}

/// What stands beside the payload. Its members come before `data`, which is spliced in.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Meta<'a> {
    e_tag: &'a str,
    account_id: &'a str,
    flow_id: &'a str,
    id: &'a str,
    expires_at: Option<&'a str>,
}

impl Serve {
    /// `{"entries": {key: {eTag, accountId, flowId, id, expiresAt, data}}, "missing": [key]}`. One key that can't be
    /// read fails the call: an answer that left it out would call it missing.
    pub async fn get_many(&self, caller: &Caller, body: &[u8]) -> Result<Bytes, Problem> {
        let keys = requested(body)?;
        let share = self
            .large_gets
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Problem::new(Code::Internal, "the server reads no more"))?;
        let mut answer = Answer::new();
        for (chunk, keys) in keys.chunks(KEYS_PER_READ).enumerate() {
            for (index, (key, found)) in keys.iter().zip(self.find(keys).await).enumerate() {
                let named = |problem| with_key(problem, chunk * KEYS_PER_READ + index);
                let found = found.map_err(|error| named(self.unreadable(key, &error)))?;
                answer.add(key, found.get().filter(|ready| caller.accounts.allow(&ready.account)))?;
            }
        }
        Ok(Bytes::from_owner(Held { bytes: answer.finish(), _share: share }))
    }
}

/// Tells which of the keys it was, where the fault is one key's and not the store's.
fn with_key(problem: Problem, index: usize) -> Problem {
    if problem.code != Code::EntryUnreadable {
        return problem;
    }
    let (pointer, detail) = (format!("/webhookKeys/{index}"), problem.detail.clone());
    problem.with_errors(vec![Item { pointer, code: Code::EntryUnreadable.as_str(), detail }])
}

/// An answer that keeps its share until it is sent, since a client that reads slowly keeps its memory till then.
struct Held {
    bytes: Vec<u8>,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn requested(body: &[u8]) -> Result<Vec<WebhookKey>, Problem> {
    let invalid = |pointer: String, detail: String| {
        let problem = Problem::new(Code::InvalidRequest, format!("{pointer} {detail}").trim().to_owned());
        problem.with_errors(vec![Item { pointer, code: Code::InvalidRequest.as_str(), detail }])
    };
    let request: Request<'_> = serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        if error.is_data() {
            invalid(String::new(), format!(r#"must be {{"webhookKeys": [...]}}; see {place}"#))
        } else {
            Problem::new(Code::MalformedJson, format!("not JSON in UTF-8 at {place}"))
        }
    })?;
    let texts: Vec<String> = first_items(request.webhook_keys.get(), KEYS_PER_GET_MAX)
        .map_err(|_| invalid("/webhookKeys".to_owned(), "must be an array of texts".to_owned()))?;
    let count = texts.len();
    if !(1..=KEYS_PER_GET_MAX).contains(&count) {
        return Err(invalid("/webhookKeys".to_owned(), format!("must name 1 to {KEYS_PER_GET_MAX} keys")));
    }
    let (mut seen, mut keys) = (HashSet::with_capacity(count), Vec::with_capacity(count));
    for (index, text) in texts.iter().enumerate() {
        let pointer = || format!("/webhookKeys/{index}");
        let key = WebhookKey::parse(text).map_err(|e| invalid(pointer(), e.to_string()))?;
        if !seen.insert(key.clone()) {
            return Err(invalid(pointer(), "must name each key once".to_owned()));
        }
        keys.push(key);
    }
    Ok(keys)
}

/// The answer as it grows.
struct Answer {
    bytes: Vec<u8>,
    missing: Vec<String>,
    first: bool,
}

impl Answer {
    fn new() -> Self {
        Self { bytes: br#"{"entries":{"#.to_vec(), missing: Vec::new(), first: true }
    }

    fn add(&mut self, key: &WebhookKey, ready: Option<&Ready>) -> Result<(), Problem> {
        let Some(ready) = ready else {
            self.missing.push(key.to_string());
            return Ok(());
        };
        // They were texts when they were made ready.
        let text = |text| std::str::from_utf8(ready.text(text)).unwrap_or_default();
        let meta = Meta {
            e_tag: text(Text::ETag),
            account_id: text(Text::Account),
            flow_id: text(Text::Flow),
            id: text(Text::Id),
            expires_at: Some(text(Text::ExpiresAt)).filter(|text| !text.is_empty()),
        };
        let (key, meta) = (json(key.as_str()), json(&meta));
        let size = self.bytes.len() + key.len() + meta.len() + ready.payload().len();
        if size > ANSWER_BYTES_MAX {
            let detail = format!("the entries take more than {ANSWER_BYTES_MAX} bytes together: ask for fewer keys");
            return Err(Problem::new(Code::AnswerTooLarge, detail).with_size(ANSWER_BYTES_MAX as u64, size as u64));
        }
        if !std::mem::take(&mut self.first) {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(&key);
        self.bytes.push(b':');
        self.bytes.extend_from_slice(&meta[..meta.len() - 1]);
        self.bytes.extend_from_slice(br#","data":"#);
        self.bytes.extend_from_slice(ready.payload());
        self.bytes.push(b'}');
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(br#"},"missing":"#);
        self.bytes.extend_from_slice(&json(&self.missing));
        self.bytes.push(b'}');
        self.bytes
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain strings are always JSON")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::envelope::{Account, Flow, Version};
    use crate::store::Entry;
    use crate::store::l1::Make;

    fn entry(payload: Bytes) -> Ready {
        Ready::make(Entry {
            version: Version::of_event(0, 1, "e"),
            expires_at_ms: None,
            account: Account::parse("a").unwrap(),
            flow: Flow::parse("f").unwrap(),
            id: "i".into(),
            payload,
        })
    }

    fn key(name: &str) -> WebhookKey {
        WebhookKey::parse(name).unwrap()
    }

    #[test]
    fn payloads_are_spliced_in_as_their_bytes() {
        let mut answer = Answer::new();
        answer.add(&key("a\"b"), Some(&entry(Bytes::from_static(b"{ \"x\":1e400 }")))).unwrap();
        answer.add(&key("gone"), None).unwrap();
        answer.add(&key("c"), Some(&entry(Bytes::from_static(b"1.0")))).unwrap();
        let text = String::from_utf8(answer.finish()).unwrap();
        let tag = Version::of_event(0, 1, "e");
        let meta = format!(r#""eTag":"\"{tag}\"","accountId":"a","flowId":"f","id":"i","expiresAt":null"#);
        let want = format!(
            r#"{{"entries":{{"a\"b":{{{meta},"data":{{ "x":1e400 }}}},"c":{{{meta},"data":1.0}}}},"missing":["gone"]}}"#
        );
        assert_eq!(text, want);
    }

    #[test]
    fn an_answer_is_bounded() {
        let mut answer = Answer::new();
        let payload = Bytes::from(vec![b'1'; ANSWER_BYTES_MAX / 2]);
        answer.add(&key("a"), Some(&entry(payload.clone()))).unwrap();
        let problem = answer.add(&key("b"), Some(&entry(payload))).unwrap_err();
        assert_eq!(problem.code, Code::AnswerTooLarge);
    }

    #[tokio::test]
    async fn an_answer_keeps_its_share_until_it_is_dropped() {
        let shares = Arc::new(Semaphore::new(1));
        let share = shares.clone().acquire_owned().await.unwrap();
        let answer = Bytes::from_owner(Held { bytes: b"{}".to_vec(), _share: share });
        let sent = answer.slice(1..);
        drop(answer);
        assert_eq!(shares.available_permits(), 0);
        drop(sent);
        assert_eq!(shares.available_permits(), 1);
    }

    #[test]
    fn a_call_names_1_to_1000_keys_each_once() {
        let body = |keys: &[String]| serde_json::json!({ "webhookKeys": keys }).to_string();
        let many = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        assert_eq!(requested(body(&many(1_000)).as_bytes()).unwrap().len(), 1_000);
        for (keys, pointer) in [
            (many(0), "/webhookKeys"),
            (many(1_001), "/webhookKeys"),
            (vec!["a".into(), "a".into()], "/webhookKeys/1"),
            (vec!["a\0".into()], "/webhookKeys/0"),
        ] {
            assert_eq!(requested(body(&keys).as_bytes()).unwrap_err().errors[0].pointer, pointer);
        }
        for (text, code) in [
            ("{", Code::MalformedJson),
            ("{}", Code::InvalidRequest),
            (r#"{"webhookKeys":["a"],"x":1}"#, Code::InvalidRequest),
            (r#"{"webhookKeys":[1]}"#, Code::InvalidRequest),
        ] {
            assert_eq!(requested(text.as_bytes()).unwrap_err().code, code, "{text}");
        }
    }
}
