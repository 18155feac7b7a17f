//! Set and delete requests, as the set API takes them.
//!
//! The body is looked at twice, on purpose. The JSON Schema names every fault by its pointer; the typed parse is the
//! final word, because it is the very function that the consumer trusts. The two cost about the same, so the schema
//! is checked for every body, not only to explain a refusal. Neither copies or judges the payload: its
//! bytes go into the wire form as they came, `1e400` and lone surrogates included.

use serde_json::value::RawValue;

use super::Rejection;
use super::schema::Schema;
use crate::envelope::limits::{FAN_OUT_BYTES_MAX, KEYS_PER_REQUEST_MAX, SETS_PER_ARRAY_MAX, WIRE_BYTES_MAX};
use crate::envelope::wire::{self, Kind};
use crate::envelope::{
    Account, DeleteRequest, Event, Fault, FaultCode, SetRequest, Stamp, WebhookKey, WireForm, first_items,
};

/// A request that keeps every rule, ready to be appended once the caller's grants are checked.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub wire: WireForm,
    pub keys: Vec<WebhookKey>,
}

impl Accepted {
    pub fn account(&self) -> &Account {
        &self.wire.account
    }
}

/// Reads requests of direct callers. Made once at start; cheap to use from many threads.
pub struct Direct {
    set: Schema,
    delete: Schema,
    keys_max: usize,
}

impl Direct {
    /// `keys_max` is the most webhook keys that one request may name; [`KEYS_PER_REQUEST_MAX`] bounds it.
    pub fn new(keys_max: usize) -> Self {
        let keys_max = keys_max.clamp(1, KEYS_PER_REQUEST_MAX);
        Self { set: Schema::set(keys_max), delete: Schema::delete(keys_max), keys_max }
    }

    /// The most webhook keys that one request may name.
    pub fn keys_max(&self) -> usize {
        self.keys_max
    }

    pub fn set(&self, text: &str, stamp: &Stamp, by: &str) -> Result<Accepted, Rejection> {
        check_size(text)?;
        self.set.check(text).map_err(Rejection::Faults)?;
        let set = SetRequest::parse(text).map_err(one)?;
        self.check_rest(&set.keys, set.event.as_ref(), stamp)?;
        if wire::check_fan_out(&set).is_err() {
            let size = set.keys.len().saturating_mul(set.data.len());
            return Err(Rejection::FanOut { limit: FAN_OUT_BYTES_MAX, size });
        }
        let (account, keys) = (set.account, set.keys);
        accept(text, stamp, by, Kind::Set, account, keys)
    }

    pub fn delete(&self, text: &str, stamp: &Stamp, by: &str) -> Result<Accepted, Rejection> {
        check_size(text)?;
        self.delete.check(text).map_err(Rejection::Faults)?;
        let delete = DeleteRequest::parse(text).map_err(one)?;
        self.check_rest(&delete.keys, delete.event.as_ref(), stamp)?;
        accept(text, stamp, by, Kind::Delete, delete.account, delete.keys)
    }

    /// What depends on the clock or on a setting, and so stands neither in the schema nor in the typed parse.
    fn check_rest(&self, keys: &[WebhookKey], event: Option<&Event>, stamp: &Stamp) -> Result<(), Rejection> {
        if keys.len() > self.keys_max {
            let detail = format!("must name 1 to {} keys", self.keys_max);
            return Err(one(Fault::new(FaultCode::InvalidRequest, "/webhookKeys", detail)));
        }
        let Some(event) = event else { return Ok(()) };
        wire::check_event_time(event, stamp.at_ms).map_err(|text| {
            let detail = text.strip_prefix("/eventTime: ").unwrap_or(&text);
            one(Fault::new(FaultCode::InvalidRequest, "/eventTime", detail))
        })
    }
}

/// Cuts an array of requests into the texts of its elements, in order. `None` when the text is not an array.
pub fn elements(text: &str) -> Option<Result<Vec<&str>, Rejection>> {
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('[') {
        return None;
    }
    Some(match first_items::<&RawValue>(text, SETS_PER_ARRAY_MAX) {
        Err(error) => {
            let detail = format!("not JSON at line {}, column {}", error.line(), error.column());
            Err(one(Fault::new(FaultCode::MalformedJson, "", detail)))
        }
        Ok(elements) if elements.is_empty() || elements.len() > SETS_PER_ARRAY_MAX => {
            let detail = format!("an array must hold 1 to {SETS_PER_ARRAY_MAX} requests");
            Err(one(Fault::new(FaultCode::InvalidRequest, "", detail)))
        }
        Ok(elements) => Ok(elements.into_iter().map(RawValue::get).collect()),
    })
}

fn one(fault: Fault) -> Rejection {
    Rejection::Faults(vec![fault])
}

/// Before anything is read: what can't fit costs no work.
fn check_size(text: &str) -> Result<(), Rejection> {
    match text.len() {
        0..=WIRE_BYTES_MAX => Ok(()),
        size => Err(Rejection::TooLarge { limit: WIRE_BYTES_MAX, size }),
    }
}

fn accept(
    text: &str,
    stamp: &Stamp,
    by: &str,
    kind: Kind,
    account: Account,
    keys: Vec<WebhookKey>,
) -> Result<Accepted, Rejection> {
    let body = wire::encode(stamp, by, kind, text)
        .map_err(|e| Rejection::TooLarge { limit: WIRE_BYTES_MAX, size: e.size_bytes })?;
    let wire = WireForm { id: stamp.id.clone(), account, traceparent: None, body };
    Ok(Accepted { wire, keys })
}

#[cfg(test)]
mod tests;
