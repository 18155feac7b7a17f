//! The Lambda against a Python handler that does the same: both behind one stand-in of the Runtime API, in one run.
//!
//! Both take the same batches of 10 messages with 2 keys each, and write them to the same Redis. Rounds are interleaved;
//! each round starts both anew.
//!
//! * *First batch*: from the start of the process until its answer, the batch waiting for it.
//! * *Warm batch*: CPU time of the process per batch, after those before.
//! * *Memory*: resident, at its highest, after all batches.
//! * *Zip*: what `lambda/build` has made.
//!
//! `make tools && lambda/build && cargo bench --bench lambda`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use configured::{cpu_time, spread};
use hookcache::envelope::wire::{Kind, encode};
use hookcache::envelope::{Clock, Stamper};
use serde_json::Value;
use support::lambda::{Outcome, record};
use support::{Lambda, Redis, repository, tool};

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "a bench needs only some of what benches share")]
mod configured;
#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "a bench needs only some of what the tests share")]
mod support;

const MESSAGES_PER_BATCH: usize = 10;
const WARM_BATCHES: usize = 300;
/// Odd, so that one of them is the median.
const ROUNDS: usize = 11;

/// Of one round.
struct Figures {
    first_ms: f64,
    warm_us: f64,
    memory_mb: f64,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let built = repository().join("target/lambda");
    let zip = std::fs::metadata(built.join("bootstrap.zip")).expect("run lambda/build before");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(runtime.block_on(rust_round(built.join("hookcache-lambda"))));
        theirs.push(runtime.block_on(python_round()));
    }
    println!("batches of {MESSAGES_PER_BATCH} with 2 keys each: median of {ROUNDS} rounds (least to most)");
    told("first_batch", "ms", &ours, &theirs, |figures| figures.first_ms, Some(0.2));
    told("warm_batch_cpu", "us", &ours, &theirs, |figures| figures.warm_us, Some(0.2));
    told("memory", "MB", &ours, &theirs, |figures| figures.memory_mb, None);
    println!("lambda/zip {:.2} MB, goal: at most 5", zip.len() as f64 / 1e6);
}

fn told(
    what: &str,
    unit: &str,
    ours: &[Figures],
    theirs: &[Figures],
    figure: fn(&Figures) -> f64,
    ratio_goal: Option<f64>,
) {
    let of = |all: &[Figures]| all.iter().map(figure).collect::<Vec<_>>();
    let mut ratios: Vec<f64> = of(ours).iter().zip(of(theirs)).map(|(ours, theirs)| ours / theirs).collect();
    println!("lambda/{what}/hookcache {} {unit}", spread(&mut of(ours), 2));
    println!("lambda/{what}/python    {} {unit}", spread(&mut of(theirs), 2));
    match ratio_goal {
        Some(goal) => println!("lambda/{what}/ratio     {}, goal: at most {goal:.3}", spread(&mut ratios, 3)),
        None => println!("lambda/{what}/ratio     {}; goal: hookcache at most 20 {unit}", spread(&mut ratios, 3)),
    }
}

async fn rust_round(program: PathBuf) -> Figures {
    let redis = Redis::start().await;
    let env = [
        ("HOOKCACHE_STORE__URL", redis.url()),
        ("HOOKCACHE_BUFFER__QUEUE_URL", "http://127.0.0.1:1/0/queue".to_owned()),
        ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", "http://127.0.0.1:1/0/dead".to_owned()),
    ];
    round(&[program.as_os_str()], &env, &redis).await
}

async fn python_round() -> Figures {
    let redis = Redis::start().await;
    let (python, script) = (tool("venv/bin/python"), repository().join("benches/compare/handler/function.py"));
    let env = [("REDIS_PORT", redis.port().to_string())];
    round(&[python.as_os_str(), script.as_os_str()], &env, &redis).await
}

async fn round(command: &[&OsStr], env: &[(&str, String)], redis: &Redis) -> Figures {
    let stamper = Stamper::new(Clock::system());
    let batches: Vec<Vec<Value>> = (0..=WARM_BATCHES).map(|batch| records(&stamper, batch)).collect();
    let began = Instant::now();
    let lambda = Lambda::start_program(command, env).await;
    invoke(&lambda, &batches[0]).await;
    let first_ms = began.elapsed().as_secs_f64() * 1e3;
    lambda.until_idle().await;
    let before = cpu_time(lambda.pid());
    for batch in &batches[1..] {
        invoke(&lambda, batch).await;
    }
    lambda.until_idle().await;
    let warm_us = (cpu_time(lambda.pid()) - before).as_secs_f64() * 1e6 / WARM_BATCHES as f64;
    let keys = (WARM_BATCHES + 1) * MESSAGES_PER_BATCH * 2;
    assert_eq!(redis.cli(&["DBSIZE"]), keys.to_string(), "everything is stored");
    Figures { first_ms, warm_us, memory_mb: memory_mb(lambda.pid()) }
}

async fn invoke(lambda: &Lambda, batch: &[Value]) {
    let Outcome::Answered(body) = lambda.invoke(batch).await else { panic!("no answer: {:#?}", lambda.captured()) };
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(answer["batchItemFailures"], Value::Array(Vec::new()));
}

fn records(stamper: &Stamper, batch: usize) -> Vec<Value> {
    let one = |n: usize| {
        let data =
            format!(r#"{{"page":{{"id":{n},"title":"{}"}},"links":["https://example.com/{n}"]}}"#, "t".repeat(400));
        let request = format!(
            r#"{{"accountId":"acme","flowId":"page-links","webhookKeys":["page:{n}","alias:{n}"],"data":{data}}}"#
        );
        let body = encode(&stamper.stamp(), "upstream", Kind::Set, &request).expect("small enough");
        record(&n.to_string(), std::str::from_utf8(&body).expect("it is JSON"))
    };
    (0..MESSAGES_PER_BATCH).map(|i| one(batch * MESSAGES_PER_BATCH + i)).collect()
}

/// The most that was resident at once.
fn memory_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a figure in kB");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("kB") * 1_024.0 / 1e6
}
