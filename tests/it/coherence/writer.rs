//! Writes that go on while things go wrong. Each is repeated until it is acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hookcache::store::{Outcome, Writer};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::store_contract::{now_ms, put_payload};
use crate::support::eventually;

/// Keys of one write.
const KEYS_PER_WRITE: usize = 4;
const PAUSE: Duration = Duration::from_millis(1);
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The number of a write is its event time, and its payload.
pub struct Load {
    progress: Arc<Progress>,
    _task: AbortOnDropHandle<()>,
}

struct Progress {
    /// Held by the writer for each write, so that who holds it has a rest.
    acknowledged: Mutex<BTreeMap<String, u64>>,
    writes: AtomicU64,
    is_resting: AtomicBool,
}

impl Load {
    pub fn start(writer: Writer, names: &[String]) -> Self {
        let (acknowledged, writes) = (Mutex::default(), AtomicU64::new(0));
        let progress = Arc::new(Progress { acknowledged, writes, is_resting: AtomicBool::new(false) });
        let task = tokio::spawn(run(writer, names.to_vec(), Arc::clone(&progress)));
        Self { progress, _task: AbortOnDropHandle::new(task) }
    }

    /// Waits for some more writes.
    pub async fn go_on(&self) {
        let enough = self.progress.writes.load(Ordering::SeqCst) + 20;
        eventually("writes", || async { (self.progress.writes.load(Ordering::SeqCst) >= enough).then_some(()) }).await;
    }

    /// Ends the write at hand, and begins no other; what each key holds by then.
    pub async fn rest(&self) -> BTreeMap<String, u64> {
        self.progress.is_resting.store(true, Ordering::SeqCst);
        self.progress.acknowledged.lock().await.clone()
    }

    pub fn resume(&mut self) {
        self.progress.is_resting.store(false, Ordering::SeqCst);
    }
}

async fn run(writer: Writer, names: Vec<String>, progress: Arc<Progress>) {
    let mut number = 0;
    loop {
        let mut acknowledged = progress.acknowledged.lock().await;
        if progress.is_resting.load(Ordering::SeqCst) {
            drop(acknowledged);
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        number += 1;
        let first = number as usize * KEYS_PER_WRITE;
        let some: Vec<&str> = (first..first + KEYS_PER_WRITE).map(|n| names[n % names.len()].as_str()).collect();
        let write = put_payload("acme", number, &some, number.to_string());
        loop {
            let results = writer.write(std::slice::from_ref(&write), now_ms()).await.remove(0);
            let done = |result: &_| matches!(result, Ok(Outcome::Written | Outcome::Duplicate));
            if results.iter().all(done) {
                break;
            }
            assert!(results.iter().all(|result| result.is_err() || done(result)), "{results:?}");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        acknowledged.extend(some.iter().map(|name| ((*name).to_owned(), number)));
        drop(acknowledged);
        progress.writes.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(PAUSE).await;
    }
}
