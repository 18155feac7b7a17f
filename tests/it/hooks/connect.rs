//! The Connect app: how sites install it, and what they may tell.

use std::time::Duration;

use hookcache::confluence::Credential;
use hookcache::envelope::SiteId;
use hookcache::registry::{JoinedBy, SiteState};
use hookcache::source::confluence::{EventName, Lifecycle, What};
use serde_json::json;

use super::stage::{APP_KEY, APP_URL, INSTALL_KEY, NOW, Stage, call, code, installed, lifecycle, page};

const SECRET: &str = "the first secret of a site, shared when it installed the app";
const NEXT: &str = "the second secret, which replaces the first one";

fn page_updated(page: u64, version: u64) -> What {
    What::Page { page, event: EventName::PageUpdated, version: Some(version) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_installs_the_app_sends_events_and_leaves() {
    let stage = Stage::start().await;
    stage.install("site-a", SECRET).await;
    let site = stage.site("site-a").await.unwrap();
    assert_eq!((site.joined_by, site.state, site.account.as_str()), (JoinedBy::Connect, SiteState::Active, "site-a"));
    assert_eq!((site.base_url.as_str(), site.api_base.as_str()), {
        let url = "https://site-a.atlassian.net/wiki";
        (url, url)
    });
    let credential = stage.registry.credential(&SiteId::parse("site-a").unwrap()).await.unwrap();
    let as_ours =
        Credential::Connect { app_key: APP_KEY.into(), client_key: "site-a".into(), shared_secret: SECRET.into() };
    assert!(credential == Some(as_ours), "we ask the site as the app that it has installed");

    let post = |path: &'static str, body| {
        let stage = &stage;
        async move { stage.post_as("site-a", SECRET, path, &body).await.status.as_u16() }
    };
    assert_eq!(post("/enabled", lifecycle("site-a", "enabled")).await, 204);
    assert_eq!(post("/page_updated?lic=none&user_id=a%20b", page(7, 3)).await, 204);
    assert_eq!(post("/space_removed", json!({"space": {"key": "~700000001"}})).await, 204);
    assert_eq!(post("/page_viewed", page(7, 3)).await, 204);
    assert_eq!(stage.post_for("site-a", "/uninstalled", &lifecycle("site-a", "uninstalled")).await.status, 204);
    assert_eq!(stage.state("site-a").await, SiteState::Uninstalled { since_ms: NOW });
    assert_eq!(post("/page_updated", page(8, 1)).await, 204);

    let space = What::Space { space_key: Some("~700000001".into()), space_id: None, event: EventName::SpaceRemoved };
    let told: Vec<What> = stage
        .told()
        .await
        .into_iter()
        .map(|(site, what)| {
            assert_eq!(site, "site-a");
            what
        })
        .collect();
    let [installed, enabled, left] =
        [Lifecycle::Installed, Lifecycle::Enabled, Lifecycle::Uninstalled].map(What::Lifecycle);
    assert_eq!(told, [installed, enabled, page_updated(7, 3), space, left], "and nothing of a site that has left");
    assert_eq!((stage.counted("stored"), stage.counted("lifecycle"), stage.counted("ignored")), (2.0, 3.0, 2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_installs_again_has_a_new_secret_and_the_former_one_for_ten_minutes() {
    let stage = Stage::start().await;
    let sent = |secret: &'static str| {
        let stage = &stage;
        async move { stage.post_as("site-a", secret, "/page_updated", &page(7, 3)).await.status.as_u16() }
    };
    stage.install("site-a", SECRET).await;
    stage.install("site-a", SECRET).await;
    assert_eq!((sent(SECRET).await, sent(NEXT).await), (204, 401));
    stage.advance(Duration::from_secs(1));
    stage.install("site-a", NEXT).await;
    assert_eq!((sent(SECRET).await, sent(NEXT).await), (204, 204));
    stage.advance(Duration::from_secs(10 * 60 - 1));
    assert_eq!((sent(SECRET).await, sent(NEXT).await), (204, 204));
    stage.advance(Duration::from_secs(1));
    assert_eq!((sent(SECRET).await, sent(NEXT).await), (401, 204));
    assert_eq!(stage.site("site-a").await.unwrap().added_ms, NOW, "it is the same site");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_comes_back_is_active_again_and_one_that_moves_keeps_its_former_name() {
    let stage = Stage::start().await;
    stage.install("site-a", SECRET).await;
    stage.advance(Duration::from_secs(60));
    assert_eq!(stage.post_for("site-a", "/uninstalled", &lifecycle("site-a", "uninstalled")).await.status, 204);
    let since = SiteState::Uninstalled { since_ms: NOW + 60_000 };
    assert_eq!(stage.state("site-a").await, since);
    stage.advance(Duration::from_secs(60));
    assert_eq!(stage.post_for("site-a", "/uninstalled", &lifecycle("site-a", "uninstalled")).await.status, 204);
    assert_eq!(stage.state("site-a").await, since, "its data does not stay longer because it is told twice");

    stage.advance(Duration::from_secs(60));
    let mut moved = installed("site-a", NEXT);
    moved["baseUrl"] = "https://renamed.atlassian.net/wiki".into();
    moved["displayUrl"] = "https://docs.example.com".into();
    assert_eq!(stage.post_for("site-a", "/installed", &moved).await.status, 204);
    let site = stage.site("site-a").await.unwrap();
    assert_eq!((site.state, site.aliases), (SiteState::Active, vec!["https://site-a.atlassian.net/wiki".to_owned()]));
    assert_eq!(site.base_url, "https://renamed.atlassian.net/wiki");
    assert_eq!(site.display_url.as_deref(), Some("https://docs.example.com"));
    assert_eq!(stage.post_as("site-a", NEXT, "/page_updated", &page(7, 3)).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_the_operators_outlasts_what_the_site_says_and_its_events_are_kept() {
    let stage = Stage::start().await;
    stage.install("site-a", SECRET).await;
    stage.told().await;
    let id = SiteId::parse("site-a").unwrap();
    assert!(stage.registry.set_state(&id, SiteState::Paused, NOW + 1).await.unwrap());
    stage.advance(Duration::from_secs(1));
    stage.install("site-a", NEXT).await;
    assert_eq!(stage.post_as("site-a", NEXT, "/enabled", &lifecycle("site-a", "enabled")).await.status, 204);
    assert_eq!(stage.state("site-a").await, SiteState::Paused);
    assert_eq!(stage.post_as("site-a", NEXT, "/page_updated", &page(7, 3)).await.status, 204);
    assert_eq!(stage.told().await.last(), Some(&("site-a".to_owned(), page_updated(7, 3))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_added_by_hand_is_not_spoken_for_by_the_app() {
    let stage = Stage::start().await;
    stage.add("site-a", SECRET).await;
    assert_eq!(stage.post_as("site-a", SECRET, "/page_updated", &page(7, 3)).await.status, 401);
    for (path, body) in
        [("/installed", installed("site-a", NEXT)), ("/uninstalled", lifecycle("site-a", "uninstalled"))]
    {
        let reply = stage.post_for("site-a", path, &body).await;
        assert_eq!((reply.status.as_u16(), code(&reply)), (403, "hook-forbidden".into()), "{path}");
    }
    let site = stage.site("site-a").await.unwrap();
    assert_eq!((site.joined_by, site.state), (JoinedBy::Operator, SiteState::Active));
    assert_eq!(stage.told().await, vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_sites_of_one_descriptor_neither_can_act_for_the_other() {
    let stage = Stage::start().await;
    let (secret_a, secret_b) = (SECRET, NEXT);
    stage.install("site-a", secret_a).await;
    stage.install("site-b", secret_b).await;
    assert_eq!(stage.told().await.len(), 2);

    // A token that A has signed, in B's name.
    let reply = stage.post_as("site-b", secret_a, "/page_removed", &page(7, 3)).await;
    assert_eq!((reply.status.as_u16(), code(&reply)), (401, "hook-unverified".into()));
    assert!(reply.header("www-authenticate").starts_with("Bearer"));
    // A's own token, with a body about B.
    for (path, event) in [("/disabled", "disabled"), ("/enabled", "enabled"), ("/connect_addon_disabled", "disabled")] {
        let reply = stage.post_as("site-a", secret_a, path, &lifecycle("site-b", event)).await;
        assert_eq!((reply.status.as_u16(), code(&reply)), (403, "hook-forbidden".into()), "{path}");
    }
    let mut about_b = page(7, 3);
    about_b["clientKey"] = "site-b".into();
    assert_eq!(stage.post_as("site-a", secret_a, "/page_removed", &about_b).await.status, 403);
    // What Atlassian has signed for A, with a body of B: its secret would be A's to choose.
    for (path, body) in [
        ("/installed", installed("site-b", "a secret of A's choice, for B")),
        ("/uninstalled", lifecycle("site-b", "uninstalled")),
    ] {
        let reply = stage.post_for("site-a", path, &body).await;
        assert_eq!((reply.status.as_u16(), code(&reply)), (403, "hook-forbidden".into()), "{path}");
    }
    // By the way that is not theirs.
    let secret = ("x-hookcache-secret", secret_b);
    let body = json!({"event": "page_removed", "page": {"id": 7}});
    assert_eq!(stage.post("/sites/site-b", &[secret], &body).await.status, 401);

    assert_eq!(stage.told().await, vec![]);
    for site in ["site-a", "site-b"] {
        assert_eq!(stage.state(site).await, SiteState::Active);
    }
    assert_eq!(stage.post_as("site-b", secret_b, "/page_updated", &page(9, 1)).await.status, 204);
    assert_eq!(stage.told().await, [("site-b".to_owned(), page_updated(9, 1))]);
    assert_eq!((stage.counted("unverified"), stage.counted("stored")), (8.0, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_that_atlassian_has_not_signed_for_this_app_and_call_is_refused() {
    let stage = Stage::start().await;
    stage.key("stranger", 2_048);
    let path = "/installed";
    let mut claims = stage.claims("site-a");
    claims["aud"] = json!(APP_URL);
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let of_atlassian = |claims| json!({"claims": claims, "key": "atlassian", "kid": INSTALL_KEY, "call": call(path)});
    let (public_key, _) = stage.key("atlassian", 2_048);
    let late = stage.now_s() - 31;
    for (why, request) in [
        ("HS256 with a secret", json!({"claims": claims, "secret": SECRET, "call": call(path)})),
        ("HS256 with the public key", json!({"claims": claims, "secret": public_key, "call": call(path)})),
        ("another's key", json!({"claims": claims, "key": "stranger", "kid": INSTALL_KEY, "call": call(path)})),
        ("a key that there is not", json!({"claims": claims, "key": "atlassian", "kid": "none", "call": call(path)})),
        ("no key", json!({"claims": claims, "key": "atlassian", "call": call(path)})),
        ("another app", of_atlassian(with("aud", json!("https://other.example.com")))),
        ("no app", of_atlassian(without("aud"))),
        ("too late", of_atlassian(with("exp", json!(late)))),
        ("for ever", of_atlassian(without("exp"))),
        ("nobody", of_atlassian(without("iss"))),
        ("another call", json!({"claims": claims, "key": "atlassian", "kid": INSTALL_KEY, "call": call("/enabled")})),
        ("no call", json!({"claims": claims, "key": "atlassian", "kid": INSTALL_KEY})),
        ("any call", json!({"claims": with("qsh", json!("context-qsh")), "key": "atlassian", "kid": INSTALL_KEY})),
    ] {
        let token = format!("JWT {}", stage.token(request));
        let reply = stage.post(path, &[("authorization", &token)], &installed("site-a", SECRET)).await;
        assert_eq!((reply.status.as_u16(), code(&reply)), (401, "hook-unverified".into()), "{why}: {}", reply.text());
    }
    // `{"alg":"none","typ":"JWT"}`, with the claims of a good token.
    let good = stage.install_token("site-a", path);
    let payload = good.split('.').nth(1).unwrap();
    let none = format!("JWT eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.");
    for headers in [vec![("authorization", none.as_str())], vec![], vec![("authorization", "JWT ")]] {
        assert_eq!(stage.post(path, &headers, &installed("site-a", SECRET)).await.status, 401, "{headers:?}");
    }
    assert_eq!((stage.site("site-a").await, stage.told().await), (None, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_name_could_lead_elsewhere_is_not_even_asked_for() {
    let stage = Stage::start().await;
    for kid in ["../jwks.json", "a/b", "..", "%2e%2e%2fjwks.json", "x?y", "x#y", "", &"k".repeat(200)] {
        let mut claims = stage.claims("site-a");
        claims["aud"] = json!(APP_URL);
        let token = json!({"claims": claims, "key": "atlassian", "kid": kid, "call": call("/installed")});
        let token = format!("JWT {}", stage.token(token));
        let reply = stage.post("/installed", &[("authorization", &token)], &installed("site-a", SECRET)).await;
        assert_eq!(reply.status, 401, "{kid}");
    }
    assert_eq!(stage.keys.calls(), Vec::<String>::new());
    stage.install("site-a", SECRET).await;
    stage.install("site-b", SECRET).await;
    assert_eq!(stage.keys.calls(), [format!("/installs/{INSTALL_KEY}")], "one key is asked for once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_install_that_leads_elsewhere_or_is_of_another_product_is_refused_by_name() {
    let stage = Stage::start().await;
    for (name, value) in [
        ("baseUrl", json!("https://evil.example/wiki")),
        ("baseUrl", json!("http://site-a.atlassian.net/wiki")),
        ("baseUrl", json!("https://169.254.169.254/")),
        ("baseUrl", json!(null)),
        ("sharedSecret", json!("")),
        ("clientKey", json!(7)),
        ("productType", json!("jira")),
        ("key", json!("another-app")),
    ] {
        let mut body = installed("site-a", SECRET);
        body[name] = value.clone();
        let reply = stage.post_for("site-a", "/installed", &body).await;
        assert_eq!(reply.status, 400, "{name} {value}: {}", reply.text());
        assert!(!reply.text().contains("evil"), "what was sent is not told back");
    }
    assert_eq!((stage.site("site-a").await, stage.told().await), (None, vec![]));
    assert_eq!(stage.counted("invalid"), 8.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_signed_changes_nothing_and_what_the_site_has_signed_does() {
    let stage = Stage::start().await;
    stage.install("site-a", SECRET).await;
    for path in ["/disabled", "/connect_addon_disabled", "/uninstalled"] {
        let reply = stage.post(path, &[], &lifecycle("site-a", path.trim_start_matches('/'))).await;
        assert_eq!(reply.status, 401, "{path}");
    }
    assert_eq!(stage.state("site-a").await, SiteState::Active);
    assert_eq!(stage.post_as("site-a", SECRET, "/uninstalled", &lifecycle("site-a", "uninstalled")).await.status, 401);
    assert_eq!(stage.state("site-a").await, SiteState::Active, "a site's secret proves no uninstall");

    for (path, state) in [
        ("/disabled", SiteState::Disabled),
        ("/enabled", SiteState::Active),
        ("/connect_addon_disabled", SiteState::Disabled),
        ("/connect_addon_enabled", SiteState::Active),
    ] {
        stage.advance(Duration::from_secs(1));
        let event = path.rsplit(['/', '_']).next().unwrap();
        assert_eq!(stage.post_as("site-a", SECRET, path, &lifecycle("site-a", event)).await.status, 204, "{path}");
        assert_eq!(stage.state("site-a").await, state, "{path}");
    }
    let told: Vec<What> = stage.told().await.into_iter().map(|(_, what)| what).collect();
    let [installed, on, off] = [Lifecycle::Installed, Lifecycle::Enabled, Lifecycle::Disabled].map(What::Lifecycle);
    assert_eq!(told, [installed, off.clone(), on.clone(), off, on]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_with_a_token_that_proves_nothing_is_refused() {
    let stage = Stage::start().await;
    stage.install("site-a", SECRET).await;
    let claims = stage.claims("site-a");
    let path = "/page_updated";
    let with = |name: &str, value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let late = stage.now_s() - 31;
    for (why, request) in [
        ("another secret", json!({"claims": claims, "secret": NEXT, "call": call(path)})),
        ("HS512", json!({"claims": claims, "secret": SECRET, "algorithm": "HS512", "call": call(path)})),
        ("RS256", json!({"claims": claims, "key": "atlassian", "kid": INSTALL_KEY, "call": call(path)})),
        ("another site", json!({"claims": with("iss", json!("site-x")), "secret": SECRET, "call": call(path)})),
        ("no site's name", json!({"claims": with("iss", json!("a/b")), "secret": SECRET, "call": call(path)})),
        ("our own token", json!({"claims": with("iss", json!(APP_KEY)), "secret": SECRET, "call": call(path)})),
        ("too late", json!({"claims": with("exp", json!(late)), "secret": SECRET, "call": call(path)})),
        ("another event", json!({"claims": claims, "secret": SECRET, "call": call("/page_created")})),
        ("another query", json!({"claims": claims, "secret": SECRET, "call": call("/page_updated?a=1")})),
        ("any call", json!({"claims": with("qsh", json!("context-qsh")), "secret": SECRET})),
        ("no call", json!({"claims": claims, "secret": SECRET})),
    ] {
        let token = format!("JWT {}", stage.token(request));
        let reply = stage.post(path, &[("authorization", &token)], &page(7, 3)).await;
        assert_eq!((reply.status.as_u16(), code(&reply)), (401, "hook-unverified".into()), "{why}: {}", reply.text());
    }
    let good = stage.token(json!({"claims": claims, "secret": SECRET, "call": call(path)}));
    let (jwt, bearer, basic) = (format!("JWT {good}"), format!("Bearer {good}"), format!("Basic {good}"));
    // `{"alg":"none","typ":"JWT"}`, with the claims of a good token.
    let none = format!("JWT eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", good.split('.').nth(1).unwrap());
    for headers in [
        vec![("authorization", none.as_str())],
        vec![],
        vec![("authorization", "")],
        vec![("authorization", good.as_str())],
        vec![("authorization", basic.as_str())],
        vec![("authorization", bearer.as_str())],
        vec![("authorization", jwt.as_str()), ("authorization", jwt.as_str())],
    ] {
        assert_eq!(stage.post(path, &headers, &page(7, 3)).await.status, 401, "{headers:?}");
    }
    let in_query = stage.post(&format!("{path}?jwt={good}"), &[], &page(7, 3)).await;
    assert_eq!(in_query.status, 401, "a token in a URL is in logs, too");
    assert_eq!(stage.post(path, &[("authorization", &jwt)], &page(7, 3)).await.status, 204);
    assert_eq!(stage.told().await.len(), 2, "the install, and that one");
}
