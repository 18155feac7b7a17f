//! What is known of each message, and which are hidden, in memory: taking a message never scans the file. What is not
//! hidden is [`Ready`], which knows whose turn it is.
//!
//! It holds no bodies. It is changed by the thread that commits (what came, what went) and by the takers (what is
//! hidden), each time for a few tree operations under a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::super::Depth;
use super::ready::{Group, Ready};

/// Receive counts that ride in one commit at most; the others take the next one.
const COUNTS_PER_COMMIT_MAX: usize = 1_000;

/// A message in the hands of who took it the `receive_count`th time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Taken {
    pub(super) seq: u64,
    pub(super) receive_count: u32,
}

/// What is known of a message without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) enqueued_at_ms: u64,
    pub(super) bytes: u64,
    pub(super) receive_count: u32,
    pub(super) group: Group,
}

struct Slot {
    facts: Facts,
    /// `None` where it is ready.
    hidden_until: Option<Instant>,
}

/// Dead letters: how many, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Dead {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Dead {
    pub(super) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

pub(super) struct Index {
    session: u64,
    /// All messages. The lowest number is the oldest.
    slots: BTreeMap<u64, Slot>,
    ready: Ready,
    hidden: BTreeSet<(Instant, u64)>,
    /// Whose receive count in the file is behind.
    uncounted: BTreeSet<u64>,
    bytes: u64,
    dead: Dead,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            session: Uuid::new_v4().as_u64_pair().0,
            slots: BTreeMap::new(),
            ready: Ready::default(),
            hidden: BTreeSet::new(),
            uncounted: BTreeSet::new(),
            bytes: 0,
            dead: Dead::default(),
        }
    }

    /// Names this opening in receipts, so that those of another are stale.
    pub(super) fn session(&self) -> u64 {
        self.session
    }

    /// Makes the index match the file: what it knows keeps its state, so that what is in flight stays so.
    /// What it does not know comes in the order of the file.
    pub(super) fn reconcile(&mut self, in_file: BTreeMap<u64, Facts>, dead: Dead) {
        let gone: Vec<u64> = self.slots.keys().filter(|seq| !in_file.contains_key(seq)).copied().collect();
        for seq in gone {
            self.remove(seq);
        }
        for (seq, facts) in in_file {
            if !self.slots.contains_key(&seq) {
                self.insert(seq, facts);
            }
        }
        self.dead = dead;
    }

    pub(super) fn insert(&mut self, seq: u64, facts: Facts) {
        self.bytes += facts.bytes;
        self.slots.insert(seq, Slot { facts, hidden_until: None });
        self.ready.insert(facts.group, seq);
    }

    pub(super) fn remove(&mut self, seq: u64) {
        let Some(slot) = self.slots.remove(&seq) else { return };
        self.bytes -= slot.facts.bytes;
        self.uncounted.remove(&seq);
        match slot.hidden_until {
            Some(until) => _ = self.hidden.remove(&(until, seq)),
            None => self.ready.remove(slot.facts.group, seq),
        }
    }

    pub(super) fn bury(&mut self, seq: u64, bytes: u64) {
        self.remove(seq);
        self.dead.count += 1;
        self.dead.bytes += bytes;
    }

    /// Dead letters that are none any more.
    pub(super) fn exhume(&mut self, gone: Dead) {
        self.dead.count = self.dead.count.saturating_sub(gone.count);
        self.dead.bytes = self.dead.bytes.saturating_sub(gone.bytes);
    }

    pub(super) fn take(&mut self, max: usize, now: Instant, hidden_until: Instant) -> Vec<Taken> {
        self.show(now);
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(seq) = self.ready.pop()
        {
            let Some(slot) = self.slots.get_mut(&seq) else { continue };
            slot.facts.receive_count = slot.facts.receive_count.saturating_add(1);
            slot.hidden_until = Some(hidden_until);
            taken.push(Taken { seq, receive_count: slot.facts.receive_count });
            self.hidden.insert((hidden_until, seq));
            self.uncounted.insert(seq);
        }
        taken
    }

    /// Puts back what has been hidden for long enough.
    fn show(&mut self, now: Instant) {
        while let Some((until, seq)) = self.hidden.pop_first() {
            if until > now {
                self.hidden.insert((until, seq));
                break;
            }
            if let Some(slot) = self.slots.get_mut(&seq) {
                slot.hidden_until = None;
                self.ready.insert(slot.facts.group, seq);
            }
        }
    }

    /// Hides a taken message for `time` from now; ignored where it is hidden no more, or was taken again.
    pub(super) fn hide(&mut self, taken: Taken, time: Duration, now: Instant) {
        self.show(now);
        let Some(slot) = self.slots.get_mut(&taken.seq) else { return };
        let Some(until) = slot.hidden_until.filter(|_| slot.facts.receive_count == taken.receive_count) else { return };
        self.hidden.remove(&(until, taken.seq));
        slot.hidden_until = Some(now + time);
        self.hidden.insert((now + time, taken.seq));
        self.show(now);
    }

    /// Is it the latest take of a message that is still there? Then it may be deleted, even if its time is over.
    pub(super) fn is_current(&self, taken: Taken) -> bool {
        self.slots.get(&taken.seq).is_some_and(|slot| slot.facts.receive_count == taken.receive_count)
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the next hidden message is ready again.
    pub(super) fn next_hidden(&self) -> Option<Instant> {
        self.hidden.first().map(|(until, _)| *until)
    }

    /// Messages and their counts that the file does not know yet.
    pub(super) fn uncounted(&self) -> Vec<(u64, u32)> {
        let count = |seq: &u64| Some((*seq, self.slots.get(seq)?.facts.receive_count));
        self.uncounted.iter().take(COUNTS_PER_COMMIT_MAX).filter_map(count).collect()
    }

    /// These counts are in the file now; one that was raised meanwhile stays to be written.
    pub(super) fn counted(&mut self, written: &[(u64, u32)]) {
        for (seq, count) in written {
            if self.slots.get(seq).is_none_or(|slot| slot.facts.receive_count == *count) {
                self.uncounted.remove(seq);
            }
        }
    }

    /// Bytes of messages and dead letters.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.dead.bytes
    }

    pub(super) fn dead(&self) -> Dead {
        self.dead
    }

    pub(super) fn depth(&mut self, now: Instant, now_ms: u64) -> Depth {
        self.show(now);
        let oldest_ms = self.slots.first_key_value().map_or(now_ms, |(_, slot)| slot.facts.enqueued_at_ms);
        Depth {
            visible: self.ready.len() as u64,
            in_flight: self.hidden.len() as u64,
            dead: self.dead.count,
            oldest_age: Some(Duration::from_millis(now_ms.saturating_sub(oldest_ms))),
        }
    }
}
