//! The HTTP edge over real sockets, between a real buffer and a real store: what callers are answered.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use hookcache::auth::token::Token;
use hookcache::auth::{Auth, Policy, Scope, TokenEntry};
use hookcache::buffer::{self, Appender, Delivery, Taker};
use hookcache::envelope::grants::Owner;
use hookcache::envelope::{
    Account, Accounts, Action, Clock, Envelope, Flow, Grants, Stamper, Version, WebhookKey, wire,
};
use hookcache::http::{self as edge, Data, Options, Plane, Probes, Readiness};
use hookcache::ingest::{self, Ingest};
use hookcache::page::Archived;
use hookcache::serve::{Links, Serve};
use hookcache::store::{self, Effect, Reader, Write, Writer};
use hookcache::telemetry::Metrics;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Redis, Reply, TempDir, eventually, http_delete, http_get, http_post, http_send};

pub const JSON: (&str, &str) = ("content-type", "application/json");
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// Room for every test but that of a full buffer.
const BUFFER_BYTES_MAX: u64 = 1 << 30;

/// Timeouts that no test but that of the timeout itself ever reaches.
pub fn patient() -> Options {
    Options {
        connections_max: 64,
        header_read_timeout: Duration::from_secs(60),
        body_read_timeout: Duration::from_secs(60),
        request_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
        drain_deadline: Duration::from_secs(60),
        close_delay: Duration::ZERO,
    }
}

/// A data plane on a port of its own, with its places.
pub struct Edge {
    pub address: SocketAddr,
    pub taker: Taker,
    pub auth: Auth,
    pub writer: Writer,
    metrics: Metrics,
    stop: CancellationToken,
    task: JoinHandle<()>,
    pub redis: Redis,
    _folder: TempDir,
}

/// How an [`Edge`] differs from the plain one.
pub struct Setup {
    pub options: Options,
    pub policy: Policy,
    pub reserved: Vec<(String, Owner)>,
    pub buffer_bytes_max: u64,
    pub max_age: Duration,
    pub archived: Archived,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            options: patient(),
            policy: Policy::Open,
            reserved: vec![],
            buffer_bytes_max: BUFFER_BYTES_MAX,
            max_age: Duration::ZERO,
            archived: Archived::Hide,
        }
    }
}

impl Edge {
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let (folder, redis) = (TempDir::new().unwrap(), Redis::start().await);
        let (writer, reader) = store_on(&redis);
        let (appender, taker) = buffer::embedded::open(buffer::embedded::Options {
            path: folder.path().join("buffer.redb"),
            visibility: Duration::from_secs(60),
            wait: Duration::from_millis(50),
            bytes_max: setup.buffer_bytes_max,
        })
        .unwrap();
        let grants = Grants { callers: setup.policy.callers(), reserved: setup.reserved };
        let (auth, metrics) = (Auth::new(setup.policy, grants), Metrics::new());
        let (appender, stamper) = (Appender::Embedded(appender), Stamper::new(Clock::system()));
        let limits = ingest::Options { keys_per_request_max: 1_000, set_rate: None };
        let ingest = Ingest::new(appender, auth.clone(), stamper, &limits, metrics.clone());
        let serve = Serve::new(reader, None, auth.clone(), setup.max_age, Clock::system(), metrics.clone());
        let links = Some(Links::new(serve.clone(), setup.archived));
        let plane = Plane::Data(Box::new(Data { ingest: Some(ingest), serve: Some(serve), links, hooks: None }));
        let (address, stop, task) = listen(plane, probes(&metrics, &[]), &metrics, setup.options).await;
        Self { address, taker: Taker::Embedded(taker), auth, writer, metrics, stop, task, redis, _folder: folder }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything that the buffer offers now.
    pub async fn taken(&self) -> Vec<Delivery> {
        let mut all = Vec::new();
        loop {
            let some = self.taker.take(buffer::TAKE_MAX).await.unwrap();
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }

    pub async fn store(&self, key: &str, account: &str, payload: &'static str, expires_at_ms: Option<u64>) -> Version {
        let version = Version::of_event(0, EVENT_MS, payload);
        let write = Write {
            id: "018f0000-0000-7000-8000-000000000001".into(),
            at_ms: EVENT_MS,
            account: Account::parse(account).unwrap(),
            version,
            keys: vec![WebhookKey::parse(key).unwrap()],
            effect: Effect::Put {
                flow: Flow::parse("f").unwrap(),
                payload: Bytes::from_static(payload.as_bytes()),
                expires_at_ms,
            },
        };
        let outcomes = self.writer.write(&[write], EVENT_MS).await;
        assert_eq!(outcomes, [[Ok(store::Outcome::Written)]]);
        version
    }
}

/// 2026-01-01, as an event time.
const EVENT_MS: u64 = 1_767_225_600_000;
/// An expiry that no test lives to see.
const FAR_MS: u64 = 4_102_444_800_000;

fn store_on(redis: &Redis) -> (Writer, Reader) {
    let options = store::redis::Options {
        mode: store::redis::Mode::Standalone { url: redis.url() },
        username_file: None,
        password_file: None,
        ca_file: None,
        acknowledge: store::Acknowledge::Memory,
        read_connections: 1,
        write_connections: 1,
        connect_timeout: Duration::from_secs(10),
        read_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
        tracking: store::redis::Tracking::Off,
    };
    let (writer, reader, _) = store::redis::open(&options, Clock::system()).unwrap();
    (Writer::Redis(writer), Reader::Redis(reader))
}

pub async fn listen(
    plane: Plane,
    probes: Probes,
    metrics: &Metrics,
    options: Options,
) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let task = tokio::spawn(edge::run(listener, plane, probes, metrics.clone(), options, stop.clone()));
    (address, stop, task)
}

pub fn probes(metrics: &Metrics, reasons: &[&str]) -> Probes {
    let reasons: Vec<String> = reasons.iter().map(|reason| (*reason).to_owned()).collect();
    let metrics = metrics.clone();
    Probes {
        readiness: std::sync::Arc::new(move || {
            let readiness = Readiness { reasons: reasons.clone(), notes: Vec::new() };
            Box::pin(async move { readiness })
        }),
        metrics_text: std::sync::Arc::new(move || {
            let metrics = metrics.clone();
            Box::pin(async move { metrics.text() })
        }),
    }
}

/// A token with its entry in the configuration.
pub fn token(name: &str, scopes: &[Scope], accounts: &[&str]) -> (String, TokenEntry) {
    let token = Token::generate().unwrap();
    let accounts: BTreeSet<Account> = accounts.iter().map(|name| Account::parse(name).unwrap()).collect();
    let entry = TokenEntry {
        name: name.to_owned(),
        hash: token.hash(),
        scopes: scopes.iter().copied().collect(),
        accounts: if accounts.is_empty() { Accounts::All } else { Accounts::Only(accounts) },
        enabled: true,
    };
    (format!("Bearer {}", token.reveal()), entry)
}

pub fn set(account: &str, key: &str, data: &str) -> String {
    format!(r#"{{"accountId":"{account}","flowId":"f","webhookKeys":["{key}"],"data":{data}}}"#)
}

fn decode(delivery: &Delivery) -> Envelope {
    wire::decode(&delivery.body, Clock::system().now_ms()).unwrap()
}

/// Sends bytes as they are and returns all that comes until the server closes.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    until_closed(&mut stream).await
}

pub async fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(crate::support::DEADLINE, stream.read_to_end(&mut answer)).await;
    read.expect("the server closes").expect("without a reset");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn an_accepted_set_lies_in_the_buffer_byte_for_byte_under_its_id_and_trace() {
    let edge = Edge::start().await;
    let body = set("a", "k", r#"{ "x" : 1e400, "y":"\ud800" }"#);
    let reply =
        http_send(Method::POST, &edge.url("/v1/set"), &[JSON, ("traceparent", TRACEPARENT)], body.clone()).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    let taken = edge.taken().await;
    assert_eq!(taken.len(), 1);
    assert!(taken[0].body.ends_with(format!("\"set\":{body}}}").as_bytes()));
    assert_eq!(taken[0].traceparent.as_deref(), Some(TRACEPARENT));
    let envelope = decode(&taken[0]);
    assert_eq!((envelope.by.as_str(), reply.json()["id"].as_str().unwrap()), ("anonymous", &*envelope.id));
    assert_eq!(reply.json()["messageId"].as_str().unwrap(), taken[0].message_id.0);
}

#[tokio::test]
async fn a_trace_context_that_is_not_valid_is_dropped_and_the_set_accepted() {
    let edge = Edge::start().await;
    let headers = [JSON, ("traceparent", "00-xyz")];
    assert_eq!(http_send(Method::POST, &edge.url("/v1/set"), &headers, set("a", "k", "1")).await.status, 202);
    assert_eq!(edge.taken().await[0].traceparent, None);
}

#[tokio::test]
async fn an_array_is_answered_per_element_and_later_elements_are_newer() {
    let edge = Edge::start().await;
    let mut elements: Vec<String> = (0..40).map(|i| set("a", "k", &i.to_string())).collect();
    elements[7] = set("a", "", "7");
    elements[9] = "\"no object\"".to_owned();
    let reply = http_post(&edge.url("/v1/set"), format!("[{}]", elements.join(" ,\n"))).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answers = reply.json();
    assert_eq!(answers.as_array().unwrap().len(), 40);
    for (i, answer) in answers.as_array().unwrap().iter().enumerate() {
        match i {
            7 => assert_eq!(
                (&answer["status"], &answer["errors"][0]["pointer"]),
                (&400.into(), &"/webhookKeys/0".into())
            ),
            9 => assert_eq!((&answer["status"], &answer["code"]), (&400.into(), &"invalid-request".into())),
            _ => assert_eq!(answer["status"], 202),
        }
    }
    let mut envelopes: Vec<Envelope> = edge.taken().await.iter().map(decode).collect();
    assert_eq!(envelopes.len(), 38);
    envelopes.sort_by_key(|envelope| envelope.version);
    let payloads = envelopes.iter().map(|envelope| match &envelope.action {
        Action::Set { payload, .. } => String::from_utf8(payload.to_vec()).unwrap().parse::<u32>().unwrap(),
        Action::Delete => panic!("a set"),
    });
    assert!(payloads.is_sorted());
    let ids: BTreeSet<&str> = answers.as_array().unwrap().iter().filter_map(|answer| answer["id"].as_str()).collect();
    assert_eq!(ids, envelopes.iter().map(|envelope| envelope.id.as_str()).collect());
}

#[tokio::test]
async fn a_delete_takes_the_road_of_a_set() {
    let edge = Edge::start().await;
    let body = r#"{"accountId":"a","webhookKeys":["k","l"],"eventId":"e","eventTime":"2026-01-01T00:00:00Z"}"#;
    assert_eq!(http_post(&edge.url("/v1/delete"), body).await.status, 202);
    let by_key = http_delete(&edge.url("/v1/keys/a%2Fb%22?accountId=a%40b")).await;
    assert_eq!(by_key.status, 202, "{}", by_key.text());
    let envelopes: Vec<Envelope> = edge.taken().await.iter().map(decode).collect();
    assert!(envelopes.iter().all(|envelope| envelope.action == Action::Delete));
    assert_eq!(envelopes[0].version, Version::of_event(0, EVENT_MS, "e"));
    assert_eq!((envelopes[1].account.as_str(), envelopes[1].keys[0].as_str()), ("a@b", "a/b\""));
}

#[tokio::test]
async fn a_delete_by_key_with_its_event_can_be_repeated_harmlessly() {
    let edge = Edge::start().await;
    let url = edge.url("/v1/keys/k?eventTime=2026-01-01T01:00:00%2B01:00&accountId=a&eventId=e%26f");
    for _ in 0..2 {
        let reply = http_delete(&url).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
    }
    let versions: Vec<Version> = edge.taken().await.iter().map(|delivery| decode(delivery).version).collect();
    assert_eq!(versions, [Version::of_event(0, EVENT_MS, "e&f"); 2]);

    let one_of_two = http_delete(&edge.url("/v1/keys/k?accountId=a&eventId=e")).await;
    assert_eq!((one_of_two.status.as_u16(), &one_of_two.json()["code"]), (400, &"event-time-required".into()));
    assert_eq!(one_of_two.json()["errors"][0]["pointer"], "/eventTime");
    let later = http_delete(&edge.url("/v1/keys/k?accountId=a&eventId=e&eventTime=2999-01-01T00:00:00Z")).await;
    assert_eq!((later.status.as_u16(), &later.json()["errors"][0]["pointer"]), (400, &"/eventTime".into()));
    assert!(edge.taken().await.is_empty());
}

#[tokio::test]
async fn a_call_that_panics_is_answered_and_the_connection_lives_on() {
    let edge = Edge::start().await;
    let router = axum::Router::new().route("/fault", axum::routing::get(fault));
    let (address, stop, task) =
        listen(Plane::Control(router), probes(&edge.metrics, &[]), &edge.metrics, patient()).await;
    let calls = b"GET /fault HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n";
    let answers = raw(address, calls).await;
    assert!(answers.starts_with("HTTP/1.1 500 ") && answers.contains("\"code\":\"internal\""), "{answers}");
    assert!(!answers.contains("secret") && answers.ends_with("ok\n"), "{answers}");
    let series = r#"hookcache_http_requests_total{method="GET",plane="control",route="control",status="500"} 1"#;
    assert!(edge.metrics.text().contains(series));
    stop.cancel();
    task.await.unwrap();
}

async fn fault() -> &'static str {
    panic!("a secret")
}

#[tokio::test]
async fn an_entry_is_served_byte_for_byte_with_its_headers() {
    let edge = Edge::start().await;
    let payload = "{ \"a\" : 1e400,\n\"a\":[ ] }";
    let version = edge.store("k", "acme", payload, Some(FAR_MS)).await;
    let reply = http_get(&edge.url("/v1/keys/k")).await;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, payload));
    for (name, value) in [
        ("content-type", "application/json"),
        ("etag", &*format!("\"{version}\"")),
        ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("cache-control", "private, no-cache"),
        ("hookcache-account-id", "acme"),
        ("hookcache-flow-id", "f"),
        ("hookcache-id", "018f0000-0000-7000-8000-000000000001"),
        ("hookcache-expires-at", "2100-01-01T00:00:00Z"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(reply.header(name), value, "{name}");
    }
    let head = http_send(Method::HEAD, &edge.url("/v1/keys/k"), &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), payload.len().to_string());
    assert_eq!(head.header("etag"), reply.header("etag"));

    edge.store("forever", "acme", "1", None).await;
    assert_eq!(http_get(&edge.url("/v1/keys/forever")).await.headers.get("hookcache-expires-at"), None);
}

#[tokio::test]
async fn a_reader_that_has_the_version_is_told_so() {
    let edge = Edge::start().await;
    let tag = format!("\"{}\"", edge.store("k", "a", "1", None).await);
    let get = async |tags: &str| http_send(Method::GET, &edge.url("/v1/keys/k"), &[("if-none-match", tags)], "").await;
    for tags in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let reply = get(&tags).await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (304, 0), "{tags}");
        assert_eq!(reply.header("etag"), tag);
    }
    assert_eq!(get("\"other\"").await.status, 200);
    let reply = http_send(Method::GET, &edge.url("/v1/keys/none"), &[("if-none-match", "*")], "").await;
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn a_reader_may_keep_an_answer_no_longer_than_the_entry_lives() {
    let edge = Edge::with(Setup { max_age: Duration::from_secs(60), ..Setup::default() }).await;
    edge.store("far", "a", "1", Some(FAR_MS)).await;
    edge.store("forever", "a", "2", None).await;
    for key in ["far", "forever"] {
        let reply = http_get(&edge.url(&format!("/v1/keys/{key}"))).await;
        assert_eq!(reply.header("cache-control"), "private, max-age=60", "{key}");
    }
    // An hour from now is beyond the setting; what is left of a minute is not.
    edge.store("soon", "a", "3", Some(Clock::system().now_ms() + 50_000)).await;
    let reply = http_get(&edge.url("/v1/keys/soon")).await;
    let seconds: u64 = reply.header("cache-control").strip_prefix("private, max-age=").unwrap().parse().unwrap();
    assert!(seconds <= 50, "{seconds}");
}

#[tokio::test]
async fn a_key_is_one_however_its_path_is_written() {
    let edge = Edge::start().await;
    for (key, paths) in [
        ("a/b", vec!["a/b", "a%2Fb", "%61/b"]),
        ("%2F", vec!["%252F"]),
        ("{x} \u{1F980}", vec!["%7Bx%7D%20%F0%9F%A6%80"]),
        ("ttl", vec!["ttl"]),
        ("a?b#c", vec!["a%3Fb%23c"]),
        ("a//../b", vec!["a//../b"]),
    ] {
        edge.store(key, "a", "\"here\"", None).await;
        for path in paths {
            let call = format!("GET /v1/keys/{path} HTTP/1.1\r\nconnection: close\r\n\r\n");
            let answer = raw(edge.address, call.as_bytes()).await;
            assert!(answer.ends_with("\r\n\r\n\"here\""), "{path}: {answer}");
        }
    }
}

#[tokio::test]
async fn many_keys_are_read_in_one_call_and_the_absent_ones_are_listed() {
    let edge = Edge::start().await;
    let version = edge.store("a/b", "acme", "{ \"x\":1e400 }", Some(FAR_MS)).await;
    edge.store("c", "acme", "null", None).await;
    let reply = http_post(&edge.url("/v1/get"), r#"{"webhookKeys":["a/b","none","c"]}"#).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().contains(r#""data":{ "x":1e400 }}"#), "{}", reply.text());
    let text = reply.text().replace("1e400", "1");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["missing"], serde_json::json!(["none"]));
    assert_eq!(json["entries"]["a/b"]["eTag"], format!("\"{version}\""));
    assert_eq!(json["entries"]["a/b"]["expiresAt"], "2100-01-01T00:00:00Z");
    assert_eq!((&json["entries"]["c"]["accountId"], &json["entries"]["c"]["data"]), (&"acme".into(), &().into()));
}

#[tokio::test]
async fn a_token_that_is_bound_to_an_account_learns_nothing_of_another() {
    let (bearer, entry) = token("t", &[Scope::Set, Scope::Get], &["mine"]);
    let edge = Edge::with(Setup { policy: Policy::Tokens(vec![entry]), ..Setup::default() }).await;
    edge.store("theirs", "theirs", "1", None).await;
    edge.store("mine", "mine", "2", None).await;
    let send = async |method: Method, path: &str, body: String| -> Reply {
        http_send(method, &edge.url(path), &[JSON, ("authorization", &bearer)], body).await
    };
    let theirs = send(Method::GET, "/v1/keys/theirs", String::new()).await;
    let absent = send(Method::GET, "/v1/keys/absent", String::new()).await;
    let without_date = |reply: &Reply| {
        let mut headers = reply.headers.clone();
        headers.remove("date");
        headers
    };
    assert_eq!((theirs.status.as_u16(), theirs.text()), (404, absent.text()));
    assert_eq!(without_date(&theirs), without_date(&absent));
    assert_eq!(send(Method::GET, "/v1/keys/mine", String::new()).await.status, 200);
    let many = send(Method::POST, "/v1/get", r#"{"webhookKeys":["theirs","mine"]}"#.into()).await.json();
    assert_eq!((&many["missing"], many["entries"].as_object().unwrap().len()), (&serde_json::json!(["theirs"]), 1));

    let forbidden = send(Method::POST, "/v1/set", set("theirs", "theirs", "1")).await;
    let unknown = send(Method::POST, "/v1/set", set("nobody", "theirs", "1")).await;
    assert_eq!((forbidden.status.as_u16(), &forbidden.json()["code"]), (403, &"forbidden-account".into()));
    assert_eq!(forbidden.text(), unknown.text());
    let deleted = send(Method::DELETE, "/v1/keys/theirs?accountId=theirs", String::new()).await;
    assert_eq!(deleted.status, 403);
    assert_eq!(send(Method::POST, "/v1/set", set("mine", "k", "1")).await.status, 202);
    assert_eq!(edge.taken().await.len(), 1);
}

#[tokio::test]
async fn a_call_is_judged_by_its_token_before_its_body_is_looked_at() {
    let (reader, reads) = token("reader", &[Scope::Get], &[]);
    let (setter, sets) = token("setter", &[Scope::Set], &[]);
    let edge = Edge::with(Setup { policy: Policy::Tokens(vec![reads, sets]), ..Setup::default() }).await;
    for (path, bearer, status, code) in [
        ("/v1/set", "", 401, "token-required"),
        ("/v1/set", "Bearer x", 401, "token-unknown"),
        ("/v1/delete", "Basic x", 401, "token-unknown"),
        ("/v1/get", "", 401, "token-required"),
        ("/v1/set", &*reader, 403, "forbidden-scope"),
        ("/v1/delete", &*reader, 403, "forbidden-scope"),
        ("/v1/get", &*setter, 403, "forbidden-scope"),
        ("/v1/set", &*setter, 415, "unsupported-media-type"),
    ] {
        let headers = [("content-type", "text/plain"), ("authorization", bearer)];
        let headers = if bearer.is_empty() { &headers[..1] } else { &headers[..] };
        let reply = http_send(Method::POST, &edge.url(path), headers, "not JSON").await;
        assert_eq!(
            (reply.status.as_u16(), reply.json()["code"].as_str().unwrap()),
            (status, code),
            "{path} {bearer:.8}"
        );
        assert_eq!(reply.header("www-authenticate").starts_with("Bearer"), status == 401);
    }
    // A revoked token is refused with the next call.
    edge.auth.replace(Policy::Tokens(vec![]), Grants::default());
    let reply = http_send(Method::GET, &edge.url("/v1/keys/k"), &[("authorization", &reader)], "").await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn a_reserved_prefix_is_for_its_owner_alone() {
    let owner = Owner::Account(Account::parse("acme").unwrap());
    let edge = Edge::with(Setup { reserved: vec![("acme/".into(), owner)], ..Setup::default() }).await;
    let refused = http_post(&edge.url("/v1/set"), set("other", "acme/x", "1")).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (403, &"reserved-key".into()));
    assert_eq!(refused.json()["errors"][0]["pointer"], "/webhookKeys/0");
    assert_eq!(http_post(&edge.url("/v1/set"), set("acme", "acme/x", "1")).await.status, 202);
    assert_eq!(edge.taken().await.len(), 1);
}

#[tokio::test]
async fn a_store_that_is_down_is_503_and_never_404() {
    let mut edge = Edge::start().await;
    edge.store("k", "a", "1", None).await;
    edge.redis.stop();
    for reply in [
        http_get(&edge.url("/v1/keys/k")).await,
        http_get(&edge.url("/v1/keys/absent")).await,
        http_post(&edge.url("/v1/get"), r#"{"webhookKeys":["k","absent"]}"#).await,
    ] {
        assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (503, &"store-unavailable".into()));
        assert!(reply.header("retry-after").parse::<u64>().unwrap() > 0);
        assert!(!reply.text().contains("127.0.0.1"), "no address of ours leaves the house");
    }
    assert_eq!(http_post(&edge.url("/v1/set"), set("a", "k", "2")).await.status, 202, "sets go on");
}

#[tokio::test]
async fn a_value_that_is_not_ours_is_500_and_named_among_many() {
    let edge = Edge::start().await;
    let mut redis = TcpStream::connect(("127.0.0.1", edge.redis.port())).await.unwrap();
    redis.write_all(b"SET hc:v1:k:{}:alien x\r\nQUIT\r\n").await.unwrap();
    assert!(until_closed(&mut redis).await.starts_with("+OK"));
    let one = http_get(&edge.url("/v1/keys/alien")).await;
    assert_eq!((one.status.as_u16(), &one.json()["code"]), (500, &"entry-unreadable".into()));
    let keys: Vec<String> = (0..40).map(|i| format!("k{i}")).chain(["alien".to_owned()]).collect();
    let many = http_post(&edge.url("/v1/get"), serde_json::json!({ "webhookKeys": keys }).to_string()).await;
    assert_eq!((many.status.as_u16(), &many.json()["errors"][0]["pointer"]), (500, &"/webhookKeys/40".into()));
}

#[tokio::test]
async fn a_full_buffer_is_503_and_says_when_to_come_back() {
    let edge = Edge::with(Setup { buffer_bytes_max: 4_096, ..Setup::default() }).await;
    let big = set("a", "k", &format!("\"{}\"", "x".repeat(3_000)));
    let mut last = http_post(&edge.url("/v1/set"), big.clone()).await;
    assert_eq!(last.status, 202);
    for _ in 0..3 {
        last = http_post(&edge.url("/v1/set"), big.clone()).await;
    }
    assert_eq!((last.status.as_u16(), &last.json()["code"]), (503, &"buffer-full".into()));
    assert!(last.json()["instance"].as_str().unwrap().starts_with("urn:uuid:"));
    assert!(!last.header("retry-after").is_empty());
}

#[tokio::test]
async fn the_probes_need_no_token_and_tell_what_is_wrong() {
    let (_, entry) = token("t", &[Scope::Get], &[]);
    let edge = Edge::with(Setup { policy: Policy::Tokens(vec![entry]), ..Setup::default() }).await;
    assert_eq!(http_get(&edge.url("/healthz")).await.status, 200);
    let ready = http_get(&edge.url("/readyz")).await;
    assert_eq!((ready.status.as_u16(), ready.text().as_str()), (200, r#"{"ready":true}"#));
    http_get(&edge.url("/v1/keys/k")).await;
    let metrics = http_get(&edge.url("/metrics")).await.text();
    let series = r#"hookcache_http_requests_total{method="GET",plane="data",route="key",status="401"} 1"#;
    assert!(metrics.contains(series), "{metrics}");
    let errors = http_get(&edge.url("/docs/errors.md")).await;
    assert!(errors.text().contains("### token-required"), "`type` leads to the page");

    let router = axum::Router::new().route("/v1/ttl", axum::routing::get(|| async { "rules" }));
    let probes = probes(&edge.metrics, &["the store is away"]);
    let (control, stop, task) = listen(Plane::Control(router), probes, &edge.metrics, patient()).await;
    let url = |path: &str| format!("http://{control}{path}");
    let ready = http_get(&url("/readyz")).await;
    assert_eq!((ready.status.as_u16(), &ready.json()["reasons"][0]), (503, &"the store is away".into()));
    let rules = http_get(&url("/v1/ttl")).await;
    assert_eq!(
        (rules.status.as_u16(), rules.text().as_str(), rules.header("cache-control")),
        (200, "rules", "no-store")
    );
    assert_eq!(http_get(&url("/v1/set")).await.status, 404, "the data plane is not here");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_role_that_does_not_run_here_has_no_routes_here() {
    let edge = Edge::start().await;
    let plane = Plane::Data(Box::new(Data { ingest: None, serve: None, links: None, hooks: None }));
    let (address, stop, task) = listen(plane, probes(&edge.metrics, &[]), &edge.metrics, patient()).await;
    let reply = http_post(&format!("http://{address}/v1/set"), set("a", "k", "1")).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (404, &"no-such-route".into()));
    assert!(reply.text().contains("role `set`"));
    for path in ["/v1/keys/k", "/v1/sites/acme/pages/1/links"] {
        let reply = http_get(&format!("http://{address}{path}")).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (404, &"no-such-route".into()), "{path}");
        assert!(reply.text().contains("role `get`"), "{path}: {}", reply.text());
    }
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn pipelined_calls_are_answered_in_order() {
    let edge = Edge::start().await;
    edge.store("1", "a", "\"one\"", None).await;
    edge.store("2", "a", "\"two\"", None).await;
    let body = set("a", "k", "1");
    let length = body.len();
    let calls = format!(
        "GET /v1/keys/1 HTTP/1.1\r\nhost: x\r\n\r\nPOST /v1/set HTTP/1.1\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}HEAD /v1/keys/2 HTTP/1.1\r\n\r\nGET /v1/keys/2 HTTP/1.1\r\n\
         connection: close\r\n\r\n"
    );
    let answers = raw(edge.address, calls.as_bytes()).await;
    let places = ["\"one\"", "202 Accepted", "messageId", "200 OK\r\ncontent-type", "\"two\""];
    let mut from = 0;
    for place in places {
        from += answers[from..].find(place).unwrap_or_else(|| panic!("{place} after {from} in {answers}"));
    }
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 4);
    assert_eq!(answers.matches("\"two\"").count(), 1, "a HEAD has no body");
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_cancel_its_append() {
    let edge = Edge::start().await;
    let body = set("a", "k", "1");
    let head =
        format!("POST /v1/set HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    for _ in 0..20 {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        drop(stream);
    }
    let depth = async || edge.taker.depth().await.unwrap().visible;
    eventually("every set that was sent whole is in the buffer", || async { (depth().await == 20).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_caller_that_closes_its_side_is_still_answered() {
    let edge = Edge::start().await;
    let body = set("a", "k", "1");
    let length = body.len();
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head = format!("POST /v1/set HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(until_closed(&mut stream).await.starts_with("HTTP/1.1 202"));
}

#[tokio::test]
async fn at_the_stop_signal_the_call_that_runs_is_answered_and_idle_connections_close() {
    let edge = Edge::start().await;
    let body = set("a", "k", "1");
    let mut idle = TcpStream::connect(edge.address).await.unwrap();
    let mut kept = TcpStream::connect(edge.address).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(kept.read(&mut [0; 1_024]).await.unwrap() > 0);
    let mut running = TcpStream::connect(edge.address).await.unwrap();
    let head = format!(
        "POST /v1/set HTTP/1.1\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    running.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body, so the call runs.
    let mut answer = vec![0; 1_024];
    let length = running.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 100"));

    edge.stop.cancel();
    assert_eq!(until_closed(&mut idle).await, "");
    assert_eq!(until_closed(&mut kept).await, "");
    eventually("nobody listens", || async { TcpStream::connect(edge.address).await.err() }).await;
    assert!(!edge.task.is_finished());
    running.write_all(body.as_bytes()).await.unwrap();
    assert!(until_closed(&mut running).await.starts_with("HTTP/1.1 202"));
    edge.task.await.unwrap();
}

#[tokio::test]
async fn what_comes_on_an_idle_connection_after_the_stop_signal_is_answered_and_told_to_be_the_last() {
    let options = Options { close_delay: Duration::from_secs(60), ..patient() };
    let edge = Edge::with(Setup { options, ..Setup::default() }).await;
    let (mut new, mut kept) =
        (TcpStream::connect(edge.address).await.unwrap(), TcpStream::connect(edge.address).await.unwrap());
    kept.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.unwrap();
    let mut first = [0; 1_024];
    let length = kept.read(&mut first).await.unwrap();
    assert!(!String::from_utf8_lossy(&first[..length]).contains("connection: close"));

    edge.stop.cancel();
    eventually("nobody listens", || async { TcpStream::connect(edge.address).await.err() }).await;
    let body = set("a", "k", "1");
    let head =
        format!("POST /v1/set HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    kept.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    new.write_all(b"GET /v1/keys/none HTTP/1.1\r\n\r\n").await.unwrap();
    for (mut connection, status) in [(kept, "202"), (new, "404")] {
        let answer = until_closed(&mut connection).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains("\r\nconnection: close\r\n"),
            "{answer}"
        );
    }
    edge.task.await.unwrap();
}

#[tokio::test]
async fn at_the_drain_deadline_what_is_left_is_cut() {
    let options = Options { drain_deadline: Duration::from_millis(50), ..patient() };
    let edge = Edge::with(Setup { options, ..Setup::default() }).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head =
        "POST /v1/set HTTP/1.1\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(stream.read(&mut [0; 1_024]).await.unwrap() > 0);
    edge.stop.cancel();
    edge.task.await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let options = Options { connections_max: 2, ..patient() };
    let edge = Edge::with(Setup { options, ..Setup::default() }).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 1_024]).await.unwrap() > 0);
        held.push(stream);
    }
    let mut third = TcpStream::connect(edge.address).await.unwrap();
    let answer = until_closed(&mut third).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"code\":\"overloaded\""), "{answer}");
    assert!(answer.contains("retry-after: "));
    held.clear();
    eventually("a place is free", || async {
        let mut stream = TcpStream::connect(edge.address).await.ok()?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}
