//! The tokens of Atlassian Connect: those that a site signs, those that Atlassian signs for a site, and our own.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use super::qsh::{self, Call};
use super::{Audience, PublicKey, Refused, TOKEN_BYTES_MAX, Times};

/// How long a token of ours is valid, in seconds: what Atlassian's own libraries give theirs.
const LIFE_SECONDS: u64 = 180;

/// Who has signed a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// `iss`: the site's clientKey.
    pub client_key: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    qsh: String,
    #[serde(default)]
    aud: Option<Audience>,
    #[serde(flatten)]
    times: Times,
}

impl Claims {
    fn check(self, call: &Call<'_>, now_ms: u64) -> Result<Verified, Refused> {
        self.times.check(now_ms)?;
        if self.qsh == qsh::CONTEXT {
            return Err(Refused::ContextToken);
        }
        if !call.has(&self.qsh) {
            return Err(Refused::QueryHash);
        }
        Ok(Verified { client_key: self.iss })
    }
}

/// The clientKey that a token says to be from, unverified: by it the secret is found that the token is checked with.
pub fn issuer(token: &str) -> Result<String, Refused> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Refused::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Malformed)?;
    if header.alg != Algorithm::HS256 {
        return Err(Refused::Algorithm("HS256"));
    }
    let claims: Issuer = jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| Refused::Claims)?;
    Ok(claims.iss)
}

/// A webhook, `enabled` or `disabled`: HS256 with a secret of the site. Several are tried, as an old one stays valid for a
/// while; an empty one never is.
pub fn verify_shared(token: &str, secrets: &[String], call: &Call<'_>, now_ms: u64) -> Result<Verified, Refused> {
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let key = DecodingKey::from_secret(secret.as_bytes());
        match super::signed::<Claims>(token, &key, Algorithm::HS256) {
            Ok(claims) => return claims.check(call, now_ms),
            Err(Refused::Signature) => {}
            Err(refused) => return Err(refused),
        }
    }
    Err(Refused::Signature)
}

/// `installed` or `uninstalled`: RS256 with a key of Atlassian's, for the app at `app_url`.
pub fn verify_installed(
    token: &str,
    key: &PublicKey,
    app_url: &str,
    call: &Call<'_>,
    now_ms: u64,
) -> Result<Verified, Refused> {
    let claims: Claims = super::signed(token, &key.0, Algorithm::RS256)?;
    let bare = |url: &str| url.trim_end_matches('/').to_owned();
    let is_ours = |audience: &str| bare(audience) == bare(app_url);
    if !claims.aud.as_ref().is_some_and(|audience| audience.any(is_ours)) {
        return Err(Refused::Audience);
    }
    claims.check(call, now_ms)
}

#[derive(Serialize)]
struct OurClaims<'a> {
    iss: &'a str,
    iat: u64,
    exp: u64,
    qsh: String,
    aud: [&'a str; 1],
}

/// A token for one call of ours to a site, for the header `Authorization: JWT <token>`. `url` is the whole URL, or its path
/// and query; `base_path` is the path of the site's base URL (`/wiki`).
pub fn sign(
    app_key: &str,
    client_key: &str,
    secret: &str,
    method: &str,
    url: &str,
    base_path: &str,
    now_ms: u64,
) -> String {
    let path_and_query = match url.split_once("://") {
        Some((_, rest)) => rest.find(['/', '?']).map_or("", |at| &rest[at..]),
        None => url,
    };
    let path_and_query = path_and_query.split('#').next().unwrap_or_default();
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let qsh = Call { method, path, query, base_path }.hash();
    let iat = now_ms / 1_000;
    let claims = OurClaims { iss: app_key, iat, exp: iat + LIFE_SECONDS, qsh, aud: [client_key] };
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .expect("plain claims and a key of bytes are signed")
}

#[cfg(test)]
mod tests;
