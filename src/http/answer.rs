//! Answers and their headers. The one place where a [`Problem`] becomes a status.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    LAST_MODIFIED, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use super::probes::Readiness;
use crate::hooks;
use crate::ingest::{Receipt, SetAnswer};
use crate::openapi;
use crate::problem::{Code, Problem};
use crate::serve::{Page, Text};

/// Ours are whole; the control plane's may stream.
pub type Answer = Response<Either<Full<Bytes>, axum::body::Body>>;

const JSON: &str = "application/json";
const ACCOUNT: HeaderName = HeaderName::from_static("hookcache-account-id");
const FLOW: HeaderName = HeaderName::from_static("hookcache-flow-id");
const ID: HeaderName = HeaderName::from_static("hookcache-id");
const EXPIRES_AT: HeaderName = HeaderName::from_static("hookcache-expires-at");
/// Under which header each text stands.
const TEXTS: [(HeaderName, Text); Text::ALL.len()] = [
    (ETAG, Text::ETag),
    (LAST_MODIFIED, Text::LastModified),
    (ACCOUNT, Text::Account),
    (FLOW, Text::Flow),
    (ID, Text::Id),
    (EXPIRES_AT, Text::ExpiresAt),
];
/// Headers of most answers: room for them is made at once.
const HEADERS: usize = 12;

fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body.into())));
    *answer.status_mut() = status;
    *answer.headers_mut() = HeaderMap::with_capacity(HEADERS);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// What every answer carries, whoever made it. Caches keep nothing unless an answer says so itself.
pub fn finish(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

pub fn hook(answered: hooks::Answer) -> Answer {
    match answered {
        hooks::Answer::Descriptor(text) => document(text),
        hooks::Answer::Done => {
            let mut answer = Response::new(Either::Left(Full::default()));
            *answer.status_mut() = StatusCode::NO_CONTENT;
            answer
        }
    }
}

pub fn problem(problem: &Problem) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(problem.to_json().into())));
    *answer.status_mut() = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in problem.headers() {
        let value = HeaderValue::from_str(&value).expect("a problem's headers are plain ASCII");
        answer.headers_mut().insert(HeaderName::from_static(name), value);
    }
    answer
}

/// A problem as it goes over a socket that no HTTP library serves; the connection closes after it.
pub fn raw(problem: &Problem) -> Vec<u8> {
    let body = problem.to_json();
    let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    for (name, value) in problem.headers() {
        head += &format!("{name}: {value}\r\n");
    }
    [head.as_bytes(), b"\r\n", &body].concat()
}

pub fn method_not_allowed(methods: Option<&'static str>) -> Answer {
    let methods = methods.unwrap_or_default();
    let mut answer = problem(&Problem::new(Code::MethodNotAllowed, format!("this path knows {methods}")));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

pub fn text(content_type: &'static str, text: String) -> Answer {
    new(StatusCode::OK, content_type, text)
}

/// A plane's OpenAPI document.
pub fn document(text: Bytes) -> Answer {
    new(StatusCode::OK, JSON, text)
}

/// The page that shows it.
pub fn page_of_docs() -> Answer {
    let mut answer = new(StatusCode::OK, "text/html; charset=utf-8", openapi::PAGE);
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(openapi::PAGE_POLICY));
    answer
}

fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Answer {
    new(status, JSON, serde_json::to_vec(value).expect("plain strings and numbers are always JSON"))
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

pub fn ready(Readiness { reasons, notes }: Readiness) -> Answer {
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &Ready { ready, reasons, notes })
}

pub fn accepted(receipt: &Receipt) -> Answer {
    json(StatusCode::ACCEPTED, receipt)
}

/// One element of an array of sets.
#[derive(Serialize)]
#[serde(untagged)]
enum Element<'a> {
    Accepted {
        status: u16,
        #[serde(flatten)]
        receipt: &'a Receipt,
    },
    Refused(&'a Problem),
}

pub fn set(answer: &SetAnswer) -> Answer {
    let results = match answer {
        SetAnswer::One(receipt) => return accepted(receipt),
        SetAnswer::Many(results) => results,
    };
    let status = StatusCode::ACCEPTED.as_u16();
    let elements = results.iter().map(|result| match result {
        Ok(receipt) => Element::Accepted { status, receipt },
        Err(problem) => Element::Refused(problem),
    });
    json(StatusCode::OK, &elements.collect::<Vec<_>>())
}

pub fn many(body: Bytes) -> Answer {
    new(StatusCode::OK, JSON, body)
}

/// An entry's payload with its headers; without the payload for a HEAD, or when the reader has it.
pub fn page(page: Page, head_only: bool) -> Answer {
    let length = page.payload.len();
    let has_body = !head_only && !page.not_modified;
    let mut answer = Response::new(Either::Left(Full::new(if has_body { page.payload.clone() } else { Bytes::new() })));
    let mut headers = HeaderMap::with_capacity(HEADERS);
    match page.not_modified {
        true => *answer.status_mut() = StatusCode::NOT_MODIFIED,
        false => drop(headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON))),
    }
    if head_only && !page.not_modified {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    for (name, text) in TEXTS {
        let text = page.text(text);
        // An id that came from elsewhere may hold what no header can: then it is left out.
        if !text.is_empty()
            && let Ok(value) = HeaderValue::from_maybe_shared(text)
        {
            headers.insert(name, value);
        }
    }
    headers.insert(CACHE_CONTROL, cache_control(page.max_age_seconds));
    *answer.headers_mut() = headers;
    answer
}

fn cache_control(max_age_seconds: u64) -> HeaderValue {
    match max_age_seconds {
        0 => HeaderValue::from_static("private, no-cache"),
        seconds => HeaderValue::from_str(&format!("private, max-age={seconds}")).expect("it is plain ASCII"),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{RETRY_AFTER, WWW_AUTHENTICATE};

    use super::*;

    #[test]
    fn what_only_time_heals_tells_when_to_come_back() {
        for code in Code::ALL {
            let answer = problem(&Problem::new(*code, "x"));
            assert_eq!(answer.status().as_u16(), code.status());
            assert_eq!(answer.headers().contains_key(RETRY_AFTER), code.retry_helps(), "{}", code.as_str());
            assert_eq!(answer.headers().contains_key(WWW_AUTHENTICATE), code.status() == 401, "{}", code.as_str());
        }
    }
}
