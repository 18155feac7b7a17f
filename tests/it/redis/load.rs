//! Writes and reads that go on while the servers change, and hold the store to what it acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use hookcache::envelope::WebhookKey;
use hookcache::store::{Outcome, ReadError, Reader, WriteError, Writer};
use tokio::task::JoinHandle;

use crate::store_contract::{Halves, key, now_ms, put};
use crate::support::eventually;

/// Each round writes every key in one batch, and reads all of them back.
pub struct Load {
    progress: Arc<Progress>,
    task: JoinHandle<BTreeMap<String, u64>>,
}

#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    rounds: AtomicU64,
    /// Keys of which a write was acknowledged.
    acknowledged: AtomicUsize,
    /// Writes and reads that were told that the store is unavailable.
    unavailable: AtomicU64,
}

impl Load {
    /// Returns as soon as every key was acknowledged once. Panics in its task where something acknowledged is absent or
    /// old, or a write is refused: [`Load::stop`] tells.
    pub async fn start(store: &Halves, names: &[String]) -> Self {
        let progress: Arc<Progress> = Arc::default();
        let (writer, reader) = (store.writer.clone(), store.reader.clone());
        let task = tokio::spawn(run(writer, reader, names.to_vec(), Arc::clone(&progress)));
        let this = Self { progress, task };
        this.until(|progress| progress.acknowledged.load(Ordering::SeqCst) == names.len()).await;
        this.go_on().await;
        this
    }

    /// Waits for two more whole rounds.
    pub async fn go_on(&self) {
        let enough = self.progress.rounds.load(Ordering::SeqCst) + 3;
        self.until(|progress| progress.rounds.load(Ordering::SeqCst) >= enough).await;
    }

    pub fn unavailable(&self) -> u64 {
        self.progress.unavailable.load(Ordering::SeqCst)
    }

    async fn until(&self, is_so: impl Fn(&Progress) -> bool) {
        eventually("what the load does", || async { (self.task.is_finished() || is_so(&self.progress)).then_some(()) })
            .await;
    }

    /// The time of the last acknowledged write of each key.
    pub async fn stop(self) -> BTreeMap<String, u64> {
        self.progress.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("what was acknowledged is there")
    }
}

async fn run(writer: Writer, reader: Reader, names: Vec<String>, progress: Arc<Progress>) -> BTreeMap<String, u64> {
    let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
    let keys: Vec<WebhookKey> = names.iter().map(|name| key(name)).collect();
    let mut acknowledged = BTreeMap::new();
    for time in 1.. {
        if progress.stop.load(Ordering::SeqCst) {
            break;
        }
        let results = writer.write(&[put("acme", time, &borrowed)], now_ms()).await.remove(0);
        for (name, result) in names.iter().zip(results) {
            match result {
                Ok(Outcome::Written) => drop(acknowledged.insert(name.clone(), time)),
                Err(WriteError::Unavailable(_)) => drop(progress.unavailable.fetch_add(1, Ordering::SeqCst)),
                other => panic!("{name} at {time}: {other:?}"),
            }
        }
        for (name, read) in names.iter().zip(reader.get_many(&keys).await) {
            let Some(least) = acknowledged.get(name) else { continue };
            match read {
                Ok(Some(entry)) if entry.version.time_ms() >= *least => {}
                Err(ReadError::Unavailable(_)) => drop(progress.unavailable.fetch_add(1, Ordering::SeqCst)),
                other => panic!("{name} was acknowledged at {least}: {other:?}"),
            }
        }
        progress.acknowledged.store(acknowledged.len(), Ordering::SeqCst);
        progress.rounds.fetch_add(1, Ordering::SeqCst);
    }
    acknowledged
}

/// Everything that was acknowledged is there, or something newer.
pub async fn assert_kept(store: &Halves, acknowledged: &BTreeMap<String, u64>) {
    assert!(!acknowledged.is_empty(), "nothing was acknowledged");
    for (name, time) in acknowledged {
        let entry = eventually("a read", || async { store.reader.get(&key(name)).await.ok() }).await;
        let held = entry.map(|entry| entry.version.time_ms());
        assert!(held >= Some(*time), "{name}: acknowledged at {time}, holds {held:?}");
    }
}
