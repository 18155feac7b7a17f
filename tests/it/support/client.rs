//! A small HTTP client: one request, the whole answer.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The empty string where there is no such header.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or_default())
    }
}

pub async fn http_get(url: &str) -> Reply {
    http_send(Method::GET, url, &[], Bytes::new()).await
}

pub async fn http_delete(url: &str) -> Reply {
    http_send(Method::DELETE, url, &[], Bytes::new()).await
}

/// Posts JSON.
pub async fn http_post(url: &str, body: impl Into<Bytes>) -> Reply {
    http_send(Method::POST, url, &[("content-type", "application/json")], body).await
}

/// Panics where there is no answer at all; [`try_send`] returns that.
pub async fn http_send(method: Method, url: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    try_send(method.clone(), url, headers, body).await.unwrap_or_else(|e| panic!("{method} {url}: {e}"))
}

/// The error is the connection's: refused, cut, not HTTP.
pub async fn try_send(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Reply, Box<dyn std::error::Error + Send + Sync>> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into()))?;
    // One connection for one request: no test finds another's connection in a pool.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let (head, body) = client.request(request).await?.into_parts();
    Ok(Reply { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
}
