//! The HTTP client of all client commands: blocking, one request at a time, nothing retried.
//!
//! TLS is rustls with aws-lc-rs, the one provider of the whole program. Redirects are not followed, as they could carry
//! a token elsewhere.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

/// A server that answers at all accepts a connection in this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the server's own default for a request, so that its answer comes first.
const CALL_TIMEOUT: Duration = Duration::from_secs(75);
/// The longest that one call is held, so that its answer comes well within [`CALL_TIMEOUT`] and before a load balancer
/// gives up.
pub const WAIT_MAX: Duration = Duration::from_secs(50);
/// Largest answer that is read: more than the server sends.
const ANSWER_BYTES_MAX: u64 = 80 << 20;
/// What stays readable in a path segment or a query value (RFC 3986's unreserved characters).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where the control plane is, and who asks.
#[derive(Debug, clap::Args)]
pub struct AdminTarget {
    /// URL of the control plane
    #[arg(long, env = "HOOKCACHE_ADMIN_URL", default_value = "http://127.0.0.1:8081", value_name = "URL")]
    pub admin_url: String,
    /// Bearer token; better in the environment than here, where other users of the machine can see it
    #[arg(long, env = "HOOKCACHE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
}

impl AdminTarget {
    pub fn client(&self) -> Result<Client, String> {
        Client::new(&self.admin_url, self.token.as_deref(), "--admin-url or HOOKCACHE_ADMIN_URL")
    }
}

/// Where the data plane is, and who asks.
#[derive(Debug, clap::Args)]
pub struct DataTarget {
    /// URL of the data plane
    #[arg(long, env = "HOOKCACHE_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
    /// Bearer token; better in the environment than here, where other users of the machine can see it
    #[arg(long, env = "HOOKCACHE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
}

impl DataTarget {
    pub fn client(&self) -> Result<Client, String> {
        Client::new(&self.url, self.token.as_deref(), "--url or HOOKCACHE_URL")
    }
}

pub struct Client {
    agent: Agent,
    /// Without a slash at its end.
    base: String,
    authorization: Option<String>,
    /// What the user sets to change the address.
    setting: &'static str,
}

/// A server's answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

#[derive(serde::Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
    code: Option<String>,
    #[serde(default)]
    errors: Vec<ProblemPart>,
}

#[derive(serde::Deserialize)]
struct ProblemPart {
    pointer: Option<String>,
    detail: Option<String>,
}

impl Client {
    /// `setting` names what the user sets to change the address.
    pub fn new(url: &str, token: Option<&str>, setting: &'static str) -> Result<Self, String> {
        let base = url.trim_end_matches('/');
        let host = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://")).unwrap_or_default();
        if host.is_empty() || host.contains(['@', '?', '#']) || host.contains(char::is_whitespace) {
            return Err(format!("{setting} must be http://host[:port] or https://host[:port], without a user"));
        }
        let authorization =
            token.map(str::trim).filter(|token| !token.is_empty()).map(|token| format!("Bearer {token}"));
        if authorization.as_ref().is_some_and(|value| http::HeaderValue::from_str(value).is_err()) {
            return Err("the token (--token or HOOKCACHE_TOKEN) has characters that no token has".to_owned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::WebPki)
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(CALL_TIMEOUT))
            .user_agent(concat!("hookcache/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls);
        // A proxy of the environment can't reach this machine's own loopback.
        let is_local = ["127.", "localhost", "[::1]"].iter().any(|name| host.starts_with(name));
        let config = if is_local { config.proxy(None) } else { config };
        Ok(Self { agent: config.build().into(), base: base.to_owned(), authorization, setting })
    }

    /// `path` begins with `/`; what comes from a user is escaped in it ([`escape`]).
    pub fn call(&self, method: Method, path: &str, json: Option<&[u8]>) -> Result<Answer, String> {
        self.send(Request::builder().method(method).uri(format!("{}{path}", self.base)), json)
    }

    /// A get that the server may hold for this long until it has news; see [`WAIT_MAX`].
    pub fn get_waiting(&self, path: &str, wait: Duration) -> Result<Answer, String> {
        let request = Request::get(format!("{}{path}", self.base));
        self.send(request.header("prefer", format!("wait={}", wait.as_secs())), None)
    }

    fn send(&self, mut request: http::request::Builder, json: Option<&[u8]>) -> Result<Answer, String> {
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let sent = match json {
            Some(json) => {
                let request = request.header(header::CONTENT_TYPE, "application/json").body(json);
                self.agent.run(request.map_err(|error| self.not_reached(error))?)
            }
            None => self.agent.run(request.body(()).map_err(|error| self.not_reached(error))?),
        };
        let (head, mut body) = sent.map_err(|error| self.not_reached(error))?.into_parts();
        let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(|error| self.not_reached(error))?;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// A call that must succeed, and its answer.
    pub fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, json: Option<&[u8]>) -> Result<T, String> {
        self.call(method, path, json)?.ok()?.json()
    }

    fn not_reached(&self, error: impl std::fmt::Display) -> String {
        let Self { base, setting, .. } = self;
        format!("no answer from {base}: {error}. Does `hookcache serve` run there? ({setting} names another place)")
    }
}

impl Answer {
    /// Fails for every status but 2xx, with what the server says is wrong.
    pub fn ok(self) -> Result<Self, String> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(self.problem()) }
    }

    pub fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body)
            .map_err(|error| format!("the answer is not what a hookcache of this version sends: {error}"))
    }

    /// What the server says is wrong.
    pub fn problem(&self) -> String {
        let Ok(problem) = serde_json::from_slice::<Problem>(&self.body) else {
            return format!("the server answered with status {}, and no word of hookcache's", self.status);
        };
        let code = problem.code.unwrap_or_else(|| self.status.to_string());
        let mut text = format!("{} ({code})", problem.detail.or(problem.title).unwrap_or_default());
        for part in &problem.errors {
            let (pointer, detail) = (part.pointer.as_deref().unwrap_or(""), part.detail.as_deref().unwrap_or(""));
            text.push_str(&format!("\n  {pointer}: {detail}"));
        }
        match self.status {
            401 => text + "\n  a token is read from --token or HOOKCACHE_TOKEN",
            _ => text,
        }
    }
}

/// A text as it stands in a path segment or in a query value.
pub fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// Answers one request with these bytes, and hands over what it was sent.
    fn answering(answer: &'static str) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut sent = Vec::new();
            let mut part = [0; 1_024];
            while !String::from_utf8_lossy(&sent).ends_with("{}") {
                let n = stream.read(&mut part).unwrap();
                assert_ne!(n, 0, "the request ends with its body");
                sent.extend_from_slice(&part[..n]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(sent).unwrap()
        });
        (url, thread)
    }

    fn call(answer: &'static str, token: Option<&str>) -> (Result<Answer, String>, String) {
        let (url, thread) = answering(answer);
        let client = Client::new(&url, token, "--url").unwrap();
        let answer = client.call(Method::PUT, "/v1/x", Some(b"{}"));
        (answer, thread.join().unwrap())
    }

    #[test]
    fn a_call_carries_its_token_and_body_and_the_answer_comes_back_whole() {
        let (answer, sent) = call("HTTP/1.1 202 Accepted\r\nx-y: z\r\ncontent-length: 3\r\n\r\n\"a\"", Some(" hc_t\n"));
        let answer = answer.unwrap().ok().unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (202, b"\"a\"".as_slice()));
        assert_eq!(answer.headers["x-y"], "z");
        let sent = sent.to_ascii_lowercase();
        assert!(sent.starts_with("put /v1/x http/1.1\r\n"), "{sent}");
        assert!(sent.contains("authorization: bearer hc_t\r\n") && sent.contains("content-type: application/json\r\n"));
    }

    #[test]
    fn what_the_server_says_is_wrong_is_told_with_its_code_and_pointers() {
        let problem = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n{\"detail\":\"it is wrong\",\"code\":\
                       \"invalid-request\",\"errors\":[{\"pointer\":\"/flowId\",\"detail\":\"must have 1 to 128\"}],\"x\":1}\n";
        let (answer, _) = call(problem, None);
        let error = answer.unwrap().ok().unwrap_err();
        assert_eq!(error, "it is wrong (invalid-request)\n  /flowId: must have 1 to 128");
        let (answer, _) = call("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nhm", None);
        assert!(answer.unwrap().ok().unwrap_err().contains("status 502"));
    }

    #[test]
    fn a_redirect_is_not_followed() {
        let moved = "HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (answer, _) = call(moved, Some("hc_t"));
        assert_eq!(answer.unwrap().status, 307);
    }

    #[test]
    fn tls_has_its_provider_and_fails_cleanly_on_what_is_not_tls() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let thread =
            std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"no TLS here\r\n\r\n").unwrap());
        let client = Client::new(&url, None, "--url").unwrap();
        assert!(client.call(Method::GET, "/", None).unwrap_err().starts_with("no answer from https://"));
        thread.join().unwrap();
    }

    #[test]
    fn a_server_that_is_not_there_is_named_with_what_to_do() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let client = Client::new(&url, None, "--url or HOOKCACHE_URL").unwrap();
        let error = client.call(Method::GET, "/", None).unwrap_err();
        assert!(error.starts_with(&format!("no answer from {url}: ")) && error.contains("--url or HOOKCACHE_URL"));
    }

    #[test]
    fn a_url_or_token_that_can_not_be_is_refused_without_being_shown() {
        for bad in ["", "host:1", "ftp://h", "http://", "http://u:secret@h", "http://h?x", "http://a b"] {
            let error = Client::new(bad, None, "--url").err().unwrap_or_else(|| panic!("{bad}"));
            assert!(error.starts_with("--url must be") && !error.contains("secret"), "{error}");
        }
        let error = Client::new("http://h", Some("a\nsecret"), "--url").err().unwrap();
        assert!(!error.contains("secret"));
        assert!(Client::new("https://example.com/base/", None, "--url").is_ok());
    }

    #[test]
    fn a_key_is_escaped_for_a_path() {
        assert_eq!(escape("a/b c%2F\u{e9}:x"), "a%2Fb%20c%252F%C3%A9%3Ax");
    }
}
