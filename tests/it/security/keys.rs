//! Who may see and purge which entry, and what nobody is told of others'.

use http::Method;
use serde_json::{Value, json};

use super::{call, code, refused, set_of, token};
use crate::support::{Hookcache, Redis, Reply, TempDir, eventually};

fn keys(reply: &Reply) -> Vec<String> {
    let keys = reply.json()["entries"].as_array().cloned().unwrap_or_default();
    let key = |entry: &Value| entry["webhookKey"].as_str().unwrap_or_default().to_owned();
    let mut keys: Vec<String> = keys.iter().map(key).collect();
    keys.sort();
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_sees_and_purges_entries_of_its_accounts_alone() {
    let redis = Redis::start().await;
    for store in [String::new(), format!("[store]\nurl = \"{}\"\n", redis.url())] {
        sees_and_purges_its_own(&store).await;
    }
}

async fn sees_and_purges_its_own(store: &str) {
    let (op, op_lines) = token("op", "set,get,admin", None);
    let (acme, acme_lines) = token("acme", "admin", Some("acme"));
    let (setter, setter_lines) = token("setter", "set,get", Some("acme"));
    let (free, reserved) = (["a", "held/1", "z"], ["theirs-1", "theirs-2"]);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hookcache.toml");
    let lines = [store, &op_lines, &acme_lines, &setter_lines].concat();
    std::fs::write(&file, &lines).unwrap();
    let mut hookcache = Hookcache::start(&["--config", file.to_str().unwrap()], &[]).await;
    let admin = hookcache.admin_url();
    let (all, purge, apply) =
        (format!("{admin}/v1/entries"), format!("{admin}/v1/purge"), format!("{admin}/v1/ttl/apply"));
    for (account, keys) in [("acme", &free[..]), ("globex", &reserved[..])] {
        let set = call(Method::POST, &format!("{}/v1/set", hookcache.url()), &op, &set_of(account, keys, "x")).await;
        assert_eq!(set.status, 202, "{}", set.text());
    }
    let everything = ["a", "held/1", "theirs-1", "theirs-2", "z"];
    eventually("all is stored", || async {
        (keys(&call(Method::GET, &all, &op, "").await) == everything).then_some(())
    })
    .await;

    let seen = call(Method::GET, &all, &acme, "").await;
    assert_eq!(keys(&seen), free);
    // Not even how many there are.
    assert_eq!((seen.json().get("scanned"), seen.json().get("total")), (None, None), "{}", seen.text());
    for prefix in ["theirs", "theirs-1", "t"] {
        let reply = call(Method::GET, &format!("{all}?prefix={prefix}"), &acme, "").await;
        assert_eq!((keys(&reply), &reply.json()["complete"]), (vec![], &json!(true)), "{prefix}");
    }
    let (hidden, absent) = (format!("{all}/theirs-1"), format!("{all}/never-was"));
    let (hidden, absent) = (call(Method::GET, &hidden, &acme, "").await, call(Method::GET, &absent, &acme, "").await);
    assert_eq!((hidden.status, hidden.text()), (absent.status, absent.text()));
    assert_eq!(code(&hidden), refused(404, "not-found"));
    assert_eq!(call(Method::GET, &format!("{all}/a"), &acme, "").await.status, 200);

    // Another account is refused, whether it exists or not; and so is a flow of any account.
    for account in ["globex", "nobody"] {
        let body = json!({"accountId": account}).to_string();
        for reply in [
            call(Method::GET, &format!("{all}?accountId={account}"), &acme, "").await,
            call(Method::POST, &purge, &acme, &body).await,
            call(Method::POST, &apply, &acme, &body).await,
        ] {
            assert_eq!(code(&reply), refused(403, "forbidden-account"));
        }
    }
    assert_eq!(code(&call(Method::POST, &apply, &acme, r#"{"flowId":"f"}"#).await), refused(403, "forbidden-account"));
    for who in [&setter, ""] {
        let denied = if who.is_empty() { refused(401, "token-required") } else { refused(403, "forbidden-scope") };
        for reply in [
            call(Method::GET, &all, who, "").await,
            call(Method::GET, &format!("{all}/a"), who, "").await,
            call(Method::POST, &purge, who, r#"{"accountId":"acme"}"#).await,
            call(Method::POST, &apply, who, r#"{"accountId":"acme"}"#).await,
        ] {
            assert_eq!(code(&reply), denied);
        }
    }
    assert_eq!(keys(&call(Method::GET, &all, &op, "").await), everything, "nothing has changed");

    // A prefix that was reserved to another since then is not for this token; the operator may all.
    std::fs::write(&file, lines + "[keys.reserved]\n\"held/\" = \"account:globex\"\n").unwrap();
    hookcache.kill9();
    hookcache.start_again().await;
    let reply = call(Method::POST, &purge, &acme, r#"{"accountId":"acme"}"#).await.json();
    assert_eq!((&reply["purged"], &reply["reserved"]), (&json!(2), &json!(1)), "{reply}");
    assert_eq!(keys(&call(Method::GET, &all, &op, "").await), ["held/1", "theirs-1", "theirs-2"]);
    let reply = call(Method::POST, &purge, &op, r#"{"accountId":"acme"}"#).await.json();
    assert_eq!((&reply["purged"], &reply["reserved"]), (&json!(1), &json!(0)), "{reply}");
    assert_eq!(keys(&call(Method::GET, &all, &op, "").await), ["theirs-1", "theirs-2"]);
}
