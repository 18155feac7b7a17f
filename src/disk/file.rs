//! The open database: which format it has, how it is read, and how it is opened again after a fault.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use redb::{
    Builder, Database, Key, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition, TableError, TableHandle,
    Value, WriteTransaction,
};

use super::storage::{self, Storage};
use super::{Fault, OpenError};

/// Kind of a file (`buffer`, `store`) -> version of its format.
const FORMAT: TableDefinition<&str, u64> = TableDefinition::new("format");

/// What a file is, and what this program reads.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    pub kind: &'static str,
    pub version: u64,
    /// Memory for pages that were read or are being written.
    pub cache_bytes: usize,
}

/// A database file, open or being mended. Reads go on while it is written, each on its own snapshot.
pub struct File {
    storage: Storage,
    format: Format,
    /// Held for reading as long as a transaction takes to begin, for writing only where the file is opened or closed.
    slot: RwLock<Slot>,
    sync_failed: Arc<AtomicBool>,
}

struct Slot {
    database: Option<Database>,
    /// Counts openings: a fault that was seen before the last one is mended already.
    opening: u64,
}

/// What a reader ran into, and in which opening.
pub(super) struct ReadFault {
    pub(super) fault: Fault,
    pub(super) opening: u64,
}

impl File {
    pub(super) fn open(storage: Storage, format: Format) -> Result<Self, OpenError> {
        let sync_failed = Arc::new(AtomicBool::new(false));
        let io = |error: std::io::Error| OpenError::of_io(storage.path(), error);
        let (backend, newborn) = storage.open(sync_failed.clone()).map_err(io)?;
        let database = open_database(&storage, format, backend)?;
        newborn.map_or(Ok(()), |newborn| newborn.name()).map_err(io)?;
        let slot = RwLock::new(Slot { database: Some(database), opening: 1 });
        Ok(Self { storage, format, slot, sync_failed })
    }

    /// Closes the file, so that it can be opened again. Reads under way end with an error.
    pub(super) fn close(&self) {
        self.slot.write().unwrap_or_else(|poisoned| poisoned.into_inner()).database = None;
    }

    /// Opens the file again after a fault. What a failed sync left in doubt is written anew first. Only the committer
    /// calls it; meanwhile reads answer at once that they can't be done.
    pub(super) fn reopen(&self) -> Result<(), Fault> {
        self.close();
        let broken = |error: std::io::Error| Fault::from(redb::Error::Io(error));
        let (backend, newborn) = self.storage.open(self.sync_failed.clone()).map_err(broken)?;
        if self.sync_failed.load(Ordering::Acquire) {
            storage::rewrite(&backend).map_err(broken)?;
            self.sync_failed.store(false, Ordering::Release);
        }
        let database = open_database(&self.storage, self.format, backend).map_err(|error| match error {
            OpenError::Full { detail, .. } => Fault::Full(detail),
            error => Fault::Broken(error.to_string()),
        })?;
        newborn.map_or(Ok(()), |newborn| newborn.name()).map_err(broken)?;
        let mut slot = self.slot.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        *slot = Slot { database: Some(database), opening: slot.opening + 1 };
        Ok(())
    }

    pub(super) fn path(&self) -> &std::path::Path {
        self.storage.path()
    }

    pub(super) fn opening(&self) -> u64 {
        self.slot.read().unwrap_or_else(|poisoned| poisoned.into_inner()).opening
    }

    /// Begins the one write transaction that the committer has at a time.
    pub(super) fn begin_write(&self) -> Result<WriteTransaction, Fault> {
        let slot = self.slot.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let database = slot.database.as_ref().ok_or_else(closed)?;
        database.begin_write().map_err(|error| redb::Error::from(error).into())
    }

    /// Reads on a snapshot. Blocks on the disk: never called on a thread of the async runtime.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, ReadFault> {
        let slot = self.slot.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let opening = slot.opening;
        let begun = match &slot.database {
            None => Err(closed()),
            Some(database) => database.begin_read().map_err(|error| redb::Error::from(error).into()),
        };
        drop(slot);
        begun
            .and_then(|transaction| read(&transaction).map_err(Fault::from))
            .map_err(|fault| ReadFault { fault, opening })
    }
}

/// A table that no commit has made yet is an empty one.
pub fn open_table<K: Key + 'static, V: Value + 'static>(
    transaction: &ReadTransaction,
    definition: TableDefinition<K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, redb::Error> {
    match transaction.open_table(definition) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn closed() -> Fault {
    Fault::Broken("it failed before, and is being opened again".to_owned())
}

fn open_database(storage: &Storage, format: Format, backend: storage::Backend) -> Result<Database, OpenError> {
    let engine = |error: redb::Error| OpenError::of_engine(storage.path(), format.kind, error);
    let mut builder = Builder::new();
    builder.set_cache_size(format.cache_bytes);
    let database = builder.create_with_backend(backend).map_err(|error| engine(error.into()))?;
    check_format(&database, storage, format)?;
    Ok(database)
}

/// Refuses what another program or a newer version wrote; writes the format into a fresh file.
fn check_format(database: &Database, storage: &Storage, format: Format) -> Result<(), OpenError> {
    let engine = |error: redb::Error| OpenError::of_engine(storage.path(), format.kind, error);
    let path = storage.path().to_owned();
    match found_format(database, format).map_err(engine)? {
        Found::Fresh => write_format(database, format).map_err(engine),
        Found::Version(version) if version <= format.version => Ok(()),
        Found::Version(found) => Err(OpenError::Newer { path, found, reads: format.version }),
        Found::Foreign => {
            Err(OpenError::Foreign { path, kind: format.kind, detail: "a database of another kind".to_owned() })
        }
    }
}

/// What a database says that it is.
pub(super) enum Found {
    Fresh,
    Version(u64),
    Foreign,
}

pub(super) fn found_format(database: &impl ReadableDatabase, format: Format) -> Result<Found, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(FORMAT) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => {
            let others = transaction.list_tables()?.any(|table| table.name() != FORMAT.name());
            return Ok(if others { Found::Foreign } else { Found::Fresh });
        }
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Ok(Found::Foreign),
    };
    let version = table.get(format.kind)?.map(|version| version.value());
    Ok(version.map_or(Found::Foreign, Found::Version))
}

fn write_format(database: &Database, format: Format) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(FORMAT)?.insert(format.kind, format.version)?;
    transaction.commit()?;
    Ok(())
}
