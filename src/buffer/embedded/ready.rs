//! What is ready, by account: each account has its turn, however much another one has waiting.
//!
//! This is fair queueing between accounts, in rounds. In each round every account that has something ready gives one
//! message, its oldest. So a message waits for older ones of its own account and for one message of each other account
//! in each round, never for the backlog of another; and an account with a backlog is served in each round, too.
//!
//! What is hidden takes no turn, so an account whose messages fail again and again holds up nobody.
//!
//! Accounts are told apart by a hash of 32 bits, as stochastic fairness queueing does it: a message carries four bytes
//! for its account, and nothing is kept of an account that has nothing here. Two accounts whose hashes collide share
//! their turns, and no more. The hash is seeded anew at each opening, so that nobody can aim at another's turns.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// Who shares turns: an account, as far as its hash tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Group(u32);

/// From accounts to groups; another one for each opening.
pub(super) struct Groups(RandomState);

impl Groups {
    pub(super) fn new() -> Self {
        Self(RandomState::new())
    }

    pub(super) fn of(&self, account: &str) -> Group {
        Group(self.0.hash_one(account) as u32)
    }
}

/// The messages that may be taken, by sequence number. Every operation is a few steps in trees.
#[derive(Default)]
pub(super) struct Ready {
    messages: BTreeSet<(Group, u64)>,
    /// Whose turn is next. A group whose messages went otherwise keeps its place until its turn comes.
    turns: VecDeque<Group>,
    /// The groups in `turns`, where each stands once.
    waiting: HashSet<Group>,
}

impl Ready {
    pub(super) fn insert(&mut self, group: Group, seq: u64) {
        self.messages.insert((group, seq));
        if self.waiting.insert(group) {
            self.turns.push_back(group);
        }
    }

    pub(super) fn remove(&mut self, group: Group, seq: u64) {
        self.messages.remove(&(group, seq));
    }

    /// Takes out the message whose turn it is.
    pub(super) fn pop(&mut self) -> Option<u64> {
        loop {
            let group = self.turns.pop_front()?;
            let seq = self.oldest_of(group);
            if let Some(seq) = seq {
                self.remove(group, seq);
            }
            match self.oldest_of(group) {
                Some(_) => self.turns.push_back(group),
                None => _ = self.waiting.remove(&group),
            }
            if seq.is_some() {
                return seq;
            }
        }
    }

    fn oldest_of(&self, group: Group) -> Option<u64> {
        self.messages.range((group, 0)..=(group, u64::MAX)).next().map(|(_, seq)| *seq)
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOISY: Group = Group(1);
    const QUIET: Group = Group(2);

    fn pop(ready: &mut Ready, count: usize) -> Vec<u64> {
        std::iter::from_fn(|| ready.pop()).take(count).collect()
    }

    #[test]
    fn each_round_takes_the_oldest_of_each_group() {
        let mut ready = Ready::default();
        (1..=6).for_each(|seq| ready.insert(NOISY, seq));
        (7..=8).for_each(|seq| ready.insert(QUIET, seq));
        assert_eq!(pop(&mut ready, 9), [1, 7, 2, 8, 3, 4, 5, 6]);
        assert!(ready.is_empty() && ready.waiting.is_empty() && ready.turns.is_empty());
    }

    #[test]
    fn a_backlog_is_served_in_each_round_however_many_newcomers_there_are() {
        let mut ready = Ready::default();
        (0..100).for_each(|seq| ready.insert(NOISY, seq));
        (100..110).for_each(|seq| ready.insert(Group(seq as u32), seq));
        for next in 110..1_110 {
            let popped = ready.pop().unwrap();
            assert_eq!(popped < 100, (next - 110) % 11 == 0, "the backlog, then ten newcomers");
            // As fast as a newcomer is served, another one comes.
            if popped >= 100 {
                ready.insert(Group(next as u32), next);
            }
        }
    }

    #[test]
    fn who_comes_back_does_not_take_two_turns_in_a_round() {
        let mut ready = Ready::default();
        ready.insert(QUIET, 1);
        ready.insert(NOISY, 2);
        // Gone by another way than its turn, and back before that came.
        ready.remove(QUIET, 1);
        [3, 4].into_iter().for_each(|seq| ready.insert(QUIET, seq));
        ready.insert(NOISY, 5);
        assert_eq!(pop(&mut ready, 9), [3, 2, 4, 5]);
    }

    #[test]
    fn a_group_is_first_in_first_out_whatever_comes_and_goes() {
        let (mut ready, mut model) = (Ready::default(), BTreeMap::new());
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for step in 0..20_000_u64 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Sequence numbers come back, as messages do whose time of hiding is over.
            let (group, seq) = (Group((random >> 8) as u32 % 5), (random >> 16) % 64 * 5);
            let seq = seq + u64::from(group.0);
            match random % 3 {
                0 => {
                    ready.remove(group, seq);
                    model.remove(&seq);
                }
                1 if step % 2 == 0 => {
                    let popped = ready.pop();
                    assert_eq!(popped.is_some(), !model.is_empty());
                    let group = popped.and_then(|seq| model.remove(&seq));
                    let older = popped.and_then(|seq| model.range(..seq).find(|(_, other)| Some(**other) == group));
                    assert_eq!(older, None, "first in, first out within a group");
                }
                _ => {
                    ready.insert(group, seq);
                    model.insert(seq, group);
                }
            }
            assert_eq!(ready.len(), model.len());
        }
    }

    #[test]
    fn an_account_is_always_in_the_same_group() {
        let groups = Groups::new();
        assert_eq!(groups.of("acme"), groups.of("acme"));
        assert_ne!(groups.of("acme"), groups.of("other"), "four bytes tell two apart but once in four billion times");
    }
}
