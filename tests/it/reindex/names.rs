//! What a site calls itself is told with its list, and holds from the first page on.

use hookcache::confluence::Credential;
use hookcache::registry::{JoinedBy, Joining, Site};
use hookcache::source::confluence::ReindexScope;

use super::rig::Rig;

const NAME: &str = "https://acme.example/wiki";

#[tokio::test(flavor = "multi_thread")]
async fn a_site_of_the_forge_app_is_read_by_its_own_name_from_its_first_list_on() {
    let rig = Rig::start(0).await;
    rig.confluence.add_page(1, "Page 1", &format!("<a href=\"{NAME}/spaces/DOC/pages/7\">own</a>"));
    rig.confluence.call_itself(NAME);
    let site = rig.registry.site(&rig.site).await.unwrap().expect("it has joined");
    // Of one that joins with an event, the base of its API alone is known.
    let unnamed = Site { joined_by: JoinedBy::Forge, added_ms: site.added_ms + 1, ..site };
    let credential = Some(Credential::Forge { token: "t".to_owned(), expires_ms: u64::MAX / 4 });
    rig.registry.join(&Joining { site: unnamed.clone(), credential, hook_secret: None }, 0).await.unwrap();

    rig.reindex(ReindexScope::Full).await;
    let entry = crate::support::eventually("page 1 is stored", || rig.stored(1)).await;
    let payload: serde_json::Value = serde_json::from_slice(&entry.payload).expect("JSON");
    assert_eq!(payload["links"][0]["kind"], "internal", "{payload}");
    let named = rig.registry.site(&rig.site).await.unwrap().expect("it is there");
    assert_eq!((named.base_url.as_str(), named.api_base), (NAME, unnamed.api_base));
}
