//! A real Redis Cluster: three primaries, and perhaps a replica of each.

use super::redis::{IN_MEMORY, Program};
use super::{Redis, eventually, free_port};

/// Long enough that no slow machine is taken for a dead one.
pub const NODE_TIMEOUT_LONG_MS: u32 = 60_000;

pub struct Cluster {
    /// The three that begin as primaries, then their replicas in the same order.
    pub nodes: Vec<Redis>,
    /// Where they speak TLS, if they do.
    pub tls_ports: Vec<u16>,
}

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;

impl Cluster {
    /// Three primaries with a replica each.
    pub async fn start(node_timeout_ms: u32) -> Self {
        Self::start_with(2 * PRIMARIES, node_timeout_ms, None).await
    }

    /// With this many nodes, 3 or 6. With options for TLS they speak that with each other, and with clients that want it.
    pub async fn start_with(count: usize, node_timeout_ms: u32, tls: Option<&[String]>) -> Self {
        let mut this = Self { nodes: Vec::new(), tls_ports: Vec::new() };
        for _ in 0..count {
            let (bus, tls_port) = (free_port().to_string(), free_port());
            let mut options = IN_MEMORY.to_vec();
            options.extend(["--repl-diskless-sync-delay", "0", "--cluster-enabled", "yes"]);
            options.extend(["--cluster-port", &bus]);
            // News travels the faster the shorter this is, and who takes longer to be met is forgotten; for as long as
            // they get to know each other.
            options.extend(["--cluster-node-timeout", "3000", "--cluster-replica-no-failover", "yes"]);
            let tls_text = tls_port.to_string();
            if let Some(tls) = tls {
                options.extend(["--tls-cluster", "yes", "--tls-replication", "yes", "--tls-port", &tls_text]);
                options.extend(tls.iter().map(String::as_str));
                this.tls_ports.push(tls_port);
            }
            this.nodes.push(Redis::start_program(Program::Redis, &options).await);
        }
        this.join().await;
        for node in &this.nodes {
            let timeout = node_timeout_ms.to_string();
            node.ok(&["CONFIG", "SET", "cluster-node-timeout", &timeout, "cluster-replica-no-failover", "no"]);
        }
        this
    }

    async fn join(&self) {
        for (i, node) in self.nodes.iter().enumerate() {
            node.ok(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()]);
        }
        for (i, node) in self.nodes.iter().take(PRIMARIES).enumerate() {
            let (first, last) = (i * SLOTS / PRIMARIES, (i + 1) * SLOTS / PRIMARIES - 1);
            node.ok(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        let count = self.nodes.len();
        let known = format!("cluster_known_nodes:{count}");
        for (i, node) in self.nodes.iter().enumerate().skip(1) {
            let port = self.tls_ports.get(i).copied().unwrap_or(node.port()).to_string();
            let bus = node.cli(&["CONFIG", "GET", "cluster-port"]);
            let bus = bus.lines().last().expect("a number").to_owned();
            self.nodes[0].ok(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        self.until_all(&["CLUSTER", "INFO"], |info| info.contains(&known)).await;
        for (i, replica) in self.nodes.iter().enumerate().skip(PRIMARIES) {
            let primary = self.id(i - PRIMARIES);
            // A node that was met a moment ago may not know yet that the other is a primary.
            eventually("REPLICATE", || async {
                (replica.cli(&["CLUSTER", "REPLICATE", &primary]) == "OK").then_some(())
            })
            .await;
        }
        // Whoever doesn't know a replica as one doesn't vote for it either.
        let replicas = count - PRIMARIES;
        self.until_all(&["CLUSTER", "NODES"], |nodes| nodes.matches("slave").count() == replicas).await;
        let is_well = |info: &str| info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384");
        self.until_all(&["CLUSTER", "INFO"], is_well).await;
        let is_in_step = |info: &str| info.contains("role:master") || info.contains("master_link_status:up");
        self.until_all(&["INFO", "replication"], is_in_step).await;
    }

    /// Waits until each node answers as wanted.
    async fn until_all(&self, command: &[&str], is_wanted: impl Fn(&str) -> bool) {
        for node in &self.nodes {
            eventually(&command.join(" "), || async { is_wanted(&node.cli(command)).then_some(()) }).await;
        }
    }

    pub fn id(&self, node: usize) -> String {
        self.nodes[node].cli(&["CLUSTER", "MYID"])
    }

    /// The URLs of the first two: the rest is for the program to find out.
    pub fn seeds(&self) -> Vec<String> {
        self.nodes.iter().take(2).map(Redis::url).collect()
    }

    pub fn empty(&self) {
        for node in self.nodes.iter().filter(|node| is_primary(node)) {
            node.ok(&["FLUSHALL"]);
        }
    }
}

pub fn is_primary(node: &Redis) -> bool {
    node.cli(&["ROLE"]).starts_with("master")
}
