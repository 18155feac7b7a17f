//! The query-string hash: the claim `qsh`, which ties a Connect token to one method, path and query.
//!
//! It is the lower-case hex SHA-256 of `METHOD&path&query`. The path is the one below the receiver's base URL, and is not
//! decoded: only `&` is escaped. The query is decoded as a form, freed of the parameter `jwt`, grouped by key, sorted, and
//! encoded again. Atlassian's libraries disagree on the order of keys that hold other than unreserved characters: its
//! JavaScript sorts them decoded, its Python encoded. Both are taken.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use sha2::{Digest, Sha256};

/// What a browser gets in place of a hash: it fits every call, so it proves nothing about one.
pub const CONTEXT: &str = "context-qsh";

/// The parameter that carries a token, and so can't be part of its hash.
const TOKEN_PARAMETER: &[u8] = b"jwt";
/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The call that a token is for.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub method: &'a str,
    /// As it stands in the request line, without the query.
    pub path: &'a str,
    pub query: Option<&'a str>,
    /// The path of the receiver's base URL, such as `/wiki`; empty for none.
    pub base_path: &'a str,
}

/// In which order the keys of a query stand.
#[derive(Clone, Copy)]
enum Order {
    Decoded,
    Encoded,
}

impl Call<'_> {
    /// The hash, as it is signed.
    pub fn hash(&self) -> String {
        self.hash_in(Order::Decoded)
    }

    /// Is this the hash of the call, in either order?
    pub fn has(&self, hash: &str) -> bool {
        hash == self.hash_in(Order::Decoded) || hash == self.hash_in(Order::Encoded)
    }

    fn hash_in(&self, order: Order) -> String {
        let digest = Sha256::digest(self.canonical(order));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn canonical(&self, order: Order) -> String {
        let (method, path) = (self.method.to_uppercase(), canonical_path(self.path, self.base_path));
        let query = canonical_query(self.query.unwrap_or_default(), order);
        format!("{method}&{path}&{query}")
    }
}

fn canonical_path(path: &str, base_path: &str) -> String {
    let base_path = base_path.strip_suffix('/').unwrap_or(base_path);
    let below = path.strip_prefix(base_path).filter(|below| below.is_empty() || below.starts_with('/'));
    let path = below.unwrap_or(path).replace('&', "%26");
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter.to_owned(),
        _ => path,
    }
}

fn canonical_query(query: &str, order: Order) -> String {
    // Keys and values are bytes: what was percent-encoded need not be UTF-8.
    let mut values: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let key = form_decoded(key);
        if key != TOKEN_PARAMETER {
            values.entry(key).or_default().push(form_decoded(value));
        }
    }
    let parameter = |(key, mut values): (Vec<u8>, Vec<Vec<u8>>)| {
        values.sort();
        let values: Vec<String> = values.iter().map(|value| encoded(value)).collect();
        (encoded(&key), values.join(","))
    };
    let mut parameters: Vec<(String, String)> = values.into_iter().map(parameter).collect();
    if matches!(order, Order::Encoded) {
        parameters.sort();
    }
    parameters.iter().map(|(key, values)| format!("{key}={values}")).collect::<Vec<_>>().join("&")
}

fn form_decoded(text: &str) -> Vec<u8> {
    percent_decode(text.replace('+', " ").as_bytes()).collect()
}

fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by npm `atlassian-jwt`, PyPI `atlassian-jwt` and a third implementation, which agree on all of them.
    const VECTORS: &str = include_str!("../../tests/fixtures/jwt/qsh-vectors.json");

    #[test]
    fn every_vector_of_atlassians_own_libraries_has_its_canonical_form_and_hash() {
        let vectors: Vec<serde_json::Value> = serde_json::from_str(VECTORS).unwrap();
        assert_eq!(vectors.len(), 44);
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let (path, query) = match text("url").split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (text("url"), None),
            };
            let base_url = text("baseUrl");
            let base_path = base_url.split_once("://").map_or(base_url, |(_, rest)| &rest[rest.find('/').unwrap()..]);
            let call = Call { method: text("method"), path, query, base_path };
            assert_eq!(call.canonical(Order::Decoded), text("npm_canonical"));
            assert_eq!((call.hash().as_str(), call.has(text("npm_qsh"))), (text("npm_qsh"), true), "{vector}");
        }
    }

    #[test]
    fn keys_may_stand_in_the_order_of_either_library() {
        let call = Call { method: "get", path: "/x", query: Some(".a=1&%3Aa=2&z=3&%C3%A9=4"), base_path: "" };
        let (npm, python) = ("GET&/x&.a=1&%3Aa=2&z=3&%C3%A9=4", "GET&/x&%3Aa=2&%C3%A9=4&.a=1&z=3");
        assert_eq!((call.canonical(Order::Decoded).as_str(), call.canonical(Order::Encoded).as_str()), (npm, python));
        for canonical in [npm, python] {
            let hash: String = Sha256::digest(canonical).iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(call.has(&hash), "{canonical}");
        }
        assert!(!call.has(CONTEXT) && !call.has("") && !call.has(&call.hash().to_uppercase()));
    }

    #[test]
    fn only_the_whole_base_path_is_taken_away() {
        for (path, base_path, want) in [
            ("/wiki/rest", "/wiki", "/rest"),
            ("/wiki/rest", "/wiki/", "/rest"),
            ("/wiki", "/wiki", "/"),
            ("/wiki/", "/wiki", "/"),
            ("/wikipedia/rest", "/wiki", "/wikipedia/rest"),
            ("/rest", "/wiki", "/rest"),
            ("/rest/", "", "/rest"),
            ("/rest//", "", "/rest/"),
        ] {
            assert_eq!(canonical_path(path, base_path), want, "{path} below {base_path}");
        }
    }

    #[test]
    fn what_is_badly_encoded_is_taken_as_it_stands() {
        let query = |query| canonical_query(query, Order::Decoded);
        assert_eq!(query("a=%&b=%zz&&c"), "a=%25&b=%25zz&c=");
        assert_eq!(query("a=%ff"), "a=%FF");
        assert_eq!(query("%6Awt=x&a=1"), "a=1", "the token, however it is spelled");
    }
}
