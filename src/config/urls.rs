//! The form of a URL, or of several with commas between them, and how they are shown: never with a password.

/// Is it a URL of one of these schemes, with a host, and without blanks? The backend reads the rest.
pub(super) fn check(text: &str, schemes: &[&str]) -> Result<(), String> {
    let allowed = || {
        let forms: Vec<String> = schemes.iter().map(|scheme| format!("{scheme}://host[:port][/path]")).collect();
        format!("must be {}", forms.join(" or "))
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(allowed)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_port = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match host_port.strip_prefix('[') {
        Some(ip6) => ip6.split_once(']').map(|(host, port)| (host, port.strip_prefix(':'))).ok_or_else(allowed)?,
        None => host_port.split_once(':').map_or((host_port, None), |(host, port)| (host, Some(port))),
    };
    let blank = text.chars().any(|c| c.is_whitespace() || c.is_control());
    let port_is_legal = port.is_none_or(|port| port.parse::<u16>().is_ok());
    match schemes.contains(&scheme) && !host.is_empty() && port_is_legal && !blank {
        true => Ok(()),
        false => Err(allowed()),
    }
}

/// Several URLs, of which each begins with a scheme: a comma elsewhere belongs to the URL that it stands in.
pub(super) fn split<'a>(text: &'a str, schemes: &[&str]) -> Vec<&'a str> {
    let begins = |rest: &str| {
        let rest = rest.trim_start();
        schemes.iter().any(|scheme| rest.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://")))
    };
    let (mut urls, mut start) = (Vec::new(), 0);
    for (at, _) in text.match_indices(',').filter(|(at, _)| begins(&text[at + 1..])) {
        urls.push(&text[start..at]);
        start = at + 1;
    }
    urls.push(&text[start..]);
    urls.into_iter().map(str::trim).filter(|url| !url.is_empty()).collect()
}

/// Several URLs with `***` in place of their passwords. What is not the same sort of URL throughout could be a password
/// with commas in it, and is hidden as one.
pub(super) fn redact(text: &str) -> String {
    let urls = split(text, &["redis", "rediss", "http", "https"]);
    let with_user = urls.iter().filter(|url| url.contains('@')).count();
    match with_user == 0 || with_user == urls.len() {
        true => urls.into_iter().map(redact_one).collect::<Vec<_>>().join(","),
        false => redact_one(text),
    }
}

/// The URL with `***` in place of a password. What is no URL is hidden up to its last `@`; a query is hidden whole.
fn redact_one(text: &str) -> String {
    let (text, query) = match text.split_once('?') {
        Some((text, _)) => (text, "?***"),
        None => (text, ""),
    };
    let (start, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    // The last `@`, since a password that was not encoded may hold one, and a `/` too.
    let shown = match rest.rsplit_once('@') {
        None => format!("{start}{rest}"),
        Some((_, host)) if start.is_empty() => format!("***@{host}"),
        Some((user_info, host)) => match user_info.split_once(':') {
            Some((user, _)) => format!("{start}{user}:***@{host}"),
            None => format!("{start}{user_info}@{host}"),
        },
    };
    shown + query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let cases = [
            ("redis://host:6379/0", "redis://host:6379/0"),
            ("redis://me:secret@host", "redis://me:***@host"),
            ("redis://:secret@host", "redis://:***@host"),
            ("redis://me:se@cr/et@host", "redis://me:***@host"),
            ("redis:me:secret@host", "***@host"),
            ("me:secret@host", "***@host"),
            ("redis://me@host", "redis://me@host"),
            ("redis://host?password=secret", "redis://host?***"),
            ("redis://me:secret@a, redis://me:secret@b:1", "redis://me:***@a,redis://me:***@b:1"),
            ("redis://a,redis://b", "redis://a,redis://b"),
            ("redis://me:se,redis://cret@host", "redis://me:***@host"),
            ("redis://me:se,cret@host", "redis://me:***@host"),
        ];
        for (url, shown) in cases {
            assert_eq!(redact(url), shown);
        }
    }

    #[test]
    fn a_list_is_split_where_a_url_begins() {
        let cases = [
            ("", vec![]),
            ("redis://a", vec!["redis://a"]),
            ("redis://a:1, rediss://b ,redis://c", vec!["redis://a:1", "rediss://b", "redis://c"]),
            ("redis://:a,b@h", vec!["redis://:a,b@h"]),
            ("redis://a,b:1", vec!["redis://a,b:1"]),
        ];
        for (text, urls) in cases {
            assert_eq!(split(text, &["redis", "rediss"]), urls, "{text}");
        }
    }

    #[test]
    fn a_url_has_a_scheme_a_host_and_a_port_that_can_be() {
        for good in ["redis://h", "redis://u:p@h:1/2", "rediss://[::1]:6379", "redis://1.2.3.4/"] {
            assert_eq!(check(good, &["redis", "rediss"]), Ok(()), "{good}");
        }
        for bad in ["", "h:1", "http://h", "redis://", "redis://:1", "redis://h:x", "redis://h:99999", "redis://a b"] {
            assert!(check(bad, &["redis", "rediss"]).is_err(), "{bad}");
        }
    }
}
