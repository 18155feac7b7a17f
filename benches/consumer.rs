//! The consumer against a Python handler that does the same, on one machine, in one run.
//!
//! Both take the same batches of 10 raw message bodies with 2 keys each, and write them to the same Redis. What is
//! compared is CPU time of the process per message, which a busy machine disturbs least. Rounds are interleaved.
//!
//! `cargo bench --bench consumer`; `make tools` installs what it needs.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use configured::{configured, cpu_time, redis_store, spread};
use hookcache::buffer::{Delivery, MessageId, Receipt};
use hookcache::consumer::{Rulings, Verdict, apply};
use hookcache::envelope::wire::{Kind, encode};
use hookcache::envelope::{Clock, Grants, Stamper};
use support::Redis;

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "a bench needs only some of what benches share")]
mod configured;
#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "a bench needs only some of what the tests share")]
mod support;

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCHES: usize = 200;
const MESSAGES_PER_BATCH: usize = 10;
const REPEATS: usize = 10;
/// Odd, so that one of them is the median.
const ROUNDS: usize = 11;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let redis = runtime.block_on(Redis::start());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Fresh ids each round: both write, and neither is answered "I have that already".
        let path = folder.path().join(format!("batches-{round}"));
        let file = write_batches(&path);
        ours.push(runtime.block_on(hookcache_round(redis.url())));
        theirs.push(python_round(redis.port(), &file));
    }
    let mut ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    println!(
        "CPU per message, batches of {MESSAGES_PER_BATCH} with 2 keys each: median of {ROUNDS} rounds (least to most)"
    );
    println!("consumer/cpu_per_message/hookcache {} us", spread(&mut ours, 2));
    println!("consumer/cpu_per_message/python    {} us", spread(&mut theirs, 2));
    println!("consumer/cpu_per_message/ratio     {}, goal: at most 0.200", spread(&mut ratios, 3));
}

fn bodies(stamper: &Stamper, batch: usize) -> Vec<Bytes> {
    let one = |n: usize| {
        let data =
            format!(r#"{{"page":{{"id":{n},"title":"{}"}},"links":["https://example.com/{n}"]}}"#, "t".repeat(400));
        let request = format!(
            r#"{{"accountId":"acme","flowId":"page-links","webhookKeys":["page:{n}","alias:{n}"],"data":{data}}}"#
        );
        encode(&stamper.stamp(), "upstream", Kind::Set, &request).expect("small enough")
    };
    (0..MESSAGES_PER_BATCH).map(|i| one(batch * MESSAGES_PER_BATCH + i)).collect()
}

fn write_batches(path: &Path) -> std::path::PathBuf {
    let stamper = Stamper::new(Clock::system());
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).expect("a file"));
    for batch in 0..BATCHES {
        let bodies = bodies(&stamper, batch);
        let texts: Vec<&str> = bodies.iter().map(|body| std::str::from_utf8(body).expect("UTF-8")).collect();
        writeln!(file, "{}", serde_json::to_string(&texts).expect("strings")).expect("room on disk");
    }
    file.flush().expect("room on disk");
    path.to_owned()
}

async fn hookcache_round(url: String) -> f64 {
    let (writer, _) = redis_store(&url);
    let rulings = Rulings { rules: Arc::new(configured(&[]).ttl), grants: Arc::new(Grants::default()) };
    let stamper = Stamper::new(Clock::system());
    let mut spent = Duration::ZERO;
    let mut messages = 0;
    // The connection is not what is measured.
    apply(&deliveries(&stamper, 0), &writer, &rulings, now_ms()).await;
    for _ in 0..REPEATS {
        let batches: Vec<Vec<Delivery>> = (0..BATCHES).map(|batch| deliveries(&stamper, batch)).collect();
        let start = cpu_time(std::process::id());
        for batch in &batches {
            let verdicts = apply(batch, &writer, &rulings, now_ms()).await;
            assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Done(_))));
            messages += verdicts.len();
        }
        spent += cpu_time(std::process::id()) - start;
    }
    spent.as_secs_f64() * 1e6 / messages as f64
}

fn deliveries(stamper: &Stamper, batch: usize) -> Vec<Delivery> {
    let delivery = |(i, body): (usize, Bytes)| Delivery {
        message_id: MessageId(i.to_string()),
        receipt: Receipt(i.to_string()),
        body,
        receive_count: 1,
        traceparent: None,
    };
    bodies(stamper, batch).into_iter().enumerate().map(delivery).collect()
}

fn python_round(port: u16, batches: &Path) -> f64 {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join(".tools/venv/bin/python"))
        .arg(root.join("benches/compare/handler/handler.py"))
        .args([port.to_string(), batches.display().to_string(), REPEATS.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("Python with redis-py: run `make tools`");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("the handler prints one number")
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}
