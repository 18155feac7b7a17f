//! What is wrong with a site is told, and nothing of it is kept; what lies in the pages queue and can't be read is a dead
//! letter, and looked after like any other.

use std::time::Duration;

use hookcache::buffer::embedded::{Options, open};
use hookcache::envelope::{Account, WireForm};
use http::Method;
use serde_json::{Value, json};

use super::{ON, text};
use crate::support::hookcache::run;
use crate::support::{Hookcache, TempDir, eventually, http_get, http_send};

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_can_not_be_is_refused_and_left_out() {
    let hookcache = Hookcache::start(&[], &ON).await;
    let put = async |site: &str, content_type: &str, body: String| {
        let url = format!("{}/v1/sites/{site}", hookcache.admin_url());
        let reply = http_send(Method::PUT, &url, &[("content-type", content_type)], body).await;
        let problem = reply.json();
        (reply.status.as_u16(), problem["code"].as_str().unwrap_or_default().to_owned(), problem.to_string())
    };
    let good = json!({ "accountId": "acme", "baseUrl": "http://127.0.0.1:1", "credential": { "bearer": "sneaky" } });
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body.to_string()
    };
    for (status, code, body) in [
        (400, "malformed-json", "{".to_owned()),
        (400, "invalid-request", "[]".to_owned()),
        (400, "invalid-request", "{}".to_owned()),
        (400, "invalid-request", with("more", json!(1))),
        (400, "invalid-request", with("accountId", json!("a b"))),
        (400, "invalid-request", with("baseUrl", json!("file:///sneaky"))),
        (400, "invalid-request", with("product", json!("server"))),
        (400, "invalid-request", with("credential", json!({ "user": "sneaky" }))),
        (400, "invalid-request", with("credential", json!({ "bearer": "sneaky", "token": "sneaky" }))),
        (400, "invalid-request", with("hookSecret", json!("sneaky"))),
        (400, "invalid-request", with("hookSecret", json!(null))),
        (413, "body-too-large", with("aliases", json!(["sneaky".repeat(20_000)]))),
    ] {
        let (found, problem, whole) = put("acme", "application/json", body).await;
        assert_eq!((found, problem.as_str()), (status, code), "{whole}");
        assert!(!whole.contains("sneaky"), "{whole}");
    }
    assert_eq!(put("acme", "text/plain", good.to_string()).await.0, 415);
    let (status, code, _) = put("a%20b", "application/json", good.to_string()).await;
    assert_eq!((status, code.as_str()), (400, "invalid-request"));
    for query in ["limit=0", "limit=1001", "limit=x", "after=a%20b", "more=1"] {
        assert_eq!(http_get(&format!("{}/v1/sites?{query}", hookcache.admin_url())).await.status, 400, "{query}");
    }
    let sites = http_get(&format!("{}/v1/sites", hookcache.admin_url())).await.json();
    assert_eq!(sites, json!({ "sites": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_the_pages_queue_are_looked_after_with_the_same_commands() {
    let folder = TempDir::new().unwrap();
    let options = Options {
        path: folder.path().join("pages.redb"),
        visibility: Duration::from_secs(60),
        wait: Duration::from_secs(1),
        bytes_max: 1 << 20,
    };
    let (appender, taker) = open(options).unwrap();
    let form = |body: &'static str| WireForm {
        id: "made-by-hand".to_owned(),
        account: Account::parse("acme").unwrap(),
        traceparent: None,
        body: body.as_bytes().into(),
    };
    appender.append(form(r#"{"v":1,"id":"one","at":1,"site":"acme","account":"acme","later":true}"#)).await.unwrap();
    appender.append(form("garbage")).await.unwrap();
    drop((appender, taker));
    let hookcache = Hookcache::spawn(folder.path(), &[], &ON);
    let (url, _ready) = (
        hookcache.admin_url(),
        eventually("it serves", || async {
            crate::support::client::try_send(Method::GET, &format!("{}/readyz", hookcache.admin_url()), &[], "")
                .await
                .ok()
                .filter(|reply| reply.status == 200)
        })
        .await,
    );
    let letters = |args: &[&str]| {
        let output = run(&[&["dead-letters"], args].concat(), &[("HOOKCACHE_ADMIN_URL", url.as_str())]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let listed = eventually("two dead letters", || async {
        let listed: Value = serde_json::from_str(&letters(&["list", "--queue", "pages", "--json"])).unwrap();
        (listed["letters"].as_array().is_some_and(|letters| letters.len() == 2)).then_some(listed)
    })
    .await;
    assert_eq!(letters(&["list"]), "no dead letters\n", "the buffer has none");
    let of_acme = &listed["letters"].as_array().unwrap().iter().find(|letter| letter["accountId"] == "acme").unwrap();
    assert_eq!(of_acme["id"], "one");
    assert!(letters(&["show", "one", "--queue", "pages"]).contains(r#""later":true"#));
    assert!(letters(&["list", "--queue", "pages", "--account", "acme"]).contains("one"));
    assert_eq!(letters(&["drop", "--queue", "pages", "--account", "acme"]), "dropped: 1\n");
    // Put back, it is what it was.
    assert_eq!(letters(&["redrive", "--queue", "pages", "--all"]), "redriven: 1\n");
    eventually("it is dead again", || async {
        letters(&["list", "--queue", "pages"]).contains("not-decodable").then_some(())
    })
    .await;
    assert_eq!(letters(&["drop", "--queue", "pages", "--all"]), "dropped: 1\n");
}
