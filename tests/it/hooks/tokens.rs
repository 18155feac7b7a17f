//! Our tokens and those of Atlassian's own libraries, in both directions.

use std::time::{SystemTime, UNIX_EPOCH};

use hookcache::jwt::qsh::Call;
use hookcache::jwt::{PublicKey, Refused, connect, forge, jwk_set, key_id};
use serde_json::json;

use super::stage::{NOW, NOW_S};
use crate::support::atlassian::Library;

const SECRET: &str = "a secret that both sides know, which is long enough";
/// Queries as bad as they come; each library has its own way of reading them.
const URLS: &[&str] = &[
    "/v1/hooks/confluence/page_updated",
    "/v1/hooks/confluence/page_updated?lic=none&user_id=&user_key=",
    "/v1/hooks/confluence/page_updated?a=1&a=&a=2&b=x+y&c=%2B%20%25",
    "/v1/hooks/confluence/page_updated?q=!'()*~-._&z=%e5%ae%ae",
    "/v1/hooks/confluence/page_updated?.a=1&%3Aa=2&%C3%A9=3&z=4",
    "/v1/hooks/confluence/space_removed/?x=1&jwt=abc",
    "/x//y/%41?b=1&A=2",
];

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn call(url: &str) -> Call<'_> {
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    Call { method: "POST", path, query, base_path: "" }
}

#[test]
fn what_either_library_signs_is_taken() {
    for mut library in [Library::node(), Library::python()] {
        for url in URLS {
            let claims = json!({"iss": "site-a", "iat": NOW_S, "exp": NOW_S + 180});
            let token = library.token(json!({
                "claims": claims, "secret": SECRET, "call": {"method": "POST", "url": url},
            }));
            let verified = connect::verify_shared(&token, &[SECRET.to_owned()], &call(url), NOW);
            assert_eq!(verified.map(|verified| verified.client_key).as_deref(), Ok("site-a"), "{url}");
            let elsewhere = connect::verify_shared(&token, &[SECRET.to_owned()], &call("/other"), NOW);
            assert_eq!(elsewhere, Err(Refused::QueryHash));
        }
    }
}

#[test]
fn what_we_sign_is_taken_by_both_libraries() {
    for mut library in [Library::node(), Library::python()] {
        for path in ["/api/v2/pages?limit=250&sort=-modified-date", "/api/v2/pages/7?body-format=storage", "/", "/x/"] {
            let url = format!("https://acme.atlassian.net/wiki{path}");
            // The site's own clock decides whether it has expired; Python's library wants its issuer as its audience.
            let token = connect::sign("app", "app", SECRET, "GET", &url, "/wiki", now_ms());
            let claims = library.verified(&token, SECRET, "GET", path).unwrap_or_else(|e| panic!("{e}: {path}"));
            assert_eq!(claims["iss"], "app");
            assert!(library.verified(&token, SECRET, "POST", path).is_err());
            assert!(library.verified(&token, "another secret, as long as the other", "GET", path).is_err());
        }
    }
}

#[test]
fn rsa_keys_in_either_form_verify_what_node_signs_and_small_ones_nothing() {
    let mut node = Library::node();
    let url = "/v1/hooks/confluence/installed";
    for (bits, is_taken) in [(2_048, true), (3_072, true), (1_024, false)] {
        let name = format!("key-{bits}");
        let (pem, mut jwk) = node.key(&name, bits);
        jwk["kid"] = name.as_str().into();
        let claims = json!({
            "iss": "site-a", "aud": ["https://app.example.com/"], "exp": NOW_S + 180,
        });
        let token = node.token(json!({
            "claims": claims, "key": name, "kid": name, "call": {"method": "POST", "url": url},
        }));
        assert_eq!(key_id(&token).as_deref(), Ok(name.as_str()));
        let of_pem = PublicKey::from_pem(pem.as_bytes()).unwrap();
        let [(_, of_jwk)]: [_; 1] =
            jwk_set(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap().try_into().ok().unwrap();
        for key in [of_pem, of_jwk] {
            let verified = connect::verify_installed(&token, &key, "https://app.example.com", &call(url), NOW);
            match is_taken {
                true => assert_eq!(verified.unwrap().client_key, "site-a"),
                false => assert_eq!(verified, Err(Refused::Signature), "{bits} bits"),
            }
            assert!(forge::verify(&token, &key, "https://app.example.com/", NOW).is_err(), "it is of another sort");
        }
    }
}
