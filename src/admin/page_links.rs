//! What the control plane knows of page links, and which sites a caller may see.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;

use super::answer::{Failure, invalid};
use super::{Admin, Desk};
use crate::auth::Caller;
use crate::buffer::{Appender, Pending};
use crate::envelope::{SiteId, Stamper};
use crate::problem::{Code, Problem};
use crate::registry::{Cadence, Registry, Site};

/// What the calls about sites work on. Cheap to clone.
#[derive(Clone)]
pub struct PageLinks {
    pub registry: Registry,
    /// Of the pages queue: where reindexes are asked for.
    pub tasks: Appender,
    /// The dead letters of the pages queue.
    pub letters: Desk,
    /// What waits in the pages queue, and in the buffer where this process has one.
    pub waiting_tasks: Pending,
    pub waiting_sets: Option<Pending>,
    pub cadence: Cadence,
    pub stamper: Arc<Stamper>,
}

impl Admin {
    pub(super) fn page_links(&self) -> Result<&PageLinks, Failure> {
        self.page_links.as_ref().ok_or_else(|| {
            let detail = "page links are off in this process: set confluence.enabled = true";
            Problem::new(Code::NoSuchRoute, detail).into()
        })
    }
}

impl PageLinks {
    pub(super) fn now_ms(&self) -> u64 {
        self.stamper.clock().now_ms()
    }

    /// A site of the caller's accounts. Of another it is told the same whether it is there or not.
    pub(super) async fn site(&self, caller: &Caller, site: &SiteId) -> Result<Site, Failure> {
        let found = self.registry.site(site).await?;
        found.filter(|site| caller.accounts.allow(&site.account)).ok_or_else(|| {
            let detail = "no site that this token may see has this name; `hookcache confluence list` shows them";
            Problem::new(Code::NoSuchSite, detail).into()
        })
    }
}

/// The name of a site in a path.
pub(super) fn site_id(path: Result<Path<String>, PathRejection>) -> Result<SiteId, Failure> {
    let Path(site) = path.map_err(|_| invalid("the path must be UTF-8, percent-encoded where needed"))?;
    SiteId::parse(&site).map_err(|error| invalid(format!("the name of a site {error}")))
}
