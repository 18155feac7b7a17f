//! What a site calls itself. Each answer of its REST API tells what links to it begin with, and that need not be where it
//! is asked: a Forge app asks every site through Atlassian's API, and a Data Center may be read by a name of its network.

use super::{JoinedBy, Registry, Site, TEXT_CHARS_MAX, Unavailable};
use crate::source::confluence::hosts::plain_url;

/// Names of a site beside its base URL; it is given no more of them by its own answers.
const ALIASES_MAX: usize = 20;

/// Nothing, where somebody has changed it meanwhile: the next answer tells it again.
const RENAME: &str = "UPDATE sites SET base_url = $2, aliases = $3 WHERE site = $1 AND base_url = $4 AND aliases = $5";

impl Site {
    /// The site as it is with the name that it tells. `None` where that is known, or is none.
    fn named(&self, told: &str) -> Option<Self> {
        let url = plain_url("", told).ok().filter(|url| url.chars().count() <= TEXT_CHARS_MAX)?;
        let names = [&self.base_url].into_iter().chain(&self.display_url).chain(&self.aliases);
        if self.aliases.len() >= ALIASES_MAX || names.into_iter().any(|name| *name == url) {
            return None;
        }
        // Of such a site nothing but its API was known.
        if self.joined_by == JoinedBy::Forge && self.base_url == self.api_base {
            return Some(Self { base_url: url, ..self.clone() });
        }
        let aliases = self.aliases.iter().cloned().chain([url]).collect();
        Some(Self { aliases, ..self.clone() })
    }
}

impl Registry {
    /// Keeps the name that a site calls itself by. The site with it, where that is news.
    pub async fn note_name(&self, site: &Site, told: Option<&str>) -> Result<Option<Site>, Unavailable> {
        let Some(named) = told.and_then(|told| site.named(told)) else { return Ok(None) };
        let aliases = |site: &Site| serde_json::to_string(&site.aliases).expect("a list of texts is JSON");
        let values = vec![
            (&site.id).into(),
            named.base_url.as_str().into(),
            aliases(&named).into(),
            site.base_url.as_str().into(),
            aliases(site).into(),
        ];
        if self.database().await?.write(RENAME, values).await? > 0 {
            tracing::info!(site = %site.id, url = told, "the site calls itself by another name");
        }
        Ok(Some(named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confluence::Product;
    use crate::envelope::{Account, SiteId};
    use crate::registry::SiteState;

    const API: &str = "https://api.example/ex/confluence/1/wiki";

    fn site(joined_by: JoinedBy, base_url: &str, aliases: &[&str]) -> Site {
        Site {
            id: SiteId::parse("s").unwrap(),
            account: Account::parse("a").unwrap(),
            product: Product::Cloud,
            base_url: base_url.to_owned(),
            api_base: API.to_owned(),
            display_url: Some("https://wiki.example".to_owned()),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            joined_by,
            state: SiteState::Active,
            added_ms: 0,
            last_event_ms: None,
        }
    }

    #[test]
    fn a_name_that_is_told_is_the_sites_own_where_none_was_known_and_one_more_elsewhere() {
        let told = "https://acme.example/wiki";
        let of_forge = site(JoinedBy::Forge, API, &[]).named("https://acme.example/wiki/").unwrap();
        assert_eq!((of_forge.base_url.as_str(), of_forge.aliases.len()), (told, 0));
        assert_eq!(of_forge.named(told), None);
        for joined_by in [JoinedBy::Operator, JoinedBy::Connect] {
            let other = site(joined_by, API, &["https://old.example"]).named(told).unwrap();
            assert_eq!(
                (other.base_url.as_str(), other.aliases),
                (API, vec!["https://old.example".into(), told.into()])
            );
        }
        let renamed = site(JoinedBy::Forge, "https://former.example/wiki", &[]).named(told).unwrap();
        assert_eq!(renamed.aliases, [told]);
    }

    #[test]
    fn what_is_known_or_is_no_name_changes_nothing() {
        let site = site(JoinedBy::Operator, "https://acme.example/wiki", &["https://old.example"]);
        let long = format!("https://acme.example/{}", "a".repeat(TEXT_CHARS_MAX));
        for told in ["https://acme.example/wiki", "https://wiki.example/", "https://old.example", "", "acme", &long] {
            assert_eq!(site.named(told), None, "{told}");
        }
        let many = Site { aliases: vec!["https://old.example".to_owned(); ALIASES_MAX], ..site };
        assert_eq!(many.named("https://new.example"), None);
    }
}
