//! Bad input over HTTP: each gets a clear answer, and nothing of it reaches the buffer.

use std::time::Duration;

use hookcache::http::Options;
use hookcache::http::limits::{BODY_BYTES_MAX, HEADERS_MAX};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http_api::{Edge, JSON, Setup, patient, raw, set, until_closed};
use crate::support::{http_get, http_post, http_send};

/// A timeout that a test means to reach.
const SHORT: Duration = Duration::from_millis(500);

/// A set with more members, or others.
fn with(members: &str) -> String {
    format!(r#"{{"accountId":"a","flowId":"f","webhookKeys":["k"],"data":1{members}}}"#)
}

fn with_keys(keys: &str) -> String {
    format!(r#"{{"accountId":"a","flowId":"f","webhookKeys":{keys},"data":1}}"#)
}

async fn nothing_was_accepted(edge: &Edge) {
    assert_eq!(edge.taken().await.len(), 0, "nothing bad lies in the buffer");
}

#[tokio::test]
async fn every_bad_set_is_answered_with_its_code_and_place() {
    let edge = Edge::start().await;
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let event = |id: &str, time: &str| with(&format!(r#","eventId":"{id}","eventTime":"{time}""#));
    let many: String = (0..1_001).map(|i| format!("\"{i}\",")).collect();
    let cases = [
        (String::new(), 400, "malformed-json", ""),
        ("not JSON".into(), 400, "malformed-json", ""),
        ("{\"accountId\":".into(), 400, "malformed-json", ""),
        ("\u{FEFF}{}".into(), 400, "malformed-json", ""),
        ("null".into(), 400, "invalid-request", ""),
        ("\"text\"".into(), 400, "invalid-request", ""),
        ("{}".into(), 400, "invalid-request", "/accountId"),
        (with("").replace(":1", &format!(":{}", nested(10_000))), 400, "too-deep", "/data"),
        (with("").replace(":1", &format!(":{}", nested(101))), 400, "too-deep", "/data"),
        (with(&format!(",\"extra\":{}", nested(10_000))), 400, "invalid-request", "/extra"),
        (with(&format!(",\"eventId\":{}", nested(10_000))), 400, "invalid-request", "/eventId"),
        (with("").replace(r#""webhookKeys":["k"],"#, ""), 400, "invalid-request", "/webhookKeys"),
        (with_keys("[]"), 400, "invalid-request", "/webhookKeys"),
        (with_keys("\"k\""), 400, "invalid-request", "/webhookKeys"),
        (with_keys(r#"["k","l","k"]"#), 400, "invalid-request", "/webhookKeys/2"),
        (with_keys(r#"["k","\u006b"]"#), 400, "invalid-request", "/webhookKeys/1"),
        (with_keys(&format!("[{many}\"x\"]")), 400, "invalid-request", "/webhookKeys"),
        (with_keys(&format!("[\"{}\"]", "k".repeat(513))), 400, "invalid-request", "/webhookKeys/0"),
        (with_keys(r#"["k\u0000"]"#), 400, "invalid-request", "/webhookKeys/0"),
        (with_keys(r#"["\uffff"]"#), 400, "invalid-request", "/webhookKeys/0"),
        (with_keys(r#"["\ud800"]"#), 400, "invalid-request", "/webhookKeys"),
        (set("a b", "k", "1"), 400, "invalid-request", "/accountId"),
        (set("ä", "k", "1"), 400, "invalid-request", "/accountId"),
        (set("", "k", "1"), 400, "invalid-request", "/accountId"),
        (with("").replace("\"f\"", "\"a/b\""), 400, "invalid-request", "/flowId"),
        (with(r#","ttlSeconds":0"#), 400, "invalid-request", "/ttlSeconds"),
        (with(r#","ttlSeconds":-1"#), 400, "invalid-request", "/ttlSeconds"),
        (with(r#","ttlSeconds":1000000000000000000000000000000"#), 400, "invalid-request", "/ttlSeconds"),
        (with(r#","ttlSeconds":1e400"#), 400, "invalid-request", "/ttlSeconds"),
        (with(r#","ttlSeconds":"60""#), 400, "invalid-request", "/ttlSeconds"),
        (with(r#","ttlSeconds":null"#), 400, "invalid-request", "/ttlSeconds"),
        (with(r#","eventId":"e""#), 400, "event-time-required", "/eventTime"),
        (with(r#","eventTime":"2026-01-01T00:00:00Z""#), 400, "event-time-required", "/eventId"),
        (event("e", "1969-12-31T23:59:59Z"), 400, "invalid-request", "/eventTime"),
        (event("e", "2999-01-01T00:00:00Z"), 400, "invalid-request", "/eventTime"),
        (event("e", "yesterday"), 400, "invalid-request", "/eventTime"),
        (event("", "2026-01-01T00:00:00Z"), 400, "invalid-request", "/eventId"),
        (event("\u{b}", "2026-01-01T00:00:00Z"), 400, "malformed-json", ""),
        (with("").replace(":1", ":\"\u{FFFE}\""), 400, "illegal-character", ""),
        (with(r#","data":2"#), 400, "invalid-request", "/data"),
        (with(r#"},"at":0,"id":"forged""#), 400, "malformed-json", ""),
        (with(r#","at":0,"id":"forged""#), 400, "invalid-request", "/at"),
        ("[]".into(), 400, "invalid-request", ""),
        (format!("[{}1]", "1,".repeat(100)), 400, "invalid-request", ""),
        (set("a", "k", &format!("\"{}\"", "x".repeat(1_040_000))), 413, "payload-too-large", ""),
    ];
    for (body, status, code, pointer) in cases {
        let shown: String = body.chars().take(120).collect();
        let reply = http_post(&edge.url("/v1/set"), body).await;
        let problem = reply.json();
        assert_eq!((reply.status.as_u16(), problem["code"].as_str().unwrap()), (status, code), "{shown}\n{problem}");
        assert_eq!(reply.header("content-type"), "application/problem+json");
        assert_eq!(problem["type"], format!("/docs/errors.md#{code}"));
        if status == 400 {
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{shown}\n{problem}");
        } else {
            assert!(problem["size"].as_u64() > problem["limit"].as_u64(), "{problem}");
        }
    }
    // An array whose one element is an array, and so on.
    let reply = http_post(&edge.url("/v1/set"), nested(10_000)).await;
    assert_eq!((reply.status.as_u16(), &reply.json()[0]["code"]), (200, &"invalid-request".into()));
    nothing_was_accepted(&edge).await;
}

#[tokio::test]
async fn odd_but_legal_keys_and_payloads_are_accepted() {
    let edge = Edge::start().await;
    let keys = r#"["a/b","%2F","{x}","a b","🦀","ttl","hc:v1:c:x","é\"\\"]"#;
    assert_eq!(http_post(&edge.url("/v1/set"), with_keys(keys)).await.status, 202);
    for data in ["1e400", r#""\ud800""#, "null", "{\"a\":1,\"a\":2}", "\"\u{7f}\u{85}\"", "\"\\u0001\""] {
        let reply = http_post(&edge.url("/v1/set"), set("a", "k", data)).await;
        assert_eq!(reply.status, 202, "{data}: {}", reply.text());
    }
    assert_eq!(edge.taken().await.len(), 7);
}

#[tokio::test]
async fn bytes_that_are_no_utf_8_are_refused() {
    let edge = Edge::start().await;
    let mut body = set("a", "k", "\"x\"").into_bytes();
    let at = body.len() - 3;
    body[at] = 0xff;
    let reply = http_post(&edge.url("/v1/set"), body).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (400, &"malformed-json".into()));
    assert_eq!(http_post(&edge.url("/v1/get"), &b"{\"webhookKeys\":[\"\xff\"]}"[..]).await.status, 400);
    nothing_was_accepted(&edge).await;
}

#[tokio::test]
async fn no_answer_echoes_a_value_that_was_sent() {
    let edge = Edge::start().await;
    let secret = "s3cr3t";
    for body in [
        set("s3cr3t!", "k", "1"),
        with(r#","ttlSeconds":"s3cr3t""#),
        with(r#","eventId":"s3cr3t","eventTime":"s3cr3t""#),
        with_keys(r#"["s3cr3t\u0000"]"#),
        with_keys(r#"[{"s3cr3t":"s3cr3t"}]"#),
        with("").replace(":1", ":{\"s3cr3t\":"),
        with("").replace(":1", ":\"s3cr3t\u{FFFE}\""),
    ] {
        let reply = http_post(&edge.url("/v1/set"), body.clone()).await;
        assert!(reply.status == 400 && !reply.text().contains(secret), "{body}\n{}", reply.text());
    }
    let reply = http_post(&edge.url("/v1/get"), r#"{"webhookKeys":["s3cr3t\u0000"]}"#).await;
    assert!(reply.status == 400 && !reply.text().contains(secret), "{}", reply.text());
}

#[tokio::test]
async fn a_body_of_another_type_is_415() {
    let edge = Edge::start().await;
    let body = set("a", "k", "1");
    for path in ["/v1/set", "/v1/delete", "/v1/get"] {
        for headers in [
            &[][..],
            &[("content-type", "text/plain")],
            &[("content-type", "application/x-www-form-urlencoded")],
            &[("content-type", "application/json; charset=utf-16")],
            &[JSON, ("content-encoding", "gzip")],
        ] {
            let reply = http_send(Method::POST, &edge.url(path), headers, body.clone()).await;
            let code = reply.json()["code"].clone();
            assert_eq!((reply.status.as_u16(), code), (415, "unsupported-media-type".into()), "{headers:?}");
        }
    }
    nothing_was_accepted(&edge).await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let edge = Edge::start().await;
    for path in ["/", "/v1/keys", "/v1/set/", "/v2/set", "/v1/ttl"] {
        let reply = http_get(&edge.url(path)).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (404, &"no-such-route".into()), "{path}");
    }
    for (method, path, allow) in [
        (Method::GET, "/v1/set", "POST"),
        (Method::PUT, "/v1/get", "POST"),
        (Method::OPTIONS, "/v1/set", "POST"),
        (Method::POST, "/v1/keys/k", "GET, HEAD, DELETE"),
        (Method::DELETE, "/metrics", "GET, HEAD"),
    ] {
        let reply = http_send(method, &edge.url(path), &[JSON], "").await;
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, allow), "{path}");
    }
    nothing_was_accepted(&edge).await;
}

#[tokio::test]
async fn a_path_that_is_no_key_is_400_and_one_that_is_too_long_414() {
    let edge = Edge::start().await;
    let long = "k".repeat(513);
    for path in ["", "%", "%2", "%zz", "%ff", "%00", "a%0Ab", "%EF%BF%BE", &long] {
        let reply = http_get(&edge.url(&format!("/v1/keys/{path}"))).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (400, &"invalid-key".into()), "{path}");
        let delete = edge.url(&format!("/v1/keys/{path}?accountId=a"));
        assert_eq!(http_send(Method::DELETE, &delete, &[], "").await.status, 400, "{path}");
    }
    for (query, pointer) in [
        ("", "/accountId"),
        ("?accountId=", "/accountId"),
        ("?accountId=a&x=1", ""),
        ("?account=a", ""),
        ("?accountId=a%20b", "/accountId"),
        ("?accountId=a&accountId=a", "/accountId"),
        ("?accountId=a&eventId=e", "/eventTime"),
    ] {
        let reply = http_send(Method::DELETE, &edge.url(&format!("/v1/keys/k{query}")), &[], "").await;
        assert_eq!((reply.status.as_u16(), &reply.json()["errors"][0]["pointer"]), (400, &pointer.into()), "{query}");
    }
    let longest = "%F0%9F%A6%80".repeat(512);
    assert_eq!(http_get(&edge.url(&format!("/v1/keys/{longest}"))).await.status, 404, "a legal key");
    let reply = http_get(&edge.url(&format!("/v1/keys/{}", "k".repeat(9_000)))).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (414, &"path-too-long".into()));
    nothing_was_accepted(&edge).await;
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_refused_unread() {
    let edge = Edge::start().await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head = "POST /v1/set HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 100000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // Not a byte of the body was sent.
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"size\":100000000"), "{answer}");
    nothing_was_accepted(&edge).await;
}

#[tokio::test]
async fn a_client_that_sends_100_mb_sees_the_413() {
    const CHUNK: usize = 64 << 10;
    let edge = Edge::start().await;
    for head in ["content-length: 104857600", "transfer-encoding: chunked"] {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        let head = format!("POST /v1/set HTTP/1.1\r\ncontent-type: application/json\r\n{head}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let chunked = head.contains("chunked");
        let send = async {
            let chunk = vec![b' '; CHUNK];
            for _ in 0..(100 << 20) / CHUNK {
                if chunked {
                    write.write_all(format!("{CHUNK:x}\r\n").as_bytes()).await?;
                }
                write.write_all(&chunk).await?;
                if chunked {
                    write.write_all(b"\r\n").await?;
                }
            }
            write.shutdown().await
        };
        let mut answer = String::new();
        // It sends all before it reads a byte, as many clients do.
        send.await.expect("no reset while it sends");
        read.read_to_string(&mut answer).await.expect("no reset while it reads");
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"), "{answer}");
        assert!(answer.contains(&format!("\"limit\":{BODY_BYTES_MAX}")));
    }
    nothing_was_accepted(&edge).await;
}

#[tokio::test]
async fn the_largest_body_is_read_whole() {
    let edge = Edge::start().await;
    let element = set("a", "k", &format!("\"{}\"", "x".repeat(1_000_000)));
    let body = format!("[{}]", vec![element; 10].join(","));
    assert!(body.len() < BODY_BYTES_MAX);
    let padded = format!("{}{body}", " ".repeat(BODY_BYTES_MAX - body.len()));
    assert_eq!(http_post(&edge.url("/v1/set"), padded.clone()).await.status, 200);
    assert_eq!(http_post(&edge.url("/v1/set"), format!(" {padded}")).await.status, 413);
    assert_eq!(edge.taken().await.len(), 10);
}

#[tokio::test]
async fn what_is_not_http_is_answered_and_closed() {
    let edge = Edge::start().await;
    for bytes in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /v1/keys/a b HTTP/1.1\r\n\r\n"] {
        let answer = raw(edge.address, bytes.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bytes:?}: {answer}");
    }
    let both =
        "POST /v1/set HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}";
    assert!(raw(edge.address, both.as_bytes()).await.starts_with("HTTP/1.1 400 "));
    let broken = "POST /v1/set HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
    assert!(raw(edge.address, broken.as_bytes()).await.starts_with("HTTP/1.1 400 "));
    nothing_was_accepted(&edge).await;
}

#[tokio::test]
async fn too_many_or_too_long_headers_are_431() {
    let edge = Edge::start().await;
    let many: String = (0..=HEADERS_MAX).map(|i| format!("x-{i}: 1\r\n")).collect();
    let long = format!("x: {}\r\n", "x".repeat(20_000));
    for headers in [many, long] {
        let answer = raw(edge.address, format!("GET /healthz HTTP/1.1\r\n{headers}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}

#[tokio::test]
async fn a_head_that_comes_a_byte_at_a_time_is_cut() {
    let options = Options { header_read_timeout: SHORT, ..patient() };
    let edge = Edge::with(Setup { options, ..Setup::default() }).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let (mut read, mut write) = stream.split();
    // Each byte comes well within the timeout, the whole head never does.
    let drip = async {
        loop {
            if write.write_all(b"G").await.is_err() {
                return;
            }
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    let mut answer = [0; 64];
    let closed = async { read.read(&mut answer).await.unwrap_or(0) };
    tokio::select! {
        bytes = closed => assert_eq!(bytes, 0),
        () = drip => {}
        () = tokio::time::sleep(crate::support::DEADLINE) => panic!("never cut"),
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let options = Options { body_read_timeout: SHORT, ..patient() };
    let edge = Edge::with(Setup { options, ..Setup::default() }).await;
    let head = "POST /v1/set HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    let answer = raw(edge.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body-timeout"), "{answer}");
    nothing_was_accepted(&edge).await;
}

#[tokio::test]
async fn idle_connections_are_closed_before_and_after_a_call() {
    let options = Options { idle_timeout: SHORT, ..patient() };
    let edge = Edge::with(Setup { options, ..Setup::default() }).await;
    assert_eq!(raw(edge.address, b"").await, "");
    let answer = raw(edge.address, b"GET /healthz HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let options = Options { idle_timeout: SHORT, ..patient() };
    let edge = Edge::with(Setup { options, ..Setup::default() }).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    // Far more answers than the sockets' buffers hold, and none is read.
    let calls = "GET /docs/errors.md HTTP/1.1\r\n\r\n".repeat(1_000);
    let send = async { while stream.write_all(calls.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(crate::support::DEADLINE, send).await.expect("the server gives up on it");
}
