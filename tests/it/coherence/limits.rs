//! Crowds of absent keys, one key that a thousand want, and a Redis that doesn't answer.

use futures_util::future::join_all;
use hookcache::store::Outcome;

use super::reader::{Line, lookups};
use super::stage::coherent;
use crate::redis::{halves, options};
use crate::store_contract::{now_ms, put, put_payload};
use crate::support::stack::series;
use crate::support::{Hookcache, Redis, eventually, http_get};

async fn started(env: &[(&str, &str)]) -> (Redis, Hookcache) {
    let redis = Redis::start().await;
    let url = redis.url();
    let get = Hookcache::start(&["--roles", "get"], &[&[("HOOKCACHE_STORE__URL", url.as_str())], env].concat()).await;
    eventually("changes are told", || async { coherent(&get).await.then_some(()) }).await;
    (redis, get)
}

async fn metric(get: &Hookcache, name: &str) -> f64 {
    let page = http_get(&format!("{}/metrics", get.admin_url())).await.text();
    series(&page, name).unwrap_or_else(|| panic!("{name} in {page}"))
}

/// What was remembered in one epoch is not believed in the next, which begins where Redis is silent for too long: on a
/// slow machine that is rightly so, and only within one epoch can reads be counted.
async fn epochs(get: &Hookcache) -> f64 {
    metric(get, "hookcache_l1_epochs_total").await
}

fn gets_seen(redis: &Redis) -> u64 {
    let info = redis.cli(&["INFO", "commandstats"]);
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
    line.map_or(0, |rest| rest.split(',').next().and_then(|n| n.parse().ok()).expect("a number"))
}

/// Longer than a slow machine takes.
const PATIENT: [(&str, &str); 2] =
    [("HOOKCACHE_STORE__READ_TIMEOUT", "30s"), ("HOOKCACHE_STORE__CONNECT_TIMEOUT", "30s")];

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_absent_keys_takes_bounded_memory_and_drives_out_nothing() {
    let env = [&PATIENT[..], &[("HOOKCACHE_GET__CACHE_MAX_BYTES", "1MiB")]].concat();
    let (redis, get) = started(&env).await;
    let store = halves(&options(&redis.url()));
    assert_eq!(store.one(put("acme", 1, &["there"])).await, [Outcome::Written]);
    let (url, epoch) = (get.url(), epochs(&get).await);
    assert_eq!(Line::open(&url).await.get("there").await.0, 200);
    let crowd = |n: usize| {
        let url = url.clone();
        async move {
            let mut line = Line::open(&url).await;
            for i in 0..300 {
                assert_eq!(line.get(&format!("absent-{n}-{i}")).await.0, 404);
            }
        }
    };
    join_all((0..8).map(crowd)).await;
    let (bytes, entries) = (metric(&get, "hookcache_l1_bytes").await, metric(&get, "hookcache_l1_entries").await);
    assert!(bytes <= f64::from(1 << 20) / 8.0 && entries > 100.0, "{entries} take {bytes}");
    let before = gets_seen(&redis);
    assert_eq!(Line::open(&url).await.get("there").await.0, 200);
    let seen = gets_seen(&redis);
    assert!(seen == before || epochs(&get).await > epoch, "it is still remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hot_key_that_has_just_expired_is_asked_for_once() {
    const CLIENTS: usize = 1_000;
    let env = [&PATIENT[..], &[("HOOKCACHE_HTTP__CONNECTIONS_MAX", "1100")]].concat();
    let (redis, get) = started(&env).await;
    let (store, url) = (halves(&options(&redis.url())), get.url());
    let mut lines = join_all((0..CLIENTS).map(|_| Line::open(&url))).await;
    assert_eq!(store.one(put("acme", 1, &["hot"])).await, [Outcome::Written]);
    assert_eq!(lines[0].get("hot").await.0, 200);
    assert_eq!(redis.cli(&["PEXPIRE", "hc:v1:k:{}:hot", "1"]), "1");
    // That it was written, is to end, and has ended; and that the next one is there, which is believed for a minute.
    let told = |count: f64| {
        let invalidations = || metric(&get, "hookcache_l1_invalidations_total");
        eventually("it is told", move || async move { (invalidations().await >= count).then_some(()) })
    };
    told(3.0).await;
    assert_eq!(store.one(put("acme", 2, &["hot"])).await, [Outcome::Written]);
    told(4.0).await;
    let (before, seen, epoch) = (lookups(&get).await, gets_seen(&redis), epochs(&get).await);
    let answers = join_all(lines.iter_mut().map(|line| line.get("hot"))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let reads = gets_seen(&redis) - seen;
    assert!(reads == 1 || epochs(&get).await > epoch, "{reads} reads for {CLIENTS} clients");
    assert_eq!(lookups(&get).await.since(&before).all, CLIENTS as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_does_not_answer_costs_each_get_its_timeout_and_nothing_after_it() {
    const CLIENTS: usize = 300;
    let short = [("HOOKCACHE_STORE__READ_TIMEOUT", "1s"), ("HOOKCACHE_STORE__CONNECT_TIMEOUT", "10s")];
    let (redis, get) = started(&short).await;
    let store = halves(&options(&redis.url()));
    let own = |n: usize| format!("own-{n}");
    let writes: Vec<_> = (0..CLIENTS).map(|n| put_payload("acme", 1, &[&own(n)], format!("{n}"))).collect();
    assert!(
        store.writer.write(&writes, now_ms()).await.iter().flatten().all(|outcome| *outcome == Ok(Outcome::Written))
    );
    let url = get.url();
    let mut lines = join_all((0..CLIENTS).map(|_| Line::open(&url))).await;
    redis.pause();
    for round in 0..2 {
        let asked = lines.iter_mut().enumerate().map(|(n, line)| async move {
            // A key that all want, and one of each one's own.
            let name = if n.is_multiple_of(2) { format!("all-{round}") } else { own(n) };
            line.get(&name).await
        });
        let answers = join_all(asked).await;
        assert!(answers.iter().all(|(status, _)| *status == 503), "{answers:?}");
        assert!(answers.iter().all(|(_, body)| body.contains("store-unavailable")), "{answers:?}");
    }
    eventually("it is noticed", || async { (!coherent(&get).await).then_some(()) }).await;
    redis.resume();
    eventually("it heals", || async { (Line::open(&url).await.get(&own(0)).await.0 == 200).then_some(()) }).await;
    // It answers now what it was asked then, too, and nobody is given what another one asked for.
    for (n, line) in lines.iter_mut().enumerate() {
        assert_eq!(line.get(&own(n)).await, (200, n.to_string()));
    }
    eventually("changes are told", || async { coherent(&get).await.then_some(()) }).await;
}
