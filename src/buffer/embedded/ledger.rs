//! The buffer's tables, and what a group commit does to them.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};
use tokio::sync::oneshot;

use super::super::{AppendError, MessageId};
use super::index::{Dead, Facts, Taken};
use super::ready::Groups;
use super::{Live, message_id};
use crate::disk::file::{Format, open_table};
use crate::disk::{Book, Fault};
use crate::envelope::{Poison, WireForm};

pub(super) const FORMAT: Format = Format { kind: "buffer", version: 1, cache_bytes: 64 << 20 };

/// What a message takes beside its body: rows in two tables.
const ROW_BYTES: u64 = 128;

/// Enqueued at (ms), bytes, receive count, account. Apart from the bodies, so that a start reads little.
type FactsRow<'a> = (u64, u64, u32, &'a str);
const FACTS: TableDefinition<u64, FactsRow<'static>> = TableDefinition::new("facts");
/// Traceparent, body.
type BodyRow<'a> = (Option<&'a str>, &'a [u8]);
const BODIES: TableDefinition<u64, BodyRow<'static>> = TableDefinition::new("bodies");
/// Buried at (ms), reason, detail, enqueued at (ms), receive count, account, traceparent, body.
pub(super) type DeadRow<'a> = (u64, &'a str, &'a str, u64, u32, &'a str, Option<&'a str>, &'a [u8]);
const DEAD: TableDefinition<u64, DeadRow<'static>> = TableDefinition::new("dead");
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
/// A sequence number is never used again, so that a message id names one message for good.
const NEXT_SEQ: &str = "next-seq";
const DEAD_COUNT: &str = "dead-count";
const DEAD_BYTES: &str = "dead-bytes";

/// Why and when a message is put aside.
#[derive(Debug, Clone)]
pub(super) struct Burial {
    pub(super) poison: Poison,
    pub(super) at_ms: u64,
}

pub(super) enum Command {
    Append {
        message: WireForm,
        enqueued_at_ms: u64,
        reply: oneshot::Sender<Result<MessageId, AppendError>>,
    },
    Remove {
        removals: Vec<(Taken, Option<Burial>)>,
        reply: oneshot::Sender<Result<(), Fault>>,
    },
    /// Of dead letters.
    Exhume {
        exhumation: Exhumation,
        reply: oneshot::Sender<Result<(), Fault>>,
    },
}

/// Dead letters to become messages again, and dead letters to go.
#[derive(Debug, Clone, Default)]
pub(super) struct Exhumation {
    pub(super) redriven: Vec<u64>,
    pub(super) dropped: Vec<u64>,
    pub(super) at_ms: u64,
    /// Of the bodies that are redriven.
    pub(super) bytes: usize,
}

/// What a message has in its row beside what the index knows.
pub(super) struct Message {
    pub(super) traceparent: Option<String>,
    pub(super) body: Bytes,
}

pub(super) struct Ledger {
    live: Arc<Live>,
    bytes_max: u64,
    next_seq: u64,
    groups: Groups,
}

/// What one commit did, for the index.
#[derive(Default)]
pub(super) struct Applied {
    /// For each append in order; `None` where it did not fit.
    appended: Vec<Option<(u64, Facts)>>,
    removed: Vec<u64>,
    /// With the bytes of the dead letter.
    buried: Vec<(u64, u64)>,
    counted: Vec<(u64, u32)>,
    redriven: Vec<(u64, Facts)>,
    exhumed: Dead,
    next_seq: u64,
}

impl Ledger {
    pub(super) fn new(live: Arc<Live>, bytes_max: u64) -> Self {
        Self { live, bytes_max, next_seq: 1, groups: Groups::new() }
    }
}

/// What a caller is told when the buffer has its share of the disk.
pub(super) fn beyond(bytes_max: u64) -> String {
    format!("it holds the {bytes_max} bytes that buffer.max_bytes allows; it drains as messages are stored")
}

impl Book for Ledger {
    type Command = Command;
    type Applied = Applied;

    fn load(&mut self, transaction: &ReadTransaction) -> Result<(), Fault> {
        let (next_seq, dead, facts) = read_all(transaction, &self.groups)?;
        self.next_seq = self.next_seq.max(next_seq);
        self.live.index().reconcile(facts, dead);
        self.live.ready.notify_one();
        Ok(())
    }

    fn bytes(command: &Command) -> usize {
        match command {
            Command::Append { message, .. } => message.body.len(),
            Command::Remove { .. } => 0,
            Command::Exhume { exhumation, .. } => exhumation.bytes,
        }
    }

    fn grows(command: &Command) -> bool {
        match command {
            Command::Append { .. } => true,
            Command::Remove { .. } => false,
            Command::Exhume { exhumation, .. } => !exhumation.redriven.is_empty(),
        }
    }

    fn apply(&mut self, transaction: &WriteTransaction, commands: &[Command]) -> Result<Applied, Fault> {
        let mut applied = Applied { next_seq: self.next_seq, ..Applied::default() };
        self.put(transaction, commands, &mut applied).map_err(Fault::from)?;
        Ok(applied)
    }

    fn committed(&mut self, commands: Vec<Command>, applied: Applied) {
        self.next_seq = applied.next_seq;
        let mut index = self.live.index();
        // First the counts: what is removed needs none.
        index.counted(&applied.counted);
        for (seq, facts) in applied.appended.iter().flatten().chain(&applied.redriven) {
            index.insert(*seq, *facts);
        }
        index.exhume(applied.exhumed);
        for seq in applied.removed {
            index.remove(seq);
        }
        for (seq, bytes) in applied.buried {
            index.bury(seq, bytes);
        }
        drop(index);
        if !applied.redriven.is_empty() {
            self.live.ready.notify_one();
        }
        let mut appended = applied.appended.into_iter();
        for command in commands {
            // Whoever asked may have gone; what was done stays done.
            match command {
                Command::Append { reply, .. } => {
                    let Some((seq, _)) = appended.next().flatten() else {
                        let _ = reply.send(Err(AppendError::Full(beyond(self.bytes_max))));
                        continue;
                    };
                    self.live.ready.notify_one();
                    let _ = reply.send(Ok(message_id(seq)));
                }
                Command::Remove { reply, .. } | Command::Exhume { reply, .. } => {
                    let _ = reply.send(Ok(()));
                }
            }
        }
    }

    fn refuse(command: Command, fault: &Fault) {
        match command {
            Command::Append { reply, .. } => {
                let _ = reply.send(Err(super::append_error(fault.clone())));
            }
            Command::Remove { reply, .. } | Command::Exhume { reply, .. } => {
                let _ = reply.send(Err(fault.clone()));
            }
        }
    }

    fn upkeep_in(&self) -> Option<Duration> {
        None
    }
}

/// The tables of one write transaction.
struct Tables<'t> {
    facts: Table<'t, u64, FactsRow<'static>>,
    bodies: Table<'t, u64, BodyRow<'static>>,
    dead: Table<'t, u64, DeadRow<'static>>,
    counters: Table<'t, &'static str, u64>,
}

impl Ledger {
    fn put(
        &self,
        transaction: &WriteTransaction,
        commands: &[Command],
        applied: &mut Applied,
    ) -> Result<(), redb::Error> {
        let mut tables = Tables {
            facts: transaction.open_table(FACTS)?,
            bodies: transaction.open_table(BODIES)?,
            dead: transaction.open_table(DEAD)?,
            counters: transaction.open_table(COUNTERS)?,
        };
        let (mut bytes, dead, counts) = {
            let index = self.live.index();
            (index.bytes(), index.dead(), index.uncounted())
        };
        tables.count(counts, applied)?;
        for command in commands {
            match command {
                Command::Append { message, enqueued_at_ms, .. } => {
                    let facts = Facts {
                        enqueued_at_ms: *enqueued_at_ms,
                        bytes: message.body.len() as u64 + ROW_BYTES,
                        receive_count: 0,
                        group: self.groups.of(message.account.as_str()),
                    };
                    if bytes.saturating_add(facts.bytes) > self.bytes_max {
                        applied.appended.push(None);
                        continue;
                    }
                    bytes += facts.bytes;
                    tables.append(applied.next_seq, facts, message)?;
                    applied.appended.push(Some((applied.next_seq, facts)));
                    applied.next_seq += 1;
                }
                Command::Remove { removals, .. } => {
                    for (taken, burial) in removals {
                        // A stale one is ignored: whoever took it last decides.
                        if self.live.index().is_current(*taken) {
                            tables.remove(*taken, burial.as_ref(), applied)?;
                        }
                    }
                }
                Command::Exhume { exhumation, .. } => tables.exhume(exhumation, &self.groups, applied)?,
            }
        }
        tables.write_counters(dead, applied)
    }
}

impl Tables<'_> {
    fn count(&mut self, counts: Vec<(u64, u32)>, applied: &mut Applied) -> Result<(), redb::Error> {
        for (seq, count) in &counts {
            let Some((at_ms, bytes, account)) = self.facts.get(seq)?.map(|row| {
                let (at_ms, bytes, _, account) = row.value();
                (at_ms, bytes, account.to_owned())
            }) else {
                continue;
            };
            self.facts.insert(seq, (at_ms, bytes, *count, account.as_str()))?;
        }
        applied.counted = counts;
        Ok(())
    }

    fn append(&mut self, seq: u64, facts: Facts, message: &WireForm) -> Result<(), redb::Error> {
        self.facts.insert(seq, (facts.enqueued_at_ms, facts.bytes, 0, message.account.as_str()))?;
        self.bodies.insert(seq, (message.traceparent.as_deref(), &message.body[..]))?;
        Ok(())
    }

    fn remove(&mut self, taken: Taken, burial: Option<&Burial>, applied: &mut Applied) -> Result<(), redb::Error> {
        let (Some(facts), Some(body)) = (self.facts.remove(taken.seq)?, self.bodies.remove(taken.seq)?) else {
            return Ok(());
        };
        let Some(Burial { poison, at_ms }) = burial else {
            applied.removed.push(taken.seq);
            return Ok(());
        };
        let (enqueued_at_ms, bytes, _, account) = facts.value();
        let (traceparent, body) = body.value();
        let bytes = bytes + poison.detail.len() as u64;
        let (reason, detail) = (poison.code.as_str(), poison.detail.as_str());
        let row = (*at_ms, reason, detail, enqueued_at_ms, taken.receive_count, account, traceparent, body);
        self.dead.insert(taken.seq, row)?;
        applied.buried.push((taken.seq, bytes));
        Ok(())
    }

    /// What is gone already is left out. Redriving takes no more room than the letters did, so `bytes_max` allows it.
    fn exhume(&mut self, exhumation: &Exhumation, groups: &Groups, applied: &mut Applied) -> Result<(), redb::Error> {
        for seq in &exhumation.dropped {
            if let Some(row) = self.dead.remove(seq)? {
                applied.exhumed.add(dead_bytes(&row.value()));
            }
        }
        for seq in &exhumation.redriven {
            let Some(row) = self.dead.remove(seq)? else { continue };
            let row = row.value();
            let (_, _, _, _, _, account, traceparent, body) = row;
            let bytes = body.len() as u64 + ROW_BYTES;
            let group = groups.of(account);
            let facts = Facts { enqueued_at_ms: exhumation.at_ms, bytes, receive_count: 0, group };
            self.facts.insert(applied.next_seq, (facts.enqueued_at_ms, bytes, 0, account))?;
            self.bodies.insert(applied.next_seq, (traceparent, body))?;
            applied.exhumed.add(dead_bytes(&row));
            applied.redriven.push((applied.next_seq, facts));
            applied.next_seq += 1;
        }
        Ok(())
    }

    fn write_counters(&mut self, dead: Dead, applied: &Applied) -> Result<(), redb::Error> {
        let more: u64 = applied.buried.iter().map(|(_, bytes)| bytes).sum();
        self.counters.insert(NEXT_SEQ, applied.next_seq)?;
        self.counters
            .insert(DEAD_COUNT, (dead.count + applied.buried.len() as u64).saturating_sub(applied.exhumed.count))?;
        self.counters.insert(DEAD_BYTES, (dead.bytes + more).saturating_sub(applied.exhumed.bytes))?;
        Ok(())
    }
}

fn read_all(transaction: &ReadTransaction, groups: &Groups) -> Result<(u64, Dead, BTreeMap<u64, Facts>), redb::Error> {
    let mut all = BTreeMap::new();
    if let Some(table) = open_table(transaction, FACTS)? {
        for row in table.iter()? {
            let (seq, row) = row?;
            let (enqueued_at_ms, bytes, receive_count, account) = row.value();
            let group = groups.of(account);
            all.insert(seq.value(), Facts { enqueued_at_ms, bytes, receive_count, group });
        }
    }
    let Some(counters) = open_table(transaction, COUNTERS)? else {
        return Ok((1, Dead::default(), all));
    };
    let counter = |name: &str| counters.get(name).map(|value| value.map(|value| value.value()));
    let dead = Dead { count: counter(DEAD_COUNT)?.unwrap_or(0), bytes: counter(DEAD_BYTES)?.unwrap_or(0) };
    Ok((counter(NEXT_SEQ)?.unwrap_or(1), dead, all))
}

/// One per message, in order; `None` where it is gone.
pub(super) fn read_messages(
    transaction: &ReadTransaction,
    taken: &[Taken],
) -> Result<Vec<Option<Message>>, redb::Error> {
    let Some(table) = open_table(transaction, BODIES)? else {
        return Ok(taken.iter().map(|_| None).collect());
    };
    let read = |taken: &Taken| {
        let row = table.get(taken.seq)?;
        Ok(row.map(|row| {
            let (traceparent, body) = row.value();
            Message { traceparent: traceparent.map(str::to_owned), body: Bytes::copy_from_slice(body) }
        }))
    };
    taken.iter().map(read).collect()
}

/// The bodies of messages from a sequence number on, in order, until `take` says that it has enough. Returns whether
/// they came to their end.
pub(super) fn read_bodies(
    transaction: &ReadTransaction,
    from: u64,
    mut take: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> Result<bool, redb::Error> {
    let Some(table) = open_table(transaction, BODIES)? else {
        return Ok(true);
    };
    for row in table.range(from..)? {
        let (seq, row) = row?;
        let (_, body) = row.value();
        if take(seq.value(), body).is_break() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a dead letter was counted as when it was buried.
fn dead_bytes((_, _, detail, _, _, _, _, body): &DeadRow<'_>) -> u64 {
    (body.len() + detail.len()) as u64 + ROW_BYTES
}

/// The dead letters from a sequence number on, in order, until `take` says that it has enough. Returns whether they
/// came to their end.
pub(super) fn read_dead(
    transaction: &ReadTransaction,
    seqs: RangeInclusive<u64>,
    mut take: impl FnMut(u64, DeadRow<'_>) -> ControlFlow<()>,
) -> Result<bool, redb::Error> {
    let Some(table) = open_table(transaction, DEAD)? else {
        return Ok(true);
    };
    for row in table.range(seqs)? {
        let (seq, row) = row?;
        if take(seq.value(), row.value()).is_break() {
            return Ok(false);
        }
    }
    Ok(true)
}
