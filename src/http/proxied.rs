//! A webhook that was read by a server other than ours, such as API Gateway: judged and answered as behind our listener.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, Response};
use tokio::time::timeout;

use super::answer::{self, Answer};
use super::{body, timed_out};
use crate::hooks::{BODY_BYTES_MAX, Call, Hooks};
use crate::problem::Problem;

/// The whole answer. `time` takes the place of `http.request_timeout`.
pub async fn webhook(hooks: &Hooks, call: Call, time: Duration) -> Response<Bytes> {
    let head_only = call.method == Method::HEAD;
    let answered = match check(&call) {
        Ok(()) => timeout(time, hooks.answer(call)).await.unwrap_or_else(|_| Err(timed_out())),
        Err(problem) => Err(problem),
    };
    let response = whole(answered.map_or_else(|problem| answer::problem(&problem), answer::hook)).await;
    if head_only { response.map(|_| Bytes::new()) } else { response }
}

/// The answer to what is no request that `hooks` could judge.
pub async fn refused(problem: &Problem) -> Response<Bytes> {
    whole(answer::problem(problem)).await
}

/// What our listener refuses before the mover sees it.
fn check(call: &Call) -> Result<(), Problem> {
    if call.method == Method::POST {
        body::check_type(&call.headers)?;
    }
    match call.body.len() {
        bytes if bytes > BODY_BYTES_MAX => Err(body::too_large(BODY_BYTES_MAX, bytes as u64)),
        _ => Ok(()),
    }
}

async fn whole(answer: Answer) -> Response<Bytes> {
    let (head, body) = answer::finish(answer).into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Response::from_parts(head, body)
}
