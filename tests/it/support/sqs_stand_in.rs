//! A stand-in for SQS that answers as a test tells it: with partial failures, errors, or never.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What to answer to one call.
pub enum Answer {
    Json(Value),
    /// A status, and an error code such as `QueueDoesNotExist`.
    Error(u16, &'static str),
    /// The connection stays open, and nothing comes.
    Silence,
}

type Calls = Arc<Mutex<Vec<(String, Value)>>>;

/// Listens on a free port of 127.0.0.1 until dropped.
pub struct SqsStandIn {
    address: std::net::SocketAddr,
    calls: Calls,
    server: JoinHandle<()>,
}

impl SqsStandIn {
    /// `answer` is given the operation, such as `SendMessageBatch`, and its JSON.
    pub async fn start(answer: impl Fn(&str, &Value) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (calls, answer) = (Calls::default(), Arc::new(answer));
        let server = tokio::spawn(serve(listener, Arc::clone(&calls), answer));
        Self { address, calls, server }
    }

    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn queue_url(&self, name: &str) -> String {
        format!("http://{}/000000000000/{name}", self.address)
    }

    /// The JSON of every call of one operation, in the order of their coming.
    pub fn calls(&self, operation: &str) -> Vec<Value> {
        let calls = self.calls.lock().expect("no holder panics");
        calls.iter().filter(|(name, _)| name == operation).map(|(_, call)| call.clone()).collect()
    }
}

impl Drop for SqsStandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Every entry of a batch call did what it should.
pub fn all_successful(call: &Value) -> Answer {
    let entries = call["Entries"].as_array().cloned().unwrap_or_default();
    Answer::Json(json!({ "Successful": entries.iter().map(successful).collect::<Vec<_>>(), "Failed": [] }))
}

/// One line of a `Successful` list.
pub fn successful(entry: &Value) -> Value {
    json!({ "Id": entry["Id"], "MessageId": format!("m{}", entry["Id"]), "MD5OfMessageBody": "" })
}

/// One line of a `Failed` list.
pub fn failed(entry: &Value, code: &str, sender_fault: bool) -> Value {
    json!({ "Id": entry["Id"], "Code": code, "SenderFault": sender_fault, "Message": "" })
}

async fn serve<A>(listener: TcpListener, calls: Calls, answer: Arc<A>)
where
    A: Fn(&str, &Value) -> Answer + Send + Sync + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (calls, answer) = (Arc::clone(&calls), Arc::clone(&answer));
        let service = service_fn(move |request| reply(request, Arc::clone(&calls), Arc::clone(&answer)));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn reply<A>(request: Request<Incoming>, calls: Calls, answer: Arc<A>) -> Result<Response<Full<Bytes>>, Infallible>
where
    A: Fn(&str, &Value) -> Answer,
{
    let target = request.headers().get("x-amz-target").map_or("", |target| target.to_str().unwrap_or_default());
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let call = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let answer = answer(&operation, &call);
    calls.lock().expect("no holder panics").push((operation, call));
    let (status, body) = match answer {
        Answer::Json(body) => (200, body),
        Answer::Error(status, code) => {
            (status, json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": "" }))
        }
        Answer::Silence => std::future::pending().await,
    };
    let response = Response::builder().status(status).header("content-type", "application/x-amz-json-1.0");
    Ok(response.body(Full::new(body.to_string().into())).expect("a plain response"))
}
