//! A stand-in of the Lambda Runtime API, version 2018-06-01: one invocation at a time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::support::{DEADLINE, eventually};

const INVOCATION: &str = "/2018-06-01/runtime/invocation/";
const INIT_ERROR: &str = "/2018-06-01/runtime/init/error";

/// How an invocation ended.
#[derive(Debug)]
pub enum Outcome {
    /// What the function returned, byte for byte.
    Answered(Bytes),
    /// It reported an error in place of an answer: the whole batch failed.
    Failed(Value),
    TimedOut,
}

/// What Lambda itself would never answer to a function that asks for its next invocation.
#[derive(Debug, Clone, Copy)]
pub enum Spoiled {
    NoRequestId,
    NoDeadline,
    OddDeadline,
    NotJson,
    NotAnEvent,
    ServerError,
}

/// Listens on a free port of 127.0.0.1 until dropped.
pub struct RuntimeApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    /// What the next question is answered with.
    next: watch::Sender<Option<Answer>>,
    /// How many wait for an invocation: one at most, but for a moment after a kill.
    polls: watch::Sender<u64>,
    open: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
    count: Mutex<u64>,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl RuntimeApi {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            next: watch::Sender::new(None),
            polls: watch::Sender::new(0),
            open: Mutex::default(),
            count: Mutex::default(),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, server }
    }

    /// For `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Hands one event to the function, and waits until it is done with it, or until its time is over.
    pub async fn invoke(&self, event: &Value, timeout: Duration) -> Outcome {
        let id = {
            let mut count = lock(&self.shared.count);
            *count += 1;
            format!("00000000-0000-4000-8000-{count:012}")
        };
        let (done, outcome) = oneshot::channel();
        lock(&self.shared.open).insert(id.clone(), done);
        let body = Bytes::from(event.to_string());
        self.shared.next.send_replace(Some(Answer { status: StatusCode::OK, headers: headers(&id, timeout), body }));
        match tokio::time::timeout(timeout, outcome).await {
            Ok(Ok(outcome)) => outcome,
            _ => {
                self.forget();
                Outcome::TimedOut
            }
        }
    }

    /// Waits until it is taken.
    pub async fn spoil(&self, spoiled: Spoiled) {
        let mut headers = headers("spoiled", DEADLINE);
        let (mut status, mut body) = (StatusCode::OK, Bytes::from_static(br#"{"Records":[]}"#));
        let without = |headers: &mut Vec<(&'static str, String)>, name| headers.retain(|(of, _)| *of != name);
        match spoiled {
            Spoiled::NoRequestId => without(&mut headers, REQUEST_ID),
            Spoiled::NoDeadline => without(&mut headers, DEADLINE_MS),
            Spoiled::OddDeadline => {
                without(&mut headers, DEADLINE_MS);
                headers.push((DEADLINE_MS, "soon".to_owned()));
            }
            Spoiled::NotJson => body = Bytes::from_static(b"{\"Records\":["),
            Spoiled::NotAnEvent => body = Bytes::from_static(br#"{"Records":[{"messageId":7}]}"#),
            Spoiled::ServerError => status = StatusCode::INTERNAL_SERVER_ERROR,
        }
        self.shared.next.send_replace(Some(Answer { status, headers, body }));
        eventually("the answer is taken", || async { self.shared.next.borrow().is_none().then_some(()) }).await;
    }

    /// Whatever was under way is over: its function is gone.
    pub fn forget(&self) {
        self.shared.next.send_replace(None);
        lock(&self.shared.open).clear();
    }

    /// Does a function wait for its next invocation?
    pub fn is_polled(&self) -> bool {
        *self.shared.polls.borrow() > 0
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

const REQUEST_ID: &str = "lambda-runtime-aws-request-id";
const DEADLINE_MS: &str = "lambda-runtime-deadline-ms";

fn headers(id: &str, timeout: Duration) -> Vec<(&'static str, String)> {
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") + timeout;
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:hookcache";
    vec![
        (REQUEST_ID, id.to_owned()),
        (DEADLINE_MS, deadline.as_millis().to_string()),
        ("lambda-runtime-invoked-function-arn", arn.to_owned()),
        ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419".to_owned()),
    ]
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("no holder panics")
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = head.uri.path();
    let call = path.strip_prefix(INVOCATION).unwrap_or_default();
    let accepted = json!({ "status": "OK" }).to_string().into();
    Ok(match (head.method, call.rsplit_once('/')) {
        (Method::GET, None) if call == "next" => {
            let Answer { status, headers, body } = shared.next().await;
            let mut response = Response::builder().status(status).header("content-type", "application/json");
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Full::new(body)).expect("a plain response")
        }
        (Method::POST, Some((id, "response"))) => reply(shared.done(id, Outcome::Answered(body)), accepted),
        (Method::POST, Some((id, "error"))) => {
            let report = serde_json::from_slice(&body).unwrap_or_default();
            reply(shared.done(id, Outcome::Failed(report)), accepted)
        }
        (Method::POST, None) if path == INIT_ERROR => reply(StatusCode::ACCEPTED, accepted),
        _ => reply(StatusCode::NOT_FOUND, Bytes::new()),
    })
}

fn reply(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(body)).expect("a plain response")
}

/// Counts a question for as long as it waits, also where its connection ends before.
struct Poll<'a>(&'a watch::Sender<u64>);

impl<'a> Poll<'a> {
    fn begin(polls: &'a watch::Sender<u64>) -> Self {
        polls.send_modify(|count| *count += 1);
        Self(polls)
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Shared {
    async fn next(&self) -> Answer {
        let _poll = Poll::begin(&self.polls);
        let mut next = self.next.subscribe();
        loop {
            // Whoever comes first takes it.
            let mut taken = None;
            self.next.send_if_modified(|next| {
                taken = next.take();
                taken.is_some()
            });
            if let Some(answer) = taken {
                return answer;
            }
            next.wait_for(Option::is_some).await.expect("the sender is in this very struct");
        }
    }

    /// Lambda refuses what comes after the timeout, as it belongs to no invocation.
    fn done(&self, id: &str, outcome: Outcome) -> StatusCode {
        match lock(&self.open).remove(id).map(|done| done.send(outcome)) {
            Some(Ok(())) => StatusCode::ACCEPTED,
            _ => StatusCode::GONE,
        }
    }
}
