//! The route table. A new call adds its row here first.

use hyper::Method;

use crate::hooks::{DESCRIPTOR_PATH, HOOKS_PATH};

/// What a path asks for. A closed set, so it may be a label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Set,
    Delete,
    GetMany,
    Key,
    /// The links of a page of Confluence.
    Links,
    /// A webhook of Confluence.
    Hook,
    /// The descriptor of the Connect app.
    Descriptor,
    Healthz,
    Readyz,
    Metrics,
    Errors,
    OpenApi,
    Docs,
    /// Any path of the control plane; its router knows more.
    Control,
    Unknown,
}

/// Before a webhook key, which is all of the path that follows.
pub const KEY_PREFIX: &str = "/v1/keys/";
/// Before a site's name.
const SITE_PREFIX: &str = "/v1/sites/";

impl Route {
    /// Every path of the data plane, and of the probes. A path that ends in a name in braces takes all that follows;
    /// elsewhere such a name is one part of a path.
    pub const TABLE: &[(&str, Self)] = &[
        ("/v1/set", Self::Set),
        ("/v1/delete", Self::Delete),
        ("/v1/get", Self::GetMany),
        ("/v1/keys/{webhookKey}", Self::Key),
        ("/v1/sites/{site}/pages/{page}/links", Self::Links),
        (HOOKS_PATH, Self::Hook),
        ("/v1/hooks/confluence/{event}", Self::Hook),
        ("/v1/hooks/confluence/sites/{site}", Self::Hook),
        (DESCRIPTOR_PATH, Self::Descriptor),
        ("/healthz", Self::Healthz),
        ("/readyz", Self::Readyz),
        ("/metrics", Self::Metrics),
        (crate::problem::DOCS_PATH, Self::Errors),
        (crate::openapi::DOCUMENT_PATH, Self::OpenApi),
        (crate::openapi::PAGE_PATH, Self::Docs),
    ];

    pub fn of(path: &str) -> Self {
        if path.starts_with(KEY_PREFIX) {
            return Self::Key;
        }
        if site_and_page(path).is_some() {
            return Self::Links;
        }
        let listed = Self::TABLE.iter().find(|(of, _)| *of == path).map(|(_, route)| *route);
        let hook = path.strip_prefix(HOOKS_PATH).is_some_and(|below| below.starts_with('/'));
        listed.unwrap_or(if hook { Self::Hook } else { Self::Unknown })
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Delete => "delete",
            Self::GetMany => "get",
            Self::Key => "key",
            Self::Links => "links",
            Self::Hook => "hook",
            Self::Descriptor => "descriptor",
            Self::Healthz => "healthz",
            Self::Readyz => "readyz",
            Self::Metrics => "metrics",
            Self::Errors => "errors",
            Self::OpenApi => "openapi",
            Self::Docs => "docs",
            Self::Control => "control",
            Self::Unknown => "unknown",
        }
    }

    /// As an `Allow` header says it; `None` where the route itself judges the method.
    pub fn methods(self) -> Option<&'static str> {
        match self {
            Self::Set | Self::Delete | Self::GetMany | Self::Hook => Some("POST"),
            Self::Key => Some("GET, HEAD, DELETE"),
            Self::Links
            | Self::Descriptor
            | Self::Healthz
            | Self::Readyz
            | Self::Metrics
            | Self::Errors
            | Self::OpenApi
            | Self::Docs => Some("GET, HEAD"),
            Self::Control | Self::Unknown => None,
        }
    }

    pub fn allows(self, method: &Method) -> bool {
        self.methods().is_none_or(|methods| methods.split(", ").any(|allowed| allowed == method.as_str()))
    }

    /// Does a call take next to nothing of a core? Those that parse a body, or put together many entries, may take
    /// milliseconds of it.
    pub fn is_quick(self, method: &Method) -> bool {
        matches!(self, Self::Key) && matches!(*method, Method::GET | Method::HEAD)
    }

    /// Answered on every listener, without a token.
    pub fn is_probe(self) -> bool {
        matches!(self, Self::Healthz | Self::Readyz | Self::Metrics | Self::Errors | Self::OpenApi | Self::Docs)
    }
}

/// Site and page in the path of the link API, as they stand there.
pub(super) fn site_and_page(path: &str) -> Option<(&str, &str)> {
    let mut parts = path.strip_prefix(SITE_PREFIX)?.split('/');
    match [(); 5].map(|()| parts.next()) {
        [Some(site), Some("pages"), Some(page), Some("links"), None] => Some((site, page)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_after_the_prefix_is_the_key() {
        for path in ["/v1/keys/a", "/v1/keys/a/b", "/v1/keys//", "/v1/keys/", "/v1/keys/../set"] {
            assert_eq!(Route::of(path), Route::Key, "{path}");
        }
        for path in ["/v1/hooks/confluence", "/v1/hooks/confluence/page_updated", "/v1/hooks/confluence/sites/a"] {
            assert_eq!(Route::of(path), Route::Hook, "{path}");
        }
        assert_eq!(Route::of("/v1/hooks/confluence/atlassian-connect.json"), Route::Descriptor);
        for path in ["/v1/keys", "/", "", "*", "/v1/set/", "/V1/set", "/v1//set", "/v1/hooks", "/v1/hooks/confluencex"]
        {
            assert_eq!(Route::of(path), Route::Unknown, "{path}");
        }
    }

    #[test]
    fn a_site_and_a_page_are_one_part_each_of_the_path_of_links() {
        for (path, parts) in [
            ("/v1/sites/acme/pages/42/links", ("acme", "42")),
            ("/v1/sites/a%2Fb/pages/%34/links", ("a%2Fb", "%34")),
            ("/v1/sites//pages//links", ("", "")),
        ] {
            assert_eq!((Route::of(path), site_and_page(path)), (Route::Links, Some(parts)), "{path}");
        }
        for path in ["", "s", "s/pages/1", "s/pages/1/link", "s/pages/1/links/", "s/x/1/links", "a/b/pages/1/links"] {
            assert_eq!(Route::of(&format!("/v1/sites/{path}")), Route::Unknown, "{path}");
        }
    }

    #[test]
    fn a_route_allows_what_its_allow_header_says() {
        assert!(Route::Set.allows(&Method::POST) && !Route::Set.allows(&Method::GET));
        for method in [Method::GET, Method::HEAD, Method::DELETE] {
            assert!(Route::Key.allows(&method));
        }
        assert!(!Route::Key.allows(&Method::from_bytes(b"GE").unwrap()));
        assert!(!Route::Key.allows(&Method::from_bytes(b"get").unwrap()));
    }
}
