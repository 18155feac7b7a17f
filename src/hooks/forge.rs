//! Events that Forge Remote sends on behalf of the Forge app.
//!
//! A site joins with the first event that it sends, and tells with each where its REST API is. The token to ask it with
//! comes beside the event (`appSystemToken` in the app's manifest), and is kept until a later event brings a newer one.

use std::time::Duration;

use http::HeaderName;

use super::join::Joins;
use super::{Call, Parts, check_sites, faulty, registry_down, single, unverified};
use crate::confluence::Credential;
use crate::envelope::{SiteId, Stamp};
use crate::jwt::forge::{self, Invocation};
use crate::jwt::{self, Refused, TOKEN_BYTES_MAX};
use crate::problem::{Code, Problem};
use crate::registry::{JoinedBy, Site, SiteState};
use crate::source::confluence::hosts::plain_url;
use crate::source::confluence::{Lifecycle, Told, What, body};
use crate::telemetry::HookOutcome;

const SYSTEM_TOKEN: HeaderName = HeaderName::from_static("x-forge-oauth-system");
/// How long a token lives that does not say so itself: Atlassian promises at least 55 minutes.
const SYSTEM_TOKEN_LIFE: Duration = Duration::from_secs(55 * 60);
/// Where Confluence is below a site's URL, and below that of its APIs.
const CONTEXT_PATH: &str = "/wiki";
const KEYS_SETTING: &str = "confluence.forge_keys_url";

impl Parts {
    pub(super) async fn of_forge(&self, token: &str, call: &Call, stamp: Stamp) -> Result<HookOutcome, Problem> {
        let app_id = self.options.forge_app_id.as_deref();
        let app_id = app_id.ok_or_else(|| unverified("there is no Forge app: set `confluence.forge_app_id`"))?;
        let name = jwt::key_id(token).map_err(refused)?;
        let key = self.keys.of_forge(&name).await.map_err(|no_key| no_key.problem(KEYS_SETTING))?;
        let invocation = forge::verify(token, &key, app_id, stamp.at_ms).map_err(refused)?;

        let heard = body::forge(&call.body).map_err(faulty)?;
        let id =
            SiteId::parse(&invocation.cloud_id).map_err(|_| unverified("the token's cloudId is no site's name"))?;
        check_sites(&heard.sites, &id)?;
        let before = self.site(&id).await?;
        if before.as_ref().is_some_and(|site| site.joined_by != JoinedBy::Forge) {
            let detail = "a site of this name has joined otherwise than by the Forge app";
            return Err(Problem::new(Code::HookForbidden, detail));
        }
        let is_new = before.as_ref().is_none_or(has_left);
        match (heard.told, before) {
            (Told::Lifecycle(Lifecycle::Uninstalled), Some(site)) => self.leaves(&site, call, stamp).await,
            (Told::Lifecycle(Lifecycle::Uninstalled), None) => Ok(HookOutcome::Ignored),
            (Told::Lifecycle(Lifecycle::Installed), before) => {
                let site = self.present(id, &invocation, before, call, &stamp).await?;
                // Forge enables what it installs.
                self.append(&site, What::Lifecycle(Lifecycle::Enabled), call, stamp).await?;
                Ok(HookOutcome::Lifecycle)
            }
            // Only an install brings back a site that has left.
            (_, Some(site)) if has_left(&site) => Ok(HookOutcome::Ignored),
            (told, before) => {
                let site = self.present(id, &invocation, before, call, &stamp).await?;
                if !is_new {
                    return self.told(&site, told, call, stamp).await;
                }
                self.append(&site, What::Lifecycle(Lifecycle::Enabled), call, stamp).await?;
                self.told(&site, told, call, self.stamper.stamp()).await
            }
        }
    }

    /// The site as it is after this event: joined where it was not, with its newest token.
    async fn present(
        &self,
        id: SiteId,
        invocation: &Invocation,
        before: Option<Site>,
        call: &Call,
        stamp: &Stamp,
    ) -> Result<Site, Problem> {
        let credential = credential(call, stamp)?;
        let (api_base, base_url) = self.urls(invocation, before.as_ref())?;
        match before {
            Some(site) if !has_left(&site) && site.api_base == api_base && site.base_url == base_url => {
                if let Some(credential) = &credential {
                    self.registry.renew_credential(&id, credential).await.map_err(registry_down)?;
                }
                Ok(site)
            }
            before => {
                if credential.is_none() {
                    tracing::warn!(site = %id, "a site joins without a token: set appSystemToken in the app's manifest");
                }
                let joins = Joins { id, joined_by: JoinedBy::Forge, base_url, api_base, display_url: None, credential };
                self.join(joins, before.as_ref(), stamp.at_ms).await
            }
        }
    }

    /// Where the site's REST API is, and what links to it begin with. Triggers don't tell the latter: what was known stays,
    /// and the former stands in until the site's REST API has been asked, which tells it.
    fn urls(&self, invocation: &Invocation, before: Option<&Site>) -> Result<(String, String), Problem> {
        let api_base = self.options.allowed_hosts.check("/app/apiBaseUrl", &invocation.api_base_url).map_err(faulty)?;
        let api_base = with_context_path(&api_base);
        let told = invocation.site_url.as_deref().map(|url| plain_url("/context/siteUrl", url)).transpose();
        let base_url = match told.map_err(faulty)? {
            Some(url) => with_context_path(&url),
            None => before.map_or_else(|| api_base.clone(), |site| site.base_url.clone()),
        };
        Ok((api_base, base_url))
    }
}

fn has_left(site: &Site) -> bool {
    matches!(site.state, SiteState::Uninstalled { .. })
}

fn with_context_path(url: &str) -> String {
    if url.ends_with(CONTEXT_PATH) { url.to_owned() } else { format!("{url}{CONTEXT_PATH}") }
}

fn credential(call: &Call, stamp: &Stamp) -> Result<Option<Credential>, Problem> {
    let Some(text) = single(&call.headers, SYSTEM_TOKEN)? else { return Ok(None) };
    let token = text.strip_prefix("Bearer ").unwrap_or(text).trim();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(None);
    }
    let otherwise = stamp.at_ms + SYSTEM_TOKEN_LIFE.as_millis() as u64;
    let expires_ms = forge::expiry_ms(token).unwrap_or(otherwise);
    Ok(Some(Credential::Forge { token: token.to_owned(), expires_ms }))
}

fn refused(refused: Refused) -> Problem {
    let hint = match refused {
        Refused::Audience => ": `confluence.forge_app_id` must be the app's own id",
        _ => "",
    };
    unverified(format!("the invocation token proves nothing: {refused}{hint}"))
}
