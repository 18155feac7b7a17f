//! Who may see and change which sites, and what is told while page links are off.

use hookcache::auth::token::Token;
use http::Method;
use serde_json::{Value, json};

use super::{ON, confluence, failed};
use crate::support::hookcache::run;
use crate::support::{Hookcache, Reply, TempDir, http_get, http_send};

async fn call(hookcache: &Hookcache, token: &str, method: Method, path: &str, body: Option<&Value>) -> Reply {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = body.map(Value::to_string).unwrap_or_default();
    http_send(method, &format!("{}{path}", hookcache.admin_url()), &headers, body).await
}

fn code(reply: &Reply) -> (u16, String) {
    (reply.status.as_u16(), reply.json()["code"].as_str().unwrap_or_default().to_owned())
}

fn site_of(account: &str) -> Value {
    json!({ "accountId": account, "baseUrl": "http://127.0.0.1:1", "credential": { "bearer": "t" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_bound_to_accounts_knows_their_sites_alone() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hookcache.toml");
    let tokens = [("all", ""), ("bound", "accounts = [\"acme\"]\n"), ("reader", "")];
    let tokens = tokens.map(|(name, accounts)| (name, accounts, Token::generate().unwrap()));
    let entry = |(name, accounts, token): &(&str, &str, Token)| {
        let scope = if *name == "reader" { "get" } else { "admin" };
        format!("[[auth.tokens]]\nname = \"{name}\"\nhash = \"{}\"\nscopes = [\"{scope}\"]\n{accounts}", token.hash())
    };
    std::fs::write(&file, tokens.iter().map(entry).collect::<String>()).unwrap();
    let hookcache = Hookcache::start(&["--config", file.to_str().unwrap()], &ON).await;
    let [all, bound, reader] = tokens.map(|(_, _, token)| token.reveal().to_owned());

    let add = async |token: &str, site: &str, account: &str| {
        call(&hookcache, token, Method::PUT, &format!("/v1/sites/{site}"), Some(&site_of(account))).await
    };
    assert_eq!(add(&all, "a", "acme").await.status, 200);
    assert_eq!(add(&all, "b", "other").await.status, 200);
    assert_eq!(add(&bound, "c", "acme").await.status, 200);
    assert_eq!(code(&add(&bound, "d", "other").await), (403, "forbidden-account".to_owned()));
    assert_eq!(code(&add(&bound, "b", "acme").await), (409, "site-taken".to_owned()));
    assert_eq!(code(&add(&reader, "d", "acme").await), (403, "forbidden-scope".to_owned()));
    assert_eq!(http_get(&format!("{}/v1/sites", hookcache.admin_url())).await.status, 401);

    let names = async |token: &str, query: &str| {
        let listing = call(&hookcache, token, Method::GET, &format!("/v1/sites{query}"), None).await.json();
        let sites = listing["sites"].as_array().unwrap().iter();
        let names: Vec<String> = sites.map(|site| site["site"].as_str().unwrap().to_owned()).collect();
        (names.concat(), listing["next"].as_str().map(str::to_owned))
    };
    assert_eq!(names(&all, "").await, ("abc".to_owned(), None));
    assert_eq!(names(&bound, "").await, ("ac".to_owned(), None));
    assert_eq!(names(&all, "?limit=2").await, ("ab".to_owned(), Some("b".to_owned())));
    // A list that ended with the site of another account would name it.
    assert_eq!(names(&bound, "?limit=1").await, ("a".to_owned(), Some("a".to_owned())));
    assert_eq!(names(&bound, "?limit=2").await, ("ac".to_owned(), Some("c".to_owned())));
    assert_eq!(names(&bound, "?limit=2&after=b").await, ("c".to_owned(), None));

    for (method, path) in [
        (Method::GET, "/v1/sites/b"),
        (Method::DELETE, "/v1/sites/b"),
        (Method::POST, "/v1/sites/b/pause"),
        (Method::POST, "/v1/sites/b/resume"),
        (Method::GET, "/v1/sites/b/reindex"),
    ] {
        let of_another = call(&hookcache, &bound, method.clone(), path, None).await;
        let of_nobody = call(&hookcache, &bound, method, &path.replace("/b", "/nobody"), None).await;
        assert_eq!(code(&of_another), (404, "no-such-site".to_owned()), "{path}");
        assert_eq!(of_another.text(), of_nobody.text(), "{path}");
    }
    let own = call(&hookcache, &bound, Method::GET, "/v1/sites/a", None).await.json();
    assert!(own["state"] == "active" && own["queue"].is_null(), "{own}");
    let whole = call(&hookcache, &all, Method::GET, "/v1/sites/b", None).await.json();
    assert!(whole["state"] == "active" && whole["queue"]["dead"].is_u64(), "{whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_page_links_there_are_no_sites_and_it_is_said_how_to_turn_them_on() {
    let hookcache = Hookcache::start(&[], &[]).await;
    failed(&confluence(&hookcache, &["list"]), &["no-such-route", "confluence.enabled"]);
    let letters = ["dead-letters", "list", "--queue", "pages"];
    let listed = run(&letters, &[("HOOKCACHE_ADMIN_URL", hookcache.admin_url().as_str())]);
    failed(&listed, &["no-such-route", "confluence.enabled"]);
}
