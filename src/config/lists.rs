//! The settings that are lists of tables: tokens, callers and TTL rules; and the table of reserved prefixes.
//!
//! Read by hand, since the messages of a generic reader quote what they found, which may be a secret in a wrong place.

use std::collections::{HashMap, HashSet};

use toml::{Table, Value};

use super::Fault;
use super::fields::parse_ttl;
use super::layers::{Located, Source, nearest};
use crate::auth::token::Hash;
use crate::auth::{ANONYMOUS, Scope, TOKENS_MAX, TokenEntry};
use crate::envelope::grants::{ANY_LAST_PART, Owner};
use crate::envelope::limits::CALLER_BYTES_MAX;
use crate::envelope::{Account, Accounts, Flow, WebhookKey};
use crate::ttl::{self, Ttl, json::scope_of};

/// Static TTL rules that a configuration may hold.
const RULES_MAX: usize = 10_000;
/// Reserved prefixes that a configuration may hold; each set compares its keys with all of them.
const RESERVED_MAX: usize = 1_000;
const TOKEN_NAME_CHARS_MAX: usize = 64;
/// Callers of AWS that a configuration may hold.
const CALLERS_MAX: usize = 10_000;
/// How the names of such callers begin. No token and no source of our own can have such a name.
const CALLER_PREFIXES: [&str; 2] = ["arn:", "authorizer:"];

/// A static rule, with the key of the table that it stands in.
pub(super) struct StaticRule {
    pub key: String,
    pub scope: ttl::Scope,
    pub ttl: Ttl,
}

pub(super) fn tokens(at: &Located) -> Result<Vec<TokenEntry>, Vec<Fault>> {
    let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
    rows("auth.tokens", at, TOKENS_MAX, |row| {
        let name = row.text("name").and_then(|name| row.keep("name", check_token_name(name)));
        let hash = row.text("hash").and_then(|text| row.keep("hash", Hash::parse(text).ok_or_else(hash_form)));
        let scopes: Vec<Scope> = row.list("scopes", |text| {
            Scope::parse(text).ok_or_else(|| "each must be \"set\", \"get\" or \"admin\"".to_owned())
        })?;
        if scopes.is_empty() {
            row.refuse("scopes", "needs at least one of \"set\", \"get\" and \"admin\"");
        }
        let accounts = row.accounts()?;
        let enabled = row.flag("enabled", true);
        let (name, hash) = (name?, hash?);
        if !names.insert(name.clone()) {
            row.refuse("name", "another token has the same name");
        }
        if !hashes.insert(hash) {
            row.refuse("hash", "another token has the same hash");
        }
        Some(TokenEntry { name, hash, scopes: scopes.into_iter().collect(), accounts, enabled })
    })
}

fn hash_form() -> String {
    "must be \"sha256:\" and 64 hexadecimal digits, as `hookcache token create` prints it; never the token itself"
        .to_owned()
}

/// The rule for the name of a token, for those who make one too.
pub fn check_token_name(name: &str) -> Result<String, String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    match name.len() {
        1..=TOKEN_NAME_CHARS_MAX if name == ANONYMOUS => {
            Err("must not be \"anonymous\", which is everybody's name where there are no tokens".to_owned())
        }
        1..=TOKEN_NAME_CHARS_MAX if name.bytes().all(legal) => Ok(name.to_owned()),
        _ => Err("must have 1 to 64 characters of A-Z a-z 0-9 . _ -".to_owned()),
    }
}

pub(super) fn callers(at: &Located) -> Result<HashMap<String, Accounts>, Vec<Fault>> {
    let mut names = HashSet::new();
    let rows = rows("auth.callers", at, CALLERS_MAX, |row| {
        let name = row.text("name").and_then(|name| row.keep("name", check_caller_name(name)));
        let accounts = row.accounts();
        let (name, accounts) = (name?, accounts?);
        if !names.insert(name.clone()) {
            row.refuse("name", "another caller has the same name");
        }
        Some((name, accounts))
    })?;
    Ok(rows.into_iter().collect())
}

fn check_caller_name(name: &str) -> Result<String, String> {
    let parts = name.rsplit_once('/').map_or([name, ""], |(shared, last)| [shared, last]);
    let any_is_last_alone = !parts[0].contains('*') && (!parts[1].contains('*') || parts[1] == ANY_LAST_PART);
    let has_prefix = CALLER_PREFIXES.iter().any(|prefix| name.len() > prefix.len() && name.starts_with(prefix));
    let plain = !name.chars().any(|c| c.is_control() || c.is_whitespace());
    match has_prefix && plain && any_is_last_alone && name.len() <= CALLER_BYTES_MAX {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "must be the ARN of an AWS identity or `authorizer:` and a principal, without blanks, at most \
             {CALLER_BYTES_MAX} bytes; `*` only as the whole last part, for any session: \
             arn:aws:sts::123456789012:assumed-role/ROLE/*"
        )),
    }
}

pub(super) fn ttl_rules(at: &Located) -> Result<Vec<StaticRule>, Vec<Fault>> {
    let mut scopes = HashSet::new();
    rows("ttl.rules", at, RULES_MAX, |row| {
        let account = row.optional_text("account")?;
        let flow = row.optional_text("flow")?;
        let ttl = row.text("ttl").and_then(|text| row.keep("ttl", parse_ttl(text)));
        if let Some(Err(error)) = account.map(Account::parse) {
            row.refuse("account", error.to_string());
            return None;
        }
        if let Some(Err(error)) = flow.map(Flow::parse) {
            row.refuse("flow", error.to_string());
            return None;
        }
        let scope = match scope_of(account, flow) {
            Ok(scope) => scope,
            Err(error) => {
                row.refuse_whole(error);
                return None;
            }
        };
        if !scopes.insert(scope.clone()) {
            row.refuse_whole(format!("another rule has the same scope: {scope}"));
        }
        Some(StaticRule { key: row.key.clone(), scope, ttl: ttl? })
    })
}

pub(super) fn reserved(at: &Located) -> Result<Vec<(String, Owner)>, Vec<Fault>> {
    const KEY: &str = "keys.reserved";
    let fault = |key: String, text: String| Fault { key, source: at.source.clone(), text };
    let Value::Table(table) = &at.value else {
        return Err(vec![fault(KEY.to_owned(), "must be a table of prefixes and owners".to_owned())]);
    };
    if table.len() > RESERVED_MAX {
        return Err(vec![fault(KEY.to_owned(), format!("must have at most {RESERVED_MAX} prefixes"))]);
    }
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for (prefix, owner) in table {
        let key = format!("{KEY}.{prefix:?}");
        if let Err(error) = WebhookKey::parse(prefix) {
            faults.push(fault(key, format!("the prefix of a webhook key {error}")));
            continue;
        }
        match owner.as_str().and_then(parse_owner) {
            Some(owner) => found.push((prefix.clone(), owner)),
            None => faults.push(fault(key, "must be \"account:NAME\" or \"source:NAME\"".to_owned())),
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

fn parse_owner(text: &str) -> Option<Owner> {
    match text.split_once(':')? {
        ("account", name) => Account::parse(name).ok().map(Owner::Account),
        // A source's caller name keeps its prefix.
        ("source", name) if check_token_name(name).is_ok() => Some(Owner::Source(text.to_owned())),
        _ => None,
    }
}

/// One table of a list, being read.
struct Row<'a> {
    /// Such as `auth.tokens[0]`.
    key: String,
    table: &'a Table,
    source: &'a Source,
    faults: Vec<Fault>,
    read: Vec<&'static str>,
}

fn rows<'a, T>(
    key: &str,
    at: &'a Located,
    max: usize,
    mut read: impl FnMut(&mut Row<'a>) -> Option<T>,
) -> Result<Vec<T>, Vec<Fault>> {
    let fault = |key: String, text: String| Fault { key, source: at.source.clone(), text };
    let Value::Array(items) = &at.value else {
        return Err(vec![fault(key.to_owned(), format!("must be a list of tables, [[{key}]]"))]);
    };
    if items.len() > max {
        return Err(vec![fault(key.to_owned(), format!("has {} entries, must have at most {max}", items.len()))]);
    }
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for (i, item) in items.iter().enumerate() {
        let key_i = format!("{key}[{i}]");
        let Value::Table(table) = item else {
            faults.push(fault(key_i, format!("must be a table, [[{key}]]")));
            continue;
        };
        let mut row = Row { key: key_i, table, source: &at.source, faults: Vec::new(), read: Vec::new() };
        found.extend(read(&mut row));
        faults.extend(row.finish());
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

impl<'a> Row<'a> {
    fn refuse(&mut self, field: &str, text: impl Into<String>) {
        let key = format!("{}.{field}", self.key);
        self.faults.push(Fault { key, source: self.source.clone(), text: text.into() });
    }

    fn refuse_whole(&mut self, text: impl Into<String>) {
        self.faults.push(Fault { key: self.key.clone(), source: self.source.clone(), text: text.into() });
    }

    fn keep<T>(&mut self, field: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|text| self.refuse(field, text)).ok()
    }

    fn get(&mut self, field: &'static str) -> Option<&'a Value> {
        self.read.push(field);
        self.table.get(field)
    }

    fn has(&mut self, field: &'static str) -> bool {
        self.get(field).is_some()
    }

    fn text(&mut self, field: &'static str) -> Option<&'a str> {
        let text = self.get(field).and_then(Value::as_str);
        if text.is_none() {
            self.refuse(field, "is needed, and must be a text in quotes");
        }
        text
    }

    /// The outer `None` is a fault.
    fn optional_text(&mut self, field: &'static str) -> Option<Option<&'a str>> {
        match self.get(field) {
            None => Some(None),
            Some(Value::String(text)) => Some(Some(text)),
            Some(_) => {
                self.refuse(field, "must be a text in quotes");
                None
            }
        }
    }

    /// `accounts`, which may be left out for all of them.
    fn accounts(&mut self) -> Option<Accounts> {
        if !self.has("accounts") {
            return Some(Accounts::All);
        }
        let parse = |text: &str| Account::parse(text).map_err(|error| format!("each {error}"));
        let accounts: Vec<Account> = self.list("accounts", parse)?;
        if accounts.is_empty() {
            self.refuse("accounts", "needs at least one account; leave it out for all accounts");
        }
        Some(Accounts::Only(accounts.into_iter().collect()))
    }

    fn flag(&mut self, field: &'static str, default: bool) -> bool {
        match self.get(field) {
            None => default,
            Some(Value::Boolean(flag)) => *flag,
            Some(_) => {
                self.refuse(field, "must be true or false");
                default
            }
        }
    }

    fn list<T>(&mut self, field: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let items = match self.get(field) {
            Some(Value::Array(items)) => items.iter().map(Value::as_str).collect::<Option<Vec<&str>>>(),
            _ => None,
        };
        match items {
            Some(items) => {
                let parsed = items.into_iter().map(parse).collect();
                self.keep(field, parsed)
            }
            None => {
                self.refuse(field, "is needed, and must be a list of texts");
                None
            }
        }
    }

    fn finish(mut self) -> Vec<Fault> {
        // Where reading stopped early, the fields after that point were not asked for; they are not unknown.
        if !self.faults.is_empty() {
            return self.faults;
        }
        for field in self.table.keys() {
            if !self.read.contains(&field.as_str()) {
                let near = nearest(field, self.read.iter().copied());
                let text = match near {
                    Some(near) => format!("unknown key; did you mean {near}?"),
                    None => format!("unknown key; there are {}", self.read.join(", ")),
                };
                let key = format!("{}.{field}", self.key);
                self.faults.push(Fault { key, source: self.source.clone(), text });
            }
        }
        self.faults
    }
}
