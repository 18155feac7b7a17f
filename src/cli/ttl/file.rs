//! The file of `ttl export` and `ttl import`: TOML, sorted, one table per rule, so that a diff in git reads well.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use toml::{Table, Value};

use crate::config::{parse_ttl, spell_ttl};
use crate::ttl::json::scope_of;
use crate::ttl::{Scope, Ttl};

/// More than all the rules that a server takes.
const FILE_BYTES_MAX: u64 = 8 << 20;

const HEAD: &str = "# TTL rules of hookcache that are set while it runs. `hookcache ttl import` makes them those of this \
                    file:\n# what is not here is removed.\n";

/// What an import does about one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Add(Scope, Ttl),
    /// From, to.
    Replace(Scope, Ttl, Ttl),
    Remove(Scope, Ttl),
}

impl Change {
    pub fn scope(&self) -> &Scope {
        match self {
            Self::Add(scope, _) | Self::Replace(scope, ..) | Self::Remove(scope, _) => scope,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(scope, ttl) => write!(f, "+ {scope}: {}", spell_ttl(*ttl)),
            Self::Replace(scope, from, to) => write!(f, "~ {scope}: {} -> {}", spell_ttl(*from), spell_ttl(*to)),
            Self::Remove(scope, ttl) => write!(f, "- {scope}: {}", spell_ttl(*ttl)),
        }
    }
}

pub(super) fn write(rules: &[(Scope, Ttl)]) -> String {
    if rules.is_empty() {
        return format!("{HEAD}rules = []\n");
    }
    let sorted: BTreeMap<&Scope, &Ttl> = rules.iter().map(|(scope, ttl)| (scope, ttl)).collect();
    let mut text = HEAD.to_owned();
    for (scope, ttl) in sorted {
        text.push_str("\n[[rules]]\n");
        // Names and TTLs hold nothing that a TOML text would have to escape.
        scope.account().into_iter().for_each(|account| text.push_str(&format!("account = \"{account}\"\n")));
        scope.flow().into_iter().for_each(|flow| text.push_str(&format!("flow = \"{flow}\"\n")));
        text.push_str(&format!("ttl = \"{}\"\n", spell_ttl(*ttl)));
    }
    text
}

pub(super) fn text_of(path: &Path) -> Result<String, String> {
    let unreadable = |error| format!("{} can't be read: {error}", path.display());
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_string(&mut text),
        _ => std::fs::File::open(path).map_err(unreadable)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text),
    };
    read.map_err(unreadable)?;
    match text.len() as u64 {
        0..=FILE_BYTES_MAX => Ok(text),
        _ => Err(format!("{} has more than {FILE_BYTES_MAX} bytes", path.display())),
    }
}

/// A file without `rules` is refused: it is far more often a mistake, such as an export that failed, than the wish to
/// remove every rule.
pub(super) fn read(text: &str) -> Result<BTreeMap<Scope, Ttl>, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| format!("the file is not TOML: {error}"))?;
    if let Some(key) = table.keys().find(|key| *key != "rules") {
        return Err(format!("unknown key {key:?}; the file holds [[rules]] alone"));
    }
    let rules = table.get("rules").ok_or("the file has no rules; to remove them all, it must say `rules = []`")?;
    let rules = rules.as_array().ok_or("`rules` must be a list of tables, [[rules]]")?;
    let mut found = BTreeMap::new();
    for (i, rule) in rules.iter().enumerate() {
        let (scope, ttl) = read_rule(rule).map_err(|error| format!("rules[{i}]: {error}"))?;
        if found.insert(scope.clone(), ttl).is_some() {
            return Err(format!("rules[{i}]: another rule has the same scope: {scope}"));
        }
    }
    Ok(found)
}

fn read_rule(rule: &Value) -> Result<(Scope, Ttl), String> {
    let table = rule.as_table().ok_or("must be a table, [[rules]]")?;
    if let Some(key) = table.keys().find(|key| !["account", "flow", "ttl"].contains(&key.as_str())) {
        return Err(format!("unknown key {key:?}; there are account, flow and ttl"));
    }
    let text = |key: &str| match table.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("{key} must be a text in quotes")),
    };
    let scope = scope_of(text("account")?, text("flow")?)?;
    let ttl = text("ttl")?.ok_or("needs a ttl")?;
    Ok((scope, parse_ttl(ttl).map_err(|error| format!("ttl {error}"))?))
}

/// Additions and replacements first, removals last; each sorted by scope.
pub(super) fn changes(there: &[(Scope, Ttl)], wanted: &BTreeMap<Scope, Ttl>) -> Vec<Change> {
    let there: BTreeMap<&Scope, Ttl> = there.iter().map(|(scope, ttl)| (scope, *ttl)).collect();
    let put = wanted.iter().filter_map(|(scope, ttl)| match there.get(scope) {
        None => Some(Change::Add(scope.clone(), *ttl)),
        Some(old) if old != ttl => Some(Change::Replace(scope.clone(), *old, *ttl)),
        Some(_) => None,
    });
    let gone = there.iter().filter(|(scope, _)| !wanted.contains_key(**scope));
    put.chain(gone.map(|(scope, ttl)| Change::Remove((*scope).clone(), *ttl))).collect()
}

pub(super) fn describe_all(changes: &[Change]) -> String {
    changes.iter().map(|change| format!("{change}\n")).collect()
}

pub(super) fn summary(changes: &[Change]) -> String {
    let count = |is: fn(&Change) -> bool| changes.iter().filter(|change| is(change)).count();
    let added = count(|change| matches!(change, Change::Add(..)));
    let changed = count(|change| matches!(change, Change::Replace(..)));
    let removed = count(|change| matches!(change, Change::Remove(..)));
    format!("{added} added, {changed} changed, {removed} removed")
}
