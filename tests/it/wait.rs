//! Gets that wait for news (`Prefer: wait`), over an embedded store, on worker threads as in the program.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hookcache::auth::token::Token;
use hookcache::auth::{Auth, Policy, Scope, TokenEntry};
use hookcache::envelope::{Account, Accounts, Clock, Flow, Grants, Version, WebhookKey};
use hookcache::http::{self as edge, Data, Lanes, Options, Plane, Probes, Readiness, Workers};
use hookcache::serve::Serve;
use hookcache::store::{self, Effect, Outcome, Reader, Write, Writer, l1};
use hookcache::telemetry::Metrics;
use http::Method;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::http_api::{patient, raw, until_closed};
use crate::support::stack::{series, until_series};
use crate::support::{Hookcache, Redis, Reply, TempDir, eventually, http_get, http_post, http_send};

/// Longer than a test waits for anything: whoever is answered by it alone is not answered in time.
/// Threads that serve.
const LANES: usize = 2;
const LONG: &str = "wait=60";
/// Reads of the store so far.
const READS: &str = r#"hookcache_store_seconds_count{call="read"}"#;

struct Stage {
    address: SocketAddr,
    writer: Writer,
    last_ms: AtomicU64,
    serve: Serve,
    metrics: Metrics,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _workers: Workers,
    _folder: TempDir,
}

impl Stage {
    async fn start() -> Self {
        Self::with(patient(), Policy::Open).await
    }

    async fn with(options: Options, policy: Policy) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("store.redb");
        let (writer, reader, _) = store::embedded::open(store::embedded::Options { path }, Clock::system()).unwrap();
        let (metrics, grants) = (Metrics::new(), Grants { callers: policy.callers(), reserved: vec![] });
        let auth = Auth::new(policy, grants);
        let memory = Some(l1::Options { bytes_max: 1 << 20, stale_max: Duration::from_secs(1) });
        let serve =
            Serve::new(Reader::Embedded(reader), memory, auth, Duration::ZERO, Clock::system(), metrics.clone());
        let workers = Workers::start(LANES).unwrap();
        let plane = || {
            Plane::Data(Box::new(Data {
                ingest: None,
                serve: Some(serve.for_this_runtime()),
                links: None,
                hooks: None,
            }))
        };
        let lanes = Lanes::on(&workers, plane);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let probes = Probes {
            readiness: Arc::new(|| Box::pin(async { Readiness::default() })),
            metrics_text: Arc::new(|| Box::pin(async { String::new() })),
        };
        let task = tokio::spawn(edge::run(listener, lanes, probes, metrics.clone(), options, stop.clone()));
        let writer = Writer::Embedded(writer);
        Self {
            address,
            writer,
            last_ms: AtomicU64::new(0),
            serve,
            metrics,
            stop,
            task,
            _workers: workers,
            _folder: folder,
        }
    }

    /// A get of `k`.
    fn get(&self, headers: &[(&'static str, &str)]) -> JoinHandle<Reply> {
        let url = format!("http://{}/v1/keys/k", self.address);
        let headers: Vec<(&str, String)> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        tokio::spawn(async move {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            http_send(Method::GET, &url, &headers, "").await
        })
    }

    /// Waits until this many gets are held.
    async fn until_held(&self, count: f64) {
        eventually(&format!("{count} held"), || async {
            (series(&self.metrics.text(), "hookcache_gets_held") == Some(count)).then_some(())
        })
        .await;
    }

    /// Puts a payload under `k`, and returns its tag.
    async fn put(&self, account: &str, payload: &str, expires_at_ms: Option<u64>) -> String {
        let (flow, payload) = (Flow::parse("f").unwrap(), Bytes::from(payload.to_owned()));
        self.write(account, Effect::Put { flow, payload, expires_at_ms }, Outcome::Written).await
    }

    async fn write(&self, account: &str, effect: Effect, outcome: Outcome) -> String {
        // Newer than all before it, in the same millisecond, too.
        let at_ms = Clock::system().now_ms().max(self.last_ms.load(Ordering::SeqCst) + 1);
        self.last_ms.store(at_ms, Ordering::SeqCst);
        let version = Version::of_event(0, at_ms, &format!("{effect:?}"));
        let (account, key) = (Account::parse(account).unwrap(), WebhookKey::parse("k").unwrap());
        let write = Write { id: "i".into(), at_ms, account, version, keys: vec![key], effect };
        assert_eq!(self.writer.write(&[write], at_ms).await, [[Ok(outcome)]]);
        format!("\"{version}\"")
    }
}

/// As clients say it.
fn prefer(wait: &str) -> [(&'static str, &str); 1] {
    [("prefer", wait)]
}

#[tokio::test]
async fn a_get_is_held_until_its_key_appears() {
    let stage = Stage::start().await;
    let held = stage.get(&prefer(LONG));
    stage.until_held(1.0).await;
    assert!(!held.is_finished());
    let tag = stage.put("a", "\"here\"", None).await;
    let reply = held.await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "\"here\""));
    assert_eq!((reply.header("etag"), reply.header("preference-applied")), (tag.as_str(), "wait=60"));
    stage.until_held(0.0).await;
    let counted = r#"hookcache_http_requests_total{method="GET",plane="data",route="key-wait",status="200"}"#;
    assert_eq!(series(&stage.metrics.text(), counted), Some(1.0), "apart from those that are not held");
}

#[tokio::test]
async fn a_get_is_held_until_its_entry_is_another_than_the_caller_has() {
    let stage = Stage::start().await;
    let old = stage.put("a", "1", None).await;
    let tags = format!("\"x\", W/{old}");
    let held = stage.get(&[("prefer", LONG), ("if-none-match", &tags)]);
    stage.until_held(1.0).await;
    let new = stage.put("a", "2", None).await;
    let reply = held.await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.text().as_str(), reply.header("etag")), (200, "2", new.as_str()));

    let held = stage.get(&[("prefer", LONG), ("if-none-match", &new)]);
    stage.until_held(1.0).await;
    stage.write("a", Effect::Delete, Outcome::Deleted).await;
    let reply = held.await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("preference-applied")), (404, "wait=60"));
}

#[tokio::test]
async fn an_expiry_is_news_to_who_has_the_entry() {
    let stage = Stage::start().await;
    let tag = stage.put("a", "1", Some(Clock::system().now_ms() + 1_500)).await;
    let held = stage.get(&[("prefer", LONG), ("if-none-match", &tag)]);
    assert_eq!(held.await.unwrap().status, 404);
}

#[tokio::test]
async fn what_is_news_already_is_answered_at_once() {
    let stage = Stage::start().await;
    // Its version is gone already.
    let reply = stage.get(&[("prefer", LONG), ("if-none-match", "\"x\"")]).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("preference-applied")), (404, "wait=60"));
    stage.put("a", "1", None).await;
    for headers in [&[("prefer", LONG)][..], &[("prefer", LONG), ("if-none-match", "\"x\"")]] {
        let reply = stage.get(headers).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("preference-applied")), (200, "wait=60"));
    }
    let reply = stage.get(&prefer("wait=999999999")).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("preference-applied")), (200, "wait=60"), "clamped");
}

#[tokio::test]
async fn when_the_time_is_over_the_answer_is_what_it_would_have_been() {
    // The caller's time is not the call's.
    let stage = Stage::with(Options { request_timeout: Duration::from_millis(500), ..patient() }, Policy::Open).await;
    let begin = Instant::now();
    let reply = stage.get(&prefer("wait=1")).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("preference-applied")), (404, "wait=1"));
    assert!(begin.elapsed() >= Duration::from_secs(1));
    let tag = stage.put("a", "1", None).await;
    let begin = Instant::now();
    let reply = stage.get(&[("prefer", "wait=1"), ("if-none-match", &tag)]).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("preference-applied")), (304, "wait=1"));
    assert_eq!((reply.header("etag"), reply.body.len()), (tag.as_str(), 0));
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(stage.get(&prefer("wait=0")).await.unwrap().header("preference-applied"), "wait=0");
}

#[tokio::test]
async fn a_preference_that_is_none_is_passed_over() {
    let stage = Stage::start().await;
    for wait in ["wait=-1", "wait", "wait=", "wait=soon", "wait=1.5", "respond-async", "x; wait=60", "=", ",,"] {
        let reply = stage.get(&prefer(wait)).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("preference-applied")), (404, ""), "{wait}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_falls_between_looking_and_waiting() {
    let stage = Stage::start().await;
    let mut tag = stage.put("a", "0", None).await;
    for round in 1..200 {
        let held = stage.get(&[("prefer", LONG), ("if-none-match", &tag)]);
        // Now before, now while, now after it looks.
        tokio::time::sleep(Duration::from_micros(round * 17 % 2_000)).await;
        tag = stage.put("a", &round.to_string(), None).await;
        let reply = held.await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("etag")), (200, tag.as_str()));
    }
}

/// The same, with the change where it hurts most: after the read, and before its answer is looked at.
#[tokio::test]
async fn a_change_while_the_answer_to_the_first_look_is_on_its_way_is_not_missed() {
    let stage = Stage::start().await;
    for round in 0..3 {
        let tag = stage.put("a", "\"old\"", None).await;
        let reads = || series(&stage.metrics.text(), READS).unwrap_or_default();
        let (before, caller) = (reads(), stage.serve.authorize(None).unwrap());
        let waiter = stage.serve.waiter("k").unwrap();
        let news = stage.serve.get_news(&caller, waiter, Some(&tag), Duration::from_secs(60), std::future::pending());
        let mut news = std::pin::pin!(news);
        assert!(futures_util::poll!(&mut news).is_pending());
        eventually("the store has answered", || async { (reads() > before).then_some(()) }).await;
        stage.put("a", &round.to_string(), None).await;
        let page = tokio::time::timeout(crate::support::DEADLINE, news).await.expect("it is told").unwrap();
        assert_eq!(page.payload, round.to_string());
    }
}

#[tokio::test]
async fn at_the_stop_signal_held_gets_are_answered_with_what_there_is() {
    let stage = Stage::start().await;
    let tag = stage.put("a", "1", None).await;
    let held = stage.get(&[("prefer", LONG), ("if-none-match", &tag)]);
    stage.until_held(1.0).await;
    stage.stop.cancel();
    assert_eq!(held.await.unwrap().status, 304);
    stage.task.await.unwrap();
}

#[tokio::test]
async fn a_client_that_closes_its_side_is_answered_at_once() {
    let stage = Stage::start().await;
    let get = format!("GET /v1/keys/k HTTP/1.1\r\nprefer: {LONG}\r\n\r\n");
    let mut waiting = TcpStream::connect(stage.address).await.unwrap();
    waiting.write_all(get.as_bytes()).await.unwrap();
    stage.until_held(1.0).await;
    waiting.shutdown().await.unwrap();
    assert!(until_closed(&mut waiting).await.starts_with("HTTP/1.1 404 "));

    let mut gone = TcpStream::connect(stage.address).await.unwrap();
    gone.write_all(get.as_bytes()).await.unwrap();
    stage.until_held(1.0).await;
    drop(gone);
    stage.until_held(0.0).await;
}

#[tokio::test]
async fn held_gets_leave_room_for_those_that_are_not() {
    let stage = Stage::with(Options { connections_max: 4, ..patient() }, Policy::Open).await;
    let held: Vec<_> = (0..3).map(|_| stage.get(&prefer(LONG))).collect();
    stage.until_held(3.0).await;
    let reply = stage.get(&prefer(LONG)).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("preference-applied")), (404, ""), "a preference is no demand");
    stage.put("a", "1", None).await;
    for held in held {
        assert_eq!(held.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn what_a_caller_may_not_see_is_no_news() {
    let token = Token::generate().unwrap();
    let accounts = Accounts::Only([Account::parse("mine").unwrap()].into());
    let (name, hash, scopes) = ("t".to_owned(), token.hash(), [Scope::Get].into());
    let policy = Policy::Tokens(vec![TokenEntry { name, hash, scopes, accounts, enabled: true }]);
    let stage = Stage::with(patient(), policy).await;
    let bearer = format!("Bearer {}", token.reveal());
    let held = stage.get(&[("prefer", LONG), ("authorization", &bearer)]);
    stage.until_held(1.0).await;
    let reads = || series(&stage.metrics.text(), READS).unwrap_or_default();
    let before = reads();
    stage.put("theirs", "1", None).await;
    eventually("the held get has looked again", || async { (reads() > before).then_some(()) }).await;
    stage.write("theirs", Effect::Delete, Outcome::Deleted).await;
    stage.put("mine", "2", None).await;
    let reply = held.await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "2"), "held on until it was one of its own");
}

#[tokio::test]
async fn a_hundred_gets_in_one_packet_are_answered_in_order() {
    let stage = Stage::start().await;
    let tag = stage.put("a", "\"here\"", None).await;
    let mut calls = String::new();
    for n in 0..100 {
        let (path, last) =
            (if n % 2 == 0 { "k" } else { "absent" }, if n == 99 { "connection: close\r\n" } else { "" });
        // A range may be passed over (RFC 9110, section 14.2).
        calls += &format!("GET /v1/keys/{path} HTTP/1.1\r\nrange: bytes=0-1\r\n{last}\r\n");
    }
    let answers = raw(stage.address, calls.as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 100);
    for (n, answer) in answers.split("HTTP/1.1 ").skip(1).enumerate() {
        let is_there = answer.starts_with("200 ") && answer.contains(&tag) && answer.ends_with("\r\n\r\n\"here\"");
        let is_absent = answer.starts_with("404 ") && answer.ends_with('}');
        assert!(if n % 2 == 0 { is_there } else { is_absent }, "{n}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_takes_its_answer_byte_by_byte_holds_up_no_other() {
    // More than the sockets' buffers take.
    const BYTES: usize = 32 << 20;
    let stage = Stage::start().await;
    stage.put("a", &"x".repeat(BYTES), None).await;
    let mut slow = TcpStream::connect(stage.address).await.unwrap();
    slow.write_all(b"GET /v1/keys/k HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    for _ in 0..8 {
        answer.push(slow.read_u8().await.unwrap());
        // On each thread, as a new connection goes where there are fewest.
        let others =
            (0..2 * LANES).map(|_| raw(stage.address, b"GET /v1/keys/absent HTTP/1.1\r\nconnection: close\r\n\r\n"));
        let answers = futures_util::future::join_all(others).await;
        assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 404 ")), "{answers:?}");
    }
    slow.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.len() > BYTES && answer.ends_with(&[b'x'; 64]));
}

/// That many gets of one key, each on a connection of its own. `meanwhile` is done while all are held.
async fn all_are_held_and_answered(hookcache: &Hookcache, count: usize, meanwhile: impl Future<Output = ()>) {
    let address = hookcache.url().trim_start_matches("http://").to_owned();
    let get = format!("GET /v1/keys/k HTTP/1.1\r\nprefer: {LONG}\r\n\r\n");
    let mut held = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(get.as_bytes()).await.unwrap();
        held.push(stream);
    }
    until_series(hookcache, "hookcache_gets_held", count as f64).await;
    meanwhile.await;
    let body = r#"{"accountId":"a","flowId":"f","webhookKeys":["k"],"data":"here"}"#;
    assert_eq!(http_post(&format!("{}/v1/set", hookcache.url()), body).await.status, 202);
    let mut answers = JoinSet::new();
    for mut stream in held {
        answers.spawn(async move {
            let mut answer = [0; 15];
            let read = tokio::time::timeout(crate::support::DEADLINE, stream.read_exact(&mut answer)).await;
            read.expect("an answer").expect("whole");
            answer
        });
    }
    assert!(answers.join_all().await.iter().all(|answer| answer == b"HTTP/1.1 200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_redis_a_get_is_held_until_redis_tells_of_a_change() {
    let redis = Redis::start().await;
    let hookcache = Hookcache::start(&[], &[("HOOKCACHE_STORE__URL", &redis.url())]).await;
    all_are_held_and_answered(&hookcache, 30, async {}).await;
    until_series(&hookcache, "hookcache_gets_held", 0.0).await;
    let url = format!("{}/v1/keys/k", hookcache.url());
    let tag = http_get(&url).await.header("etag").to_owned();
    let held =
        tokio::spawn(
            async move { http_send(Method::GET, &url, &[("prefer", LONG), ("if-none-match", &tag)], "").await },
        );
    until_series(&hookcache, "hookcache_gets_held", 1.0).await;
    redis.ok(&["FLUSHALL"]);
    assert_eq!(held.await.unwrap().status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_held_gets_are_answered_by_one_set() {
    let hookcache = Hookcache::start(&[], &[]).await;
    all_are_held_and_answered(&hookcache, 300, async {}).await;
    assert_eq!(http_get(&format!("{}/readyz", hookcache.admin_url())).await.status, 200);
}

/// User and system time of a process, in ticks of 10 ms, and its resident memory in KiB.
fn taken(pid: u32) -> (u64, u64) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("it runs");
    let stat = read("stat");
    let after_name = stat.rsplit_once(") ").expect("the name is in parentheses").1;
    let ticks = after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    let status = read("status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    (ticks, resident.trim().trim_end_matches(" kB").parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn long_ten_thousand_held_gets_cost_memory_alone() {
    const HELD: usize = 10_000;
    /// 10 ms each: a tenth of a core.
    const TICKS_PER_SECOND_MAX: f64 = 10.0;
    const KIB_PER_GET_MAX: usize = 64;
    // For them here, and for the program, which inherits it.
    let mut files = getrlimit(Resource::Nofile);
    assert!(files.maximum.is_none_or(|most| most > 15_000), "`ulimit -Hn` is {:?}: raise it", files.maximum);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    let hookcache = Hookcache::start(&[], &[("HOOKCACHE_HTTP__CONNECTIONS_MAX", "13500")]).await;
    let idle = taken(hookcache.pid());
    let look = async {
        let (begin, before) = (Instant::now(), taken(hookcache.pid()));
        tokio::time::sleep(Duration::from_secs(12)).await;
        let (ticks, resident) = taken(hookcache.pid());
        let per_second = (ticks - before.0) as f64 / begin.elapsed().as_secs_f64();
        let kib_per_get = (resident - idle.1) as usize / HELD;
        println!("{HELD} held: {per_second:.1} ticks of 10 ms per second, {kib_per_get} KiB each");
        assert!(per_second < TICKS_PER_SECOND_MAX, "{per_second} ticks per second");
        assert!(kib_per_get < KIB_PER_GET_MAX, "{kib_per_get} KiB each");
    };
    all_are_held_and_answered(&hookcache, HELD, look).await;
}
