//! A disk that forgets: what was not synced when the power went is lost, or half of it is, as the seed says.
//!
//! It also runs full, block by block, and fails syncs the way Linux does: once, and the pages that were to be written
//! count as clean from then on, though the disk never got them.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use hookcache::disk::Storage;
use redb::StorageBackend;

/// What is torn or allocated as a whole, in bytes.
const BLOCK_BYTES: u64 = 4_096;

type Hook = Box<dyn Fn() + Send>;

#[derive(Clone, Default)]
pub struct FakeDisk {
    state: Arc<Mutex<State>>,
    while_syncing: Arc<Mutex<Option<Hook>>>,
}

impl fmt::Debug for FakeDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeDisk")
    }
}

#[derive(Default)]
struct State {
    /// What the platter holds.
    durable: Vec<u8>,
    /// What a read sees.
    seen: Vec<u8>,
    /// What a sync would bring to the platter, in the order that it came.
    unsynced: Vec<Change>,
    /// Operations left until the power goes.
    lives_for: Option<u64>,
    dead: bool,
    syncs: u64,
    failing_syncs: u64,
    blocks_max: Option<usize>,
    blocks: HashSet<u64>,
}

enum Change {
    Write { offset: u64, data: Vec<u8> },
    Length(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(len) => bytes.resize(usize::try_from(*len).unwrap(), 0),
            Self::Write { offset, data } => {
                let start = usize::try_from(*offset).unwrap();
                if bytes.len() < start + data.len() {
                    bytes.resize(start + data.len(), 0);
                }
                bytes[start..start + data.len()].copy_from_slice(data);
            }
        }
    }
}

impl FakeDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn storage(&self) -> Storage {
        let disk = self.clone();
        Storage::given(move || Ok(Box::new(disk.clone())))
    }

    /// The power goes after this many operations more.
    pub fn dies_after(&self, operations: u64) {
        self.state().lives_for = Some(operations);
    }

    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The power is back. Of what was not synced, each block is there or not, as `rng` says; `None` loses it all.
    pub fn revive(&self, rng: Option<&mut fastrand::Rng>) {
        let mut state = self.state();
        let unsynced = std::mem::take(&mut state.unsynced);
        if let Some(rng) = rng {
            for change in unsynced {
                for part in parts(change) {
                    if rng.bool() {
                        part.apply(&mut state.durable);
                    }
                }
            }
        }
        state.seen = state.durable.clone();
        state.dead = false;
        state.lives_for = None;
    }

    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Runs in each sync, before it is done: how long a sync takes.
    pub fn while_syncing(&self, wait: impl Fn() + Send + 'static) {
        *self.while_syncing.lock().unwrap() = Some(Box::new(wait));
    }

    /// The next syncs fail, and what they were to write never reaches the platter.
    pub fn fail_syncs(&self, count: u64) {
        self.state().failing_syncs = count;
    }

    /// There is room for this many bytes more; `None` for no limit.
    pub fn leave_room(&self, bytes: Option<u64>) {
        let mut state = self.state();
        state.blocks_max = bytes.map(|bytes| state.blocks.len() + usize::try_from(bytes / BLOCK_BYTES).unwrap());
    }
}

fn parts(change: Change) -> Vec<Change> {
    let Change::Write { offset, data } = change else { return vec![change] };
    let size = usize::try_from(BLOCK_BYTES).unwrap();
    let part =
        |(number, data): (usize, &[u8])| Change::Write { offset: offset + (number * size) as u64, data: data.to_vec() };
    data.chunks(size).enumerate().map(part).collect()
}

impl State {
    fn live(&mut self) -> io::Result<()> {
        match &mut self.lives_for {
            Some(0) => self.dead = true,
            Some(operations) => *operations -= 1,
            None => {}
        }
        if self.dead { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }

    fn allocate(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let last = offset + (len as u64).saturating_sub(1);
        let wanted: Vec<u64> =
            (offset / BLOCK_BYTES..=last / BLOCK_BYTES).filter(|block| !self.blocks.contains(block)).collect();
        if self.blocks_max.is_some_and(|max| self.blocks.len() + wanted.len() > max) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.blocks.extend(wanted);
        Ok(())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }
}

impl StorageBackend for FakeDisk {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.live()?;
        Ok(state.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.live()?;
        let start = usize::try_from(offset).unwrap();
        let bytes = state.seen.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.live()?;
        state.blocks.retain(|block| block * BLOCK_BYTES < len);
        state.change(Change::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Some(wait) = &*self.while_syncing.lock().unwrap() {
            wait();
        }
        let mut state = self.state();
        state.live()?;
        state.syncs += 1;
        let unsynced = std::mem::take(&mut state.unsynced);
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            return Err(io::Error::other("the disk did not take it"));
        }
        unsynced.iter().for_each(|change| change.apply(&mut state.durable));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.live()?;
        state.allocate(offset, data.len())?;
        state.change(Change::Write { offset, data: data.to_vec() });
        Ok(())
    }
}
