//! Reads that go on while things go wrong, of each process on a connection that is kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::stage::Lookups;
use crate::support::stack::series;
use crate::support::{DEADLINE, Hookcache, eventually, http_get};

/// Reads between two looks at the epoch.
const READS_PER_WINDOW: usize = 20;
const PAUSE: Duration = Duration::from_millis(1);

pub struct Readers {
    progress: Vec<Arc<Progress>>,
    tasks: Vec<JoinHandle<u64>>,
}

#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    windows: AtomicU64,
    /// Held for each window, so that who holds it has a rest.
    turn: Mutex<()>,
}

impl Readers {
    pub fn start(gets: &[Hookcache], names: &[String], seed: u64) -> Self {
        let progress: Vec<Arc<Progress>> = gets.iter().map(|_| Arc::default()).collect();
        let start = |(n, (get, progress)): (usize, (&Hookcache, &Arc<Progress>))| {
            let reader = Reader {
                url: get.url(),
                metrics_url: format!("{}/metrics", get.admin_url()),
                names: names.to_vec(),
                random: fastrand::Rng::with_seed(seed.wrapping_add(n as u64)),
                line: None,
            };
            tokio::spawn(reader.run(Arc::clone(progress)))
        };
        let tasks = gets.iter().zip(&progress).enumerate().map(start).collect();
        Self { progress, tasks }
    }

    /// Waits for some more reads of each process.
    pub async fn go_on(&self) {
        let windows = || self.progress.iter().map(|progress| progress.windows.load(Ordering::SeqCst));
        let enough: Vec<u64> = windows().map(|windows| windows + 3).collect();
        eventually("reads", || async {
            let is_dead = self.tasks.iter().any(JoinHandle::is_finished);
            (is_dead || windows().zip(&enough).all(|(windows, enough)| windows >= *enough)).then_some(())
        })
        .await;
    }

    /// Ends the reads at hand; there are no others until this is dropped.
    pub async fn rest(&self) -> impl Sized {
        join_all(self.progress.iter().map(|progress| progress.turn.lock())).await
    }

    /// How many windows were held to one epoch. Panics where a reader saw something older than before.
    pub async fn stop(self) -> u64 {
        self.progress.iter().for_each(|progress| progress.stop.store(true, Ordering::SeqCst));
        let mut windows = 0;
        for task in self.tasks {
            windows += task.await.expect("a reader that saw nothing wrong");
        }
        windows
    }
}

struct Reader {
    url: String,
    metrics_url: String,
    names: Vec<String>,
    random: fastrand::Rng,
    line: Option<Line>,
}

impl Reader {
    async fn run(mut self, progress: Arc<Progress>) -> u64 {
        let (mut of_epoch, mut newest, mut held) = (None, HashMap::new(), 0);
        while !progress.stop.load(Ordering::SeqCst) {
            let turn = progress.turn.lock().await;
            let before = self.epoch().await;
            let mut seen = Vec::with_capacity(READS_PER_WINDOW);
            for _ in 0..READS_PER_WINDOW {
                let name = self.random.choice(&self.names).expect("there are some").clone();
                if let Some(number) = self.read(&name).await {
                    seen.push((name, number));
                }
            }
            let after = self.epoch().await;
            if before != of_epoch {
                (of_epoch, newest) = (before, HashMap::new());
            }
            // What was read while nobody told of changes, or while the epoch moved on, belongs to none.
            if before.is_some() && before == after {
                held += 1;
                for (name, number) in seen {
                    let newest = newest.entry(name.clone()).or_insert(number);
                    assert!(number >= *newest, "{}: {name} was {newest}, is {number} in epoch {before:?}", self.url);
                    *newest = number;
                }
            }
            progress.windows.fetch_add(1, Ordering::SeqCst);
            drop(turn);
            tokio::time::sleep(PAUSE).await;
        }
        held
    }

    /// `None` while changes are not told.
    async fn epoch(&self) -> Option<u64> {
        let page = http_get(&self.metrics_url).await.text();
        let epochs = series(&page, "hookcache_l1_epochs_total").expect("it is there");
        (series(&page, "hookcache_l1_coherent") == Some(1.0)).then_some(epochs as u64)
    }

    async fn read(&mut self, name: &str) -> Option<u64> {
        if self.line.is_none() {
            self.line = Some(Line::open(&self.url).await);
        }
        self.line.as_mut().expect("it is open").read(name).await
    }
}

/// A connection to a process, for one request after the other.
pub struct Line {
    stream: BufReader<TcpStream>,
}

impl Line {
    pub async fn open(url: &str) -> Self {
        let address = url.strip_prefix("http://").expect("plain HTTP");
        let stream = TcpStream::connect(address).await.expect("it listens");
        Self { stream: BufReader::new(stream) }
    }

    /// The number under a key; `None` where there is nothing, or the store can't be read now.
    pub async fn read(&mut self, name: &str) -> Option<u64> {
        let (status, body) = self.get(name).await;
        match status {
            200 => Some(body.parse().unwrap_or_else(|_| panic!("{name}: {body}"))),
            404 | 503 => None,
            other => panic!("{name}: {other} {body}"),
        }
    }

    /// Reads until the answer has this status, and where it is 200 this body. That takes no longer than half the time for
    /// which memory believes what it was told nothing about, so that this doesn't pass for news.
    pub async fn until(&mut self, name: &str, status: u16, body: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let seen = self.get(name).await;
            if seen.0 == status && (status != 200 || seen.1 == body) {
                return;
            }
            let of = self.stream.get_ref().peer_addr();
            assert!(Instant::now() < deadline, "{name} at {of:?}: {seen:?}, not {status} {body}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub async fn get(&mut self, name: &str) -> (u16, String) {
        let request = format!("GET /v1/keys/{name} HTTP/1.1\r\nhost: test\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await.expect("it takes requests");
        let (mut status, mut length) = (0, 0);
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).await.expect("it answers");
            let (head, rest) = line.trim_end().split_once(' ').unwrap_or_default();
            match head.to_ascii_lowercase().as_str() {
                "" => break,
                "http/1.1" => status = rest[..3].parse().expect("a status"),
                "content-length:" => length = rest.parse().expect("a length"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.expect("it answers whole");
        (status, String::from_utf8(body).expect("text"))
    }
}

/// Reads so often, one key after the other.
pub async fn read_many(get: &Hookcache, names: &[String], count: usize) {
    let mut line = Line::open(&get.url()).await;
    for name in names.iter().cycle().take(count) {
        line.read(name).await;
    }
}

pub async fn lookups(get: &Hookcache) -> Lookups {
    let page = http_get(&format!("{}/metrics", get.admin_url())).await.text();
    let of = |result| series(&page, &format!("hookcache_l1_lookups_total{{result=\"{result}\"}}")).expect("a series");
    let hits = of("hit") + of("absent");
    Lookups { hits, all: hits + of("miss") + of("bypass") }
}
