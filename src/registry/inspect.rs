//! Looks at a registry from outside, for `doctor`: makes nothing, and changes nothing.

use super::database::{ConnectError, Database, Fault};
use super::seal::Seal;
use super::{KEY_CHECK, Key, Options};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    pub state: State,
    /// Does PostgreSQL have to prove who it is, before it is told anything? `None` for SQLite, and for a server on this
    /// machine.
    pub proves_itself: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Its tables are made at the first start.
    Empty,
    /// It is there, and the key is the right one.
    Fine,
    /// It can't work; the text names the setting.
    Refused(String),
    /// It could not be looked at now.
    Away(String),
}

pub async fn inspect(options: &Options) -> Inspected {
    match options {
        Options::Sqlite { path, key } => {
            let state = match path.exists() {
                true => state(Database::sqlite_to_look_at(path), &path.display().to_string(), key).await,
                false => State::Empty,
            };
            Inspected { state, proves_itself: None }
        }
        Options::Postgres { url, key } => {
            let state = state(Database::postgres(url), "registry.url", key).await;
            Inspected { state, proves_itself: Database::proves_itself(url) }
        }
    }
}

async fn state(opened: Result<Database, ConnectError>, name: &str, key: &Key) -> State {
    let looked = async {
        let database = opened?;
        if !database.has_tables().await? {
            return Ok(None);
        }
        let select = "SELECT value FROM registry_facts WHERE name = $1";
        let row = database.read_one(select, vec![KEY_CHECK.into()]).await.map_err(away)?;
        row.map(|row| row.text("value").map_err(away)).transpose()
    };
    let check = match looked.await {
        Ok(check) => check,
        Err(ConnectError::Away(why)) => return State::Away(why),
        Err(error) => return State::Refused(super::refused(name, error).to_string()),
    };
    let seal = match (&check, key) {
        // Made with the tables.
        (None, Key::MadeAtFirst(_)) => return State::Empty,
        _ => Seal::read(key),
    };
    match (seal, check) {
        (Err(error), _) => State::Refused(error.to_string()),
        (Ok(_), None) => State::Empty,
        (Ok(seal), Some(check)) if super::fits(&seal, &check) => State::Fine,
        (Ok(_), Some(_)) => State::Refused(super::another_key(key).to_string()),
    }
}

fn away(fault: Fault) -> ConnectError {
    ConnectError::Away(super::Unavailable::from(fault).0)
}
