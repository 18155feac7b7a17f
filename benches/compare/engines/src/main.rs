//! redb and fjall at the buffer's work: 64 clients append 1 KiB each and wait until it is durable; one thread commits
//! for all who wait, with one sync. Then the same number is removed in the same way, ten at a time.
//!
//!     cargo run --release --manifest-path benches/compare/engines/Cargo.toml [FOLDER]

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const CLIENTS: usize = 64;
const EACH: usize = 300;
const BODY_BYTES: usize = 1_024;
/// Each engine runs so often; the middle run counts.
const RUNS: usize = 5;

enum Change {
    Append(u64, Vec<u8>),
    Remove(u64),
}

trait Engine {
    fn open(folder: &Path) -> Self;
    /// All of it durable when it returns.
    fn commit(&mut self, changes: &[Change]);
    fn count(&self) -> usize;
}

struct Redb(redb::Database);

const FACTS: redb::TableDefinition<u64, u64> = redb::TableDefinition::new("facts");
const BODIES: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("bodies");

impl Engine for Redb {
    fn open(folder: &Path) -> Self {
        Self(redb::Database::create(folder.join("redb")).unwrap())
    }

    fn commit(&mut self, changes: &[Change]) {
        let transaction = self.0.begin_write().unwrap();
        {
            let mut facts = transaction.open_table(FACTS).unwrap();
            let mut bodies = transaction.open_table(BODIES).unwrap();
            for change in changes {
                match change {
                    Change::Append(seq, body) => {
                        facts.insert(seq, body.len() as u64).unwrap();
                        bodies.insert(seq, &body[..]).unwrap();
                    }
                    Change::Remove(seq) => {
                        facts.remove(seq).unwrap();
                        bodies.remove(seq).unwrap();
                    }
                }
            }
        }
        transaction.commit().unwrap();
    }

    fn count(&self) -> usize {
        use redb::{ReadableDatabase, ReadableTableMetadata};
        self.0.begin_read().unwrap().open_table(FACTS).unwrap().len().unwrap() as usize
    }
}

struct Fjall {
    database: fjall::Database,
    facts: fjall::Keyspace,
    bodies: fjall::Keyspace,
}

impl Engine for Fjall {
    fn open(folder: &Path) -> Self {
        let database = fjall::Database::builder(folder.join("fjall")).open().unwrap();
        let keyspace = |name| database.keyspace(name, fjall::KeyspaceCreateOptions::default).unwrap();
        let (facts, bodies) = (keyspace("facts"), keyspace("bodies"));
        Self { database, facts, bodies }
    }

    fn commit(&mut self, changes: &[Change]) {
        let mut batch = self.database.batch().durability(Some(fjall::PersistMode::SyncData));
        for change in changes {
            match change {
                Change::Append(seq, body) => {
                    batch.insert(&self.facts, seq.to_be_bytes(), (body.len() as u64).to_be_bytes());
                    batch.insert(&self.bodies, seq.to_be_bytes(), body.as_slice());
                }
                Change::Remove(seq) => {
                    batch.remove(&self.facts, seq.to_be_bytes());
                    batch.remove(&self.bodies, seq.to_be_bytes());
                }
            }
        }
        batch.commit().unwrap();
    }

    fn count(&self) -> usize {
        self.facts.len().unwrap()
    }
}

type Request = (Vec<Change>, mpsc::Sender<()>);

#[derive(Debug, Clone, Copy)]
struct Figures {
    per_second: f64,
    per_sync: f64,
    p50: Duration,
    p99: Duration,
}

/// Runs the clients against one committing thread. `work` makes what one client asks for at a time.
fn run<E: Engine + Send>(engine: &mut E, rounds: usize, work: impl Fn(usize, usize) -> Vec<Change> + Sync) -> Figures {
    let (sender, requests) = mpsc::sync_channel::<Request>(4 * CLIENTS);
    let start = Instant::now();
    let (changes, commits, mut latencies) = std::thread::scope(|scope| {
        let committer = scope.spawn(move || {
            let (mut changes, mut commits) = (0, 0);
            while let Ok(first) = requests.recv() {
                let batch: Vec<Request> = std::iter::once(first).chain(requests.try_iter()).collect();
                let mut all = Vec::new();
                let mut replies = Vec::new();
                for (part, reply) in batch {
                    all.extend(part);
                    replies.push(reply);
                }
                engine.commit(&all);
                changes += all.len();
                commits += 1;
                replies.into_iter().for_each(|reply| reply.send(()).unwrap());
            }
            (changes, commits)
        });
        let client = |client: usize| {
            let (sender, work) = (sender.clone(), &work);
            scope.spawn(move || {
                let mut latencies = Vec::with_capacity(rounds);
                for round in 0..rounds {
                    let (reply, answer) = mpsc::channel();
                    let asked = Instant::now();
                    sender.send((work(client, round), reply)).unwrap();
                    answer.recv().unwrap();
                    latencies.push(asked.elapsed());
                }
                latencies
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        drop(sender);
        let latencies: Vec<Duration> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        let (changes, commits) = committer.join().unwrap();
        (changes, commits, latencies)
    });
    let took = start.elapsed();
    latencies.sort_unstable();
    Figures {
        per_second: changes as f64 / took.as_secs_f64(),
        per_sync: changes as f64 / f64::from(commits),
        p50: latencies[latencies.len() / 2],
        p99: latencies[latencies.len() * 99 / 100],
    }
}

fn measure<E: Engine + Send>(name: &str, folder: &Path) {
    let (mut appends, mut removals) = (Vec::new(), Vec::new());
    for number in 0..RUNS {
        let folder = folder.join(format!("{name}-{number}"));
        std::fs::create_dir_all(&folder).unwrap();
        let mut engine = E::open(&folder);
        let mut rng = fastrand::Rng::with_seed(1);
        let body: Vec<u8> = (0..BODY_BYTES).map(|_| rng.u8(..)).collect();
        let seq = |client: usize, number: usize| (number * CLIENTS + client) as u64;
        appends.push(run(&mut engine, EACH, |client, round| vec![Change::Append(seq(client, round), body.clone())]));
        assert_eq!(engine.count(), CLIENTS * EACH);
        let ten = |client, round| (0..10).map(|n| Change::Remove(seq(client, round * 10 + n))).collect();
        removals.push(run(&mut engine, EACH / 10, ten));
        assert_eq!(engine.count(), 0);
        drop(engine);
        std::fs::remove_dir_all(&folder).unwrap();
    }
    for (what, mut figures) in [("append", appends), ("remove x10", removals)] {
        figures.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        let Figures { per_second, per_sync, p50, p99 } = figures[RUNS / 2];
        println!("{name:6} {what:11} {per_second:9.0}/s  {per_sync:6.1} per sync  p50 {p50:>8.2?}  p99 {p99:>8.2?}");
    }
}

fn main() {
    let folder = std::env::args().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let folder = folder.join("engines-scratch");
    println!("{CLIENTS} clients, {BODY_BYTES} bytes, {RUNS} runs each, the middle one by throughput");
    measure::<Redb>("redb", &folder);
    measure::<Fjall>("fjall", &folder);
    std::fs::remove_dir_all(&folder).unwrap();
}
