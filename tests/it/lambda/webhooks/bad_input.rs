//! What is no webhook, and configuration that can't be.

use serde_json::{Value, json};

use super::{HOOKS, JSON, SECRET, SITE, World, http_api, rest};
use crate::support::Lambda;
use crate::support::lambda::{Outcome, record};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_webhook_is_a_problem_and_what_is_no_request_an_error_that_no_queue_takes_for_success() {
    let world = World::start().await;
    let path = format!("{HOOKS}/sites/{SITE}");
    let (secret, moved) = (("X-Hookcache-Secret", SECRET), r#"{"event":"page_moved","page":{"id":9}}"#);
    let fine = rest(&path, &[], &[JSON, secret], moved);
    let with = |change: &[(&str, Value)]| {
        let mut event = fine.clone();
        change.iter().for_each(|(name, value)| event[*name] = value.clone());
        event
    };
    let large = "x".repeat(1 << 20);
    let large = format!(r#"{{"event":"page_moved","page":{{"id":9}},"x":"{large}"}}"#);
    for (event, status, code) in [
        (with(&[("isBase64Encoded", true.into())]), 400, "invalid-request"),
        (with(&[("body", Value::Null)]), 400, "malformed-json"),
        (with(&[("body", "{".into())]), 400, "malformed-json"),
        (with(&[("httpMethod", "GE T".into())]), 400, "invalid-request"),
        (with(&[("multiValueHeaders", json!({"a b": ["x"]}))]), 400, "invalid-request"),
        (with(&[("multiValueHeaders", json!({"a": ["x\ny"]}))]), 400, "invalid-request"),
        (with(&[("httpMethod", "PUT".into())]), 405, "method-not-allowed"),
        (with(&[("path", "/v1/set".into())]), 404, "no-such-route"),
        (with(&[("path", "".into())]), 404, "no-such-route"),
        (with(&[("path", format!("/live{HOOKS}/sites/").into())]), 404, "no-such-route"),
        (rest(&path, &[], &[secret], moved), 415, "unsupported-media-type"),
        (rest(&path, &[], &[JSON, secret], &large), 413, "body-too-large"),
        (http_api(&path, "", &[JSON, secret], &large), 413, "body-too-large"),
    ] {
        let reply = world.send(&event).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{}", reply.body);
        assert!(reply.headers.contains_key("cache-control"), "{:?}", reply.headers);
    }
    // The texts alone, as a test in AWS's console may have them.
    let texts = with(&[("multiValueHeaders", Value::Null), ("multiValueQueryStringParameters", Value::Null)]);
    assert_eq!(world.sent(&texts).await, 204);
    let descriptor = with(&[("httpMethod", "GET".into()), ("path", format!("{HOOKS}/atlassian-connect.json").into())]);
    let reply = world.send(&descriptor).await;
    assert_eq!((reply.status, &reply.headers["content-type"]), (200, &"application/json".into()));
    assert!(reply.body.contains("hookcache-page-links"), "{}", reply.body);

    let batch = json!({"Records": [record("1", moved)]});
    for event in [json!({}), json!([]), batch, json!({"version": "2.0"}), with(&[("path", 1.into())])] {
        let outcome = world.lambda.invoke_with(&event).await;
        let Outcome::Failed(report) = outcome else { panic!("{event} is answered: {outcome:?}") };
        let text = report["errorMessage"].as_str().expect("a text");
        assert!(text.starts_with("the event is none of API Gateway's proxy integration"), "{text}");
        assert!(!text.contains(SECRET), "{text}");
    }
    assert_eq!(world.sent(&fine).await, 204, "it goes on");
    assert_eq!(world.tasks(2).await.len(), 2);
}

type Variables<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn a_configuration_that_a_function_cannot_have_is_refused_at_start_with_its_key() {
    let on = [("HOOKCACHE_CONFLUENCE__ENABLED", "true")];
    let registry = [("HOOKCACHE_REGISTRY__URL", "postgres://u:s3cr3t@127.0.0.1:1/db")];
    let key = [("HOOKCACHE_REGISTRY__KEY", "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e")];
    let cases: [(&[Variables<'_>], &[&str]); 5] = [
        (&[&registry, &key], &["confluence.enabled"]),
        (&[&on], &["registry.url", "HOOKCACHE_REGISTRY__URL"]),
        (&[&on, &registry], &["registry.key_file"]),
        (&[&on, &registry, &[("HOOKCACHE_REGISTRY__KEY", "s3cr3t")]], &["registry.key", "64 hexadecimal digits"]),
        (&[&on, &registry, &key], &["pages.queue_url", "HOOKCACHE_PAGES__QUEUE_URL"]),
    ];
    for (variables, words) in cases {
        let mut lambda = Lambda::start_webhooks(&variables.concat()).await;
        assert_eq!(lambda.until_exit().await.code(), Some(1), "{variables:?}");
        let text = lambda.captured().stderr;
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
        assert!(!text.contains("panicked") && !text.contains("s3cr3t") && !text.contains(key[0].1), "{text}");
    }
}
