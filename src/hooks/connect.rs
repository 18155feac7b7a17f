//! Webhooks and lifecycle callbacks of the Connect app.

use super::join::Joins;
use super::{Call, Parts, check_sites, faulty, registry_down, unverified};
use crate::confluence::Credential;
use crate::envelope::{SiteId, Stamp};
use crate::jwt::{self, Refused, connect, qsh};
use crate::problem::{Code, Problem};
use crate::registry::{JoinedBy, Site, SiteState};
use crate::source::confluence::descriptor::App;
use crate::source::confluence::{Lifecycle, What, body, install};
use crate::telemetry::HookOutcome;

const INSTALLED: &str = "installed";
const UNINSTALLED: &str = "uninstalled";
const KEYS_SETTING: &str = "confluence.connect_keys_url";

impl Parts {
    pub(super) async fn of_connect(
        &self,
        name: Option<&str>,
        token: &str,
        call: &Call,
        stamp: Stamp,
    ) -> Result<HookOutcome, Problem> {
        let app = self.options.connect.as_ref().ok_or_else(|| {
            unverified("there is no Connect app: set `confluence.app_key` and `confluence.public_url`")
        })?;
        match name {
            Some(INSTALLED) => self.installed(app, token, call, stamp).await,
            Some(UNINSTALLED) => self.uninstalled(app, token, call, stamp).await,
            name => self.signed_by_site(name, token, call, stamp).await,
        }
    }

    async fn signed_by_site(
        &self,
        name: Option<&str>,
        token: &str,
        call: &Call,
        stamp: Stamp,
    ) -> Result<HookOutcome, Problem> {
        let unknown = || unverified("the token is from a site that has not installed the app, or has left it long ago");
        let issuer = connect::issuer(token).map_err(refused)?;
        let id = SiteId::parse(&issuer).map_err(|_| unknown())?;
        let site = self.site(&id).await?.filter(|site| site.joined_by == JoinedBy::Connect).ok_or_else(unknown)?;
        let secrets = self.registry.hook_secrets(&id, stamp.at_ms).await.map_err(registry_down)?;
        connect::verify_shared(token, &secrets, &signed_call(call), stamp.at_ms).map_err(refused)?;

        let name = name.ok_or_else(|| {
            let detail = "a Connect webhook has the event's name behind its URL, as the descriptor says: \
                          /v1/hooks/confluence/page_updated";
            Problem::new(Code::InvalidRequest, detail)
        })?;
        let heard = body::connect(name, &call.body).map_err(faulty)?;
        check_sites(&heard.sites, &id)?;
        self.told(&site, heard.told, call, stamp).await
    }

    async fn installed(&self, app: &App, token: &str, call: &Call, stamp: Stamp) -> Result<HookOutcome, Problem> {
        let sender = self.signed_by_atlassian(app, token, call, &stamp).await?;
        let installed = install::installed(&call.body, &app.key, &self.options.allowed_hosts).map_err(faulty)?;
        let before = self.of_connect_alone(&installed.site, &sender).await?;
        let credential = Credential::Connect {
            app_key: app.key.clone(),
            client_key: sender,
            shared_secret: installed.shared_secret,
        };
        let joins = Joins {
            id: installed.site,
            joined_by: JoinedBy::Connect,
            api_base: installed.base_url.clone(),
            base_url: installed.base_url,
            display_url: installed.display_url,
            credential: Some(credential),
        };
        let site = self.join(joins, before.as_ref(), stamp.at_ms).await?;
        self.append(&site, What::Lifecycle(Lifecycle::Installed), call, stamp).await?;
        Ok(HookOutcome::Lifecycle)
    }

    async fn uninstalled(&self, app: &App, token: &str, call: &Call, stamp: Stamp) -> Result<HookOutcome, Problem> {
        let sender = self.signed_by_atlassian(app, token, call, &stamp).await?;
        let id = install::uninstalled(&call.body, &app.key).map_err(faulty)?;
        let Some(site) = self.of_connect_alone(&id, &sender).await? else { return Ok(HookOutcome::Ignored) };
        self.leaves(&site, call, stamp).await
    }

    /// Also where it has left before: the task may not have reached the queue then.
    pub(super) async fn leaves(&self, site: &Site, call: &Call, stamp: Stamp) -> Result<HookOutcome, Problem> {
        if !matches!(site.state, SiteState::Uninstalled { .. }) {
            let state = SiteState::Uninstalled { since_ms: stamp.at_ms };
            self.registry.set_state(&site.id, state, stamp.at_ms).await.map_err(registry_down)?;
        }
        self.append(site, What::Lifecycle(Lifecycle::Uninstalled), call, stamp).await?;
        Ok(HookOutcome::Lifecycle)
    }

    /// The clientKey of the site for which Atlassian has signed the call. Nothing but a key of Atlassian's will do: a
    /// site's secret is not known yet, or about to be replaced.
    async fn signed_by_atlassian(&self, app: &App, token: &str, call: &Call, stamp: &Stamp) -> Result<String, Problem> {
        let name = jwt::key_id(token).map_err(refused)?;
        let key = self.keys.of_installs(&name).await.map_err(|no_key| no_key.problem(KEYS_SETTING))?;
        let call = signed_call(call);
        let verified = connect::verify_installed(token, &key, &app.public_url, &call, stamp.at_ms).map_err(refused)?;
        Ok(verified.client_key)
    }

    /// What is known of the site that a body names, which must be the sender's, and no site that has joined otherwise.
    async fn of_connect_alone(&self, id: &SiteId, sender: &str) -> Result<Option<Site>, Problem> {
        check_sites(&[sender.to_owned()], id)?;
        match self.site(id).await? {
            Some(site) if site.joined_by != JoinedBy::Connect => {
                let detail = "a site of this name has joined otherwise than by the Connect app";
                Err(Problem::new(Code::HookForbidden, detail))
            }
            site => Ok(site),
        }
    }
}

/// What is below `confluence.public_url` is what reaches us, so there is no base path to take away.
fn signed_call(call: &Call) -> qsh::Call<'_> {
    qsh::Call { method: call.method.as_str(), path: &call.path, query: call.query.as_deref(), base_path: "" }
}

fn refused(refused: Refused) -> Problem {
    let hint = match refused {
        Refused::Audience => {
            ": `confluence.public_url` must be the baseUrl of the descriptor that the site has installed"
        }
        Refused::QueryHash => ": what is below `confluence.public_url` must reach hookcache as it was sent",
        _ => "",
    };
    unverified(format!("the Connect token proves nothing: {refused}{hint}"))
}
