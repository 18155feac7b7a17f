//! Opening: settings, pools, and migrations, which stand in files.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Pool, SqlSafeStr};
use tokio::time::timeout;

use super::lent::Lent;
use super::{ACQUIRE_TIMEOUT, Database, POSTGRES_CONNECTIONS_MAX, Row, SQLITE_READERS_MAX, Unavailable};

/// Each in a file of its own. One that was released is never changed.
const MIGRATIONS: [(i64, &str, &str); 1] =
    [(1, "sites, pages, runs", include_str!("../migrations/0001_sites_pages_runs.sql"))];
/// How long migrating may take, the wait for another process that does it included.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a SQLite statement waits for a program that looks into the file from outside, such as a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What PostgreSQL is told at connect. A process that vanished in mid-transaction holds no row for longer than this.
const POSTGRES_SETTINGS: [(&str, &str); 2] =
    [("idle_in_transaction_session_timeout", "30s"), ("client_min_messages", "warning")];
/// SQLite's code for a file of another kind.
const NO_DATABASE: &str = "26";
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Classes and codes of SQLSTATE that only the operator can mend: who may log in, to which database, to do what.
const NEEDS_OPERATOR: [&str; 3] = ["28", "3D000", "42501"];

#[derive(Debug)]
pub enum ConnectError {
    /// The operator must act.
    Wrong(String),
    /// A retry helps.
    Away(String),
}

impl Database {
    /// Opens the file, and makes it where there is none.
    pub async fn sqlite(path: &Path) -> Result<Self, ConnectError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A secret that was acknowledged is there after a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let readers = options.clone().pragma("query_only", "ON");
        let pool = |max| -> SqlitePoolOptions {
            PoolOptions::new().max_connections(max).idle_timeout(None).max_lifetime(None).test_before_acquire(false)
        };
        let writer = pool(1).acquire_timeout(ACQUIRE_TIMEOUT).connect_with(options).await.map_err(wrong)?;
        let readers = pool(SQLITE_READERS_MAX).acquire_timeout(ACQUIRE_TIMEOUT).connect_lazy_with(readers);
        Ok(Self::Sqlite { writer, readers })
    }

    /// A file that is there, to be looked at and left as it is.
    pub fn sqlite_to_look_at(path: &Path) -> Result<Self, ConnectError> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).disable_statement_logging();
        let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
        let readers = pool.connect_lazy_with(options);
        Ok(Self::Sqlite { writer: readers.clone(), readers })
    }

    /// Has PostgreSQL to show a certificate that is checked? `None` where it is on this machine, or the URL is none.
    pub fn proves_itself(url: &str) -> Option<bool> {
        let options = PgConnectOptions::from_str(url).ok()?;
        let is_here = options.get_socket().is_some() || LOOPBACK.contains(&options.get_host());
        let mode = options.get_ssl_mode();
        (!is_here).then_some(matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull))
    }

    /// Connects to nothing yet.
    pub fn postgres(url: &str) -> Result<Self, ConnectError> {
        let options = PgConnectOptions::from_str(url).map_err(wrong)?;
        let options = options.application_name("hookcache").options(POSTGRES_SETTINGS).disable_statement_logging();
        let pool = PgPoolOptions::new().max_connections(POSTGRES_CONNECTIONS_MAX).acquire_timeout(ACQUIRE_TIMEOUT);
        Ok(Self::Postgres(pool.connect_lazy_with(options)))
    }

    /// Are the tables there, and of a version that this program reads?
    pub async fn has_tables(&self) -> Result<bool, ConnectError> {
        let exists = match self {
            Self::Sqlite { .. } => "SELECT COUNT(*) AS tables FROM sqlite_master WHERE name = '_sqlx_migrations'",
            Self::Postgres(_) => "SELECT COUNT(*) AS tables FROM pg_tables WHERE tablename = '_sqlx_migrations'",
        };
        if self.looked_up(exists, "tables").await? == 0 {
            return Ok(false);
        }
        let newest = self.looked_up("SELECT MAX(version) AS newest FROM _sqlx_migrations", "newest").await?;
        let known = MIGRATIONS.iter().any(|(version, ..)| u64::try_from(*version) == Ok(newest));
        if newest == 0 || known { Ok(newest > 0) } else { Err(newer(newest)) }
    }

    async fn looked_up(&self, select: &'static str, column: &'static str) -> Result<u64, ConnectError> {
        let rows = match self {
            Self::Sqlite { readers, .. } => {
                let row = sqlx::query(select).fetch_one(readers).await;
                row.map(Row::Sqlite)
            }
            Self::Postgres(pool) => sqlx::query(select).fetch_one(pool).await.map(Row::Postgres),
        };
        let row = rows.map_err(judged)?;
        row.number(column).map_err(|fault| ConnectError::Away(Unavailable::from(fault).0))
    }

    /// Brings the tables to what this version needs. Several processes may do so at once.
    pub async fn migrate(&self) -> Result<(), ConnectError> {
        let migrating = async {
            match self {
                Self::Sqlite { writer, .. } => migrate(writer).await,
                Self::Postgres(pool) => migrate(pool).await,
            }
        };
        let seconds = MIGRATE_TIMEOUT.as_secs();
        let late = |_| ConnectError::Away(format!("its tables could not be made within {seconds} seconds"));
        timeout(MIGRATE_TIMEOUT, migrating).await.map_err(late)?
    }
}

async fn migrate<DB: sqlx::Database>(pool: &Pool<DB>) -> Result<(), ConnectError>
where
    DB::Connection: Migrate,
{
    let mut lent = Lent::of(pool).await.map_err(judged)?;
    let migration = |(version, description, text): (i64, &'static str, &'static str)| {
        Migration::new(version, description.into(), MigrationType::Simple, text.into_sql_str(), false)
    };
    let migrator = Migrator::with_migrations(MIGRATIONS.map(migration).to_vec());
    match migrator.run_direct(None, lent.connection(), false).await {
        Ok(()) => {
            lent.settle();
            Ok(())
        }
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(judged(error)),
        Err(MigrateError::VersionMissing(version)) => Err(newer(version)),
        Err(error) => Err(wrong(error)),
    }
}

fn newer(version: impl std::fmt::Display) -> ConnectError {
    wrong(format!("its tables were made by a newer version of hookcache (step {version}): run that version"))
}

fn wrong(error: impl std::fmt::Display) -> ConnectError {
    ConnectError::Wrong(error.to_string())
}

fn judged(error: sqlx::Error) -> ConnectError {
    let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
    let needs_operator = |code: String| NEEDS_OPERATOR.iter().any(|prefix| code.starts_with(prefix));
    match &error {
        sqlx::Error::Configuration(_) => wrong(error),
        sqlx::Error::Database(of_sqlite) if of_sqlite.code().as_deref() == Some(NO_DATABASE) => wrong(error),
        _ if code.is_some_and(needs_operator) => wrong(error),
        _ => ConnectError::Away(error.to_string()),
    }
}
