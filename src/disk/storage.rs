//! Where the bytes of a database lie: a file, or whatever a test puts in its place.
//!
//! One thing is added to what the engine is given: a failed sync is remembered. On Linux the pages of a failed sync
//! count as clean, though they may never reach the disk; a later sync says nothing of them. Whoever opens the storage
//! again after a failed sync must therefore write every byte once more before trusting what it reads ([`rewrite`]).

use std::fs::{self, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// Bytes that [`rewrite`] holds in memory at once.
const REWRITE_BYTES: usize = 1 << 20;

type Bounds = (Bound<u64>, Bound<u64>);
const WHOLE: Bounds = (Bound::Unbounded, Bound::Unbounded);

type Opener = dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync;

/// Where a database lies.
#[derive(Clone)]
pub enum Storage {
    /// A file, made with its folders where it does not exist.
    File(PathBuf),
    /// Made anew by each call, over the same bytes.
    Given(Arc<Opener>),
}

impl Storage {
    pub fn given(open: impl Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync + 'static) -> Self {
        Self::Given(Arc::new(open))
    }

    /// What messages call it.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Given(_) => Path::new("(given storage)"),
        }
    }

    pub(super) fn open(&self, sync_failed: Arc<AtomicBool>) -> io::Result<(Backend, Option<Newborn>)> {
        let (inner, newborn): (Box<dyn StorageBackend>, _) = match self {
            Self::File(path) => {
                let (file, newborn) = open_file(path)?;
                (Box::new(file), newborn)
            }
            Self::Given(open) => (open()?, None),
        };
        Ok((Backend { inner, sync_failed }, newborn))
    }
}

/// A file that has not got its own name yet: it gets it once the engine and the format are in it. So a loss of power
/// while it is made leaves no file that is half a database, which could be told neither from ours nor from another's.
#[must_use]
pub(super) struct Newborn {
    from: PathBuf,
    to: PathBuf,
}

impl Newborn {
    pub(super) fn name(self) -> io::Result<()> {
        fs::rename(&self.from, &self.to)?;
        sync_folder(folder_of(&self.to))
    }
}

pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn open_file(path: &Path) -> io::Result<(FileBackend, Option<Newborn>)> {
    let options = OpenOptions::new().read(true).write(true).clone();
    match options.open(path) {
        Ok(file) => return Ok((FileBackend::new(file).map_err(io::Error::other)?, None)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    make_folder(folder_of(path))?;
    let mut from = path.as_os_str().to_owned();
    from.push(".new");
    let from = PathBuf::from(from);
    let file = options.clone().create(true).truncate(false).open(&from)?;
    let backend = FileBackend::new(file).map_err(io::Error::other)?;
    // What an earlier start left half made is emptied, but only while it is nobody's: another process may be making it,
    // and may have given it its name by now.
    let emptied = locked(&backend, || match path.try_exists()? {
        true => Err(in_use()),
        false => backend.set_len(0),
    });
    emptied.map(|()| (backend, Some(Newborn { from, to: path.to_owned() })))
}

/// What the engine answers, too, where another process has the file.
fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "another process has it open")
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = folder.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.exists()).collect();
    fs::create_dir_all(folder)?;
    for made in missing {
        sync_folder(folder_of(made))?;
    }
    Ok(())
}

/// A name in a folder survives a loss of power only once the folder is synced.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Elsewhere a folder can't be opened as a file, and its entries are journalled.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// What the engine is given.
#[derive(Debug)]
pub(super) struct Backend {
    inner: Box<dyn StorageBackend>,
    sync_failed: Arc<AtomicBool>,
}

/// Writes every byte again and syncs, under the engine's own lock, so that what is read is also what is on the disk.
pub(super) fn rewrite(backend: &Backend) -> io::Result<()> {
    locked(backend, || rewrite_locked(backend))
}

fn locked(backend: &impl StorageBackend, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match backend.try_lock_range(WHOLE.0, WHOLE.1) {
        Ok(true) => {}
        Ok(false) => return Err(in_use()),
        // Then the engine does without, too.
        Err(BackendError::Unsupported) => return work(),
        Err(error) => return Err(io::Error::other(error)),
    }
    let done = work();
    backend.unlock_range(WHOLE.0, WHOLE.1).map_err(io::Error::other)?;
    done
}

fn rewrite_locked(backend: &Backend) -> io::Result<()> {
    let len = backend.len()?;
    let mut chunk = vec![0; REWRITE_BYTES];
    let mut offset = 0;
    while offset < len {
        let size = REWRITE_BYTES.min(usize::try_from(len - offset).unwrap_or(REWRITE_BYTES));
        backend.read(offset, &mut chunk[..size])?;
        backend.write(offset, &chunk[..size])?;
        offset += size as u64;
    }
    backend.sync_data()
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data().inspect_err(|_| self.sync_failed.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
