//! Looks at a database file and the folder around it, for `doctor`. It makes nothing, and never waits for a lock.

use std::io::{self, Read};
use std::path::Path;

use redb::{Builder, DatabaseError};

use super::file::{Format, Found, found_format};
use super::is_read_only;
use super::storage::folder_of;

/// How every database of the engine starts.
const MAGIC: &[u8] = b"redb";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    pub file: FileState,
    pub folder: FolderState,
}

/// The room that a file has on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of the file; 0 where there is none.
    pub file_bytes: u64,
    /// Bytes that this program may still write there.
    pub free_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// It is made at the first start.
    Absent,
    /// A server has it open, which has looked at it.
    InUse,
    Fine,
    /// It was not closed well; the next start walks it once.
    NotClosed,
    Newer {
        found: u64,
        reads: u64,
    },
    /// Not a database, or another one: why.
    Foreign(String),
    Unreadable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderState {
    Writable,
    /// It is made at the first start.
    Absent,
    NotWritable(String),
}

pub fn inspect(path: &Path, format: Format) -> Inspected {
    Inspected { file: file_state(path, format), folder: folder_state(folder_of(path)) }
}

/// `None` where the system doesn't say.
pub fn room(path: &Path) -> Option<Room> {
    let disk = rustix::fs::statvfs(nearest(folder_of(path))).ok()?;
    Some(Room {
        file_bytes: std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
        free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
    })
}

/// What there is of the way to a folder: the rest is made on the same disk.
fn nearest(folder: &Path) -> &Path {
    let here = Path::new(".");
    folder.ancestors().find(|at| at.exists()).unwrap_or(here)
}

fn folder_state(folder: &Path) -> FolderState {
    use rustix::fs::{Access, access};
    let nearest = nearest(folder);
    match access(nearest, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if nearest.is_dir() && nearest == folder => FolderState::Writable,
        Ok(()) if nearest.is_dir() => FolderState::Absent,
        Ok(()) => FolderState::NotWritable(format!("{} is no folder", nearest.display())),
        Err(error) => FolderState::NotWritable(format!("{}: {}", nearest.display(), io::Error::from(error))),
    }
}

fn file_state(path: &Path, format: Format) -> FileState {
    match starts_like_ours(path) {
        Ok(true) => {}
        Ok(false) => return FileState::Foreign("it doesn't start like a database".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return FileState::Absent,
        Err(error) if is_read_only(&error) || !path.is_file() => return FileState::Unreadable(error.to_string()),
        Err(error) => return FileState::Foreign(error.to_string()),
    }
    let database = match Builder::new().open_read_only(path) {
        Ok(database) => database,
        Err(DatabaseError::DatabaseAlreadyOpen) => return FileState::InUse,
        Err(DatabaseError::RepairAborted) => return FileState::NotClosed,
        Err(error) => return FileState::Unreadable(error.to_string()),
    };
    match found_format(&database, format) {
        Ok(Found::Fresh) => FileState::Fine,
        Ok(Found::Version(found)) if found <= format.version => FileState::Fine,
        Ok(Found::Version(found)) => FileState::Newer { found, reads: format.version },
        Ok(Found::Foreign) => FileState::Foreign("a database of another kind".to_owned()),
        Err(error) => FileState::Unreadable(error.to_string()),
    }
}

fn starts_like_ours(path: &Path) -> io::Result<bool> {
    let mut start = [0; MAGIC.len()];
    std::fs::File::open(path)?.read_exact(&mut start)?;
    Ok(start == MAGIC)
}
