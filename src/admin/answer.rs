//! How the control plane answers what went wrong.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::buffer;
use crate::problem::{Code, Problem};
use crate::registry;
use crate::store::Unavailable;

/// A problem on its way to the caller.
pub struct Failure(Box<Problem>);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<Unavailable> for Failure {
    fn from(error: Unavailable) -> Self {
        // Addresses of a backend are for the operator's log, not for an answer.
        tracing::warn!(%error, "the control plane can't reach the store");
        let detail = "the store can't be reached; nothing has changed, and the same call helps once it is back";
        Problem::new(Code::StoreUnavailable, detail).into()
    }
}

impl From<buffer::Unavailable> for Failure {
    fn from(error: buffer::Unavailable) -> Self {
        tracing::warn!(%error, "the control plane can't reach the buffer");
        let detail = "the buffer can't be reached; nothing has changed, and the same call helps once it is back";
        Problem::new(Code::BufferUnavailable, detail).into()
    }
}

impl From<registry::Unavailable> for Failure {
    fn from(error: registry::Unavailable) -> Self {
        tracing::warn!(%error, "the control plane can't reach the registry");
        let detail = "the registry can't be reached; nothing has changed, and the same call helps once it is back";
        Problem::new(Code::RegistryUnavailable, detail).into()
    }
}

impl From<buffer::AppendError> for Failure {
    fn from(error: buffer::AppendError) -> Self {
        tracing::warn!(%error, "the control plane can't put a task into the pages queue");
        let (code, detail) = match error {
            buffer::AppendError::Full(_) => (Code::BufferFull, "the queue is full; the same call helps once it drains"),
            buffer::AppendError::Unavailable(_) | buffer::AppendError::Refused(_) => {
                (Code::BufferUnavailable, "the queue can't be reached; the same call helps once it is back")
            }
        };
        Problem::new(code, detail).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = self.0;
        let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, problem.to_json()).into_response();
        for (name, value) in problem.headers() {
            let value = HeaderValue::from_str(&value).expect("a problem's headers are plain ASCII");
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
        response
    }
}

pub fn invalid(detail: impl Into<String>) -> Failure {
    Problem::new(Code::InvalidRequest, detail).into()
}

/// A number of the query or the body that must be from 1 to `max`.
pub fn bounded(name: &str, asked: Option<usize>, default: usize, max: usize) -> Result<usize, Failure> {
    match asked.unwrap_or(default) {
        count if (1..=max).contains(&count) => Ok(count),
        _ => Err(invalid(format!("{name}: must be from 1 to {max}"))),
    }
}

pub async fn no_such_route() -> Failure {
    Problem::new(Code::NoSuchRoute, "the control plane has no such call").into()
}

pub async fn method_not_allowed() -> Failure {
    Problem::new(Code::MethodNotAllowed, "the header Allow lists the methods of this path").into()
}
