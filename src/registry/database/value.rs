//! What goes into a statement, and what comes out. There are whole numbers and texts; a time is a number, a name of a
//! closed set is a text.

use sqlx::postgres::PgRow;
use sqlx::query::Query;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Database, Encode, Row as _, Type};

use super::{Fault, Sql};
use crate::envelope::SiteId;

#[derive(Debug, Clone)]
pub enum Value {
    Number(Option<i64>),
    Text(Option<String>),
}

impl From<u64> for Value {
    /// What is larger than the database's numbers becomes the largest: no id of Confluence is, and no time.
    fn from(number: u64) -> Self {
        Self::Number(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<Option<u64>> for Value {
    fn from(number: Option<u64>) -> Self {
        number.map_or(Self::Number(None), Self::from)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::from(number as u64)
    }
}

impl From<&SiteId> for Value {
    fn from(site: &SiteId) -> Self {
        Self::from(site.as_str())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        // PostgreSQL has no texts with NUL; a title of a page may have one.
        Self::Text(Some(text.replace('\0', "\u{FFFD}")))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        text.map_or(Self::Text(None), Self::from)
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::from(text.as_deref())
    }
}

/// The first characters of a text, where it has more than `chars_max`.
pub fn clipped(text: &str, chars_max: usize) -> &str {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// A query of either database, with its values.
pub(super) fn bound<'q, DB: Database>(sql: Sql, values: Vec<Value>) -> Query<'q, DB, DB::Arguments>
where
    Option<i64>: Encode<'q, DB> + Type<DB>,
    Option<String>: Encode<'q, DB> + Type<DB>,
{
    let query = match sql {
        Sql::Fixed(text) => sqlx::query(text),
        Sql::Made(text) => sqlx::query(AssertSqlSafe(text)),
    };
    values.into_iter().fold(query, |query, value| match value {
        Value::Number(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
    })
}

pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub fn number(&self, column: &'static str) -> Result<u64, Fault> {
        Ok(self.optional_number(column)?.unwrap_or_default())
    }

    pub fn optional_number(&self, column: &'static str) -> Result<Option<u64>, Fault> {
        let number: Option<i64> = match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        };
        Ok(number.map(i64::unsigned_abs))
    }

    pub fn text(&self, column: &'static str) -> Result<String, Fault> {
        Ok(self.optional_text(column)?.unwrap_or_default())
    }

    pub fn optional_text(&self, column: &'static str) -> Result<Option<String>, Fault> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }
}
