//! What an entry costs Redis, against a plain SET of the same payload: `used_memory` over 100,000 keys.
//!
//! `cargo bench --bench memory`; `make tools` installs what it needs.

use std::process::Command;

use bytes::Bytes;
use configured::redis_store;
use hookcache::envelope::{Account, Clock, Flow, Stamper, Version, WebhookKey};
use hookcache::store::{Effect, Write};
use support::Redis;

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "a bench needs only some of what benches share")]
mod configured;
#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "a bench needs only some of what the tests share")]
mod support;

const KEYS: usize = 100_000;
const KEYS_PER_WRITE: usize = 50;
/// Payloads from 200 to 4,096 bytes, drawn evenly.
const PAYLOAD_BYTES: std::ops::RangeInclusive<usize> = 200..=4_096;
const HOUR_MS: u64 = 3_600_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (ours, plain) = runtime.block_on(async { (measure(Kind::Entries).await, measure(Kind::PlainSets).await) });
    println!("memory/used_memory_per_key/hookcache  {:.0} bytes", ours / KEYS as f64);
    println!("memory/used_memory_per_key/plain_set  {:.0} bytes", plain / KEYS as f64);
    println!("memory/used_memory/ratio              {:.3}", ours / plain);
}

#[derive(Clone, Copy)]
enum Kind {
    Entries,
    PlainSets,
}

async fn measure(kind: Kind) -> f64 {
    let redis = Redis::start().await;
    let empty = used_memory(&redis);
    let mut random = fastrand::Rng::with_seed(7);
    let payloads: Vec<Bytes> = (0..KEYS).map(|_| Bytes::from(vec![b'x'; random.usize(PAYLOAD_BYTES)])).collect();
    match kind {
        Kind::Entries => write_entries(&redis, &payloads).await,
        Kind::PlainSets => write_plain(&redis, &payloads).await,
    }
    used_memory(&redis) - empty
}

fn key(n: usize) -> String {
    format!("confluence:site-1:page:{n:08}")
}

async fn write_entries(redis: &Redis, payloads: &[Bytes]) {
    let (writer, _) = redis_store(&redis.url());
    let stamper = Stamper::new(Clock::system());
    for (chunk, payloads) in payloads.chunks(KEYS_PER_WRITE).enumerate() {
        let write = |(i, payload): (usize, &Bytes)| {
            let stamp = stamper.stamp();
            Write {
                version: Version::of_arrival(0, stamp.at_ms, &stamp.id),
                keys: vec![WebhookKey::parse(&key(chunk * KEYS_PER_WRITE + i)).expect("legal")],
                account: Account::parse("acme").expect("legal"),
                effect: Effect::Put {
                    flow: Flow::parse("page-links").expect("legal"),
                    payload: payload.clone(),
                    expires_at_ms: Some(stamp.at_ms + HOUR_MS),
                },
                at_ms: stamp.at_ms,
                id: stamp.id,
            }
        };
        let writes: Vec<Write> = payloads.iter().enumerate().map(write).collect();
        let results = writer.write(&writes, stamper.clock().now_ms()).await;
        assert!(results.iter().flatten().all(Result::is_ok), "{results:?}");
    }
}

/// The same payloads under the same keys, with an expiry, as `redis-cli --pipe` would load them.
async fn write_plain(redis: &Redis, payloads: &[Bytes]) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", redis.port())).await.expect("Redis");
    let (read, mut write) = stream.into_split();
    let mut replies = BufReader::new(read).lines();
    for (n, payload) in payloads.iter().enumerate() {
        let key = format!("hc:v1:k:{{}}:{}", key(n));
        let head = format!("*5\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), payload.len());
        // In one piece: Nagle's algorithm holds back a second one for 40 ms.
        let command = [head.as_bytes(), payload, b"\r\n$2\r\nPX\r\n$7\r\n3600000\r\n"].concat();
        write.write_all(&command).await.expect("Redis");
        assert_eq!(replies.next_line().await.expect("Redis").as_deref(), Some("+OK"));
    }
}

fn used_memory(redis: &Redis) -> f64 {
    let port = redis.port().to_string();
    let output = Command::new("redis-cli").args(["-p", &port, "info", "memory"]).output().expect("redis-cli");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("used_memory");
    value.trim().parse().expect("a number")
}
