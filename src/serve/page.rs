//! An entry as it is served: its headers' texts and its payload, made ready once and handed out many times.
//!
//! Texts and a small payload lie in one piece, which is copied for each answer. That is cheaper than it sounds: to share
//! the pieces would mean to count who holds each of them, in memory that all threads write. A large payload is shared,
//! as copying it costs more than the count.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::matches;
use crate::envelope::Account;
use crate::envelope::stamp::rfc_3339;
use crate::store::Entry;
use crate::store::l1::Make;

/// Payloads up to this size are copied for each answer.
const COPIED_BYTES_MAX: usize = 4 << 10;
/// The last moment that an HTTP date can tell, in milliseconds: the end of the year 9999.
const HTTP_DATE_MS_MAX: u64 = 253_402_300_799_999;

/// The texts that stand beside a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// The version, in quotes.
    ETag,
    /// The event time, as HTTP tells dates; empty where it can't.
    LastModified,
    Account,
    Flow,
    Id,
    /// RFC 3339; empty where the entry never expires.
    ExpiresAt,
}

impl Text {
    pub const ALL: [Self; 6] = [Self::ETag, Self::LastModified, Self::Account, Self::Flow, Self::Id, Self::ExpiresAt];
}

/// Where each text ends in a piece that begins with them, in the order of [`Text::ALL`].
type Ends = [u32; Text::ALL.len()];

fn span(ends: &Ends, text: Text) -> std::ops::Range<usize> {
    let at = text as usize;
    let start = if at == 0 { 0 } else { ends[at - 1] };
    start as usize..ends[at] as usize
}

/// What is kept of an entry.
#[derive(Debug)]
pub struct Ready {
    pub(super) account: Account,
    pub(super) expires_at_ms: Option<u64>,
    /// The texts, and the payload behind them unless it is large.
    piece: Box<[u8]>,
    ends: Ends,
    large: Option<Bytes>,
}

/// An answer to a get.
#[derive(Debug, Clone)]
pub struct Page {
    /// The reader has this version already; the payload need not be sent.
    pub not_modified: bool,
    /// For how long a reader may keep it, in seconds; zero for never without asking.
    pub max_age_seconds: u64,
    pub payload: Bytes,
    texts: Bytes,
    ends: Ends,
}

impl Ready {
    pub(super) fn text(&self, text: Text) -> &[u8] {
        &self.piece[span(&self.ends, text)]
    }

    pub(super) fn payload(&self) -> &[u8] {
        self.large.as_deref().unwrap_or(&self.piece[self.texts_end()..])
    }

    /// The answer, for a reader with this `If-None-Match`.
    pub(super) fn page(&self, if_none_match: Option<&str>, max_age_seconds: u64) -> Page {
        let etag = self.text(Text::ETag);
        let not_modified = if_none_match.is_some_and(|header| matches(header, etag));
        let texts = Bytes::copy_from_slice(&self.piece);
        let payload = self.large.clone().unwrap_or_else(|| texts.slice(self.texts_end()..));
        Page { not_modified, max_age_seconds, payload, texts, ends: self.ends }
    }

    /// What is left to say to a reader that has this version already.
    pub(super) fn without_payload(&self) -> Self {
        let texts = self.piece[..self.texts_end()].into();
        Self {
            account: self.account.clone(),
            expires_at_ms: self.expires_at_ms,
            piece: texts,
            ends: self.ends,
            large: None,
        }
    }

    /// Another answer about the same entry: with a tag, a date and a payload of its own.
    pub(super) fn retold(
        &self,
        etag: &str,
        modified: &[u8],
        payload: String,
        not_modified: bool,
        max_age_seconds: u64,
    ) -> Page {
        let [.., account, flow, id, expires_at] = Text::ALL.map(|text| self.text(text));
        let (texts, ends) = joined([etag.as_bytes(), modified, account, flow, id, expires_at]);
        Page { not_modified, max_age_seconds, payload: payload.into(), texts: texts.into(), ends }
    }

    fn texts_end(&self) -> usize {
        self.ends[Text::ALL.len() - 1] as usize
    }
}

/// The texts in one piece, and where each ends.
fn joined(texts: [&[u8]; Text::ALL.len()]) -> (Vec<u8>, Ends) {
    let (mut piece, mut ends) = (Vec::new(), Ends::default());
    for (text, end) in texts.into_iter().zip(&mut ends) {
        piece.extend_from_slice(text);
        // An id has 65,535 bytes at most, and the others fewer.
        *end = piece.len() as u32;
    }
    (piece, ends)
}

impl Page {
    /// Empty where there is none.
    pub fn text(&self, text: Text) -> Bytes {
        self.texts.slice(span(&self.ends, text))
    }
}

impl Make for Ready {
    fn make(entry: Entry) -> Self {
        let Entry { version, expires_at_ms, account, flow, id, payload } = entry;
        let (etag, modified) = (format!("\"{version}\""), http_date(version.time_ms()));
        let expires_at = expires_at_ms.map(rfc_3339).unwrap_or_default();
        let texts = [&etag, &modified, account.as_str(), flow.as_str(), &id, &expires_at];
        let (mut piece, ends) = joined(texts.map(str::as_bytes));
        let large = if payload.len() > COPIED_BYTES_MAX {
            Some(payload)
        } else {
            piece.extend_from_slice(&payload);
            None
        };
        Self { account, expires_at_ms, piece: piece.into(), ends, large }
    }

    fn bytes(&self) -> usize {
        // A large payload lies in one piece with what the store keeps beside it, which is about as long as our texts.
        let large = self.large.as_ref().map_or(0, |payload| payload.len() + self.texts_end());
        self.piece.len() + large + self.account.as_str().len()
    }
}

fn http_date(ms: u64) -> String {
    match ms {
        ..=HTTP_DATE_MS_MAX => httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Flow, Version};

    fn ready(id: &str, payload: Bytes, expires_at_ms: Option<u64>) -> Ready {
        let (account, flow) = (Account::parse("acme").unwrap(), Flow::parse("flow").unwrap());
        let version = Version::of_event(0, 784_111_777_000, "event");
        Ready::make(Entry { version, expires_at_ms, account, flow, id: id.to_owned(), payload })
    }

    #[test]
    fn a_page_tells_what_the_entry_holds_whatever_its_size() {
        let version = Version::of_event(0, 784_111_777_000, "event");
        for size in [0, 1, COPIED_BYTES_MAX, COPIED_BYTES_MAX + 1, 1 << 20] {
            let payload = Bytes::from(vec![b'x'; size]);
            let ready = ready("the-id", payload.clone(), Some(1_767_225_600_123));
            let page = ready.page(None, 0);
            assert_eq!((&page.payload, ready.payload()), (&payload, &payload[..]));
            let texts = Text::ALL.map(|text| String::from_utf8(page.text(text).to_vec()).unwrap());
            let etag = format!("\"{version}\"");
            let date = "Sun, 06 Nov 1994 08:49:37 GMT";
            assert_eq!(texts, [&*etag, date, "acme", "flow", "the-id", "2026-01-01T00:00:00.123Z"]);
            assert!(ready.bytes() >= size);
        }
        let forever = ready("", Bytes::from_static(b"1"), None).page(None, 0);
        assert!(forever.text(Text::ExpiresAt).is_empty() && forever.text(Text::Id).is_empty());
    }

    #[test]
    fn a_date_beyond_the_year_9999_is_left_out() {
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(!http_date(HTTP_DATE_MS_MAX).is_empty());
        assert!(http_date(HTTP_DATE_MS_MAX + 1).is_empty());
    }

    #[test]
    fn a_large_payload_is_shared_and_a_small_one_is_not() {
        let shares = |size: usize| {
            let ready = ready("id", Bytes::from(vec![b'x'; size]), None);
            ready.page(None, 0).payload.as_ptr() == ready.page(None, 0).payload.as_ptr()
        };
        assert!(shares(COPIED_BYTES_MAX + 1) && !shares(COPIED_BYTES_MAX));
    }
}
