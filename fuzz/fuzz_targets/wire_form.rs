//! Whatever lies in the buffer is an envelope within its limits, or poison: never a panic.
#![no_main]

use bytes::Bytes;
use hookcache::envelope::limits::{KEYS_PER_REQUEST_MAX, WIRE_BYTES_MAX};
use hookcache::envelope::{Action, WebhookKey, peek, wire};
use libfuzzer_sys::fuzz_target;

/// 2026-01-01.
const NOW_MS: u64 = 1_767_225_600_000;

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    let peeked = peek(&body);
    let decoded = wire::decode(&body, NOW_MS);
    assert_eq!(wire::decode(&body, NOW_MS), decoded);
    let Ok(envelope) = decoded else { return };
    assert!(body.len() <= WIRE_BYTES_MAX);
    assert!((1..=KEYS_PER_REQUEST_MAX).contains(&envelope.keys.len()));
    assert!(envelope.keys.iter().all(|key| WebhookKey::parse(key.as_str()).is_ok()));
    // What an operator is shown is what is stored.
    assert_eq!((peeked.id.as_ref(), peeked.at_ms), (Some(&envelope.id), Some(envelope.at_ms)));
    assert_eq!((peeked.by.as_ref(), peeked.account.as_ref()), (Some(&envelope.by), Some(&envelope.account)));
    if let Action::Set { payload, .. } = envelope.action {
        // A slice of the body, and JSON. A number beyond any float is JSON, too, but no `Value`.
        assert!(body.as_ptr_range().contains(&payload.as_ptr()));
        serde_json::from_slice::<&serde_json::value::RawValue>(&payload).expect("the payload is JSON");
    }
});
