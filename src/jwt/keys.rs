//! Public RSA keys. Those of fewer than 2,048 bits verify nothing.

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, PublicKeyUse};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::Value;

/// Keys of a JWK set that are read.
const SET_KEYS_MAX: usize = 64;
/// Longest name of a key, in bytes; Forge's have about 70.
const KEY_ID_BYTES_MAX: usize = 256;

/// A key that verifies RS256. Cheap enough to clone.
#[derive(Clone)]
pub struct PublicKey(pub(super) DecodingKey);

/// What a key server has sent is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("it is no public key in PEM")]
    Pem,
    #[error("it is no JWK set")]
    Set,
}

impl PublicKey {
    /// `-----BEGIN PUBLIC KEY-----`, as Connect's key server has it.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyFault> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text).map_err(|_| KeyFault::Pem)?;
        Ok(Self(DecodingKey::from_rsa_der(&der)))
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The RSA keys of a JWK set (RFC 7517), each with its name. What is of another kind is passed over.
pub fn jwk_set(text: &[u8]) -> Result<Vec<(String, PublicKey)>, KeyFault> {
    let set: Set = serde_json::from_slice(text).map_err(|_| KeyFault::Set)?;
    Ok(set.keys.into_iter().take(SET_KEYS_MAX).filter_map(rsa_key).collect())
}

fn rsa_key(key: Value) -> Option<(String, PublicKey)> {
    let key: jsonwebtoken::jwk::Jwk = serde_json::from_value(key).ok()?;
    let name = key.common.key_id.filter(|name| (1..=KEY_ID_BYTES_MAX).contains(&name.len()))?;
    let signs = key.common.public_key_use.is_none_or(|use_| use_ == PublicKeyUse::Signature);
    match key.algorithm {
        AlgorithmParameters::RSA(rsa) if signs => {
            let key = DecodingKey::from_rsa_components(&rsa.n, &rsa.e).ok()?;
            Some((name, PublicKey(key)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_told_from_one() {
        for text in ["", "x", "<html>", "-----BEGIN PUBLIC KEY-----\n*\n-----END PUBLIC KEY-----\n"] {
            assert_eq!(PublicKey::from_pem(text.as_bytes()).err(), Some(KeyFault::Pem), "{text}");
        }
        for text in ["", "[]", "{}", r#"{"keys":1}"#] {
            assert_eq!(jwk_set(text.as_bytes()).err(), Some(KeyFault::Set), "{text}");
        }
    }

    #[test]
    fn a_set_gives_its_rsa_keys_and_no_others() {
        let rsa = r#"{"kty":"RSA","kid":"a/b","n":"AQAB","e":"AQAB"}"#;
        let others = [
            r#"{"kty":"oct","kid":"secret","k":"AQAB"}"#,
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#,
            r#"{"kty":"RSA","kid":"enc","use":"enc","n":"AQAB","e":"AQAB"}"#,
            r#"{"kty":"new","kid":"n"}"#,
            "7",
        ];
        let set = format!(r#"{{"keys":[{},{rsa}]}}"#, others.join(","));
        let names: Vec<String> = jwk_set(set.as_bytes()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a/b"]);
    }
}
