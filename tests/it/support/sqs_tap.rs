//! A tap between a client and an SQS emulator: it refuses single entries of batch calls, which neither an emulator nor
//! microburst does, and it sees what passes.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::sqs_stand_in::failed;

/// Codes of a refused entry, and whether SQS calls it the sender's fault: a retry helps with each.
const REFUSALS: [(&str, bool); 2] = [("InternalError", false), ("ThrottlingException", true)];

/// Listens on a free port of 127.0.0.1 until dropped. It refuses the first delete of each receipt: who reads
/// what SQS says of single entries tries again at once, and who does not never gets rid of a message.
pub struct SqsTap {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

struct State {
    random: fastrand::Rng,
    /// The share of entries that a send refuses.
    sends: f64,
    seen: Seen,
}

/// What has passed.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub refused_sends: u64,
    pub refused_deletes: u64,
    /// By message id: the receipt of each time that it was received.
    pub received: HashMap<String, Vec<String>>,
    /// By receipt: how often its message was hidden anew.
    pub hidden: HashMap<String, u32>,
    deletes: HashSet<String>,
}

impl Seen {
    /// Receipts whose message was hidden anew twice or more: it is held, not put off.
    pub fn often_hidden(&self) -> usize {
        self.hidden.values().filter(|hidden| **hidden >= 2).count()
    }
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Send,
    Delete,
    Hide,
}

impl Operation {
    fn of(name: &str) -> Option<Self> {
        match name {
            "SendMessageBatch" => Some(Self::Send),
            "DeleteMessageBatch" => Some(Self::Delete),
            "ChangeMessageVisibilityBatch" => Some(Self::Hide),
            _ => None,
        }
    }
}

struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint_url: String,
}

impl SqsTap {
    pub async fn start(endpoint_url: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let random = fastrand::Rng::with_seed(seed);
        let state = Arc::new(Mutex::new(State { random, sends: 0.0, seen: Seen::default() }));
        let client = Client::builder(TokioExecutor::new()).build_http();
        let upstream = Arc::new(Upstream { client, endpoint_url: endpoint_url.to_owned() });
        let server = tokio::spawn(serve(listener, Arc::clone(&state), upstream));
        Self { address, state, server }
    }

    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on this share of sent entries is refused.
    pub fn refuse_sends(&self, share: f64) {
        lock(&self.state).sends = share;
    }

    pub fn seen(&self) -> Seen {
        lock(&self.state).seen.clone()
    }
}

impl Drop for SqsTap {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no holder panics")
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>, upstream: Arc<Upstream>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (state, upstream) = (Arc::clone(&state), Arc::clone(&upstream));
        let service = service_fn(move |request| pass(request, Arc::clone(&state), Arc::clone(&upstream)));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// An error of the emulator's connection ends ours.
async fn pass(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    upstream: Arc<Upstream>,
) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = request.into_parts();
    let mut body = body.collect().await?.to_bytes();
    let target = head.headers.get("x-amz-target").map_or("", |target| target.to_str().unwrap_or_default());
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let mut refused = Vec::new();
    if let Some(batch) = Operation::of(&operation) {
        let mut call: Value = serde_json::from_slice(&body)?;
        refused = lock(&state).refuse(batch, &mut call);
        if !refused.is_empty() && call["Entries"].as_array().is_none_or(Vec::is_empty) {
            return Ok(answer(StatusCode::OK, json!({ "Successful": [], "Failed": refused }).to_string().into()));
        }
        body = call.to_string().into();
    }
    let mut onward = Request::post(&upstream.endpoint_url);
    for name in ["x-amz-target", "content-type", "authorization", "x-amz-date"] {
        if let Some(value) = head.headers.get(name) {
            onward = onward.header(name, value);
        }
    }
    let (head, body) = upstream.client.request(onward.body(Full::new(body))?).await?.into_parts();
    let mut body = body.collect().await?.to_bytes();
    if operation == "ReceiveMessage" {
        lock(&state).received(&serde_json::from_slice(&body).unwrap_or_default());
    }
    if !refused.is_empty() && head.status.is_success() {
        let mut done: Value = serde_json::from_slice(&body)?;
        let mut failed = done["Failed"].as_array().cloned().unwrap_or_default();
        failed.extend(refused);
        done["Failed"] = failed.into();
        body = done.to_string().into();
    }
    Ok(answer(head.status, body))
}

fn answer(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", "application/x-amz-json-1.0");
    response.body(Full::new(body)).expect("a plain response")
}

impl State {
    /// Takes the entries out that are to fail, and returns what is to be said of them.
    fn refuse(&mut self, operation: Operation, call: &mut Value) -> Vec<Value> {
        let Some(entries) = call["Entries"].as_array_mut() else { return Vec::new() };
        let mut refused = Vec::new();
        entries.retain(|entry| {
            let passes = !self.refuses(operation, entry);
            if !passes {
                let (code, sender_fault) = REFUSALS[self.random.usize(..REFUSALS.len())];
                refused.push(failed(entry, code, sender_fault));
            }
            passes
        });
        refused
    }

    fn refuses(&mut self, operation: Operation, entry: &Value) -> bool {
        let receipt = entry["ReceiptHandle"].as_str().unwrap_or_default().to_owned();
        match operation {
            Operation::Send => {
                let refuses = self.random.f64() < self.sends;
                self.seen.refused_sends += u64::from(refuses);
                refuses
            }
            Operation::Delete => {
                let refuses = self.seen.deletes.insert(receipt);
                self.seen.refused_deletes += u64::from(refuses);
                refuses
            }
            Operation::Hide => {
                *self.seen.hidden.entry(receipt).or_default() += 1;
                false
            }
        }
    }

    fn received(&mut self, answer: &Value) {
        for message in answer["Messages"].as_array().into_iter().flatten() {
            let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
            self.seen.received.entry(text("MessageId")).or_default().push(text("ReceiptHandle"));
        }
    }
}
