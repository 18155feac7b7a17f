//! From keys to [`Config`], and what must fit together.

#[cfg(feature = "server")]
mod apps;
mod buffer;
#[cfg(feature = "server")]
mod page_links;
#[cfg(feature = "server")]
mod planes;
#[cfg(feature = "server")]
mod reading;
mod shared;
mod store;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::fields::{Fields, parse_ttl};
use super::layers::Merged;
use super::{
    Access, BufferOptions, Config, ConsumerOptions, Fault, LogFormat, LogLevel, LogOptions, Role, Roles, StoreOptions,
    lists,
};
use crate::ttl::{Rules, ScopePattern, Ttl};

#[cfg(feature = "server")]
pub use reading::Reading;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn narrow(merged: &Merged) -> Result<Config, Vec<Fault>> {
    let mut fields = Fields::new(merged);
    let config = read(&mut fields);
    let (faults, _) = fields.finish();
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(faults),
    }
}

/// `None` only where a fault says why.
pub(super) fn read(fields: &mut Fields<'_>) -> Option<Config> {
    let listen = address(fields, "listen");
    let admin_listen = address(fields, "admin_listen");
    let data_dir = fields.parsed("data_dir", |text| match text {
        "" => Err("must be the path of a folder".to_owned()),
        path => Ok(PathBuf::from(path)),
    });
    let roles = roles(fields);
    #[cfg(feature = "server")]
    let (http, threads, limits) = (planes::http(fields), planes::threads(fields), planes::limits(fields));
    let data_dir_or_here = data_dir.clone().unwrap_or_default();
    let has_page_links = shared::enabled(fields);
    let with_pages = has_page_links && cfg!(feature = "server");
    let (buffer, queue) = buffer::read(fields, &data_dir_or_here, with_pages);
    #[cfg(feature = "server")]
    let get = planes::get(fields);
    #[cfg(feature = "server")]
    let tracking = planes::tracking(roles.as_ref(), get.as_ref());
    // Without it there is nobody who gets.
    #[cfg(not(feature = "server"))]
    let tracking = crate::store::redis::Tracking::Off;
    let store = store::read(fields, &data_dir_or_here, tracking);
    let consumer = consumer(fields);
    #[cfg(feature = "server")]
    let page_links = page_links::read(fields, &data_dir_or_here);
    #[cfg(not(feature = "server"))]
    drop(queue);
    let ttl = ttl(fields);
    let ttl = if has_page_links { ttl.map(shared::with_rule) } else { ttl };
    let access = access(fields);
    let callers = fields.located("auth.callers").map(lists::callers);
    let callers = told(fields, callers);
    let reserved = fields.located("keys.reserved").map(lists::reserved);
    let reserved = told(fields, reserved);
    let log = log(fields);

    let config = Config {
        listen: listen?,
        admin_listen: admin_listen?,
        data_dir: data_dir?,
        roles: roles?,
        #[cfg(feature = "server")]
        http,
        #[cfg(feature = "server")]
        threads: threads?,
        #[cfg(feature = "server")]
        limits,
        buffer: buffer?,
        store: store?,
        consumer,
        #[cfg(feature = "server")]
        get: get?,
        has_page_links,
        #[cfg(feature = "server")]
        page_links: match has_page_links {
            true => Some(page_links::join(page_links?, queue?)),
            false => None,
        },
        ttl: ttl?,
        access: access?,
        callers: callers?,
        reserved: reserved?,
        log: log?,
    };
    check_planes(fields, &config);
    check_roles(fields, &config);
    shared::check_prefixes(fields, &config);
    #[cfg(feature = "server")]
    page_links::check(fields, &config);
    Some(config)
}

/// Reports the faults of a list, if it has any.
fn told<T>(fields: &mut Fields<'_>, list: Option<Result<T, Vec<Fault>>>) -> Option<T> {
    list?.map_err(|faults| fields.report(faults)).ok()
}

fn address(fields: &mut Fields<'_>, key: &'static str) -> Option<SocketAddr> {
    let allowed = |_| "must be address:port, such as 127.0.0.1:8080 or [::]:8080".to_owned();
    fields.parsed(key, |text| text.parse().map_err(allowed))
}

fn roles(fields: &mut Fields<'_>) -> Option<Roles> {
    let names = Role::ALL.map(|role| format!("{:?}", role.as_str())).join(", ");
    let allowed = || format!("each must be one of {names}");
    let parse = |text: &str| Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(allowed);
    let roles: BTreeSet<Role> = fields.list("roles", parse)?.into_iter().collect();
    if roles.is_empty() {
        fields.refuse("roles", format!("needs at least one of {names}"));
        return None;
    }
    Some(Roles(roles))
}

fn consumer(fields: &mut Fields<'_>) -> ConsumerOptions {
    let pause = 10 * MILLISECOND..=10 * MINUTE;
    let options = ConsumerOptions {
        pollers: fields.count("consumer.pollers", 1..=64),
        batches_in_flight_max: fields.count("consumer.batches_in_flight_max", 1..=1_024),
        attempts_max: fields.number("consumer.attempts_max", 1..=1_000),
        pause_min: fields.duration("consumer.pause_min", pause.clone()),
        pause_max: fields.duration("consumer.pause_max", pause),
        drain_deadline: fields.duration("consumer.drain_deadline", Duration::ZERO..=10 * MINUTE),
    };
    if options.pause_min > options.pause_max {
        fields.refuse("consumer.pause_min", "must not be longer than consumer.pause_max");
    }
    options
}

fn ttl(fields: &mut Fields<'_>) -> Option<Rules> {
    let default = fields.parsed("ttl.default", parse_ttl);
    let bound = |text: &str| match parse_ttl(text)? {
        Ttl::For(time) => Ok(time),
        Ttl::Never => Err("must be a time such as \"1s\" or \"365d\"".to_owned()),
    };
    let min = fields.parsed("ttl.min", bound);
    let max = fields.parsed("ttl.max", bound);
    let pattern = |text: &str| ScopePattern::parse(text).map_err(|error| format!("each {error}"));
    let allow_request = fields.list("ttl.allow_request", pattern);
    let allow_never = fields.list("ttl.allow_never", pattern);
    let listed = fields.located("ttl.rules").map(lists::ttl_rules);
    let listed = told(fields, listed)?;
    let rules = Rules {
        default: default?,
        min: min?,
        max: max?,
        allow_request: allow_request?,
        allow_never: allow_never?,
        static_rules: Arc::default(),
        dynamic_rules: Arc::default(),
    };
    if rules.min > rules.max {
        fields.refuse("ttl.min", "must not be longer than ttl.max");
    }
    if let Err(error) = rules.check_default() {
        fields.refuse("ttl.default", format!("{error}; for the default, \"*/*\""));
    }
    for rule in &listed {
        if let Err(error) = rules.check(&rule.scope, rule.ttl) {
            let key = format!("{}.ttl", rule.key);
            let source = fields.located("ttl.rules").map(|at| at.source.clone())?;
            fields.report(vec![Fault { key, source, text: error.to_string() }]);
        }
    }
    let static_rules = listed.into_iter().map(|rule| (rule.scope, rule.ttl)).collect();
    Some(Rules { static_rules: Arc::new(static_rules), ..rules })
}

fn access(fields: &mut Fields<'_>) -> Option<Access> {
    let with_tokens = fields.choice("auth.mode", &[("tokens", true), ("none", false)]);
    let tokens = fields.located("auth.tokens").map(lists::tokens);
    let tokens = told(fields, tokens)?;
    match (with_tokens?, tokens.is_empty()) {
        (true, true) => Some(Access::OpenOnLoopback),
        (true, false) => Some(Access::Tokens(tokens)),
        (false, true) => Some(Access::OpenAnywhere),
        (false, false) => {
            fields.refuse("auth.mode", "was \"none\", which is at odds with auth.tokens: remove one of them");
            None
        }
    }
}

fn log(fields: &mut Fields<'_>) -> Option<LogOptions> {
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let level = fields.choice("log.level", &levels);
    let format = fields.choice("log.format", &formats);
    Some(LogOptions { level: level?, format: format? })
}

fn check_planes(fields: &mut Fields<'_>, config: &Config) {
    if config.listen == config.admin_listen && config.listen.port() != 0 {
        fields.refuse("admin_listen", "must be another address than listen");
    }
    if let Some(text) = exposure(&config.access, config.listen, config.admin_listen) {
        fields.refuse("auth.tokens", text);
    }
}

/// What is wrong with letting everybody in who can reach these addresses, if anything is.
pub(super) fn exposure(access: &Access, listen: SocketAddr, admin_listen: SocketAddr) -> Option<String> {
    let open = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
    let (key, address) = [("listen", listen), ("admin_listen", admin_listen)].into_iter().find(|(_, a)| open(a))?;
    (*access == Access::OpenOnLoopback).then(|| {
        format!(
            "is empty, but {key} = \"{address}\" can be reached from elsewhere: list tokens (`hookcache token create` \
             makes one), listen on 127.0.0.1, or write out auth.mode = \"none\""
        )
    })
}

/// An embedded backend lives in one process, so all who need it must live there.
fn check_roles(fields: &mut Fields<'_>, config: &Config) {
    let has = |role| config.roles.has(role);
    if is_embedded_buffer(&config.buffer) && has(Role::Set) != has(Role::Consume) {
        fields.refuse(
            "roles",
            "has only one of set and consume, which need each other in one process while the buffer is embedded: set \
             buffer.queue_url to run them apart",
        );
    }
    let embedded = is_embedded_store(&config.store);
    if embedded && has(Role::Get) != has(Role::Consume) {
        fields.refuse(
            "roles",
            "has only one of consume and get, which need each other in one process while the store is embedded: set \
             store.url to run them apart",
        );
    } else if embedded && has(Role::Admin) && !has(Role::Consume) {
        fields.refuse(
            "roles",
            "has admin without consume, which needs it in one process while the store is embedded: set store.url to run \
             them apart",
        );
    }
}

fn is_embedded_buffer(options: &BufferOptions) -> bool {
    match options {
        #[cfg(feature = "embedded")]
        BufferOptions::Embedded(_) => true,
        #[cfg(feature = "sqs")]
        BufferOptions::Sqs(_) => false,
    }
}

fn is_embedded_store(options: &StoreOptions) -> bool {
    match options {
        #[cfg(feature = "embedded")]
        StoreOptions::Embedded(_) => true,
        StoreOptions::Redis(_) => false,
    }
}

/// The keys that are read, for the test that compares them with the manual.
#[cfg(test)]
pub(super) fn keys_read(merged: &Merged) -> BTreeSet<&'static str> {
    let mut fields = Fields::new(merged);
    read(&mut fields);
    fields.finish().1
}
