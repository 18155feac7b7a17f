//! Calls to other people's servers: a small HTTP client, made once per process.
//!
//! It bounds what it waits for and what it reads, keeps connections for the next call, and trusts the public certificate
//! authorities and those that it is given. It follows no redirect, as that would carry credentials to who knows where;
//! it never retries what has reached a server, knows no proxy, asks for no compressed answers, and tells no header's
//! value in an error.
//!
//! *Large answers* (above [`LARGE_BYTES`]) are in memory [`LARGE_AT_ONCE`] at a time, over all servers: whoever gets one
//! keeps its [`Share`] until what it made of it is gone, too.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Up to here an answer is read at once; beyond it, when there is a share of memory for it. Bytes.
pub const LARGE_BYTES: usize = 2 << 20;
/// Answers larger than that which are in memory at once.
pub const LARGE_AT_ONCE: usize = 3;
/// Connections to one host that are kept for the next call, and for how long.
const IDLE_PER_HOST_MAX: usize = 8;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Who we say we are.
const AGENT: &str = concat!("hookcache/", env!("CARGO_PKG_VERSION"));

/// The client. Cheap to clone; all clones share connections and limits.
#[derive(Clone)]
pub struct Outbound {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    large: Arc<Semaphore>,
}

/// What one call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the call to the last byte of its answer; waiting for a share of memory included.
    pub time: Duration,
    pub body_bytes_max: usize,
}

/// A server's answer, whatever its status.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// To be kept until all that was made of a large body is gone.
    pub share: Option<Share>,
}

/// The right to have a large answer in memory.
#[derive(Debug, Clone)]
pub struct Share(#[allow(dead_code, reason = "it is held, and never looked at")] Arc<OwnedSemaphorePermit>);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    #[error("no http or https URL")]
    NotAUrl,
    #[error("a header holds characters that can't be sent")]
    NotAHeader,
    /// No connection, no TLS, or the connection ended before the answer did.
    #[error("{0}")]
    Broken(String),
    #[error("no whole answer within {0:?}")]
    TimedOut(Duration),
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

/// A file of certificate authorities that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("holds no certificate that can be trusted: {0}")]
pub struct NotAnAuthority(String);

impl Outbound {
    /// `authorities` are trusted beside the public ones. `connect_timeout` is that of a TCP connection.
    pub fn new(connect_timeout: Duration, authorities: &[CertificateDer<'static>]) -> Result<Self, NotAnAuthority> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for authority in authorities {
            roots.add(authority.clone()).map_err(|error| NotAnAuthority(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has a cipher suite for each version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .build(connector);
        Ok(Self { client, large: Arc::new(Semaphore::new(LARGE_AT_ONCE)) })
    }

    /// GET. Any status is an answer.
    pub async fn get(&self, url: &str, headers: &[(HeaderName, &str)], limits: Limits) -> Result<Reply, OutboundError> {
        let request = request(url, headers)?;
        let call = async {
            let answer = self.client.request(request).await.map_err(|error| OutboundError::Broken(chain(&error)))?;
            let (head, body) = answer.into_parts();
            let (body, share) = self.read(body, limits.body_bytes_max).await?;
            Ok(Reply { status: head.status.as_u16(), headers: head.headers, body, share })
        };
        timeout(limits.time, call).await.unwrap_or(Err(OutboundError::TimedOut(limits.time)))
    }

    async fn read(&self, mut body: Incoming, bytes_max: usize) -> Result<(Bytes, Option<Share>), OutboundError> {
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > bytes_max {
            return Err(OutboundError::TooLarge(bytes_max));
        }
        let (mut read, mut share) = (BytesMut::with_capacity(announced.min(LARGE_BYTES)), None);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| OutboundError::Broken(chain(&error)))?;
            let Ok(data) = frame.into_data() else { continue };
            if read.len() + data.len() > bytes_max {
                return Err(OutboundError::TooLarge(bytes_max));
            }
            if share.is_none() && read.len() + data.len() > LARGE_BYTES {
                share = Some(self.share().await?);
            }
            read.extend_from_slice(&data);
        }
        Ok((read.freeze(), share))
    }

    /// Who has a share waits for no other, so all of them end.
    async fn share(&self) -> Result<Share, OutboundError> {
        let permit = self.large.clone().acquire_owned().await;
        permit.map(|permit| Share(Arc::new(permit))).map_err(|closed| OutboundError::Broken(closed.to_string()))
    }
}

fn request(url: &str, headers: &[(HeaderName, &str)]) -> Result<Request<Empty<Bytes>>, OutboundError> {
    let uri: Uri = url.parse().map_err(|_| OutboundError::NotAUrl)?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty());
    if !is_web {
        return Err(OutboundError::NotAUrl);
    }
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
    for (name, value) in headers {
        let mut value = HeaderValue::from_str(value).map_err(|_| OutboundError::NotAHeader)?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

/// An error in its own words and in those of what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
