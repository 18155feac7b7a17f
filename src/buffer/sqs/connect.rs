//! The clients: region, credentials, timeouts and retries.

use std::net::IpAddr;
use std::time::Duration;

use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Config, Credentials, ProvideCredentials, Region};

use super::{OpenError, Options};

/// A TCP and TLS handshake across a continent takes a tenth of this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One attempt to send, delete, hide or ask. Long enough for 1 MiB over a slow line; the SDK itself would wait for ever.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// How much longer than its long poll a receive may take. The SDK itself would wait for ever.
const RECEIVE_MARGIN: Duration = Duration::from_secs(5);
/// A call is repeated once, after a broken connection, a timeout, throttling or a 5xx: a kept-alive connection that SQS
/// closed at that moment must not become somebody's 503. Repeating is harmless: a second copy of a wire form has the
/// same id and version, and deleting or hiding twice changes nothing.
const CALL_ATTEMPTS_MAX: u32 = 2;
/// A receive is not repeated: what a lost answer took comes back by itself, and the poller asks again anyway.
const RECEIVE_ATTEMPTS_MAX: u32 = 1;
/// The region that emulators pretend to be in.
const EMULATOR_REGION: &str = "us-east-1";

/// Two clients, as a long poll needs another timeout than all other calls.
#[derive(Clone)]
pub(super) struct Clients {
    pub receive: Client,
    pub calls: Client,
}

pub(super) async fn connect(options: &Options) -> Result<Clients, OpenError> {
    let region = region(options).await.ok_or(OpenError::NoRegion)?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region);
    if let Some(endpoint_url) = &options.endpoint_url {
        loader = loader.endpoint_url(endpoint_url);
        if is_loopback(endpoint_url) {
            loader = loader.credentials_provider(emulator_credentials());
        }
    }
    let shared = loader.load().await;
    // Asked for here so that their lack is told as such, not as a queue that can't be reached.
    if let Some(credentials) = shared.credentials_provider() {
        credentials.provide_credentials().await.map_err(|e| OpenError::NoCredentials(super::fault::chain(&e)))?;
    }

    let client = |attempt: Duration, attempts_max: u32| {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(attempt);
        let retries = RetryConfig::standard().with_max_attempts(attempts_max);
        let config = Config::from(&shared).to_builder().timeout_config(timeouts.build()).retry_config(retries);
        Client::from_conf(config.build())
    };
    let receive = client(options.wait + RECEIVE_MARGIN, RECEIVE_ATTEMPTS_MAX);
    Ok(Clients { receive, calls: client(CALL_TIMEOUT, CALL_ATTEMPTS_MAX) })
}

/// Option, queue URL, environment, profile, instance metadata. With an endpoint of the user's own no metadata is asked,
/// which would take seconds to find out that there is none.
async fn region(options: &Options) -> Option<Region> {
    let named = options.region.clone().or_else(|| region_of(&options.queue_url).map(str::to_owned));
    let chain = RegionProviderChain::first_try(named.map(Region::new));
    let chain = if options.endpoint_url.is_some() {
        let environment = EnvironmentVariableRegionProvider::new();
        chain.or_else(environment).or_else(ProfileFileRegionProvider::new()).or_else(EMULATOR_REGION)
    } else {
        chain.or_default_provider()
    };
    chain.region().await
}

/// The region in `https://sqs.<region>.amazonaws.com/...`.
fn region_of(queue_url: &str) -> Option<&str> {
    let (region, domain) = host(queue_url).strip_prefix("sqs.")?.split_once('.')?;
    domain.starts_with("amazonaws.com").then_some(region)
}

/// An emulator on this very machine checks no credentials, so that any will do where none are configured.
fn emulator_credentials() -> CredentialsProviderChain {
    let nobody = Credentials::new("emulator", "emulator", None, None, "loopback endpoint");
    CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("Profile", ProfileFileCredentialsProvider::builder().build())
        .or_else("Loopback", nobody)
}

fn is_loopback(url: &str) -> bool {
    let host = host(url);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host of a URL, without port and brackets.
fn host(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or("");
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host_port.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host_port.split(':').next().unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_names_that_only_look_like_it() {
        for url in ["http://localhost:9324", "http://127.0.0.1:1/x", "http://127.9.9.9", "http://[::1]:80/"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["https://sqs.eu-west-1.amazonaws.com", "http://localhost.example", "http://127.0.0.1@10.0.0.1", ""]
        {
            assert!(!is_loopback(url), "{url}");
        }
    }

    #[test]
    fn a_queue_url_of_aws_names_its_region() {
        assert_eq!(region_of("https://sqs.eu-west-1.amazonaws.com/1/q"), Some("eu-west-1"));
        assert_eq!(region_of("https://sqs.cn-north-1.amazonaws.com.cn/1/q"), Some("cn-north-1"));
        assert_eq!(region_of("http://127.0.0.1:4566/000000000000/q"), None);
        assert_eq!(region_of("http://sqs.us-east-1.localhost:4566/000000000000/q"), None);
    }
}
