//! Where Redis is, how it is reached, and who we are there.

use std::fmt;
use std::future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use deadpool_redis::redis;
use futures_util::{Stream, StreamExt, stream};
use redis::aio::MultiplexedConnection;
use redis::auth::{BasicAuth, StreamingCredentialsProvider};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Options;

/// First keepalive probe on an idle connection: sooner than the 350 s after which cloud load balancers forget it.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Sent data that is not acknowledged for so long means a dead peer (a failover that left no RST behind).
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that one connection queues before senders wait.
pub(super) const PIPELINE_REQUESTS_MAX: usize = 1_024;
/// A writer's pipelines are megabytes; the library's 8 KiB would make a system call of each piece.
const WRITER_FLUSH_BYTES: usize = 256 << 10;
/// The user that Redis takes a bare password for.
const DEFAULT_USER: &str = "default";

/// Why a Redis store can't be opened. The operator must change the configuration.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("store.url must be redis://[user[:password]@]host[:port][/db], or rediss:// for TLS: {0}")]
    Url(String),
    #[error("{key}: can't read {}: {source}", path.display())]
    File { key: &'static str, path: PathBuf, source: std::io::Error },
    #[error("store.username_file needs a password, from store.password_file or store.url")]
    NoPassword,
    #[error("store.ca_file needs a store.url that starts with rediss://")]
    CaWithoutTls,
    #[error("store.ca_file: {} holds no PEM certificate that can be read: {reason}", path.display())]
    Ca { path: PathBuf, reason: String },
    #[error("{key} must be at least 1")]
    Zero { key: &'static str },
}

/// Makes connections to one Redis.
#[derive(Clone)]
pub(super) struct Endpoint {
    client: Client,
    credentials: Option<Credentials>,
    connect_timeout: Duration,
}

impl Endpoint {
    pub(super) fn new(options: &Options) -> Result<Self, OpenError> {
        let counts = [
            ("store.read_connections", options.read_connections),
            ("store.write_connections", options.write_connections),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(OpenError::Zero { key });
        }
        let info = connection_info(&options.url)?;
        let tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        if tls {
            // The process may have chosen one before; any is fine, as long as there is one.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let credentials = Credentials::new(options, &info)?;
        if let Some(credentials) = &credentials {
            credentials.read()?;
        }
        let client = match &options.ca_file {
            Some(_) if !tls => return Err(OpenError::CaWithoutTls),
            Some(path) => {
                let root_cert = Some(read_ca(path)?);
                let trusted = TlsCertificates { client_tls: None, root_cert };
                Client::build_with_tls(info, trusted)
                    .map_err(|e| OpenError::Ca { path: path.clone(), reason: e.to_string() })?
            }
            None => Client::open(info).map_err(|e| OpenError::Url(url_reason(&e)))?,
        };
        Ok(Self { client, credentials, connect_timeout: options.connect_timeout })
    }

    /// For leased connections.
    pub(super) fn info(&self) -> ConnectionInfo {
        self.client.get_connection_info().clone()
    }

    pub(super) fn writer_config(&self, response_timeout: Duration) -> AsyncConnectionConfig {
        self.config(response_timeout).set_write_backpressure_boundary(WRITER_FLUSH_BYTES)
    }

    fn config(&self, response_timeout: Duration) -> AsyncConnectionConfig {
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(response_timeout))
            .set_pipeline_buffer_size(PIPELINE_REQUESTS_MAX);
        if let Some(credentials) = &self.credentials {
            config = config.set_credentials_provider(credentials.clone());
        }
        config
    }

    pub(super) async fn connect(&self, response_timeout: Duration) -> redis::RedisResult<MultiplexedConnection> {
        self.client.get_multiplexed_async_connection_with_config(&self.config(response_timeout)).await
    }
}

/// The address without user and password.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.client.get_connection_info().addr() {
            ConnectionAddr::TcpTls { .. } => "rediss",
            _ => "redis",
        };
        write!(f, "{scheme}://{}", self.client.get_connection_info().addr())
    }
}

fn connection_info(url: &str) -> Result<ConnectionInfo, OpenError> {
    if !url.starts_with("redis://") && !url.starts_with("rediss://") {
        return Err(OpenError::Url("it has another scheme".to_owned()));
    }
    let info = url.into_connection_info().map_err(|e| OpenError::Url(url_reason(&e)))?;
    if let ConnectionAddr::TcpTls { insecure: true, .. } = info.addr() {
        return Err(OpenError::Url("#insecure is not supported; name your authority in store.ca_file".to_owned()));
    }
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(TCP_USER_TIMEOUT);
    Ok(info.set_tcp_settings(tcp))
}

/// The library's reason, unless it has a detail, which could quote the URL and so the password.
pub(super) fn url_reason(error: &redis::RedisError) -> String {
    match error.detail() {
        None => error.to_string(),
        Some(_) => format!("{:?}", error.kind()),
    }
}

fn read_ca(path: &Path) -> Result<Vec<u8>, OpenError> {
    let pem = read_file("store.ca_file", path)?;
    let ca = |reason: String| OpenError::Ca { path: path.to_owned(), reason };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(ca("there is none in it".to_owned())),
        Ok(_) => Ok(pem.into_bytes()),
        Err(e) => Err(ca(e.to_string())),
    }
}

fn read_file(key: &'static str, path: &Path) -> Result<String, OpenError> {
    std::fs::read_to_string(path).map_err(|source| OpenError::File { key, path: path.to_owned(), source })
}

/// User and password of which at least one comes from a file. The files are read at every connect, so that a password
/// can be changed without a restart; connections that are open keep the one they came in with.
#[derive(Clone)]
struct Credentials {
    username_file: Option<PathBuf>,
    password_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    fn new(options: &Options, info: &ConnectionInfo) -> Result<Option<Self>, OpenError> {
        let (username_file, password_file) = (options.username_file.clone(), options.password_file.clone());
        let password = info.redis_settings().password().map(str::to_owned);
        if password_file.is_none() && username_file.is_none() {
            return Ok(None);
        }
        if password_file.is_none() && password.is_none() {
            return Err(OpenError::NoPassword);
        }
        let username = info.redis_settings().username().map(str::to_owned);
        Ok(Some(Self { username_file, password_file, username, password }))
    }

    fn read(&self) -> Result<BasicAuth, OpenError> {
        let one = |key, file: &Option<PathBuf>, otherwise: &Option<String>| match file {
            Some(path) => read_file(key, path).map(|text| Some(text.trim_end_matches(['\r', '\n']).to_owned())),
            None => Ok(otherwise.clone()),
        };
        let username = one("store.username_file", &self.username_file, &self.username)?;
        let password = one("store.password_file", &self.password_file, &self.password)?;
        Ok(BasicAuth::new(username.unwrap_or_else(|| DEFAULT_USER.to_owned()), password.unwrap_or_default()))
    }
}

impl StreamingCredentialsProvider for Credentials {
    /// One answer per connection, then silence: the end of the stream would be taken for a fault.
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = redis::RedisResult<BasicAuth>> + Send + 'static>> {
        let answer = self.read().map_err(|e| redis::RedisError::from(std::io::Error::other(e.to_string())));
        Box::pin(stream::once(future::ready(answer)).chain(stream::pending()))
    }
}
