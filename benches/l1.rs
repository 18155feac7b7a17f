//! Gets that are answered from memory, without sockets: `cargo bench --bench l1`.
//!
//! What is measured is the time of a processor that one get takes, from the key to a page that is ready to be sent, on so
//! many threads at once. Where threads write what others read or write, each of them takes the longer the more there are;
//! `counted` shows what a single shared counter adds. It takes as many processors as threads to see it: two threads on
//! two processors tell something, and eight on two only that nothing gets worse by taking turns.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use futures_util::future::join_all;
use hookcache::auth::{Auth, Caller, Policy};
use hookcache::envelope::{Account, Clock, Flow, Grants, Stamper, Version, WebhookKey};
use hookcache::serve::{Page, Serve};
use hookcache::store::l1::Options;
use hookcache::store::{self, Effect, Reader, Write, Writer};
use hookcache::telemetry::Metrics;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: usize = 10_000;
const PAYLOAD_BYTES: usize = 512;
const THREADS: [usize; 4] = [1, 2, 4, 8];
const CLIENTS: usize = 1_000;
const MEMORY: Options = Options { bytes_max: 128 << 20, stale_max: Duration::from_secs(1) };

/// An embedded store with all keys.
struct Stage {
    runtime: Runtime,
    reader: Reader,
    caller: Caller,
    keys: Vec<String>,
    _folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let folder = TempDir::new().expect("a temporary folder");
        let options = store::embedded::Options { path: folder.path().join("store.redb") };
        let opened = runtime.block_on(async { store::embedded::open(options, Clock::system()) });
        let (writer, reader, _) = opened.expect("a store");
        let keys: Vec<String> = (0..KEYS).map(|n| format!("confluence:site-1:page:{n:08}")).collect();
        runtime.block_on(fill(&Writer::Embedded(writer), &keys));
        let caller = auth().authenticate(None).expect("everybody may");
        Self { runtime, reader: Reader::Embedded(reader), caller, keys, _folder: folder }
    }

    fn serve(&self, memory: Option<Options>) -> Serve {
        Serve::new(self.reader.clone(), memory, auth(), Duration::ZERO, Clock::system(), Metrics::new())
    }

    async fn get(&self, serve: &Serve, key: &str) -> Page {
        serve.get(&self.caller, key, None).await.expect("it is there")
    }

    /// One that remembers all keys.
    fn warm(&self) -> Serve {
        let serve = self.serve(Some(MEMORY));
        self.runtime.block_on(async {
            for key in &self.keys {
                self.get(&serve, key).await;
            }
        });
        serve
    }
}

fn auth() -> Auth {
    Auth::new(Policy::Open, Grants::default())
}

async fn fill(writer: &Writer, keys: &[String]) {
    let stamper = Stamper::new(Clock::system());
    for keys in keys.chunks(500) {
        let write = |key: &String| {
            let stamp = stamper.stamp();
            Write {
                version: Version::of_arrival(0, stamp.at_ms, &stamp.id),
                keys: vec![WebhookKey::parse(key).expect("legal")],
                account: Account::parse("acme").expect("legal"),
                effect: Effect::Put {
                    flow: Flow::parse("page-links").expect("legal"),
                    payload: Bytes::from(vec![b'x'; PAYLOAD_BYTES]),
                    expires_at_ms: Some(stamp.at_ms + 3_600_000),
                },
                at_ms: stamp.at_ms,
                id: stamp.id,
            }
        };
        let writes: Vec<Write> = keys.iter().map(write).collect();
        assert!(writer.write(&writes, stamper.clock().now_ms()).await.iter().flatten().all(Result::is_ok));
    }
}

/// What a thread has had of a processor so far.
fn processor_time(of: ClockId) -> Duration {
    let time = clock_gettime(of);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What a thread does again and again.
type Call<'a> = dyn Fn(&mut fastrand::Rng) + Sync + 'a;

/// What so many calls take of processors in all, made by so many threads at once, each with its own random numbers.
fn on_threads(threads: usize, calls: u64, call: impl Fn(&mut fastrand::Rng) + Sync) -> Duration {
    let total = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (call, total) = (&call, &total);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread as u64);
                let begin = processor_time(ClockId::ThreadCPUTime);
                (0..calls / threads as u64 + 1).for_each(|_| call(&mut random));
                let took = processor_time(ClockId::ThreadCPUTime) - begin;
                total.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
            });
        }
    });
    Duration::from_nanos(total.into_inner())
}

fn hits(c: &mut Criterion) {
    let stage = Stage::new();
    let serve = stage.warm();
    let counter = AtomicUsize::new(0);
    let get = |key: &str| black_box(stage.get(&serve, key).now_or_never().expect("a hit waits for nothing"));
    let any = |random: &mut fastrand::Rng| drop(get(&stage.keys[random.usize(..KEYS)]));
    let hot = |_: &mut fastrand::Rng| drop(get(&stage.keys[0]));
    let counted = |_: &mut fastrand::Rng| {
        counter.fetch_add(1, Ordering::Relaxed);
        get(&stage.keys[0]);
    };
    let kinds: [(&str, &Call<'_>); 3] = [("any_of_10000", &any), ("hot", &hot), ("hot_and_counted", &counted)];
    for (name, call) in kinds {
        let mut group = c.benchmark_group(format!("l1_hit_{name}"));
        for threads in THREADS {
            group.bench_function(format!("{threads}_threads"), |b| b.iter_custom(|n| on_threads(threads, n, call)));
        }
        group.finish();
    }
}

/// What memory does for a store on the disk of the same process.
fn embedded(c: &mut Criterion) {
    let stage = Stage::new();
    let mut group = c.benchmark_group("get_embedded");
    for (name, serve) in [("from_the_store", stage.serve(None)), ("from_memory", stage.warm())] {
        group.bench_function(name, |b| {
            b.iter_custom(|n| {
                let begin = processor_time(ClockId::ProcessCPUTime);
                stage.runtime.block_on(async {
                    for key in stage.keys.iter().cycle().take(n as usize) {
                        black_box(stage.get(&serve, key).await);
                    }
                });
                processor_time(ClockId::ProcessCPUTime) - begin
            });
        });
    }
    group.finish();
}

/// A thousand clients want one key that nobody remembers.
fn hot_key(_: &mut Criterion) {
    let stage = Stage::new();
    let metrics = Metrics::new();
    let serve = Arc::new(Serve::new(
        stage.reader.clone(),
        Some(MEMORY),
        auth(),
        Duration::ZERO,
        Clock::system(),
        metrics.clone(),
    ));
    let stage = Arc::new(stage);
    let client = |_| {
        let (stage, serve) = (stage.clone(), serve.clone());
        stage.runtime.handle().clone().spawn(async move { stage.get(&serve, &stage.keys[0]).await })
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    stage.runtime.block_on(join_all(clients));
    let page = metrics.text();
    let reads = page.lines().find_map(|line| line.strip_prefix("hookcache_store_seconds_count{call=\"read\"} "));
    println!("l1/one_key_for_{CLIENTS}_clients  {} read of the store", reads.expect("a count"));
}

fn short() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3)).sample_size(20)
}

criterion_group! { name = l1; config = short(); targets = hits, embedded, hot_key }
criterion_main!(l1);
