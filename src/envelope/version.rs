//! Which of two events is newer.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// `(order, event time, tie-break)` as 32 bytes that compare like the tuple: 8 bytes order, 8 bytes event time in
/// milliseconds since the epoch, both big-endian, and 16 bytes of tie-break. Its hexadecimal form is the ETag.
///
/// Nothing of a queue enters it: an SQS message id and sent timestamp change with a redrive, and old would win.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version([u8; Version::BYTES]);

impl Version {
    pub const BYTES: usize = 32;

    /// The version of an event that its producer named: the same event has the same version, however often it comes.
    pub fn of_event(order: u64, time_ms: u64, event_id: &str) -> Self {
        Self::new(order, time_ms, first_16_of_sha256(event_id))
    }

    /// The version of an event that only we named. Our ids are UUIDv7 and increase within a process, so they break
    /// ties in the order of arrival; an id of another form (API Gateway's request id may change its form) is hashed.
    pub fn of_arrival(order: u64, at_ms: u64, id: &str) -> Self {
        let tie = Uuid::try_parse(id).map_or_else(|_| first_16_of_sha256(id), Uuid::into_bytes);
        Self::new(order, at_ms, tie)
    }

    fn new(order: u64, time_ms: u64, tie: [u8; 16]) -> Self {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&order.to_be_bytes());
        bytes[8..16].copy_from_slice(&time_ms.to_be_bytes());
        bytes[16..].copy_from_slice(&tie);
        Self(bytes)
    }

    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Event time in milliseconds since the epoch.
    pub fn time_ms(&self) -> u64 {
        u64::from_be_bytes(self.0[8..16].try_into().expect("8 bytes"))
    }

    pub fn order(&self) -> u64 {
        u64::from_be_bytes(self.0[..8].try_into().expect("8 bytes"))
    }
}

fn first_16_of_sha256(text: &str) -> [u8; 16] {
    Sha256::digest(text.as_bytes())[..16].try_into().expect("16 of 32 bytes")
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = |byte: u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        // At once, as every answer to a get holds one.
        let text = self.0.map(digits);
        f.write_str(std::str::from_utf8(text.as_flattened()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_text_is_hexadecimal() {
        let bytes = std::array::from_fn(|at| at as u8 * 8);
        assert!(Version::from_bytes(bytes).to_string().starts_with("0008101820283038"));
        assert_eq!(Version::from_bytes([0xfa; 32]).to_string(), "fa".repeat(32));
    }

    #[test]
    fn order_beats_time_and_time_beats_the_tie_break() {
        let low = Version::of_event(0, 9, "z");
        assert!(Version::of_event(0, 10, "a") > low);
        assert!(Version::of_event(1, 0, "a") > Version::of_event(0, u64::MAX, "a"));
        assert_eq!(Version::of_event(0, 9, "z"), low);
    }

    #[test]
    fn two_arrivals_of_one_millisecond_keep_the_order_of_their_ids() {
        let (first, second) = ("018f0000-0000-7000-8000-000000000001", "018f0000-0000-7000-8000-000000000002");
        assert!(Version::of_arrival(0, 5, first) < Version::of_arrival(0, 5, second));
        assert_eq!(Version::of_arrival(3, 5, first).order(), 3);
        assert_eq!(Version::of_arrival(3, 5, "not a uuid").time_ms(), 5);
    }
}
