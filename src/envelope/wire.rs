//! The wire form: what lies in the buffer.
//!
//! ```json
//! {"v":1,"id":"018f...","at":1767225600123,"by":"upstream","set":{...}}
//! ```
//!
//! or `"delete":{...}` in place of `"set"`. The request is the last member, byte for byte as it came. The set API and
//! the API Gateway template both make this form. Whoever takes it out of the buffer parses and checks all of it again:
//! an unknown or duplicate member is poison, so that a request which breaks out of its place can't forge `at`, `id` or
//! `by`. One more member, `order`, is allowed where `by` is a source of our own.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::limits::{
    ARRIVAL_MS_MAX, CALLER_BYTES_MAX, EVENT_TIME_AHEAD_MAX, FAN_OUT_BYTES_MAX, HORIZON, ID_BYTES_MAX, WIRE_BYTES_MAX,
};
use super::names::{Account, Flow, WebhookKey};
use super::request::{DeleteRequest, Event, SetRequest};
use super::stamp::Stamp;
use super::version::Version;

/// The version of the wire form that this code reads and writes.
const WIRE_VERSION: u64 = 1;
/// A caller whose name starts so is a source of our own; no token can have such a name.
pub const SOURCE_PREFIX: &str = "source:";

/// A wire form ready to be appended.
#[derive(Debug, Clone)]
pub struct WireForm {
    pub id: String,
    /// Names the queue's message group, so that one noisy account doesn't delay the others.
    pub account: Account,
    /// W3C trace context of the request, carried beside the body.
    pub traceparent: Option<String>,
    pub body: Bytes,
}

/// Which request a wire form carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Set,
    Delete,
}

/// The wire form is longer than [`WIRE_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the wire form takes {size_bytes} bytes, of which at most {WIRE_BYTES_MAX} are allowed")]
pub struct TooLarge {
    pub size_bytes: usize,
}

/// Puts the wire form around a request that [`SetRequest::parse`] or [`DeleteRequest::parse`] accepted.
pub fn encode(stamp: &Stamp, by: &str, kind: Kind, request: &str) -> Result<Bytes, TooLarge> {
    wrap(&head(stamp, by, "", kind), request)
}

/// The same for a source of our own, which says in which order its requests belong.
pub fn encode_in_order(stamp: &Stamp, source: &str, order: u64, kind: Kind, request: &str) -> Result<Bytes, TooLarge> {
    wrap(&head_in_order(stamp, source, order, kind), request)
}

/// How many bytes [`encode_in_order`] leaves for the request.
pub fn room_in_order(stamp: &Stamp, source: &str, order: u64, kind: Kind) -> usize {
    WIRE_BYTES_MAX.saturating_sub(head_in_order(stamp, source, order, kind).len() + 1)
}

fn head_in_order(stamp: &Stamp, source: &str, order: u64, kind: Kind) -> String {
    head(stamp, source, &format!(r#","order":{order}"#), kind)
}

fn head(stamp: &Stamp, by: &str, order: &str, kind: Kind) -> String {
    let by = serde_json::to_string(by).expect("a string is always JSON");
    let member = match kind {
        Kind::Set => "set",
        Kind::Delete => "delete",
    };
    let Stamp { id, at_ms } = stamp;
    format!(r#"{{"v":{WIRE_VERSION},"id":"{id}","at":{at_ms},"by":{by}{order},"{member}":"#)
}

fn wrap(head: &str, request: &str) -> Result<Bytes, TooLarge> {
    let size_bytes = head.len() + request.len() + 1;
    if size_bytes > WIRE_BYTES_MAX {
        return Err(TooLarge { size_bytes });
    }
    let mut body = Vec::with_capacity(size_bytes);
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(request.as_bytes());
    body.push(b'}');
    Ok(body.into())
}

/// One event, read from the buffer and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub id: String,
    /// Arrival at the edge, milliseconds since the epoch.
    pub at_ms: u64,
    pub by: String,
    pub account: Account,
    pub keys: Vec<WebhookKey>,
    pub version: Version,
    pub action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Set { flow: Flow, payload: Bytes, ttl_seconds: Option<u64> },
    Delete,
}

/// Why a wire form can never be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    pub code: PoisonCode,
    /// For the operator; never holds a value of the payload.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoisonCode {
    /// Not a wire form that this version reads.
    NotDecodable,
    /// A wire form whose request breaks a rule.
    NotValid,
    /// `by` may not set this account, or a key is reserved to another.
    ForbiddenAccount,
    /// A key is owned by another account.
    ForeignKey,
    /// A key holds a value that hookcache did not write; it is left alone.
    UnreadableEntry,
    /// `at` is older than the horizon.
    TooOld,
    /// It failed on its own, again and again, while the store was healthy.
    AttemptsExhausted,
    /// The queue itself moved it, after too many receives.
    ReceiveCountExceeded,
}

impl PoisonCode {
    pub const ALL: [Self; 8] = [
        Self::NotDecodable,
        Self::NotValid,
        Self::ForbiddenAccount,
        Self::ForeignKey,
        Self::UnreadableEntry,
        Self::TooOld,
        Self::AttemptsExhausted,
        Self::ReceiveCountExceeded,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotDecodable => "not-decodable",
            Self::NotValid => "not-valid",
            Self::ForbiddenAccount => "forbidden-account",
            Self::ForeignKey => "foreign-key",
            Self::UnreadableEntry => "unreadable-entry",
            Self::TooOld => "too-old",
            Self::AttemptsExhausted => "attempts-exhausted",
            Self::ReceiveCountExceeded => "receive-count-exceeded",
        }
    }
}

impl fmt::Display for PoisonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn poison(code: PoisonCode, detail: impl Into<String>) -> Poison {
    Poison { code, detail: detail.into() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    v: u64,
    #[serde(borrow)]
    id: Cow<'a, str>,
    at: u64,
    #[serde(borrow)]
    by: Cow<'a, str>,
    #[serde(default)]
    order: Option<u64>,
    #[serde(borrow, default)]
    set: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delete: Option<&'a RawValue>,
}

/// Reads a wire form and checks all of it. `now_ms` decides whether it is too old.
pub fn decode(body: &Bytes, now_ms: u64) -> Result<Envelope, Poison> {
    use PoisonCode::{NotDecodable, NotValid, TooOld};

    if body.len() > WIRE_BYTES_MAX {
        return Err(poison(NotDecodable, TooLarge { size_bytes: body.len() }.to_string()));
    }
    let text = std::str::from_utf8(body).map_err(|e| poison(NotDecodable, format!("not UTF-8: {e}")))?;
    let raw: Raw<'_> = serde_json::from_str(text)
        .map_err(|e| poison(NotDecodable, format!("not a wire form at line {}, column {}", e.line(), e.column())))?;
    if raw.v != WIRE_VERSION {
        return Err(poison(NotDecodable, format!("wire form version {}; this program reads {WIRE_VERSION}", raw.v)));
    }
    check_head(&raw).map_err(|detail| poison(NotValid, detail))?;
    if raw.at.saturating_add(HORIZON.as_millis() as u64) < now_ms {
        let days = HORIZON.as_secs() / 86_400;
        return Err(poison(TooOld, format!("arrived more than {days} days ago")));
    }

    let invalid = |fault: super::Fault| {
        let at = if fault.pointer.is_empty() { "the request" } else { &fault.pointer };
        poison(NotValid, format!("{at}: {}", fault.detail))
    };
    let (account, keys, event, action) = match (raw.set, raw.delete) {
        (Some(set), None) => {
            let set = SetRequest::parse(set.get()).map_err(invalid)?;
            check_fan_out(&set).map_err(|detail| poison(NotValid, detail))?;
            let payload = body.slice_ref(set.data.as_bytes());
            (set.account, set.keys, set.event, Action::Set { flow: set.flow, payload, ttl_seconds: set.ttl_seconds })
        }
        (None, Some(delete)) => {
            let delete = DeleteRequest::parse(delete.get()).map_err(invalid)?;
            (delete.account, delete.keys, delete.event, Action::Delete)
        }
        _ => return Err(poison(NotDecodable, "must hold exactly one of set and delete")),
    };
    if let Some(event) = &event {
        check_event_time(event, raw.at).map_err(|detail| poison(NotValid, detail))?;
    }
    let order = raw.order.unwrap_or(0);
    let version = match &event {
        Some(event) => Version::of_event(order, event.time_ms, &event.id),
        None => Version::of_arrival(order, raw.at, &raw.id),
    };
    let (id, by) = (raw.id.into_owned(), raw.by.into_owned());
    Ok(Envelope { id, at_ms: raw.at, by, account, keys, version, action })
}

fn check_head(raw: &Raw<'_>) -> Result<(), String> {
    if !(1..=ID_BYTES_MAX).contains(&raw.id.len()) || raw.id.chars().any(char::is_control) {
        return Err(format!("/id: must have 1 to {ID_BYTES_MAX} bytes without control characters"));
    }
    if !(1..=CALLER_BYTES_MAX).contains(&raw.by.len()) || raw.by.chars().any(char::is_control) {
        return Err(format!("/by: must have 1 to {CALLER_BYTES_MAX} bytes without control characters"));
    }
    if raw.at > ARRIVAL_MS_MAX {
        return Err("/at: must be milliseconds since the epoch, before the year 10000".to_owned());
    }
    if raw.order.is_some() && !raw.by.starts_with(SOURCE_PREFIX) {
        return Err("/order: allowed only where `by` is a source of our own".to_owned());
    }
    Ok(())
}

/// An event may not lie more than [`EVENT_TIME_AHEAD_MAX`] after its arrival: it would pin its keys.
pub fn check_event_time(event: &Event, at_ms: u64) -> Result<(), String> {
    if event.time_ms > at_ms.saturating_add(EVENT_TIME_AHEAD_MAX.as_millis() as u64) {
        let minutes = EVENT_TIME_AHEAD_MAX.as_secs() / 60;
        return Err(format!("/eventTime: must not be more than {minutes} minutes in the future"));
    }
    Ok(())
}

/// One set may write at most [`FAN_OUT_BYTES_MAX`] in all.
pub fn check_fan_out(set: &SetRequest<'_>) -> Result<(), String> {
    let bytes = set.keys.len().saturating_mul(set.data.len());
    if bytes > FAN_OUT_BYTES_MAX {
        return Err(format!(
            "/webhookKeys: keys x payload take {bytes} bytes, of which at most {FAN_OUT_BYTES_MAX} are allowed"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_225_600_000;
    const SET: &str = r#"{"accountId":"a","flowId":"f","webhookKeys":["k"],"data":{"x": 1.0}}"#;

    fn stamp() -> Stamp {
        Stamp { id: "018f0000-0000-7000-8000-000000000001".into(), at_ms: NOW }
    }

    fn code(body: &str) -> PoisonCode {
        decode(&Bytes::copy_from_slice(body.as_bytes()), NOW).unwrap_err().code
    }

    #[test]
    fn what_is_encoded_is_decoded_and_the_payload_keeps_its_bytes() {
        let body = encode(&stamp(), "up\"stream", Kind::Set, SET).unwrap();
        let envelope = decode(&body, NOW).unwrap();
        assert_eq!((envelope.id.as_str(), envelope.at_ms, envelope.by.as_str()), (&*stamp().id, NOW, "up\"stream"));
        assert_eq!(envelope.version, Version::of_arrival(0, NOW, &stamp().id));
        let Action::Set { payload, .. } = envelope.action else { panic!("a set") };
        assert_eq!(payload, r#"{"x": 1.0}"#.as_bytes());

        let delete = encode(&stamp(), "u", Kind::Delete, r#"{"accountId":"a","webhookKeys":["k"]}"#).unwrap();
        assert_eq!(decode(&delete, NOW).unwrap().action, Action::Delete);
    }

    #[test]
    fn a_request_that_breaks_out_of_its_place_forges_nothing() {
        let wrap = |request: &str| format!(r#"{{"v":1,"id":"i","at":{NOW},"by":"b","set":{request}}}"#);
        assert!(decode(&Bytes::from(wrap(SET)), NOW).is_ok());
        for tail in [r#","at":0,"id":"forged""#, r#","by":"admin""#, r#","\u0061t":0"#, r#","order":9"#, r#","x":1"#] {
            let code = code(&wrap(&format!("{SET}{tail}")));
            let want = if tail.contains("order") { PoisonCode::NotValid } else { PoisonCode::NotDecodable };
            assert_eq!(code, want, "{tail}");
        }
    }

    #[test]
    fn garbage_other_versions_and_missing_members_are_poison() {
        for body in ["", "x", "null", "{}", r#"{"v":1}"#, r#"{"v":2,"id":"i","at":1,"by":"b","set":{}}"#] {
            assert_eq!(code(body), PoisonCode::NotDecodable, "{body}");
        }
        let both = format!(r#"{{"v":1,"id":"i","at":{NOW},"by":"b","set":{SET},"delete":{SET}}}"#);
        assert_eq!(code(&both), PoisonCode::NotDecodable);
        assert_eq!(code(&format!(r#"{{"v":1,"id":"i","at":{NOW},"by":"b"}}"#)), PoisonCode::NotDecodable);
        assert_eq!(code(&format!(r#"{{"v":1,"id":"i","at":{NOW},"by":"b","set":[]}}"#)), PoisonCode::NotValid);
        assert_eq!(code(&format!(r#"{{"v":1,"id":"","at":{NOW},"by":"b","set":{SET}}}"#)), PoisonCode::NotValid);
    }

    #[test]
    fn order_is_for_our_own_sources_and_decides() {
        let ours = encode_in_order(&stamp(), "source:confluence", 7, Kind::Set, SET).unwrap();
        assert_eq!(decode(&ours, NOW).unwrap().version.order(), 7);
        let room = room_in_order(&stamp(), "source:confluence", 7, Kind::Set);
        assert_eq!(ours.len() + room - SET.len(), WIRE_BYTES_MAX);
        let with = |by: &str| format!(r#"{{"v":1,"id":"i","at":{NOW},"by":"{by}","order":7,"set":{SET}}}"#);
        assert_eq!(code(&with("someone")), PoisonCode::NotValid);
        assert_eq!(decode(&Bytes::from(with("source:confluence")), NOW).unwrap().version.order(), 7);
    }

    #[test]
    fn the_horizon_is_15_days_after_arrival() {
        let at = |at: u64| format!(r#"{{"v":1,"id":"i","at":{at},"by":"b","set":{SET}}}"#);
        let horizon = HORIZON.as_millis() as u64;
        assert!(decode(&Bytes::from(at(NOW - horizon)), NOW).is_ok());
        assert_eq!(code(&at(NOW - horizon - 1)), PoisonCode::TooOld);
    }

    #[test]
    fn an_arrival_in_microseconds_is_not_taken_for_one_in_the_far_future() {
        let at = |at: u64| format!(r#"{{"v":1,"id":"i","at":{at},"by":"b","set":{SET}}}"#);
        assert_eq!(code(&at(NOW * 1_000)), PoisonCode::NotValid);
        assert_eq!(code(&at(u64::MAX)), PoisonCode::NotValid);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_poison() {
        let body = encode(&stamp(), "b", Kind::Set, SET).unwrap();
        assert!(decode(&body, 0).is_ok());
    }

    #[test]
    fn an_event_of_2999_is_refused() {
        let set = SET.replace("}}", r#"},"eventId":"e","eventTime":"2999-01-01T00:00:00Z"}"#);
        assert_eq!(code(&format!(r#"{{"v":1,"id":"i","at":{NOW},"by":"b","set":{set}}}"#)), PoisonCode::NotValid);
    }

    #[test]
    fn the_size_limit_counts_the_whole_wire_form() {
        let data = "x".repeat(WIRE_BYTES_MAX);
        let request = format!(r#"{{"accountId":"a","flowId":"f","webhookKeys":["k"],"data":"{data}"}}"#);
        assert!(encode(&stamp(), "b", Kind::Set, &request).unwrap_err().size_bytes > WIRE_BYTES_MAX);
        let over = encode(&stamp(), "b", Kind::Set, &request[..1]).unwrap().len() + request.len() - 1 - WIRE_BYTES_MAX;
        let fits = request.replacen(&"x".repeat(over), "", 1);
        assert_eq!(encode(&stamp(), "b", Kind::Set, &fits).unwrap().len(), WIRE_BYTES_MAX);
    }
}
