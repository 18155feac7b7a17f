//! The catalog on a Redis that others use, too, that is killed, and that asks for replicas.

use std::time::Duration;

use hookcache::store::catalog::{Change, Changed, PageError, To};
use hookcache::store::redis::Options;
use hookcache::store::{Acknowledge, Outcome, ReadError, WriteError};

use super::{cli, halves, options, started};
use crate::store_contract::catalog::{everything, is_unreadable};
use crate::store_contract::{account, key, keys, now_ms, put, version};
use crate::support::{Redis, eventually};

fn gone(name: &str) -> Change {
    Change { key: key(name), account: account("acme"), version: version(5), to: To::Gone }
}

#[tokio::test]
async fn what_others_wrote_is_never_shown_and_never_changed() {
    let (redis, store) = started().await;
    assert_eq!(store.one(put("acme", 5, &["mine"])).await, [Outcome::Written]);
    cli(&redis, &["SET", "hc:v1:k:{}:alien", "not ours"]).await;
    cli(&redis, &["SET", "hc:v1:k:{}:empty", ""]).await;
    cli(&redis, &["RPUSH", "hc:v1:k:{}:list", "1"]).await;
    cli(&redis, &["EVAL", "redis.call('SET', 'hc:v1:k:{}:\\255', 'x')", "0"]).await;
    cli(&redis, &["SET", "other", "not ours"]).await;
    let page = store.catalog().page(&everything(), None, 1_000, now_ms()).await.expect("Redis is healthy");
    let found: Vec<&str> = page.entries.iter().map(|seen| seen.key.as_str()).collect();
    assert_eq!((found, page.next), (vec!["mine"], None));
    for name in ["alien", "list"] {
        assert!(is_unreadable(&store.catalog().find(&key(name), now_ms()).await), "{name}");
    }
    let changes = ["alien", "empty", "list"].map(gone);
    for to in [To::Gone, To::ExpireAt(None), To::ExpireAt(Some(now_ms() + 60_000))] {
        let changes = changes.clone().map(|change| Change { to, ..change });
        assert_eq!(store.change(&changes).await, [Changed::Superseded; 3]);
    }
    assert_eq!(cli(&redis, &["GET", "hc:v1:k:{}:alien"]).await, "not ours");
    assert_eq!(cli(&redis, &["LLEN", "hc:v1:k:{}:list"]).await, "1");
}

#[tokio::test]
async fn a_redis_that_is_away_is_unavailable_and_a_walk_goes_on_when_it_is_back() {
    let mut redis = Redis::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]).await;
    let store = halves(&options(&redis.url()));
    let names: Vec<String> = (0..500).map(|i| format!("key-{i}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    store.one(put("acme", 5, &all)).await;
    let first = store.catalog().page(&everything(), None, 100, now_ms()).await.expect("Redis is healthy");
    redis.stop();
    let down = store.catalog().page(&everything(), first.next.as_ref(), 100, now_ms()).await;
    assert!(matches!(down, Err(PageError::Unavailable(_))), "{down:?}");
    let found = store.catalog().find(&key("key-1"), now_ms()).await;
    assert!(matches!(found, Err(ReadError::Unavailable(_))), "{found:?}");
    assert!(store.catalog().count().await.is_err());
    let results = store.catalog().change(&all[..70].iter().map(|name| gone(name)).collect::<Vec<_>>(), now_ms()).await;
    assert_eq!(results.len(), 70);
    assert!(results.iter().all(|result| matches!(result, Err(WriteError::Unavailable(_)))), "{results:?}");

    // A restart may give its table another order, so that the walk begins anew; the cursor is taken all the same.
    redis.start_again().await;
    eventually("the walk goes on", || async {
        store.catalog().page(&everything(), first.next.as_ref(), 100, now_ms()).await.ok()
    })
    .await;
    let changes: Vec<Change> = all.iter().map(|name| gone(name)).collect();
    eventually("the changes are made", || async {
        store.catalog().change(&changes, now_ms()).await.iter().all(Result::is_ok).then_some(())
    })
    .await;
    let read = store.reader.get_many(&keys(&all)).await;
    assert!(read.iter().all(|entry| *entry == Ok(None)), "{read:?}");
}

#[tokio::test]
async fn a_change_that_no_replica_has_is_not_acknowledged() {
    let redis = Redis::start().await;
    let strict = Options {
        acknowledge: Acknowledge::Replicas(1),
        write_timeout: Duration::from_secs(3),
        ..options(&redis.url())
    };
    let (lenient, store) = (halves(&options(&redis.url())), halves(&strict));
    assert_eq!(lenient.one(put("acme", 5, &["k"])).await, [Outcome::Written]);
    let results = store.catalog().change(&[gone("k")], now_ms()).await;
    assert!(matches!(&results[..], [Err(WriteError::Unavailable(_))]), "{results:?}");
    // Repeating it is harmless.
    assert_eq!(lenient.change(&[gone("k")]).await, [Changed::Superseded]);
}
