//! The catalog: a page is one SCAN and the headers of what it found; a change is a call of `change.lua`.
//!
//! SCAN promises that what is there during the whole walk is handed out at least once, and that a call stays small; it
//! looks at a few more keys than it was asked to, and at keys of others in the database, which are left out.
//!
//! In a cluster a walk goes from primary to primary, in the order of their lowest slots, which name them in a cursor. A
//! failover in mid-walk may hide entries from it, as the replica's SCAN has another order; after slots have moved the
//! cursor may be refused. Then a walk that must be whole begins anew.
//!
//! Nothing here is on the road: it takes one lease of a node at a time, so that an operator's walk never holds more than
//! one of the connections that batches need.

use bytes::Bytes;
use deadpool_redis::redis::{Cmd, FromRedisValue, Value, cmd, from_redis_value, pipe};

use super::fault::{Fault, Reach};
use super::header::{self, HEAD_BYTES_MAX, Header};
use super::leases::{Lease, Leases};
use super::slots::Slot;
use super::topology::{Route, Topology};
use super::{KEY_PREFIX, RedisKey};
use crate::envelope::WebhookKey;
use crate::store::catalog::{Change, Changed, Choice, Cursor, Page, PageError, Rewrite, Seen};
use crate::store::{ReadError, Unavailable, WriteError};

const CHANGE: &str = include_str!("change.lua");
/// Keys of one call of the script: a call holds up every other client.
const CALL_KEYS_MAX: usize = 64;
/// The same in a cluster, where a call may not touch two slots.
const SLOT_CALL_KEYS_MAX: usize = 1;
/// Must be the numbers of `change.lua`.
const CHANGED: i64 = 0;
const SUPERSEDED: i64 = 1;

#[derive(Clone)]
pub struct Catalog(Topology<Leases>);

/// Where a walk is: on the primary with which lowest slot, and where in its SCAN. As text `<slot>.<position>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    node: Slot,
    /// 0 is the beginning of a node.
    position: u64,
}

impl Place {
    const START: Self = Self { node: 0, position: 0 };

    fn parse(Cursor(text): &Cursor) -> Option<Self> {
        let (node, position) = text.split_once('.')?;
        let place = Self { node: node.parse().ok()?, position: position.parse().ok()? };
        // One spelling alone; and a walk that begins or has ended has no cursor.
        (place != Self::START && place.cursor().0 == *text).then_some(place)
    }

    fn cursor(self) -> Cursor {
        Cursor(format!("{}.{}", self.node, self.position))
    }

    /// `position` is what SCAN answered: 0 at the end of a node. `nodes` are in order.
    fn after(self, position: u64, nodes: &[Slot]) -> Option<Self> {
        match position {
            0 => nodes.iter().find(|&&node| node > self.node).map(|&node| Self { node, position: 0 }),
            _ => Some(Self { position, ..self }),
        }
    }
}

impl Catalog {
    pub(super) fn new(topology: Topology<Leases>) -> Self {
        Self(topology)
    }

    pub async fn page(&self, choice: &Choice, from: Option<&Cursor>, look_max: usize) -> Result<Page, PageError> {
        let place = from.map_or(Some(Place::START), Place::parse).ok_or(PageError::Cursor)?;
        let nodes = self.0.lowest_slots().await?;
        if !nodes.contains(&place.node) {
            return Err(PageError::Cursor);
        }
        let scan = |route: Route<Leases>| async move {
            let mut lease = route.node.lease().await?;
            scan(&mut lease, place, &choice.prefix, look_max).await
        };
        let (position, keys) = self.0.ask_one(place.node, scan).await?;
        let looked_at = keys.len();
        let matches = |seen: &Seen| choice.matches(seen.key.as_str(), &seen.account, &seen.flow);
        let mut entries = Vec::new();
        for seen in self.look(&keys).await {
            match seen {
                Ok(seen) => entries.extend(seen.filter(matches)),
                // What is not ours is left out; what could not be asked for must not be.
                Err(ReadError::Unreadable(_)) => {}
                Err(ReadError::Unavailable(why)) => return Err(PageError::Unavailable(why)),
            }
        }
        Ok(Page { entries, looked_at, next: place.after(position, &nodes).map(Place::cursor) })
    }

    pub async fn find(&self, key: &WebhookKey) -> Result<Option<Seen>, ReadError> {
        let no_answer = || Err(ReadError::Unavailable("Redis gave no answer to a read".to_owned()));
        self.look(std::slice::from_ref(key)).await.pop().unwrap_or_else(no_answer)
    }

    /// What the values under these keys say of themselves, each asked of whoever serves it: a slot that is on the move is
    /// found by one node, and its keys may lie on another by now.
    async fn look(&self, keys: &[WebhookKey]) -> Vec<Result<Option<Seen>, ReadError>> {
        let slot_of = |number: usize| RedisKey(&keys[number]).slot();
        let replies = self.0.scatter(keys.len(), slot_of, |route, numbers| heads(route, keys, numbers)).await;
        keys.iter().zip(replies).map(|(key, reply)| seen(key, reply)).collect()
    }

    pub async fn count(&self) -> Result<u64, Unavailable> {
        let size = |route: Route<Leases>| async move {
            let mut lease = route.node.lease().await?;
            ask::<u64>(&mut lease, Cmd::new().arg("DBSIZE")).await
        };
        let mut count = 0;
        for node in self.0.lowest_slots().await? {
            count += self.0.ask_one(node, size).await?;
        }
        Ok(count)
    }

    pub async fn change(&self, changes: &[Change], now_ms: u64) -> Vec<Result<Changed, WriteError>> {
        let keys_max = if self.0.has_slots() { SLOT_CALL_KEYS_MAX } else { CALL_KEYS_MAX };
        let calls: Vec<&[Change]> = changes.chunks(keys_max).collect();
        let slot_of = |number: usize| RedisKey(&calls[number][0].key).slot();
        let send = |route, numbers| send_all(route, &calls, numbers, now_ms);
        let replies = self.0.scatter(calls.len(), slot_of, send).await;
        let each = calls.iter().zip(replies);
        each.flat_map(|(call, reply)| results_of(call, reply, now_ms)).collect()
    }
}

/// One reply per call, in order. Where they are not acknowledged none of them counts.
async fn send_all(
    route: Route<Leases>,
    calls: &[&[Change]],
    numbers: Vec<usize>,
    now_ms: u64,
) -> Vec<Result<Value, Fault>> {
    let mut replies = Vec::with_capacity(numbers.len());
    if let Err(fault) = try_send_all(&route, calls, &numbers, now_ms, &mut replies).await {
        if !route.node.replies_acknowledge() {
            replies.clear();
        }
        replies.resize_with(numbers.len(), || Err(fault.clone()));
    }
    replies
}

async fn try_send_all(
    route: &Route<Leases>,
    calls: &[&[Change]],
    numbers: &[usize],
    now_ms: u64,
    replies: &mut Vec<Result<Value, Fault>>,
) -> Result<(), Fault> {
    let mut lease = route.node.lease().await?;
    let mut pipeline = pipe();
    for &number in numbers {
        route.add(&mut pipeline, call(calls[number], now_ms));
    }
    *replies = lease.run(pipeline).await?;
    match replies.iter().any(Result::is_ok) {
        true => route.node.acknowledged(&mut lease, route).await,
        false => Ok(()),
    }
}

/// One result per change of a call.
fn results_of(call: &[Change], reply: Result<Value, Fault>, now_ms: u64) -> Vec<Result<Changed, WriteError>> {
    let all = |error: WriteError| call.iter().map(|_| Err(error.clone())).collect();
    match reply {
        Ok(Value::Array(codes)) if codes.len() == call.len() => {
            call.iter().zip(codes).map(|(change, code)| changed(&code, change.rewrite(now_ms))).collect()
        }
        Ok(_) => all(odd_answer()),
        Err(fault) => all(fault.into()),
    }
}

fn odd_answer() -> WriteError {
    WriteError::Unavailable("Redis gave an answer that change.lua doesn't give".to_owned())
}

fn changed(code: &Value, rewrite: Rewrite) -> Result<Changed, WriteError> {
    match code {
        Value::Int(CHANGED) => Ok(rewrite.done()),
        Value::Int(SUPERSEDED) => Ok(Changed::Superseded),
        _ => Err(odd_answer()),
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

/// The first bytes and the length of each value, as one answer, in one round trip for all.
async fn heads(route: Route<Leases>, keys: &[WebhookKey], numbers: Vec<usize>) -> Vec<Result<Value, Fault>> {
    let mut ask = pipe();
    for &number in &numbers {
        let key = RedisKey(&keys[number]);
        let (mut head, mut length) = (cmd("GETRANGE"), cmd("STRLEN"));
        head.arg(&key).arg(0).arg(HEAD_BYTES_MAX - 1);
        length.arg(&key);
        route.add(&mut ask, head);
        route.add(&mut ask, length);
    }
    let asked = async { route.node.lease().await?.run(ask).await };
    let replies = match asked.await {
        Ok(replies) => replies,
        Err(fault) => return numbers.iter().map(|_| Err(fault.clone())).collect(),
    };
    let mut replies = replies.into_iter();
    let mut next = || replies.next().unwrap_or_else(|| Err(odd_head()));
    let pair = |_| {
        // Both are taken, whatever the first one is.
        let (head, length) = (next(), next());
        Ok(Value::Array(vec![head?, length?]))
    };
    numbers.iter().map(pair).collect()
}

fn odd_head() -> Fault {
    Fault::new(Reach::Server, "Redis gave an answer that GETRANGE and STRLEN don't give")
}

fn seen(key: &WebhookKey, reply: Result<Value, Fault>) -> Result<Option<Seen>, ReadError> {
    let pair = match reply {
        Ok(Value::Array(pair)) => <[Value; 2]>::try_from(pair).ok(),
        Ok(_) => None,
        Err(fault) if fault.reach == Reach::Command => return Err(ReadError::Unreadable(fault.text().to_owned())),
        Err(fault) => return Err(ReadError::Unavailable(fault.text().to_owned())),
    };
    match pair {
        Some([Value::BulkString(head), Value::Int(length)]) => of_head(key, head, length),
        _ => Err(ReadError::Unavailable(odd_head().text().to_owned())),
    }
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
        for place in [Place { node: 0, position: u64::MAX }, Place { node: 5_461, position: 0 }] {
            assert_eq!(cursor(&place.cursor().0), Some(place));
        }
        for wrong in ["", "0", "0.", ".1", "0.0", "01.1", "0.01", "0.+1", "0.1 ", "k", "0.18446744073709551616"] {
            assert_eq!(cursor(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_walk_goes_from_node_to_node_and_ends_behind_the_last() {
        let (nodes, here) = ([0, 100, 200], Place { node: 100, position: 7 });
        assert_eq!(here.after(9, &nodes), Some(Place { node: 100, position: 9 }));
        assert_eq!(here.after(0, &nodes), Some(Place { node: 200, position: 0 }));
        assert_eq!(Place { node: 200, position: 7 }.after(0, &nodes), None);
        assert_eq!(Place::START.after(0, &[0]), None);
    }

    #[test]
    fn a_prefix_stands_for_itself() {
        assert_eq!(pattern(""), "hc:v1:k:{}:*");
        assert_eq!(pattern("a*b?[c]^\\d"), "hc:v1:k:{}:a\\*b\\?\\[c\\]\\^\\\\d*");
    }
}
