//! A primary, its replica, and three Sentinels that watch them.

use super::redis::IN_MEMORY;
use super::{Redis, TempDir, eventually, free_port};

pub const MASTER: &str = "webhooks";
const SENTINELS: usize = 3;
/// A failover that found no majority is tried again after twice this time.
const FAILOVER_TIMEOUT_MS: u32 = 5_000;

/// Long enough that no slow machine is taken for a dead one.
pub const DOWN_AFTER_LONG_MS: u32 = 60_000;

pub struct Sentinels {
    /// The one that begins as the primary, then its replica.
    pub servers: Vec<Redis>,
    pub sentinels: Vec<Redis>,
    /// Where the Sentinels speak TLS, if they do.
    pub tls_ports: Vec<u16>,
}

impl Sentinels {
    /// A server that doesn't answer for so long counts as down.
    pub async fn start(down_after_ms: u32) -> Self {
        Self::start_with(down_after_ms, None).await
    }

    /// With options for TLS all of them speak that with each other, and with clients that want it.
    pub async fn start_with(down_after_ms: u32, tls: Option<&[String]>) -> Self {
        let mut this = Self { servers: Vec::new(), sentinels: Vec::new(), tls_ports: Vec::new() };
        let (primary, primary_port) = server(tls).await;
        let (replica, _) = server(tls).await;
        replica.ok(&["REPLICAOF", "127.0.0.1", &primary_port.to_string()]);
        in_step(&replica).await;
        this.servers.extend([primary, replica]);
        for _ in 0..SENTINELS {
            let folder = TempDir::new().expect("a temporary folder");
            let file = folder.path().join("sentinel.conf");
            // It is written to by Sentinel itself.
            let lines = format!(
                "sentinel monitor {MASTER} 127.0.0.1 {primary_port} 2\n\
                 sentinel down-after-milliseconds {MASTER} {down_after_ms}\n\
                 sentinel failover-timeout {MASTER} {FAILOVER_TIMEOUT_MS}\n"
            );
            std::fs::write(&file, lines).expect("it is ours");
            let (file, tls_port) = (file.display().to_string(), free_port());
            let of_tls = tls.map(|tls| tls_options(tls, tls_port)).unwrap_or_default();
            let options: Vec<&str> = ["--sentinel"].into_iter().chain(of_tls.iter().map(String::as_str)).collect();
            this.sentinels.push(Redis::start_in(folder, "redis-server".into(), &[&file], &options).await);
            if tls.is_some() {
                this.tls_ports.push(tls_port);
            }
        }
        this.until_watched().await;
        this
    }

    /// Waits until each Sentinel knows the others and the replica: before that no failover would succeed.
    async fn until_watched(&self) {
        for sentinel in &self.sentinels {
            eventually("Sentinels that know each other", || async {
                let known = sentinel.cli(&["SENTINEL", "MASTER", MASTER]);
                let lines: Vec<&str> = known.lines().collect();
                let says = |name: &str, value: &str| lines.windows(2).any(|pair| pair == [name, value]);
                (says("num-slaves", "1") && says("num-other-sentinels", "2") && says("flags", "master")).then_some(())
            })
            .await;
        }
    }

    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Redis::url).collect()
    }

    /// The port of the primary, when all Sentinels name the same.
    pub fn primary_port(&self) -> Option<u16> {
        let named = |sentinel: &Redis| {
            let answer = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
            answer.lines().nth(1).and_then(|port| port.parse().ok())
        };
        let mut ports: Vec<Option<u16>> = self.sentinels.iter().map(named).collect();
        ports.dedup();
        if ports.len() == 1 { ports[0] } else { None }
    }

    pub fn empty(&self) {
        let port = self.primary_port().expect("they agree while nothing happens");
        self.servers.iter().find(|server| server.port() == port).expect("it is one of ours").ok(&["FLUSHALL"]);
    }
}

/// A server, and the port on which Sentinels and replicas reach it.
async fn server(tls: Option<&[String]>) -> (Redis, u16) {
    let tls_port = free_port();
    let of_tls = tls.map(|tls| tls_options(tls, tls_port)).unwrap_or_default();
    let mut options = [IN_MEMORY, &["--repl-diskless-sync-delay", "0"]].concat();
    options.extend(of_tls.iter().map(String::as_str));
    let server = Redis::start_with(&options).await;
    let port = if tls.is_some() { tls_port } else { server.port() };
    (server, port)
}

fn tls_options(tls: &[String], port: u16) -> Vec<String> {
    let port = port.to_string();
    let own = ["--tls-port", &port, "--tls-replication", "yes"].map(str::to_owned);
    own.into_iter().chain(tls.to_vec()).collect()
}

/// Waits until a replica follows its primary.
pub async fn in_step(replica: &Redis) {
    eventually("a replica in step", || async {
        replica.cli(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
    })
    .await;
}
