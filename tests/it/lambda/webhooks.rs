//! The function that receives webhooks, as a process: between API Gateway's events and real PostgreSQL and SQS.

mod bad_input;
mod long_faults;

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookcache::registry::{Key, Options, Registry};
use hookcache::source::confluence::{EventName, Lifecycle, PageTask, What};
use serde_json::{Map, Value, json};

use crate::hooks::stage::{
    APP_KEY, APP_URL, FORGE_APP, FORGE_KEY, INSTALL_KEY, added, forge_claims, forge_event, installed, page,
};
use crate::support::atlassian::{KeyServer, Library};
use crate::support::lambda::Outcome;
use crate::support::sqs::client;
use crate::support::stack::take_letters;
use crate::support::{Lambda, Ministack, Postgres, Queues};

const CLOUD: &str = "866c3a03-ec62-4717-91c4-1ad078bfcc60";
const SITE: &str = "wiki.example.com";
const SECRET: &str = "a secret that both sides know, which is long enough";
const HOOKS: &str = "/v1/hooks/confluence";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A function, its registry, its queue, and Atlassian.
struct World {
    lambda: Lambda,
    postgres: Postgres,
    /// Taken away by a test that wants it dead.
    sqs: Option<Ministack>,
    endpoint_url: String,
    queues: Queues,
    atlassian: Library,
    _keys: KeyServer,
}

/// What was answered.
struct Reply {
    status: u64,
    headers: Map<String, Value>,
    body: String,
}

impl World {
    async fn start() -> Self {
        let (postgres, sqs, keys) = tokio::join!(Postgres::start(), Ministack::start(), KeyServer::start());
        let queues = sqs.queues("pages").await;
        let mut atlassian = Library::node();
        let (pem, jwk) = atlassian.key("atlassian", 2_048);
        keys.hold_install_key(INSTALL_KEY, pem);
        keys.hold_in_set(FORGE_KEY, jwk);
        let (url, key) = (postgres.database("registry"), "5e".repeat(32));
        let registry = Registry::open(Options::Postgres { url: url.clone(), key: Key::Text(key.clone()) }).await;
        registry.expect("it opens").join(&added(SITE, SECRET), 0).await.expect("it is there");
        let lambda = Lambda::start_webhooks(&[
            ("HOOKCACHE_CONFLUENCE__ENABLED", "true"),
            ("HOOKCACHE_CONFLUENCE__FORGE_APP_ID", FORGE_APP),
            ("HOOKCACHE_CONFLUENCE__FORGE_KEYS_URL", &keys.set_url()),
            ("HOOKCACHE_CONFLUENCE__APP_KEY", APP_KEY),
            ("HOOKCACHE_CONFLUENCE__PUBLIC_URL", APP_URL),
            ("HOOKCACHE_CONFLUENCE__CONNECT_KEYS_URL", &keys.installs_url()),
            ("HOOKCACHE_REGISTRY__URL", &url),
            ("HOOKCACHE_REGISTRY__KEY", &key),
            ("HOOKCACHE_BUFFER__QUEUE_URL", "http://127.0.0.1:1/0/not-asked"),
            ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", "http://127.0.0.1:1/0/not-asked-either"),
            ("HOOKCACHE_BUFFER__ENDPOINT_URL", &sqs.endpoint_url()),
            ("HOOKCACHE_PAGES__QUEUE_URL", &queues.queue_url),
            ("HOOKCACHE_PAGES__DEAD_LETTER_URL", &queues.dead_letter_url),
        ])
        .await;
        lambda.until_idle().await;
        let endpoint_url = sqs.endpoint_url();
        Self { lambda, postgres, sqs: Some(sqs), endpoint_url, queues, atlassian, _keys: keys }
    }

    async fn send(&self, event: &Value) -> Reply {
        let outcome = self.lambda.invoke_with(event).await;
        let Outcome::Answered(body) = outcome else { panic!("no answer: {outcome:?}, {:?}", self.lambda.captured()) };
        let answer: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(answer["isBase64Encoded"], false);
        Reply {
            status: answer["statusCode"].as_u64().expect("a status"),
            headers: answer["headers"].as_object().expect("headers").clone(),
            body: answer["body"].as_str().expect("a body").to_owned(),
        }
    }

    async fn sent(&self, event: &Value) -> u64 {
        let reply = self.send(event).await;
        if reply.status != 204 {
            println!("{}: {}", reply.status, reply.body);
        }
        reply.status
    }

    /// Takes so many tasks out of the queue, in the order of their arrival, and no more are there.
    async fn tasks(&self, count: usize) -> Vec<(String, What)> {
        let client = client(&self.endpoint_url);
        let taken = take_letters(&client, &self.queues.queue_url, count).await;
        let decoded = |body: String| PageTask::decode(&body.into(), now_s() * 1_000).expect("a task");
        let mut tasks: Vec<PageTask> = taken.into_iter().map(|message| decoded(message.body)).collect();
        tasks.sort_by(|a, b| (a.at_ms, &a.id).cmp(&(b.at_ms, &b.id)));
        let rest = client.receive_message().queue_url(&self.queues.queue_url).send().await.expect("an answer");
        assert!(rest.messages().is_empty() && tasks.len() == count, "{tasks:?} {rest:?}");
        tasks.into_iter().map(|task| (task.site.to_string(), task.what)).collect()
    }

    /// `Authorization` of a Forge app's event.
    fn forge(&mut self, claims: &Value) -> String {
        let token = self.atlassian.token(json!({"claims": claims, "key": "atlassian", "kid": FORGE_KEY}));
        format!("Bearer {token}")
    }

    /// `Authorization` of a Connect site, for a URL below that of the app.
    fn connect(&mut self, url: &str, by: &Value) -> String {
        let mut request = by.clone();
        request["claims"]["iat"] = now_s().into();
        request["claims"]["exp"] = (now_s() + 180).into();
        request["call"] = json!({"method": "POST", "url": url});
        format!("JWT {}", self.atlassian.token(request))
    }
}

impl Reply {
    fn code(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(problem["status"], self.status);
        problem["code"].as_str().expect("a code").to_owned()
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A REST API's event, at the stage `live`.
fn rest(path: &str, query: &[(&str, &[&str])], headers: &[(&str, &str)], body: &str) -> Value {
    let mut lists: Map<String, Value> = Map::new();
    for (name, value) in headers {
        let list = lists.entry(*name).or_insert_with(|| json!([]));
        list.as_array_mut().expect("a list").push((*value).into());
    }
    let last = |(name, list): (&String, &Value)| (name.clone(), list[list.as_array().map_or(0, Vec::len) - 1].clone());
    let headers: Map<String, Value> = lists.iter().map(last).collect();
    let query_lists: Map<String, Value> =
        query.iter().map(|(name, values)| ((*name).to_owned(), json!(values))).collect();
    let query: Map<String, Value> = query_lists.iter().map(last).collect();
    let or_null = |map: Map<String, Value>| if map.is_empty() { Value::Null } else { map.into() };
    json!({
        "resource": "/{proxy+}", "path": path, "httpMethod": "POST",
        "headers": headers, "multiValueHeaders": lists,
        "queryStringParameters": or_null(query), "multiValueQueryStringParameters": or_null(query_lists),
        "pathParameters": {"proxy": path.trim_start_matches('/')}, "stageVariables": null,
        "requestContext": {"accountId": "111122223333", "stage": "live", "path": format!("/live{path}"),
                           "httpMethod": "POST", "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"},
        "body": body, "isBase64Encoded": false,
    })
}

/// An HTTP API's event, or a function URL's; the latter tells bodies in base64.
fn http_api(path: &str, query: &str, headers: &[(&str, &str)], body: &str) -> Value {
    let headers: Map<String, Value> =
        headers.iter().map(|(name, value)| (name.to_lowercase(), (*value).into())).collect();
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query, "headers": headers,
        "requestContext": {"accountId": "111122223333", "stage": "$default", "requestId": "JKJaXmPLvHcESHA=",
                           "http": {"method": "POST", "path": path, "protocol": "HTTP/1.1"}},
        "body": STANDARD.encode(body), "isBase64Encoded": true,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_who_it_is_gets_204_and_is_in_the_queue_and_nobody_else() {
    let mut world = World::start().await;
    // A Forge app, at an HTTP API.
    let body = forge_event("avi:confluence:updated:page", 7).to_string();
    let mut claims = forge_claims(CLOUD, now_s());
    let token = world.forge(&claims);
    let event = http_api(HOOKS, "", &[JSON, ("Authorization", &token)], &body);
    assert_eq!(world.sent(&event).await, 204);
    claims["aud"] = "ari:cloud:ecosystem::app/another".into();
    let of_another = world.forge(&claims);
    let event = http_api(HOOKS, "", &[JSON, ("Authorization", &of_another)], &body);
    assert_eq!(world.send(&event).await.code(), "hook-unverified");

    // A Connect app, at a stage and a base path of a REST API, which decodes queries.
    let (path, url) = ("/base/v1/hooks/confluence/installed", "/v1/hooks/confluence/installed");
    let by_atlassian = json!({"claims": {"iss": "site-a", "aud": [APP_URL]}, "key": "atlassian", "kid": INSTALL_KEY});
    let token = world.connect(url, &by_atlassian);
    let install = rest(path, &[], &[JSON, ("Authorization", &token)], &installed("site-a", SECRET).to_string());
    assert_eq!(world.sent(&install).await, 204);
    let by_site = json!({"claims": {"iss": "site-a"}, "secret": SECRET});
    let query = "user_id=712020%3Aa%2Bb&a=2&a=1+x&empty=";
    let token = world.connect(&format!("/v1/hooks/confluence/page_updated?{query}"), &by_site);
    let decoded: &[(&str, &[&str])] = &[("a", &["2", "1 x"]), ("empty", &[""]), ("user_id", &["712020:a+b"])];
    let body = page(8, 3).to_string();
    let path = "/live/v1/hooks/confluence/page_updated";
    let event = rest(path, decoded, &[JSON, ("authorization", &token)], &body);
    assert_eq!(world.sent(&event).await, 204);
    let event = http_api(path, query, &[JSON, ("authorization", &token)], &body);
    assert_eq!(world.sent(&event).await, 204);
    let other_query = rest(path, &decoded[..2], &[JSON, ("authorization", &token)], &body);
    assert_eq!(world.send(&other_query).await.code(), "hook-unverified");

    // A site with a secret; a header that stands twice proves nothing.
    let moved = r#"{"event":"page_moved","page":{"id":9}}"#;
    let path = format!("{HOOKS}/sites/{SITE}");
    let headers = [JSON, ("X-Hookcache-Secret", SECRET)];
    assert_eq!(world.sent(&rest(&path, &[], &headers, moved)).await, 204);
    for headers in [vec![JSON], vec![JSON, ("x-hookcache-secret", "guess")], vec![headers[0], headers[1], headers[1]]] {
        let reply = world.send(&rest(&path, &[], &headers, moved)).await;
        assert_eq!((reply.status, reply.code().as_str()), (401, "hook-unverified"), "{headers:?}");
        assert!(!reply.body.contains(SECRET));
    }

    let page = |page, event, version| What::Page { page, event, version };
    let wanted = [
        (CLOUD, What::Lifecycle(Lifecycle::Enabled)),
        (CLOUD, page(7, EventName::PageUpdated, Some(3))),
        ("site-a", What::Lifecycle(Lifecycle::Installed)),
        ("site-a", page(8, EventName::PageUpdated, Some(3))),
        ("site-a", page(8, EventName::PageUpdated, Some(3))),
        (SITE, page(9, EventName::PageMoved, None)),
    ];
    assert_eq!(world.tasks(6).await, wanted.map(|(site, what)| (site.to_owned(), what)));
    let lines = world.lambda.logged("a webhook was accepted", 6).await;
    assert!(lines.iter().all(|line| line["message_id"].is_string() && line["site"].is_string()), "{lines:?}");
}
