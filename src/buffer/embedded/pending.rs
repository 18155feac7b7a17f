//! Looks at messages, in the order in which they were accepted, and leaves them as they are.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Shared, Taker, ledger, unavailable};
use crate::buffer::pending::Looked;
use crate::buffer::{Depth, Unavailable};

/// Messages of one chunk, and of their bodies the bytes: bounds the memory of a look.
const CHUNK_MESSAGES_MAX: usize = 200;
const CHUNK_BYTES_MAX: usize = 8 << 20;

/// The half that looks at what waits.
#[derive(Clone)]
pub struct Pending {
    shared: Arc<Shared>,
}

/// Messages that were read together, and whether they were the last.
struct Chunk {
    bodies: Vec<(u64, Bytes)>,
    ended: bool,
}

impl Pending {
    pub fn of(taker: &Taker) -> Self {
        Self { shared: taker.shared.clone() }
    }

    pub fn depth(&self) -> Depth {
        let now_ms = self.shared.clock.now_ms();
        self.shared.live.index().depth(Instant::now(), now_ms)
    }

    pub async fn look(&self, messages_max: usize, mut see: impl FnMut(&[u8]) + Send) -> Result<Looked, Unavailable> {
        let (mut from, mut seen) = (0, 0);
        loop {
            let Chunk { bodies, ended } = self.read(from, messages_max - seen).await?;
            bodies.iter().for_each(|(_, body)| see(body));
            seen += bodies.len();
            if ended || seen >= messages_max {
                return Ok(Looked { seen, complete: ended });
            }
            from = bodies.last().map_or(u64::MAX, |(seq, _)| seq.saturating_add(1));
        }
    }

    /// Looks for one message more than it returns, to know whether there is one.
    async fn read(&self, from: u64, messages_max: usize) -> Result<Chunk, Unavailable> {
        let messages_max = messages_max.min(CHUNK_MESSAGES_MAX);
        let read = move |transaction: &redb::ReadTransaction| {
            let (mut bodies, mut bytes) = (Vec::new(), 0);
            let ended = ledger::read_bodies(transaction, from, |seq, body| {
                if bodies.len() >= messages_max || bytes >= CHUNK_BYTES_MAX {
                    return ControlFlow::Break(());
                }
                bytes += body.len();
                bodies.push((seq, Bytes::copy_from_slice(body)));
                ControlFlow::Continue(())
            })?;
            Ok(Chunk { bodies, ended })
        };
        self.shared.committer.read(read).await.map_err(unavailable)
    }
}
