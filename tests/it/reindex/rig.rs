//! What a reindex needs around it, in one process, with a clock whose hands the test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hookcache::buffer::{Appender, Taker, embedded};
use hookcache::config::{Config, Sources, load};
use hookcache::confluence::{self, Confluence, Credential, Product};
use hookcache::consumer::{Consumer, Policy, RuleSource, Rulings};
use hookcache::envelope::{Account, Clock, SiteId, Stamper, WebhookKey, WireForm};
use hookcache::outbound::Outbound;
use hookcache::page::{Archived, index_key_of, key_of};
use hookcache::registry::{self, Cadence, JoinedBy, Joining, Key, PageRow, Registry, Run, Site, SiteState};
use hookcache::reindex::{Options, Parts, Reindexer};
use hookcache::source::confluence::{PageTask, ReindexScope};
use hookcache::store::catalog::{Change, Changed, To};
use hookcache::store::{self, Catalog, Entry, Reader, Writer};
use hookcache::telemetry::Metrics;
use serde_json::Value;
use sqlx::{Connection, SqliteConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::confluence::ConfluenceStandIn;
use crate::support::{DEADLINE, TempDir, eventually, eventually_within};

pub const DAY: Duration = Duration::from_secs(86_400);
/// What the scheduled runs of a site have as their intervals, where a test has a schedule.
pub const WEEKLY: Cadence =
    Cadence { every: Some(Duration::from_secs(3_600)), full_every: Some(Duration::from_secs(7 * 86_400)) };
const UNSCHEDULED: Cadence = Cadence { every: None, full_every: None };

/// The site `acme`, its registry, the road behind the reindex, and the store. Everything lives for a day by default.
pub struct Rig {
    pub confluence: ConfluenceStandIn,
    pub site: SiteId,
    pub registry: Registry,
    registry_path: std::path::PathBuf,
    /// The pages queue.
    pub tasks: (Appender, Taker),
    pub metrics: Metrics,
    road: Appender,
    off_road: Taker,
    writer: Writer,
    reader: Reader,
    book: store::RuleBook,
    ahead_ms: Arc<AtomicU64>,
    consumer: Option<(CancellationToken, JoinHandle<()>)>,
    _folder: TempDir,
}

/// A reindexer at work.
pub struct Worker {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    /// As SIGTERM does.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("a reindexer ends in peace");
    }

    /// It does nothing any more, from one moment to the next.
    pub async fn cut_off(self) {
        self.task.abort();
        // It may have ended before.
        let _ = self.task.await;
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some((stop, consumer)) = &self.consumer {
            stop.cancel();
            consumer.abort();
        }
    }
}

/// The body of a page, with one link that names page and version.
pub fn body(page: u64, version: u64) -> String {
    format!("<p>Page {page} <a href=\"https://example.com/{page}/{version}\">of version {version}</a></p>")
}

fn config() -> Config {
    let environment = [("HOOKCACHE_CONFLUENCE__ENABLED", "true"), ("HOOKCACHE_TTL__DEFAULT", "1d")];
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(&Sources { file: None, environment, flags: Vec::new() }).expect("a valid configuration").config
}

impl Rig {
    /// With pages 1 to `pages` on the site, of version 1. Nothing is known of them yet.
    pub async fn start(pages: u64) -> Self {
        let mut rig = Self::at_rest(pages, 1 << 30).await;
        rig.consume();
        rig
    }

    /// The same, while nobody takes from the road, which holds so many bytes.
    pub async fn at_rest(pages: u64, road_bytes_max: u64) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let confluence = ConfluenceStandIn::start().await;
        confluence.add_space(7, "DOC");
        (1..=pages).for_each(|page| confluence.add_page(page, &format!("Page {page}"), &body(page, 1)));

        let ahead_ms = Arc::new(AtomicU64::new(0));
        let (key_file, path) = (folder.path().join("registry.key"), folder.path().join("registry.db"));
        let options = registry::Options::Sqlite { path: path.clone(), key: Key::MadeAtFirst(key_file) };
        let registry = Registry::open(options).await.expect("a registry");
        let (road, off_road) = open_buffer(&folder, "buffer.redb", road_bytes_max);
        let tasks = open_buffer(&folder, "pages.redb", 1 << 30);
        let options = store::embedded::Options { path: folder.path().join("store.redb") };
        let (writer, reader, book) = store::embedded::open(options, clock(&ahead_ms)).expect("a store");

        let site = SiteId::parse("acme").expect("a legal name");
        let rig = Self {
            confluence,
            site,
            registry,
            registry_path: path,
            tasks,
            metrics: Metrics::new(),
            road,
            off_road,
            writer: Writer::Embedded(writer),
            reader: Reader::Embedded(reader),
            book: store::RuleBook::Embedded(book),
            ahead_ms,
            consumer: None,
            _folder: folder,
        };
        rig.join(Product::Cloud).await;
        rig
    }

    /// Takes from the road from now on.
    pub fn consume(&mut self) {
        let config = config();
        let (rules, grants) = (Arc::new(config.ttl.clone()), Arc::new(config.grants()));
        let policy = Policy::from_fn(move || Rulings { rules: rules.clone(), grants: grants.clone() });
        let rules = RuleSource::new(policy, self.book.clone());
        let (taker, writer, metrics) = (self.off_road.clone(), self.writer.clone(), self.metrics.clone());
        let consumer = Consumer::new(taker, writer, rules, metrics, config.consumer.clone(), self.clock());
        let stop = CancellationToken::new();
        self.consumer = Some((stop.clone(), tokio::spawn(consumer.run(stop))));
    }

    /// Something of so many bytes, where there is room for it.
    pub async fn put_on_road(&self, bytes: usize) {
        let account = Account::parse("docs").expect("a legal name");
        let body = "x".repeat(bytes).into();
        // A refusal is what makes it full.
        let _ = self.road.append(WireForm { id: "x".to_owned(), account, traceparent: None, body }).await;
    }

    pub async fn empty_road(&self) {
        loop {
            let messages = self.off_road.take(10).await.expect("a buffer");
            if messages.is_empty() {
                return;
            }
            let receipts: Vec<_> = messages.into_iter().map(|message| message.receipt).collect();
            assert!(self.off_road.delete(&receipts).await.iter().all(Result::is_ok));
        }
    }

    pub async fn join(&self, product: Product) {
        let credential = Some(Credential::Bearer("t".to_owned()));
        self.join_by(JoinedBy::Operator, product, credential).await;
    }

    pub async fn join_by(&self, joined_by: JoinedBy, product: Product, credential: Option<Credential>) {
        let url = match product {
            Product::Cloud => self.confluence.cloud(),
            Product::DataCenter => self.confluence.data_center(),
        };
        let site = Site {
            id: self.site.clone(),
            account: Account::parse("docs").expect("a legal name"),
            product,
            base_url: url.clone(),
            api_base: url,
            display_url: None,
            aliases: Vec::new(),
            joined_by,
            state: SiteState::Active,
            added_ms: self.now_ms(),
            last_event_ms: None,
        };
        let joining = Joining { site, credential, hook_secret: None };
        self.registry.join(&joining, 0).await.expect("a registry");
    }

    pub fn clock(&self) -> Clock {
        clock(&self.ahead_ms)
    }

    pub fn now_ms(&self) -> u64 {
        self.clock().now_ms()
    }

    /// Moves the clock of everything but the site.
    pub fn let_pass(&self, time: Duration) {
        self.ahead_ms.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }

    fn confluence_client(&self) -> Confluence {
        let outbound = Outbound::new(DEADLINE, &[]).expect("no authority that could be wrong");
        let options = confluence::Options {
            requests_at_once: 4,
            requests_per_second: 1_000,
            request_timeout: DEADLINE,
            answer_bytes_max: 40 << 20,
        };
        Confluence::new(outbound, options, self.clock())
    }

    pub fn worker(&self) -> Worker {
        self.worker_with(UNSCHEDULED)
    }

    pub fn worker_with(&self, cadence: Cadence) -> Worker {
        let parts = Parts {
            registry: self.registry.clone(),
            confluence: self.confluence_client(),
            road: self.road.clone(),
            tasks: self.tasks.0.clone(),
            archived: Archived::Hide,
            metrics: self.metrics.clone(),
            clock: self.clock(),
        };
        let reindexer = Reindexer::new(parts, Options { cadence, overlap: DAY });
        let stop = CancellationToken::new();
        Worker { stop: stop.clone(), task: tokio::spawn(reindexer.run(stop)) }
    }

    pub async fn ask(&self, scope: ReindexScope) -> u64 {
        let run = self.registry.ask_for_run(&self.site, scope, self.now_ms()).await.expect("a registry");
        run.expect("the site is there").number
    }

    /// The newest run.
    pub async fn run(&self) -> Option<Run> {
        self.registry.runs(&self.site, 1).await.expect("a registry").pop()
    }

    /// Waits for the end of the run of this number.
    pub async fn ended(&self, number: u64) -> Run {
        let run = async || {
            let runs = self.registry.runs(&self.site, 20).await.expect("a registry");
            runs.into_iter().find(|run| run.number == number && run.ended.is_some())
        };
        eventually_within(4 * DEADLINE, &format!("the end of run {number}"), run).await
    }

    /// Runs to a good end.
    pub async fn reindex(&self, scope: ReindexScope) -> Run {
        let worker = self.worker();
        let run = self.ended(self.ask(scope).await).await;
        assert_eq!(run.ended.as_ref().and_then(|ended| ended.error.clone()), None);
        worker.stop().await;
        run
    }

    /// What the worker does that reads a page after an event.
    pub async fn read_by_event(&self, page: u64) {
        let at_ms = self.now_ms();
        let site = self.registry.site(&self.site).await.expect("a registry").expect("the site");
        let credential = self.registry.credential(&self.site).await.expect("a registry").expect("a credential");
        let read = self.confluence_client().page(&site.access(credential), page).await.expect("an answer");
        let read = read.expect("the page is there");
        let home = site.home(Archived::Hide);
        let stamp = Stamper::new(self.clock()).stamp();
        let body = read.body.as_deref().unwrap_or_default();
        let form = home.envelope(stamp, &read.facts(), body, at_ms).expect("a base URL");
        self.road.append(form).await.expect("a buffer");
        self.registry.note_read(&self.site, &[PageRow::read(&read, at_ms)]).await.expect("a registry");
    }

    /// Takes what is stored of the page out of the store, behind everybody's back.
    pub async fn lose(&self, page: u64, entry: &Entry) {
        let key = key_of(&self.site, page);
        let (account, version) = (entry.account.clone(), entry.version);
        let change = Change { key, account, version, to: To::Gone };
        let changed = Catalog::of(&self.writer).change(&[change], self.now_ms()).await;
        assert_eq!(changed, [Ok(Changed::Removed)]);
    }

    /// The next task of the pages queue, where one is there within a second.
    pub async fn take_task(&self) -> Option<PageTask> {
        let taken = self.tasks.1.take(1).await.expect("a queue").pop()?;
        self.tasks.1.delete(std::slice::from_ref(&taken.receipt)).await.remove(0).expect("a queue");
        Some(PageTask::decode(&taken.body, self.now_ms()).expect("a task"))
    }

    pub async fn row(&self, page: u64) -> Option<PageRow> {
        self.registry.page(&self.site, page).await.expect("a registry")
    }

    pub async fn stored(&self, page: u64) -> Option<Entry> {
        self.get(&key_of(&self.site, page)).await
    }

    pub async fn index(&self) -> Option<Value> {
        let entry = self.get(&index_key_of(&self.site)).await?;
        Some(serde_json::from_slice(&entry.payload).expect("JSON"))
    }

    async fn get(&self, key: &WebhookKey) -> Option<Entry> {
        self.reader.get(key).await.expect("a store")
    }

    /// Waits until what is stored of the page is of this version and status, and has the link of that version.
    pub async fn until_stored(&self, page: u64, version: u64, status: &str) -> Entry {
        let link = format!("https://example.com/{page}/{version}");
        let stored = async || {
            let entry = self.stored(page).await?;
            let payload: Value = serde_json::from_slice(&entry.payload).expect("JSON");
            let head = &payload["page"];
            let is_right = head["version"] == version && head["status"] == status && payload["links"][0]["url"] == link;
            is_right.then_some(entry)
        };
        eventually(&format!("page {page} in version {version}, {status}"), stored).await
    }

    pub async fn until_gone(&self, page: u64) {
        let gone = async || self.stored(page).await.is_none().then_some(());
        eventually(&format!("page {page} is gone"), gone).await;
    }

    /// Is the open run in nobody's hands?
    pub async fn is_let_go(&self) -> bool {
        let mut database = self.database().await;
        let held = "SELECT COUNT(*) FROM runs WHERE ended_ms IS NULL AND lease_owner IS NOT NULL";
        sqlx::query_scalar::<_, i64>(held).fetch_one(&mut database).await.expect("SQLite") == 0
    }

    /// The registry's database, behind its back.
    pub async fn database(&self) -> SqliteConnection {
        let url = format!("sqlite://{}", self.registry_path.display());
        SqliteConnection::connect(&url).await.expect("the registry's file")
    }

    /// Lists of pages that were asked for so far.
    pub fn lists(&self) -> usize {
        self.confluence.count("/api/v2/pages?")
    }
}

fn open_buffer(folder: &TempDir, file: &str, bytes_max: u64) -> (Appender, Taker) {
    let options = embedded::Options {
        path: folder.path().join(file),
        visibility: Duration::from_secs(60),
        wait: Duration::from_secs(1),
        bytes_max,
    };
    let (appender, taker) = embedded::open(options).expect("a buffer");
    (Appender::Embedded(appender), Taker::Embedded(taker))
}

fn clock(ahead_ms: &Arc<AtomicU64>) -> Clock {
    let (system, ahead_ms) = (Clock::system(), Arc::clone(ahead_ms));
    Clock::from_fn(move || system.now_ms() + ahead_ms.load(Ordering::Relaxed))
}
