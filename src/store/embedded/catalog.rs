//! The catalog: a page is a range of the table on a snapshot, a change goes through the group commit like a write.
//!
//! A cursor is the last key that was looked at, in hexadecimal. Where a choice is limited to accounts, it is the last of
//! their keys instead, and a page goes on until it has one: a key of others would tell of them.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableTableMetadata};
use tokio::sync::oneshot;

use super::ledger::{Command, ENTRIES};
use super::{row, unavailable};
use crate::disk::committer::stopped;
use crate::disk::file::open_table;
use crate::disk::{Committer, Fault};
use crate::envelope::{Accounts, WebhookKey};
use crate::store::catalog::{Change, Changed, Choice, Cursor, Page, PageError, Seen};
use crate::store::{ReadError, Unavailable, WriteError};

/// Changes of one commit: a rewrite copies its payload, up to a megabyte, and no writer is to wait long for it.
const COMMIT_CHANGES_MAX: usize = 64;

#[derive(Clone)]
pub struct Catalog {
    committer: Committer<Command>,
}

impl Catalog {
    pub(super) fn new(committer: Committer<Command>) -> Self {
        Self { committer }
    }

    pub async fn page(
        &self,
        choice: &Choice,
        from: Option<&Cursor>,
        look_max: usize,
        now_ms: u64,
    ) -> Result<Page, PageError> {
        let mut after = from.map(|cursor| read_cursor(cursor).ok_or(PageError::Cursor)).transpose()?;
        let tells_all = choice.accounts == Accounts::All;
        let mut looked_at = 0;
        loop {
            let (choice, look_max, begin) = (choice.clone(), look_max.max(1), after.clone());
            let read = move |transaction: &ReadTransaction| {
                read_range(transaction, &choice, begin.as_deref(), look_max, now_ms)
            };
            let part = self.committer.read(read).await.map_err(unavailable)?;
            looked_at += part.looked_at;
            let told = if tells_all { part.last.clone() } else { last_key(&part.entries) };
            if part.at_end || told.is_some() {
                let next = told.filter(|_| !part.at_end).map(|key| write_cursor(&key));
                return Ok(Page { entries: part.entries, looked_at, next });
            }
            after = part.last;
        }
    }

    pub async fn find(&self, key: &WebhookKey, now_ms: u64) -> Result<Option<Seen>, ReadError> {
        let key = key.clone();
        let read = move |transaction: &ReadTransaction| {
            let Some(entries) = open_table(transaction, ENTRIES)? else { return Ok(Ok(None)) };
            let Some(row) = entries.get(key.as_str())? else { return Ok(Ok(None)) };
            Ok(row::live_head(row.value(), key.as_str(), now_ms))
        };
        let found = self.committer.read(read).await.map_err(|fault| ReadError::Unavailable(fault.to_string()))?;
        found.map_err(|row::Unreadable| ReadError::Unreadable("hookcache did not write this value".to_owned()))
    }

    pub async fn count(&self) -> Result<u64, Unavailable> {
        let read = |transaction: &ReadTransaction| match open_table(transaction, ENTRIES)? {
            Some(entries) => Ok(entries.len()?),
            None => Ok(0),
        };
        self.committer.read(read).await.map_err(unavailable)
    }

    pub async fn change(&self, changes: &[Change], now_ms: u64) -> Vec<Result<Changed, WriteError>> {
        let mut results = Vec::with_capacity(changes.len());
        for part in changes.chunks(COMMIT_CHANGES_MAX) {
            match self.commit(part.to_vec(), now_ms).await {
                Ok(changed) => results.extend(changed.into_iter().map(Ok)),
                Err(fault) => {
                    let unknown = WriteError::Unavailable(fault.to_string());
                    results.extend(part.iter().map(|_| Err(unknown.clone())));
                }
            }
        }
        results
    }

    async fn commit(&self, changes: Vec<Change>, now_ms: u64) -> Result<Vec<Changed>, Fault> {
        let (reply, answer) = oneshot::channel();
        self.committer.send(Command::Change { changes, now_ms, reply }).await?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// What a range of the table holds.
struct Part {
    entries: Vec<Seen>,
    looked_at: usize,
    /// The last key that was looked at.
    last: Option<String>,
    at_end: bool,
}

fn read_range(
    transaction: &ReadTransaction,
    choice: &Choice,
    after: Option<&str>,
    look_max: usize,
    now_ms: u64,
) -> Result<Part, redb::Error> {
    let mut part = Part { entries: Vec::new(), looked_at: 0, last: None, at_end: false };
    let Some(table) = open_table(transaction, ENTRIES)? else { return Ok(Part { at_end: true, ..part }) };
    let begin = match after {
        Some(after) if after >= choice.prefix.as_str() => Bound::Excluded(after),
        _ => Bound::Included(choice.prefix.as_str()),
    };
    for row in table.range::<&str>((begin, Bound::Unbounded))? {
        let (key, row) = row?;
        let key = key.value();
        if !key.starts_with(&choice.prefix) {
            break;
        }
        if part.looked_at == look_max {
            return Ok(part);
        }
        part.looked_at += 1;
        part.last = Some(key.to_owned());
        if let Ok(Some(seen)) = row::live_head(row.value(), key, now_ms)
            && choice.matches(key, &seen.account, &seen.flow)
        {
            part.entries.push(seen);
        }
    }
    Ok(Part { at_end: true, ..part })
}

fn last_key(entries: &[Seen]) -> Option<String> {
    entries.last().map(|seen| seen.key.as_str().to_owned())
}

fn write_cursor(key: &str) -> Cursor {
    use std::fmt::Write;
    let mut text = "k".to_owned();
    for byte in key.bytes() {
        let _ = write!(text, "{byte:02x}");
    }
    Cursor(text)
}

/// The key in a cursor; `None` where no page ended so.
fn read_cursor(Cursor(text): &Cursor) -> Option<String> {
    let digits = text.strip_prefix('k')?.as_bytes();
    let digit = |c: u8| char::from(c).to_digit(16).filter(|_| !c.is_ascii_uppercase()).map(|digit| digit as u8);
    let byte = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    let key = String::from_utf8(bytes?).ok()?;
    WebhookKey::parse(&key).ok().map(|_| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_key_and_nothing_else_is_a_cursor() {
        for key in ["a", "a/b c", "\u{e9}\u{1f980}"] {
            assert_eq!(read_cursor(&write_cursor(key)).as_deref(), Some(key));
        }
        for wrong in ["", "k", "k6", "61", "k6g", "k6A", "kff", "k00", "0.17", "k+1"] {
            assert_eq!(read_cursor(&Cursor(wrong.to_owned())), None, "{wrong}");
        }
    }
}
