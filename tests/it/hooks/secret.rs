//! Sites that share a secret with us: Data Center, and whatever else can send one along.

use hookcache::envelope::SiteId;
use hookcache::source::confluence::{EventName, What};
use serde_json::json;

use super::stage::{Stage, code};

const SECRET: &str = "a secret that the operator and the site know";
const SITE: &str = "wiki.example.com";
/// Data Center's, which tells ids alone.
const BODY: &str = r#"{"timestamp":1778071365412,"event":"page_moved","userKey":"abc123","page":{"id":123456},"oldParent":{"id":131148}}"#;

/// What `openssl dgst -sha256 -hmac` makes of a body.
fn signature(secret: &str, body: &str) -> String {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", secret, "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl starts");
    openssl.stdin.take().expect("piped").write_all(body.as_bytes()).expect("it reads");
    let output = openssl.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("text");
    format!("sha256={}", text.split(' ').next().expect("the digest"))
}

fn moved() -> What {
    What::Page { page: 123_456, event: EventName::PageMoved, version: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_proves_that_it_knows_its_secret_in_whatever_way_it_can() {
    let stage = Stage::start().await;
    stage.add(SITE, SECRET).await;
    let path = format!("/sites/{SITE}");
    let (signed, bearer) = (signature(SECRET, BODY), format!("Bearer {SECRET}"));
    // `any:<secret>` in base64.
    let basic = "Basic YW55OmEgc2VjcmV0IHRoYXQgdGhlIG9wZXJhdG9yIGFuZCB0aGUgc2l0ZSBrbm93";
    for header in [
        ("x-hub-signature", signed.as_str()),
        ("x-hookcache-secret", SECRET),
        ("authorization", &bearer),
        ("authorization", basic),
    ] {
        let reply = stage.post_text(&path, &[header], BODY.to_owned()).await;
        assert_eq!(reply.status, 204, "{header:?}: {}", reply.text());
        assert_eq!(stage.told().await, [(SITE.to_owned(), moved())], "{header:?}");
    }
    let tasks = stage.post_text(&path, &[("x-hookcache-secret", SECRET)], BODY.to_owned());
    assert_eq!(tasks.await.status, 204);
    assert_eq!(stage.tasks().await[0].account.as_str(), "acme", "the account that it was added with");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_know_the_secret_of_a_site_changes_nothing() {
    let stage = Stage::start().await;
    stage.add(SITE, SECRET).await;
    stage.add("other", "another secret").await;
    let (of_other_body, wrong) = (signature(SECRET, "{}"), signature("another secret", BODY));
    for headers in [
        vec![],
        vec![("x-hookcache-secret", "another secret")],
        vec![("x-hookcache-secret", "")],
        vec![("authorization", "Bearer another secret")],
        vec![("authorization", "Basic YW55OnNlY3JldA==")],
        vec![("x-hub-signature", of_other_body.as_str())],
        vec![("x-hub-signature", wrong.as_str())],
        vec![("x-hub-signature", "sha256=")],
        vec![("x-hub-signature", wrong.as_str()), ("x-hookcache-secret", SECRET)],
        vec![("x-hookcache-secret", SECRET), ("x-hookcache-secret", SECRET)],
    ] {
        let reply = stage.post_text(&format!("/sites/{SITE}"), &headers, BODY.to_owned()).await;
        assert_eq!((reply.status.as_u16(), code(&reply)), (401, "hook-unverified".into()), "{headers:?}");
        assert!(!reply.text().contains("secret that the operator"), "a secret is never told");
    }
    // A site that there is not is answered as one whose secret is another.
    let known = stage.post_text(&format!("/sites/{SITE}"), &[("x-hookcache-secret", "x")], BODY.to_owned()).await;
    let unknown = stage.post_text("/sites/nobody", &[("x-hookcache-secret", "x")], BODY.to_owned()).await;
    assert_eq!(known.json()["detail"], unknown.json()["detail"]);
    assert_eq!(unknown.status, 401);
    assert_eq!(stage.told().await, vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_secret_is_valid_for_as_long_as_the_registry_says() {
    let stage = Stage::start().await;
    stage.add(SITE, SECRET).await;
    let site = stage.site(SITE).await.unwrap();
    let joining =
        hookcache::registry::Joining { site, credential: None, hook_secret: Some("the next secret".to_owned()) };
    stage.registry.join(&joining, super::stage::NOW + 1_000).await.unwrap();
    let sent = |secret: &'static str| {
        let stage = &stage;
        async move {
            let headers = [("x-hookcache-secret", secret)];
            stage.post_text(&format!("/sites/{SITE}"), &headers, BODY.to_owned()).await.status.as_u16()
        }
    };
    assert_eq!((sent(SECRET).await, sent("the next secret").await), (204, 204));
    stage.advance(std::time::Duration::from_secs(1));
    assert_eq!((sent(SECRET).await, sent("the next secret").await), (401, 204));
    assert!(stage.registry.site(&SiteId::parse(SITE).unwrap()).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_name_its_event_as_data_center_does_or_as_forge_does() {
    let stage = Stage::start().await;
    stage.add(SITE, SECRET).await;
    let headers = [("x-hookcache-secret", SECRET)];
    let forge = json!({"eventType": "avi:confluence:moved:page", "content": {"id": "123456"}});
    assert_eq!(stage.post(&format!("/sites/{SITE}"), &headers, &forge).await.status, 204);
    assert_eq!(stage.told().await, [(SITE.to_owned(), moved())]);
    let life = json!({"eventType": "avi:forge:uninstalled:app"});
    assert_eq!(stage.post(&format!("/sites/{SITE}"), &headers, &life).await.status, 204);
    assert_eq!((stage.told().await, stage.counted("ignored")), (vec![], 1.0));
}
