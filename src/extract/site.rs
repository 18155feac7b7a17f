//! The page's own site, and what a URL on one of its pages leads to.

use percent_encoding::percent_decode_str;

use super::{Kind, Target, URL_BYTES_MAX, paths};

/// Paths of Jira, which shares its host with Confluence Cloud.
const JIRA: &[&str] = &["/browse/", "/jira/", "/projects/", "/issues/", "/secure/", "/servicedesk/", "/software/"];
/// Schemes that lead nowhere.
const IGNORED: &[&str] = &["javascript", "data", "vbscript", "blob", "about"];

/// Where the page stands. Its bodies say so only in part.
#[derive(Debug, Clone)]
pub struct Context {
    /// The site's own base URL first.
    bases: Vec<Base>,
    pub(super) space: Option<String>,
    pub(super) page: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Base {
    scheme: String,
    authority: Authority,
    /// Without `/` at its end, so empty at the root.
    path: String,
}

/// A base URL that is none.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no base URL; one looks like https://acme.atlassian.net/wiki")]
pub struct NotABaseUrl(String);

impl Context {
    /// For the site at `base_url`, context path included. On atlassian.net that is `/wiki`, said or not.
    pub fn new(base_url: &str) -> Result<Self, NotABaseUrl> {
        Ok(Self { bases: vec![Base::parse(base_url)?], space: None, page: None })
    }

    /// Another name of the site, such as a former one.
    pub fn with_alias(mut self, base_url: &str) -> Result<Self, NotABaseUrl> {
        self.bases.push(Base::parse(base_url)?);
        Ok(self)
    }

    /// The key of the page's space.
    pub fn with_space(mut self, key: &str) -> Self {
        self.space = Some(key.to_owned());
        self
    }

    /// The page's own id.
    pub fn with_page(mut self, id: u64) -> Self {
        self.page = Some(id);
        self
    }

    /// What a URL leads to, written as an attribute has it, its references replaced.
    pub(super) fn classify(&self, written: &str) -> Verdict {
        let url = without_controls(written);
        if url.len() > URL_BYTES_MAX {
            return Verdict::TooLong;
        }
        match url.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) {
            Some((scheme, rest)) => self.absolute(scheme, rest, &url),
            None => self.relative(&url),
        }
    }

    fn absolute(&self, scheme: &str, rest: &str, url: &str) -> Verdict {
        let scheme = scheme.to_ascii_lowercase();
        match (scheme.as_str(), rest.strip_prefix("//")) {
            ("http" | "https", Some(rest)) => self.web(&scheme, rest, url),
            ("mailto", _) if !rest.trim().is_empty() => Destination::of(Kind::Mail, url),
            ("mailto", _) => Verdict::Ignored,
            (scheme, _) if IGNORED.contains(&scheme) => Verdict::Ignored,
            _ => Destination::of(Kind::Other, url),
        }
    }

    fn relative(&self, url: &str) -> Verdict {
        let site = &self.bases[0];
        if let Some(rest) = url.strip_prefix("//") {
            return self.web(&site.scheme, rest, &format!("{}:{url}", site.scheme));
        }
        if let Some(anchor) = url.strip_prefix('#') {
            return match anchor_of(anchor) {
                Some(anchor) => {
                    Verdict::To(Destination { kind: Kind::Anchor, url: None, target: None, anchor: Some(anchor) })
                }
                None => Verdict::Ignored,
            };
        }
        if url.is_empty() {
            return Verdict::Ignored;
        }
        let parts = Parts::of(url);
        if url.starts_with('/') {
            let absolute = format!("{}://{}{url}", site.scheme, site.authority.shown());
            return site.verdict(&parts, &absolute);
        }
        // Where it leads depends on the page's own URL, which has many forms. What names a place of Confluence in each
        // of them is followed.
        let path = format!("/{}", parts.path.trim_start_matches("./").trim_start_matches("../"));
        let within_pages = format!("/pages{path}");
        let (path, target) = match paths::target(&path, parts.query) {
            Some(target) => (path, target),
            None => match paths::target(&within_pages, parts.query) {
                Some(target) if within_pages.ends_with(".action") => (within_pages, target),
                _ => return Destination::of(Kind::Other, url),
            },
        };
        let tail = &url[parts.path.len()..];
        let absolute = format!("{}://{}{}{path}{tail}", site.scheme, site.authority.shown(), site.path);
        internal(&absolute, Some(target), &parts)
    }

    /// `rest` is what follows `//`.
    fn web(&self, scheme: &str, rest: &str, url: &str) -> Verdict {
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let authority = Authority::of(scheme, &rest[..end]);
        if authority.host.is_empty() {
            return Destination::of(Kind::Other, url);
        }
        match self.bases.iter().find(|base| base.authority == authority) {
            Some(base) => base.verdict(&Parts::of(&rest[end..]), url),
            None => Destination::of(Kind::External, url),
        }
    }
}

/// What to do with a URL.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    To(Destination),
    /// It leads nowhere.
    Ignored,
    TooLong,
}

/// Where a link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub kind: Kind,
    pub url: Option<String>,
    pub target: Option<Target>,
    pub anchor: Option<String>,
}

impl Destination {
    fn of(kind: Kind, url: &str) -> Verdict {
        Verdict::To(Self { kind, url: Some(url.to_owned()), target: None, anchor: None })
    }

    pub(super) fn target(kind: Kind, target: Target) -> Self {
        Self { kind, url: None, target: Some(target), anchor: None }
    }
}

impl Base {
    fn parse(url: &str) -> Result<Self, NotABaseUrl> {
        let wrong = || NotABaseUrl(url.to_owned());
        let (scheme, rest) = url.trim().split_once("://").ok_or_else(wrong)?;
        let scheme = scheme.to_ascii_lowercase();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let parsed = Authority::of(&scheme, authority);
        let plain = |text: &str| !text.contains(|c: char| c.is_whitespace() || "?#@\\<>\"".contains(c));
        if !matches!(scheme.as_str(), "http" | "https") || parsed.host.is_empty() || !plain(rest) {
            return Err(wrong());
        }
        let path = match path.trim_end_matches('/') {
            "" if parsed.host.ends_with(".atlassian.net") => "/wiki",
            path => path,
        };
        Ok(Self { scheme, authority: parsed, path: path.to_owned() })
    }

    /// For a URL of this host.
    fn verdict(&self, parts: &Parts<'_>, url: &str) -> Verdict {
        let within = self.within(parts.path);
        // Data Center pages keep URLs of before a change of the context path; Cloud adds it.
        let target = within
            .and_then(|path| paths::target(path, parts.query))
            .or_else(|| paths::target_outside(parts.path, parts.query))
            .or_else(|| {
                let path = ["/wiki", "/confluence"].iter().find_map(|context| parts.path.strip_prefix(context))?;
                paths::target_outside(path, parts.query)
            });
        let issue = || paths::issue(parts.path, parts.query).map(|issue| Target::Issue { issue });
        if target.is_some() {
            return internal(url, target, parts);
        }
        let is_jira = JIRA.iter().any(|prefix| parts.path.starts_with(prefix));
        // At the root of a host there is one product: then only an issue is surely Jira's.
        if is_jira && (!self.path.is_empty() || issue().is_some()) {
            return Verdict::To(Destination {
                kind: Kind::Jira,
                url: Some(url.to_owned()),
                target: issue(),
                anchor: None,
            });
        }
        match within {
            Some(_) => internal(url, None, parts),
            // Short links for sharing, which only Confluence can resolve.
            None if parts.path.starts_with("/l/c") => internal(url, None, parts),
            None => Destination::of(Kind::External, url),
        }
    }

    /// The path below the context path, if it lies there.
    fn within<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(self.path.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn internal(url: &str, target: Option<Target>, parts: &Parts<'_>) -> Verdict {
    let kind = if matches!(target, Some(Target::Attachment { .. })) { Kind::Attachment } else { Kind::Internal };
    Verdict::To(Destination { kind, url: Some(url.to_owned()), target, anchor: anchor_of(parts.fragment) })
}

fn anchor_of(fragment: &str) -> Option<String> {
    let anchor = percent_decode_str(fragment).decode_utf8_lossy();
    let anchor = anchor.trim();
    (!anchor.is_empty()).then(|| anchor.to_owned())
}

/// Host and port; the default port of either scheme is none, as sites answer on both.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    host: String,
    port: Option<String>,
}

impl Authority {
    fn of(scheme: &str, text: &str) -> Self {
        let text = text.rsplit_once('@').map_or(text, |(_, text)| text).to_ascii_lowercase();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
            _ => (text.as_str(), ""),
        };
        let default = if scheme == "http" { "80" } else { "443" };
        let port = Some(port).filter(|port| !port.is_empty() && *port != default).map(ToOwned::to_owned);
        Self { host: host.trim_end_matches('.').to_owned(), port }
    }

    fn shown(&self) -> String {
        let Self { host, port } = self;
        port.as_ref().map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
    }
}

/// What follows the host.
struct Parts<'a> {
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Self {
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Self { path, query, fragment }
    }
}

fn is_scheme(text: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(rest)
}

/// As browsers do: without blanks around it, and without line ends and tabs within it.
fn without_controls(written: &str) -> std::borrow::Cow<'_, str> {
    let url = written.trim();
    if url.contains(|c: char| c.is_control()) {
        return url.chars().filter(|c| !c.is_control()).collect::<String>().into();
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        Context::new(url).unwrap_err().to_string()
    }

    #[test]
    fn a_base_url_is_checked() {
        for url in ["", "acme.atlassian.net", "ftp://acme", "https://", "https:///wiki", "https://a b/", "https://a/?x"]
        {
            assert!(refused(url).contains("https://acme.atlassian.net/wiki"), "{url}");
        }
        for url in ["https://acme.atlassian.net", "HTTPS://ACME.atlassian.net:443/wiki/"] {
            let base = Base::parse(url).unwrap();
            assert_eq!((base.authority.shown().as_str(), base.path.as_str()), ("acme.atlassian.net", "/wiki"), "{url}");
        }
        assert_eq!(Base::parse("http://localhost:8090/").unwrap().path, "");
    }
}
