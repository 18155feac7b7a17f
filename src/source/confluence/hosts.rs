//! Which servers hookcache calls because a webhook named them. A signature proves who has sent a URL, not that it leads to
//! where one would want to send a token, or to a server that only this machine can reach.

use std::fmt;

use http::Uri;

use super::body::invalid;
use crate::envelope::Fault;

/// Longest URL that a webhook may name, in bytes.
const URL_BYTES_MAX: usize = 1_024;

/// A list of servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHosts(Vec<Entry>);

/// `host`, `*.host`, either with `:port`, and with `http://` before it where there is no TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    scheme: Scheme,
    /// In lower case; without the `*` where any name below it is meant, so that it starts with a dot then.
    host: String,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// Where a URL leads.
struct Place {
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
}

impl AllowedHosts {
    /// Answers with what is allowed where an entry is not legal.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        entries.into_iter().map(Entry::parse).collect::<Result<_, _>>().map(Self)
    }

    /// The URL of a server of the list, without a slash at its end: `https://acme.atlassian.net/wiki`.
    pub fn check(&self, pointer: &str, url: &str) -> Result<String, Fault> {
        let place = Place::of(url).ok_or_else(|| invalid(pointer, "must be an https URL without a query"))?;
        if !self.0.iter().any(|entry| entry.covers(&place)) {
            let detail =
                "is on a host that hookcache must not call: `confluence.allowed_hosts` lists those that it may";
            return Err(invalid(pointer, detail));
        }
        let Place { scheme, host, port, path } = &place;
        let port = if *port == scheme.port() { String::new() } else { format!(":{port}") };
        Ok(format!("{scheme}://{host}{port}{path}"))
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self, String> {
        let allowed = || {
            "must be a host such as \"acme.atlassian.net\", or \"*.atlassian.net\" for all below it; with \":port\" where \
             it is not 443, and \"http://\" before it for a server without TLS"
                .to_owned()
        };
        let (scheme, rest) = match text.strip_prefix("http://") {
            Some(rest) => (Scheme::Http, rest),
            None => (Scheme::Https, text),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| allowed())?),
            None => (rest, scheme.port()),
        };
        let name = host.strip_prefix("*.").unwrap_or(host);
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        let plain = !name.is_empty() && name.bytes().all(legal) && !name.starts_with('.') && !name.contains("..");
        // A wildcard below a name of one part would be half of the net.
        let narrow = name == host || name.contains('.');
        if !plain || !narrow {
            return Err(allowed());
        }
        let host = host.strip_prefix('*').unwrap_or(host).to_ascii_lowercase();
        Ok(Self { scheme, host, port })
    }

    fn covers(&self, place: &Place) -> bool {
        let host = match self.host.starts_with('.') {
            true => place.host.strip_suffix(&self.host).is_some_and(|below| !below.is_empty()),
            false => place.host == self.host,
        };
        host && self.scheme == place.scheme && self.port == place.port
    }
}

impl Place {
    fn of(url: &str) -> Option<Self> {
        // Whoever reads a URL otherwise than we do must not be led elsewhere by one.
        let odd = |byte: u8| byte <= b' ' || byte >= 0x7f || b"@?#\\".contains(&byte);
        if url.len() > URL_BYTES_MAX || url.bytes().any(odd) {
            return None;
        }
        let uri: Uri = url.parse().ok()?;
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        // Its own reading of a port passes over one that is none.
        let (host, port) = match uri.authority()?.as_str().split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (uri.authority()?.as_str(), scheme.port()),
        };
        let host = Some(host).filter(|host| !host.is_empty() && !host.contains('['))?.to_ascii_lowercase();
        let path = uri.path().trim_end_matches('/').to_owned();
        let climbs = path.split('/').any(|part| part == "." || part == "..");
        (!climbs).then_some(Self { scheme, host, port, path })
    }
}

/// A URL that is compared with others and never called: of any host.
pub fn plain_url(pointer: &str, url: &str) -> Result<String, Fault> {
    match Place::of(url) {
        Some(_) => Ok(url.trim_end_matches('/').to_owned()),
        None => Err(invalid(pointer, "must be an http or https URL without a query")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(entries: &[&str]) -> AllowedHosts {
        AllowedHosts::parse(entries.iter().copied()).unwrap()
    }

    #[test]
    fn a_url_of_the_list_is_taken_and_told_in_one_form() {
        let hosts = hosts(&["*.atlassian.net", "api.atlassian.com", "http://127.0.0.1:8090"]);
        for (url, want) in [
            ("https://acme.atlassian.net/wiki", "https://acme.atlassian.net/wiki"),
            ("https://ACME.Atlassian.net:443/wiki//", "https://acme.atlassian.net/wiki"),
            ("https://a.b.atlassian.net", "https://a.b.atlassian.net"),
            ("https://api.atlassian.com/ex/confluence/1", "https://api.atlassian.com/ex/confluence/1"),
            ("http://127.0.0.1:8090/wiki", "http://127.0.0.1:8090/wiki"),
        ] {
            assert_eq!(hosts.check("/baseUrl", url).as_deref(), Ok(want), "{url}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused_however_it_is_spelled() {
        let hosts = hosts(&["*.atlassian.net", "http://127.0.0.1:8090"]);
        for url in [
            "https://evil.example/wiki",
            "https://atlassian.net",
            "https://evilatlassian.net",
            "https://acme.atlassian.net.evil.example",
            "https://acme.atlassian.net@evil.example",
            "https://evil.example#.atlassian.net",
            "https://evil.example\\.atlassian.net",
            "https://evil.example/?.atlassian.net",
            "https://.atlassian.net",
            "https://acme.atlassian.net:8443",
            "http://acme.atlassian.net",
            "http://acme.atlassian.net:443",
            "http://127.0.0.1:80",
            "http://127.0.0.1:8090/../x",
            "http://127.1:8090",
            "https://[::1]/",
            "https://169.254.169.254/latest",
            "//acme.atlassian.net",
            "acme.atlassian.net",
            "ftp://acme.atlassian.net",
            "https://acme.atlassian.net:99999",
            "https:///wiki",
            "https://acme.atlassian.net/a b",
            "https://acme.atlassian.net/?x",
            "",
        ] {
            assert!(hosts.check("/baseUrl", url).is_err(), "{url}");
        }
        let long = format!("https://acme.atlassian.net/{}", "a".repeat(URL_BYTES_MAX));
        assert!(hosts.check("/baseUrl", &long).is_err());
    }

    #[test]
    fn an_entry_names_one_host_or_those_below_a_domain() {
        for bad in ["", "*", "*.", "*.net", "a b", "https://a.b", "a/b", "*.*.b", "a..b", "a:x", "x@a.b", "[::1]"] {
            assert!(AllowedHosts::parse([bad]).is_err(), "{bad}");
        }
        for good in ["a.b", "localhost", "*.a.b", "a.b:8443", "http://a.b", "10.0.0.1"] {
            assert!(AllowedHosts::parse([good]).is_ok(), "{good}");
        }
    }
}
