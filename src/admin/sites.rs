//! Sites: added, looked at, paused, removed.
//!
//! | file | holds |
//! | --- | --- |
//! | `json` | what is asked and answered |
//! | `joining` | from what is asked to a site that can join |
//!
//! A site that is added, or is added again, is read at once: as a whole the first time, otherwise what has changed. A site
//! that is removed is read no more from then on; its links are deleted over the road, a part at a time, by whoever works
//! on the pages queue, which forgets the site at the end. Both are told to that queue, and happen there.
//!
//! No secret is ever answered, nor written to a log. A token that is bound to accounts sees and changes sites of its
//! accounts alone.
//!
//! Limits: [`ROWS_MAX`] sites of a list, those of `joining`.

mod joining;
pub mod json;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::Admin;
use super::answer::{Failure, bounded, invalid};
use super::body::read_json;
use super::page_links::{PageLinks, site_id};
use super::reindex::not_active;
use crate::auth::Caller;
use crate::confluence::{Credential, Product};
use crate::envelope::stamp::rfc_3339;
use crate::envelope::{Accounts, SiteId, Stamp};
use crate::problem::{Code, Problem};
use crate::registry::{JoinedBy, Site, SiteState};
use crate::source::confluence::{Lifecycle, PageTask, ReindexScope, What};
use json::{Asks, Changed, Join, ListQuery, Listing, Queue, Removing, Shown, Status};

/// Sites in one list, unless the caller says otherwise, and at most.
const ROWS_DEFAULT: usize = 100;
const ROWS_MAX: usize = 1_000;
/// Largest body, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
const FORM: &str = "must be an object with accountId, baseUrl and credential, which has either user and token, or bearer; \
                    and may have product, apiBase, displayUrl, aliases and hookSecret";

type Answer<T> = Result<Json<T>, Failure>;
type SitePath = Result<Path<String>, PathRejection>;

pub fn routes() -> Router<Admin> {
    Router::new()
        .route("/v1/sites", get(list))
        .route("/v1/sites/{site}", get(status).put(add).delete(remove))
        .route("/v1/sites/{site}/pause", post(pause))
        .route("/v1/sites/{site}/resume", post(resume))
}

async fn list(
    State(admin): State<Admin>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Listing> {
    let caller = admin.caller(&headers)?;
    let page_links = admin.page_links()?;
    let Query(query) = query.map_err(|_| invalid("the query may have limit and after"))?;
    let limit = bounded("limit", query.limit, ROWS_DEFAULT, ROWS_MAX)?;
    let after = query.after.as_deref().map(SiteId::parse).transpose();
    let after = after.map_err(|error| invalid(format!("after: {error}")))?;
    let sites = page_links.sites_of(&caller, after, limit).await?;
    let next = sites.last().filter(|_| sites.len() == limit).map(|site| site.id.to_string());
    Ok(Json(Listing { sites: sites.iter().map(shown).collect(), next }))
}

async fn status(State(admin): State<Admin>, headers: HeaderMap, path: SitePath) -> Answer<Status> {
    let (caller, page_links, site) = admin.site_of(&headers, path).await?;
    Ok(Json(page_links.site_status(&caller, &site).await?))
}

async fn add(State(admin): State<Admin>, headers: HeaderMap, path: SitePath, body: Body) -> Answer<Shown> {
    let caller = admin.caller(&headers)?;
    let page_links = admin.page_links()?;
    let join: Join = read_json(&headers, body, BODY_BYTES_MAX, FORM).await?;
    let id = site_id(path)?;
    let stamp = page_links.stamper.stamp();
    let joining = joining::joining(id, &join, stamp.at_ms).map_err(invalid)?;
    if !caller.accounts.allow(&joining.site.account) {
        let detail = "this token may add sites of its own accounts only";
        return Err(Problem::new(Code::ForbiddenAccount, detail).into());
    }
    let before = page_links.registry.site(&joining.site.id).await?;
    if let Some(why) = before.and_then(|before| joining::taken(&before, &joining.site.account)) {
        return Err(Problem::new(Code::SiteTaken, why).into());
    }
    page_links.registry.join(&joining, stamp.at_ms + joining::FORMER_SECRET_MS).await?;
    let site = page_links.site(&caller, &joining.site.id).await?;
    // Another process may have added it a moment before, for another account.
    if let Some(why) = joining::taken(&site, &joining.site.account) {
        return Err(Problem::new(Code::SiteTaken, why).into());
    }
    page_links.tell(&site, What::Lifecycle(Lifecycle::Installed), stamp).await?;
    tracing::info!(by = caller.name, site = %site.id, account = %site.account, "a site was added");
    Ok(Json(shown(&site)))
}

async fn remove(
    State(admin): State<Admin>,
    headers: HeaderMap,
    path: SitePath,
) -> Result<(StatusCode, Json<Removing>), Failure> {
    let (caller, page_links, site) = admin.site_of(&headers, path).await?;
    let stamp = page_links.stamper.stamp();
    let id = stamp.id.clone();
    // From here on it is read no more, whatever becomes of the task.
    page_links.registry.set_state(&site.id, SiteState::REMOVED, stamp.at_ms).await?;
    page_links.tell(&site, What::Lifecycle(Lifecycle::Uninstalled), stamp).await?;
    tracing::info!(by = caller.name, site = %site.id, id, "a site is being removed");
    let pages_known = page_links.registry.pages_known(&site.id).await?;
    Ok((StatusCode::ACCEPTED, Json(Removing { site: site.id.to_string(), id, pages_known })))
}

async fn pause(State(admin): State<Admin>, headers: HeaderMap, path: SitePath) -> Answer<Changed> {
    let (caller, page_links, site) = admin.site_of(&headers, path).await?;
    let changed = page_links.registry.set_state(&site.id, SiteState::Paused, page_links.now_ms()).await?;
    tracing::info!(by = caller.name, site = %site.id, changed, "a site was paused");
    Ok(Json(Changed { changed }))
}

/// What has happened meanwhile was not looked at, so what has changed is read again.
async fn resume(State(admin): State<Admin>, headers: HeaderMap, path: SitePath) -> Answer<Changed> {
    let (caller, page_links, site) = admin.site_of(&headers, path).await?;
    let changed = page_links.registry.resume(&site.id).await?;
    if changed {
        page_links.ask_again(&site).await?;
    }
    tracing::info!(by = caller.name, site = %site.id, changed, "a site was resumed");
    Ok(Json(Changed { changed }))
}

impl Admin {
    /// A site of the caller's, and what the calls about it work on.
    async fn site_of(&self, headers: &HeaderMap, path: SitePath) -> Result<(Caller, &PageLinks, Site), Failure> {
        let caller = self.caller(headers)?;
        let page_links = self.page_links()?;
        let site = page_links.site(&caller, &site_id(path)?).await?;
        Ok((caller, page_links, site))
    }
}

impl PageLinks {
    /// Tells the pages queue what became of a site.
    async fn tell(&self, site: &Site, what: What, stamp: Stamp) -> Result<(), Failure> {
        let task = PageTask::new(stamp, site.id.clone(), site.account.clone(), what);
        self.tasks.append(task.encode()).await?;
        Ok(())
    }

    /// The caller's sites in order, `limit` at most. Those of others are passed over here, so that no mark in a list names
    /// one.
    async fn sites_of(&self, caller: &Caller, after: Option<SiteId>, limit: usize) -> Result<Vec<Site>, Failure> {
        let (mut own, mut after) = (Vec::new(), after);
        loop {
            let part = self.registry.sites(after.as_ref(), ROWS_MAX).await?;
            let is_last = part.len() < ROWS_MAX;
            after = part.last().map(|site| site.id.clone());
            own.extend(part.into_iter().filter(|site| caller.accounts.allow(&site.account)));
            if is_last || own.len() >= limit {
                own.truncate(limit);
                return Ok(own);
            }
        }
    }

    /// Asks for what has changed since the last reindex, or for all where there was none.
    async fn ask_again(&self, site: &Site) -> Result<(), Failure> {
        let (_, last_full_ms) = self.registry.last_success(&site.id).await?;
        let scope = if last_full_ms.is_some() { ReindexScope::SinceLast } else { ReindexScope::Full };
        self.tell(site, What::Reindex(scope), self.stamper.stamp()).await
    }

    async fn site_status(&self, caller: &Caller, site: &Site) -> Result<Status, Failure> {
        let credential = self.registry.credential(&site.id).await?;
        let secrets = self.registry.hook_secrets(&site.id, self.now_ms()).await?;
        let depth = match caller.accounts {
            Accounts::All => self.waiting_tasks.depth().await.ok(),
            Accounts::Only(_) => None,
        };
        Ok(Status {
            shown: shown(site),
            not_active: not_active(site),
            asks: credential.as_ref().map(asks),
            has_hook_secret: !secrets.is_empty(),
            reindex: self.reindex_status(site).await?,
            queue: depth.map(|depth| Queue { waiting: depth.visible, in_hand: depth.in_flight, dead: depth.dead }),
        })
    }
}

fn asks(credential: &Credential) -> Asks {
    match credential {
        Credential::Basic { .. } => Asks::Basic,
        Credential::Bearer(_) => Asks::Bearer,
        Credential::Connect { .. } => Asks::Connect,
        Credential::Forge { .. } => Asks::Forge,
    }
}

fn shown(site: &Site) -> Shown {
    Shown {
        site: site.id.to_string(),
        account_id: site.account.to_string(),
        state: match site.state {
            SiteState::Active => json::State::Active,
            SiteState::Paused => json::State::Paused,
            SiteState::Disabled => json::State::Disabled,
            SiteState::REMOVED => json::State::Removing,
            SiteState::Uninstalled { .. } => json::State::Uninstalled,
        },
        product: match site.product {
            Product::Cloud => json::Product::Cloud,
            Product::DataCenter => json::Product::DataCenter,
        },
        base_url: site.base_url.clone(),
        api_base: site.api_base.clone(),
        display_url: site.display_url.clone(),
        aliases: site.aliases.clone(),
        joined_by: match site.joined_by {
            JoinedBy::Forge => json::JoinedBy::Forge,
            JoinedBy::Connect => json::JoinedBy::Connect,
            JoinedBy::Operator => json::JoinedBy::Operator,
        },
        added_at: rfc_3339(site.added_ms),
        last_event_at: site.last_event_ms.map(rfc_3339),
    }
}
