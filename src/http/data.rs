//! The data plane's calls: which mover answers which route, and what of the request it is given.
//!
//! The caller's token is judged before anything about the body is.

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderName, IF_NONE_MATCH};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request};
use tokio::time::{Instant, timeout};

use super::answer::{self, Answer};
use super::limits::BODY_BYTES_MAX;
use super::routes::{KEY_PREFIX, Route};
use super::socket::Peer;
use super::{Shared, body, prefer, timed_out};
use crate::envelope::limits::KEYS_PER_REQUEST_MAX;
use crate::hooks::{self, Hooks};
use crate::ingest::{Ingest, KeyDelete};
use crate::problem::{Code, Item, Problem};
use crate::serve::{Page, Serve};
use crate::telemetry::trace;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The data plane of a process; a mover is absent where the process does not run its role.
pub struct Data {
    pub ingest: Option<Ingest>,
    pub serve: Option<Serve>,
    pub hooks: Option<Hooks>,
}

impl Data {
    /// Any call but a get of one key.
    pub(super) async fn call(&self, route: Route, request: Request<Incoming>, shared: &Shared) -> Answer {
        let answered = match route {
            Route::Set => self.set(request, shared).await,
            Route::Delete => self.delete(request, shared).await,
            Route::GetMany => self.get_many(request, shared).await,
            Route::Key => self.delete_key(request, shared).await,
            Route::Hook => self.hook(request, shared).await,
            Route::Descriptor => self.descriptor(request, shared).await,
            _ => Err(Problem::new(Code::NoSuchRoute, "the data plane has no such path")),
        };
        answered.unwrap_or_else(|problem| answer::problem(&problem))
    }

    /// The most webhook keys that one set or delete may name.
    pub(super) fn keys_max(&self) -> usize {
        self.ingest.as_ref().map_or(KEYS_PER_REQUEST_MAX, Ingest::keys_max)
    }

    fn ingest(&self) -> Result<&Ingest, Problem> {
        self.ingest.as_ref().ok_or_else(|| Problem::new(Code::NoSuchRoute, "this process does not run the role `set`"))
    }

    fn serve(&self) -> Result<&Serve, Problem> {
        self.serve.as_ref().ok_or_else(|| Problem::new(Code::NoSuchRoute, "this process does not run the role `get`"))
    }

    fn hooks(&self) -> Result<&Hooks, Problem> {
        self.hooks.as_ref().ok_or_else(|| {
            let detail = "webhooks are received where the role `set` runs and `confluence.enabled` is true";
            Problem::new(Code::NoSuchRoute, detail)
        })
    }

    async fn set(&self, request: Request<Incoming>, shared: &Shared) -> Result<Answer, Problem> {
        let ingest = self.ingest()?;
        let caller = ingest.authorize(authorization(request.headers()))?;
        let (parts, body) = read(request, shared).await?;
        let set = timed(shared, ingest.set(&caller, body.bytes.clone(), traceparent(&parts.headers))).await?;
        Ok(answer::set(&set))
    }

    async fn delete(&self, request: Request<Incoming>, shared: &Shared) -> Result<Answer, Problem> {
        let ingest = self.ingest()?;
        let caller = ingest.authorize(authorization(request.headers()))?;
        let (parts, body) = read(request, shared).await?;
        let deleted = timed(shared, ingest.delete(&caller, body.bytes.clone(), traceparent(&parts.headers))).await?;
        Ok(answer::accepted(&deleted))
    }

    async fn delete_key(&self, request: Request<Incoming>, shared: &Shared) -> Result<Answer, Problem> {
        let ingest = self.ingest()?;
        let caller = ingest.authorize(authorization(request.headers()))?;
        let delete = key_delete(key(request.uri().path())?, request.uri().query())?;
        let deleted = timed(shared, ingest.delete_key(&caller, &delete, traceparent(request.headers()))).await?;
        Ok(answer::accepted(&deleted))
    }

    /// A get of one key.
    pub(super) async fn get(&self, request: &Request<Incoming>, shared: &Shared, peer: &Peer) -> Answer {
        self.try_get(request, shared, peer).await.unwrap_or_else(|problem| answer::problem(&problem))
    }

    async fn try_get(&self, request: &Request<Incoming>, shared: &Shared, peer: &Peer) -> Result<Answer, Problem> {
        let (serve, headers) = (self.serve()?, request.headers());
        let caller = serve.authorize_again(&peer.known, authorization(headers))?;
        let key = key(request.uri().path())?;
        let (if_none_match, head_only) = (if_none_match(headers), request.method() == Method::HEAD);
        if let Some(wait) = prefer::wait(headers)
            && let Some(hold) = shared.hold(peer)
        {
            let waiter = serve.waiter(&key)?;
            let news = serve.get_news(&caller, waiter, if_none_match.as_deref(), wait, hold.cut_short());
            // The call may take its time beside that which it waits. Boxed, as few wait, and those that don't are small.
            let page = Box::pin(timeout(wait + shared.options.request_timeout, news)).await;
            return Ok(prefer::applied(answered(page.unwrap_or_else(|_| Err(timed_out())), head_only), wait));
        }
        let page = timed(shared, serve.get(&caller, &key, if_none_match.as_deref())).await?;
        Ok(answer::page(page, head_only))
    }

    async fn get_many(&self, request: Request<Incoming>, shared: &Shared) -> Result<Answer, Problem> {
        let serve = self.serve()?;
        let caller = serve.authorize(authorization(request.headers()))?;
        let (_, body) = read(request, shared).await?;
        let entries: Bytes = timed(shared, serve.get_many(&caller, &body.bytes)).await?;
        Ok(answer::many(entries))
    }

    /// Its sender is judged by the mover: a signature may be one of the body.
    async fn hook(&self, request: Request<Incoming>, shared: &Shared) -> Result<Answer, Problem> {
        let hooks = self.hooks()?;
        let (parts, body) = read_up_to(hooks::BODY_BYTES_MAX, request, shared).await?;
        timed(shared, hooks.answer(call(parts, body.bytes.clone()))).await.map(answer::hook)
    }

    async fn descriptor(&self, request: Request<Incoming>, shared: &Shared) -> Result<Answer, Problem> {
        let (parts, _) = request.into_parts();
        timed(shared, self.hooks()?.answer(call(parts, Bytes::new()))).await.map(answer::hook)
    }
}

fn answered(page: Result<Page, Problem>, head_only: bool) -> Answer {
    page.map_or_else(|problem| answer::problem(&problem), |page| answer::page(page, head_only))
}

async fn read(request: Request<Incoming>, shared: &Shared) -> Result<(Parts, body::Body), Problem> {
    read_up_to(BODY_BYTES_MAX, request, shared).await
}

async fn read_up_to(
    bytes_max: usize,
    request: Request<Incoming>,
    shared: &Shared,
) -> Result<(Parts, body::Body), Problem> {
    let (parts, incoming) = request.into_parts();
    body::check_type(&parts.headers)?;
    let deadline = Instant::now() + shared.options.body_read_timeout;
    let body = body::read(incoming, bytes_max, deadline, &shared.bodies).await?;
    Ok((parts, body))
}

/// A request as the mover behind webhooks takes it.
fn call(parts: Parts, body: Bytes) -> hooks::Call {
    let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().map(str::to_owned));
    hooks::Call { method: parts.method, path, query, headers: parts.headers, body }
}

fn timed<T>(
    shared: &Shared,
    call: impl Future<Output = Result<T, Problem>>,
) -> impl Future<Output = Result<T, Problem>> {
    timeout(shared.options.request_timeout, call).map(|done| done.unwrap_or_else(|_| Err(timed_out())))
}

/// The header's value. What is no text, or stands twice, is a header that no token matches.
fn authorization(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let first = values.next()?;
    Some(if values.next().is_some() { "" } else { first.to_str().unwrap_or_default() })
}

/// An `If-None-Match` may stand several times; together they are one list.
fn if_none_match(headers: &HeaderMap) -> Option<String> {
    let values: Vec<&str> = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn traceparent(headers: &HeaderMap) -> Option<&str> {
    trace::valid(headers.get(TRACEPARENT)?.to_str().ok()?)
}

/// Everything after the prefix, decoded once.
pub(super) fn key(path: &str) -> Result<String, Problem> {
    decoded(path.strip_prefix(KEY_PREFIX).unwrap_or_default()).map_err(|why| Problem::new(Code::InvalidKey, why))
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let bytes = text.as_bytes();
    let escape = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !escape(at)) {
        return Err("a percent sign must be followed by two hexadecimal digits");
    }
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(String::from).map_err(|_| "what is percent-encoded must be UTF-8")
}

/// The query of a delete by key. What its members say is judged with the rest of the request.
fn key_delete(key: String, query: Option<&str>) -> Result<KeyDelete, Problem> {
    let (mut account, mut event_id, mut event_time) = (None, None, None);
    for member in query.unwrap_or_default().split('&').filter(|member| !member.is_empty()) {
        let (name, value) = member.split_once('=').unwrap_or((member, ""));
        let place = match name {
            "accountId" => &mut account,
            "eventId" => &mut event_id,
            "eventTime" => &mut event_time,
            _ => return Err(bad_query("")),
        };
        let value = decoded(value).map_err(|_| bad_query(name))?;
        if place.replace(value).is_some() {
            return Err(bad_query(name));
        }
    }
    let account = account.ok_or_else(|| bad_query("accountId"))?;
    Ok(KeyDelete { account, key, event_id, event_time })
}

/// `name` is the member that is wrong; empty for one that there is not.
fn bad_query(name: &str) -> Problem {
    let detail = "the query must be accountId=<account>, and may have eventId=<id>&eventTime=<time>, each once and \
                  percent-encoded";
    let pointer = if name.is_empty() { String::new() } else { format!("/{name}") };
    let item = Item { pointer, code: Code::InvalidRequest.as_str(), detail: detail.to_owned() };
    Problem::new(Code::InvalidRequest, detail).with_errors(vec![item])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_decoded_once() {
        for (path, want) in [
            ("/v1/keys/a/b", "a/b"),
            ("/v1/keys/a%2Fb", "a/b"),
            ("/v1/keys/a%2fb", "a/b"),
            ("/v1/keys/%252F", "%2F"),
            ("/v1/keys/a+b", "a+b"),
            ("/v1/keys/%7Bx%7D%20%F0%9F%A6%80", "{x} \u{1F980}"),
            ("/v1/keys//", "/"),
        ] {
            assert_eq!(key(path).unwrap(), want);
        }
        for path in ["/v1/keys/%", "/v1/keys/%2", "/v1/keys/%zz", "/v1/keys/%ff", "/v1/keys/%+1"] {
            assert_eq!(key(path).unwrap_err().code, Code::InvalidKey, "{path}");
        }
    }

    #[test]
    fn the_query_of_a_delete_names_an_account_and_perhaps_an_event() {
        let read = |query| key_delete("k".to_owned(), query);
        let plain = read(Some("accountId=a%40b")).unwrap();
        assert_eq!((plain.account.as_str(), plain.event_id, plain.event_time), ("a@b", None, None));
        let full = read(Some("eventTime=2026-01-01T00:00:00+01:00&accountId=a&eventId=x%26y")).unwrap();
        assert_eq!(full.event_time.as_deref(), Some("2026-01-01T00:00:00+01:00"), "a plus is a plus");
        assert_eq!(full.event_id.as_deref(), Some("x&y"));
        for (query, pointer) in [
            (None, "/accountId"),
            (Some(""), "/accountId"),
            (Some("account=a"), ""),
            (Some("accountId=a&x=1"), ""),
            (Some("accountId=%"), "/accountId"),
            (Some("accountId=a&accountId=a"), "/accountId"),
            (Some("accountId=a&eventId=%ff"), "/eventId"),
        ] {
            let problem = read(query).unwrap_err();
            assert_eq!(
                (problem.code, problem.errors[0].pointer.as_str()),
                (Code::InvalidRequest, pointer),
                "{query:?}"
            );
        }
    }
}
