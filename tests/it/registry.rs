//! The registry: its contract on SQLite and on a real PostgreSQL, and what only one of them can show.

mod contract;
mod pages;
mod postgres;
mod runs;
mod sites;
mod sqlite;

use hookcache::confluence::{Credential, Product};
use hookcache::envelope::{Account, SiteId};
use hookcache::page::Status;
use hookcache::registry::{Fetched, JoinedBy, Joining, PageRow, Registry, Site, SiteState};

/// A registry under test, as two processes have it.
pub struct Pair {
    pub one: Registry,
    pub other: Registry,
}

pub const FOR_EVER: u64 = u64::MAX;

pub fn id(name: &str) -> SiteId {
    SiteId::parse(name).unwrap()
}

/// A site of the operator's, added at `added_ms`.
pub fn site(name: &str, added_ms: u64) -> Site {
    Site {
        id: id(name),
        account: Account::parse("acme").unwrap(),
        product: Product::Cloud,
        base_url: format!("https://{name}.example/wiki"),
        api_base: format!("https://{name}.example/wiki"),
        display_url: None,
        aliases: Vec::new(),
        joined_by: JoinedBy::Operator,
        state: SiteState::Active,
        added_ms,
        last_event_ms: None,
    }
}

pub fn joining(site: Site, hook_secret: Option<&str>) -> Joining {
    let credential = Credential::Basic { user: "bot".to_owned(), token: "token of the bot".to_owned() };
    Joining { site, credential: Some(credential), hook_secret: hook_secret.map(str::to_owned) }
}

pub async fn joined(registry: &Registry, name: &str) -> SiteId {
    registry.join(&joining(site(name, 1), None), 0).await.unwrap();
    id(name)
}

/// A page that was read well at `at_ms`.
pub fn read(page: u64, version: u64, at_ms: u64) -> PageRow {
    PageRow {
        page,
        title: format!("version {version}"),
        space_id: Some(7),
        space_key: Some("DOC".to_owned()),
        version,
        status: Some(Status::Current),
        last_event: None,
        last_fetch: Some(Fetched { at_ms, result: "ok".to_owned() }),
        sweep: 0,
    }
}
