use serde_json::{Value, json};

use super::*;
use crate::jwt::LEEWAY;

const NOW: u64 = 1_767_225_600_000;
const NOW_S: u64 = NOW / 1_000;
const SECRET: &str = "the secret of site A, which is long enough";
const HOOK: Call<'_> =
    Call { method: "POST", path: "/v1/hooks/confluence/page_updated", query: Some("lic=none"), base_path: "" };
/// `{"alg":"none","typ":"JWT"}`
const NONE_HEADER: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";

fn claims() -> Value {
    json!({"iss": "site-a", "iat": NOW_S, "exp": NOW_S + 180, "qsh": HOOK.hash()})
}

fn token_of(algorithm: Algorithm, claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn verify(token: &str) -> Result<Verified, Refused> {
    verify_shared(token, &[SECRET.to_owned()], &HOOK, NOW)
}

fn refused(change: impl FnOnce(&mut Value)) -> Refused {
    let mut claims = claims();
    change(&mut claims);
    verify(&token_of(Algorithm::HS256, &claims, SECRET)).unwrap_err()
}

#[test]
fn a_token_of_the_site_for_this_call_is_taken() {
    let token = token_of(Algorithm::HS256, &claims(), SECRET);
    assert_eq!(verify(&token), Ok(Verified { client_key: "site-a".into() }));
    assert_eq!(issuer(&token).as_deref(), Ok("site-a"));
    let mut with_more = claims();
    with_more["sub"] = json!("557058:x");
    with_more["context"] = json!({"user": {}});
    with_more["aud"] = json!(["anything"]);
    assert!(verify(&token_of(Algorithm::HS256, &with_more, SECRET)).is_ok());
}

#[test]
fn a_former_secret_is_taken_as_long_as_it_is_given_and_an_empty_one_never_is() {
    let token = token_of(Algorithm::HS256, &claims(), SECRET);
    let verify = |secrets: &[&str]| {
        let secrets: Vec<String> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        verify_shared(&token, &secrets, &HOOK, NOW)
    };
    assert!(verify(&["the new one", SECRET]).is_ok());
    assert_eq!(verify(&["the new one"]), Err(Refused::Signature));
    assert_eq!(verify(&[]), Err(Refused::Signature));
    let unlocked = token_of(Algorithm::HS256, &claims(), "");
    assert_eq!(verify_shared(&unlocked, &[String::new()], &HOOK, NOW), Err(Refused::Signature));
}

#[test]
fn only_hs256_is_taken_whatever_the_token_says() {
    let token = token_of(Algorithm::HS256, &claims(), SECRET);
    let (_, rest) = token.split_once('.').unwrap();
    let (payload, _) = rest.split_once('.').unwrap();
    for none in [format!("{NONE_HEADER}.{payload}."), format!("{NONE_HEADER}.{rest}")] {
        assert_eq!(verify(&none), Err(Refused::Malformed), "{none}");
        assert_eq!(issuer(&none), Err(Refused::Malformed));
    }
    let longer = token_of(Algorithm::HS512, &claims(), SECRET);
    assert_eq!(verify(&longer), Err(Refused::Algorithm("HS256")));
    assert_eq!(issuer(&longer), Err(Refused::Algorithm("HS256")));
    for garbage in ["", ".", "..", "a.b.c", "x", &token[1..], &token[..token.len() - 20], &format!("{token}.x")] {
        assert!(verify(garbage).is_err(), "{garbage}");
    }
    assert_eq!(verify(&"a".repeat(TOKEN_BYTES_MAX + 1)), Err(Refused::Malformed));
}

#[test]
fn a_secret_shared_with_the_site_proves_no_install() {
    // The key server's answer is public: it must not serve as a secret.
    let pem = "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n";
    let key = PublicKey::from_pem(pem.as_bytes()).unwrap();
    for secret in [SECRET, pem, "0\0"] {
        let mut claims = claims();
        claims["aud"] = json!("https://app.example");
        let token = token_of(Algorithm::HS256, &claims, secret);
        let verified = verify_installed(&token, &key, "https://app.example", &HOOK, NOW);
        assert_eq!(verified, Err(Refused::Algorithm("RS256")));
        assert_eq!(super::super::key_id(&token), Err(Refused::Algorithm("RS256")));
    }
}

#[test]
fn a_token_without_issuer_hash_or_expiry_is_refused() {
    for name in ["iss", "qsh", "exp"] {
        let without = refused(|claims| drop(claims.as_object_mut().unwrap().remove(name)));
        assert_eq!(without, Refused::Claims, "{name}");
        assert_eq!(refused(|claims| claims[name] = json!(null)), Refused::Claims, "{name}");
    }
    assert_eq!(refused(|claims| claims["exp"] = json!("soon")), Refused::Claims);
}

#[test]
fn a_context_token_and_a_token_for_another_call_are_refused() {
    assert_eq!(refused(|claims| claims["qsh"] = json!(qsh::CONTEXT)), Refused::ContextToken);
    for other in [
        Call { method: "GET", ..HOOK },
        Call { path: "/v1/hooks/confluence/page_removed", ..HOOK },
        Call { query: None, ..HOOK },
        Call { query: Some("lic=active"), ..HOOK },
    ] {
        assert_eq!(refused(|claims| claims["qsh"] = json!(other.hash())), Refused::QueryHash, "{other:?}");
    }
}

#[test]
fn a_token_is_valid_until_it_expires_give_or_take_the_leeway() {
    let leeway = LEEWAY.as_secs();
    let with = |name: &str, seconds: u64| {
        let mut claims = claims();
        claims[name] = json!(seconds);
        verify(&token_of(Algorithm::HS256, &claims, SECRET))
    };
    assert!(with("exp", NOW_S - leeway).is_ok());
    assert_eq!(with("exp", NOW_S - leeway - 1), Err(Refused::Expired));
    assert!(with("nbf", NOW_S + leeway).is_ok());
    assert_eq!(with("nbf", NOW_S + leeway + 1), Err(Refused::NotYet));
    assert_eq!(refused(|claims| claims["exp"] = json!(NOW_S as f64 - 30.5)), Refused::Expired);
}

#[test]
fn what_we_sign_is_for_one_call_and_one_site_for_three_minutes() {
    let url = "https://acme.atlassian.net/wiki/api/v2/pages?limit=2&sort=id#x";
    for url in [url, "/wiki/api/v2/pages?sort=id&limit=2"] {
        let token = sign("app", "site-a", SECRET, "GET", url, "/wiki", NOW + 999);
        let call = Call { method: "GET", path: "/api/v2/pages", query: Some("limit=2&sort=id"), base_path: "" };
        assert_eq!(verify_shared(&token, &[SECRET.to_owned()], &call, NOW).unwrap().client_key, "app");
        let claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(&token).unwrap();
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(NOW_S), &json!(NOW_S + 180)));
        assert_eq!(claims["aud"], json!(["site-a"]));
    }
    assert_eq!(sign("a", "c", "s", "GET", "https://h", "", NOW), sign("a", "c", "s", "GET", "/", "", NOW));
}
