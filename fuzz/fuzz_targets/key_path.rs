//! A path names one key, however its characters are escaped.
#![no_main]

use hookcache::envelope::WebhookKey;
use hookcache::http;
use libfuzzer_sys::fuzz_target;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

const PREFIX: &str = "/v1/keys/";

fuzz_target!(|data: &str| {
    // No path that hyper hands on holds anything but ASCII, but this must not rest on it.
    if let Some(key) = http::key(&format!("{PREFIX}{data}")) {
        let escaped = utf8_percent_encode(&key, NON_ALPHANUMERIC);
        assert_eq!(http::key(&format!("{PREFIX}{escaped}")).as_ref(), Some(&key));
    }
    if let Ok(key) = WebhookKey::parse(data) {
        let escaped = utf8_percent_encode(key.as_str(), NON_ALPHANUMERIC);
        assert_eq!(http::key(&format!("{PREFIX}{escaped}")).as_deref(), Some(data));
    }
});
