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
//! | `lanes` | on which threads connections are served |
//! | `connection` | one connection: keep-alive, cutting slow clients, lingering close |
//! | `socket` | what hyper reads and writes |
//! | `watch` | when a connection last moved |
//! | `body` | reading a body within its limits |
//! | `data` | the data plane's calls |
//! | `query` | what a call says in its path and its query |
//! | `proxied` | a webhook that another server has read |
//! | `prefer`, `hold` | gets that wait for news |
//! | `answer` | answers and their headers |
//! | `probes` | health, readiness and metrics; the plane's OpenAPI document and its page |

mod answer;
mod body;
mod connection;
mod data;
mod hold;
mod lanes;
pub mod limits;
mod prefer;
mod probes;
mod proxied;
mod query;
mod routes;
mod socket;
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
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::openapi;
use crate::problem::{Code, Problem};
use crate::telemetry::{Meter, Metrics};
use answer::Answer;
use lanes::{Count, Lane};
use limits::{ACCEPT_PAUSE, BODIES_BYTES_MAX, CONTROL_BODY_BYTES_MAX, PATH_BYTES_MAX};
use socket::Peer;

pub use data::Data;
pub use lanes::{Lanes, Threads, Workers};
pub use probes::{Probes, Readiness};
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
    /// For how long after it, within that, a connection on which none runs is kept for one more.
    pub close_delay: Duration,
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

/// What the connections of one lane share.
struct Shared {
    plane: Plane,
    document: Bytes,
    probes: Probes,
    metrics: Metrics,
    /// Of this lane alone.
    meter: Meter,
    options: Options,
    /// Bytes of bodies that may be in memory at once, on all lanes.
    bodies: Arc<Semaphore>,
    /// Gets that may be held for news at once, on all lanes.
    held: Arc<Semaphore>,
    /// Of this lane alone, as each wait for it takes a lock, for which other threads had better not wait.
    stop: CancellationToken,
    /// Of this lane alone, too: ends its connections at once.
    cut: CancellationToken,
    /// Where calls are answered that take a while of a core, so that no get waits behind them; `None`: here.
    elsewhere: Option<Handle>,
}

/// A lane as the accept loop sees it.
struct Open {
    shared: Arc<Shared>,
    runtime: Handle,
    count: Count,
}

/// Serves a listener until the stop signal, then finishes the calls that run and those that are just being sent, then cuts
/// what is left at the deadline.
pub async fn run(
    listener: TcpListener,
    lanes: impl Into<Lanes>,
    probes: Probes,
    metrics: Metrics,
    options: Options,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(options.connections_max));
    let drain_deadline = options.drain_deadline;
    let bodies = Arc::new(Semaphore::new(BODIES_BYTES_MAX));
    let held = Arc::new(Semaphore::new(hold::places(options.connections_max)));
    let (connections, cut, here) = (TaskTracker::new(), CancellationToken::new(), Handle::current());
    let open = |Lane { plane, runtime }: Lane| {
        let (document, elsewhere) = (plane.document(), runtime.is_some().then(|| here.clone()));
        let (probes, options) = (probes.clone(), options.clone());
        let (metrics, meter) = (metrics.clone(), metrics.meter());
        let (bodies, held) = (bodies.clone(), held.clone());
        let (stop, cut) = (stop.child_token(), cut.child_token());
        let shared = Shared { plane, document, probes, metrics, meter, options, bodies, held, stop, cut, elsewhere };
        let (runtime, count) = (runtime.unwrap_or_else(|| here.clone()), Count::default());
        Open { shared: Arc::new(shared), runtime, count }
    };
    let lanes: Vec<Open> = lanes.into().0.into_iter().map(open).collect();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match (accepted, slots.clone().try_acquire_owned()) {
            (Ok((stream, _)), Ok(slot)) => {
                if let Some(lane) = lanes.iter().min_by_key(|lane| lane.count.get()) {
                    lane.take(stream, slot, &connections);
                }
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

impl Open {
    /// Serves a connection on this lane.
    fn take(&self, stream: TcpStream, slot: OwnedSemaphorePermit, connections: &TaskTracker) {
        let (shared, counted) = (self.shared.clone(), self.count.one());
        // A socket belongs to the runtime that watches it, and fails to change hands only where that is out of memory.
        let Ok(stream) = stream.into_std() else { return };
        let serving = async move {
            let (_slot, _counted) = (slot, counted);
            if let Ok(stream) = TcpStream::from_std(stream) {
                connection::serve(stream, shared).await;
            }
        };
        connections.spawn_on(serving, &self.runtime);
    }
}

/// Tells a client that there are too many. The socket is new, so its buffer takes the answer without waiting.
fn refuse(stream: &TcpStream) {
    let problem = Problem::new(Code::Overloaded, "too many connections: try again, or raise `http.connections_max`");
    let _ = stream.try_write(&answer::raw(&problem));
}

impl Shared {
    fn is_get(&self, request: &Request<Incoming>) -> bool {
        matches!(self.plane, Plane::Data(_)) && self.route(request.uri().path()).is_quick(request.method())
    }

    /// The answer to a get of one key; [`Shared::answer`] without what other calls need.
    async fn answer_get(self: Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Answer {
        let call = Call::begins(Route::Key, request.method());
        let answering = async {
            match (&self.plane, too_long(&request)) {
                (Plane::Data(data), None) => data.get(&request, &self, &peer).await,
                (Plane::Data(_), Some(answer)) => answer,
                (Plane::Control(_), _) => answer::problem(&Problem::new(Code::NoSuchRoute, "no entries are here")),
            }
        };
        let answered = AssertUnwindSafe(answering).catch_unwind().await;
        self.told(call, answered.unwrap_or_else(|_| panicked(Route::Key)))
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let call = Call::begins(self.route(request.uri().path()), request.method());
        let answer = match &self.elsewhere {
            Some(elsewhere) => {
                let shared = self.clone();
                let answering = elsewhere.spawn(async move { shared.answer_here(call.route, request).await });
                // Whoever hangs up ends the call, as on its own thread.
                AbortOnDropHandle::new(answering).await.unwrap_or_else(|_| panicked(call.route))
            }
            None => self.answer_here(call.route, request).await,
        };
        self.told(call, answer)
    }

    async fn answer_here(&self, route: Route, request: Request<Incoming>) -> Answer {
        // Nothing is left half-done that another call could see: what calls share is locked for no longer than a step.
        let answered = AssertUnwindSafe(self.dispatch(route, request)).catch_unwind().await;
        answered.unwrap_or_else(|_| panicked(route))
    }

    /// Finishes an answer, and counts it.
    fn told(&self, Call { begin, route, method }: Call, answer: Answer) -> Answer {
        let answer = answer::finish(answer);
        // A time that the caller asked for would hide how long the others take.
        let route = if prefer::was_applied(&answer) { prefer::LABEL } else { route.label() };
        self.meter.request(self.plane.label(), route, method, answer.status().as_u16(), begin.elapsed());
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
        if let Some(answer) = too_long(&request) {
            return answer;
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

/// A call, as the metrics know it.
struct Call {
    begin: Instant,
    route: Route,
    method: &'static str,
}

impl Call {
    fn begins(route: Route, method: &Method) -> Self {
        Self { begin: Instant::now(), route, method: method_label(method) }
    }
}

fn too_long(request: &Request<Incoming>) -> Option<Answer> {
    let uri_bytes = request.uri().path_and_query().map_or(0, |text| text.as_str().len());
    (uri_bytes > PATH_BYTES_MAX).then(|| {
        let problem = Problem::new(Code::PathTooLong, "the path and its query are too long");
        answer::problem(&problem.with_size(PATH_BYTES_MAX as u64, uri_bytes as u64))
    })
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
