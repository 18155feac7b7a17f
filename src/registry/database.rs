//! The databases, and nothing of what is in them: statements go in, rows come out. No type of sqlx leaves this file and
//! its folder.
//!
//! A statement has one text for both databases, with parameters `$1`, `$2`, ... A call that does not end, by its time or
//! because nobody waits for it any more, takes its connection with it: the database undoes what was not committed.
//!
//! | file | holds |
//! | --- | --- |
//! | `connect` | opening, settings, migrations |
//! | `lent` | a connection that is given back only where it is settled |
//! | `value` | what goes in, and what comes out |

mod connect;
mod lent;
mod value;

use std::time::Duration;

use sqlx::{PgPool, Postgres, Sqlite, SqlitePool};
use tokio::time::timeout;

use self::lent::Lent;
pub use self::value::{Row, Value, clipped};
use super::Unavailable;

pub use connect::ConnectError;

/// Connections to PostgreSQL, from one process.
const POSTGRES_CONNECTIONS_MAX: u32 = 8;
/// Connections that read SQLite's file; one writes it.
const SQLITE_READERS_MAX: u32 = 4;
/// How long a call waits for a connection, until one is free or is made.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one statement may take, or a commit.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Cheap to clone.
#[derive(Clone)]
pub enum Database {
    Sqlite {
        /// One connection: SQLite has one writer at a time, and this one never meets another.
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

/// Why a statement had no effect.
#[derive(Debug)]
pub enum Fault {
    /// A row would belong to a site that is not there.
    NoSuchSite,
    Unavailable(Unavailable),
}

impl From<Fault> for Unavailable {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSuchSite => Self("a row belongs to a site that is gone".to_owned()),
            Fault::Unavailable(error) => error,
        }
    }
}

impl From<Unavailable> for Fault {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(of_database) if of_database.is_foreign_key_violation() => Self::NoSuchSite,
            _ => Self::Unavailable(Unavailable(error.to_string())),
        }
    }
}

/// The text of a statement.
pub enum Sql {
    Fixed(&'static str),
    /// Put together. Holds no value, only parameters, so there are few of them: a connection keeps each prepared.
    Made(String),
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self::Fixed(text)
    }
}

/// Several statements, of which all have an effect or none.
pub struct Transaction(Connection);

enum Connection {
    Sqlite(Lent<Sqlite>),
    Postgres(Lent<Postgres>),
}

impl Database {
    /// What a statement that only reads finds.
    pub async fn read(&self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<Vec<Row>, Fault> {
        let mut connection = match self {
            Self::Sqlite { readers, .. } => Connection::Sqlite(Lent::of(readers).await?),
            Self::Postgres(pool) => Connection::Postgres(Lent::of(pool).await?),
        };
        let rows = connection.rows(sql.into(), values).await?;
        connection.settle();
        Ok(rows)
    }

    /// The first row of a statement that only reads.
    pub async fn read_one(&self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<Option<Row>, Fault> {
        Ok(self.read(sql, values).await?.into_iter().next())
    }

    /// Rows that a statement has changed.
    pub async fn write(&self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<u64, Fault> {
        let mut connection = self.writing().await?;
        let changed = connection.execute(sql.into(), values).await?;
        connection.settle();
        Ok(changed)
    }

    /// What a statement that writes returns.
    pub async fn write_returning(&self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<Vec<Row>, Fault> {
        let mut connection = self.writing().await?;
        let rows = connection.rows(sql.into(), values).await?;
        connection.settle();
        Ok(rows)
    }

    /// Begins what writes. Dropped without [`Transaction::commit`], it has no effect.
    pub async fn begin(&self) -> Result<Transaction, Fault> {
        let begin = match self {
            // The write lock at once: a transaction that reads first and writes later could be refused then.
            Self::Sqlite { .. } => "BEGIN IMMEDIATE",
            Self::Postgres(_) => "BEGIN",
        };
        let mut connection = self.writing().await?;
        connection.execute(Sql::Fixed(begin), Vec::new()).await?;
        Ok(Transaction(connection))
    }

    async fn writing(&self) -> Result<Connection, Fault> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Connection::Sqlite(Lent::of(writer).await?),
            Self::Postgres(pool) => Connection::Postgres(Lent::of(pool).await?),
        })
    }
}

impl Transaction {
    pub async fn rows(&mut self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<Vec<Row>, Fault> {
        self.0.rows(sql.into(), values).await
    }

    pub async fn one(&mut self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<Option<Row>, Fault> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    pub async fn execute(&mut self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<u64, Fault> {
        self.0.execute(sql.into(), values).await
    }

    pub async fn commit(mut self) -> Result<(), Fault> {
        self.0.execute(Sql::Fixed("COMMIT"), Vec::new()).await?;
        self.0.settle();
        Ok(())
    }
}

impl Connection {
    async fn rows(&mut self, sql: Sql, values: Vec<Value>) -> Result<Vec<Row>, Fault> {
        match self {
            Self::Sqlite(lent) => {
                let rows = in_time(value::bound(sql, values).fetch_all(lent.connection())).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(lent) => {
                let rows = in_time(value::bound(sql, values).fetch_all(lent.connection())).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    async fn execute(&mut self, sql: Sql, values: Vec<Value>) -> Result<u64, Fault> {
        match self {
            Self::Sqlite(lent) => {
                let done = in_time(value::bound(sql, values).execute(lent.connection())).await?;
                Ok(done.rows_affected())
            }
            Self::Postgres(lent) => {
                let done = in_time(value::bound(sql, values).execute(lent.connection())).await?;
                Ok(done.rows_affected())
            }
        }
    }

    fn settle(self) {
        match self {
            Self::Sqlite(lent) => lent.settle(),
            Self::Postgres(lent) => lent.settle(),
        }
    }
}

async fn in_time<T>(statement: impl Future<Output = sqlx::Result<T>>) -> Result<T, Fault> {
    match timeout(STATEMENT_TIMEOUT, statement).await {
        Ok(result) => Ok(result?),
        Err(_) => {
            let seconds = STATEMENT_TIMEOUT.as_secs();
            Err(Unavailable(format!("the database has not answered within {seconds} seconds")).into())
        }
    }
}
