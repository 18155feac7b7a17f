//! Whatever Redis holds under a key of ours is an entry, a tombstone, or refused; an entry is encoded to the same bytes.
#![no_main]

use bytes::Bytes;
use hookcache::store::redis::recode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(again) = recode(&Bytes::copy_from_slice(data)) {
        assert_eq!(again, data);
    }
});
