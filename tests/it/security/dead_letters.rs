//! Who may look at which dead letter, and what nobody is told of others'.

use http::Method;
use serde_json::{Value, json};

use super::{call, code, refused, set_of, token};
use crate::support::stack::Stack;
use crate::support::{Reply, eventually};

fn ids(reply: &Reply) -> Vec<String> {
    let letters = reply.json()["letters"].as_array().cloned().unwrap_or_default();
    let id = |letter: &Value| letter["id"].as_str().unwrap_or("unknown").to_owned();
    let mut ids: Vec<String> = letters.iter().map(id).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_sees_redrives_and_drops_dead_letters_of_its_accounts_alone() {
    let stack = Stack::start().await;
    let (op, op_lines) = token("op", "set,get,admin", None);
    let (acme_admin, acme_admin_lines) = token("acme-admin", "admin", Some("acme"));
    let (acme_set, acme_set_lines) = token("acme-set", "set", Some("acme"));
    let (any_set, any_set_lines) = token("any-set", "set", None);
    let (reader, reader_lines) = token("reader", "get", None);
    let toml = [op_lines, acme_admin_lines, acme_set_lines, any_set_lines, reader_lines].concat();
    let hookcache = stack.hookcache(&toml, &[]).await;
    let all = format!("{}/v1/dead-letters", hookcache.admin_url());
    let one = |id: &str| format!("{all}/{id}");

    // From 2001, so too old; of one of them nobody can say whose it is.
    let wire = |id: &str, set: &str| format!(r#"{{"v":1,"id":"{id}","at":1000000000000,"by":"op","set":{set}}}"#);
    let ambiguous = r#"{"accountId":"acme","accountId":"globex"}"#;
    for body in [
        wire("of-acme", &set_of("acme", &["k"], "x")),
        wire("of-globex", &set_of("globex", &["k"], "x")),
        wire("of-nobody", ambiguous),
    ] {
        stack.put(&body).await;
    }
    let everything = ["of-acme", "of-globex", "of-nobody"];
    eventually("three dead letters", || async {
        (ids(&call(Method::GET, &all, &op, "").await) == everything).then_some(())
    })
    .await;

    let seen = call(Method::GET, &all, &acme_admin, "").await;
    assert_eq!(ids(&seen), ["of-acme"]);
    // Not even how many there are.
    assert_eq!((seen.json().get("scanned"), seen.json().get("total")), (None, None), "{}", seen.text());
    let other = call(Method::GET, &format!("{all}?accountId=globex"), &acme_admin, "").await;
    assert_eq!(code(&other), refused(403, "forbidden-account"));
    for (who, visible) in [
        (&op, everything.as_slice()),
        (&acme_admin, &["of-acme"]),
        (&acme_set, &["of-acme"]),
        // It may set every account, but what is nobody's is the operator's.
        (&any_set, &["of-acme", "of-globex"]),
    ] {
        for id in everything {
            let reply = call(Method::GET, &one(id), who, "").await;
            if visible.contains(&id) {
                assert!(reply.status == 200 && reply.json()["body"].as_str().is_some(), "{id}: {}", reply.text());
            } else {
                let absent = call(Method::GET, &one("never-was"), who, "").await;
                assert_eq!((reply.status, reply.text()), (absent.status, absent.text()), "{id}");
                assert_eq!(code(&reply), refused(404, "no-such-dead-letter"));
            }
        }
    }
    assert_eq!(code(&call(Method::GET, &one("of-acme"), &reader, "").await), refused(403, "forbidden-scope"));
    assert_eq!(code(&call(Method::GET, &one("of-acme"), "", "").await), refused(401, "token-required"));
    for who in [&acme_set, &any_set, &reader] {
        assert_eq!(code(&call(Method::GET, &all, who, "").await), refused(403, "forbidden-scope"));
        for act in ["redrive", "drop"] {
            let reply = call(Method::POST, &format!("{all}/{act}"), who, r#"{"all":true}"#).await;
            assert_eq!(code(&reply), refused(403, "forbidden-scope"));
        }
    }

    let by_id = json!({"ids": ["of-globex", "of-nobody"]}).to_string();
    let reply = call(Method::POST, &format!("{all}/drop"), &acme_admin, &by_id).await;
    assert_eq!((&reply.json()["done"], &reply.json()["missing"]), (&json!(0), &json!(["of-globex", "of-nobody"])));
    let reply = call(Method::POST, &format!("{all}/drop"), &acme_admin, r#"{"all":true}"#).await;
    assert_eq!(reply.json()["done"], 1, "all of its own: {}", reply.text());
    assert_eq!(ids(&call(Method::GET, &all, &op, "").await), ["of-globex", "of-nobody"]);
}
