//! Stations of the road, one by one: `cargo bench --bench road`; `make tools` installs what it needs.
//!
//! Each figure says what one item costs there. Nothing here is asserted; ratios against peers stand in the other benches.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use configured::{configured, redis_store};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hookcache::buffer::{self, Appender};
use hookcache::envelope::wire::{self, Kind};
use hookcache::envelope::{Account, Clock, Flow, Stamper, Version, WebhookKey, WireForm};
use hookcache::source::schema::Schema;
use hookcache::store::{self, Effect, Reader, Write, Writer};
use hookcache::ttl::{Rules, Scope, Ttl};
use support::{Redis, TempDir};

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "a bench needs only some of what benches share")]
mod configured;
#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "a bench needs only some of what the tests share")]
mod support;

const PAYLOAD_BYTES: usize = 1_024;
const KEYS_PER_REQUEST_MAX: usize = 1_000;
const APPENDERS: usize = 64;
const RULES: usize = 1_000;

fn request() -> String {
    let data = "x".repeat(PAYLOAD_BYTES - 2);
    format!(r#"{{"accountId":"acme","flowId":"page-links","webhookKeys":["page:1","alias:1"],"data":"{data}"}}"#)
}

fn wire_form(stamper: &Stamper) -> Bytes {
    wire::encode(&stamper.stamp(), "upstream", Kind::Set, &request()).expect("small enough")
}

fn pure(c: &mut Criterion) {
    let stamper = Stamper::new(Clock::system());
    let (body, text, now_ms) = (wire_form(&stamper), request(), stamper.clock().now_ms());
    let mut group = c.benchmark_group("envelope");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("wire_decode", |b| b.iter(|| wire::decode(black_box(&body), now_ms)));
    let schema = Schema::set(KEYS_PER_REQUEST_MAX);
    group.bench_function("schema_check", |b| b.iter(|| schema.check(black_box(&text))));
    group.finish();

    let (account, flow) = (account("acme"), Flow::parse("page-links").expect("legal"));
    let rules = rules();
    c.bench_function("ttl/resolve", |b| b.iter(|| rules.resolve(black_box(&account), black_box(&flow), None)));
}

fn account(name: &str) -> Account {
    Account::parse(name).expect("legal")
}

/// The defaults, and rules for many other accounts.
fn rules() -> Rules {
    let hour = Ttl::For(Duration::from_secs(3_600));
    let dynamic = (0..RULES).map(|n| (Scope::Account(account(&format!("account-{n}"))), hour)).collect();
    configured(&[]).ttl.with_dynamic(dynamic)
}

fn writes(stamper: &Stamper, count: usize) -> Vec<Write> {
    let write = |n: usize| {
        let stamp = stamper.stamp();
        Write {
            version: Version::of_arrival(0, stamp.at_ms, &stamp.id),
            keys: ["page", "alias"].map(|kind| WebhookKey::parse(&format!("{kind}:{n}")).expect("legal")).to_vec(),
            account: account("acme"),
            effect: Effect::Put {
                flow: Flow::parse("page-links").expect("legal"),
                payload: Bytes::from(vec![b'x'; PAYLOAD_BYTES]),
                expires_at_ms: Some(stamp.at_ms + 3_600_000),
            },
            at_ms: stamp.at_ms,
            id: stamp.id,
        }
    };
    (0..count).map(write).collect()
}

fn stores(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let redis = runtime.block_on(Redis::start());
    let folder = TempDir::new().expect("a temporary folder");
    let (writer, reader) = runtime.block_on(async { redis_store(&redis.url()) });
    store(c, &runtime, "store_redis", &writer, &reader);

    let options = store::embedded::Options { path: folder.path().join("store.redb") };
    let opened = runtime.block_on(async { store::embedded::open(options, Clock::system()) });
    let (writer, reader, _rules) = opened.expect("a store");
    store(c, &runtime, "store_embedded", &Writer::Embedded(writer), &Reader::Embedded(reader));
}

fn store(c: &mut Criterion, runtime: &tokio::runtime::Runtime, name: &str, writer: &Writer, reader: &Reader) {
    let stamper = Stamper::new(Clock::system());
    let now_ms = || stamper.clock().now_ms();
    let key = WebhookKey::parse("page:1").expect("legal");
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(10));
    group.bench_function("write_10_of_2_keys", |b| {
        let write = |writes: Vec<Write>| async move {
            let results = writer.write(&writes, now_ms()).await;
            assert!(results.iter().flatten().all(Result::is_ok));
        };
        b.to_async(runtime).iter_batched(|| writes(&stamper, 10), write, BatchSize::SmallInput);
    });
    // What is read must be there, also where only this one is run.
    runtime.block_on(writer.write(&writes(&stamper, 2), now_ms()));
    group.throughput(Throughput::Elements(1));
    group.bench_function("read", |b| {
        b.to_async(runtime).iter(|| async { assert!(reader.get(&key).await.expect("it answers").is_some()) });
    });
    group.finish();
}

fn append(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let folder = TempDir::new().expect("a temporary folder");
    let options = buffer::embedded::Options {
        path: folder.path().join("buffer.redb"),
        visibility: Duration::from_secs(30),
        wait: Duration::from_secs(20),
        bytes_max: 16 << 30,
    };
    let opened = runtime.block_on(async { buffer::embedded::open(options) });
    let (appender, _taker) = opened.expect("a buffer");
    let appender = Appender::Embedded(appender);
    let stamper = Stamper::new(Clock::system());
    let mut group = c.benchmark_group("buffer_embedded");
    group.throughput(Throughput::Elements(APPENDERS as u64));
    group.sample_size(20);
    group.bench_function("append_64_at_once", |b| {
        b.to_async(&runtime).iter(|| async {
            let one = |_| {
                let (appender, body) = (appender.clone(), wire_form(&stamper));
                let message = WireForm { id: "bench".into(), account: account("acme"), traceparent: None, body };
                tokio::spawn(async move { appender.append(message).await })
            };
            for append in (0..APPENDERS).map(one).collect::<Vec<_>>() {
                append.await.expect("no panic").expect("room on disk");
            }
        });
    });
    group.finish();
}

/// Short: `make bench` runs everything in a few minutes.
fn short() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4)).sample_size(50)
}

criterion_group! { name = road; config = short(); targets = pure, stores, append }
criterion_main!(road);
