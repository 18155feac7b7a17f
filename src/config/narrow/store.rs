//! The keys of `store`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::StoreOptions;
use crate::config::fields::Fields;
use crate::store::Acknowledge;
#[cfg(feature = "embedded")]
use crate::store::embedded;
use crate::store::redis::{self, Mode, Tracking};

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
/// Replicas that a write can be made to wait for; more than that nobody runs.
const REPLICAS_MAX: u32 = 16;

/// The mode, before the keys that it needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ModeName {
    Standalone,
    Sentinel,
    Cluster,
}

const MODES: [(&str, ModeName); 3] =
    [("standalone", ModeName::Standalone), ("sentinel", ModeName::Sentinel), ("cluster", ModeName::Cluster)];

/// `None` only where a fault says why.
pub(super) fn read(fields: &mut Fields<'_>, data_dir: &std::path::Path, tracking: Tracking) -> Option<StoreOptions> {
    let urls = fields.urls("store.url", &["redis", "rediss"]);
    let mode = fields.choice("store.mode", &MODES);
    let master = fields.optional("store.sentinel_master");
    let sentinel_username_file = fields.optional("store.sentinel_username_file").map(PathBuf::from);
    let sentinel_password_file = fields.optional("store.sentinel_password_file").map(PathBuf::from);
    let username_file = fields.optional("store.username_file").map(PathBuf::from);
    let password_file = fields.optional("store.password_file").map(PathBuf::from);
    let ca_file = fields.optional("store.ca_file").map(PathBuf::from);
    let acknowledge = fields.parsed("store.acknowledge", parse_acknowledge);
    let read_connections = fields.count("store.read_connections", 1..=64);
    let write_connections = fields.count("store.write_connections", 1..=256);
    let wait = 10 * MILLISECOND..=MINUTE;
    let connect_timeout = fields.duration("store.connect_timeout", wait.clone());
    let read_timeout = fields.duration("store.read_timeout", wait.clone());
    let write_timeout = fields.duration("store.write_timeout", wait);
    let of_sentinels = [
        ("store.sentinel_master", master.is_some()),
        ("store.sentinel_username_file", sentinel_username_file.is_some()),
        ("store.sentinel_password_file", sentinel_password_file.is_some()),
    ];
    let mode = mode?;
    if mode != ModeName::Sentinel {
        refuse_given(
            fields,
            &of_sentinels,
            "is for Sentinel alone: set store.mode = \"sentinel\" too, or leave it empty",
        );
    }
    let urls = urls?;
    if urls.is_empty() {
        let of_redis = [
            ("store.mode", mode != ModeName::Standalone),
            ("store.username_file", username_file.is_some()),
            ("store.password_file", password_file.is_some()),
            ("store.ca_file", ca_file.is_some()),
        ];
        refuse_given(fields, &of_redis, "is for Redis alone: set store.url too, or leave it as it is by default");
        return embedded_store(fields, data_dir);
    }
    if ca_file.is_some() && !urls.iter().all(|url| url.starts_with("rediss://")) {
        fields.refuse("store.ca_file", "is for TLS alone: store.url must start with rediss://");
    }
    let mode = match mode {
        ModeName::Standalone => Mode::Standalone { url: only(fields, urls)? },
        ModeName::Cluster => Mode::Cluster { urls },
        ModeName::Sentinel => {
            let Some(master) = master else {
                fields.refuse("store.sentinel_master", "is needed with store.mode = \"sentinel\": the primary's name");
                return None;
            };
            let (username_file, password_file) = (sentinel_username_file, sentinel_password_file);
            Mode::Sentinel { urls, master, username_file, password_file }
        }
    };
    Some(StoreOptions::Redis(Box::new(redis::Options {
        mode,
        username_file,
        password_file,
        ca_file,
        acknowledge: acknowledge?,
        read_connections,
        write_connections,
        connect_timeout,
        read_timeout,
        write_timeout,
        tracking,
    })))
}

fn refuse_given(fields: &mut Fields<'_>, keys: &[(&'static str, bool)], text: &str) {
    keys.iter().filter(|(_, given)| *given).for_each(|(key, _)| fields.refuse(key, text));
}

fn only(fields: &mut Fields<'_>, urls: Vec<String>) -> Option<String> {
    match <[String; 1]>::try_from(urls) {
        Ok([url]) => Some(url),
        Err(urls) => {
            let text = format!("names {} servers: set store.mode to \"cluster\" or \"sentinel\"", urls.len());
            fields.refuse("store.url", text);
            None
        }
    }
}

#[cfg(feature = "embedded")]
fn embedded_store(_fields: &mut Fields<'_>, data_dir: &std::path::Path) -> Option<StoreOptions> {
    Some(StoreOptions::Embedded(embedded::Options { path: data_dir.join("store.redb") }))
}

#[cfg(not(feature = "embedded"))]
fn embedded_store(fields: &mut Fields<'_>, _: &std::path::Path) -> Option<StoreOptions> {
    fields.refuse("store.url", "is needed: this program was built without the embedded store");
    None
}

fn parse_acknowledge(text: &str) -> Result<Acknowledge, String> {
    let replicas = |text: &str| text.strip_prefix("replicas(")?.strip_suffix(')')?.trim().parse().ok();
    match text {
        "memory" => Ok(Acknowledge::Memory),
        "aof" => Ok(Acknowledge::Aof),
        other => {
            let n = replicas(other).filter(|n| (1..=REPLICAS_MAX).contains(n));
            let allowed = || format!("must be \"memory\", \"replicas(n)\" with n from 1 to {REPLICAS_MAX}, or \"aof\"");
            n.map(Acknowledge::Replicas).ok_or_else(allowed)
        }
    }
}
