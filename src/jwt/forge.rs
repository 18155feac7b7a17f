//! Forge's invocation tokens: Atlassian says on whose behalf an app's remote is called.

use jsonwebtoken::Algorithm;
use serde::Deserialize;

use super::{Audience, PublicKey, Refused, Times};

/// Who issues them.
pub const ISSUER: &str = "forge/invocation-token";

/// What an invocation token says of the site and of the app there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// `context.cloudId`: the site.
    pub cloud_id: String,
    /// `app.apiBaseUrl`: where the site's APIs are.
    pub api_base_url: Option<String>,
    /// `context.siteUrl`: where people find the site. Triggers leave it out.
    pub site_url: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    #[serde(flatten)]
    times: Times,
    context: Context,
    #[serde(default)]
    app: App,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    cloud_id: String,
    #[serde(default)]
    site_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct App {
    #[serde(default)]
    api_base_url: Option<String>,
}

/// An invocation of the app `app_id` (`ari:cloud:ecosystem::app/...`).
pub fn verify(token: &str, key: &PublicKey, app_id: &str, now_ms: u64) -> Result<Invocation, Refused> {
    let claims: Claims = super::signed(token, &key.0, Algorithm::RS256)?;
    if claims.iss != ISSUER {
        return Err(Refused::Issuer);
    }
    if !claims.aud.any(|audience| audience == app_id) {
        return Err(Refused::Audience);
    }
    claims.times.check(now_ms)?;
    let Context { cloud_id, site_url } = claims.context;
    Ok(Invocation { cloud_id, api_base_url: claims.app.api_base_url, site_url })
}

/// When a token that is passed on, and whose key is not ours to know, says to expire: milliseconds since the epoch.
pub fn expiry_ms(token: &str) -> Option<u64> {
    if token.len() > super::TOKEN_BYTES_MAX {
        return None;
    }
    let times: Times = jsonwebtoken::dangerous::insecure_decode_claims(token).ok()?;
    let ms = times.exp * 1_000.0;
    (ms > 0.0 && ms < u64::MAX as f64).then_some(ms as u64)
}
