//! Bodies that make no sense, are too large, or come twice.

use hookcache::source::confluence::{EventName, What};
use serde_json::json;

use super::stage::{Stage, call, code, page};

const SECRET: &str = "the secret of a site, shared when it installed the app";

async fn with_site() -> Stage {
    let stage = Stage::start().await;
    stage.install("site-a", SECRET).await;
    stage.told().await;
    stage
}

/// Posts a text as the site.
async fn post(stage: &Stage, path: &str, body: String) -> crate::support::Reply {
    let claims = stage.claims("site-a");
    let token = stage.token(json!({"claims": claims, "secret": SECRET, "call": call(path)}));
    stage.post_text(path, &[("authorization", &format!("JWT {token}"))], body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_makes_no_sense_is_refused_and_says_where() {
    let stage = with_site().await;
    for (path, body, code_wanted, pointer) in [
        ("/page_updated", "page_id=5", "malformed-json", ""),
        ("/page_updated", "", "malformed-json", ""),
        ("/page_updated", "{\"page\":", "malformed-json", ""),
        ("/page_updated", "[]", "invalid-request", ""),
        ("/page_updated", "{}", "invalid-request", "/page"),
        ("/page_updated", r#"{"page":{"title":"T"}}"#, "invalid-request", "/page/id"),
        ("/page_updated", r#"{"page":{"id":"x"}}"#, "invalid-request", "/page/id"),
        ("/page_updated", r#"{"page":{"id":-1}}"#, "invalid-request", "/page/id"),
        ("/page_updated", r#"{"page":{"id":1},"page":{"id":2}}"#, "invalid-request", ""),
        ("/space_removed", r#"{"space":{}}"#, "invalid-request", "/space"),
        ("", r#"{"page":{"id":1}}"#, "invalid-request", ""),
    ] {
        let reply = post(&stage, path, body.to_owned()).await;
        assert_eq!((reply.status.as_u16(), code(&reply)), (400, code_wanted.into()), "{path} {body}");
        let told = reply.json()["errors"][0]["pointer"].as_str().unwrap_or_default().to_owned();
        assert_eq!(told, pointer, "{path} {body}");
    }
    assert_eq!((stage.told().await, stage.counted("invalid")), (vec![], 11.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_may_be_a_text_and_an_event_that_nobody_knows_is_counted_and_not_kept() {
    let stage = with_site().await;
    assert_eq!(post(&stage, "/page_moved", r#"{"page":{"id":"42"}}"#.to_owned()).await.status, 204);
    let moved = What::Page { page: 42, event: EventName::PageMoved, version: None };
    assert_eq!(stage.told().await, [("site-a".to_owned(), moved)]);
    for (n, path) in ["/page_viewed", "/attachment_created", "/no_such_event"].into_iter().enumerate() {
        let reply = post(&stage, path, page(7, 3).to_string()).await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (204, ""));
        assert_eq!(stage.counted("ignored"), (n + 1) as f64);
    }
    assert_eq!(stage.told().await, vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_20_megabytes_is_refused_and_the_next_one_is_taken() {
    let stage = with_site().await;
    let large = format!(r#"{{"page":{{"id":1,"title":"{}"}}}}"#, "x".repeat(20_000_000));
    let reply = post(&stage, "/page_updated", large).await;
    assert_eq!((reply.status.as_u16(), code(&reply)), (413, "body-too-large".into()));
    assert_eq!(reply.json()["limit"], hookcache::hooks::BODY_BYTES_MAX);
    let just = format!(r#"{{"page":{{"id":1,"title":"{}"}}}}"#, "x".repeat(1_000_000));
    assert_eq!(post(&stage, "/page_updated", just).await.status, 204);
    assert_eq!(stage.told().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_comes_twice_is_the_same_task_twice() {
    let stage = with_site().await;
    for _ in 0..2 {
        assert_eq!(post(&stage, "/page_updated", page(7, 3).to_string()).await.status, 204);
    }
    let tasks = stage.tasks().await;
    assert_eq!((tasks.len(), &tasks[0].what), (2, &tasks[1].what));
    assert_ne!(tasks[0].id, tasks[1].id);
}
