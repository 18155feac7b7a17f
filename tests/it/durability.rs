//! What was acknowledged is there after the power went, the disk ran full or a sync failed; and what can't be opened
//! is refused in plain words. The disk is a fake that forgets every write that was not synced, at seeded points.

mod buffer_crash;
mod fake_disk;
mod faults;
mod open;
mod store_crash;

use std::path::PathBuf;
use std::time::Duration;

use hookcache::buffer::embedded::{self as buffer, Options};
use hookcache::disk::OpenError;
use hookcache::envelope::Clock;

use self::fake_disk::FakeDisk;

/// Seeds of each crash test.
const SEEDS: std::ops::Range<u64> = 0..300;

fn buffer_options() -> Options {
    Options { path: PathBuf::new(), visibility: Duration::from_secs(3_600), wait: Duration::ZERO, bytes_max: 1 << 30 }
}

fn open_buffer(disk: &FakeDisk) -> Result<(buffer::Appender, buffer::Taker), OpenError> {
    buffer::open_on(disk.storage(), buffer_options(), Clock::system())
}
