//! What nobody should send, and configuration that can't be: a clear word, and nothing lost.

use std::collections::BTreeSet;

use hookcache::envelope::limits::WIRE_BYTES_MAX;
use serde_json::Value;

use super::{FUNCTION_TIMEOUT, Store, over_redis, returned, set, until_deleted};
use crate::support::lambda::{Mapping, Spoiled, record};
use crate::support::sqs::client;
use crate::support::stack::Stack;
use crate::support::{Lambda, Redis, TempDir};

/// SQS's own limit.
const MIB: usize = 1 << 20;

#[tokio::test]
async fn an_event_of_no_records_is_answered() {
    let redis = Redis::start().await;
    let lambda = over_redis(redis.url(), &[]).await;
    assert_eq!(returned(lambda.invoke(&[]).await), BTreeSet::new());
}

#[tokio::test]
async fn long_of_ten_thousand_records_each_is_stored_or_returned() {
    let redis = Redis::start().await;
    let (lambda, store) = (over_redis(redis.url(), &[("HOOKCACHE_LOG__LEVEL", "warn")]).await, Store::new(&redis));
    let mut left: Vec<Value> =
        (0..10_000).map(|i| record(&i.to_string(), &set("up", "acme", &format!("k{i}")))).collect();
    while !left.is_empty() {
        let again = returned(lambda.invoke(&left).await);
        assert!(again.len() < left.len(), "none of {} is stored", left.len());
        left.retain(|record| again.contains(record["messageId"].as_str().expect("an id")));
    }
    assert_eq!(redis.cli(&["DBSIZE"]), "10000");
    assert!(store.get("k0").await.is_some() && store.get("k9999").await.is_some());
}

#[tokio::test]
async fn the_largest_wire_form_is_stored_and_what_is_larger_is_dead_lettered_whole() {
    let stack = Stack::start().await;
    let mut lambda = Lambda::start(&stack.function_environment()).await;
    let mapping = Mapping::new(client(&stack.sqs.endpoint_url()), &stack.queues.queue_url, FUNCTION_TIMEOUT);
    let of_size = |bytes: usize| {
        let body = set("up", "acme", &format!("k{bytes}"));
        let (head, tail) = body.split_once(r#""data":{"#).expect("it has a payload");
        let filler = bytes - body.len() - r#""x":"","#.len();
        format!(r#"{head}"data":{{"x":"{}",{tail}"#, "x".repeat(filler))
    };
    let (largest, too_large, mib) = (of_size(WIRE_BYTES_MAX), of_size(WIRE_BYTES_MAX + 1), of_size(MIB));
    for body in [&largest, &too_large, &mib] {
        stack.put(body).await;
    }
    until_deleted(&mapping, &mut lambda, 3).await;
    let store = Store::new(&stack.redis);
    let entry = store.get(&format!("k{WIRE_BYTES_MAX}")).await.expect("an entry");
    assert!(largest.as_bytes().ends_with(&[&entry.payload[..], b"}}"].concat()));
    assert!(store.get(&format!("k{MIB}")).await.is_none());
    let letters = stack.take_dead(2).await;
    assert!(letters.iter().any(|letter| letter.body == too_large) && letters.iter().any(|letter| letter.body == mib));
}

#[tokio::test]
async fn whatever_the_runtime_api_answers_the_next_invocation_is_served() {
    let redis = Redis::start().await;
    let (mut lambda, store) = (over_redis(redis.url(), &[]).await, Store::new(&redis));
    let all = [
        Spoiled::NotJson,
        Spoiled::NotAnEvent,
        Spoiled::NoRequestId,
        Spoiled::NoDeadline,
        Spoiled::OddDeadline,
        Spoiled::ServerError,
    ];
    for (i, spoiled) in all.into_iter().enumerate() {
        if !lambda.survives(spoiled).await {
            // Lambda, too, starts another one.
            lambda.start_again().await;
        }
        let key = format!("k{i}");
        assert_eq!(returned(lambda.invoke(&[record("1", &set("up", "acme", &key))]).await), BTreeSet::new());
        assert!(store.get(&key).await.is_some(), "after {spoiled:?}");
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_be_is_refused_at_start_with_its_key() {
    let folder = TempDir::new().expect("a temporary folder");
    let redis = "[store]\nurl = \"redis://127.0.0.1:1\"\n";
    let queues = "[buffer]\nqueue_url = \"http://127.0.0.1:1/0/q\"\ndead_letter_url = \"http://127.0.0.1:1/0/dead\"\n";
    let cases: [(&[&str], &[&str]); 6] = [
        (&["[stores]\nurl = \"s3cr3t\""], &["stores.url", "store.url"]),
        (&[queues], &["store.url", "HOOKCACHE_STORE__URL"]),
        (&[redis], &["buffer.queue_url"]),
        (&[redis, queues, "[log]\nlevel = \"loud\""], &["log.level", "loud"]),
        (&[redis, "password_file = \"/no/such/file\"\n", queues], &["store.password_file", "/no/such/file"]),
        (&[redis, &queues.replace("0/dead", "0/q")], &["buffer.dead_letter_url"]),
    ];
    for (parts, words) in cases {
        std::fs::write(folder.path().join("hookcache.toml"), parts.concat()).expect("it is ours");
        let mut lambda = Lambda::start(&[("LAMBDA_TASK_ROOT", &folder.path().display().to_string())]).await;
        assert_eq!(lambda.until_exit().await.code(), Some(1), "{parts:?}");
        let text = lambda.captured().stderr;
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
        assert!(!text.contains("panicked") && !text.contains("s3cr3t"), "{text}");
    }
    // A file that a variable names comes before the bundled one.
    std::fs::write(folder.path().join("hookcache.toml"), "lisen = 1").expect("it is ours");
    let named = folder.path().join("other.toml");
    std::fs::write(&named, [redis, queues].concat()).expect("it is ours");
    let (folder, named) = (folder.path().display().to_string(), named.display().to_string());
    let open = "auth.callers is empty: whoever may put into the queue may set every account";
    // Also where it is written out that no token is asked for: that speaks of the set API.
    for mode in ["tokens", "none"] {
        let environment =
            [("LAMBDA_TASK_ROOT", &*folder), ("HOOKCACHE_CONFIG", &named), ("HOOKCACHE_AUTH__MODE", mode)];
        let lambda = Lambda::start(&environment).await;
        lambda.until_idle().await;
        lambda.logged(open, 1).await;
    }
}
