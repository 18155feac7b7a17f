//! Whatever stands in a configuration file is a configuration, or refused with the keys to correct.
#![no_main]

use hookcache::config::load_text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| match load_text(data) {
    Ok(loaded) => assert!(!loaded.settings.is_empty()),
    Err(error) => {
        assert!(!error.faults.is_empty());
        assert!(error.faults.iter().all(|fault| !fault.key.is_empty() && !fault.text.is_empty()), "{error}");
    }
});
