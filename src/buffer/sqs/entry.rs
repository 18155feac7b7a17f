//! What a message may hold, and what it weighs.

use aws_sdk_sqs::types::MessageAttributeValue;

/// Entries of one batch call, of every kind: SQS's limit.
pub(super) const ENTRIES_MAX: usize = 10;
/// All messages of one batch send together, attributes included: SQS's limit, which a single message has too.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;
/// Longest detail that travels with a dead letter, in bytes. What a person reads, and far from the 1 MiB.
pub(super) const DETAIL_BYTES_MAX: usize = 4_096;
/// Longest trace context that is carried, in bytes: version 00 has 55, and later ones may be longer.
const TRACEPARENT_BYTES_MAX: usize = 256;

pub(super) const TRACEPARENT: &str = "traceparent";
pub(super) const REASON: &str = "reason";
pub(super) const DETAIL: &str = "detail";
/// The name of the message in the queue that it came from.
pub(super) const MESSAGE_ID: &str = "message-id";

const STRING: &str = "String";

/// String attributes of one message.
#[derive(Default)]
pub(super) struct Attributes(Vec<(&'static str, String)>);

impl Attributes {
    /// SQS takes no empty value: such an attribute is left out.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.0.push((name, value));
        }
        self
    }

    /// A trace context that is no plain text, or overlong, is not worth a message.
    pub fn with_traceparent(self, traceparent: Option<&str>) -> Self {
        let legal =
            |text: &&str| text.len() <= TRACEPARENT_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        self.with(TRACEPARENT, traceparent.filter(legal).unwrap_or_default())
    }

    /// Names, types and values all count to the limit.
    pub fn size_bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + STRING.len() + value.len()).sum()
    }

    pub fn into_values(self) -> impl Iterator<Item = (&'static str, MessageAttributeValue)> {
        let value = |text: String| MessageAttributeValue::builder().data_type(STRING).string_value(text).build();
        self.0.into_iter().filter_map(move |(name, text)| Some((name, value(text).ok()?)))
    }
}

/// SQS takes tab, line feed, carriage return and U+0020 upwards, without U+FFFE and U+FFFF.
pub(super) fn is_legal(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..)
}

/// A detail as SQS takes it: legal characters only, at most [`DETAIL_BYTES_MAX`].
pub(super) fn legal_detail(detail: &str) -> String {
    let end = detail.floor_char_boundary(DETAIL_BYTES_MAX);
    detail[..end].chars().map(|c| if is_legal(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_cut_at_a_character_and_holds_none_that_sqs_refuses() {
        let detail = format!("\u{0}\u{FFFE}{}", "é".repeat(DETAIL_BYTES_MAX));
        let legal = legal_detail(&detail);
        assert!(legal.starts_with("??é"));
        assert!(legal.len() <= DETAIL_BYTES_MAX && legal.chars().all(is_legal));
    }

    #[test]
    fn a_trace_context_that_sqs_would_refuse_is_left_out() {
        let weight = |text: &str| Attributes::default().with_traceparent(Some(text)).size_bytes();
        assert_eq!(weight("00-a-b-01"), TRACEPARENT.len() + STRING.len() + 9);
        for text in ["", "a b", "\n", "é", &"x".repeat(TRACEPARENT_BYTES_MAX + 1)] {
            assert_eq!(weight(text), 0, "{text}");
        }
    }
}
