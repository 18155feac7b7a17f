//! What one account, or all together, may ask for: rates per account, and a full buffer.

use std::num::NonZeroU32;
use std::time::Duration;

use hookcache::auth::token::Token;
use hookcache::auth::{Auth, Caller, Policy, Scope, TokenEntry};
use hookcache::buffer::{self, Appender};
use hookcache::envelope::{Account, Accounts, Clock, Grants, Stamper};
use hookcache::ingest::{Ingest, KeyDelete, Options, SetAnswer, SetRate};
use hookcache::problem::{Code, Problem};
use hookcache::telemetry::Metrics;
use serde_json::{Value, json};

use crate::support::stack::series;
use crate::support::{Hookcache, Redis, Reply, TempDir, eventually, http_get, http_post};

const RATE: &str = "HOOKCACHE_LIMITS__SETS_PER_SECOND";

fn set_of(account: &str, key: &str) -> Value {
    json!({"accountId": account, "flowId": "f", "webhookKeys": [key], "data": key})
}

async fn post(hookcache: &Hookcache, body: &Value) -> Reply {
    http_post(&format!("{}/v1/set", hookcache.url()), body.to_string()).await
}

/// A mover over an embedded buffer, on the test's own clock, which stands still unless the test moves it.
struct Mover {
    ingest: Ingest,
    caller: Caller,
    _folder: TempDir,
}

impl Mover {
    /// Everybody may send two sets per second, and five at once. The caller may set the accounts `a` and `b`.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (appender, _) = buffer::embedded::open(buffer::embedded::Options {
            path: folder.path().join("buffer.redb"),
            visibility: Duration::from_secs(60),
            wait: Duration::ZERO,
            bytes_max: 1 << 30,
        })
        .unwrap();
        let token = Token::generate().unwrap();
        let accounts = ["a", "b"].map(|account| Account::parse(account).unwrap());
        let policy = Policy::Tokens(vec![TokenEntry {
            name: "t".into(),
            hash: token.hash(),
            scopes: [Scope::Set].into(),
            accounts: Accounts::Only(accounts.into()),
            enabled: true,
        }]);
        let auth = Auth::new(policy.clone(), Grants { callers: policy.callers(), reserved: vec![] });
        let [per_second, burst] = [2, 5].map(NonZeroU32::new).map(Option::unwrap);
        let options = Options { keys_per_request_max: 2, set_rate: Some(SetRate { per_second, burst }) };
        let stamper = Stamper::new(Clock::system());
        let ingest = Ingest::new(Appender::Embedded(appender), auth, stamper, &options, Metrics::new());
        let caller = ingest.authorize(Some(&format!("Bearer {}", token.reveal()))).unwrap();
        Self { ingest, caller, _folder: folder }
    }

    async fn set(&self, account: &str) -> Result<(), Problem> {
        match self.ingest.set(&self.caller, set_of(account, "k").to_string().into(), None).await? {
            SetAnswer::One(_) => Ok(()),
            SetAnswer::Many(_) => panic!("one request has one answer"),
        }
    }

    /// The status of each element.
    async fn set_many(&self, elements: &[Value]) -> Vec<u16> {
        let body = Value::from(elements).to_string().into();
        let SetAnswer::Many(results) = self.ingest.set(&self.caller, body, None).await.unwrap() else {
            panic!("an array has an answer per element")
        };
        results.iter().map(|result| result.as_ref().map_or_else(Problem::status, |_| 202)).collect()
    }
}

fn retry_after_seconds(problem: &Problem) -> u64 {
    let header = problem.headers().into_iter().find(|(name, _)| *name == "retry-after");
    header.expect("it says when to come back").1.parse().expect("whole seconds")
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_after_retry_after_is_accepted() {
    let mover = Mover::new();
    for _ in 0..5 {
        mover.set("a").await.unwrap();
    }
    let refused = mover.set("a").await.unwrap_err();
    assert_eq!(refused.code, Code::AccountRateLimited);
    assert!(refused.detail.contains("limits.sets_per_second"), "{}", refused.detail);
    assert!(refused.instance.is_some(), "the log knows it");
    mover.set("b").await.expect("another account has its own");
    tokio::time::advance(Duration::from_secs(retry_after_seconds(&refused))).await;
    mover.set("a").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn deletes_count_like_sets() {
    let mover = Mover::new();
    let body = json!({"accountId": "a", "webhookKeys": ["k"]}).to_string();
    let by_key = KeyDelete { account: "a".into(), key: "k".into(), event_id: None, event_time: None };
    for _ in 0..2 {
        mover.ingest.delete(&mover.caller, body.clone().into(), None).await.unwrap();
        mover.ingest.delete_key(&mover.caller, &by_key, None).await.unwrap();
    }
    mover.set("a").await.unwrap();
    for refused in [
        mover.ingest.delete(&mover.caller, body.into(), None).await.unwrap_err(),
        mover.ingest.delete_key(&mover.caller, &by_key, None).await.unwrap_err(),
        mover.set("a").await.unwrap_err(),
    ] {
        assert_eq!(refused.code, Code::AccountRateLimited);
    }
}

#[tokio::test(start_paused = true)]
async fn each_element_of_an_array_counts_and_is_answered_on_its_own() {
    let mover = Mover::new();
    let (a, b) = (set_of("a", "k"), set_of("b", "k"));
    let elements = [&a, &a, &a, &b, &a, &a, &a, &b, &a].map(Clone::clone);
    assert_eq!(mover.set_many(&elements).await, [202, 202, 202, 202, 202, 202, 429, 202, 429]);
    tokio::time::advance(Duration::from_millis(1_500)).await;
    assert_eq!(mover.set_many(&[a.clone(), a.clone(), a.clone(), a]).await, [202, 202, 202, 429]);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_another_reason_costs_nothing() {
    let mover = Mover::new();
    let (faulty, foreign) = (json!({"accountId": "a", "flowId": "f", "webhookKeys": [], "data": 1}), set_of("c", "k"));
    let mut elements = vec![faulty; 6];
    elements.extend(vec![foreign; 6]);
    elements.extend(vec![set_of("a", "k"); 6]);
    let expected: Vec<u16> = [vec![400; 6], vec![403; 6], vec![202; 5], vec![429]].concat();
    assert_eq!(mover.set_many(&elements).await, expected);
    // Nor does what was refused for this one.
    tokio::time::advance(Duration::from_millis(500)).await;
    mover.set("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_beyond_its_rate_is_429_until_retry_after_and_another_one_is_served() {
    let hookcache = Hookcache::start(&[], &[(RATE, "1")]).await;
    // Ten at once, within one second on any machine; if not, ten more.
    let refused = eventually("a refusal", || async {
        let bodies = (0..10).map(|n| set_of("noisy", &format!("k{n}"))).collect::<Vec<_>>();
        let replies = futures_util::future::join_all(bodies.iter().map(|body| post(&hookcache, body))).await;
        assert!(replies.iter().all(|reply| [202, 429].contains(&reply.status.as_u16())), "{replies:?}");
        replies.into_iter().find(|reply| reply.status == 429)
    })
    .await;
    let problem = refused.json();
    assert_eq!((&problem["code"], &problem["status"]), (&"account-rate-limited".into(), &429.into()));
    assert_eq!(refused.header("content-type"), "application/problem+json");
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert_eq!(problem["retryAfterSeconds"], seconds);
    assert_eq!(post(&hookcache, &set_of("quiet", "q")).await.status, 202);
    let page = http_get(&format!("{}/metrics", hookcache.admin_url())).await.text();
    assert!(series(&page, "hookcache_sets_rate_limited_total") >= Some(1.0), "{page}");

    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(post(&hookcache, &set_of("noisy", "later")).await.status, 202);
    let url = format!("{}/v1/keys/later", hookcache.url());
    eventually("it is readable", || async { (http_get(&url).await.status == 200).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_refuses_sets_by_name_and_takes_them_again_once_it_has_drained() {
    let mut redis = Redis::start().await;
    let environment = [
        ("HOOKCACHE_STORE__URL", redis.url()),
        ("HOOKCACHE_BUFFER__MAX_BYTES", "1MiB".to_owned()),
        ("HOOKCACHE_CONSUMER__PAUSE_MAX", "500ms".to_owned()),
    ];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let hookcache = Hookcache::start(&[], &environment).await;
    // Nothing drains while the store is down.
    redis.stop();
    let large = |n: usize| {
        let data = "x".repeat(100_000);
        json!({"accountId": "a", "flowId": "f", "webhookKeys": [format!("k{n}")], "data": data})
    };
    let mut accepted = 0;
    let refused = loop {
        let reply = post(&hookcache, &large(accepted)).await;
        if reply.status != 202 {
            break reply;
        }
        accepted += 1;
        assert!(accepted < 11, "more than it may hold");
    };
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (503, &"buffer-full".into()), "{}", refused.text());
    assert_eq!(refused.json()["retryAfterSeconds"], refused.header("retry-after").parse::<u64>().unwrap());
    assert_eq!(accepted, 10, "all that fit");

    redis.start_again().await;
    for n in 0..accepted {
        let url = format!("{}/v1/keys/k{n}", hookcache.url());
        eventually(&format!("k{n} is readable"), || async { (http_get(&url).await.status == 200).then_some(()) }).await;
    }
    eventually("it takes sets again", || async {
        (post(&hookcache, &large(accepted)).await.status == 202).then_some(())
    })
    .await;
}
