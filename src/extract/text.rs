//! Entities and blanks.

use std::borrow::Cow;

use quick_xml::escape::resolve_html5_entity;

use super::TEXT_CHARS_MAX;

/// The longest name of an HTML entity has 31 characters.
const REFERENCE_BYTES_MAX: usize = 32;

/// With references replaced by what they stand for. Real bodies hold names that XML does not know (`&nbsp;`) and `&`
/// that start none; what is no reference stays as it is.
pub(super) fn decoded(raw: &str) -> Cow<'_, str> {
    let Some(first) = raw.find('&') else { return Cow::Borrowed(raw) };
    let mut text = String::with_capacity(raw.len());
    text.push_str(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some(after) = rest.strip_prefix('&') {
        let name =
            after.as_bytes().iter().take(REFERENCE_BYTES_MAX).position(|byte| *byte == b';').map(|end| &after[..end]);
        match name.filter(|name| push_reference(name, &mut text)) {
            Some(name) => rest = &after[name.len() + 1..],
            None => {
                text.push('&');
                rest = after;
            }
        }
        let next = rest.find('&').unwrap_or(rest.len());
        text.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    Cow::Owned(text)
}

/// Appends what the reference of that name stands for. False where there is none.
pub(super) fn push_reference(name: &str, text: &mut String) -> bool {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => number.parse(),
        };
        return code.ok().and_then(char::from_u32).map(|c| text.push(c)).is_some();
    }
    resolve_html5_entity(name).map(|value| text.push_str(value)).is_some()
}

/// Appends with each run of blanks as one, and none at `start`, where this text begins.
pub(super) fn push_joined(text: &str, start: usize, buffer: &mut String) {
    for c in text.chars() {
        if !c.is_whitespace() {
            buffer.push(c);
        } else if buffer.len() > start && !buffer.ends_with(' ') {
            buffer.push(' ');
        }
    }
}

/// What is kept of a text whose blanks are joined. An empty text is none.
pub(super) fn kept(joined: &str) -> Option<String> {
    let end = joined.char_indices().nth(TEXT_CHARS_MAX).map_or(joined.len(), |(end, _)| end);
    let text = joined[..end].trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The same for a text as it was written.
pub(super) fn joined(text: &str) -> Option<String> {
    let mut buffer = String::new();
    // A text of that many characters has at most four times as many bytes; blanks may take more.
    let end = text.floor_char_boundary(16 * TEXT_CHARS_MAX);
    push_joined(&text[..end], 0, &mut buffer);
    kept(&buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_what_is_none_stays() {
        let cases = [
            ("a?x=1&amp;y=2", "a?x=1&y=2"),
            ("a?x=1&y=2;", "a?x=1&y=2;"),
            ("&lt;&#60;&#x3c;&rarr;&nbsp;&auml;", "<<<→\u{a0}ä"),
            ("&", "&"),
            ("&;&#;&#xd800;&#99999999999;&noSuchEntity;", "&;&#;&#xd800;&#99999999999;&noSuchEntity;"),
            ("&amp;amp;", "&amp;"),
            ("é&é;&äöü", "é&é;&äöü"),
        ];
        for (raw, text) in cases {
            assert_eq!(decoded(raw), text, "{raw}");
        }
    }

    #[test]
    fn blanks_are_joined_and_long_texts_cut_between_characters() {
        assert_eq!(joined(" \n a\u{a0}\t b ").as_deref(), Some("a b"));
        assert_eq!(joined(" \u{a0} "), None);
        assert_eq!(joined(&"é".repeat(10 * TEXT_CHARS_MAX)).unwrap().chars().count(), TEXT_CHARS_MAX);
    }
}
