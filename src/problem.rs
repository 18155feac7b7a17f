//! What an HTTP caller is told when something went wrong: problem details of RFC 9457, from one closed table.
//!
//! Every code stands in [`Code::ALL`] and in docs/errors.md, and a test holds the two together. A problem never holds
//! a value of a payload, a token or a password. A leaf: it knows no HTTP library, so a status is a plain number.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

/// The content type of a problem.
const CONTENT_TYPE: &str = "application/problem+json";
/// The page that `type` points to, and its text, which the data plane serves.
pub const DOCS_PATH: &str = "/docs/errors.md";
pub const DOCS: &str = include_str!("../docs/errors.md");
/// After how many seconds a caller may try again where only time helps and nobody knows how much: about as long as a
/// restart or a failover takes to show.
const RETRY_AFTER_SECONDS: u64 = 2;

macro_rules! codes {
    ($($name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// What went wrong, as a caller's program may tell apart.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($name),* }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }
        }
    };
}

codes! {
    MalformedJson = "malformed-json", 400, "The body is not JSON in UTF-8";
    InvalidRequest = "invalid-request", 400, "The request is not of the form that it must have";
    EventTimeRequired = "event-time-required", 400, "eventId and eventTime go together";
    TooDeep = "too-deep", 400, "The payload is nested too deep";
    IllegalCharacter = "illegal-character", 400, "The body holds a character that the queue can't carry";
    InvalidKey = "invalid-key", 400, "The path does not hold a webhook key";
    RefusedByBuffer = "refused-by-buffer", 400, "The buffer will never take this event";
    TokenRequired = "token-required", 401, "A bearer token is required";
    TokenUnknown = "token-unknown", 401, "The bearer token is not known";
    HookUnverified = "hook-unverified", 401, "Who has sent the webhook can't be verified";
    ForbiddenScope = "forbidden-scope", 403, "The token's scopes do not allow this call";
    ForbiddenAccount = "forbidden-account", 403, "The token may not act for this account";
    HookForbidden = "hook-forbidden", 403, "The webhook speaks for another site than its sender";
    ReservedKey = "reserved-key", 403, "A webhook key is reserved to another";
    NotFound = "not-found", 404, "There is no entry under this key";
    NoSuchDeadLetter = "no-such-dead-letter", 404, "There is no such dead letter";
    NoSuchSite = "no-such-site", 404, "There is no such site";
    NoSuchRoute = "no-such-route", 404, "There is no such call here";
    MethodNotAllowed = "method-not-allowed", 405, "The path does not know this method";
    SiteTaken = "site-taken", 409, "The name of the site is taken";
    SiteNotActive = "site-not-active", 409, "The site is not read now";
    CursorOutdated = "cursor-outdated", 410, "The list has changed since it was begun";
    BodyTimeout = "body-timeout", 408, "The body did not arrive in time";
    PayloadTooLarge = "payload-too-large", 413, "The event is too large";
    BodyTooLarge = "body-too-large", 413, "The body is too large";
    FanOutTooLarge = "fan-out-too-large", 413, "The payload times its keys is too large";
    AnswerTooLarge = "answer-too-large", 413, "The answer would be too large";
    PathTooLong = "path-too-long", 414, "The path is too long";
    UnsupportedMediaType = "unsupported-media-type", 415, "The body must be application/json";
    AccountRateLimited = "account-rate-limited", 429, "The account sends too much";
    EntryUnreadable = "entry-unreadable", 500, "The entry can't be read";
    Internal = "internal", 500, "A fault of the server";
    BufferUnavailable = "buffer-unavailable", 503, "The buffer can't be reached";
    BufferFull = "buffer-full", 503, "The buffer is full";
    StoreUnavailable = "store-unavailable", 503, "The store can't be reached";
    RegistryUnavailable = "registry-unavailable", 503, "The registry can't be reached";
    KeysUnavailable = "keys-unavailable", 503, "The keys that webhooks are checked with can't be fetched";
    Overloaded = "overloaded", 503, "The server is at one of its limits";
    TimedOut = "timed-out", 503, "The call took too long";
}

impl Code {
    /// Does the same call help later? Then the answer carries `Retry-After`.
    pub fn retry_helps(self) -> bool {
        matches!(self.status(), 429 | 503)
    }
}

/// One fault of a request with several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Where, as a JSON pointer (RFC 6901); empty for the whole.
    pub pointer: String,
    pub code: &'static str,
    pub detail: String,
}

/// One answer of RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub code: Code,
    /// Who must act and how; never holds a value of the payload.
    pub detail: String,
    /// The id under which the logs know this request, where it has one.
    pub instance: Option<String>,
    pub errors: Vec<Item>,
    /// What is allowed and what came, where something is too large.
    pub limit_and_size: Option<(u64, u64)>,
    /// When a retry may help, where that is known.
    retry_after_seconds: Option<u64>,
}

#[derive(Serialize)]
struct Json<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(rename = "retryAfterSeconds", skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
    #[serde(skip_serializing_if = "<[Item]>::is_empty")]
    errors: &'a [Item],
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            instance: None,
            errors: Vec::new(),
            limit_and_size: None,
            retry_after_seconds: None,
        }
    }

    /// A parameter of a path or a query is not of its form; an empty name stands for the query as a whole.
    pub fn of_parameter(name: &str, detail: impl Into<String>) -> Self {
        let (code, detail) = (Code::InvalidRequest, detail.into());
        let (pointer, whole) = match name {
            "" => (String::new(), detail.clone()),
            name => (format!("/{name}"), format!("{name}: {detail}")),
        };
        Self::new(code, whole).with_errors(vec![Item { pointer, code: code.as_str(), detail }])
    }

    pub fn with_errors(self, errors: Vec<Item>) -> Self {
        Self { errors, ..self }
    }

    pub fn with_size(self, limit: u64, size: u64) -> Self {
        Self { limit_and_size: Some((limit, size)), ..self }
    }

    pub fn with_instance(self, id: impl Into<String>) -> Self {
        Self { instance: Some(id.into()), ..self }
    }

    /// In whole seconds, rounded up: who comes earlier is refused again.
    pub fn with_retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self { retry_after_seconds: Some(seconds.max(1)), ..self }
    }

    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// After how many seconds the same call may help; `None` where it never does.
    fn retry_after_seconds(&self) -> Option<u64> {
        self.code.retry_helps().then(|| self.retry_after_seconds.unwrap_or(RETRY_AFTER_SECONDS))
    }

    /// The headers that tell of it, beside what its body says; names in lower case.
    pub fn headers(&self) -> Vec<(&'static str, Cow<'static, str>)> {
        let mut headers = vec![("content-type", CONTENT_TYPE.into())];
        if let Some(seconds) = self.retry_after_seconds() {
            headers.push(("retry-after", seconds.to_string().into()));
        }
        match self.code {
            Code::TokenRequired | Code::HookUnverified => headers.push(("www-authenticate", "Bearer".into())),
            Code::TokenUnknown => headers.push(("www-authenticate", r#"Bearer error="invalid_token""#.into())),
            _ => {}
        }
        headers
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a problem is plain strings and numbers")
    }
}

impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let code = self.code;
        let json = Json {
            r#type: format!("{DOCS_PATH}#{}", code.as_str()),
            title: code.title(),
            status: code.status(),
            code: code.as_str(),
            detail: &self.detail,
            instance: self.instance.as_ref().map(|id| format!("urn:uuid:{id}")),
            limit: self.limit_and_size.map(|(limit, _)| limit),
            size: self.limit_and_size.map(|(_, size)| size),
            retry_after_seconds: self.retry_after_seconds(),
            errors: &self.errors,
        };
        json.serialize(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_codes_and_the_page_of_errors_agree_both_ways() {
        let headings: Vec<&str> = DOCS.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(headings, codes, "docs/errors.md names each code once, in the order of the table");
        for code in Code::ALL {
            let section = DOCS.split(&format!("### {}\n", code.as_str())).nth(1).unwrap();
            let section = section.split("\n### ").next().unwrap();
            assert!(section.contains(&format!("{} · {}.", code.status(), code.title())), "{section}");
            let retry = if code.retry_helps() { "A retry helps" } else { "A retry does not help" };
            assert!(section.contains(retry), "{} must say: {retry}", code.as_str());
        }
    }

    #[test]
    fn a_problem_has_the_members_of_rfc_9457_and_leaves_out_what_it_does_not_have() {
        let plain: serde_json::Value =
            serde_json::from_slice(&Problem::new(Code::NotFound, "nothing here").to_json()).unwrap();
        assert_eq!(
            plain,
            serde_json::json!({
                "type": "/docs/errors.md#not-found", "title": "There is no entry under this key", "status": 404,
                "code": "not-found", "detail": "nothing here",
            })
        );
        let item = Item { pointer: "/a".into(), code: "invalid-request", detail: "d".into() };
        let full = Problem::new(Code::BodyTooLarge, "cut it").with_size(1, 2).with_errors(vec![item]);
        let full: serde_json::Value = serde_json::from_slice(&full.with_instance("i").to_json()).unwrap();
        assert_eq!((&full["limit"], &full["size"]), (&1.into(), &2.into()));
        assert_eq!((&full["errors"][0]["pointer"], &full["instance"]), (&"/a".into(), &"urn:uuid:i".into()));
    }

    #[test]
    fn when_to_come_back_is_told_in_whole_seconds_and_never_too_early() {
        let told = |problem: &Problem| {
            let json: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
            let header = problem.headers().into_iter().find(|(name, _)| *name == "retry-after");
            (header.map(|(_, value)| value.into_owned()), json["retryAfterSeconds"].as_u64())
        };
        let limited = |wait| told(&Problem::new(Code::AccountRateLimited, "x").with_retry_after(wait));
        for (wait_ms, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (61_000, 61)] {
            let wait = Duration::from_millis(wait_ms);
            assert_eq!(limited(wait), (Some(seconds.to_string()), Some(seconds)), "{wait:?}");
        }
        assert_eq!(told(&Problem::new(Code::BufferFull, "x")), (Some("2".to_owned()), Some(2)));
        assert_eq!(told(&Problem::new(Code::NotFound, "x")), (None, None));
    }
}
