//! What those who wait for a key hear.

use std::time::Duration;

use hookcache::store::catalog::To;
use hookcache::store::{Change, Outcome, Standing, Watch};
use tokio::time::timeout;

use super::{Halves, delete, expiring, key, now_ms, put};
use crate::support::{DEADLINE, eventually};

/// Waits until every change is told.
pub async fn until_told(store: &Halves) {
    eventually("changes are told", || async { (store.reader.standing() == Standing::Told).then_some(()) }).await;
}

/// Waits until this key, or everything, is told to have changed.
pub async fn hear(watch: &mut Watch, what: &str) {
    let told = timeout(DEADLINE, async { while watch.changed().await == Change::Unknown {} }).await;
    told.unwrap_or_else(|_| panic!("nobody told of {what}"));
}

/// Whoever changes it, and however: written, replaced, deleted, looked after, expired.
pub async fn whoever_watches_hears_of_every_change(store: &Halves) {
    until_told(store).await;
    let (watched, beside) = (key("watched"), key("beside"));
    let mut watch = store.reader.watch(&watched);
    for time in 1..4 {
        assert_eq!(store.one(put("acme", time, &["other", "watched"])).await, [Outcome::Written; 2]);
        hear(&mut watch, "a write").await;
    }
    assert_eq!(store.one(delete("acme", 4, &["watched"])).await, [Outcome::Deleted]);
    hear(&mut watch, "a delete").await;
    assert_eq!(store.one(put("acme", 5, &["watched"])).await, [Outcome::Written]);
    hear(&mut watch, "a write").await;
    for to in [To::ExpireAt(Some(now_ms() + 600_000)), To::Gone] {
        let seen = store.seen("watched").await.expect("it is there");
        store.change(&[seen.change(to)]).await;
        hear(&mut watch, "an operator's change").await;
    }
    let mut other = store.reader.watch(&beside);
    assert_eq!(store.one(expiring("acme", 6, &["beside"], Duration::from_secs(1))).await, [Outcome::Written]);
    hear(&mut other, "a write").await;
    hear(&mut other, "an expiry").await;
    assert_eq!(store.get("beside").await, None);
}
