//! A database file on local disk, as the embedded buffer and the embedded store share it: opened with clear refusals,
//! written by one thread in group commits, and mended without a restart.
//!
//! It knows nothing of messages and entries, and it never acknowledges what is not synced.
//!
//! | file | holds |
//! | --- | --- |
//! | `storage` | where the bytes lie, and what a failed sync asks for |
//! | `file` | the open database, its format, reads |
//! | `committer` | the one thread that writes, and its handle |
//! | `inspect` | looking at a file and its folder from outside |
//!
//! Engine: redb. Each commit is one sync (its one-phase commit: the newer of two checksummed roots wins). After a kill
//! or a loss of power the next start walks the whole file once, to check it and to find its free pages.

pub mod committer;
pub mod file;
pub mod inspect;
pub mod storage;

pub use committer::{Book, Committer};
pub use file::File;
pub use storage::Storage;

use std::io;
use std::path::{Path, PathBuf};

/// Why a database file can't be opened at start. The text says who must act.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{path}: the data folder is in use by another process; stop that one, or choose another folder with --data-dir"
    )]
    Locked { path: PathBuf },
    #[error(
        "{path}: the data folder was written by a newer hookcache (format {found}), this one reads {reads}: start the \
         newer one, or choose another folder with --data-dir"
    )]
    Newer { path: PathBuf, found: u64, reads: u64 },
    #[error("{path}: this is not a {kind} that hookcache wrote ({detail}); choose another folder with --data-dir")]
    Foreign { path: PathBuf, kind: &'static str, detail: String },
    #[error("{path}: the data folder can't be written ({source}); allow it, or choose another folder with --data-dir")]
    ReadOnly { path: PathBuf, source: io::Error },
    #[error("{path}: the disk of the data folder is full ({detail}); make room, or choose another one with --data-dir")]
    Full { path: PathBuf, detail: String },
    #[error("{path}: the data folder can't be used ({detail}); see to it, or choose another one with --data-dir")]
    Unusable { path: PathBuf, detail: String },
}

/// Why the disk did not do what was asked. A retry helps once the disk is well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no room on the disk.
    #[error("the disk of the data folder is full: {0}")]
    Full(String),
    #[error("the data folder can't be used: {0}")]
    Broken(String),
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) if is_full(&error) => Self::Full(error.to_string()),
            error => Self::Broken(error.to_string()),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

impl OpenError {
    fn of_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match &source {
            error if is_read_only(error) => Self::ReadOnly { path, source },
            error if error.kind() == io::ErrorKind::WouldBlock => Self::Locked { path },
            error if is_full(error) => Self::Full { path, detail: source.to_string() },
            _ => Self::Unusable { path, detail: source.to_string() },
        }
    }

    fn of_engine(path: &Path, kind: &'static str, error: redb::Error) -> Self {
        let owned = path.to_owned();
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Locked { path: owned },
            redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
                Self::Foreign { path: owned, kind, detail: source.to_string() }
            }
            redb::Error::Io(source) => Self::of_io(path, source),
            redb::Error::Corrupted(detail) => Self::Foreign { path: owned, kind, detail },
            error => Self::Unusable { path: owned, detail: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operating_system_says_becomes_what_an_operator_can_do() {
        let path = Path::new("d/buffer.redb");
        let text = |kind: io::ErrorKind| OpenError::of_io(path, kind.into()).to_string();
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            assert!(text(kind).contains("can't be written"), "{}", text(kind));
        }
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(text(kind).contains("is full"), "{}", text(kind));
        }
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::StorageFull, io::ErrorKind::NotADirectory] {
            assert!(text(kind).contains("--data-dir"), "{}", text(kind));
        }
    }
}
