//! The whole: the one file (and folder) that knows everyone.
//!
//! It opens the places that the roles need, joins them with the movers, listens, and stops in reverse. Both listeners
//! run in every process, since `/healthz`, `/readyz` and `/metrics` are there in every process; calls of a role that
//! doesn't run are answered 404 `no-such-route`.
//!
//! | file | holds |
//! | --- | --- |
//! | `places` | opening buffer, store, registry and the queue of page links |
//! | `page_links` | joining what reads pages |
//! | `health` | readiness, and the depth of the buffer |
//! | `checks` | what `doctor` finds of the places, for it and at every start |

pub mod checks;
mod health;
mod page_links;
mod places;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin, Desk, Shelf};
use crate::buffer::{DeadLetters, Taker};
use crate::config::reload::{Live, Reloader};
use crate::config::{Config, Loaded, Role, Sources};
use crate::consumer::{Consumer, Policy, RuleSource, Rulings};
use crate::envelope::{Clock, Stamper};
use crate::hooks::Hooks;
use crate::http::{self, Data, Lanes, Plane, Probes, Workers};
use crate::ingest::Ingest;
use crate::serve::Serve;
use crate::store::Catalog;
use crate::telemetry::Metrics;

use health::{Health, Needs};
use page_links::Joint;
use places::Places;
pub use places::{uses_buffer, uses_page_links, uses_store};

/// Why it can't start. The text says who must act, and names the key where it is one of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{key}: can't listen on {address} ({error}); stop what listens there, or choose another with {flag}")]
    Listen { key: &'static str, flag: &'static str, address: SocketAddr, error: std::io::Error },
    #[error("{0}")]
    Data(String),
    #[error("{0}")]
    Buffer(String),
    #[error("{0}")]
    Store(String),
    #[error("{0}")]
    Registry(String),
    #[error("{0}")]
    PageLinks(String),
    /// What `doctor` calls dangerous.
    #[error("{0}")]
    Refused(String),
    #[error("signals can't be caught: {0}")]
    Signals(std::io::Error),
    #[error("the system gives no threads: {0}")]
    Threads(std::io::Error),
}

/// Appends whose callers have gone may take this long to end after the last call: a commit takes milliseconds, a send to
/// SQS with its one repetition some seconds.
const APPENDS_DEADLINE: Duration = Duration::from_secs(10);

/// A running server.
pub struct App {
    data_address: SocketAddr,
    control_address: SocketAddr,
    /// Cancelled when a part has ended that should not.
    broken: CancellationToken,
    stopping: CancellationToken,
    data: Part,
    ingest: Option<Ingest>,
    hooks: Option<Hooks>,
    consumer: Option<Part>,
    /// What reads pages: they put into the buffer, so they stop before the consumer.
    page_links: Vec<Part>,
    reloader: Part,
    control: Part,
    /// Ends when all else has.
    _workers: Workers,
}

/// A task with a stop signal of its own.
struct Part {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Part {
    fn start<F: Future<Output = ()> + Send + 'static>(
        broken: &CancellationToken,
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Self {
        let stop = CancellationToken::new();
        // Dropped at the task's end, however it comes to it.
        let (guard, running) = (broken.clone().drop_guard(), run(stop.clone()));
        let task = tokio::spawn(async move {
            running.await;
            drop(guard);
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a part did not end in peace");
        }
    }
}

impl App {
    /// Listens and works when it returns.
    pub async fn start(loaded: Loaded, sources: Sources, clock: Clock) -> Result<Self, StartError> {
        let config = loaded.config.clone();
        // First of all, as it is what fails most often, and touches nothing.
        let data_listener = listen("listen", "--listen", config.listen).await?;
        let control_listener = listen("admin_listen", "--admin-listen", config.admin_listen).await?;
        let data_address = data_listener.local_addr().unwrap_or(config.listen);
        let control_address = control_listener.local_addr().unwrap_or(config.admin_listen);

        let live = Live::new(&config);
        let reloader = Reloader::new(live.clone(), sources, loaded).map_err(StartError::Signals)?;
        let metrics = Metrics::new();
        checks::before_start(&config).await?;
        let places = Places::open(&config, &clock).await?;
        let (stopping, broken) = (CancellationToken::new(), CancellationToken::new());

        let consumer = consumer(&config, &places, &live, &metrics, &clock);
        let serve = serve(&config, &places, &live, &metrics, &clock);
        let needs = Needs {
            appender: places
                .buffer
                .as_ref()
                .filter(|_| config.roles.has(Role::Set))
                .map(|(appender, _)| appender.clone()),
            reader: places.store.as_ref().filter(|_| config.roles.has(Role::Get)).map(|(_, reader, _)| reader.clone()),
            serve: serve.clone(),
            consumer: places
                .store
                .as_ref()
                .zip(consumer.as_ref())
                .map(|((writer, ..), consumer)| (writer.clone(), consumer.breaker())),
            taker: places.buffer.as_ref().map(|(_, taker)| taker.clone()),
            page_links: page_links::needs(&config, &places),
        };
        let probes = probes(Health::new(needs, metrics.clone(), stopping.clone()));
        let ingest = ingest(&config, &places, &live, &metrics, &clock);
        let joint = Joint { config: &config, places: &places, metrics: &metrics, clock: &clock, broken: &broken };
        let hooks = page_links::hooks(&joint);
        let workers = Workers::start(config.threads.own()).map_err(StartError::Threads)?;
        let data = Lanes::on(&workers, || {
            let serve = serve.as_ref().map(Serve::for_this_runtime);
            let links = page_links::links(&config, serve.as_ref());
            Plane::Data(Box::new(Data { ingest: ingest.clone(), serve, links, hooks: hooks.clone() }))
        });
        let control = Plane::Control(control_plane(&joint, &live));
        let page_links = page_links::start(&joint)?;
        drop((places, serve));

        let plane = |listener, lanes: Lanes| {
            let (probes, metrics, options) = (probes.clone(), metrics.clone(), config.http.clone());
            Part::start(&broken, |stop| http::run(listener, lanes, probes, metrics, options, stop))
        };
        let reload_metrics = metrics.clone();
        Ok(Self {
            data: plane(data_listener, data),
            ingest,
            hooks,
            control: plane(control_listener, control.into()),
            consumer: consumer.map(|consumer| Part::start(&broken, |stop| consumer.run(stop))),
            page_links,
            reloader: Part::start(&broken, |stop| {
                reloader.run(stop, move |result| reload_metrics.reloaded(result.is_ok()))
            }),
            data_address,
            control_address,
            stopping,
            broken,
            _workers: workers,
        })
    }

    pub fn data_address(&self) -> SocketAddr {
        self.data_address
    }

    pub fn control_address(&self) -> SocketAddr {
        self.control_address
    }

    /// Returns when a part has ended though nobody stopped it: a fault of the program.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Stops in reverse: not ready any more, no new calls and the running ones finished, then the appends that outlive
    /// their calls, what reads pages, the consumer, and the probes. Each within its own deadline. The places are closed when it returns,
    /// unless a deadline was too short.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.data.stop().await;
        // An append outlasts a connection that was cut: what the buffer may hold is never half-sent.
        if let Some(ingest) = self.ingest
            && timeout(APPENDS_DEADLINE, ingest.finish()).await.is_err()
        {
            tracing::warn!("some appends did not end in time; none of them was answered as accepted");
        }
        if let Some(hooks) = self.hooks
            && timeout(APPENDS_DEADLINE, hooks.finish()).await.is_err()
        {
            tracing::warn!("some webhooks were not seen to their end in time; none of them was answered as accepted");
        }
        futures_util::future::join_all(self.page_links.into_iter().map(Part::stop)).await;
        if let Some(consumer) = self.consumer {
            consumer.stop().await;
        }
        self.reloader.stop().await;
        self.control.stop().await;
    }
}

async fn listen(key: &'static str, flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::Listen { key, flag, address, error })
}

fn consumer(config: &Config, places: &Places, live: &Live, metrics: &Metrics, clock: &Clock) -> Option<Consumer> {
    let ((_, taker), (writer, _, book)) = (places.buffer.as_ref()?, places.store.as_ref()?);
    if !config.roles.has(Role::Consume) {
        return None;
    }
    let live = live.clone();
    let policy = Policy::from_fn(move || Rulings { rules: live.rules.load_full(), grants: live.auth.grants() });
    let rules = RuleSource::new(policy, book.clone());
    let (taker, writer, metrics) = (taker.clone(), writer.clone(), metrics.clone());
    Some(Consumer::new(taker, writer, rules, metrics, config.consumer.clone(), clock.clone()))
}

fn ingest(config: &Config, places: &Places, live: &Live, metrics: &Metrics, clock: &Clock) -> Option<Ingest> {
    let (appender, _) = places.buffer.as_ref().filter(|_| config.roles.has(Role::Set))?;
    let stamper = Stamper::new(clock.clone());
    Some(Ingest::new(appender.clone(), live.auth.clone(), stamper, &config.limits, metrics.clone()))
}

fn serve(config: &Config, places: &Places, live: &Live, metrics: &Metrics, clock: &Clock) -> Option<Serve> {
    let (_, reader, _) = places.store.as_ref().filter(|_| config.roles.has(Role::Get))?;
    let (memory, auth) = (config.get.cache.memory(), live.auth.clone());
    Some(Serve::new(reader.clone(), memory, auth, config.get.max_age, clock.clone(), metrics.clone()))
}

fn control_plane(joint: &Joint<'_>, live: &Live) -> axum::Router {
    let Joint { config, places, clock, .. } = *joint;
    match places.store.as_ref().filter(|_| config.roles.has(Role::Admin)) {
        Some((writer, _, book)) => {
            let (auth, rules) = (live.auth.clone(), live.rules.clone());
            let desk = |(_, taker): &(_, Taker)| Desk::new(DeadLetters::of(taker), clock.clone());
            let dead_letters = places.buffer.as_ref().map(desk);
            let shelf = Shelf::new(Catalog::of(writer), clock.clone());
            let page_links = page_links::admin(joint);
            Admin { auth, rules, book: book.clone(), dead_letters, shelf, page_links }.router()
        }
        None => admin::nothing(),
    }
}

fn probes(health: Health) -> Probes {
    let health = Arc::new(health);
    let of_ready = health.clone();
    Probes {
        readiness: Arc::new(move || {
            let health = of_ready.clone();
            Box::pin(async move { health.readiness().await })
        }),
        metrics_text: Arc::new(move || {
            let health = health.clone();
            Box::pin(async move { health.metrics().await })
        }),
    }
}
