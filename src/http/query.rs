//! What a call says in its path and its query.
//!
//! Names and values are percent-decoded once, a plus is a plus, and what a call does not know is refused. What values
//! mean is for the movers to judge.

use hyper::Uri;

use super::routes::{KEY_PREFIX, site_and_page};
use crate::ingest::KeyDelete;
use crate::problem::{Code, Problem};
use crate::serve::LinksRequest;

/// Everything after the prefix, decoded once.
pub fn key(path: &str) -> Result<String, Problem> {
    decoded(path.strip_prefix(KEY_PREFIX).unwrap_or_default()).map_err(|why| Problem::new(Code::InvalidKey, why))
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let bytes = text.as_bytes();
    let escape = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !escape(at)) {
        return Err("a percent sign must be followed by two hexadecimal digits");
    }
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(String::from).map_err(|_| "what is percent-encoded must be UTF-8")
}

/// A delete by key: `?accountId=<account>`, and perhaps `&eventId=<id>&eventTime=<time>`.
pub fn key_delete(uri: &Uri) -> Result<KeyDelete, Problem> {
    let bad = |name: &str| {
        let detail = "the query must be accountId=<account>, and may have eventId=<id>&eventTime=<time>, each once and \
                      percent-encoded";
        Problem::of_parameter(name, detail)
    };
    let key = key(uri.path())?;
    let (mut account, mut event_id, mut event_time) = (None, None, None);
    for (name, value) in members(uri) {
        let place = match name {
            "accountId" => &mut account,
            "eventId" => &mut event_id,
            "eventTime" => &mut event_time,
            _ => return Err(bad("")),
        };
        let value = decoded(value).map_err(|_| bad(name))?;
        if place.replace(value).is_some() {
            return Err(bad(name));
        }
    }
    let account = account.ok_or_else(|| bad("accountId"))?;
    Ok(KeyDelete { account, key, event_id, event_time })
}

/// What of the links of a page is asked for: `?kind=<kinds>&status=<statuses>&limit=<number>&cursor=<next>`, all optional.
pub fn links(uri: &Uri) -> Result<LinksRequest, Problem> {
    let (site, page) = site_and_page(uri.path()).unwrap_or_default();
    let part = |name: &str, text: &str| decoded(text).map_err(|why| Problem::of_parameter(name, why));
    let mut asked = LinksRequest::new(&part("site", site)?, &part("page", page)?)?;
    for (name, value) in members(uri) {
        asked.add(name, &part(name, value)?)?;
    }
    Ok(asked)
}

/// Names and values of a query, as they stand there.
fn members(uri: &Uri) -> impl Iterator<Item = (&str, &str)> {
    let members = uri.query().unwrap_or_default().split('&').filter(|member| !member.is_empty());
    members.map(|member| member.split_once('=').unwrap_or((member, "")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::{LINKS_DEFAULT, LINKS_MAX};

    #[test]
    fn a_key_is_decoded_once() {
        for (path, want) in [
            ("/v1/keys/a/b", "a/b"),
            ("/v1/keys/a%2Fb", "a/b"),
            ("/v1/keys/a%2fb", "a/b"),
            ("/v1/keys/%252F", "%2F"),
            ("/v1/keys/a+b", "a+b"),
            ("/v1/keys/%7Bx%7D%20%F0%9F%A6%80", "{x} \u{1F980}"),
            ("/v1/keys//", "/"),
        ] {
            assert_eq!(key(path).unwrap(), want);
        }
        for path in ["/v1/keys/%", "/v1/keys/%2", "/v1/keys/%zz", "/v1/keys/%ff", "/v1/keys/%+1"] {
            assert_eq!(key(path).unwrap_err().code, Code::InvalidKey, "{path}");
        }
    }

    #[test]
    fn the_query_of_a_delete_names_an_account_and_perhaps_an_event() {
        let read = |query: &str| key_delete(&format!("/v1/keys/k{query}").parse().unwrap());
        let plain = read("?accountId=a%40b").unwrap();
        assert_eq!(plain.key, "k");
        assert_eq!((plain.account.as_str(), plain.event_id, plain.event_time), ("a@b", None, None));
        let full = read("?eventTime=2026-01-01T00:00:00+01:00&accountId=a&eventId=x%26y").unwrap();
        assert_eq!(full.event_time.as_deref(), Some("2026-01-01T00:00:00+01:00"), "a plus is a plus");
        assert_eq!(full.event_id.as_deref(), Some("x&y"));
        for (query, pointer) in [
            ("", "/accountId"),
            ("?", "/accountId"),
            ("?account=a", ""),
            ("?accountId=a&x=1", ""),
            ("?accountId=%", "/accountId"),
            ("?accountId=a&accountId=a", "/accountId"),
            ("?accountId=a&eventId=%ff", "/eventId"),
        ] {
            let problem = read(query).unwrap_err();
            assert_eq!(
                (problem.code, problem.errors[0].pointer.as_str()),
                (Code::InvalidRequest, pointer),
                "{query:?}"
            );
        }
    }

    #[test]
    fn the_query_of_links_is_decoded_once_and_each_fault_is_named() {
        let read = |rest: &str| links(&format!("/v1/sites/{rest}").parse().unwrap());
        let plain = read("a%40b/pages/%34%32/links").unwrap();
        assert_eq!((plain.site().as_str(), plain.page()), ("a@b", 42));
        assert_eq!((plain.kinds().len(), plain.statuses(), plain.limit()), (0, None, LINKS_DEFAULT));
        let full = read("a/pages/42/links?kind=mail%2Cexternal&kind=mail&status=archived&limit=1000").unwrap();
        assert_eq!(full.kinds().iter().map(|kind| kind.as_str()).collect::<Vec<_>>(), ["mail", "external"]);
        assert_eq!((full.statuses().map(<[_]>::len), full.limit()), (Some(1), LINKS_MAX));
        for (rest, pointer) in [
            ("a%2Fb/pages/1/links", "/site"),
            ("/pages/1/links", "/site"),
            ("a/pages/x/links", "/page"),
            ("a/pages/+1/links", "/page"),
            ("a/pages/12345678901234567890/links", "/page"),
            ("a/pages/%/links", "/page"),
            ("a/pages/1/links?kind=", "/kind"),
            ("a/pages/1/links?kind=external,", "/kind"),
            ("a/pages/1/links?kind=External", "/kind"),
            ("a/pages/1/links?kind=external+mail", "/kind"),
            ("a/pages/1/links?kind=%ff", "/kind"),
            ("a/pages/1/links?status=live", "/status"),
            ("a/pages/1/links?limit=0", "/limit"),
            ("a/pages/1/links?limit=1001", "/limit"),
            ("a/pages/1/links?limit=-1", "/limit"),
            ("a/pages/1/links?limit=+1", "/limit"),
            ("a/pages/1/links?limit=1&limit=1", "/limit"),
            ("a/pages/1/links?cursor=", "/cursor"),
            ("a/pages/1/links?cursor=AAAA", "/cursor"),
            ("a/pages/1/links?cursor=AAAAAAAAAAAAAAAAAAAAAAAAAA%3D", "/cursor"),
            ("a/pages/1/links?direction=in", ""),
        ] {
            let problem = read(rest).unwrap_err();
            let named = problem.errors[0].pointer.as_str();
            assert_eq!((problem.code, named), (Code::InvalidRequest, pointer), "{rest}");
            assert!(problem.detail.starts_with(pointer.trim_start_matches('/')), "{problem:?}");
        }
    }
}
