//! Reading a body within its limits: type, size, time, and what all bodies take together.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::limits::BODY_FIRST_BYTES;
use crate::problem::{Code, Problem};

/// A body, whole. Its share of the memory for bodies is given back when it is dropped.
pub struct Body {
    pub bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

/// Only JSON in UTF-8 is taken. A body of another type is most likely a mistake, and a browser's form could send it
/// across origins without asking.
pub fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |detail: &str| Err(Problem::new(Code::UnsupportedMediaType, detail));
    let encodings = headers.get_all(CONTENT_ENCODING);
    if encodings.iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return refused("send the body without a Content-Encoding");
    }
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let json = media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"));
    if !json {
        return refused("send Content-Type: application/json");
    }
    let other_charset = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        name.trim().eq_ignore_ascii_case("charset") && !value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    };
    if parts.any(other_charset) {
        return refused("send the body in UTF-8");
    }
    Ok(())
}

/// Reads a body of at most `bytes_max`. A length that is announced and too large is refused before a byte is read.
pub async fn read(
    mut body: Incoming,
    bytes_max: usize,
    deadline: Instant,
    shares: &Arc<Semaphore>,
) -> Result<Body, Problem> {
    let announced = body.size_hint().exact().unwrap_or(0);
    if announced > bytes_max as u64 {
        return Err(too_large(bytes_max, announced));
    }
    let mut bytes = BytesMut::with_capacity((announced as usize).min(BODY_FIRST_BYTES));
    let mut share: Option<OwnedSemaphorePermit> = None;
    loop {
        let frame = timeout_at(deadline, body.frame())
            .await
            .map_err(|_| Problem::new(Code::BodyTimeout, "the body did not arrive within `http.body_read_timeout`"))?;
        let data = match frame {
            None => return Ok(Body { bytes: bytes.freeze(), _share: share }),
            // Trailers hold nothing for us.
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(_)) => return Err(Problem::new(Code::MalformedJson, "the body broke off or is badly chunked")),
        };
        let size = bytes.len() + data.len();
        if size > bytes_max {
            return Err(too_large(bytes_max, size as u64));
        }
        let more = shares
            .clone()
            .try_acquire_many_owned(data.len() as u32)
            .map_err(|_| Problem::new(Code::Overloaded, "too many bytes of bodies in flight: try again"))?;
        match &mut share {
            Some(share) => share.merge(more),
            none => *none = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
}

pub fn too_large(bytes_max: usize, size: u64) -> Problem {
    let detail = format!("a body of this call may take {bytes_max} bytes: send less at once");
    Problem::new(Code::BodyTooLarge, detail).with_size(bytes_max as u64, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        check_type(&headers).is_ok()
    }

    #[test]
    fn json_in_utf_8_is_taken_and_nothing_else() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/cloudevents+json",
            "application/json; profile=x",
        ] {
            assert!(check("content-type", good), "{good}");
        }
        for bad in [
            "text/plain",
            "text/json",
            "application/x-www-form-urlencoded",
            "",
            "json",
            "application/json; charset=latin1",
            "application/jsonp",
        ] {
            assert!(!check("content-type", bad), "{bad}");
        }
        assert!(check_type(&HeaderMap::new()).is_err());
    }

    #[test]
    fn an_encoded_body_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
        headers.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(check_type(&headers).unwrap_err().code, Code::UnsupportedMediaType);
    }
}
