//! The servers, three processes that get, and what can be done to them.

use std::time::Duration;

use futures_util::future::join_all;
use hookcache::envelope::Clock;
use hookcache::store::redis::{Mode, Options, open};
use hookcache::store::{Acknowledge, Writer};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::reader::{self, Line};
use crate::redis::options;
use crate::support::cluster::NODE_TIMEOUT_LONG_MS;
use crate::support::sentinels::{DOWN_AFTER_LONG_MS, MASTER, in_step};
use crate::support::stack::series;
use crate::support::{Cluster, Hookcache, Redis, Sentinels, eventually, eventually_within, http_get};

const PROCESSES: usize = 3;
/// A promotion that was asked for takes a moment, and some more until all Sentinels know of it.
const PROMOTION_MAX: Duration = Duration::from_secs(120);

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The connections that tell of changes are cut.
    TrackersCut,
    /// All connections are cut.
    AllCut,
    /// Redis answers nobody for a while, but holds all connections.
    Paused,
    /// The same, and not even its system answers for it.
    Frozen,
    /// The same, for so long that the processes give up their connections. What it was asked for meanwhile it does before
    /// any of them listens again: keys vanish, and nobody is told.
    Unheard,
    Emptied,
    /// A replica takes its place, and it lives on.
    Replaced,
    /// A slot goes to another primary, with all that is in it.
    SlotMoved,
}

impl Fault {
    /// One of each kind.
    pub const SOME_OF_ONE: &[Self] =
        &[Self::TrackersCut, Self::AllCut, Self::Paused, Self::Unheard, Self::Emptied, Self::Replaced];
    pub const OF_ONE: &[Self] =
        &[Self::TrackersCut, Self::AllCut, Self::Paused, Self::Frozen, Self::Unheard, Self::Emptied, Self::Replaced];
    pub const OF_CLUSTER: &[Self] =
        &[Self::TrackersCut, Self::AllCut, Self::Paused, Self::Frozen, Self::Unheard, Self::Emptied, Self::SlotMoved];
}

enum Servers {
    Sentinels(Sentinels),
    Cluster(Cluster),
}

pub struct Stage {
    servers: Servers,
    pub gets: Vec<Hookcache>,
}

/// Keys that were asked for.
pub struct Lookups {
    /// Those that were answered from memory.
    pub hits: f64,
    pub all: f64,
}

impl Lookups {
    pub fn since(&self, before: &Self) -> Self {
        Self { hits: self.hits - before.hits, all: self.all - before.all }
    }
}

impl Stage {
    pub async fn sentinels() -> Self {
        let group = Sentinels::start(DOWN_AFTER_LONG_MS).await;
        let env = [("MODE", "sentinel"), ("SENTINEL_MASTER", MASTER), ("URL", &group.urls().join(","))];
        let gets = gets(&env).await;
        Self { servers: Servers::Sentinels(group), gets }
    }

    pub async fn cluster() -> Self {
        let cluster = Cluster::start_with(3, NODE_TIMEOUT_LONG_MS, None).await;
        let gets = gets(&[("MODE", "cluster"), ("URL", &cluster.seeds().join(","))]).await;
        Self { servers: Servers::Cluster(cluster), gets }
    }

    pub fn writer(&self) -> Writer {
        let (mode, acknowledge) = match &self.servers {
            Servers::Sentinels(group) => {
                let (urls, master) = (group.urls(), MASTER.to_owned());
                // What is acknowledged survives the promotion of the replica.
                let mode = Mode::Sentinel { urls, master, username_file: None, password_file: None };
                (mode, Acknowledge::Replicas(1))
            }
            Servers::Cluster(cluster) => (Mode::Cluster { urls: cluster.seeds() }, Acknowledge::Memory),
        };
        let write_timeout = Duration::from_secs(2);
        let (writer, _, _) = open(&Options { mode, acknowledge, write_timeout, ..options("") }, Clock::system())
            .expect("these options are right");
        Writer::Redis(writer)
    }

    fn primaries(&self) -> Vec<&Redis> {
        match &self.servers {
            Servers::Cluster(cluster) => cluster.nodes.iter().collect(),
            Servers::Sentinels(group) => {
                let port = group.primary_port().expect("they agree while nothing happens");
                group.servers.iter().filter(|server| server.port() == port).collect()
            }
        }
    }

    /// Begins a fault, and ends it.
    pub async fn suffer(&self, fault: Fault, random: &mut fastrand::Rng) {
        let primaries = self.primaries();
        let one = primaries[random.usize(..primaries.len())];
        let while_ms = random.u64(100..600);
        let a_while = tokio::time::sleep(Duration::from_millis(while_ms));
        match fault {
            Fault::TrackersCut => cut_trackers(one),
            Fault::AllCut => drop(one.cli(&["CLIENT", "KILL", "TYPE", "normal"])),
            Fault::Paused => one.ok(&["CLIENT", "PAUSE", &while_ms.to_string(), "ALL"]),
            Fault::Frozen => {
                one.pause();
                a_while.await;
                one.resume();
            }
            Fault::Unheard => self.unheard(one).await,
            Fault::Emptied => one.ok(&["FLUSHALL"]),
            Fault::Replaced => self.replace().await,
            Fault::SlotMoved => self.move_slot(random).await,
        }
    }

    /// Whoever remembers a key of this primary from before finds nothing that speaks against it, but for the epoch. Waits
    /// until nobody believes it any more; whoever reads meanwhile may forget it by chance.
    async fn unheard(&self, one: &Redis) {
        let unlink = |name: &String| format!("UNLINK hc:v1:k:{{}}:{name}\r\n");
        let names = super::names();
        let mut asks = TcpStream::connect(("127.0.0.1", one.port())).await.expect("it listens");
        one.pause();
        asks.write_all(names.iter().map(unlink).collect::<String>().as_bytes()).await.expect("its system takes it");
        for get in &self.gets {
            eventually("the loss", || async { (!coherent(get).await).then_some(()) }).await;
        }
        one.resume();
        let mut gone = Vec::new();
        let mut replies = BufReader::new(asks).lines();
        for name in names {
            // Others answer that the key is elsewhere.
            if replies.next_line().await.expect("it answers").as_deref() == Some(":1") {
                gone.push(name);
            }
        }
        assert!(!gone.is_empty(), "none of the keys was there");
        self.until_coherent().await;
        for get in &self.gets {
            let mut line = Line::open(&get.url()).await;
            for name in &gone {
                line.until(name, 404, "").await;
            }
        }
    }

    /// The processes leave a primary that lives on for the one that Sentinels name, which the writer is made to do.
    async fn replace(&self) {
        let Servers::Sentinels(group) = &self.servers else { panic!("there are no Sentinels") };
        let old = self.primaries()[0];
        let new = group.servers.iter().find(|server| server.port() != old.port()).expect("there are two");
        in_step(new).await;
        let (sentinel, old_port) = (&group.sentinels[0], old.port().to_string());
        let is_promoted = || async {
            // It gives the order up, without a word, where it finds the replica wanting at that moment.
            let known = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
            if known.lines().nth(1) == Some(old_port.as_str()) {
                sentinel.cli(&["SENTINEL", "FAILOVER", MASTER]);
            }
            (group.primary_port() == Some(new.port())).then_some(())
        };
        eventually_within(PROMOTION_MAX, "the promotion", is_promoted).await;
        for get in &self.gets {
            eventually("a process leaves the old primary", || async {
                let listens = trackers(new).len() == PROCESSES && trackers(old).is_empty();
                (listens && coherent(get).await).then_some(())
            })
            .await;
        }
        // Sentinel would do it, too, after some ten seconds.
        old.ok(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
        old.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        in_step(old).await;
    }

    async fn move_slot(&self, random: &mut fastrand::Rng) {
        let Servers::Cluster(cluster) = &self.servers else { panic!("there is no cluster") };
        let name = format!("hc:v1:k:{{}}:key-{}", random.usize(..super::KEYS));
        let slot = cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", &name]);
        let owns = |node: &Redis| !node.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).is_empty();
        // What was emptied is written again in a moment.
        let from = eventually("the owner of a slot", || async { cluster.nodes.iter().position(owns) }).await;
        let to = (from + 1 + random.usize(..2)) % 3;
        let (source, target) = (&cluster.nodes[from], &cluster.nodes[to]);
        target.ok(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &cluster.id(from)]);
        source.ok(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &cluster.id(to)]);
        loop {
            let keys = source.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            let Some(key) = keys.lines().next() else { break };
            source.cli(&["MIGRATE", "127.0.0.1", &target.port().to_string(), key, "0", "30000"]);
        }
        for node in [target, source] {
            node.ok(&["CLUSTER", "SETSLOT", &slot, "NODE", &cluster.id(to)]);
        }
    }

    /// Waits until each process hears of changes.
    pub async fn until_coherent(&self) {
        for get in &self.gets {
            eventually("changes are told", || async { coherent(get).await.then_some(()) }).await;
        }
    }

    /// GETs that the primaries have answered.
    pub fn gets_seen(&self) -> u64 {
        let calls = |redis: &Redis| -> u64 {
            let info = redis.cli(&["INFO", "commandstats"]);
            let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
            line.map_or(0, |rest| rest.split(',').next().and_then(|n| n.parse().ok()).expect("a number"))
        };
        self.primaries().into_iter().map(calls).sum()
    }

    pub async fn lookups(&self) -> Lookups {
        let all = join_all(self.gets.iter().map(reader::lookups)).await;
        all.into_iter().fold(Lookups { hits: 0.0, all: 0.0 }, |sum, one| Lookups {
            hits: sum.hits + one.hits,
            all: sum.all + one.all,
        })
    }
}

async fn gets(store: &[(&str, &str)]) -> Vec<Hookcache> {
    let mut env: Vec<(String, &str)> =
        store.iter().map(|(name, value)| (format!("HOOKCACHE_STORE__{name}"), *value)).collect();
    // Long enough that few slow machines are taken for a lost connection, and that one be lost takes not much longer.
    env.push(("HOOKCACHE_STORE__READ_TIMEOUT".to_owned(), "2s"));
    env.push(("HOOKCACHE_STORE__CONNECT_TIMEOUT".to_owned(), "10s"));
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    join_all((0..PROCESSES).map(|_| Hookcache::start(&["--roles", "get"], &env))).await
}

pub async fn coherent(get: &Hookcache) -> bool {
    let page = http_get(&format!("{}/metrics", get.admin_url())).await.text();
    series(&page, "hookcache_l1_coherent") == Some(1.0)
}

/// The ids of the connections that are told of changes.
pub fn trackers(redis: &Redis) -> Vec<String> {
    let field = |line: &str, name: &str| line.split(' ').find_map(|part| part.strip_prefix(name)).map(str::to_owned);
    let list = redis.cli(&["CLIENT", "LIST"]);
    let tracking = list.lines().filter(|line| field(line, "flags=").is_some_and(|flags| flags.contains('B')));
    tracking.filter_map(|line| field(line, "id=")).collect()
}

pub fn cut_trackers(redis: &Redis) {
    for id in trackers(redis) {
        redis.cli(&["CLIENT", "KILL", "ID", &id]);
    }
}
