//! Whatever a page's body holds, as storage format or as ADF: its links are within their limits, in order, and can be
//! written as JSON.
#![no_main]

use hookcache::extract::{Context, KEPT_BYTES_MAX, LINKS_MAX, TEXT_CHARS_MAX, links_of_adf, links_of_storage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let context = Context::new("https://acme.atlassian.net/wiki").expect("a base URL").with_space("DOC").with_page(42);
    for extract in [links_of_storage, links_of_adf] {
        let found = extract(data, &context);
        assert!(found.links.len() <= LINKS_MAX);
        assert!(found.links.is_sorted_by_key(|link| link.position));
        let mut url_bytes = 0;
        for link in &found.links {
            assert!(link.count > 0);
            assert!(link.url.is_some() || link.target.is_some() || link.anchor.is_some());
            assert!(link.text.as_ref().is_none_or(|text| text.chars().count() <= TEXT_CHARS_MAX));
            url_bytes += link.url.as_ref().map_or(0, String::len);
            serde_json::to_string(link).expect("a link is JSON");
        }
        assert!(url_bytes <= KEPT_BYTES_MAX);
    }
});
