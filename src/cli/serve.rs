//! `hookcache serve`: the server, from start to stop.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use clap::Args as ClapArgs;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::CliResult;
use super::config::Layers;
use super::output::print;
use crate::app::{self, App};
use crate::config::{Access, BufferOptions, Config, Loaded, Role, StoreOptions, load};
use crate::envelope::Clock;
use crate::registry;
use crate::telemetry::logs;

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  hookcache serve\n  hookcache serve --listen 127.0.0.1:9000 --data-dir \
    /var/lib/hookcache\n  hookcache serve --config hookcache.toml\n  HOOKCACHE_STORE__URL=redis://127.0.0.1 hookcache \
    serve\n  hookcache serve --config hookcache.toml --roles consume\n\nWithout more ado, everything runs in one process, \
    durable on local disk. Every key of the configuration can be set in the environment too, as \
    HOOKCACHE_<SECTION>__<KEY>; `hookcache config print` shows them all. SIGTERM and Ctrl-C finish what is under way; a \
    second one ends at once.")]
pub struct Args {
    #[command(flatten)]
    layers: Layers,
}

pub fn run(args: Args) -> CliResult {
    let sources = args.layers.sources();
    let loaded = load(&sources).map_err(|error| error.to_string())?;
    logs::init(loaded.config.log.level, loaded.config.log.format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the system gives no threads: {error}"))?;
    runtime.block_on(async {
        let mut signals = Signals::catch().map_err(|error| format!("signals can't be caught: {error}"))?;
        let shown = loaded.clone();
        let app = App::start(loaded, sources, Clock::system()).await.map_err(|error| error.to_string())?;
        print(&banner(&shown, &app))?;
        tracing::info!(data = %app.data_address(), control = %app.control_address(), "serving");
        let broken = tokio::select! {
            () = signals.next() => false,
            () = app.broken() => true,
        };
        tracing::info!(broken, "stopping; a second signal ends at once");
        tokio::select! {
            () = app.stop() => tracing::info!("stopped"),
            () = signals.next() => return Err("ended at once by a second signal; what was accepted is safe".to_owned()),
        }
        match broken {
            false => Ok(()),
            true => Err("a part of the server ended by a fault; the log says which".to_owned()),
        }
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What a person who has just started it wants to know.
fn banner(loaded: &Loaded, app: &App) -> String {
    let config = &loaded.config;
    let (data, control) = (reachable(app.data_address()), reachable(app.control_address()));
    let roles = config.roles.iter().map(Role::as_str).collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    // Writing to memory can't fail.
    let _ = writeln!(text, "hookcache {}", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "  data plane     http://{}", app.data_address());
    let _ = writeln!(text, "  control plane  http://{} (also /healthz, /readyz, /metrics)", app.control_address());
    let _ = writeln!(text, "  roles          {roles}");
    let _ = writeln!(text, "  buffer         {}", buffer(loaded));
    let _ = writeln!(text, "  store          {}", store(loaded));
    if let Some(page_links) = config.page_links.as_ref().filter(|_| app::uses_page_links(config)) {
        let _ = writeln!(text, "  pages queue    {}", place_of(&page_links.queue, loaded, "pages.queue_url"));
        let _ = writeln!(text, "  registry       {}", registry(&page_links.registry, loaded));
    }
    let _ = writeln!(text, "  callers        {}", callers(config));
    let header = match config.access {
        Access::Tokens(_) => " -H \"Authorization: Bearer $HOOKCACHE_TOKEN\"",
        Access::OpenOnLoopback | Access::OpenAnywhere => "",
    };
    text.push('\n');
    if config.roles.has(Role::Set) {
        let body = r#"{"accountId":"demo","flowId":"first","webhookKeys":["hello"],"data":{"text":"hello, world"}}"#;
        let _ =
            writeln!(text, "set:  curl http://{data}/v1/set{header} -H 'Content-Type: application/json' -d '{body}'");
    }
    if config.roles.has(Role::Get) {
        let _ = writeln!(text, "get:  curl http://{data}/v1/keys/hello{header}");
    }
    if !config.roles.has(Role::Set) && !config.roles.has(Role::Get) {
        let _ = writeln!(text, "ready? curl http://{control}/readyz");
    }
    text
}

/// An address that a client on this machine can use.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

fn buffer(loaded: &Loaded) -> String {
    if !app::uses_buffer(&loaded.config) {
        return "not needed by these roles".to_owned();
    }
    place_of(&loaded.config.buffer, loaded, "buffer.queue_url")
}

fn place_of(options: &BufferOptions, loaded: &Loaded, key: &str) -> String {
    match options {
        #[cfg(feature = "embedded")]
        BufferOptions::Embedded(options) => format!("embedded, {}", absolute(&options.path)),
        #[cfg(feature = "sqs")]
        BufferOptions::Sqs(_) => format!("SQS, {}", shown(loaded, key)),
    }
}

fn registry(options: &registry::Options, loaded: &Loaded) -> String {
    match options {
        registry::Options::Sqlite { path, .. } => format!("SQLite, {}", absolute(path)),
        registry::Options::Postgres { .. } => format!("PostgreSQL, {}", shown(loaded, "registry.url")),
    }
}

fn store(loaded: &Loaded) -> String {
    if !app::uses_store(&loaded.config) {
        return "not needed by these roles".to_owned();
    }
    match &loaded.config.store {
        #[cfg(feature = "embedded")]
        StoreOptions::Embedded(options) => format!("embedded, {}", absolute(&options.path)),
        StoreOptions::Redis(_) => format!("Redis, {}", shown(loaded, "store.url")),
    }
}

fn callers(config: &Config) -> String {
    match &config.access {
        Access::OpenOnLoopback => "anybody on this machine (no tokens are configured)".to_owned(),
        Access::OpenAnywhere => "anybody who can connect (auth.mode = \"none\")".to_owned(),
        Access::Tokens(tokens) => format!("whoever has a token ({} in the configuration)", tokens.len()),
    }
}

/// A value as it may be shown: without passwords.
fn shown<'a>(loaded: &'a Loaded, key: &str) -> &'a str {
    loaded.settings.iter().find(|setting| setting.key == key).map_or("", |setting| &setting.shown_value)
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}
