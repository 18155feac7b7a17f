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
use super::routes::Route;
use super::socket::Peer;
use super::{Shared, body, prefer, query, timed_out};
use crate::envelope::limits::KEYS_PER_REQUEST_MAX;
use crate::hooks::{self, Hooks};
use crate::ingest::Ingest;
use crate::problem::{Code, Problem};
use crate::serve::{Links, Page, Serve};
use crate::telemetry::trace;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The data plane of a process; a mover is absent where the process does not run its role.
pub struct Data {
    pub ingest: Option<Ingest>,
    pub serve: Option<Serve>,
    pub links: Option<Links>,
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
            Route::Links => self.links(request, shared).await,
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
        let delete = query::key_delete(request.uri())?;
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
        let key = query::key(request.uri().path())?;
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

    async fn links(&self, request: Request<Incoming>, shared: &Shared) -> Result<Answer, Problem> {
        let links = self.links.as_ref().ok_or_else(|| {
            let detail = "links are told where the role `get` runs and `confluence.enabled` is true";
            Problem::new(Code::NoSuchRoute, detail)
        })?;
        let caller = links.authorize(authorization(request.headers()))?;
        let asked = query::links(request.uri())?;
        let if_none_match = if_none_match(request.headers());
        let page = timed(shared, links.get(&caller, &asked, if_none_match.as_deref())).await?;
        Ok(answer::page(page, request.method() == Method::HEAD))
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
