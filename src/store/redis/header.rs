//! How a value is laid out in Redis: a compact header, then the raw payload. Pure: bytes in, an entry or a reason out.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | `89 68 63` (no text starts so), then the version of this layout: 1 |
//! | 4 | 1 | 1 for an entry, 2 for a tombstone |
//! | 5 | 32 | version |
//! | 37 | 8 | expiry in ms since the epoch, big-endian; 0 is never (nothing that expires at 0 is ever stored) |
//! | 45 | 3 | length of account, flow and id, one byte each |
//! | 48 | | account, flow (empty in a tombstone), id, payload (none in a tombstone) |
//!
//! `put.lua` reads the first 48 bytes and the account, and `change.lua` writes the expiry, too; both must change with
//! this file. A value of another layout is left alone by writers and refused by readers, so that an older program never
//! destroys what a newer one wrote.

use bytes::Bytes;

use crate::envelope::limits::NAME_BYTES_MAX;
use crate::envelope::{Account, Flow, Version};
use crate::store::Entry;

/// Also the version of the layout, in its last byte.
const MAGIC: [u8; 4] = [0x89, b'h', b'c', 1];
const ENTRY: u8 = 1;
const TOMBSTONE: u8 = 2;

/// Bytes before the account. Every key pays for them, so they are kept few (at most 72).
pub(super) const FIXED_BYTES: usize = MAGIC.len() + 1 + Version::BYTES + 8 + 3;
/// The longest header: with the longest account, flow and id.
pub(super) const HEAD_BYTES_MAX: usize = FIXED_BYTES + 2 * NAME_BYTES_MAX + u8::MAX as usize;

/// The header of a value that is about to be written.
pub(super) enum Header<'a> {
    Entry { flow: &'a Flow, expires_at_ms: Option<u64> },
    Tombstone { until_ms: u64 },
}

/// The id doesn't fit into its length byte. No id that passed the wire form is that long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its id has more than 255 bytes")]
pub(super) struct IdTooLong;

/// Why a value is not one of ours. Says nothing of what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    #[error("its value was not written by hookcache")]
    NotOurs,
    #[error("its value has layout {0}; this program reads layout 1")]
    OtherLayout(u8),
    #[error("its value is cut off or damaged")]
    Damaged,
}

pub(super) fn encode(
    header: &Header<'_>,
    account: &Account,
    version: &Version,
    id: &str,
) -> Result<Vec<u8>, IdTooLong> {
    let (kind, flow, expires_at_ms) = match header {
        Header::Entry { flow, expires_at_ms } => (ENTRY, flow.as_str(), *expires_at_ms),
        Header::Tombstone { until_ms } => (TOMBSTONE, "", Some(*until_ms)),
    };
    let id_bytes = u8::try_from(id.len()).map_err(|_| IdTooLong)?;
    let account = account.as_str();
    let mut bytes = Vec::with_capacity(FIXED_BYTES + account.len() + flow.len() + id.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.push(kind);
    bytes.extend_from_slice(version.as_bytes());
    bytes.extend_from_slice(&expiry(expires_at_ms));
    // A legal account or flow has at most 128 bytes.
    bytes.extend_from_slice(&[account.len() as u8, flow.len() as u8, id_bytes]);
    for text in [account, flow, id] {
        bytes.extend_from_slice(text.as_bytes());
    }
    Ok(bytes)
}

/// The field of the expiry.
pub(super) fn expiry(expires_at_ms: Option<u64>) -> [u8; 8] {
    expires_at_ms.unwrap_or(0).to_be_bytes()
}

/// The live entry in a value, `None` for a tombstone. The payload is a slice of the value, not a copy.
pub(super) fn decode(value: &Bytes) -> Result<Option<Entry>, Foreign> {
    let Some((magic, rest)) = value.split_first_chunk::<4>() else { return Err(Foreign::NotOurs) };
    if magic[..3] != MAGIC[..3] {
        return Err(Foreign::NotOurs);
    }
    if magic[3] != MAGIC[3] {
        return Err(Foreign::OtherLayout(magic[3]));
    }
    decode_body(value, rest).ok_or(Foreign::Damaged)
}

/// `None` where it is damaged.
fn decode_body(value: &Bytes, rest: &[u8]) -> Option<Option<Entry>> {
    let (&kind, rest) = rest.split_first()?;
    let (version, rest) = rest.split_first_chunk::<{ Version::BYTES }>()?;
    let (expires_at_ms, rest) = rest.split_first_chunk::<8>()?;
    let (&[account_bytes, flow_bytes, id_bytes], rest) = rest.split_first_chunk::<3>()?;
    let (account, rest) = rest.split_at_checked(account_bytes.into())?;
    let (flow, rest) = rest.split_at_checked(flow_bytes.into())?;
    let (id, payload) = rest.split_at_checked(id_bytes.into())?;
    if kind == TOMBSTONE {
        return Some(None);
    }
    if kind != ENTRY {
        return None;
    }
    let expires_at_ms = u64::from_be_bytes(*expires_at_ms);
    Some(Some(Entry {
        version: Version::from_bytes(*version),
        expires_at_ms: (expires_at_ms != 0).then_some(expires_at_ms),
        account: Account::parse(std::str::from_utf8(account).ok()?).ok()?,
        flow: Flow::parse(std::str::from_utf8(flow).ok()?).ok()?,
        id: std::str::from_utf8(id).ok()?.to_owned(),
        payload: value.slice_ref(payload),
    }))
}

/// What the entry in a value, if there is one, is encoded to again. For the fuzzer: nobody else reads a value by itself.
#[cfg(fuzzing)]
pub fn recode(value: &Bytes) -> Option<Vec<u8>> {
    let Entry { version, expires_at_ms, account, flow, id, payload } = decode(value).ok()??;
    let mut bytes = encode(&Header::Entry { flow: &flow, expires_at_ms }, &account, &version, &id).expect("its id fit");
    bytes.extend_from_slice(&payload);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version() -> Version {
        Version::of_event(3, 1_767_225_600_000, "event")
    }

    fn entry(id: &str, expires_at_ms: Option<u64>, payload: &[u8]) -> Bytes {
        let flow = Flow::parse("flow").unwrap();
        let header = Header::Entry { flow: &flow, expires_at_ms };
        let mut value = encode(&header, &Account::parse("acme").unwrap(), &version(), id).unwrap();
        value.extend_from_slice(payload);
        value.into()
    }

    #[test]
    fn the_fixed_head_takes_at_most_72_bytes() {
        assert_eq!(FIXED_BYTES, 48);
        assert_eq!(entry("id", None, b"").len(), FIXED_BYTES + "acme".len() + "flow".len() + "id".len());
    }

    #[test]
    fn what_is_encoded_is_decoded_and_the_payload_is_not_copied() {
        for expires_at_ms in [None, Some(1), Some(u64::MAX)] {
            let value = entry("the-id", expires_at_ms, b"{\"a\": 1}");
            let read = decode(&value).unwrap().unwrap();
            assert_eq!((read.version, read.expires_at_ms), (version(), expires_at_ms));
            assert_eq!((read.account.as_str(), read.flow.as_str(), &*read.id), ("acme", "flow", "the-id"));
            assert_eq!(read.payload, &b"{\"a\": 1}"[..]);
            assert_eq!(read.payload.as_ptr_range().end, value.as_ptr_range().end);
        }
    }

    #[test]
    fn a_tombstone_is_no_entry() {
        let header = Header::Tombstone { until_ms: 9 };
        let value = encode(&header, &Account::parse("acme").unwrap(), &version(), "id").unwrap();
        assert_eq!(decode(&value.into()), Ok(None));
    }

    #[test]
    fn a_value_of_others_or_of_a_newer_layout_is_told_apart() {
        for foreign in [&b""[..], b"x", b"{\"json\":true}", &[0x89, b'h', b'x', 1]] {
            assert_eq!(decode(&Bytes::copy_from_slice(foreign)), Err(Foreign::NotOurs));
        }
        let mut newer = entry("id", None, b"1").to_vec();
        newer[3] = 2;
        assert_eq!(decode(&newer.into()), Err(Foreign::OtherLayout(2)));
    }

    #[test]
    fn an_id_that_does_not_fit_is_refused() {
        let header = Header::Tombstone { until_ms: 9 };
        let account = Account::parse("acme").unwrap();
        assert_eq!(encode(&header, &account, &version(), &"i".repeat(256)), Err(IdTooLong));
        assert!(encode(&header, &account, &version(), &"i".repeat(255)).is_ok());
    }

    #[test]
    fn every_cut_before_the_payload_is_damage() {
        let value = entry("id", Some(5), b"payload");
        let header = value.len() - b"payload".len();
        for len in 4..header {
            assert_eq!(decode(&value.slice(..len)), Err(Foreign::Damaged), "{len}");
        }
        assert!(decode(&value.slice(..header)).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..256), ours: bool) {
            let mut bytes = if ours { MAGIC.to_vec() } else { vec![] };
            bytes.extend(tail);
            let _ = decode(&bytes.into());
        }

        #[test]
        fn no_damage_to_one_byte_makes_it_panic(at in 0_usize..64, byte: u8) {
            let mut bytes = entry("id", Some(5), b"payload").to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = decode(&bytes.into());
        }
    }
}
