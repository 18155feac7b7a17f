//! Set to readable on the real disk: an open loop of 500 sets per second against the real program, embedded.
//!
//! `cargo bench --bench latency`. The figure is the program's own histogram `hookcache_set_to_readable_seconds`, from
//! arrival at the edge to the store's acknowledgement. It also prints the program's CPU and its Redis commands when idle.

use std::time::{Duration, Instant};

use support::{Hookcache, Redis, http_get, http_post};

#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "a bench needs only some of what the tests share")]
mod support;

const SETS_PER_SECOND: u32 = 500;
const SECONDS: u32 = 20;
const IDLE: Duration = Duration::from_secs(60);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        set_to_readable().await;
        idle().await;
    });
}

async fn set_to_readable() {
    let hookcache = Hookcache::start(&[], &[]).await;
    let url = format!("{}/v1/set", hookcache.url());
    let start = Instant::now();
    let mut sets = Vec::new();
    for n in 0..SETS_PER_SECOND * SECONDS {
        let due = start + Duration::from_secs(1) * n / SETS_PER_SECOND;
        tokio::time::sleep_until(due.into()).await;
        let data = "x".repeat(500);
        let body = format!(r#"{{"accountId":"a","flowId":"f","webhookKeys":["k{n}","l{n}"],"data":"{data}"}}"#);
        let url = url.clone();
        sets.push(tokio::spawn(async move { http_post(&url, body).await.status.as_u16() }));
    }
    for set in sets {
        assert_eq!(set.await.expect("no panic"), 202);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = http_get(&format!("{}/metrics", hookcache.admin_url())).await.text();
    let (buckets, total) = buckets(&text);
    assert_eq!(total as u32, SETS_PER_SECOND * SECONDS, "every set became readable");
    for quantile in [0.5, 0.99, 0.999] {
        let bound = buckets.iter().find(|(_, count)| *count >= total * quantile).map_or(f64::INFINITY, |(le, _)| *le);
        println!("latency/set_to_readable/p{} at most {:.1} ms", quantile * 100.0, bound * 1e3);
    }
}

/// Cumulative buckets of the histogram: upper bound in seconds, and count.
fn buckets(metrics: &str) -> (Vec<(f64, f64)>, f64) {
    let name = "hookcache_set_to_readable_seconds_bucket{le=\"";
    let mut buckets: Vec<(f64, f64)> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.split_once("\"} "))
        .map(|(le, count)| (le.parse().unwrap_or(f64::INFINITY), count.parse().expect("a count")))
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total = buckets.last().expect("a histogram").1;
    (buckets, total)
}

async fn idle() {
    let redis = Redis::start().await;
    let url = redis.url();
    let hookcache = Hookcache::start(&[], &[("HOOKCACHE_STORE__URL", &url)]).await;
    let (commands, cpu) = (commands(&redis), cpu_ticks(hookcache.pid()));
    tokio::time::sleep(IDLE).await;
    let seconds = IDLE.as_secs_f64();
    let spent = (cpu_ticks(hookcache.pid()) - cpu) as f64 / 100.0;
    // One command is the INFO that reads the figure.
    println!("idle/redis_commands_per_minute {:.0}", (self::commands(&redis) - commands - 1) as f64 * 60.0 / seconds);
    println!("idle/cpu_of_one_core           {:.2} %", spent / seconds * 100.0);
}

fn commands(redis: &Redis) -> u64 {
    let port = redis.port().to_string();
    let output = std::process::Command::new("redis-cli").args(["-p", &port, "info", "stats"]).output();
    let text = String::from_utf8_lossy(&output.expect("redis-cli").stdout).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).expect("the figure");
    value.trim().parse().expect("a number")
}

/// User and system time of a process in ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after_name = stat.rsplit_once(") ").expect("the name is in parentheses").1;
    after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}
