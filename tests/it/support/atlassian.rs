//! Atlassian, as far as tokens go: its own libraries make and check them, and a server hands out its public keys.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{repository, tool};

/// A library in a process of its own.
pub struct Library {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Library {
    /// npm's `atlassian-jwt`, and Node's RSA keys.
    pub fn node() -> Self {
        tool("npm/node_modules/atlassian-jwt");
        Self::start(Command::new("node").arg(repository().join("tests/tools/tokens.js")))
    }

    /// PyPI's `atlassian-jwt` over PyJWT.
    pub fn python() -> Self {
        let script = repository().join("tests/tools/tokens.py");
        Self::start(Command::new(tool("venv/bin/python")).arg("-W").arg("ignore").arg(script))
    }

    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let (to, from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, to, from: BufReader::new(from) }
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.to, "{request}").expect("it reads");
        let mut line = String::new();
        self.from.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?} to {request}"))
    }

    /// The answer; panics with the library's error.
    fn done(&mut self, request: &Value) -> Value {
        let answer = self.ask(request);
        assert!(answer["error"].is_null(), "{answer} to {request}");
        answer
    }

    /// A token. `request` has `claims`, and what to sign them with: `secret`, or `key` and `kid`; with a `call`
    /// (`method`, `url`) its hash is among the claims.
    pub fn token(&mut self, mut request: Value) -> String {
        request["operation"] = "sign".into();
        self.done(&request)["token"].as_str().expect("a token").to_owned()
    }

    /// Claims of a token that it takes for signed, for this call.
    pub fn verified(&mut self, token: &str, secret: &str, method: &str, url: &str) -> Result<Value, String> {
        let call = json!({"method": method, "url": url});
        let answer = self.ask(&json!({"operation": "verify", "token": token, "secret": secret, "call": call}));
        match &answer["error"] {
            Value::Null => Ok(answer["claims"].clone()),
            error => Err(error.to_string()),
        }
    }

    /// The public half of a key pair of that name: its PEM, and its JWK.
    pub fn key(&mut self, name: &str, bits: u32) -> (String, Value) {
        let answer = self.done(&json!({"operation": "key", "name": name, "bits": bits}));
        (answer["pem"].as_str().expect("PEM").to_owned(), answer["jwk"].clone())
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // Both fail only where the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the key server holds.
#[derive(Default)]
struct Held {
    /// PEM, by name.
    installs: BTreeMap<String, String>,
    /// JWKs.
    set: Vec<Value>,
    /// In place of every answer.
    status: Option<u16>,
    /// The path of each call.
    calls: Vec<String>,
}

/// `connect-install-keys.atlassian.com` and Forge's JWK set, on a free port of 127.0.0.1 until dropped.
pub struct KeyServer {
    address: std::net::SocketAddr,
    held: Arc<Mutex<Held>>,
    server: JoinHandle<()>,
}

impl KeyServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let held = Arc::<Mutex<Held>>::default();
        let server = tokio::spawn(serve(listener, Arc::clone(&held)));
        Self { address, held, server }
    }

    pub fn installs_url(&self) -> String {
        format!("http://{}/installs", self.address)
    }

    pub fn set_url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no holder panics")
    }

    pub fn hold_install_key(&self, name: &str, pem: String) {
        self.held().installs.insert(name.to_owned(), pem);
    }

    /// Names the JWK, and adds it to the set.
    pub fn hold_in_set(&self, name: &str, mut jwk: Value) {
        (jwk["kid"], jwk["use"], jwk["alg"]) = (name.into(), "sig".into(), "RS256".into());
        self.held().set.push(jwk);
    }

    /// Answers everything with a status; `None`: as it should.
    pub fn answer_all_with(&self, status: Option<u16>) {
        self.held().status = status;
    }

    pub fn calls(&self) -> Vec<String> {
        self.held().calls.clone()
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, held: Arc<Mutex<Held>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let held = Arc::clone(&held);
        let service = service_fn(move |request: Request<Incoming>| {
            let (status, body) = reply(&mut held.lock().expect("no holder panics"), request.uri().path());
            let response = Response::builder().status(status).body(Full::new(Bytes::from(body)));
            std::future::ready(Ok::<_, Infallible>(response.expect("a plain response")))
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn reply(held: &mut Held, path: &str) -> (u16, String) {
    held.calls.push(path.to_owned());
    if let Some(status) = held.status {
        return (status, "out of order".to_owned());
    }
    if path == "/jwks.json" {
        return (200, json!({ "keys": held.set }).to_string());
    }
    match path.strip_prefix("/installs/").and_then(|name| held.installs.get(name)) {
        Some(pem) => (200, pem.clone()),
        None => (404, "not found".to_owned()),
    }
}
