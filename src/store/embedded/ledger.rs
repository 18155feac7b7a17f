//! The store's tables, and what a group commit does to them.

use std::collections::HashMap;
use std::time::Duration;

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::catalog::{Change, Changed, Rewrite, To};
use super::super::changes::{Changes, Hash};
use super::super::{Effect, Entry, Outcome, ReadError, Write, WriteError};
use super::decide::{Then, decide, is_as_seen};
use super::row;
use crate::disk::file::{Format, open_table};
use crate::disk::{Book, Fault};
use crate::envelope::{Account, Clock, Flow, WebhookKey};
use crate::ttl::{Scope, Ttl};

pub(super) const FORMAT: Format = Format { kind: "store", version: 1, cache_bytes: 256 << 20 };

/// Webhook key -> row.
pub(super) const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("entries");
/// (End in milliseconds since the epoch, webhook key), for all that ends.
const ENDS: TableDefinition<(u64, &str), ()> = TableDefinition::new("ends");
/// `account/flow`, where `*` stands for any (no name may hold a star or a slash) -> seconds, 0 for never.
const RULES: TableDefinition<&str, u64> = TableDefinition::new("rules");
const NEVER: u64 = 0;

/// Expired rows that one commit removes at most, so that no writer waits long for room to be made.
const PURGE_MAX: usize = 500;
/// Time between purges that found nothing left to do: whatever ends within it shares a sync.
const PURGE_PAUSE: Duration = Duration::from_secs(1);

type WriteResults = Vec<Vec<Result<Outcome, WriteError>>>;

pub(super) enum Command {
    Write {
        writes: Vec<Write>,
        now_ms: u64,
        reply: oneshot::Sender<Result<WriteResults, Fault>>,
    },
    Change {
        changes: Vec<Change>,
        now_ms: u64,
        reply: oneshot::Sender<Result<Vec<Changed>, Fault>>,
    },
    /// Sets a rule, or removes it; answers whether there was one before.
    Rule {
        scope: Scope,
        ttl: Option<Ttl>,
        reply: oneshot::Sender<Result<bool, Fault>>,
    },
}

pub(super) struct Ledger {
    clock: Clock,
    /// When the first row ends; `None` where nothing ends.
    next_end_ms: Option<u64>,
    /// The last purge, where it removed all there was.
    rested_at: Option<Instant>,
    changes: Changes,
}

enum Answer {
    Written(WriteResults),
    Changed(Vec<Changed>),
    Rule(bool),
}

pub(super) struct Applied {
    answers: Vec<Answer>,
    next_end_ms: Option<u64>,
    purge: Purge,
    /// Keys whose rows were changed.
    changed: Vec<Hash>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purge {
    NotDue,
    Done,
    MoreToDo,
}

impl Ledger {
    pub(super) fn new(clock: Clock, changes: Changes) -> Self {
        Self { clock, next_end_ms: None, rested_at: None, changes }
    }
}

impl Book for Ledger {
    type Command = Command;
    type Applied = Applied;

    fn load(&mut self, transaction: &ReadTransaction) -> Result<(), Fault> {
        self.next_end_ms = read_next_end(transaction)?;
        // A commit that was told to have failed may be in the file.
        self.changes.everything_changed();
        Ok(())
    }

    fn bytes(command: &Command) -> usize {
        match command {
            Command::Write { writes, .. } => writes.iter().map(bytes_of_write).sum(),
            // What a rewrite copies is not known here; how many it takes at once is bounded where it is made.
            Command::Change { .. } | Command::Rule { .. } => 0,
        }
    }

    fn grows(command: &Command) -> bool {
        match command {
            Command::Write { writes, .. } => writes.iter().any(|write| matches!(write.effect, Effect::Put { .. })),
            Command::Change { changes, .. } => changes.iter().any(|change| matches!(change.to, To::ExpireAt(_))),
            Command::Rule { .. } => false,
        }
    }

    fn apply(&mut self, transaction: &WriteTransaction, commands: &[Command]) -> Result<Applied, Fault> {
        self.put(transaction, commands).map_err(Fault::from)
    }

    fn committed(&mut self, commands: Vec<Command>, applied: Applied) {
        self.next_end_ms = applied.next_end_ms;
        match applied.purge {
            Purge::NotDue => {}
            Purge::Done => self.rested_at = Some(Instant::now()),
            Purge::MoreToDo => self.rested_at = None,
        }
        applied.changed.into_iter().for_each(|key| self.changes.key_changed(key));
        for (command, answer) in commands.into_iter().zip(applied.answers) {
            // Whoever asked may have gone; what was done stays done.
            match (command, answer) {
                (Command::Write { reply, .. }, Answer::Written(results)) => {
                    let _ = reply.send(Ok(results));
                }
                (Command::Change { reply, .. }, Answer::Changed(results)) => {
                    let _ = reply.send(Ok(results));
                }
                (Command::Rule { reply, .. }, Answer::Rule(existed)) => {
                    let _ = reply.send(Ok(existed));
                }
                // An answer is made from its own command.
                (Command::Write { .. } | Command::Change { .. } | Command::Rule { .. }, _) => {}
            }
        }
    }

    fn refuse(command: Command, fault: &Fault) {
        match command {
            Command::Write { reply, .. } => {
                let _ = reply.send(Err(fault.clone()));
            }
            Command::Change { reply, .. } => {
                let _ = reply.send(Err(fault.clone()));
            }
            Command::Rule { reply, .. } => {
                let _ = reply.send(Err(fault.clone()));
            }
        }
    }

    fn upkeep_in(&self) -> Option<Duration> {
        let end = Duration::from_millis(self.next_end_ms?.saturating_sub(self.clock.now_ms()));
        let rest = self.rested_at.map_or(Duration::ZERO, |at| PURGE_PAUSE.saturating_sub(at.elapsed()));
        Some(end.max(rest))
    }
}

fn bytes_of_write(write: &Write) -> usize {
    let payload = match &write.effect {
        Effect::Put { payload, .. } => payload.len(),
        Effect::Delete => 0,
    };
    write.keys.len().saturating_mul(payload)
}

impl Ledger {
    fn put(&self, transaction: &WriteTransaction, commands: &[Command]) -> Result<Applied, redb::Error> {
        let (entries, ends) = (transaction.open_table(ENTRIES)?, transaction.open_table(ENDS)?);
        let mut tables = Tables { entries, ends, changes: &self.changes, changed: Vec::new() };
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            answers.push(match command {
                Command::Write { writes, now_ms, .. } => {
                    let results = writes.iter().map(|write| tables.write(write, *now_ms));
                    Answer::Written(results.collect::<Result<_, _>>()?)
                }
                Command::Change { changes, now_ms, .. } => {
                    let results = changes.iter().map(|change| tables.change(change, *now_ms));
                    Answer::Changed(results.collect::<Result<_, _>>()?)
                }
                Command::Rule { scope, ttl, .. } => Answer::Rule(change_rule(transaction, scope, *ttl)?),
            });
        }
        let purge = match self.upkeep_in() {
            Some(Duration::ZERO) => tables.purge(self.clock.now_ms())?,
            _ => Purge::NotDue,
        };
        let next_end_ms = tables.ends.first()?.map(|(end, _)| end.value().0);
        Ok(Applied { answers, next_end_ms, purge, changed: tables.changed })
    }
}

fn change_rule(transaction: &WriteTransaction, scope: &Scope, ttl: Option<Ttl>) -> Result<bool, redb::Error> {
    let mut rules = transaction.open_table(RULES)?;
    let name = write_scope(scope);
    let before = match ttl {
        Some(Ttl::Never) => rules.insert(name.as_str(), NEVER)?,
        Some(Ttl::For(time)) => rules.insert(name.as_str(), time.as_secs().max(1))?,
        None => rules.remove(name.as_str())?,
    };
    Ok(before.is_some())
}

struct Tables<'t> {
    entries: Table<'t, &'static str, &'static [u8]>,
    ends: Table<'t, (u64, &'static str), ()>,
    changes: &'t Changes,
    changed: Vec<Hash>,
}

impl Tables<'_> {
    fn write(&mut self, write: &Write, now_ms: u64) -> Result<Vec<Result<Outcome, WriteError>>, redb::Error> {
        let entry = match &write.effect {
            Effect::Put { .. } => match row::entry(write) {
                Some(row) => row,
                None => {
                    let refused = WriteError::Refused("its id is longer than 65,535 bytes".to_owned());
                    return Ok(vec![Err(refused); write.keys.len()]);
                }
            },
            Effect::Delete => Vec::new(),
        };
        write.keys.iter().map(|key| self.write_key(key.as_str(), write, &entry, now_ms).map(Ok)).collect()
    }

    fn write_key(&mut self, key: &str, write: &Write, entry: &[u8], now_ms: u64) -> Result<Outcome, redb::Error> {
        let (outcome, then, ended_ms) = {
            let held = self.entries.get(key)?;
            let head = match held.as_ref().map(|held| row::head(held.value())).transpose() {
                Ok(head) => head,
                Err(row::Unreadable) => return Ok(Outcome::Unreadable),
            };
            let (outcome, then) = decide(head.as_ref(), write, now_ms);
            (outcome, then, head.and_then(|head| head.expires_at_ms()))
        };
        let (row, ends_ms) = match then {
            Then::Leave => return Ok(outcome),
            Then::Put => (Some(entry), expires_at_ms(write)),
            Then::Tombstone { until_ms } => (Some(&row::tombstone(write.version, until_ms)[..]), Some(until_ms)),
            Then::Remove => (None, None),
        };
        match row {
            Some(row) => self.entries.insert(key, row)?,
            None => self.entries.remove(key)?,
        };
        self.move_end(key, ended_ms, ends_ms)?;
        self.note(key);
        Ok(outcome)
    }

    fn change(&mut self, change: &Change, now_ms: u64) -> Result<Changed, redb::Error> {
        let key = change.key.as_str();
        let rewrite = change.rewrite(now_ms);
        let (row, ended_ms, ends_ms) = {
            let Some(held) = self.entries.get(key)? else { return Ok(Changed::Superseded) };
            let Ok(head) = row::head(held.value()) else { return Ok(Changed::Superseded) };
            if !is_as_seen(&head, change, now_ms) {
                return Ok(Changed::Superseded);
            }
            match rewrite {
                Rewrite::Expiry(at) => (row::with_expiry(held.value(), at), head.expires_at_ms(), at),
                Rewrite::Tombstone { until_ms } => {
                    (row::tombstone(change.version, until_ms), head.expires_at_ms(), Some(until_ms))
                }
            }
        };
        self.entries.insert(key, row.as_slice())?;
        self.move_end(key, ended_ms, ends_ms)?;
        self.note(key);
        Ok(rewrite.done())
    }

    fn note(&mut self, key: &str) {
        self.changed.push(self.changes.hash(key.as_bytes()));
    }

    fn move_end(&mut self, key: &str, ended_ms: Option<u64>, ends_ms: Option<u64>) -> Result<(), redb::Error> {
        if ended_ms != ends_ms {
            if let Some(at) = ended_ms {
                self.ends.remove((at, key))?;
            }
            if let Some(at) = ends_ms {
                self.ends.insert((at, key), ())?;
            }
        }
        Ok(())
    }

    /// Removes what has ended, the longest ago first.
    fn purge(&mut self, now_ms: u64) -> Result<Purge, redb::Error> {
        for _ in 0..PURGE_MAX {
            let Some((at, key)) = self.ends.first()?.map(|(end, _)| {
                let (at, key) = end.value();
                (at, key.to_owned())
            }) else {
                return Ok(Purge::Done);
            };
            if at > now_ms {
                return Ok(Purge::Done);
            }
            self.ends.remove((at, key.as_str()))?;
            self.entries.remove(key.as_str())?;
            self.note(&key);
        }
        Ok(Purge::MoreToDo)
    }
}

fn expires_at_ms(write: &Write) -> Option<u64> {
    match &write.effect {
        Effect::Put { expires_at_ms, .. } => *expires_at_ms,
        Effect::Delete => None,
    }
}

fn read_next_end(transaction: &ReadTransaction) -> Result<Option<u64>, redb::Error> {
    let Some(ends) = open_table(transaction, ENDS)? else { return Ok(None) };
    Ok(ends.first()?.map(|(end, _)| end.value().0))
}

pub(super) fn read_entries(
    transaction: &ReadTransaction,
    keys: &[WebhookKey],
    now_ms: u64,
) -> Result<Vec<Result<Option<Entry>, ReadError>>, redb::Error> {
    let Some(entries) = open_table(transaction, ENTRIES)? else {
        return Ok(vec![Ok(None); keys.len()]);
    };
    let read = |key: &WebhookKey| {
        let Some(row) = entries.get(key.as_str())? else { return Ok(Ok(None)) };
        let entry = row::live_entry(row.value(), now_ms);
        Ok(entry.map_err(|row::Unreadable| ReadError::Unreadable("hookcache did not write this value".to_owned())))
    };
    keys.iter().map(read).collect()
}

/// All rules, or what is wrong with them.
pub(super) fn read_rules(transaction: &ReadTransaction) -> Result<Result<Vec<(Scope, Ttl)>, String>, redb::Error> {
    let Some(rules) = open_table(transaction, RULES)? else { return Ok(Ok(Vec::new())) };
    let mut all = HashMap::new();
    for rule in rules.iter()? {
        let (name, seconds) = rule?;
        let Some(scope) = read_scope(name.value()) else {
            return Ok(Err("a TTL rule can't be read; export, repair and import the rules".to_owned()));
        };
        let ttl = match seconds.value() {
            NEVER => Ttl::Never,
            seconds => Ttl::For(Duration::from_secs(seconds)),
        };
        all.insert(scope, ttl);
    }
    Ok(Ok(all.into_iter().collect()))
}

fn write_scope(scope: &Scope) -> String {
    match scope {
        Scope::AccountFlow(account, flow) => format!("{account}/{flow}"),
        Scope::Account(account) => format!("{account}/*"),
        Scope::Flow(flow) => format!("*/{flow}"),
    }
}

fn read_scope(name: &str) -> Option<Scope> {
    let scope = match name.split_once('/')? {
        ("*", flow) => Scope::Flow(Flow::parse(flow).ok()?),
        (account, "*") => Scope::Account(Account::parse(account).ok()?),
        (account, flow) => Scope::AccountFlow(Account::parse(account).ok()?, Flow::parse(flow).ok()?),
    };
    Some(scope)
}
