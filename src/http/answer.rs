//! Answers and their headers. The one place where a [`Problem`] becomes a status.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    LAST_MODIFIED, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::hooks;
use crate::ingest::{Receipt, SetAnswer};
use crate::openapi;
use crate::problem::{Code, Problem};
use crate::serve::Page;

/// Ours are whole; the control plane's may stream.
pub type Answer = Response<Either<Full<Bytes>, axum::body::Body>>;

const JSON: &str = "application/json";
const ACCOUNT: HeaderName = HeaderName::from_static("hookcache-account-id");
const FLOW: HeaderName = HeaderName::from_static("hookcache-flow-id");
const ID: HeaderName = HeaderName::from_static("hookcache-id");
const EXPIRES_AT: HeaderName = HeaderName::from_static("hookcache-expires-at");
/// The last moment that an HTTP date can tell, in milliseconds: the end of the year 9999.
const HTTP_DATE_MS_MAX: u64 = 253_402_300_799_999;

fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body.into())));
    *answer.status_mut() = status;
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
}

pub fn ready(reasons: Vec<String>) -> Answer {
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &Ready { ready, reasons })
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
    let mut answer = if page.not_modified {
        let mut answer = new(StatusCode::NOT_MODIFIED, JSON, Bytes::new());
        answer.headers_mut().remove(CONTENT_TYPE);
        answer
    } else {
        let mut answer = new(StatusCode::OK, JSON, if head_only { Bytes::new() } else { page.payload });
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        answer
    };
    let headers = answer.headers_mut();
    let expires_at = page.expires_at.as_deref();
    for (name, value) in [
        (ETAG, Some(page.etag.as_str())),
        (CACHE_CONTROL, Some(&page.cache_control)),
        (LAST_MODIFIED, http_date(page.modified_ms).as_deref()),
        (ACCOUNT, Some(&page.account)),
        (FLOW, Some(&page.flow)),
        (ID, Some(&page.id)),
        (EXPIRES_AT, expires_at),
    ] {
        // An id that came from elsewhere may hold what no header can: then it is left out.
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
            headers.insert(name, value);
        }
    }
    answer
}

fn http_date(ms: u64) -> Option<String> {
    let moment = UNIX_EPOCH + Duration::from_millis(Some(ms).filter(|ms| *ms <= HTTP_DATE_MS_MAX)?);
    Some(httpdate::fmt_http_date(moment))
}

#[cfg(test)]
mod tests {
    use hyper::header::{RETRY_AFTER, WWW_AUTHENTICATE};

    use super::*;

    #[test]
    fn a_date_beyond_the_year_9999_is_left_out() {
        assert_eq!(http_date(784_111_777_000).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(http_date(HTTP_DATE_MS_MAX).is_some());
        assert!(http_date(HTTP_DATE_MS_MAX + 1).is_none());
    }

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
