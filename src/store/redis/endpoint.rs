//! One server: where it is, how it is reached, and who we are there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deadpool_redis::redis;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo, TlsCertificates,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Options;
use super::credentials::{Credentials, KeyedFile, read_file};
use super::fault::Fault;
use super::slots::Address;

/// First keepalive probe on an idle connection: sooner than the 350 s after which cloud load balancers forget it.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Sent data that is not acknowledged for so long means a dead peer (a failover that left no RST behind).
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that one connection queues before senders wait.
pub(super) const PIPELINE_REQUESTS_MAX: usize = 1_024;
/// A writer's pipelines are megabytes; the library's 8 KiB would make a system call of each piece.
const WRITER_FLUSH_BYTES: usize = 256 << 10;

/// Why a Redis store can't be opened. The operator must change the configuration.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("store.url must be redis://[user[:password]@]host[:port][/db], or rediss:// for TLS: {0}")]
    Url(String),
    #[error("store.url: {0}")]
    Urls(&'static str),
    #[error("{key}: can't read {}: {source}", path.display())]
    File { key: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{user} needs a password: set {password} too")]
    NoPassword { user: &'static str, password: &'static str },
    #[error("store.ca_file needs a store.url that starts with rediss://")]
    CaWithoutTls,
    #[error("store.ca_file: {} holds no PEM certificate that can be read: {reason}", path.display())]
    Ca { path: PathBuf, reason: String },
    #[error("{key} must be at least 1")]
    Zero { key: &'static str },
}

/// Makes connections to one server.
#[derive(Clone)]
pub(super) struct Endpoint {
    client: Client,
    credentials: Option<Credentials>,
    connect_timeout: Duration,
}

impl Endpoint {
    pub(super) fn new(url: &str, options: &Options) -> Result<Self, OpenError> {
        let info = connection_info(url)?;
        let tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        if tls {
            // The process may have chosen one before; any is fine, as long as there is one.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let username_file = ("store.username_file", options.username_file.clone());
        let password_file = ("store.password_file", options.password_file.clone());
        let credentials = Credentials::new(username_file, password_file, info.redis_settings())?;
        let client = match &options.ca_file {
            Some(_) if !tls => return Err(OpenError::CaWithoutTls),
            Some(path) => {
                let root_cert = Some(read_ca(path)?);
                let trusted = TlsCertificates { client_tls: None, root_cert };
                Client::build_with_tls(info, trusted)
                    .map_err(|e| OpenError::Ca { path: path.clone(), reason: e.to_string() })?
            }
            None => client(info),
        };
        Ok(Self { client, credentials, connect_timeout: options.connect_timeout })
    }

    /// Another server that is reached in the same way, by the same user.
    pub(super) fn at(&self, address: &Address) -> Self {
        let Address { host, port } = address.clone();
        let addr = match self.info().addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        Self { client: client(self.info().clone().set_addr(addr)), ..self.clone() }
    }

    /// The same server, in the protocol that has pushes.
    pub(super) fn with_pushes(&self) -> Self {
        let settings = self.info().redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Self { client: client(self.info().clone().set_redis_settings(settings)), ..self.clone() }
    }

    /// The same server for another user, and no database in particular: whom these files name, or nobody.
    pub(super) fn for_user(&self, username_file: KeyedFile, password_file: KeyedFile) -> Result<Self, OpenError> {
        let settings = RedisConnectionInfo::default();
        let credentials = Credentials::new(username_file, password_file, &settings)?;
        let client = client(self.info().clone().set_redis_settings(settings));
        Ok(Self { client, credentials, connect_timeout: self.connect_timeout })
    }

    pub(super) fn info(&self) -> &ConnectionInfo {
        self.client.get_connection_info()
    }

    pub(super) fn address(&self) -> Address {
        match self.info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Address { host: host.clone(), port: *port }
            }
            // No URL that is accepted makes another one.
            other => Address { host: other.to_string(), port: 0 },
        }
    }

    /// Is it reached in the same way, by the same user, as that one?
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        let told = |endpoint: &Self| {
            let (info, settings) = (endpoint.info(), endpoint.info().redis_settings());
            let tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
            let user = (settings.username().map(str::to_owned), settings.password().map(str::to_owned));
            (tls, user, settings.db())
        };
        told(self) == told(other)
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    pub(super) fn writer_config(&self, response_timeout: Duration) -> AsyncConnectionConfig {
        self.config(response_timeout).set_write_backpressure_boundary(WRITER_FLUSH_BYTES)
    }

    pub(super) fn config(&self, response_timeout: Duration) -> AsyncConnectionConfig {
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(response_timeout))
            .set_pipeline_buffer_size(PIPELINE_REQUESTS_MAX);
        if let Some(credentials) = &self.credentials {
            config = config.set_credentials_provider(credentials.clone());
        }
        config
    }

    pub(super) async fn connect(&self, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, Fault> {
        let connecting = self.client.get_multiplexed_async_connection_with_config(config);
        connecting.await.map_err(|error| Fault::from(&error))
    }
}

/// The address without user and password.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.info().addr() {
            ConnectionAddr::TcpTls { .. } => "rediss",
            _ => "redis",
        };
        write!(f, "{scheme}://{}", self.info().addr())
    }
}

fn client(info: ConnectionInfo) -> Client {
    Client::open(info).expect("what is a ConnectionInfo already needs no parsing")
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
fn url_reason(error: &redis::RedisError) -> String {
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
