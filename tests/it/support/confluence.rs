//! A stand-in for Confluence: Cloud's REST v2 below `/wiki`, Data Center's v1 below `/confluence`, over one set of pages.
//!
//! It answers as the real ones do, as far as their answers are known: lists with cursors whose `next` starts at the root
//! of the host, 404 for what may not be seen, the trash with its status. [`ConfluenceStandIn::script`] makes any call odd.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The most pages that one part of a list holds, whatever is asked for.
const LIST_MAX: usize = 250;
const CLOUD: &str = "/wiki";
const DATA_CENTER: &str = "/confluence";

/// A page. Its version and its time grow with each edit.
#[derive(Debug, Clone)]
pub struct StandPage {
    pub title: String,
    pub space_id: u64,
    pub version: u64,
    pub modified_ms: u64,
    /// `current`, `archived`, `trashed`.
    pub status: String,
    pub body: String,
    /// Not for this credential: 404 as a page, and in no list.
    pub restricted: bool,
}

/// A call, as it came.
#[derive(Debug, Clone)]
pub struct Call {
    /// With its query.
    pub path: String,
    pub authorization: String,
}

/// How a call is answered, in place of what it asked for.
#[derive(Debug, Clone)]
pub enum Odd {
    Status(u16),
    /// 429 with this `Retry-After`, or none.
    TooMany(Option<String>),
    /// Status and `Retry-After`.
    Away(u16, String),
    /// 200 with this body.
    Text(String),
    /// The connection stays open, and nothing comes.
    Silence,
    /// Half of the answer, then the connection is cut.
    CutOff,
    /// As it should, but later.
    Slow(Duration),
    /// As it should, once the gate is open.
    Gated(Gate),
}

/// What calls wait at until it is opened.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    pub fn open(&self) {
        self.0.send_replace(true);
    }
}

type Script = Arc<dyn Fn(&Call) -> Option<Odd> + Send + Sync>;

/// Listens on a free port of 127.0.0.1 until the last clone is dropped.
#[derive(Clone)]
pub struct ConfluenceStandIn(Arc<Server>);

struct Server {
    address: std::net::SocketAddr,
    world: Arc<Mutex<World>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct World {
    pages: BTreeMap<u64, StandPage>,
    /// Reads that still see a page as it was, or not at all.
    late: HashMap<u64, (u32, Option<StandPage>)>,
    spaces: BTreeMap<u64, String>,
    authorization: Option<String>,
    absolute_next: bool,
    /// What it calls itself, where that is not how it was asked.
    name: Option<String>,
    script: Option<Script>,
    calls: Vec<Call>,
    running: usize,
    running_max: usize,
}

impl ConfluenceStandIn {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let world = Arc::<Mutex<World>>::default();
        let task = tokio::spawn(serve(listener, address.to_string(), Arc::clone(&world)));
        Self(Arc::new(Server { address, world, task }))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().expect("no holder panics")
    }

    /// Base URL and API base of Cloud.
    pub fn cloud(&self) -> String {
        format!("http://{}{CLOUD}", self.0.address)
    }

    /// Base URL and API base of Data Center.
    pub fn data_center(&self) -> String {
        format!("http://{}{DATA_CENTER}", self.0.address)
    }

    pub fn add_space(&self, id: u64, key: &str) {
        self.world().spaces.insert(id, key.to_owned());
    }

    /// A new page in the first space, of version 1. The first space is made where there is none.
    pub fn add_page(&self, id: u64, title: &str, body: &str) {
        let mut world = self.world();
        if world.spaces.is_empty() {
            world.spaces.insert(65_634, "DOC".to_owned());
        }
        let space_id = *world.spaces.keys().next().expect("there is one");
        let (title, body, status) = (title.to_owned(), body.to_owned(), "current".to_owned());
        let modified_ms = now_ms();
        world.pages.insert(id, StandPage { title, space_id, version: 1, modified_ms, status, body, restricted: false });
    }

    /// A new version of a page. What it is now.
    pub fn edit(&self, id: u64, body: &str) -> u64 {
        self.change(id, |page| {
            page.body = body.to_owned();
            page.version += 1;
            page.modified_ms = now_ms();
        });
        self.page(id).expect("it is there").version
    }

    /// A change that makes no version: status, space, title, restrictions.
    pub fn change(&self, id: u64, change: impl FnOnce(&mut StandPage)) {
        change(self.world().pages.get_mut(&id).unwrap_or_else(|| panic!("no page {id}")));
    }

    pub fn set_status(&self, id: u64, status: &str) {
        self.change(id, |page| page.status = status.to_owned());
    }

    /// For good.
    pub fn remove(&self, id: u64) {
        self.world().pages.remove(&id);
    }

    pub fn page(&self, id: u64) -> Option<StandPage> {
        self.world().pages.get(&id).cloned()
    }

    /// The next reads of a page alone see it as it was before the next change, or, where it is not there yet, not at all.
    pub fn read_late(&self, id: u64, reads: u32) {
        let mut world = self.world();
        let before = world.pages.get(&id).cloned();
        world.late.insert(id, (reads, before));
    }

    /// Every call must carry this `Authorization`; others are answered 401.
    pub fn require(&self, authorization: &str) {
        self.world().authorization = Some(authorization.to_owned());
    }

    /// `next` is a whole URL from now on.
    pub fn tell_whole_urls(&self) {
        self.world().absolute_next = true;
    }

    /// What it tells that links to it begin with, whatever it is asked by.
    pub fn call_itself(&self, url: &str) {
        self.world().name = Some(url.to_owned());
    }

    /// What becomes of each call from now on; `None` for what it asked for. It may change pages, too.
    pub fn script(&self, script: impl Fn(&Call) -> Option<Odd> + Send + Sync + 'static) {
        self.world().script = Some(Arc::new(script));
    }

    /// Every call from now on waits at this gate.
    pub fn gate(&self) -> Gate {
        let gate = Gate(watch::Sender::new(false));
        let at = gate.clone();
        self.script(move |_| Some(Odd::Gated(at.clone())));
        gate
    }

    pub fn no_script(&self) {
        self.world().script = None;
    }

    /// Every call so far, in the order of their coming.
    pub fn calls(&self) -> Vec<Call> {
        self.world().calls.clone()
    }

    /// Calls so far whose path has this text in it.
    pub fn count(&self, text: &str) -> usize {
        self.world().calls.iter().filter(|call| call.path.contains(text)).count()
    }

    /// Reads of one page so far.
    pub fn reads(&self, id: u64) -> usize {
        let ends = [format!("/api/v2/pages/{id}?"), format!("/rest/api/content/{id}?")];
        self.world().calls.iter().filter(|call| ends.iter().any(|end| call.path.contains(end.as_str()))).count()
    }

    /// The most calls that ran at once.
    pub fn running_max(&self) -> usize {
        self.world().running_max
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

async fn serve(listener: TcpListener, host: String, world: Arc<Mutex<World>>) {
    let host: Arc<str> = host.into();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (world, host) = (Arc::clone(&world), Arc::clone(&host));
        let service = service_fn(move |request| reply(request, Arc::clone(&host), Arc::clone(&world)));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// Counts a call for as long as it runs.
struct Running(Arc<Mutex<World>>);

impl Running {
    fn begin(world: &Arc<Mutex<World>>, call: &Call) -> Self {
        let mut held = world.lock().expect("no holder panics");
        held.calls.push(call.clone());
        held.running += 1;
        held.running_max = held.running_max.max(held.running);
        Self(Arc::clone(world))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().expect("no holder panics").running -= 1;
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

async fn reply(
    request: Request<Incoming>,
    host: Arc<str>,
    world: Arc<Mutex<World>>,
) -> Result<Response<Body>, Infallible> {
    let authorization = request.headers().get("authorization").map_or("", |value| value.to_str().unwrap_or_default());
    let path = request.uri().path_and_query().map_or("", |path| path.as_str()).to_owned();
    let call = Call { path, authorization: authorization.to_owned() };
    let running = Running::begin(&world, &call);
    let script = world.lock().expect("no holder panics").script.clone();
    let answered = match script.and_then(|script| script(&call)) {
        None => world.lock().expect("no holder panics").answer(&call, &host),
        Some(Odd::Slow(time)) => {
            tokio::time::sleep(time).await;
            world.lock().expect("no holder panics").answer(&call, &host)
        }
        Some(Odd::Gated(gate)) => {
            gate.0.subscribe().wait_for(|open| *open).await.expect("the gate is held here");
            world.lock().expect("no holder panics").answer(&call, &host)
        }
        Some(Odd::Status(status)) => (status, Value::Null),
        Some(Odd::TooMany(after)) => return Ok(told(429, after.as_deref())),
        Some(Odd::Away(status, after)) => return Ok(told(status, Some(&after))),
        Some(Odd::Text(text)) => return Ok(whole(200, text)),
        Some(Odd::Silence) => std::future::pending().await,
        Some(Odd::CutOff) => return Ok(half()),
    };
    drop(running);
    let (status, value) = answered;
    Ok(whole(status, value.to_string()))
}

fn whole(status: u16, text: String) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed();
    let response = Response::builder().status(StatusCode::from_u16(status).expect("a status"));
    response.header("content-type", "application/json").body(body).expect("a plain response")
}

fn told(status: u16, retry_after: Option<&str>) -> Response<Body> {
    let mut response = whole(status, "{}".to_owned());
    if let Some(after) = retry_after {
        response.headers_mut().insert(HeaderName::from_static("retry-after"), after.parse().expect("a plain header"));
    }
    response
}

fn half() -> Response<Body> {
    let frames = [Ok(Frame::data(Bytes::from_static(b"{\"id\":\"1\","))), Err(std::io::Error::other("cut"))];
    let mut response = whole(200, String::new());
    *response.body_mut() = BodyExt::boxed(StreamBody::new(stream::iter(frames)));
    response
}

/// The parameters of a query, decoded.
fn parameters(query: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let members = query.split('&').filter_map(|member| member.split_once('='));
    members.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(named, _)| named == name).map(|(_, value)| value.as_str())
}

fn rfc_3339(ms: u64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).expect("a moment");
    moment.format(&Rfc3339).expect("it has a form")
}

const NOT_FOUND: (u16, Value) = (404, Value::Null);

impl World {
    fn answer(&mut self, call: &Call, host: &str) -> (u16, Value) {
        if self.authorization.as_ref().is_some_and(|wanted| *wanted != call.authorization) {
            return (401, Value::Null);
        }
        let (path, query) = call.path.split_once('?').unwrap_or((&call.path, ""));
        let query = parameters(query);
        // Forge's way leads to the same site.
        let (cloud, data_center) = (path.find("/wiki/api/v2/"), path.strip_prefix(DATA_CENTER));
        match (cloud.map(|at| &path[at + "/wiki/api/v2/".len()..]), data_center) {
            (Some("pages"), _) => self.list_v2(&query, host),
            (Some("spaces"), _) => (200, json!({ "results": [], "_links": {} })),
            (Some(rest), _) => match rest.split_once('/') {
                Some(("pages", id)) => self.page_v2(id, &query, host),
                Some(("spaces", id)) => self.space_v2(id),
                _ => NOT_FOUND,
            },
            (None, Some("/rest/api/space")) => (200, json!({ "results": [], "_links": {} })),
            (None, Some("/rest/api/content" | "/rest/api/content/search")) => self.list_v1(path, &query),
            (None, Some(rest)) => match rest.strip_prefix("/rest/api/content/") {
                Some(id) => self.page_v1(id, &query),
                None => NOT_FOUND,
            },
            (None, None) => NOT_FOUND,
        }
    }

    /// The page as this read sees it.
    fn seen(&mut self, id: &str) -> Option<(u64, StandPage)> {
        let id: u64 = id.parse().ok()?;
        if let Some((reads, before)) = self.late.get_mut(&id)
            && *reads > 0
        {
            *reads -= 1;
            return before.clone().map(|page| (id, page));
        }
        self.pages.get(&id).filter(|page| !page.restricted).map(|page| (id, page.clone()))
    }

    fn page_v2(&mut self, id: &str, query: &[(String, String)], host: &str) -> (u16, Value) {
        let with_body = parameter(query, "body-format") == Some("storage");
        let Some((id, page)) = self.seen(id) else { return NOT_FOUND };
        let mut told = page_v2(id, &page, with_body);
        told["_links"]["base"] = self.base_v2(host).into();
        (200, told)
    }

    fn base_v2(&self, host: &str) -> String {
        self.name.clone().unwrap_or_else(|| format!("http://{host}{CLOUD}"))
    }

    fn base_v1(&self) -> String {
        self.name.clone().unwrap_or_else(|| "http://elsewhere.example/confluence".to_owned())
    }

    fn page_v1(&mut self, id: &str, query: &[(String, String)]) -> (u16, Value) {
        let any = parameter(query, "status") == Some("any");
        match self.seen(id).filter(|(_, page)| any || page.status == "current") {
            Some((id, page)) => {
                let mut content = self.content(id, &page, query);
                content["_links"] = json!({ "base": self.base_v1(), "context": DATA_CENTER });
                (200, content)
            }
            None => NOT_FOUND,
        }
    }

    fn content(&self, id: u64, page: &StandPage, query: &[(String, String)]) -> Value {
        let expand: Vec<&str> = parameter(query, "expand").unwrap_or_default().split(',').collect();
        let mut content = json!({ "id": id.to_string(), "type": "page", "status": page.status, "title": page.title });
        if expand.contains(&"space") {
            content["space"] = json!({ "id": page.space_id, "key": self.spaces[&page.space_id], "type": "global" });
        }
        if expand.contains(&"version") {
            content["version"] = json!({ "number": page.version, "when": rfc_3339(page.modified_ms) });
        }
        if expand.contains(&"body.storage") {
            content["body"] = json!({ "storage": { "value": page.body, "representation": "storage" } });
        }
        content
    }

    fn space_v2(&self, id: &str) -> (u16, Value) {
        let key = id.parse::<u64>().ok().and_then(|id| self.spaces.get(&id));
        key.map_or(NOT_FOUND, |key| (200, json!({ "id": id, "key": key, "type": "global", "status": "current" })))
    }

    /// Sorted, each with its place in that order.
    fn sorted(&self, latest_first: bool, statuses: &[&str]) -> Vec<((u64, u64), u64, &StandPage)> {
        let listed = |page: &StandPage| !page.restricted && statuses.contains(&page.status.as_str());
        let place = |id: u64, page: &StandPage| if latest_first { (u64::MAX - page.modified_ms, id) } else { (0, id) };
        let pages = self.pages.iter().filter(|(_, page)| listed(page));
        let mut pages: Vec<_> = pages.map(|(id, page)| (place(*id, page), *id, page)).collect();
        pages.sort_by_key(|(place, ..)| *place);
        pages
    }

    fn list_v2(&self, query: &[(String, String)], host: &str) -> (u16, Value) {
        let sort = parameter(query, "sort").unwrap_or("id");
        let statuses: Vec<&str> =
            query.iter().filter(|(name, _)| name == "status").map(|(_, value)| value.as_str()).collect();
        let limit = parameter(query, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(25).min(LIST_MAX);
        let after = match parameter(query, "cursor") {
            None => None,
            Some(cursor) => match place_of(cursor) {
                Some(place) => Some(place),
                None => return (400, Value::Null),
            },
        };
        let pages = self.sorted(sort == "-modified-date", &statuses);
        let left: Vec<_> = pages.into_iter().filter(|(place, ..)| after.is_none_or(|after| *place > after)).collect();
        let with_body = parameter(query, "body-format") == Some("storage");
        let results: Vec<Value> = left.iter().take(limit).map(|(_, id, page)| page_v2(*id, page, with_body)).collect();
        let mut links = json!({ "base": self.base_v2(host) });
        if left.len() > limit {
            let (place, ..) = left[limit - 1];
            let cursor = format!("{{\"place\":\"{}+{}=\"}}", place.0, place.1);
            let cursor = utf8_percent_encode(&cursor, NON_ALPHANUMERIC);
            let next = format!("{CLOUD}/api/v2/pages?limit={limit}&sort={sort}&cursor={cursor}");
            links["next"] = if self.absolute_next { format!("http://{host}{next}").into() } else { next.into() };
        }
        (200, json!({ "results": results, "_links": links }))
    }

    fn list_v1(&self, path: &str, query: &[(String, String)]) -> (u16, Value) {
        let latest_first = parameter(query, "cql").is_some_and(|cql| cql.contains("order by lastmodified desc"));
        let number = |name| parameter(query, name).and_then(|text| text.parse().ok());
        let (start, limit) = (number("start").unwrap_or(0), number("limit").unwrap_or(25).min(LIST_MAX));
        let pages = self.sorted(latest_first, &["current"]);
        let (left, seen) = (pages.len().saturating_sub(start), pages.iter().skip(start).take(limit));
        let results: Vec<Value> = seen.map(|(_, id, page)| self.content(*id, page, query)).collect();
        let mut links = json!({ "base": self.base_v1(), "context": DATA_CENTER });
        if left > limit {
            let path = path.strip_prefix(DATA_CENTER).unwrap_or(path);
            links["next"] = format!("{path}?limit={limit}&start={}", start + limit).into();
        }
        let size = results.len();
        (200, json!({ "results": results, "start": start, "limit": limit, "size": size, "_links": links }))
    }
}

fn place_of(cursor: &str) -> Option<(u64, u64)> {
    let value: Value = serde_json::from_str(cursor).ok()?;
    let (first, second) = value["place"].as_str()?.strip_suffix('=')?.split_once('+')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

fn page_v2(id: u64, page: &StandPage, with_body: bool) -> Value {
    let StandPage { title, space_id, version, modified_ms, status, body, .. } = page;
    let body = if with_body { json!({ "storage": { "representation": "storage", "value": body } }) } else { json!({}) };
    json!({
        "id": id.to_string(), "status": status, "title": title, "spaceId": space_id.to_string(), "parentId": null,
        "version": { "number": version, "message": "", "minorEdit": false, "createdAt": rfc_3339(*modified_ms) },
        "body": body, "_links": { "webui": format!("/spaces/DOC/pages/{id}") },
    })
}
