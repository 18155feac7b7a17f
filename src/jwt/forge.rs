//! Forge's invocation tokens: Atlassian says on whose behalf an app's remote is called.

use jsonwebtoken::Algorithm;
use serde::Deserialize;

use super::{Audience, PublicKey, Refused, Times};

/// Who issues them.
pub const ISSUER: &str = "forge/invocation-token";
/// The name of the product among those that an app is installed in.
const PRODUCT: &str = "confluence";

/// What an invocation token says of the site and of the app there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// `context.cloudId`: the site.
    pub cloud_id: String,
    /// Where Confluence's APIs are for the site: that of `app.installation.contexts`, as an app may be installed in several
    /// products, or else `app.apiBaseUrl`.
    pub api_base_url: String,
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
    app: App,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    cloud_id: String,
    #[serde(default)]
    site_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct App {
    api_base_url: String,
    #[serde(default)]
    installation: Installation,
}

#[derive(Default, Deserialize)]
struct Installation {
    #[serde(default)]
    contexts: Vec<InstalledIn>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InstalledIn {
    name: String,
    api_base_url: String,
}

impl App {
    fn confluence(self) -> String {
        let confluence = self.installation.contexts.into_iter().find(|context| context.name == PRODUCT);
        confluence.map_or(self.api_base_url, |context| context.api_base_url)
    }
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
    Ok(Invocation { cloud_id, api_base_url: claims.app.confluence(), site_url })
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
