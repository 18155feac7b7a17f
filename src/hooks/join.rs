//! What is made of a site that is heard of for the first time, or anew.

use super::{FORMER_SECRET_LIFE, Parts, registry_down};
use crate::confluence::{Credential, Product};
use crate::envelope::{Account, SiteId};
use crate::problem::Problem;
use crate::registry::{JoinedBy, Joining, Site, SiteState};

/// Former names of a site that are kept, newest first.
const ALIASES_MAX: usize = 16;

/// What a site tells of itself.
pub(super) struct Joins {
    pub id: SiteId,
    pub joined_by: JoinedBy,
    pub base_url: String,
    pub api_base: String,
    pub display_url: Option<String>,
    pub credential: Option<Credential>,
}

impl Parts {
    /// Writes the site to the registry. `before` is what was known of it. A pause of the operator's goes on: it stands
    /// beside what the site says of itself.
    pub(super) async fn join(&self, told: Joins, before: Option<&Site>, at_ms: u64) -> Result<Site, Problem> {
        let account = match (before, &self.options.account) {
            // Its account owns what is stored of its pages.
            (Some(before), _) => before.account.clone(),
            (None, Some(account)) => account.clone(),
            (None, None) => Account::parse(told.id.as_str()).expect("a site's name has the alphabet of an account's"),
        };
        let aliases = aliases(before, &told.base_url);
        let site = Site {
            id: told.id,
            account,
            product: Product::Cloud,
            base_url: told.base_url,
            api_base: told.api_base,
            display_url: told.display_url,
            aliases,
            joined_by: told.joined_by,
            state: SiteState::Active,
            added_ms: at_ms,
            last_event_ms: before.and_then(|site| site.last_event_ms),
        };
        let joining = Joining { site, credential: told.credential, hook_secret: None };
        let former_until_ms = at_ms + FORMER_SECRET_LIFE.as_millis() as u64;
        self.registry.join(&joining, former_until_ms).await.map_err(registry_down)?;
        let site = joining.site;
        tracing::info!(site = %site.id, account = %site.account, base_url = site.base_url, "a site has joined");
        Ok(site)
    }
}

/// The site's former names: links on its pages may still use them.
fn aliases(before: Option<&Site>, base_url: &str) -> Vec<String> {
    let Some(before) = before else { return Vec::new() };
    let mut aliases = vec![before.base_url.clone()];
    aliases.extend(before.aliases.iter().cloned());
    aliases.retain(|alias| alias != base_url);
    let mut seen = std::collections::HashSet::new();
    aliases.retain(|alias| seen.insert(alias.clone()));
    aliases.truncate(ALIASES_MAX);
    aliases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_that_is_renamed_keeps_its_former_names_once_each() {
        let site = |base_url: &str, aliases: &[&str]| Site {
            id: SiteId::parse("s").unwrap(),
            account: Account::parse("a").unwrap(),
            product: Product::Cloud,
            base_url: base_url.into(),
            api_base: base_url.into(),
            display_url: None,
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            joined_by: JoinedBy::Connect,
            state: SiteState::Active,
            added_ms: 0,
            last_event_ms: None,
        };
        assert_eq!(aliases(None, "new"), Vec::<String>::new());
        assert_eq!(aliases(Some(&site("same", &[])), "same"), Vec::<String>::new());
        assert_eq!(aliases(Some(&site("old", &["older"])), "new"), ["old", "older"]);
        assert_eq!(aliases(Some(&site("new", &["old", "older"])), "old"), ["new", "older"]);
        let many: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(aliases(Some(&site("old", &many)), "new").len(), ALIASES_MAX);
    }
}
