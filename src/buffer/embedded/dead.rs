//! Walks over the dead letters, in the order in which they were accepted.
//!
//! A walk reads a chunk on a snapshot, asks its caller about each letter, and does what was ruled in one transaction
//! before it reads the next chunk.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::ledger::{self, Command, DeadRow, Exhumation};
use super::{Shared, Taker, message_id, unavailable};
use crate::buffer::dead::reason_of;
use crate::buffer::{DeadLetter, MessageId, Ruling, Unavailable, Walk, Walked, Which};
use crate::disk::committer;

/// Letters of one chunk, and of their bodies the bytes: bounds the memory of a walk and the time of a commit.
const CHUNK_LETTERS_MAX: usize = 100;
const CHUNK_BYTES_MAX: usize = 8 << 20;

/// The half that looks after dead letters.
#[derive(Clone)]
pub struct DeadLetters {
    shared: Arc<Shared>,
}

/// Letters that were read together, and whether they were the last.
struct Chunk {
    letters: Vec<(u64, DeadLetter)>,
    ended: bool,
}

impl DeadLetters {
    pub fn of(taker: &Taker) -> Self {
        Self { shared: taker.shared.clone() }
    }

    pub async fn walk(
        &self,
        walk: &Walk,
        mut rule: impl FnMut(&DeadLetter) -> Ruling + Send,
    ) -> Result<Walked, Unavailable> {
        let next = match &walk.which {
            Which::After(id) => Some(id.clone()),
            Which::All | Which::Named(_) => None,
        };
        let mut walked = Walked { next, ..Walked::default() };
        let (mut from, to) = bounds(&walk.which);
        loop {
            let chunk = match self.read(from, to, walk.letters_max - walked.seen).await {
                Ok(chunk) => chunk,
                Err(error) if walked.seen == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a walk over the dead letters ends early");
                    return Ok(walked);
                }
            };
            let ended = chunk.ended;
            let stopped = self.rule_chunk(chunk.letters, &mut rule, &mut walked).await;
            walked.complete = ended && !stopped;
            if walked.complete {
                walked.next = None;
            }
            if stopped || ended || walked.seen >= walk.letters_max {
                return Ok(walked);
            }
            from = walked.next.as_ref().and_then(seq_of).map_or(u64::MAX, |seq| seq.saturating_add(1));
        }
    }

    pub fn count(&self) -> u64 {
        self.shared.live.index().dead().count
    }

    /// Looks for one letter more than it returns, to know whether there is one.
    async fn read(&self, from: u64, to: u64, letters_max: usize) -> Result<Chunk, Unavailable> {
        let letters_max = letters_max.min(CHUNK_LETTERS_MAX);
        let read = move |transaction: &redb::ReadTransaction| {
            let (mut letters, mut bytes) = (Vec::new(), 0);
            let ended = ledger::read_dead(transaction, from..=to, |seq, row| {
                if letters.len() >= letters_max || bytes >= CHUNK_BYTES_MAX {
                    return ControlFlow::Break(());
                }
                let letter = letter(seq, row);
                bytes += letter.body.len();
                letters.push((seq, letter));
                ControlFlow::Continue(())
            })?;
            Ok(Chunk { letters, ended })
        };
        self.shared.committer.read(read).await.map_err(unavailable)
    }

    /// Was the walk stopped?
    async fn rule_chunk(
        &self,
        letters: Vec<(u64, DeadLetter)>,
        rule: &mut (impl FnMut(&DeadLetter) -> Ruling + Send),
        walked: &mut Walked,
    ) -> bool {
        let mut exhumation = Exhumation { at_ms: self.shared.clock.now_ms(), ..Exhumation::default() };
        let mut stopped = false;
        for (seq, letter) in letters {
            match rule(&letter) {
                Ruling::Leave => {}
                Ruling::Stop => {
                    stopped = true;
                    break;
                }
                // Its row knows the account that it was accepted for.
                Ruling::Redrive(_) => {
                    exhumation.bytes += letter.body.len();
                    exhumation.redriven.push(seq);
                }
                Ruling::Drop => exhumation.dropped.push(seq),
            }
            walked.seen += 1;
            walked.next = Some(letter.message_id);
        }
        let settled: Vec<u64> = exhumation.redriven.iter().chain(&exhumation.dropped).copied().collect();
        if !settled.is_empty() {
            let result = self.exhume(exhumation).await;
            walked.results.extend(settled.into_iter().map(|seq| (message_id(seq), result.clone())));
        }
        stopped
    }

    async fn exhume(&self, exhumation: Exhumation) -> Result<(), Unavailable> {
        let (reply, answer) = oneshot::channel();
        let sent = self.shared.committer.send(Command::Exhume { exhumation, reply }).await;
        let done = match sent {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(committer::stopped())),
            Err(fault) => Err(fault),
        };
        done.map_err(unavailable)
    }
}

fn bounds(which: &Which) -> (u64, u64) {
    match which {
        Which::All => (0, u64::MAX),
        Which::After(id) => (seq_of(id).map_or(0, |seq| seq.saturating_add(1)), u64::MAX),
        // What is no number of ours can't be found by name.
        Which::Named(id) => seq_of(id).map_or((0, u64::MAX), |seq| (seq, seq)),
    }
}

fn seq_of(id: &MessageId) -> Option<u64> {
    id.0.parse().ok()
}

fn letter(seq: u64, (at_ms, reason, detail, _, _, _, traceparent, body): DeadRow<'_>) -> DeadLetter {
    let (reason, detail) = reason_of(reason, detail.to_owned());
    DeadLetter {
        message_id: message_id(seq),
        former_id: None,
        body: Bytes::copy_from_slice(body),
        reason,
        detail,
        since_ms: Some(at_ms),
        traceparent: traceparent.map(str::to_owned),
    }
}
