//! The set and the delete request: typed, and checked whole.
//!
//! The same function reads a request at the edge and again when it leaves the buffer, so the two can't disagree.
//! A payload is checked for well-formedness and depth, then kept as the bytes that came.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::limits::{EVENT_ID_CHARS_MAX, KEYS_PER_REQUEST_MAX, PAYLOAD_DEPTH_MAX, TTL_SECONDS_MAX};
use super::names::{Account, Flow, WebhookKey};

/// `{accountId, flowId, webhookKeys[], data, eventId?, eventTime?, ttlSeconds?}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRequest<'a> {
    pub account: Account,
    pub flow: Flow,
    /// In the order that they came, each once.
    pub keys: Vec<WebhookKey>,
    /// The payload, byte for byte: one JSON value.
    pub data: &'a str,
    pub event: Option<Event>,
    pub ttl_seconds: Option<u64>,
}

/// `{accountId, webhookKeys[], eventId?, eventTime?}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    pub account: Account,
    pub keys: Vec<WebhookKey>,
    pub event: Option<Event>,
}

/// The producer's own name and time of what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    /// Milliseconds since the epoch; finer parts are cut off.
    pub time_ms: u64,
}

/// What is wrong with a request. `detail` says what is allowed and never echoes what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub code: FaultCode,
    /// Where, as a JSON pointer (RFC 6901); empty for the whole.
    pub pointer: String,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultCode {
    /// Not one JSON text in UTF-8.
    MalformedJson,
    /// JSON, but not of the request's form.
    InvalidRequest,
    /// Only one of `eventId` and `eventTime`.
    EventTimeRequired,
    /// The payload is nested deeper than [`PAYLOAD_DEPTH_MAX`].
    TooDeep,
    /// A character that XML 1.0, and so SQS, can't carry.
    IllegalCharacter,
}

impl Fault {
    pub fn new(code: FaultCode, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code, pointer: pointer.into(), detail: detail.into() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSet<'a> {
    #[serde(borrow)]
    account_id: Cow<'a, str>,
    #[serde(borrow)]
    flow_id: Cow<'a, str>,
    #[serde(borrow)]
    webhook_keys: Vec<Text<'a>>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "present")]
    event_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    event_time: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "whole_number")]
    ttl_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawDelete<'a> {
    #[serde(borrow)]
    account_id: Cow<'a, str>,
    #[serde(borrow)]
    webhook_keys: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    event_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    event_time: Option<Cow<'a, str>>,
}

/// A string that borrows where it can; a bare `Cow` in a `Vec` never would.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An optional member may be absent, but not null.
fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Cow<'a, str>>, D::Error> {
    Text::deserialize(from).map(|text| Some(text.0))
}

/// A whole number, which may be absent, but not null. As JSON Schema counts them since draft 6, `60.0` and `6e1` are
/// whole: some languages write every number so.
pub fn whole_number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    /// Up to here a float tells one whole number from the next.
    const FLOAT_MAX: f64 = 9_007_199_254_740_992.0;
    let number = serde_json::Number::deserialize(from)?;
    let from_float = |float: &f64| float.fract() == 0.0 && (0.0..=FLOAT_MAX).contains(float);
    let whole = number.as_u64().or_else(|| number.as_f64().filter(from_float).map(|float| float as u64));
    whole.map(Some).ok_or_else(|| serde::de::Error::custom("must be a whole number"))
}

impl<'a> SetRequest<'a> {
    /// Reads and checks a whole set request; the first fault found is returned.
    pub fn parse(text: &'a str) -> Result<Self, Fault> {
        let raw: RawSet<'a> = parse(text)?;
        let data = raw.data.get();
        if is_too_deep(data) {
            let detail = format!("arrays and objects may be nested at most {PAYLOAD_DEPTH_MAX} deep");
            return Err(Fault::new(FaultCode::TooDeep, "/data", detail));
        }
        let ttl_seconds = match raw.ttl_seconds {
            Some(seconds) if !(1..=TTL_SECONDS_MAX).contains(&seconds) => {
                let detail = format!("must be a whole number of seconds, 1 to {TTL_SECONDS_MAX}");
                return Err(Fault::new(FaultCode::InvalidRequest, "/ttlSeconds", detail));
            }
            other => other,
        };
        Ok(Self {
            account: account(&raw.account_id)?,
            flow: Flow::parse(&raw.flow_id).map_err(|e| invalid("/flowId", e))?,
            keys: keys(&raw.webhook_keys)?,
            data,
            event: event(raw.event_id.as_deref(), raw.event_time.as_deref())?,
            ttl_seconds,
        })
    }
}

impl DeleteRequest {
    /// Reads and checks a whole delete request; the first fault found is returned.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let raw: RawDelete<'_> = parse(text)?;
        Ok(Self {
            account: account(&raw.account_id)?,
            keys: keys(&raw.webhook_keys)?,
            event: event(raw.event_id.as_deref(), raw.event_time.as_deref())?,
        })
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Fault> {
    if let Some(at) = illegal_character(text) {
        let detail = format!("the character at byte {at} can't be carried in XML 1.0, which SQS uses: escape it");
        return Err(Fault::new(FaultCode::IllegalCharacter, "", detail));
    }
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            // serde's text of a data error can name a member of the request, never a value of the payload, which is
            // skipped over; but it may quote a wrong value, so only its place is told.
            serde_json::error::Category::Data => {
                let detail = format!("not of the form of this request at line {line}, column {column}");
                Fault::new(FaultCode::InvalidRequest, "", detail)
            }
            _ => Fault::new(FaultCode::MalformedJson, "", format!("not JSON at line {line}, column {column}")),
        }
    })
}

fn invalid(pointer: impl Into<String>, why: impl ToString) -> Fault {
    Fault::new(FaultCode::InvalidRequest, pointer, why.to_string())
}

fn account(text: &str) -> Result<Account, Fault> {
    Account::parse(text).map_err(|e| invalid("/accountId", e))
}

fn keys(raw: &[Text<'_>]) -> Result<Vec<WebhookKey>, Fault> {
    if raw.is_empty() || raw.len() > KEYS_PER_REQUEST_MAX {
        return Err(invalid("/webhookKeys", format!("must name 1 to {KEYS_PER_REQUEST_MAX} keys")));
    }
    let keys = raw
        .iter()
        .enumerate()
        .map(|(index, text)| WebhookKey::parse(&text.0).map_err(|e| invalid(format!("/webhookKeys/{index}"), e)));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    match first_duplicate(&keys) {
        Some(index) => Err(invalid(format!("/webhookKeys/{index}"), "must name each key once")),
        None => Ok(keys),
    }
}

fn first_duplicate(keys: &[WebhookKey]) -> Option<usize> {
    /// Up to here comparing each with each is cheaper than hashing.
    const FEW: usize = 8;
    if keys.len() <= FEW {
        return (1..keys.len()).find(|&i| keys[..i].contains(&keys[i]));
    }
    let mut seen = std::collections::HashSet::with_capacity(keys.len());
    keys.iter().position(|key| !seen.insert(key))
}

fn event(id: Option<&str>, time: Option<&str>) -> Result<Option<Event>, Fault> {
    let (id, time) = match (id, time) {
        (None, None) => return Ok(None),
        (Some(id), Some(time)) => (id, time),
        (Some(_), None) => return Err(one_of_two("/eventTime")),
        (None, Some(_)) => return Err(one_of_two("/eventId")),
    };
    // A character takes at least one byte and at most four.
    let chars = if id.len() > 4 * EVENT_ID_CHARS_MAX { usize::MAX } else { id.chars().count() };
    if !(1..=EVENT_ID_CHARS_MAX).contains(&chars) {
        return Err(invalid("/eventId", format!("must have 1 to {EVENT_ID_CHARS_MAX} characters")));
    }
    let time_ms = OffsetDateTime::parse(time, &Rfc3339)
        .ok()
        .and_then(|moment| u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok())
        .ok_or_else(|| invalid("/eventTime", "must be a date and time of RFC 3339, not before 1970"))?;
    Ok(Some(Event { id: id.to_owned(), time_ms }))
}

fn one_of_two(missing: &str) -> Fault {
    let detail = "eventId and eventTime go together: only both make a retry harmless";
    Fault::new(FaultCode::EventTimeRequired, missing, detail)
}

/// The byte at which a character stands that XML 1.0 can't carry (section 2.2, production `Char`).
/// Surrogates can't occur in a `&str`.
pub fn illegal_character(text: &str) -> Option<usize> {
    const BLOCK_BYTES: usize = 64;
    let bytes = text.as_bytes();
    let control = |&b: &u8| (b < 0x20) & (b != b'\t') & (b != b'\n') & (b != b'\r');
    // U+FFFE and U+FFFF are EF BF BE and EF BF BF; EF starts nothing but U+F000 to U+FFFF.
    let suspect = |b: &u8| control(b) | (*b == 0xEF);
    // Most texts hold none. A whole block at once is many times faster than byte by byte with a way out at each.
    let none_in = |block: &&[u8]| !block.iter().fold(false, |any, b| any | suspect(b));
    let clean = bytes.chunks(BLOCK_BYTES).take_while(none_in).count() * BLOCK_BYTES;
    let mut from = clean.min(bytes.len());
    while let Some(at) = bytes[from..].iter().position(suspect).map(|at| from + at) {
        if bytes[at] != 0xEF || matches!(bytes[at + 1..], [0xBF, 0xBE | 0xBF, ..]) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// Are arrays and objects nested deeper than [`PAYLOAD_DEPTH_MAX`] in a JSON text that is known to be well-formed?
fn is_too_deep(json: &str) -> bool {
    // Nothing is nested deeper than it has opening brackets, and counting those is many times faster.
    let opening = json.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    opening > PAYLOAD_DEPTH_MAX && depth(json) > PAYLOAD_DEPTH_MAX
}

/// How deep arrays and objects are nested in a JSON text that is known to be well-formed. It needs no stack.
fn depth(json: &str) -> usize {
    let (mut now, mut most, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for byte in json.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                now += 1;
                most = most.max(now);
            }
            b']' | b'}' => now -= 1,
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> (FaultCode, String) {
        let fault = SetRequest::parse(text).unwrap_err();
        (fault.code, fault.pointer)
    }

    fn set_with(members: &str) -> String {
        format!(r#"{{"accountId":"a","flowId":"f","webhookKeys":["k"],"data":1{members}}}"#)
    }

    #[test]
    fn a_payload_is_kept_byte_for_byte() {
        for data in ["1.0", "1e400", r#""\ud800""#, "{\"b\" : 1,\n \"a\":[ ]}", "null", r#"{"a":1,"a":2}"#] {
            let text = format!(r#"{{"accountId":"a","flowId":"f","webhookKeys":["k"],"data": {data} }}"#);
            assert_eq!(SetRequest::parse(&text).unwrap().data, data);
        }
    }

    #[test]
    fn a_payload_may_be_nested_100_deep_and_no_deeper() {
        for (depth, good) in [(100, true), (101, false), (10_000, false), (1_000_000, false)] {
            let data = format!("{}\"[[{{\\\"\"{}", "[".repeat(depth), "]".repeat(depth));
            let text = format!(r#"{{"accountId":"a","flowId":"f","webhookKeys":["k"],"data":{data}}}"#);
            assert_eq!(SetRequest::parse(&text).is_ok(), good, "{depth}");
        }
    }

    #[test]
    fn what_is_not_allowed_is_named_by_its_place() {
        use FaultCode::*;
        let long = format!(r#","eventId":"{}","eventTime":"2026-01-01T00:00:00Z""#, "e".repeat(129));
        for (members, want, pointer) in [
            (r#","ttlSeconds":0"#, InvalidRequest, "/ttlSeconds"),
            (r#","ttlSeconds":-1"#, InvalidRequest, ""),
            (r#","ttlSeconds":1000000000000000000000000000000"#, InvalidRequest, ""),
            (r#","ttlSeconds":"60""#, InvalidRequest, ""),
            (r#","ttlSeconds":null"#, InvalidRequest, ""),
            (r#","eventId":"e""#, EventTimeRequired, "/eventTime"),
            (r#","eventTime":"2026-01-01T00:00:00Z""#, EventTimeRequired, "/eventId"),
            (r#","eventId":"e","eventTime":"1969-12-31T23:59:59Z""#, InvalidRequest, "/eventTime"),
            (r#","eventId":"e","eventTime":"yesterday""#, InvalidRequest, "/eventTime"),
            (&long, InvalidRequest, "/eventId"),
            (r#","data":2"#, InvalidRequest, ""),
            (r#","d\u0061ta":2"#, InvalidRequest, ""),
            (r#","extra":2"#, InvalidRequest, ""),
            ("},\"at\":0,\"id\":\"forged\"", MalformedJson, ""),
            (",\"eventId\":\"\u{1}\"", IllegalCharacter, ""),
        ] {
            assert_eq!(code(&set_with(members)), (want, pointer.to_owned()), "{members}");
        }
    }

    #[test]
    fn seconds_are_whole_however_they_are_written() {
        for (text, want) in [("60", Some(60)), ("60.0", Some(60)), ("6e1", Some(60)), ("60.5", None), ("1e30", None)] {
            let set = set_with(&format!(r#","ttlSeconds":{text}"#));
            assert_eq!(SetRequest::parse(&set).ok().map(|set| set.ttl_seconds), want.map(Some), "{text}");
        }
    }

    #[test]
    fn keys_are_one_to_a_thousand_and_each_once() {
        let with = |keys: &[String]| {
            let keys = serde_json::to_string(keys).unwrap();
            format!(r#"{{"accountId":"a","flowId":"f","webhookKeys":{keys},"data":1}}"#)
        };
        let many = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        assert!(SetRequest::parse(&with(&many(1_000))).is_ok());
        assert_eq!(code(&with(&many(1_001))).1, "/webhookKeys");
        assert_eq!(code(&with(&[])).1, "/webhookKeys");
        assert_eq!(code(&with(&["a".into(), "b".into(), "a".into()])).1, "/webhookKeys/2");
        let mut twice = many(20);
        twice.push("7".into());
        assert_eq!(code(&with(&twice)).1, "/webhookKeys/20");
    }

    #[test]
    fn an_event_time_is_read_to_the_millisecond_in_any_offset() {
        let text = set_with(r#","eventId":"e","eventTime":"2026-01-01T01:00:00.1239+01:00""#);
        let event = SetRequest::parse(&text).unwrap().event.unwrap();
        assert_eq!(event, Event { id: "e".into(), time_ms: 1_767_225_600_123 });
    }

    #[test]
    fn a_character_that_sqs_refuses_is_found_wherever_it_stands() {
        for at in 0..200 {
            for before in ["x".repeat(at), format!("\u{FEFF}{}", "x".repeat(at))] {
                for bad in ["\u{1}", "\u{FFFE}"] {
                    let text = format!("{before}{bad}{}", "y".repeat(70));
                    assert_eq!(illegal_character(&text), Some(before.len()), "{text:?}");
                    assert_eq!(illegal_character(&text.replace(bad, "z")), None, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn characters_that_sqs_refuses_are_found_and_their_neighbours_pass() {
        for good in ["\t\n\r ~\u{7f}\u{85}", "\u{FFFD}", "\u{F000}\u{FEFF}", "\u{1F980}\u{10FFFF}"] {
            assert_eq!(illegal_character(good), None, "{good:?}");
        }
        for (bad, at) in [("\0", 0), ("ab\u{b}", 2), ("\u{FEFF}\u{FFFE}", 3), ("\u{FFFF}", 0)] {
            assert_eq!(illegal_character(bad), Some(at), "{bad:?}");
        }
    }
}
