//! The pages worker between a registry, two embedded buffers and the stand-in for Confluence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hookcache::buffer::{self, Appender, Depth, Receipt, Taker, embedded};
use hookcache::confluence::{self, Confluence, Credential, Product};
use hookcache::envelope::{Account, Action, Clock, Envelope, SiteId, Stamp, Stamper, wire};
use hookcache::outbound::Outbound;
use hookcache::page::Archived;
use hookcache::pages::{Options, Pages, Parts};
use hookcache::registry::{JoinedBy, Joining, Key, PageRow, Registry, Site, SiteState};
use hookcache::source::confluence::{EventName, PageTask, What};
use hookcache::telemetry::Metrics;
use serde_json::Value;
use sqlx::{Connection, SqliteConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::confluence::ConfluenceStandIn;
use crate::support::stack::series;
use crate::support::{DEADLINE, TempDir, dead_letters, eventually};

const BYTES_MAX: u64 = 1 << 30;

/// How a test wants the worker.
#[derive(Clone)]
pub struct Wanted {
    pub options: Options,
    pub archived: Archived,
    pub client: confluence::Options,
    /// What the road may hold.
    pub road_bytes_max: u64,
    /// For how long what is taken stays hidden.
    pub visibility: Duration,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            options: Options {
                tasks_in_hand_max: 16,
                reads_per_site_max: 4,
                attempts_max: 10,
                drain_deadline: DEADLINE,
            },
            archived: Archived::Hide,
            client: confluence::Options {
                requests_at_once: 4,
                requests_per_second: 1_000,
                request_timeout: DEADLINE,
                answer_bytes_max: 40 << 20,
            },
            road_bytes_max: BYTES_MAX,
            // Longer than any test: until it is put off or given back.
            visibility: Duration::from_secs(600),
        }
    }
}

pub struct Stage {
    pub stand_in: ConfluenceStandIn,
    pub registry: Registry,
    pub queue: Appender,
    tasks: Taker,
    pub road: Appender,
    pub envelopes: Taker,
    pub metrics: Metrics,
    wanted: Wanted,
    stamper: Stamper,
    /// How far the clock is ahead, milliseconds.
    ahead_ms: Arc<AtomicU64>,
    worker: Option<(CancellationToken, JoinHandle<()>)>,
    folder: TempDir,
}

impl Stage {
    /// With one active site, `acme`, on Cloud. The worker does not work yet.
    pub async fn set(wanted: Wanted) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let options = hookcache::registry::Options::Sqlite {
            path: folder.path().join("registry.db"),
            key: Key::MadeAtFirst(folder.path().join("registry.key")),
        };
        let registry = Registry::open(options).await.expect("a new registry");
        let (queue, tasks) = open(&folder, "pages.redb", &wanted, BYTES_MAX);
        let (road, envelopes) = open(&folder, "buffer.redb", &wanted, wanted.road_bytes_max);
        let ahead_ms = Arc::<AtomicU64>::default();
        let stage = Self {
            stand_in: ConfluenceStandIn::start().await,
            registry,
            queue,
            tasks,
            road,
            envelopes,
            metrics: Metrics::new(),
            wanted,
            stamper: Stamper::new(clock_ahead(&ahead_ms)),
            ahead_ms,
            worker: None,
            folder,
        };
        stage.join("acme", Product::Cloud, JoinedBy::Operator).await;
        stage
    }

    /// The same, at work.
    pub async fn at_work(wanted: Wanted) -> Self {
        let mut stage = Self::set(wanted).await;
        stage.work();
        stage
    }

    pub fn work(&mut self) {
        let outbound = Outbound::new(DEADLINE, &[]).expect("no authorities, none wrong");
        let clock = self.clock();
        let parts = Parts {
            registry: self.registry.clone(),
            confluence: Confluence::new(outbound, self.wanted.client.clone(), clock.clone()),
            queue: self.queue.clone(),
            taker: self.tasks.clone(),
            road: self.road.clone(),
            archived: self.wanted.archived,
            metrics: self.metrics.clone(),
            clock,
        };
        let (pages, stop) = (Pages::new(parts, self.wanted.options.clone()), CancellationToken::new());
        self.worker = Some((stop.clone(), tokio::spawn(pages.run(stop))));
    }

    /// Stops the worker, and waits until it has stopped.
    pub async fn stop(&mut self) {
        let (stop, worker) = self.worker.take().expect("it works");
        stop.cancel();
        worker.await.expect("it ends in peace");
    }

    fn clock(&self) -> Clock {
        clock_ahead(&self.ahead_ms)
    }

    pub fn now_ms(&self) -> u64 {
        self.clock().now_ms()
    }

    /// From now on it is so much later.
    pub fn let_pass(&self, time: Duration) {
        self.ahead_ms.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }

    pub async fn join(&self, name: &str, product: Product, joined_by: JoinedBy) {
        let base = match product {
            Product::Cloud => self.stand_in.cloud(),
            Product::DataCenter => self.stand_in.data_center(),
        };
        let site = Site {
            id: site(name),
            account: Account::parse("a").expect("a legal name"),
            product,
            base_url: "https://acme.example/wiki".to_owned(),
            api_base: base,
            display_url: None,
            aliases: Vec::new(),
            joined_by,
            state: SiteState::Active,
            added_ms: self.now_ms(),
            last_event_ms: None,
        };
        let credential = Some(Credential::Bearer(name.to_owned()));
        self.registry.join(&Joining { site, credential, hook_secret: None }, 0).await.expect("it is kept");
    }

    pub fn task(&self, name: &str, what: What) -> PageTask {
        let stamp = self.stamper.stamp();
        PageTask::new(stamp, site(name), Account::parse("a").expect("a legal name"), what)
    }

    pub async fn give(&self, task: &PageTask) {
        self.queue.append(task.encode()).await.expect("the queue takes it");
    }

    /// An event of now, of a page of `acme`.
    pub async fn tell(&self, page: u64, event: EventName) {
        self.give(&self.task("acme", What::Page { page, event, version: None })).await;
    }

    /// The same, as if it had come so long ago.
    pub async fn tell_after(&self, time: Duration, page: u64, event: EventName, version: Option<u64>) {
        let task = self.task("acme", What::Page { page, event, version });
        self.give(&PageTask { at_ms: task.at_ms - time.as_millis() as u64, ..task }).await;
    }

    /// Takes from the road until so many envelopes came, in the order of their versions.
    pub async fn on_road(&self, count: usize) -> Vec<OnRoad> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(eventually(&format!("envelope {} of {count}", all.len() + 1), || self.next_on_road()).await);
        }
        all.sort_by_key(|on_road| on_road.envelope.version);
        all
    }

    pub async fn next_on_road(&self) -> Option<OnRoad> {
        let message = self.envelopes.take(1).await.expect("an embedded buffer").pop()?;
        let removed = self.envelopes.delete(std::slice::from_ref(&message.receipt)).await;
        assert!(removed.iter().all(Result::is_ok));
        let envelope = wire::decode(&message.body, self.now_ms()).unwrap_or_else(|poison| panic!("{poison:?}"));
        Some(OnRoad { envelope })
    }

    pub fn stamp(&self) -> Stamp {
        self.stamper.stamp()
    }

    /// The registry's database, behind its back.
    pub async fn database(&self) -> SqliteConnection {
        let url = format!("sqlite://{}", self.folder.path().join("registry.db").display());
        SqliteConnection::connect(&url).await.expect("the registry's file")
    }

    pub async fn row(&self, page: u64) -> Option<PageRow> {
        self.registry.page(&site("acme"), page).await.expect("a registry")
    }

    pub async fn depth(&self) -> Depth {
        self.tasks.depth().await.expect("an embedded buffer")
    }

    pub async fn letters(&self) -> Vec<buffer::DeadLetter> {
        dead_letters(&self.tasks, 100).await.expect("an embedded buffer")
    }

    pub async fn take_task(&self) -> Option<Receipt> {
        Some(self.tasks.take(1).await.expect("an embedded buffer").pop()?.receipt)
    }

    pub fn counted(&self, name: &str) -> f64 {
        series(&self.metrics.text(), name).unwrap_or_else(|| panic!("no series {name}: {}", self.metrics.text()))
    }

    /// Waits until so many tasks had this outcome.
    pub async fn until_done(&self, outcome: &str, tasks: u32) {
        let name = format!(r#"hookcache_pages_tasks_total{{outcome="{outcome}"}}"#);
        self.until_counted(&name, tasks).await;
    }

    pub async fn until_put_off(&self, cause: &str, tasks: u32) {
        let name = format!(r#"hookcache_pages_put_off_total{{cause="{cause}"}}"#);
        self.until_counted(&name, tasks).await;
    }

    async fn until_counted(&self, name: &str, tasks: u32) {
        let what = format!("{name} {tasks}");
        eventually(&what, || async { (self.counted(name) >= f64::from(tasks)).then_some(()) }).await;
    }

    /// Waits until the queue is empty: nothing is waiting, nothing is in hand.
    pub async fn until_idle(&self) {
        eventually("an empty queue", || async {
            let Depth { visible, in_flight, .. } = self.depth().await;
            (visible + in_flight == 0).then_some(())
        })
        .await;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some((_, worker)) = &self.worker {
            worker.abort();
        }
    }
}

/// What came out of the buffer.
#[derive(Debug)]
pub struct OnRoad {
    pub envelope: Envelope,
}

impl OnRoad {
    pub fn key(&self) -> &str {
        self.envelope.keys[0].as_str()
    }

    pub fn is_drop(&self) -> bool {
        self.envelope.action == Action::Delete
    }

    pub fn payload(&self) -> Value {
        let Action::Set { payload, .. } = &self.envelope.action else { panic!("a drop of {}", self.key()) };
        serde_json::from_slice(payload).expect("a payload is JSON")
    }

    /// The URLs of its links.
    pub fn urls(&self) -> Vec<String> {
        let links = self.payload()["links"].as_array().cloned().expect("a list");
        links.iter().map(|link| link["url"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

fn clock_ahead(ahead_ms: &Arc<AtomicU64>) -> Clock {
    let (system, ahead_ms) = (Clock::system(), ahead_ms.clone());
    Clock::from_fn(move || system.now_ms() + ahead_ms.load(Ordering::Relaxed))
}

pub fn site(name: &str) -> SiteId {
    SiteId::parse(name).expect("a legal name")
}

fn open(folder: &TempDir, file: &str, wanted: &Wanted, bytes_max: u64) -> (Appender, Taker) {
    let (path, wait) = (folder.path().join(file), Duration::from_millis(50));
    let options = embedded::Options { path, visibility: wanted.visibility, wait, bytes_max };
    let (appender, taker) = embedded::open(options).expect("a new buffer");
    (Appender::Embedded(appender), Taker::Embedded(taker))
}
