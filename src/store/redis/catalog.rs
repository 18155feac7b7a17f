//! The catalog: a page is one SCAN and the headers of what it found; a change is a call of `change.lua`.
//!
//! SCAN promises that what is there during the whole walk is handed out at least once, and that a call stays small; it
//! looks at a few more keys than it was asked to, and at keys of others in the database, which are left out.
//!
//! Nothing here is on the road: it takes one lease for a page, so that an operator's walk never holds more than one of
//! the connections that batches need.

use bytes::Bytes;
use deadpool_redis::redis::{Cmd, FromRedisValue, Value, from_redis_value, pipe};

use super::fault::{Fault, Reach};
use super::header::{self, HEAD_BYTES_MAX, Header};
use super::leases::{Lease, Leases};
use super::{KEY_PREFIX, RedisKey};
use crate::envelope::WebhookKey;
use crate::store::catalog::{Change, Changed, Choice, Cursor, Page, PageError, Rewrite, Seen};
use crate::store::{ReadError, Unavailable, WriteError};

const CHANGE: &str = include_str!("change.lua");
/// Keys of one call of the script: a call holds up every other client.
const CALL_KEYS_MAX: usize = 64;
/// Must be the numbers of `change.lua`.
const CHANGED: i64 = 0;
const SUPERSEDED: i64 = 1;

#[derive(Clone)]
pub struct Catalog {
    leases: Leases,
}

/// Where a walk is: on which node, and where in its SCAN. As text `<node>.<position>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    node: u32,
    position: u64,
}

/// The one node that there is.
const NODE: u32 = 0;

impl Place {
    const START: Self = Self { node: NODE, position: 0 };

    fn parse(Cursor(text): &Cursor) -> Option<Self> {
        let (node, position) = text.split_once('.')?;
        let place = Self { node: node.parse().ok()?, position: position.parse().ok()? };
        // One spelling alone; and a walk that begins or has ended has no cursor.
        (place.node == NODE && place.position != 0 && place.cursor().0 == *text).then_some(place)
    }

    fn cursor(self) -> Cursor {
        Cursor(format!("{}.{}", self.node, self.position))
    }

    /// `position` is what SCAN answered: 0 at the end of a node.
    fn after(self, position: u64) -> Option<Self> {
        (position != 0).then_some(Self { position, ..self })
    }
}

impl Catalog {
    pub(super) fn new(leases: Leases) -> Self {
        Self { leases }
    }

    pub async fn page(&self, choice: &Choice, from: Option<&Cursor>, look_max: usize) -> Result<Page, PageError> {
        let place = from.map_or(Some(Place::START), Place::parse).ok_or(PageError::Cursor)?;
        let mut lease = self.leases.lease().await?;
        let (position, keys) = scan(&mut lease, place, &choice.prefix, look_max).await?;
        let seen = look(&mut lease, &keys).await?;
        let matches = |seen: &Seen| choice.matches(seen.key.as_str(), &seen.account, &seen.flow);
        let entries = seen.into_iter().filter_map(|seen| seen.ok().flatten()).filter(matches).collect();
        Ok(Page { entries, looked_at: keys.len(), next: place.after(position).map(Place::cursor) })
    }

    pub async fn find(&self, key: &WebhookKey) -> Result<Option<Seen>, ReadError> {
        let mut lease = self.leases.lease().await.map_err(unreadable_now)?;
        let mut seen = look(&mut lease, std::slice::from_ref(key)).await.map_err(unreadable_now)?;
        seen.pop().unwrap_or(Ok(None))
    }

    pub async fn count(&self) -> Result<u64, Unavailable> {
        let mut lease = self.leases.lease().await?;
        Ok(ask(&mut lease, Cmd::new().arg("DBSIZE")).await?)
    }

    pub async fn change(&self, changes: &[Change], now_ms: u64) -> Vec<Result<Changed, WriteError>> {
        let mut results = Vec::with_capacity(changes.len());
        if let Err(fault) = self.try_change(changes, now_ms, &mut results).await {
            if !self.leases.replies_acknowledge() {
                results.clear();
            }
            results.resize(changes.len(), Err(fault.into()));
        }
        results
    }

    /// An error means that what has no result yet gets none, and that nothing more than the replies acknowledges what
    /// has one.
    async fn try_change(
        &self,
        changes: &[Change],
        now_ms: u64,
        results: &mut Vec<Result<Changed, WriteError>>,
    ) -> Result<(), Fault> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut lease = self.leases.lease().await?;
        let mut calls = pipe();
        for chunk in changes.chunks(CALL_KEYS_MAX) {
            calls.add_command(call(chunk, now_ms));
        }
        let replies = lease.run(calls).await?;
        for (chunk, reply) in changes.chunks(CALL_KEYS_MAX).zip(replies) {
            match reply {
                Ok(Value::Array(codes)) if codes.len() == chunk.len() => {
                    let each = chunk.iter().zip(codes);
                    results.extend(each.map(|(change, code)| changed(&code, change.rewrite(now_ms))));
                }
                Ok(_) => return Err(Fault::new(Reach::Server, "Redis gave an answer that change.lua doesn't give")),
                Err(fault) if fault.reach == Reach::Command => {
                    results.extend(chunk.iter().map(|_| Err(WriteError::from(fault.clone()))));
                }
                Err(fault) => return Err(fault),
            }
        }
        self.leases.acknowledged(&mut lease).await
    }
}

fn changed(code: &Value, rewrite: Rewrite) -> Result<Changed, WriteError> {
    match code {
        Value::Int(CHANGED) => Ok(rewrite.done()),
        Value::Int(SUPERSEDED) => Ok(Changed::Superseded),
        _ => Err(WriteError::Unavailable("Redis gave an answer that change.lua doesn't give".to_owned())),
    }
}

/// One call of the script. By its text rather than its hash: it is rare, and so needs no second try where the server
/// doesn't know it.
fn call(changes: &[Change], now_ms: u64) -> Cmd {
    let mut call = Cmd::new();
    call.arg("EVAL").arg(CHANGE).arg(changes.len());
    for change in changes {
        call.arg(RedisKey(&change.key));
    }
    for change in changes {
        call.arg(change.account.as_str()).arg(change.version.as_bytes());
        match change.rewrite(now_ms) {
            Rewrite::Expiry(at) => {
                call.arg("expiry").arg(&header::expiry(at)[..]);
                match at {
                    Some(ms) => call.arg(ms),
                    None => call.arg(""),
                };
            }
            Rewrite::Tombstone { until_ms } => {
                call.arg("tombstone").arg(tombstone(change, until_ms)).arg(until_ms);
            }
        }
    }
    call
}

/// It was left by no event, so it has no id.
fn tombstone(change: &Change, until_ms: u64) -> Vec<u8> {
    let header = Header::Tombstone { until_ms };
    header::encode(&header, &change.account, &change.version, "").expect("no id fits")
}

/// Where SCAN goes on, and the webhook keys that it found. What can't be one is left out.
async fn scan(lease: &mut Lease, place: Place, prefix: &str, count: usize) -> Result<(u64, Vec<WebhookKey>), Fault> {
    let mut scan = Cmd::new();
    scan.arg("SCAN").arg(place.position).arg("MATCH").arg(pattern(prefix)).arg("COUNT").arg(count.max(1));
    let (position, found): (u64, Vec<Vec<u8>>) = ask(lease, &scan).await?;
    let key = |found: &Vec<u8>| WebhookKey::parse(std::str::from_utf8(found).ok()?.strip_prefix(KEY_PREFIX)?).ok();
    Ok((position, found.iter().filter_map(key).collect()))
}

/// What SCAN is to match; a prefix stands for itself.
fn pattern(prefix: &str) -> String {
    let mut pattern = KEY_PREFIX.to_owned();
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '^' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern + "*"
}

/// The headers of these keys, in one round trip.
async fn look(lease: &mut Lease, keys: &[WebhookKey]) -> Result<Vec<Result<Option<Seen>, ReadError>>, Fault> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut ask = pipe();
    for key in keys {
        ask.cmd("GETRANGE").arg(RedisKey(key)).arg(0).arg(HEAD_BYTES_MAX - 1);
        ask.cmd("STRLEN").arg(RedisKey(key));
    }
    let mut replies = lease.run(ask).await?.into_iter();
    let mut seen = Vec::with_capacity(keys.len());
    for key in keys {
        let (head, length) = (replies.next(), replies.next());
        seen.push(match (head, length) {
            (Some(Ok(Value::BulkString(head))), Some(Ok(Value::Int(length)))) => of_head(key, head, length),
            (Some(Err(fault)), _) | (_, Some(Err(fault))) if fault.reach == Reach::Command => {
                Err(ReadError::Unreadable(fault.text().to_owned()))
            }
            (Some(Err(fault)), _) | (_, Some(Err(fault))) => return Err(fault),
            _ => return Err(Fault::new(Reach::Server, "Redis gave an answer that GETRANGE doesn't give")),
        });
    }
    Ok(seen)
}

/// What a value of `length` bytes says of itself, by its first bytes.
fn of_head(key: &WebhookKey, head: Vec<u8>, length: i64) -> Result<Option<Seen>, ReadError> {
    if head.is_empty() {
        return Ok(None);
    }
    let head = Bytes::from(head);
    let Some(entry) = header::decode(&head).map_err(|foreign| ReadError::Unreadable(foreign.to_string()))? else {
        return Ok(None);
    };
    let header_bytes = (head.len() - entry.payload.len()) as u64;
    Ok(Some(Seen {
        key: key.clone(),
        account: entry.account,
        flow: entry.flow,
        id: entry.id,
        version: entry.version,
        expires_at_ms: entry.expires_at_ms,
        // The two answers may be of two values, where one was just being written.
        payload_bytes: length.unsigned_abs().saturating_sub(header_bytes),
    }))
}

async fn ask<T: FromRedisValue>(lease: &mut Lease, command: &Cmd) -> Result<T, Fault> {
    let mut one = pipe();
    one.add_command(command.clone());
    let reply = lease.run(one).await?.pop().unwrap_or(Ok(Value::Nil))?;
    from_redis_value(reply).map_err(|error| Fault::new(Reach::Server, error.to_string()))
}

fn unreadable_now(fault: Fault) -> ReadError {
    ReadError::Unavailable(fault.text().to_owned())
}

impl From<Fault> for PageError {
    fn from(fault: Fault) -> Self {
        Self::Unavailable(fault.text().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_names_a_node_and_a_position_in_one_spelling() {
        let cursor = |text: &str| Place::parse(&Cursor(text.to_owned()));
        let last = Place { node: 0, position: u64::MAX };
        assert_eq!(cursor(&last.cursor().0), Some(last));
        for wrong in ["", "0", "0.", ".1", "0.0", "1.1", "0.01", "0.+1", "0.1 ", "k", "0.18446744073709551616"] {
            assert_eq!(cursor(wrong), None, "{wrong}");
        }
        assert_eq!(Place::START.after(0), None);
        assert_eq!(Place::START.after(7), cursor("0.7"));
    }

    #[test]
    fn a_prefix_stands_for_itself() {
        assert_eq!(pattern(""), "hc:v1:k:{}:*");
        assert_eq!(pattern("a*b?[c]^\\d"), "hc:v1:k:{}:a\\*b\\?\\[c\\]\\^\\\\d*");
    }
}
