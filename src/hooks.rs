//! From a webhook of Confluence to the queue of page links: a mover.
//!
//! It verifies who has sent a webhook before it believes a word of it, keeps what that says of the site in the registry, and
//! answers only once the queue holds the task durably. It reads no page, and knows no backend. Its one entry takes a request
//! as any server has it, so that a Lambda function can stand in for the listener.
//!
//! | sender | where | proof | which site |
//! | --- | --- | --- | --- |
//! | Forge Remote | `/v1/hooks/confluence` | invocation token, RS256 | the token's cloud |
//! | Connect | `/v1/hooks/confluence/{event}` | JWT, HS256 by the site's secret; installs RS256 | the token's issuer |
//! | others | `/v1/hooks/confluence/sites/{site}` | signature of the body, or the site's secret | the path's |
//!
//! *A sender speaks for its own site.* What a body says of another one is refused. A site is spoken for in the way that it
//! has joined in, and in no other.
//!
//! *What has begun ends.* A webhook is seen to its end in a task of its own, even when its sender hangs up: what the registry
//! has kept is told to the queue. All of it may come twice, and does no harm.
//!
//! Limits: [`BODY_BYTES_MAX`]; those of `keys`; how many webhooks there are at once is bounded by the edge.
//!
//! | file | holds |
//! | --- | --- |
//! | `connect`, `forge`, `secret` | one way each of proving a sender, and what such a sender may tell |
//! | `keys` | Atlassian's public keys, fetched and kept for a while |
//! | `join` | what is made of a site that is heard of |

mod connect;
mod forge;
mod join;
mod keys;
mod secret;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use http::{HeaderValue, Method};
use tokio_util::task::TaskTracker;

use crate::buffer::{AppendError, Appender};
use crate::envelope::{Account, Fault, FaultCode, SiteId, Stamp, Stamper};
use crate::outbound::Outbound;
use crate::problem::{Code, Item, Problem};
use crate::registry::{Registry, Site, SiteState, Unavailable};
use crate::source::confluence::descriptor::{self, App};
use crate::source::confluence::{AllowedHosts, Lifecycle, PageTask, Told, What};
use crate::telemetry::{HookOutcome, Metrics, trace};

use keys::Keys;

pub use crate::source::confluence::{DESCRIPTOR_PATH, HOOKS_PATH};

/// Largest webhook, in bytes. Confluence's have a few thousand.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// For how long a secret stays valid after another has replaced it: webhooks that are under way are signed with it.
const FORMER_SECRET_LIFE: Duration = Duration::from_secs(10 * 60);
/// What stands before the name of a site in a path.
const SITES: &str = "sites/";

/// What the operator says of the apps whose webhooks are received.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of sites that install the app; where absent, each has one of its own.
    pub account: Option<Account>,
    /// Absent where there is no Connect app.
    pub connect: Option<App>,
    /// Below it lie the keys of installs, by their names.
    pub connect_keys_url: String,
    /// `ari:cloud:ecosystem::app/...`; absent where there is no Forge app.
    pub forge_app_id: Option<String>,
    /// The JWK set of invocation tokens.
    pub forge_keys_url: String,
    pub allowed_hosts: AllowedHosts,
}

/// The mover. Cheap to clone.
#[derive(Clone)]
pub struct Hooks(Arc<Parts>);

struct Parts {
    options: Options,
    registry: Registry,
    queue: Appender,
    keys: Keys,
    stamper: Stamper,
    metrics: Metrics,
    running: TaskTracker,
}

/// A request below [`HOOKS_PATH`].
pub struct Call {
    pub method: Method,
    /// As it stands in the request line; not decoded.
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What is answered where nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 204: the webhook is safe, or asks for nothing.
    Done,
    /// 200: the descriptor of the Connect app, JSON.
    Descriptor(Bytes),
}

/// What a path below [`HOOKS_PATH`] names.
enum Place<'a> {
    Descriptor,
    /// Of a cloud app, with the event's name where the path has it.
    App(Option<&'a str>),
    Site(SiteId),
}

impl Hooks {
    pub fn new(
        options: Options,
        registry: Registry,
        queue: Appender,
        outbound: Outbound,
        stamper: Stamper,
        metrics: Metrics,
    ) -> Self {
        let (connect_url, forge_url) = (options.connect_keys_url.clone(), options.forge_keys_url.clone());
        let keys = Keys::new(outbound, connect_url, forge_url, metrics.clone());
        let running = TaskTracker::new();
        Self(Arc::new(Parts { options, registry, queue, keys, stamper, metrics, running }))
    }

    pub async fn answer(&self, call: Call) -> Result<Answer, Problem> {
        let place = place(&call.path)?;
        if let Place::Descriptor = place {
            return match call.method {
                Method::GET | Method::HEAD => self.descriptor(),
                _ => Err(Problem::new(Code::MethodNotAllowed, "this path knows GET, HEAD")),
            };
        }
        if call.method != Method::POST {
            return Err(Problem::new(Code::MethodNotAllowed, "this path knows POST"));
        }
        let this = self.clone();
        let task = self.0.running.spawn(async move { this.0.received(&call).await });
        task.await.unwrap_or_else(|_| {
            Err(Problem::new(Code::Internal, "the webhook was not seen to its end; it may have been accepted"))
        })
    }

    /// Waits until no webhook is under way, once no further one is received: the queue may close then.
    pub async fn finish(&self) {
        self.0.running.close();
        self.0.running.wait().await;
    }

    fn descriptor(&self) -> Result<Answer, Problem> {
        let app = self.0.options.connect.as_ref().ok_or_else(|| {
            let detail = "there is no Connect app, and so no descriptor: set `confluence.app_key` and \
                          `confluence.public_url`";
            Problem::new(Code::NoSuchRoute, detail)
        })?;
        Ok(Answer::Descriptor(descriptor::descriptor(app).to_string().into()))
    }
}

impl Parts {
    async fn received(&self, call: &Call) -> Result<Answer, Problem> {
        let stamp = self.stamper.stamp();
        let id = stamp.id.clone();
        let result = self.verified_and_kept(call, stamp).await;
        match &result {
            Ok(outcome) => self.metrics.hook(*outcome),
            Err(problem) => {
                self.metrics.hook(outcome_of(problem));
                let (code, detail) = (problem.code.as_str(), &problem.detail);
                tracing::warn!(id, path = call.path, code, detail, "a webhook was not accepted");
            }
        }
        result.map(|_| Answer::Done).map_err(|problem| problem.with_instance(id))
    }

    async fn verified_and_kept(&self, call: &Call, stamp: Stamp) -> Result<HookOutcome, Problem> {
        match place(&call.path)? {
            Place::Site(site) => self.of_site(site, call, stamp).await,
            Place::App(name) => match single(&call.headers, AUTHORIZATION)?.and_then(|text| text.split_once(' ')) {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("JWT") => {
                    self.of_connect(name, token.trim(), call, stamp).await
                }
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => {
                    self.of_forge(token.trim(), call, stamp).await
                }
                _ => Err(unverified(
                    "a cloud app signs its webhooks: `Authorization: Bearer <invocation token>` (Forge), or \
                     `Authorization: JWT <token>` (Connect)",
                )),
            },
            Place::Descriptor => Err(no_such_path()),
        }
    }

    /// What a verified sender tells of its own site, but for joining and leaving.
    async fn told(&self, site: &Site, told: Told, call: &Call, stamp: Stamp) -> Result<HookOutcome, Problem> {
        let gone = matches!(site.state, SiteState::Uninstalled { .. });
        let (what, outcome) = match told {
            Told::Nothing => return Ok(HookOutcome::Ignored),
            // Under way when the site left.
            _ if gone => return Ok(HookOutcome::Ignored),
            Told::Event(what) => (what, HookOutcome::Stored),
            Told::Lifecycle(lifecycle) => {
                let state = match lifecycle {
                    Lifecycle::Enabled | Lifecycle::Installed => SiteState::Active,
                    Lifecycle::Disabled => SiteState::Disabled,
                    Lifecycle::Uninstalled => SiteState::Uninstalled { since_ms: stamp.at_ms },
                };
                self.registry.set_state(&site.id, state, stamp.at_ms).await.map_err(registry_down)?;
                (What::Lifecycle(lifecycle), HookOutcome::Lifecycle)
            }
        };
        self.append(site, what, call, stamp).await?;
        Ok(outcome)
    }

    async fn append(&self, site: &Site, what: What, call: &Call, stamp: Stamp) -> Result<(), Problem> {
        let task = PageTask::new(stamp, site.id.clone(), site.account.clone(), what);
        let mut wire = task.encode();
        wire.traceparent = traceparent(&call.headers);
        let message_id = self.queue.append(wire).await.map_err(not_appended)?;
        let (id, site, what) = (task.id, &site.id, task.what);
        tracing::info!(id, %site, ?what, message_id = message_id.0, "a webhook was accepted");
        Ok(())
    }

    /// The site, as long as it has joined in the way that the sender speaks for it.
    async fn site(&self, id: &SiteId) -> Result<Option<Site>, Problem> {
        self.registry.site(id).await.map_err(registry_down)
    }
}

fn place(path: &str) -> Result<Place<'_>, Problem> {
    let below = path.strip_prefix(HOOKS_PATH).ok_or_else(no_such_path)?;
    if below.is_empty() {
        return Ok(Place::App(None));
    }
    if path == DESCRIPTOR_PATH {
        return Ok(Place::Descriptor);
    }
    let name = below.strip_prefix('/').ok_or_else(no_such_path)?;
    if let Some(site) = name.strip_prefix(SITES) {
        let site = percent_encoding::percent_decode_str(site).decode_utf8().unwrap_or_default();
        return SiteId::parse(&site).map(Place::Site).map_err(|_| no_such_path());
    }
    match name.is_empty() || name.contains('/') {
        true => Err(no_such_path()),
        false => Ok(Place::App(Some(name))),
    }
}

fn no_such_path() -> Problem {
    let detail = format!(
        "webhooks of Confluence go to {HOOKS_PATH}, {HOOKS_PATH}/<event> or {HOOKS_PATH}/{SITES}<site>, where the site's \
         name has 1 to 128 characters of A-Z a-z 0-9 . _ : @ -"
    );
    Problem::new(Code::NoSuchRoute, detail)
}

/// The header's value, where it stands once. What stands twice could be read in two ways, and proves nothing.
fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(Some).map_err(|_| unverified(format!("the header {name} is no text")))
        }
        (Some(_), Some(_)) => Err(unverified(format!("the header {name} must stand once"))),
    }
}

fn traceparent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("traceparent").map(HeaderValue::to_str)?.ok()?;
    trace::valid(text).map(str::to_owned)
}

fn unverified(detail: impl Into<String>) -> Problem {
    Problem::new(Code::HookUnverified, detail)
}

/// A sender may tell nothing of another site.
fn check_sites(named: &[String], sender: &SiteId) -> Result<(), Problem> {
    match named.iter().all(|site| site == sender.as_str()) {
        true => Ok(()),
        false => Err(Problem::new(Code::HookForbidden, "the body names another site than the one that has signed it")),
    }
}

fn faulty(fault: Fault) -> Problem {
    let code = match fault.code {
        FaultCode::MalformedJson => Code::MalformedJson,
        _ => Code::InvalidRequest,
    };
    let detail = format!("{} {}", fault.pointer, fault.detail).trim_start().to_owned();
    let item = Item { pointer: fault.pointer, code: code.as_str(), detail: fault.detail };
    Problem::new(code, detail).with_errors(vec![item])
}

/// The backends' own words are for the log alone: they can name hosts and paths.
fn registry_down(error: Unavailable) -> Problem {
    tracing::warn!(%error, "the registry can't be asked");
    Problem::new(Code::RegistryUnavailable, "the registry can't be reached now: try again")
}

fn not_appended(error: AppendError) -> Problem {
    tracing::warn!(%error, "the queue of page links takes no task");
    match error {
        AppendError::Unavailable(_) => {
            Problem::new(Code::BufferUnavailable, "the queue of page links can't be reached now: try again")
        }
        AppendError::Full(_) => {
            Problem::new(Code::BufferFull, "the queue of page links is full: try again once it has drained")
        }
        AppendError::Refused(_) => Problem::new(Code::RefusedByBuffer, "the queue refuses this task for good"),
    }
}

fn outcome_of(problem: &Problem) -> HookOutcome {
    match problem.status() {
        401 | 403 => HookOutcome::Unverified,
        500.. => HookOutcome::Unavailable,
        _ => HookOutcome::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_an_app_an_event_a_site_or_nothing() {
        let told = |path: &str| match place(path) {
            Ok(Place::Descriptor) => "descriptor".to_owned(),
            Ok(Place::App(name)) => format!("app {}", name.unwrap_or("-")),
            Ok(Place::Site(site)) => format!("site {site}"),
            Err(problem) => problem.code.as_str().to_owned(),
        };
        for (path, want) in [
            ("/v1/hooks/confluence", "app -"),
            ("/v1/hooks/confluence/page_updated", "app page_updated"),
            ("/v1/hooks/confluence/sites", "app sites"),
            ("/v1/hooks/confluence/atlassian-connect.json", "descriptor"),
            ("/v1/hooks/confluence/sites/acme", "site acme"),
            ("/v1/hooks/confluence/sites/a%40b", "site a@b"),
            ("/v1/hooks/confluence/sites/", "no-such-route"),
            ("/v1/hooks/confluence/sites/a/b", "no-such-route"),
            ("/v1/hooks/confluence/sites/a%2Fb", "no-such-route"),
            ("/v1/hooks/confluence/sites/%ff", "no-such-route"),
            ("/v1/hooks/confluence/", "no-such-route"),
            ("/v1/hooks/confluence/a/b", "no-such-route"),
            ("/v1/hooks/confluencex", "no-such-route"),
        ] {
            assert_eq!(told(path), want, "{path}");
        }
    }

    #[test]
    fn a_header_that_stands_twice_proves_nothing() {
        let mut headers = HeaderMap::new();
        assert_eq!(single(&headers, AUTHORIZATION).unwrap(), None);
        headers.append(AUTHORIZATION, HeaderValue::from_static("JWT a"));
        assert_eq!(single(&headers, AUTHORIZATION).unwrap(), Some("JWT a"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("JWT b"));
        assert_eq!(single(&headers, AUTHORIZATION).unwrap_err().code, Code::HookUnverified);
    }
}
