//! The sources of settings, flattened to `section.key`, and merged: the later source wins.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Fault, Setting, urls};

/// The reference manual, and every default.
pub(super) const DEFAULTS: &str = include_str!("../../config/hookcache.toml");
/// A configuration file is read into memory whole.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Longest part of a value that a fault shows, in characters.
const SHOWN_CHARS_MAX: usize = 80;
const ENV_PREFIX: &str = "HOOKCACHE_";
const ENV_FILE: &str = "HOOKCACHE_CONFIG";
/// Variables of ours that are no settings: the file, and what the client side reads.
/// The text of a configuration file, for where no file can be put beside the program (Lambda, Fargate).
const ENV_TEXT: &str = "HOOKCACHE_CONFIG_TEXT";
const ENV_OTHER: [&str; 5] = [ENV_FILE, ENV_TEXT, "HOOKCACHE_URL", "HOOKCACHE_ADMIN_URL", "HOOKCACHE_TOKEN"];
/// Keys that hold a list of tables, or a table with names of its own. They can be set in a file only.
pub(super) const FILE_ONLY: [&str; 4] = ["auth.tokens", "auth.callers", "ttl.rules", "keys.reserved"];
/// Keys whose value is a URL, which may hold a password.
const URLS: [&str; 10] = [
    "store.url",
    "buffer.queue_url",
    "buffer.dead_letter_url",
    "buffer.endpoint_url",
    "registry.url",
    "pages.queue_url",
    "pages.dead_letter_url",
    "confluence.public_url",
    "confluence.forge_keys_url",
    "confluence.connect_keys_url",
];

/// Keys whose value is a secret as a whole.
const SECRETS: [&str; 1] = ["registry.key"];

/// Where settings come from, beside the compiled-in defaults.
#[derive(Clone, Default)]
pub struct Sources {
    /// `--config`; where absent, `HOOKCACHE_CONFIG` names the file, if any.
    pub file: Option<PathBuf>,
    /// All variables of the environment.
    pub environment: Vec<(String, String)>,
    /// Key and value, such as `("data_dir", "/var/lib/hookcache")` for `--data-dir`.
    pub flags: Vec<(&'static str, String)>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Default,
    File(PathBuf),
    /// The name of the variable.
    Environment(String),
    /// The name of the flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A configuration file as it was read.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct FileText {
    pub path: PathBuf,
    pub text: String,
}

#[derive(Clone)]
pub(super) struct Located {
    pub value: Value,
    pub source: Source,
}

/// Every known key with its effective value.
#[derive(Clone)]
pub(super) struct Merged(BTreeMap<String, Located>);

impl Sources {
    /// Those of this process: its environment, and what its command line says.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Self {
        // A value that is no UTF-8 is refused later, by what it is read as.
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        Self { file, environment, flags }
    }

    /// Is there to be a configuration file, or the text of one?
    pub fn name_a_file(&self) -> bool {
        self.file_path().is_some() || self.variable(ENV_TEXT).is_some()
    }

    /// The configuration file, if there is to be one.
    pub fn file_path(&self) -> Option<PathBuf> {
        self.file.clone().or_else(|| self.variable(ENV_FILE).map(PathBuf::from))
    }

    fn variable(&self, wanted: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(name, value)| name == wanted && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// The configuration file, or the text that stands in its place.
    pub(super) fn read_file(&self) -> Result<Option<FileText>, Fault> {
        let path = match (self.file_path(), self.variable(ENV_TEXT)) {
            (None, None) => return Ok(None),
            (None, Some(text)) => {
                let path = PathBuf::from(format!("${ENV_TEXT}"));
                return Ok(Some(FileText { path, text: text.to_owned() }));
            }
            (Some(path), Some(_)) => {
                let text = format!("is at odds with the configuration file {}: give only one", path.display());
                return Err(Fault { key: ENV_TEXT.to_owned(), source: Source::Default, text });
            }
            (Some(path), None) => path,
        };
        match read_text(&path) {
            Ok(text) => Ok(Some(FileText { path, text })),
            Err(text) => Err(Fault { key: path.display().to_string(), source: Source::Default, text }),
        }
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |error| format!("the configuration file can't be read: {error}");
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("the configuration file has more than {FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "the configuration file is not UTF-8".to_owned())
}

impl Merged {
    pub fn get(&self, key: &str) -> Option<&Located> {
        self.0.get(key)
    }

    pub fn settings(&self) -> Vec<Setting> {
        let setting = |(key, at): (&String, &Located)| Setting {
            key: key.clone(),
            shown_value: show_whole(key, &at.value),
            source: at.source.clone(),
        };
        self.0.iter().map(setting).collect()
    }

    /// The same, but for one key, which is as there.
    pub fn with(&self, key: &str, other: &Self) -> Self {
        let mut changed = self.clone();
        if let Some(at) = other.get(key) {
            changed.0.insert(key.to_owned(), at.clone());
        }
        changed
    }

    /// The keys whose values differ.
    #[cfg(feature = "server")]
    pub fn changed(&self, other: &Self) -> Vec<String> {
        let differs = |(key, at): &(&String, &Located)| other.get(key).is_none_or(|theirs| theirs.value != at.value);
        self.0.iter().filter(differs).map(|(key, _)| key.clone()).collect()
    }

    #[cfg(test)]
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Puts the sources over each other. The faults are those of keys and of syntax; values are judged later.
pub(super) fn merge(sources: &Sources, file: Option<&FileText>) -> (Merged, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut merged = Merged(BTreeMap::new());
    for (key, value) in parse(DEFAULTS, "the compiled-in defaults", &mut faults) {
        merged.0.insert(key, Located { value, source: Source::Default });
    }
    if let Some(file) = file {
        let source = Source::File(file.path.clone());
        let name = file.path.display().to_string();
        for (key, value) in parse(&file.text, &name, &mut faults) {
            merged.put(key, value, source.clone(), &mut faults);
        }
    }
    for (name, value) in &sources.environment {
        let Some(key) = key_of_variable(name) else { continue };
        merged.put_text(key, value, Source::Environment(name.clone()), &mut faults);
    }
    for (key, value) in &sources.flags {
        let source = Source::Flag(format!("--{}", key.replace('_', "-")));
        merged.put_text((*key).to_owned(), value, source, &mut faults);
    }
    (merged, faults)
}

impl Merged {
    fn put(&mut self, key: String, value: Value, source: Source, faults: &mut Vec<Fault>) {
        match self.0.get_mut(&key) {
            Some(at) => *at = Located { value, source },
            None => {
                let text = self.unknown(&key);
                faults.push(Fault { key, source, text });
            }
        }
    }

    fn put_text(&mut self, key: String, value: &str, source: Source, faults: &mut Vec<Fault>) {
        if FILE_ONLY.contains(&key.as_str()) {
            let text = "can be set in a configuration file only (--config)".to_owned();
            return faults.push(Fault { key, source, text });
        }
        self.put(key, Value::String(value.to_owned()), source, faults);
    }

    fn unknown(&self, key: &str) -> String {
        let section = format!("{key}.");
        let inside: Vec<&str> = self.0.keys().filter(|known| known.starts_with(&section)).map(String::as_str).collect();
        if !inside.is_empty() {
            return format!("is a section, not a key; its keys are {}", inside.join(", "));
        }
        match nearest(key, self.0.keys().map(String::as_str)) {
            Some(near) => format!("unknown key; did you mean {near}?"),
            None => "unknown key; `hookcache config print` lists those there are".to_owned(),
        }
    }
}

/// Parses TOML and flattens its tables.
fn parse(text: &str, name: &str, faults: &mut Vec<Fault>) -> Vec<(String, Value)> {
    match text.parse::<Table>() {
        Ok(table) => {
            let mut flat = Vec::new();
            flatten(String::new(), table, &mut flat);
            flat
        }
        Err(error) => {
            // The error's own text quotes the line, which may hold a secret.
            let line = error.span().map_or(0, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            let text = format!("line {line}: {}", error.message().replace('\n', ", "));
            faults.push(Fault { key: name.to_owned(), source: Source::Default, text });
            Vec::new()
        }
    }
}

fn flatten(prefix: String, table: Table, flat: &mut Vec<(String, Value)>) {
    for (name, value) in table {
        // A quoted name with a dot in it must not pass for a section and a key.
        let name = if name.contains('.') { format!("\"{name}\"") } else { name };
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(table) if !FILE_ONLY.contains(&key.as_str()) => flatten(key, table, flat),
            value => flat.push((key, value)),
        }
    }
}

/// The key that a variable sets; `None` for one that is not a setting.
fn key_of_variable(name: &str) -> Option<String> {
    let rest = name.strip_prefix(ENV_PREFIX)?;
    let of_us = !ENV_OTHER.contains(&name) && !is_service_link(rest);
    of_us.then(|| rest.replace("__", ".").to_ascii_lowercase())
}

/// Kubernetes gives every container variables for each service of its namespace. Those of a service that is called
/// `hookcache` or `hookcache-get` look like ours: `HOOKCACHE_PORT`, `HOOKCACHE_GET_SERVICE_HOST`.
fn is_service_link(rest: &str) -> bool {
    let rest = format!("_{rest}");
    !rest.contains("__")
        && (rest.ends_with("_SERVICE_HOST")
            || rest.contains("_SERVICE_PORT")
            || rest.ends_with("_PORT")
            || rest.contains("_PORT_"))
}

/// The known key that was most likely meant: of the same last part, or a few slips away.
pub(super) fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let rank = |candidate: &'a str| (distance(key, candidate), candidate);
    let (slips, near) = known.map(rank).min_by_key(|&(slips, candidate)| {
        // A slip costs more than a wrong section.
        let cost = if last(candidate) == last(key) { slips.min(2) } else { slips };
        (cost, slips, candidate)
    })?;
    (slips <= 2.max(key.len() / 3) || last(near) == last(key)).then_some(near)
}

/// Levenshtein's distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let kept = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = kept.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A value as a fault or a listing may show it.
pub(super) fn show(key: &str, value: &Value) -> String {
    shorten(&show_whole(key, value))
}

fn show_whole(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) if URLS.contains(&key) => format!("{:?}", urls::redact(text)),
        Value::String(text) if SECRETS.contains(&key) && !text.is_empty() => "\"***\"".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) if FILE_ONLY.contains(&key) => format!("[{}]", counted(items.len())),
        Value::Table(table) if FILE_ONLY.contains(&key) => format!("{{{}}}", counted(table.len())),
        // Whatever stands in place of a URL, of a secret or of a list of them is not shown at all.
        _ if [&URLS[..], &SECRETS, &FILE_ONLY].iter().any(|keys| keys.contains(&key)) => {
            format!("a {}", value.type_str())
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| show_whole("", item)).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string().replace('\n', " "),
    }
}

fn counted(n: usize) -> String {
    match n {
        0 => String::new(),
        1 => "1 entry".to_owned(),
        n => format!("{n} entries"),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
