//! Reading the JSON body of a call.

use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

use super::answer::Failure;
use crate::problem::{Code, Problem};

/// Reads a body of at most `bytes_max`. `form` says what it must be.
pub async fn read_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    form: &str,
) -> Result<T, Failure> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(Code::UnsupportedMediaType, "send Content-Type: application/json").into());
    }
    let body = to_bytes(body, bytes_max).await.map_err(|_| {
        Problem::new(Code::BodyTooLarge, format!("the body of this call has at most {bytes_max} bytes"))
    })?;
    // The parser's own message may repeat what was sent; its place in the text doesn't.
    serde_json::from_slice(&body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::new(Code::InvalidRequest, form).into(),
        _ => {
            let (line, column) = (error.line(), error.column());
            Problem::new(Code::MalformedJson, format!("not JSON at line {line}, column {column}")).into()
        }
    })
}
