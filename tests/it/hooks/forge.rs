//! The Forge app: how sites join it, and what they may tell.

use std::time::Duration;

use hookcache::confluence::Credential;
use hookcache::envelope::SiteId;
use hookcache::registry::{JoinedBy, SiteState};
use hookcache::source::confluence::{EventName, Lifecycle, What};
use serde_json::{Value, json};

use super::stage::{FORGE_APP, FORGE_KEY, NOW, NOW_S, Stage, code, forge_claims, forge_event as event};
use crate::support::Reply;

const CLOUD: &str = "866c3a03-ec62-4717-91c4-1ad078bfcc60";
/// The header that brings the token of the app's system account.
const SYSTEM: &str = "x-forge-oauth-system";
const OTHER: &str = "11111111-ec62-4717-91c4-1ad078bfcc60";

fn claims(stage: &Stage, cloud: &str) -> Value {
    forge_claims(cloud, stage.now_s())
}

fn life(name: &str, cloud: &str) -> Value {
    json!({"id": "i", "context": format!("ari:cloud:confluence::site/{cloud}"), "eventType": name,
           "installerAccountId": "557058:x", "app": {"id": FORGE_APP, "version": "5"}})
}

fn signed(stage: &Stage, claims: &Value) -> String {
    format!("Bearer {}", stage.token(json!({"claims": claims, "key": "atlassian", "kid": FORGE_KEY})))
}

async fn post(stage: &Stage, claims: &Value, more: &[(&str, &str)], body: &Value) -> Reply {
    let token = signed(stage, claims);
    stage.post("", &[&[("authorization", token.as_str())], more].concat(), body).await
}

/// A token of the app's system account, which is not ours to check.
fn system_token(stage: &Stage, exp: u64) -> String {
    stage.token(json!({"claims": {"exp": exp, "iss": "forge"}, "secret": "of Atlassian"}))
}

async fn credential(stage: &Stage) -> Option<(String, u64)> {
    match stage.registry.credential(&SiteId::parse(CLOUD).unwrap()).await.unwrap()? {
        Credential::Forge { token, expires_ms } => Some((token, expires_ms)),
        _ => panic!("Forge's"),
    }
}

fn page_event(page: u64, event: EventName) -> What {
    What::Page { page, event, version: Some(3) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_joins_with_its_first_event_and_each_brings_a_newer_token() {
    let stage = Stage::start().await;
    let (first, second) = (system_token(&stage, NOW_S + 3_300), system_token(&stage, NOW_S + 3_600));
    let updated = event("avi:confluence:updated:page", 838_205_441);
    let first_event = post(&stage, &claims(&stage, CLOUD), &[(SYSTEM, &first)], &updated).await;
    assert_eq!((first_event.status.as_u16(), first_event.text().as_str()), (204, ""));
    let site = stage.site(CLOUD).await.unwrap();
    assert_eq!((site.joined_by, site.state, site.account.as_str()), (JoinedBy::Forge, SiteState::Active, CLOUD));
    let api_base = format!("https://api.atlassian.com/ex/confluence/{CLOUD}/wiki");
    assert_eq!((&site.api_base, &site.base_url), (&api_base, &api_base), "until the site tells its own URL");
    assert_eq!(credential(&stage).await, Some((first.clone(), (NOW_S + 3_300) * 1_000)));
    let joined = What::Lifecycle(Lifecycle::Enabled);
    let told: Vec<What> = stage.told().await.into_iter().map(|(_, what)| what).collect();
    assert_eq!(told, [joined, page_event(838_205_441, EventName::PageUpdated)]);

    let mut with_url = claims(&stage, CLOUD);
    with_url["context"]["siteUrl"] = "https://acme.atlassian.net".into();
    let trashed = event("avi:confluence:trashed:page", 838_205_441);
    assert_eq!(post(&stage, &with_url, &[(SYSTEM, &second)], &trashed).await.status, 204);
    assert_eq!(stage.site(CLOUD).await.unwrap().base_url, "https://acme.atlassian.net/wiki");
    assert_eq!(credential(&stage).await, Some((second.clone(), (NOW_S + 3_600) * 1_000)));
    // An older token, on an event that was under way for longer.
    assert_eq!(post(&stage, &claims(&stage, CLOUD), &[(SYSTEM, &first)], &updated).await.status, 204);
    assert_eq!(credential(&stage).await, Some((second, (NOW_S + 3_600) * 1_000)));
    let third = system_token(&stage, NOW_S + 3_900);
    assert_eq!(post(&stage, &claims(&stage, CLOUD), &[(SYSTEM, &third)], &updated).await.status, 204);
    assert_eq!(credential(&stage).await, Some((third, (NOW_S + 3_900) * 1_000)));
    assert_eq!(stage.site(CLOUD).await.unwrap().base_url, "https://acme.atlassian.net/wiki");
    let told: Vec<What> = stage.told().await.into_iter().map(|(_, what)| what).collect();
    let pages = [EventName::PageTrashed, EventName::PageUpdated, EventName::PageUpdated]
        .map(|event| page_event(838_205_441, event));
    assert_eq!(told, pages, "it has joined once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_installs_the_app_leaves_it_and_comes_back() {
    let stage = Stage::start().await;
    let updated = event("avi:confluence:updated:page", 1);
    let states = [
        (life("avi:forge:uninstalled:app", CLOUD), None, vec![]),
        (life("avi:forge:installed:app", CLOUD), Some(SiteState::Active), vec![What::Lifecycle(Lifecycle::Enabled)]),
        (life("avi:forge:upgraded:app", CLOUD), Some(SiteState::Active), vec![]),
        (updated.clone(), Some(SiteState::Active), vec![page_event(1, EventName::PageUpdated)]),
        (
            life("avi:forge:uninstalled:app", CLOUD),
            Some(SiteState::Uninstalled { since_ms: NOW + 5_000 }),
            vec![What::Lifecycle(Lifecycle::Uninstalled)],
        ),
        (updated.clone(), Some(SiteState::Uninstalled { since_ms: NOW + 5_000 }), vec![]),
        (life("avi:forge:upgraded:app", CLOUD), Some(SiteState::Uninstalled { since_ms: NOW + 5_000 }), vec![]),
        (life("avi:forge:installed:app", CLOUD), Some(SiteState::Active), vec![What::Lifecycle(Lifecycle::Enabled)]),
        (updated, Some(SiteState::Active), vec![page_event(1, EventName::PageUpdated)]),
    ];
    for (body, state, want) in states {
        stage.advance(Duration::from_secs(1));
        assert_eq!(post(&stage, &claims(&stage, CLOUD), &[], &body).await.status, 204, "{body}");
        assert_eq!(stage.site(CLOUD).await.map(|site| site.state), state, "{body}");
        let told: Vec<What> = stage.told().await.into_iter().map(|(_, what)| what).collect();
        assert_eq!(told, want, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_speaks_for_its_own_cloud_alone() {
    let stage = Stage::start().await;
    let mut of_other = event("avi:confluence:removed:page", 1);
    of_other["cloudId"] = OTHER.into();
    let mut in_context = event("avi:confluence:removed:page", 1);
    in_context["context"] = json!({"cloudId": OTHER});
    for body in [life("avi:forge:uninstalled:app", OTHER), life("avi:forge:installed:app", OTHER), of_other, in_context]
    {
        let reply = post(&stage, &claims(&stage, CLOUD), &[], &body).await;
        assert_eq!((reply.status.as_u16(), code(&reply)), (403, "hook-forbidden".into()), "{body}");
    }
    // A site of that name that has not joined by Forge.
    stage.add(CLOUD, "a secret").await;
    let updated = event("avi:confluence:updated:page", 1);
    assert_eq!(post(&stage, &claims(&stage, CLOUD), &[], &updated).await.status, 403);
    assert_eq!((stage.site(OTHER).await, stage.told().await), (None, vec![]));
    assert_eq!(stage.site(CLOUD).await.unwrap().joined_by, JoinedBy::Operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_that_proves_nothing_is_refused() {
    let stage = Stage::start().await;
    stage.key("stranger", 2_048);
    let (public_key, _) = stage.key("atlassian", 2_048);
    let good = claims(&stage, CLOUD);
    let with = |pointer: &str, value: Value| {
        let mut claims = good.clone();
        *claims.pointer_mut(pointer).unwrap() = value;
        json!({"claims": claims, "key": "atlassian", "kid": FORGE_KEY})
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        json!({"claims": claims, "key": "atlassian", "kid": FORGE_KEY})
    };
    let now = stage.now_s();
    for (why, request) in [
        ("another app", with("/aud", json!("ari:cloud:ecosystem::app/another"))),
        ("no app", without("aud")),
        ("another issuer", with("/iss", json!("forge/other-token"))),
        ("no issuer", without("iss")),
        ("too late", with("/exp", json!(now - 31))),
        ("too early", with("/nbf", json!(now + 31))),
        ("for ever", without("exp")),
        ("no cloud", without("context")),
        ("no site's name", with("/context/cloudId", json!("a/b"))),
        ("another's key", json!({"claims": good, "key": "stranger", "kid": FORGE_KEY})),
        ("a key that there is not", json!({"claims": good, "key": "atlassian", "kid": "other"})),
        ("no key", json!({"claims": good, "key": "atlassian"})),
        ("HS256 with the public key", json!({"claims": good, "secret": public_key})),
    ] {
        let token = format!("Bearer {}", stage.token(request));
        let updated = event("avi:confluence:updated:page", 1);
        let reply = stage.post("", &[("authorization", &token)], &updated).await;
        assert_eq!((reply.status.as_u16(), code(&reply)), (401, "hook-unverified".into()), "{why}: {}", reply.text());
    }
    let token = signed(&stage, &good);
    let payload = token.split('.').nth(1).unwrap();
    let none = format!("Bearer eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.");
    assert_eq!(stage.post("", &[("authorization", &none)], &event("avi:confluence:updated:page", 1)).await.status, 401);
    assert_eq!((stage.site(CLOUD).await, stage.told().await), (None, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_token_whose_apis_are_elsewhere_is_refused() {
    let stage = Stage::start().await;
    let updated = event("avi:confluence:updated:page", 1);
    for url in ["https://evil.example/ex/confluence/1", "http://api.atlassian.com/ex", "https://127.0.0.1/", "x"] {
        let mut claims = claims(&stage, CLOUD);
        claims["app"]["installation"]["contexts"][0]["apiBaseUrl"] = url.into();
        let reply = post(&stage, &claims, &[], &updated).await;
        assert_eq!((reply.status.as_u16(), code(&reply)), (400, "invalid-request".into()), "{url}");
    }
    // An app in several products: the one URL beside them may be another product's.
    let mut of_jira = claims(&stage, CLOUD);
    of_jira["app"]["apiBaseUrl"] = format!("https://api.atlassian.com/ex/jira/{CLOUD}").into();
    assert_eq!(post(&stage, &of_jira, &[], &updated).await.status, 204);
    let api_base = format!("https://api.atlassian.com/ex/confluence/{CLOUD}/wiki");
    assert_eq!(stage.site(CLOUD).await.unwrap().api_base, api_base);
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_names_of_keys_do_not_wear_out_the_key_server() {
    let stage = Stage::start().await;
    let (good, updated) = (claims(&stage, CLOUD), event("avi:confluence:updated:page", 1));
    let made_up = |n: u32| {
        let token = stage.token(json!({"claims": good, "key": "atlassian", "kid": format!("made-up-{n}")}));
        format!("Bearer {token}")
    };
    for n in 0..20 {
        assert_eq!(stage.post("", &[("authorization", &made_up(n))], &updated).await.status, 401);
    }
    assert_eq!(post(&stage, &good, &[], &updated).await.status, 204);
    // On a machine that is slow enough, the set is asked again: once in ten seconds at most.
    let calls = stage.keys.calls();
    assert!(calls.len() < 10 && calls.iter().all(|path| path == "/jwks.json"), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_key_server_is_down_nobody_is_judged_and_then_everybody_is() {
    let stage = Stage::start().await;
    let (good, updated) = (claims(&stage, CLOUD), event("avi:confluence:updated:page", 1));
    stage.keys.answer_all_with(Some(500));
    let reply = post(&stage, &good, &[], &updated).await;
    assert_eq!((reply.status.as_u16(), code(&reply)), (503, "keys-unavailable".into()));
    assert!(!reply.header("retry-after").is_empty());
    assert_eq!(stage.counted("unavailable"), 1.0);
    stage.keys.answer_all_with(None);
    crate::support::eventually("the keys are asked for again", || async {
        (post(&stage, &good, &[], &updated).await.status == 204).then_some(())
    })
    .await;
    stage.keys.answer_all_with(Some(500));
    assert_eq!(post(&stage, &good, &[], &updated).await.status, 204, "a key that is known needs no server");
}
