use sha2::{Digest, Sha256};

use super::*;
use crate::envelope::limits::KEYS_PER_REQUEST_MAX;

/// All references of a document, wherever they stand.
fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(members) => {
            let own = members.get("$ref").and_then(Value::as_str);
            own.into_iter().chain(members.values().flat_map(references)).collect()
        }
        Value::Array(values) => values.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn a_served_document_refers_to_nothing_but_itself() {
    for document in [data(KEYS_PER_REQUEST_MAX), control()] {
        let references = references(&document);
        assert!(!references.is_empty());
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} points to a file"));
            assert!(document.pointer(pointer).is_some(), "{reference} points to nothing");
        }
    }
}

#[test]
fn the_bodies_of_set_and_delete_are_the_schemas_that_check_them() {
    for keys_max in [3, KEYS_PER_REQUEST_MAX] {
        let document = data(keys_max);
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["SetRequest"], schema::set_text(keys_max));
        assert_eq!(schemas["DeleteRequest"], schema::delete_text(keys_max));
        assert_eq!(schemas["SetRequest"]["properties"]["webhookKeys"]["maxItems"], keys_max);
    }
}

#[test]
fn the_page_runs_under_its_own_policy_and_fetches_from_its_server_alone() {
    for (tag, directive) in [("script", "script-src"), ("style", "style-src")] {
        let (_, rest) = PAGE.split_once(&format!("<{tag}>")).expect("the page has one");
        let (text, rest) = rest.split_once(&format!("</{tag}>")).expect("which ends");
        assert!(!rest.contains(&format!("<{tag}")), "one {tag} alone is allowed to run");
        let want = format!("{directive} 'sha256-{}'", base64(&Sha256::digest(text)));
        assert!(PAGE_POLICY.contains(&want), "the page has changed; its policy must say {want}");
    }
    for outside in ["://", "src=", "@import", "url(", "innerHTML", "style="] {
        assert!(!PAGE.contains(outside), "{outside}");
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | usize::from(chunk.get(i).copied().unwrap_or(0)));
        for place in 0..4 {
            let letter = ALPHABET[bits >> (18 - 6 * place) & 63] as char;
            text.push(if place > chunk.len() { '=' } else { letter });
        }
    }
    text
}
