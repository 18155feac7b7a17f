//! How an entry or a tombstone lies in its table.
//!
//! A kind (1 byte), the version (32), the end in milliseconds since the epoch (8, big-endian, all ones for never); for
//! an entry then the lengths of account, flow and id (2 each, big-endian), these three, and the payload.

use bytes::Bytes;

use super::super::catalog::Seen;
use super::super::{Effect, Entry, Write};
use crate::envelope::{Account, Flow, Version, WebhookKey};

const ENTRY: u8 = 1;
const TOMBSTONE: u8 = 2;
const NEVER: u64 = u64::MAX;
/// Where the end stands.
const END: std::ops::Range<usize> = 33..41;

/// A row without its payload, as the writer needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head<'a> {
    Entry { version: Version, expires_at_ms: Option<u64>, account: &'a str, flow: &'a str, id: &'a str },
    Tombstone { version: Version, until_ms: u64 },
}

impl Head<'_> {
    pub(super) fn expires_at_ms(&self) -> Option<u64> {
        match self {
            Self::Entry { expires_at_ms, .. } => *expires_at_ms,
            Self::Tombstone { until_ms, .. } => Some(*until_ms),
        }
    }
}

/// This is not a row that this program wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

pub(super) fn tombstone(version: Version, until_ms: u64) -> Vec<u8> {
    let mut row = Vec::with_capacity(41);
    row.push(TOMBSTONE);
    row.extend_from_slice(version.as_bytes());
    row.extend_from_slice(&until_ms.to_be_bytes());
    row
}

/// The row of a put; `None` where its id is longer than any id can be (or the write is no put).
pub(super) fn entry(write: &Write) -> Option<Vec<u8>> {
    let Effect::Put { flow, payload, expires_at_ms } = &write.effect else { return None };
    let texts = [write.account.as_str(), flow.as_str(), write.id.as_str()];
    let mut row = Vec::with_capacity(47 + texts.iter().map(|text| text.len()).sum::<usize>() + payload.len());
    row.push(ENTRY);
    row.extend_from_slice(write.version.as_bytes());
    row.extend_from_slice(&expires_at_ms.unwrap_or(NEVER).to_be_bytes());
    for text in texts {
        row.extend_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes());
    }
    texts.iter().for_each(|text| row.extend_from_slice(text.as_bytes()));
    row.extend_from_slice(payload);
    Some(row)
}

/// The same entry with another expiry.
pub(super) fn with_expiry(row: &[u8], expires_at_ms: Option<u64>) -> Vec<u8> {
    let mut row = row.to_vec();
    row[END].copy_from_slice(&expires_at_ms.unwrap_or(NEVER).to_be_bytes());
    row
}

/// The head, and where the payload begins.
fn parse(row: &[u8]) -> Option<(Head<'_>, &[u8])> {
    let (kind, rest) = row.split_first()?;
    let (version, rest) = rest.split_first_chunk()?;
    let (end, rest) = rest.split_first_chunk()?;
    let (version, end) = (Version::from_bytes(*version), u64::from_be_bytes(*end));
    match *kind {
        TOMBSTONE if rest.is_empty() => Some((Head::Tombstone { version, until_ms: end }, rest)),
        ENTRY => {
            let (account_len, rest) = length(rest)?;
            let (flow_len, rest) = length(rest)?;
            let (id_len, rest) = length(rest)?;
            let (account, rest) = text(rest, account_len)?;
            let (flow, rest) = text(rest, flow_len)?;
            let (id, payload) = text(rest, id_len)?;
            let expires_at_ms = (end != NEVER).then_some(end);
            Some((Head::Entry { version, expires_at_ms, account, flow, id }, payload))
        }
        _ => None,
    }
}

fn length(row: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = row.split_first_chunk()?;
    Some((usize::from(u16::from_be_bytes(*length)), rest))
}

fn text(row: &[u8], length: usize) -> Option<(&str, &[u8])> {
    let (text, rest) = row.split_at_checked(length)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

pub(super) fn head(row: &[u8]) -> Result<Head<'_>, Unreadable> {
    parse(row).map(|(head, _)| head).ok_or(Unreadable)
}

/// The entry without its payload, if it is one and lives at `now_ms`.
pub(super) fn live_head(row: &[u8], key: &str, now_ms: u64) -> Result<Option<Seen>, Unreadable> {
    let (head, payload) = parse(row).ok_or(Unreadable)?;
    let Head::Entry { version, expires_at_ms, account, flow, id } = head else { return Ok(None) };
    if expires_at_ms.is_some_and(|at| at <= now_ms) {
        return Ok(None);
    }
    Ok(Some(Seen {
        key: WebhookKey::parse(key).map_err(|_| Unreadable)?,
        account: Account::parse(account).map_err(|_| Unreadable)?,
        flow: Flow::parse(flow).map_err(|_| Unreadable)?,
        id: id.to_owned(),
        version,
        expires_at_ms,
        payload_bytes: payload.len() as u64,
    }))
}

/// The entry, if it is one and lives at `now_ms`.
pub(super) fn live_entry(row: &[u8], now_ms: u64) -> Result<Option<Entry>, Unreadable> {
    let (head, payload) = parse(row).ok_or(Unreadable)?;
    let Head::Entry { version, expires_at_ms, account, flow, id } = head else { return Ok(None) };
    if expires_at_ms.is_some_and(|at| at <= now_ms) {
        return Ok(None);
    }
    let account = Account::parse(account).map_err(|_| Unreadable)?;
    let flow = Flow::parse(flow).map_err(|_| Unreadable)?;
    let (id, payload) = (id.to_owned(), Bytes::copy_from_slice(payload));
    Ok(Some(Entry { version, expires_at_ms, account, flow, id, payload }))
}
