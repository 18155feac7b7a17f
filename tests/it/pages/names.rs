//! What a site calls itself: by that name its own pages link to each other.

use hookcache::confluence::{Credential, Product};
use hookcache::registry::{JoinedBy, Joining, Site};
use hookcache::source::confluence::{EventName, What};

use super::stage::{Stage, Wanted, site};

const NAME: &str = "https://acme.example/wiki";
const BODY: &str = r#"<a href="https://acme.example/wiki/spaces/DOC/pages/7">a</a> <a href="/wiki/x/TQBFJ">b</a>
    <a href="https://elsewhere.example/wiki/spaces/DOC/pages/7">c</a>"#;

impl Stage {
    async fn known(&self, name: &str) -> Site {
        self.registry.site(&site(name)).await.expect("a registry").expect("it is known")
    }

    /// Kinds and URLs of the links of page 1 of a site, as they come on the road.
    async fn links_of(&self, name: &str) -> Vec<String> {
        self.give(&self.task(name, What::Page { page: 1, event: EventName::PageUpdated, version: None })).await;
        let payload = self.on_road(1).await.remove(0).payload();
        let links = payload["links"].as_array().cloned().expect("a list");
        let told = |link: &serde_json::Value| {
            format!("{} {}", link["kind"].as_str().unwrap_or_default(), link["url"].as_str().unwrap_or_default())
        };
        links.iter().map(told).collect()
    }
}

#[tokio::test]
async fn a_site_of_the_forge_app_learns_its_own_url_from_the_first_answer() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.stand_in.add_page(1, "p", BODY);
    stage.stand_in.call_itself(NAME);
    stage.join("cloud", Product::Cloud, JoinedBy::Forge).await;
    // As it joins with an event whose token says nothing of the site's URL.
    let joined = stage.known("cloud").await;
    let unnamed = Site { base_url: joined.api_base.clone(), added_ms: joined.added_ms + 1, ..joined };
    let credential = Some(Credential::Bearer("t".to_owned()));
    stage.registry.join(&Joining { site: unnamed.clone(), credential, hook_secret: None }, 0).await.unwrap();

    let want = [
        "internal https://acme.example/wiki/spaces/DOC/pages/7",
        "internal https://acme.example/wiki/x/TQBFJ",
        "external https://elsewhere.example/wiki/spaces/DOC/pages/7",
    ];
    assert_eq!(stage.links_of("cloud").await, want);
    let named = stage.known("cloud").await;
    assert_eq!((named.base_url.as_str(), &named.api_base), (NAME, &unnamed.api_base));
    assert!(named.aliases.is_empty(), "{:?}", named.aliases);
}

#[tokio::test]
async fn a_site_that_is_read_by_another_name_than_its_own_knows_both() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.stand_in.add_page(1, "p", BODY);
    stage.stand_in.call_itself("https://elsewhere.example/wiki");
    // The stage's sites have the URL of `NAME`, whatever they are asked by.
    for (name, product) in [("acme", Product::Cloud), ("dc", Product::DataCenter)] {
        stage.join(name, product, JoinedBy::Operator).await;
        let links = stage.links_of(name).await;
        assert!(links.iter().all(|link| link.starts_with("internal ")), "{name}: {links:?}");
        let known = stage.known(name).await;
        assert_eq!((known.base_url.as_str(), known.aliases), (NAME, vec!["https://elsewhere.example/wiki".to_owned()]));
    }
}
