//! What stands around the webhooks: the descriptor, methods, and a process that receives none.

use hookcache::source::confluence::EventName;
use http::Method;

use super::stage::{APP_KEY, APP_URL, Stage};
use crate::support::{Hookcache, http_get, http_post, http_send};

#[tokio::test(flavor = "multi_thread")]
async fn the_descriptor_names_a_url_for_every_event_and_each_is_received() {
    let stage = Stage::start().await;
    let reply = http_get(&stage.url("/atlassian-connect.json")).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/json"));
    let descriptor = reply.json();
    assert_eq!((&descriptor["key"], &descriptor["baseUrl"]), (&APP_KEY.into(), &APP_URL.into()));
    assert_eq!(descriptor["authentication"]["type"], "jwt");
    assert_eq!(descriptor["apiMigrations"]["signed-install"], true);
    let webhooks = descriptor["modules"]["webhooks"].as_array().unwrap();
    let of_pages = EventName::ALL.map(EventName::as_str);
    let wanted: Vec<&str> = of_pages.into_iter().chain(["connect_addon_enabled", "connect_addon_disabled"]).collect();
    let events: Vec<&str> = webhooks.iter().map(|hook| hook["event"].as_str().unwrap()).collect();
    assert_eq!(events, wanted);
    let urls = webhooks.iter().map(|hook| hook["url"].as_str().unwrap());
    let callbacks = descriptor["lifecycle"].as_object().unwrap().values().map(|url| url.as_str().unwrap());
    for url in urls.chain(callbacks) {
        let below = url.strip_prefix("/v1/hooks/confluence").unwrap();
        assert_eq!(http_post(&stage.url(below), "{}").await.status, 401, "{url} asks who is there");
    }
    let head = http_send(Method::HEAD, &stage.url("/atlassian-connect.json"), &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_none_of_ours_is_told_so() {
    let stage = Stage::start().await;
    for path in ["/", "/a/b", "/sites/", "/sites/a/b", "/sites/a%2Fb", "/sites/%ff"] {
        let reply = http_post(&stage.url(path), "{}").await;
        assert_eq!(reply.status, 404, "{path}");
        assert!(reply.text().contains("/v1/hooks/confluence/sites/<site>"), "{path}");
    }
    let reply = http_send(Method::GET, &stage.url("/page_updated"), &[], "").await;
    assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, "POST"));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(http_send(Method::POST, &stage.url("/page_updated"), &form, "a=b").await.status, 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_page_links_or_without_the_app_says_which_setting_is_missing() {
    let without = Hookcache::start(&[], &[]).await;
    let reply = http_post(&format!("{}/v1/hooks/confluence", without.url()), "{}").await;
    assert_eq!(reply.status, 404);
    assert!(reply.text().contains("confluence.enabled"), "{}", reply.text());

    let with = Hookcache::start(&[], &[("HOOKCACHE_CONFLUENCE__ENABLED", "true")]).await;
    let hooks = format!("{}/v1/hooks/confluence", with.url());
    let reply = http_get(&format!("{hooks}/atlassian-connect.json")).await;
    assert_eq!(reply.status, 404);
    assert!(reply.text().contains("confluence.app_key"), "{}", reply.text());
    for (scheme, setting) in [("JWT", "confluence.app_key"), ("Bearer", "confluence.forge_app_id")] {
        let headers = [("authorization", format!("{scheme} a.b.c")), ("content-type", "application/json".to_owned())];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = http_send(Method::POST, &format!("{hooks}/page_updated"), &headers, "{}").await;
        assert_eq!(reply.status, 401);
        assert!(reply.text().contains(setting), "{}", reply.text());
    }
    let metrics = http_get(&format!("{}/metrics", with.admin_url())).await.text();
    assert!(metrics.contains(r#"hookcache_hooks_total{outcome="unverified"} 2"#), "{metrics}");
    let app = [
        ("HOOKCACHE_CONFLUENCE__ENABLED", "true"),
        ("HOOKCACHE_CONFLUENCE__APP_KEY", "my-app"),
        // As an operator writes it, with a slash too many.
        ("HOOKCACHE_CONFLUENCE__PUBLIC_URL", "https://hooks.example.com/hc/"),
    ];
    let app = Hookcache::start(&[], &app).await;
    let descriptor = http_get(&format!("{}/v1/hooks/confluence/atlassian-connect.json", app.url())).await.json();
    assert_eq!(
        (&descriptor["key"], &descriptor["baseUrl"]),
        (&"my-app".into(), &"https://hooks.example.com/hc".into())
    );
}
