//! The forms of Confluence's own URLs, below its context path.
//!
//! | path | names |
//! | --- | --- |
//! | `/spaces/KEY/pages/ID/...`, `/spaces/KEY/blog/2026/03/01/ID/...`, `/spaces/KEY/pages/edit-v2/ID`, `whiteboard`, ... | content by id |
//! | `/pages/ANY.action?pageId=ID`, `/pages/viewpage.action?spaceKey=KEY&title=T` | content by id; page |
//! | `/x/TINY` | content by id |
//! | `/spaces/KEY`, `/spaces/KEY/overview`, `/display/KEY` | space |
//! | `/display/KEY/Title`, `/display/KEY/2026/03/01/Title` | page; blog post |
//! | `/download/attachments/ID/file`, `/download/thumbnails/ID/file` | attachment |
//! | `/browse/KEY-1` | issue of Jira |

use percent_encoding::percent_decode_str;

use super::{Content, Target};

/// More parts than any form has.
const PARTS_MAX: usize = 12;
/// The kinds of content that have a path below `/spaces/KEY/`.
const CONTENT: &[&str] = &["pages", "blog", "whiteboard", "database", "folder", "embed", "live", "slides"];

/// First parts that only Confluence's paths have, or hardly any others.
const DISTINCT: &[&str] = &["spaces", "pages", "display", "x", "download"];

/// The same for a path of the site's host outside of its context path.
pub(super) fn target_outside(path: &str, query: &str) -> Option<Target> {
    let first = path.split('/').find(|part| !part.is_empty())?;
    DISTINCT.contains(&first).then(|| target(path, query)).flatten()
}

/// What the path and the query name, if they have a form of the table.
pub(super) fn target(path: &str, query: &str) -> Option<Target> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).take(PARTS_MAX).collect();
    match parts.as_slice() {
        ["spaces" | "pages", .., action] | ["spaces", _, "pages", action, ..] if action.ends_with(".action") => {
            by_query(action, query)
        }
        ["spaces", key] | ["spaces", key, "overview" | "pages" | "blog", ..] | ["display", key]
            if !has_number(&parts[2..]) =>
        {
            Some(Target::Space { space: decoded(key) })
        }
        ["spaces", _, kind, rest @ ..] if CONTENT.contains(kind) => content_id(rest).map(by_id),
        ["display", key, year, month, day, title, ..] if is_day(year, month, day) => {
            let day = format!("{year}/{month}/{day}");
            Some(Target::Content(Content::BlogPost { space: Some(decoded(key)), title: decoded(title), day }))
        }
        ["display", key, title, ..] => {
            Some(Target::Content(Content::Page { space: Some(decoded(key)), title: decoded(title) }))
        }
        ["x", tiny, ..] => tiny_id(tiny).map(by_id),
        ["api", "v2", _, id, ..] | ["rest", "api", "content", id, ..] => number(id).map(by_id),
        ["download", "attachments" | "thumbnails", "embedded-page", key, title, file] => {
            let of = Content::Page { space: Some(decoded(key)), title: decoded(title) };
            Some(Target::Attachment { file: decoded(file), of: Some(of) })
        }
        ["download", "attachments" | "thumbnails", id, file] => {
            Some(Target::Attachment { file: decoded(file), of: Some(Content::Id { id: number(id)? }) })
        }
        ["plugins", "servlet", "mobile", ..] => number(parameter(query, "contentId")?).map(by_id),
        _ => None,
    }
}

/// The issue of a path of Jira on the same host.
pub(super) fn issue(path: &str, query: &str) -> Option<String> {
    let browsed = path.strip_prefix("/browse/").map(|rest| rest.split('/').next().unwrap_or(rest));
    let key = browsed.or_else(|| parameter(query, "selectedIssue"))?;
    is_issue_key(key).then(|| key.to_owned())
}

/// `ABC-123`.
pub(super) fn is_issue_key(text: &str) -> bool {
    let Some((project, number)) = text.rsplit_once('-') else { return false };
    let is_project = |c: char| c.is_ascii_alphanumeric() || c == '_';
    project.starts_with(|c: char| c.is_ascii_alphabetic()) && project.chars().all(is_project) && is_number(number)
}

fn by_id(id: u64) -> Target {
    Target::Content(Content::Id { id })
}

fn by_query(action: &str, query: &str) -> Option<Target> {
    let id = ["pageId", "contentId", "draftId"].iter().find_map(|name| number(parameter(query, name)?));
    if let Some(id) = id {
        return Some(by_id(id));
    }
    let key = |name| parameter(query, name).filter(|key| !key.is_empty()).map(decoded);
    match action {
        "viewpage.action" => {
            let title = decoded(parameter(query, "title")?);
            Some(Target::Content(Content::Page { space: Some(key("spaceKey")?), title }))
        }
        "viewspace.action" | "viewspacesummary.action" => key("key").map(|space| Target::Space { space }),
        _ => None,
    }
}

/// `ID/Title`, `2026/03/01/ID/Title`, `edit-v2/ID`.
fn content_id(parts: &[&str]) -> Option<u64> {
    match parts {
        [year, month, day, rest @ ..] if is_day(year, month, day) => number(rest.first()?),
        [id, ..] if is_number(id) => number(id),
        [_, id, ..] => number(id),
        _ => None,
    }
}

fn has_number(parts: &[&str]) -> bool {
    parts.iter().any(|part| is_number(part))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_day(year: &str, month: &str, day: &str) -> bool {
    [(year, 4), (month, 2), (day, 2)].iter().all(|(part, length)| is_number(part) && part.len() == *length)
}

fn number(text: &str) -> Option<u64> {
    is_number(text).then(|| text.parse().ok()).flatten()
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Confluence writes blanks of titles as `+`, and a plus as `%2B`.
fn decoded(part: &str) -> String {
    percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// The id that a tiny link stands for: base64 of its eight bytes, least first, with `-` for `/` and `_` for `+`, and
/// without the `A`s (zeros) at its end.
fn tiny_id(tiny: &str) -> Option<u64> {
    let mut id = 0_u64;
    for (at, byte) in tiny.bytes().enumerate() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'_' | b'+' => 62,
            b'-' => 63,
            _ => return None,
        };
        // Base64 puts the first bit of each byte first; ids put their first byte last.
        for bit in 0..6 {
            let place = at * 6 + bit;
            if six & (0x20 >> bit) != 0 {
                let shift = u32::try_from(place / 8 * 8 + 7 - place % 8).ok()?;
                id |= 1_u64.checked_shl(shift)?;
            }
        }
    }
    (id != 0).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiny_links_stand_for_ids() {
        let real = [
            (608501837, "TQBFJ"),
            (544178405, "5YBvI"),
            (543948978, "sgBsI"),
            (543981760, "wIBsI"),
            (544080057, "uQBuI"),
            (544112865, "4YBuI"),
            (544112942, "LoFuI"),
        ];
        for (id, tiny) in real {
            assert_eq!(tiny_id(tiny), Some(id), "{tiny}");
        }
        assert_eq!(
            tiny_id("__________8").map(u64::to_le_bytes),
            Some([0xfb, 0xef, 0xbe, 0xfb, 0xef, 0xbe, 0xfb, 0xef])
        );
        for none in ["", "A", "a%b", "TQBFJTQBFJTQBFJ", "é"] {
            assert_eq!(tiny_id(none), None, "{none}");
        }
    }

    #[test]
    fn issue_keys_are_told_from_other_words() {
        for key in ["ABC-1", "A2_B-1200"] {
            assert!(is_issue_key(key), "{key}");
        }
        for word in ["ABC", "ABC-", "-1", "2BC-1", "ABC-1x", "A C-1", ""] {
            assert!(!is_issue_key(word), "{word}");
        }
    }
}
