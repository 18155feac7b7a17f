//! From a payload to the links that were asked for. Nothing is made of a link: its bytes are passed on.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{IndexFacts, Status};
use crate::extract::Kind;

/// A page's payload, looked at.
#[derive(Debug)]
pub struct StoredPage<'a> {
    /// The member `page`, as its bytes.
    pub page: &'a str,
    pub version: u64,
    pub status: Status,
    links: &'a str,
}

/// Bytes of a [`Fingerprint`]: as many as tell one list of a page from its next.
pub const FINGERPRINT_BYTES: usize = 8;

/// What two things have in common where they are the same, and hardly ever otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; FINGERPRINT_BYTES]);

impl Fingerprint {
    pub fn of(hash: Sha256) -> Self {
        let mut bytes = [0; FINGERPRINT_BYTES];
        bytes.copy_from_slice(&hash.finalize()[..FINGERPRINT_BYTES]);
        Self(bytes)
    }
}

/// Some of a page's links.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// Each as its bytes.
    pub links: Vec<&'a str>,
    /// Where the next one stands in the list of all links, where there is one.
    pub next: Option<usize>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    page: &'a RawValue,
    #[serde(borrow)]
    links: &'a RawValue,
}

#[derive(Deserialize)]
struct Head<'a> {
    version: u64,
    status: &'a str,
}

impl<'a> StoredPage<'a> {
    /// `None` where this program has not written the payload.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let payload: Payload<'a> = serde_json::from_slice(payload).ok()?;
        let head: Head<'a> = serde_json::from_str(payload.page.get()).ok()?;
        let status = Status::parse(head.status)?;
        Some(Self { page: payload.page.get(), version: head.version, status, links: payload.links.get() })
    }

    /// Of the list of all links: whoever goes on in a list sees by it whether it is still the same.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(Sha256::new_with_prefix(self.links))
    }

    /// The links of these kinds (all, where none is named), from place `from` of the list of all, `limit` at most.
    /// `None` where this program has not written the payload.
    pub fn links(&self, kinds: &[Kind], from: usize, limit: usize) -> Option<Kept<'a>> {
        let begins = kinds.iter().map(|kind| format!(r#"{{"kind":"{}""#, kind.as_str())).collect();
        let pick = Pick { begins, from, limit };
        pick.deserialize(&mut serde_json::Deserializer::from_str(self.links)).ok()
    }
}

struct Pick {
    /// How a link of the wanted kinds begins: `kind` is its first member.
    begins: Vec<String>,
    from: usize,
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for Pick {
    type Value = Kept<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Kept<'de>, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Pick {
    type Value = Kept<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of links")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kept<'de>, A::Error> {
        let mut kept = Kept { links: Vec::new(), next: None };
        let wanted = |link: &str| self.begins.is_empty() || self.begins.iter().any(|begin| link.starts_with(begin));
        let mut place = 0;
        while place < self.from && seq.next_element::<IgnoredAny>()?.is_some() {
            place += 1;
        }
        while let Some(link) = seq.next_element::<&'de RawValue>()? {
            if wanted(link.get()) {
                if kept.links.len() == self.limit {
                    kept.next = Some(place);
                    break;
                }
                kept.links.push(link.get());
            }
            place += 1;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(kept)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    complete: bool,
    last_reindex_at: Option<String>,
}

impl IndexFacts {
    /// `None` where this program has not written the payload.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let Index { complete, last_reindex_at } = serde_json::from_slice(payload).ok()?;
        let ms = |text: String| {
            let moment = OffsetDateTime::parse(&text, &Rfc3339).ok()?;
            u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()
        };
        Some(Self { complete, last_reindex_ms: last_reindex_at.and_then(ms) })
    }
}
