//! Webhooks of a site that shares a secret with us: Data Center, and whatever else can send one along.
//!
//! | proof | who sends it |
//! | --- | --- |
//! | `X-Hub-Signature: sha256=<hex>`, the body's HMAC | Confluence Data Center, with a secret in its webhook |
//! | `X-Hookcache-Secret: <secret>` | senders with headers of one's choice, such as automation rules |
//! | `Authorization: Bearer <secret>` | senders that know tokens |
//! | `Authorization: Basic`, with the secret as password | senders that know nothing but a URL: `https://any:<secret>@host/...` |
//!
//! A signature that is there is the one that counts. All comparisons take the same time whatever the guess.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Call, Parts, faulty, registry_down, single, unverified};
use crate::envelope::{SiteId, Stamp};
use crate::problem::Problem;
use crate::registry::JoinedBy;
use crate::source::confluence::body;
use crate::telemetry::HookOutcome;

const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature");
const SECRET: HeaderName = HeaderName::from_static("x-hookcache-secret");
const SIGNATURE_SCHEME: &str = "sha256=";

enum Proof {
    /// Of the body.
    Signature([u8; 32]),
    Secret(String),
}

impl Parts {
    pub(super) async fn of_site(&self, id: SiteId, call: &Call, stamp: Stamp) -> Result<HookOutcome, Problem> {
        let proof = proof(call)?;
        let site = self.site(&id).await?.filter(|site| site.joined_by == JoinedBy::Operator);
        let secrets = self.registry.hook_secrets(&id, stamp.at_ms).await.map_err(registry_down)?;
        let site = site.filter(|_| secrets.iter().any(|secret| proof.is_by(secret, &call.body)));
        let site = site.ok_or_else(|| {
            unverified("no site of this name was added with this secret: `hookcache confluence add` sets it")
        })?;

        let heard = body::of_site(&call.body).map_err(faulty)?;
        self.told(&site, heard.told, call, stamp).await
    }
}

impl Proof {
    /// An empty secret proves nothing.
    fn is_by(&self, secret: &str, body: &[u8]) -> bool {
        let proven = match self {
            Self::Signature(signature) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                hmac::verify(&key, body, signature).is_ok()
            }
            // Of hashes, since a comparison of texts would tell how long the secret is.
            Self::Secret(guess) => Sha256::digest(guess).ct_eq(&Sha256::digest(secret)).into(),
        };
        proven && !secret.is_empty()
    }
}

fn proof(call: &Call) -> Result<Proof, Problem> {
    if let Some(text) = single(&call.headers, SIGNATURE)? {
        let signature = text.strip_prefix(SIGNATURE_SCHEME).and_then(hex);
        return signature
            .map(Proof::Signature)
            .ok_or_else(|| unverified("the header x-hub-signature must be sha256=<64 hexadecimal digits>"));
    }
    if let Some(secret) = single(&call.headers, SECRET)? {
        return Ok(Proof::Secret(secret.to_owned()));
    }
    let authorization = single(&call.headers, AUTHORIZATION)?;
    let secret = authorization.and_then(|text| match text.split_once(' ')? {
        (scheme, token) if scheme.eq_ignore_ascii_case("Bearer") => Some(token.trim().to_owned()),
        (scheme, pair) if scheme.eq_ignore_ascii_case("Basic") => password(pair.trim()),
        _ => None,
    });
    secret.map(Proof::Secret).ok_or_else(|| {
        unverified(
            "the webhook must prove that it knows the site's secret: by X-Hub-Signature, X-Hookcache-Secret, a bearer \
             token, or as a password",
        )
    })
}

fn password(pair: &str) -> Option<String> {
    let pair = String::from_utf8(STANDARD.decode(pair).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::problem::Code;

    const BODY: &[u8] = br#"{"event":"page_updated","page":{"id":1}}"#;
    /// `openssl dgst -sha256 -hmac secret` of [`BODY`].
    const SIGNED: &str = "sha256=818ceacf7a23adb9dffb5f52160910a6af68896044cf3c772d0c5088aa956ed9";

    fn call(headers: &[(&'static str, &str)]) -> Call {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let path = String::new();
        Call { method: Method::POST, path, query: None, headers: map, body: Bytes::from_static(BODY) }
    }

    fn proven(headers: &[(&'static str, &str)]) -> Result<bool, Code> {
        proof(&call(headers)).map(|proof| proof.is_by("secret", BODY)).map_err(|problem| problem.code)
    }

    #[test]
    fn a_secret_is_proven_in_each_way_that_a_sender_may_know() {
        let basic = format!("Basic {}", STANDARD.encode("any:secret"));
        for headers in [
            [("x-hub-signature", SIGNED)],
            [("x-hub-signature", &SIGNED.to_uppercase().replace("SHA256", "sha256"))],
            [("x-hookcache-secret", "secret")],
            [("authorization", "Bearer secret")],
            [("authorization", "bearer  secret")],
            [("authorization", &basic)],
        ] {
            assert_eq!(proven(&headers), Ok(true), "{headers:?}");
        }
    }

    #[test]
    fn a_proof_that_is_wrong_missing_or_there_twice_proves_nothing() {
        let other = SIGNED.replace(&SIGNED[7..9], "00");
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for headers in [
            vec![("x-hub-signature", other.as_str())],
            vec![("x-hub-signature", other.as_str()), ("x-hookcache-secret", "secret")],
            vec![("x-hookcache-secret", "Secret")],
            vec![("x-hookcache-secret", "")],
            vec![("authorization", "Bearer secre")],
            vec![("authorization", &basic("secret:x"))],
        ] {
            assert_eq!(proven(&headers), Ok(false), "{headers:?}");
        }
        for headers in [
            vec![],
            vec![("x-hub-signature", "sha256=")],
            vec![("x-hub-signature", &SIGNED[7..])],
            vec![("x-hub-signature", "sha1=0000000000000000000000000000000000000000")],
            vec![("x-hub-signature", SIGNED), ("x-hub-signature", SIGNED)],
            vec![("x-hookcache-secret", "secret"), ("x-hookcache-secret", "secret")],
            vec![("authorization", "secret")],
            vec![("authorization", "Basic *")],
            vec![("authorization", "Digest secret")],
        ] {
            assert_eq!(proven(&headers), Err(Code::HookUnverified), "{headers:?}");
        }
        let signed_otherwise = Call { body: Bytes::from_static(b"{}"), ..call(&[("x-hub-signature", SIGNED)]) };
        assert!(!proof(&signed_otherwise).unwrap().is_by("secret", &signed_otherwise.body));
        assert!(!proof(&call(&[("x-hookcache-secret", "")])).unwrap().is_by("", BODY), "no secret is no secret");
    }
}
