//! HTTP: the accept loop, its limits, and the two planes that stand behind it.
//!
//! The data plane ([`data`]) is plain hyper over `ingest` and `serve`. The control plane is an axum router that
//! `admin` makes. Both run in the same accept loop under the same limits, and both answer the probes without a token.
//! This folder turns [`Problem`]s into answers; it knows no place, no backend and no token.
//!
//! HTTP/1.1 only: TLS and HTTP/2 are the business of whatever stands in front.
//!
//! | file | holds |
//! | --- | --- |
//! | `limits` | every limit that is not an option |
//! | `routes` | the route table of the data plane |
//! | `connection` | one connection: keep-alive, cutting slow clients, lingering close |
//! | `watch` | when a connection last moved |
//! | `body` | reading a body within its limits |
//! | `data` | the data plane's calls |
//! | `query` | what a call says in its path and its query |
//! | `proxied` | a webhook that another server has read |
//! | `answer` | answers and their headers |
//! | `probes` | health, readiness and metrics; the plane's OpenAPI document and its page |

mod answer;
mod body;
mod connection;
mod data;
pub mod limits;
mod probes;
mod proxied;
mod query;
mod routes;
mod watch;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Method, Request};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::openapi;
use crate::problem::{Code, Problem};
use crate::telemetry::Metrics;
use answer::Answer;
use limits::{ACCEPT_PAUSE, BODIES_BYTES_MAX, CONTROL_BODY_BYTES_MAX, PATH_BYTES_MAX};

pub use data::Data;
pub use probes::Probes;
pub use proxied::{refused, webhook};
pub use routes::Route;

/// What an operator may set, per listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Connections at once; further ones are answered 503 and closed.
    pub connections_max: usize,
    /// From the first byte of a request's head to its last.
    pub header_read_timeout: Duration,
    /// From the end of a request's head to the end of its body.
    pub body_read_timeout: Duration,
    /// From the end of a request's body to its answer.
    pub request_timeout: Duration,
    /// For how long a connection may move no byte while no call runs: keep-alive, and clients that don't read.
    pub idle_timeout: Duration,
    /// For how long calls may run on after the stop signal.
    pub drain_deadline: Duration,
}

/// What a listener serves.
pub enum Plane {
    Data(Box<Data>),
    /// The control plane, made by `admin`.
    Control(Router),
}

impl Plane {
    fn label(&self) -> &'static str {
        match self {
            Self::Data(_) => "data",
            Self::Control(_) => "control",
        }
    }

    /// What the plane says of itself at `/openapi.json`.
    fn document(&self) -> Bytes {
        let document = match self {
            Self::Data(data) => openapi::data(data.keys_max()),
            Self::Control(_) => openapi::control(),
        };
        document.to_string().into()
    }
}

/// What the connections of one listener share.
struct Shared {
    plane: Plane,
    document: Bytes,
    probes: Probes,
    metrics: Metrics,
    options: Options,
    /// Bytes of bodies that may be in memory at once.
    bodies: Arc<Semaphore>,
}

/// Serves a listener until the stop signal, then finishes the calls that run, then cuts what is left at the deadline.
pub async fn run(
    listener: TcpListener,
    plane: Plane,
    probes: Probes,
    metrics: Metrics,
    options: Options,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(options.connections_max));
    let drain_deadline = options.drain_deadline;
    let bodies = Arc::new(Semaphore::new(BODIES_BYTES_MAX));
    let document = plane.document();
    let shared = Arc::new(Shared { plane, document, probes, metrics, options, bodies });
    let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match (accepted, slots.clone().try_acquire_owned()) {
            (Ok((stream, _)), Ok(slot)) => {
                let serving = connection::serve(stream, shared.clone(), stop.clone());
                let cut = cut.clone();
                connections.spawn(async move {
                    let _slot = slot;
                    cut.run_until_cancelled(serving).await;
                });
            }
            (Ok((stream, _)), Err(_)) => refuse(&stream),
            // Out of file descriptors, most likely: more of them come free as connections end.
            (Err(error), _) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(drain_deadline, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "cut: not finished within the drain deadline");
        cut.cancel();
        connections.wait().await;
    }
}

/// Tells a client that there are too many. The socket is new, so its buffer takes the answer without waiting.
fn refuse(stream: &TcpStream) {
    let problem = Problem::new(Code::Overloaded, "too many connections: try again, or raise `http.connections_max`");
    let _ = stream.try_write(&answer::raw(&problem));
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let begin = Instant::now();
        let route = self.route(request.uri().path());
        let method = method_label(request.method());
        // Nothing is left half-done that another call could see: what calls share is locked for no longer than a step.
        let answered = AssertUnwindSafe(self.dispatch(route, request)).catch_unwind().await;
        let answer = answer::finish(answered.unwrap_or_else(|_| panicked(route)));
        let status = answer.status().as_u16();
        self.metrics.http_request(self.plane.label(), route.label(), method, status, begin.elapsed());
        answer
    }

    fn route(&self, path: &str) -> Route {
        match (&self.plane, Route::of(path)) {
            (_, route) if route.is_probe() => route,
            (Plane::Data(_), route) => route,
            (Plane::Control(_), _) => Route::Control,
        }
    }

    async fn dispatch(&self, route: Route, request: Request<Incoming>) -> Answer {
        let uri_bytes = request.uri().path_and_query().map_or(0, |text| text.as_str().len());
        if uri_bytes > PATH_BYTES_MAX {
            let problem = Problem::new(Code::PathTooLong, "the path and its query are too long");
            return answer::problem(&problem.with_size(PATH_BYTES_MAX as u64, uri_bytes as u64));
        }
        if !route.allows(request.method()) {
            return answer::method_not_allowed(route.methods());
        }
        match &self.plane {
            _ if route.is_probe() => self.probe(route).await,
            Plane::Data(data) => data.call(route, request, self).await,
            Plane::Control(router) => self.control(router, request).await,
        }
    }

    async fn control(&self, router: &Router, request: Request<Incoming>) -> Answer {
        let request = request.map(|body| Limited::new(body, CONTROL_BODY_BYTES_MAX));
        let call = TowerToHyperService::new(router.clone()).call(request);
        match timeout(self.options.body_read_timeout + self.options.request_timeout, call).await {
            Ok(Ok(response)) => response.map(http_body_util::Either::Right),
            Ok(Err(never)) => match never {},
            Err(_) => answer::problem(&timed_out()),
        }
    }
}

/// The panic's own words went to the log by the panic hook; they may hold anything, so the caller is not told.
fn panicked(route: Route) -> Answer {
    tracing::error!(route = route.label(), "a call panicked");
    answer::problem(&Problem::new(Code::Internal, "a fault of the server, which its log tells more of"))
}

fn timed_out() -> Problem {
    Problem::new(Code::TimedOut, "the call took longer than `http.request_timeout`; it may have had its effect")
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// The webhook key in a path. For the fuzzer: the data plane alone reads paths.
#[cfg(fuzzing)]
pub fn key(path: &str) -> Option<String> {
    query::key(path).ok()
}
