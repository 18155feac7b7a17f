//! A Service, as those see it who call it: a list of pods, which they learn late, and connections that they keep.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::RwLock;

#[derive(Default)]
pub struct Service {
    /// Where new connections go. Whoever makes one holds it until the first answer, so that a pod that was taken off it
    /// gets no more of them.
    endpoints: RwLock<Vec<String>>,
    turn: AtomicUsize,
    sent_again: AtomicUsize,
}

impl Service {
    pub async fn join(&self, address: &str) {
        self.endpoints.write().await.push(address.to_owned());
    }

    pub async fn leave(&self, address: &str) {
        self.endpoints.write().await.retain(|endpoint| endpoint != address);
    }

    /// Requests that were sent on a kept connection which was closed without a byte of an answer. Libraries send such a
    /// request once more, on a new connection.
    pub fn sent_again(&self) -> usize {
        self.sent_again.load(Ordering::Relaxed)
    }
}

pub struct Answer {
    pub status: u16,
    pub body: String,
    closes: bool,
}

/// Why a request has no answer.
#[derive(Debug)]
enum Lost {
    /// Not a byte of it came.
    Unanswered(#[expect(dead_code, reason = "for a panic to show")] String),
    /// Some of it did.
    Midway(String),
}

/// Calls a Service over one connection, kept for as long as the pod keeps it, whether the pod is still listed or not.
pub struct Caller<'a> {
    service: &'a Service,
    kept: Option<TcpStream>,
}

impl<'a> Caller<'a> {
    pub fn new(service: &'a Service) -> Self {
        Self { service, kept: None }
    }

    /// Panics where a call fails that no library would send again.
    pub async fn call(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: hookcache\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if let Some(kept) = self.kept.take() {
            match self.send(kept, &request).await {
                Ok(answer) => return answer,
                Err(Lost::Midway(why)) => panic!("{method} {path}: cut in its answer: {why}"),
                Err(Lost::Unanswered(_)) => self.service.sent_again.fetch_add(1, Ordering::Relaxed),
            };
        }
        let endpoints = self.service.endpoints.read().await;
        let turn = self.service.turn.fetch_add(1, Ordering::Relaxed);
        let endpoint = &endpoints[turn % endpoints.len()];
        let stream = TcpStream::connect(endpoint).await;
        let stream = stream.unwrap_or_else(|error| panic!("{method} {path}: {endpoint}: {error}"));
        self.send(stream, &request).await.unwrap_or_else(|lost| panic!("{method} {path}: {endpoint}: {lost:?}"))
    }

    /// Keeps the connection, unless it is the server's will to close it.
    async fn send(&mut self, mut stream: TcpStream, request: &str) -> Result<Answer, Lost> {
        let unanswered = |error: std::io::Error| Lost::Unanswered(error.to_string());
        stream.write_all(request.as_bytes()).await.map_err(unanswered)?;
        let (mut got, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            if let Some(answer) = parsed(&got) {
                self.kept = (!answer.closes).then_some(stream);
                return Ok(answer);
            }
            let why = match stream.read(&mut chunk).await {
                Ok(0) => "closed".to_owned(),
                Ok(length) => {
                    got.extend_from_slice(&chunk[..length]);
                    continue;
                }
                Err(error) => error.to_string(),
            };
            return Err(if got.is_empty() { Lost::Unanswered(why) } else { Lost::Midway(why) });
        }
    }
}

/// An answer with a `Content-Length`, as all are; `None` where it isn't whole yet.
fn parsed(got: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(got).expect("text");
    let (head, body) = text.split_once("\r\n\r\n")?;
    let header = |name: &str| {
        let value =
            |line: &str| line.split_once(": ").filter(|(its, _)| its.eq_ignore_ascii_case(name))?.1.to_owned().into();
        head.lines().find_map(|line| -> Option<String> { value(line) })
    };
    let length: usize = header("content-length").expect("a length").parse().expect("a number");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let closes = header("connection").is_some_and(|value| value == "close");
    (body.len() >= length).then(|| Answer { status, body: body.to_owned(), closes })
}
