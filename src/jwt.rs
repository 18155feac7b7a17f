//! The JSON Web Tokens of Atlassian's clouds: who sent a webhook, and as whom an app asks back. Pure: no I/O, time is an
//! argument.
//!
//! | token | algorithm | key |
//! | --- | --- | --- |
//! | Connect: webhooks, enabled, disabled | HS256 | the secret that the site shared with us |
//! | Connect: installed, uninstalled | RS256 | one of Atlassian's, by `kid` |
//! | Connect: our calls of the REST API | HS256 | the secret that the site shared with us |
//! | Forge: invocations | RS256 | one of Atlassian's, by `kid` |
//!
//! The algorithm is pinned by what the token is for, and never taken from the token. A signature is checked before
//! anything that the token says, but for the names by which its key is found ([`key_id`], [`connect::issuer`]): who uses
//! them trusts nothing by it. No token, claim or key is ever part of an error.
//!
//! Limits: [`TOKEN_BYTES_MAX`], [`LEEWAY`], and those of `keys`.
//!
//! | file | holds |
//! | --- | --- |
//! | `qsh` | the query-string hash, which ties a Connect token to one call |
//! | `connect` | Connect's tokens: verified, and signed |
//! | `forge` | Forge's invocation tokens |
//! | `keys` | public keys, as PEM and as a JWK set |

pub mod connect;
pub mod forge;
mod keys;
pub mod qsh;

use std::collections::HashSet;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use keys::{KeyFault, PublicKey, jwk_set};

/// Longest token, in bytes: more than fits into the head of a request.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;
/// How far the sender's clock may be off ours. A Forge token lives 25 seconds.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Why a token proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is no JWT, or its algorithm is unknown")]
    Malformed,
    #[error("it is not signed with {0}, the one algorithm for this call")]
    Algorithm(&'static str),
    #[error("its header names no key (kid)")]
    NoKeyId,
    #[error("its signature is not that of the key")]
    Signature,
    #[error("its claims are not as they must be: iss, exp and what else this call needs, each once")]
    Claims,
    #[error("it has expired, or its sender's clock is wrong")]
    Expired,
    #[error("it is not valid yet, or its sender's clock is wrong")]
    NotYet,
    #[error("its issuer (iss) is another")]
    Issuer,
    #[error("its audience (aud) is another")]
    Audience,
    #[error("it was made for another call: its query-string hash (qsh) is another")]
    QueryHash,
    #[error("it is a context token (qsh \"context-qsh\"), which a browser may hold")]
    ContextToken,
}

/// The name of the key that a token says to be signed with, unverified. No part of a URL before it is checked.
pub fn key_id(token: &str) -> Result<String, Refused> {
    check_length(token)?;
    let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Malformed)?;
    match header.alg {
        Algorithm::RS256 => header.kid.ok_or(Refused::NoKeyId),
        _ => Err(Refused::Algorithm("RS256")),
    }
}

/// The claims of a token that this key has signed. What they say is for the caller to check, [`Times`] among it.
fn signed<C: DeserializeOwned>(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<C, Refused> {
    use jsonwebtoken::errors::ErrorKind;

    check_length(token)?;
    // The library checks the signature; its own checks of claims read the system's clock.
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims = HashSet::new();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    let data = jsonwebtoken::decode::<C>(token, key, &validation).map_err(|error| match error.kind() {
        ErrorKind::InvalidAlgorithm => Refused::Algorithm(name(algorithm)),
        ErrorKind::InvalidSignature => Refused::Signature,
        ErrorKind::Json(_) if jsonwebtoken::decode_header(token).is_ok() => Refused::Claims,
        _ => Refused::Malformed,
    })?;
    Ok(data.claims)
}

fn check_length(token: &str) -> Result<(), Refused> {
    if token.len() > TOKEN_BYTES_MAX { Err(Refused::Malformed) } else { Ok(()) }
}

fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "HS256",
        _ => "RS256",
    }
}

/// When a token is valid, in seconds since the epoch; a fraction is allowed (RFC 7519, NumericDate).
#[derive(Deserialize)]
struct Times {
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
}

impl Times {
    fn check(&self, now_ms: u64) -> Result<(), Refused> {
        let (now, leeway) = (now_ms as f64 / 1_000.0, LEEWAY.as_secs_f64());
        if now > self.exp + leeway {
            return Err(Refused::Expired);
        }
        match self.nbf {
            Some(nbf) if now < nbf - leeway => Err(Refused::NotYet),
            _ => Ok(()),
        }
    }
}

/// The `aud` claim: one text, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn any(&self, is_ours: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::One(audience) => is_ours(audience),
            Self::Many(audiences) => audiences.iter().any(|audience| is_ours(audience)),
        }
    }
}
