//! Where a list goes on. A site tells it as a URL, in three ways: whole, from the root of its host (`/wiki/api/v2/...`),
//! or below its own base. Only the parameter that counts is kept of it, and the rest is ours again: so a list never leads
//! elsewhere.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::FetchError;

/// Parameters that say where a list goes on: REST v2's, and v1's.
const NAMES: [&str; 2] = ["cursor", "start"];
/// Entries that a part of a list by offsets has in common with the one before, where that is possible: so many may be
/// deleted between the two until one that was never told moves into the part before.
const OVERLAP: u64 = 10;
/// Longest place in a list, in bytes.
const BYTES_MAX: usize = 8 << 10;

/// What is kept of a `next`: `cursor=<value>` or `start=<number>`, percent-encoded.
pub(super) fn of(next: &str, api_base: &str) -> Result<String, FetchError> {
    let unusable = |why: &str| FetchError::Unusable(why.to_owned());
    if next.len() > BYTES_MAX {
        return Err(unusable("its list goes on at a place with too long a name"));
    }
    let is_whole = next.starts_with("//") || next.split(['/', '?']).next().is_some_and(|head| head.ends_with(':'));
    if is_whole && origin(next).is_none_or(|there| Some(there) != origin(api_base)) {
        return Err(unusable("its list goes on at another host, which is not followed"));
    }
    let query = next.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let members = query.split('&').filter_map(|member| member.split_once('='));
    let found = NAMES.into_iter().find_map(|name| members.clone().find(|(named, _)| *named == name));
    let (name, value) = found.ok_or_else(|| unusable("its list goes on, but does not say where"))?;
    let value = percent_decode_str(value).decode_utf8().map_err(|_| unusable("its list goes on at no place"))?;
    Ok(format!("{name}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC)))
}

/// Where to go on from `next` after the part that began at `from`: in a list by offsets a little before. What is deleted in
/// the meantime moves the rest of the list up.
pub(super) fn overlapping(next: String, from: Option<&str>) -> String {
    let offset = |place: &str| place.strip_prefix("start=").and_then(|start| start.parse::<u64>().ok());
    let before = from.map_or(Some(0), offset);
    match (offset(&next), before) {
        // It must go on, however short its parts are.
        (Some(start), Some(before)) if start > before => format!("start={}", start - OVERLAP.min((start - before) / 2)),
        _ => next,
    }
}

/// What [`of`] has made, as a member of a query. It was kept elsewhere in between.
pub(super) fn member(from: &str) -> Result<&str, FetchError> {
    let is_ours = |(name, value): (&str, &str)| {
        NAMES.contains(&name) && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'%')
    };
    if from.len() <= 3 * BYTES_MAX && from.split_once('=').is_some_and(is_ours) {
        return Ok(from);
    }
    Err(FetchError::Unusable("the list is to go on at a place that it never named".to_owned()))
}

/// Scheme and authority of a whole URL, in lower case.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    Some(format!("{scheme}://{authority}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "https://acme.example/wiki";

    #[test]
    fn whole_and_relative_links_lead_to_the_same_place() {
        for next in [
            "/wiki/api/v2/pages?limit=2&cursor=eyJ%3D%2B",
            "/api/v2/pages?cursor=eyJ%3D%2B&limit=2",
            "https://acme.example/wiki/api/v2/pages?cursor=eyJ%3D%2B",
            "HTTPS://ACME.example/wiki/api/v2/pages?cursor=eyJ%3D%2B#top",
        ] {
            let kept = of(next, BASE).unwrap();
            assert_eq!(kept, "cursor=eyJ%3D%2B", "{next}");
            assert_eq!(member(&kept).unwrap(), kept);
        }
        assert_eq!(of("/rest/api/content?type=page&limit=100&start=100", BASE).unwrap(), "start=100");
    }

    #[test]
    fn a_list_by_offsets_goes_on_a_little_before_and_always_goes_on() {
        for (next, from, want) in [
            ("start=100", None, "start=90"),
            ("start=190", Some("start=90"), "start=180"),
            ("start=25", None, "start=15"),
            ("start=4", None, "start=2"),
            ("start=3", Some("start=2"), "start=3"),
            ("start=2", Some("start=2"), "start=2"),
            ("start=1", Some("start=2"), "start=1"),
            ("start=x", None, "start=x"),
            ("cursor=100", None, "cursor=100"),
            ("start=100", Some("cursor=a"), "start=100"),
        ] {
            assert_eq!(overlapping(next.to_owned(), from), want, "{next} after {from:?}");
        }
    }

    #[test]
    fn a_link_to_another_host_or_to_nowhere_is_not_followed() {
        for next in [
            "https://evil.example/wiki/api/v2/pages?cursor=a",
            "http://acme.example/wiki/api/v2/pages?cursor=a",
            "https://acme.example:8443/wiki/api/v2/pages?cursor=a",
            "https://acme.example@evil.example/?cursor=a",
            "//evil.example/?cursor=a",
            "javascript:?cursor=a",
            "/wiki/api/v2/pages?limit=2",
            "/wiki/api/v2/pages",
            "?cursor=%ff",
            "",
            &format!("?cursor={}", "a".repeat(BYTES_MAX)),
        ] {
            assert!(matches!(of(next, BASE), Err(FetchError::Unusable(_))), "{next}");
        }
    }

    #[test]
    fn what_was_kept_elsewhere_adds_no_parameter() {
        for from in ["", "a", "cursor", "cursor=a&limit=9", "limit=1", "cursor=a b", "cursor=a#b"] {
            assert!(member(from).is_err(), "{from}");
        }
    }
}
