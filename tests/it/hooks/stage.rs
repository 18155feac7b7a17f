//! A data plane that receives webhooks, with its places, a clock that a test sets, and Atlassian.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookcache::buffer::{self, Appender, Taker};
use hookcache::envelope::{Account, Clock, SiteId, Stamper};
use hookcache::hooks::{Hooks, Options};
use hookcache::http::{Data, Plane};
use hookcache::outbound::Outbound;
use hookcache::registry::{self, JoinedBy, Joining, Key, Registry, Site, SiteState};
use hookcache::source::confluence::descriptor::App;
use hookcache::source::confluence::{AllowedHosts, PageTask, What};
use hookcache::telemetry::Metrics;
use http::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::http_api::{JSON, listen, patient, probes};
use crate::support::atlassian::{KeyServer, Library};
use crate::support::{Reply, TempDir, http_send};

pub const NOW: u64 = 1_767_225_600_000;
pub const NOW_S: u64 = NOW / 1_000;
pub const APP_KEY: &str = "hookcache-page-links";
pub const APP_URL: &str = "https://hooks.example.com";
pub const FORGE_APP: &str = "ari:cloud:ecosystem::app/d9e4002b-120b-426b-834b-402a4a5adce7";
/// The names of the keys that Atlassian signs with, as they look.
pub const INSTALL_KEY: &str = "0e50fccb-239d-4991-a5db-dc850ba3f236";
pub const FORGE_KEY: &str = "forge/invocation-token/wf-f641e7a7-d1b6-472a-806b-5e4b03912149";
/// Room for every test but that of a full queue.
pub const QUEUE_BYTES_MAX: u64 = 1 << 30;

/// One for all tests, as making keys takes its time. It ends with them, as its input does.
fn node() -> MutexGuard<'static, Library> {
    static NODE: LazyLock<Mutex<Library>> = LazyLock::new(|| Mutex::new(Library::node()));
    NODE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the queue is.
pub enum Queue {
    /// Embedded, of this many bytes at most.
    OnDisk(u64),
    Of(Appender),
}

pub struct Stage {
    pub registry: Registry,
    pub keys: KeyServer,
    pub folder: Arc<TempDir>,
    pub metrics: Metrics,
    taker: Option<Taker>,
    hands: Arc<AtomicU64>,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Stage {
    pub async fn start() -> Self {
        Self::over(Arc::new(TempDir::new().unwrap()), Queue::OnDisk(QUEUE_BYTES_MAX), None).await
    }

    /// In a folder that may have been used before; the registry lies there, too, where none is given.
    pub async fn over(folder: Arc<TempDir>, queue: Queue, registry: Option<Registry>) -> Self {
        let keys = KeyServer::start().await;
        let (pem, jwk) = node().key("atlassian", 2_048);
        keys.hold_install_key(INSTALL_KEY, pem);
        keys.hold_in_set(FORGE_KEY, jwk);
        let registry = match registry {
            Some(registry) => registry,
            None => {
                let path = folder.path().join("registry.db");
                let key = Key::MadeAtFirst(folder.path().join("registry.key"));
                Registry::open(registry::Options::Sqlite { path, key }).await.unwrap()
            }
        };
        let (queue, taker) = match queue {
            Queue::Of(appender) => (appender, None),
            Queue::OnDisk(bytes_max) => {
                let (appender, taker) = on_disk(&folder, bytes_max);
                (Appender::Embedded(appender), Some(Taker::Embedded(taker)))
            }
        };
        let hands = Arc::new(AtomicU64::new(NOW));
        let of_clock = Arc::clone(&hands);
        let clock = Clock::from_fn(move || of_clock.load(Ordering::SeqCst));
        let metrics = Metrics::new();
        let outbound = Outbound::new(Duration::from_secs(10), &[]).unwrap();
        let stamper = Stamper::new(clock);
        let hooks = Hooks::new(options(&keys), registry.clone(), queue, outbound, stamper, metrics.clone());
        let plane = Plane::Data(Box::new(Data { ingest: None, serve: None, links: None, hooks: Some(hooks) }));
        let (address, stop, task) = listen(plane, probes(&metrics, &[]), &metrics, patient()).await;
        Self { registry, keys, folder, metrics, taker, hands, address, stop, task }
    }

    /// Ends it, so that its folder may be used again.
    pub async fn end(self) -> Arc<TempDir> {
        self.stop.cancel();
        self.task.await.unwrap();
        self.folder
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/v1/hooks/confluence{path}", self.address)
    }

    pub fn advance(&self, time: Duration) {
        self.hands.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }

    pub fn now_s(&self) -> u64 {
        self.hands.load(Ordering::SeqCst) / 1_000
    }

    /// What npm's library makes of it.
    pub fn token(&self, request: Value) -> String {
        node().token(request)
    }

    pub fn key(&self, name: &str, bits: u32) -> (String, Value) {
        node().key(name, bits)
    }

    /// Posts JSON with these headers.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        self.post_text(path, headers, body.to_string()).await
    }

    pub async fn post_text(&self, path: &str, headers: &[(&str, &str)], body: String) -> Reply {
        http_send(Method::POST, &self.url(path), &[headers, &[JSON]].concat(), body).await
    }

    /// As a Connect site that signs with this secret.
    pub async fn post_as(&self, site: &str, secret: &str, path: &str, body: &Value) -> Reply {
        let token = self.token(json!({"claims": self.claims(site), "secret": secret, "call": call(path)}));
        self.post(path, &[("authorization", &format!("JWT {token}"))], body).await
    }

    /// As Atlassian, on behalf of a Connect site.
    pub async fn post_for(&self, site: &str, path: &str, body: &Value) -> Reply {
        let token = self.install_token(site, path);
        self.post(path, &[("authorization", &format!("JWT {token}"))], body).await
    }

    pub fn install_token(&self, site: &str, path: &str) -> String {
        let mut claims = self.claims(site);
        claims["aud"] = json!([APP_URL]);
        self.token(json!({"claims": claims, "key": "atlassian", "kid": INSTALL_KEY, "call": call(path)}))
    }

    pub async fn install(&self, site: &str, secret: &str) {
        let reply = self.post_for(site, "/installed", &installed(site, secret)).await;
        assert_eq!(reply.status, 204, "{}", reply.text());
    }

    pub fn claims(&self, site: &str) -> Value {
        json!({"iss": site, "iat": self.now_s(), "exp": self.now_s() + 180})
    }

    /// A site that the operator has added.
    pub async fn add(&self, site: &str, secret: &str) {
        self.registry.join(&added(site, secret), 0).await.unwrap();
    }

    pub async fn site(&self, site: &str) -> Option<Site> {
        self.registry.site(&SiteId::parse(site).unwrap()).await.unwrap()
    }

    pub async fn state(&self, site: &str) -> SiteState {
        self.site(site).await.expect("it is there").state
    }

    /// What the queue offers now, which is taken out of it, in the order of its arrival.
    pub async fn tasks(&self) -> Vec<PageTask> {
        let taker = self.taker.as_ref().expect("the queue is ours");
        let mut tasks = Vec::new();
        loop {
            let taken = taker.take(buffer::TAKE_MAX).await.unwrap();
            if taken.is_empty() {
                tasks.sort_by(|a: &PageTask, b| (a.at_ms, &a.id).cmp(&(b.at_ms, &b.id)));
                return tasks;
            }
            let decoded = taken.iter().map(|delivery| PageTask::decode(&delivery.body, NOW).unwrap());
            tasks.extend(decoded);
            let receipts: Vec<_> = taken.into_iter().map(|delivery| delivery.receipt).collect();
            taker.delete(&receipts).await.into_iter().for_each(|deleted| deleted.unwrap());
        }
    }

    /// The same: of which site, and what.
    pub async fn told(&self) -> Vec<(String, What)> {
        self.tasks().await.into_iter().map(|task| (task.site.to_string(), task.what)).collect()
    }

    /// A counter of webhooks.
    pub fn counted(&self, outcome: &str) -> f64 {
        let name = format!("hookcache_hooks_total{{outcome=\"{outcome}\"}}");
        crate::support::stack::series(&self.metrics.text(), &name).expect("it is born at zero")
    }
}

pub fn on_disk(folder: &TempDir, bytes_max: u64) -> (buffer::embedded::Appender, buffer::embedded::Taker) {
    buffer::embedded::open(buffer::embedded::Options {
        path: folder.path().join("pages.redb"),
        visibility: Duration::from_secs(60),
        wait: Duration::from_millis(20),
        bytes_max,
    })
    .unwrap()
}

pub fn options(keys: &KeyServer) -> Options {
    let (key, name, public_url) = (APP_KEY.to_owned(), "Page links".to_owned(), APP_URL.to_owned());
    Options {
        account: None,
        connect: Some(App { key, name, public_url }),
        connect_keys_url: keys.installs_url(),
        forge_app_id: Some(FORGE_APP.to_owned()),
        forge_keys_url: keys.set_url(),
        allowed_hosts: AllowedHosts::parse(["*.atlassian.net", "api.atlassian.com"]).unwrap(),
    }
}

/// What is written of a site that the operator adds.
pub fn added(site: &str, secret: &str) -> Joining {
    let site = Site {
        id: SiteId::parse(site).unwrap(),
        account: Account::parse("acme").unwrap(),
        product: hookcache::confluence::Product::DataCenter,
        base_url: "https://wiki.example.com".into(),
        api_base: "https://wiki.example.com".into(),
        display_url: None,
        aliases: vec![],
        joined_by: JoinedBy::Operator,
        state: SiteState::Active,
        added_ms: NOW,
        last_event_ms: None,
    };
    Joining { site, credential: None, hook_secret: Some(secret.to_owned()) }
}

/// A call that a token is for, by its path below that of the hooks.
pub fn call(path: &str) -> Value {
    json!({"method": "POST", "url": format!("/v1/hooks/confluence{path}")})
}

pub fn installed(site: &str, secret: &str) -> Value {
    json!({
        "key": APP_KEY, "clientKey": site, "sharedSecret": secret, "serverVersion": "6452",
        "baseUrl": format!("https://{site}.atlassian.net/wiki"), "productType": "confluence", "eventType": "installed",
        "description": "Atlassian Confluence at null ",
    })
}

/// A lifecycle body without a secret.
pub fn lifecycle(site: &str, event: &str) -> Value {
    let mut body = installed(site, "");
    body.as_object_mut().unwrap().remove("sharedSecret");
    body["eventType"] = event.into();
    body
}

pub fn page(id: u64, version: u64) -> Value {
    json!({
        "page": {"id": id, "idAsString": id.to_string(), "spaceKey": "IT", "title": "T", "version": version,
                 "contentType": "page"},
        "timestamp": NOW, "userAccountId": "5b10a2844c20165700ede21a", "accountType": "customer",
    })
}

/// Claims as a trigger's invocation token has them.
pub fn forge_claims(cloud: &str, now_s: u64) -> Value {
    let api = format!("https://api.atlassian.com/ex/confluence/{cloud}");
    json!({
        "app": {
            "id": FORGE_APP, "version": "5", "appVersion": "22.4.0", "apiBaseUrl": api,
            "installationId": "ari:cloud:ecosystem::installation/11ac20df-be56-457d-af77-b776285cb0f0",
            "module": {"type": "core:trigger", "key": "pages"},
            "installation": {"id": "i", "contexts": [{"name": "confluence", "apiBaseUrl": api}]},
        },
        "context": {"cloudId": cloud, "moduleKey": "pages", "userAccess": {"enabled": false}},
        "aud": FORGE_APP, "iss": "forge/invocation-token", "iat": now_s, "nbf": now_s, "exp": now_s + 25,
        "jti": "c900303226dd9b698199667c9c7c2b91d7cef2ff",
    })
}

pub fn forge_event(name: &str, page: u64) -> Value {
    json!({
        "eventType": name, "atlassianId": "4ad9aa0c52dc1b420a791d12", "eventCreatedDate": "2026-01-01T00:00:00.000Z",
        "content": {"id": page.to_string(), "type": "page", "status": "current", "title": "T",
                    "space": {"id": 827392002, "key": "SP"}, "version": {"number": 3}},
    })
}

/// The code of a problem.
pub fn code(reply: &Reply) -> String {
    reply.json()["code"].as_str().expect("a problem").to_owned()
}
