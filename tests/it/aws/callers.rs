//! Who sent it: what a body can't forge, and what an identity may not.

use std::collections::BTreeMap;

use bytes::Bytes;
use hookcache::auth::token::Token;
use hookcache::envelope::{PoisonCode, wire};
use http::Method;
use serde_json::{Value, json};

use super::door::{StandIn, authorized, signed};
use crate::support::sqs::client;
use crate::support::stack::take_letters;
use crate::support::{Hookcache, Redis, TempDir, eventually, http_send};

const ROLE: &str = "arn:aws:sts::111122223333:assumed-role/upstream";

fn set_of(account: &str, key: &str) -> String {
    json!({"accountId": account, "flowId": "f", "webhookKeys": [key], "data": 1}).to_string()
}

/// The parameters of a form, in order.
fn parameters(form: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8().expect("UTF-8").into_owned()
    };
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (decoded(name), decoded(value)));
    form.split('&').map(|part| pair(part).unwrap_or_else(|| panic!("no parameter: {part:?}"))).collect()
}

/// The wire form that a template makes, whatever the body, and its message group.
fn rendered(door: &StandIn, call: &str, who: &Value, body: &str) -> (Bytes, String) {
    let form = door.form(call, who, body).expect("a form");
    let parameters = parameters(&form);
    let names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Action", "Version", "MessageGroupId", "MessageBody"], "{body}");
    assert_eq!(parameters[0].1, "SendMessage");
    (parameters[3].1.clone().into(), parameters[2].1.clone())
}

/// No model stands before the templates here: what they make holds by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_out_of_its_place_forges_nothing() {
    let door = StandIn::start().await;
    let who = signed(&format!("{ROLE}/s"));
    let now_ms = 0;
    let good = set_of("acme", "k");
    let (body, group) = rendered(&door, "set", &who, &good);
    let envelope = wire::decode(&body, now_ms).expect("a good one");
    assert_eq!((envelope.by.as_str(), group.as_str()), ("arn:aws:sts::111122223333:assumed-role/upstream/s", "acme"));
    assert!(body.ends_with(format!("{good}}}").as_bytes()), "the body is there as it came");
    for tail in [
        r#","at":0"#,
        r#","at":0,"id":"forged","by":"root""#,
        r#","by":"root""#,
        r#","\u0062y":"root""#,
        r#","order":9"#,
        r#","v":1"#,
        r#","set":{}"#,
        r#","delete":{"accountId":"acme","webhookKeys":["k"]}"#,
        r#"}{"v":1"#,
        "}",
        "&MessageBody=x",
        "&Action=DeleteQueue",
        "\n#set($by = \"root\")",
    ] {
        let (body, _) = rendered(&door, "set", &who, &format!("{good}{tail}"));
        let poison = wire::decode(&body, now_ms).expect_err(tail);
        assert!([PoisonCode::NotDecodable, PoisonCode::NotValid].contains(&poison.code), "{tail}: {poison:?}");
    }
    for account in ["acme&MessageBody=x", "acme\" b", "ac%26me", "$util.urlEncode('x')", "#stop", "a\nb", "\u{1F980}"] {
        let (body, group) = rendered(&door, "set", &who, &set_of(account, "k"));
        assert_eq!(group, account);
        assert_eq!(wire::decode(&body, now_ms).expect_err(account).code, PoisonCode::NotValid, "{account}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_is_named_as_aws_knows_it_whatever_its_name_is_made_of() {
    let door = StandIn::start().await;
    let nobody = json!({"identity": {}, "authorizer": {}});
    let empty = json!({"identity": {"userArn": ""}, "authorizer": {"principalId": ""}});
    let both = json!({"identity": {"userArn": ROLE}, "authorizer": {"principalId": "p"}});
    for (who, by) in [
        (signed(ROLE), ROLE),
        (authorized("acme-app"), "authorizer:acme-app"),
        (authorized("o'neil"), "authorizer:o'neil"),
        (authorized(r#""},"by":"root"#), r#"authorizer:"},"by":"root"#),
        (authorized(r"a\b'\'c/d"), r"authorizer:a\b'\'c/d"),
        (authorized("é\u{1F980}&+% $by #end"), "authorizer:é\u{1F980}&+% $by #end"),
        (authorized("source:confluence"), "authorizer:source:confluence"),
        (both, "authorizer:p"),
    ] {
        for (call, body) in
            [("set", set_of("acme", "k").as_str()), ("delete", r#"{"accountId":"acme","webhookKeys":["k"]}"#)]
        {
            let (body, _) = rendered(&door, call, &who, body);
            let envelope = wire::decode(&body, 0).unwrap_or_else(|poison| panic!("{by}: {poison:?}: {body:?}"));
            assert_eq!(envelope.by, by);
        }
    }
    for who in [nobody, empty] {
        let (body, _) = rendered(&door, "set", &who, &set_of("acme", "k"));
        assert_eq!(wire::decode(&body, 0).expect_err("nobody sent it").code, PoisonCode::NotValid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_sets_the_accounts_that_it_is_bound_to_and_no_other() {
    let door = StandIn::start().await;
    let (redis, token, folder) = (Redis::start().await, Token::generate().unwrap(), TempDir::new().unwrap());
    let endpoint_url = door.endpoint_url();
    let path = folder.path().join("hookcache.toml");
    let text = format!(
        "[store]\nurl = \"{}\"\n[buffer]\nqueue_url = \"{}\"\ndead_letter_url = \"{}\"\nendpoint_url = \
         \"{endpoint_url}\"\nwait = \"1s\"\n\
         [[auth.tokens]]\nname = \"app\"\nhash = \"{}\"\nscopes = [\"set\", \"get\"]\n\
         [[auth.callers]]\nname = \"{ROLE}/*\"\naccounts = [\"acme\"]\n\
         [[auth.callers]]\nname = \"authorizer:globex-app\"\naccounts = [\"globex\"]\n",
        redis.url(),
        door.queues.queue_url,
        door.queues.dead_letter_url,
        token.hash(),
    );
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    let hookcache = Hookcache::start(&["--config", &path, "--roles", "consume,get"], &[]).await;

    let session = signed(&format!("{ROLE}/i-0abc"));
    let stored = [(&session, "acme"), (&authorized("globex-app"), "globex")];
    let refused = [
        (&session, "globex", "forbidden-account"),
        (&authorized("globex-app"), "acme", "forbidden-account"),
        // A principal is not the token of that name.
        (&authorized("app"), "acme", "forbidden-account"),
        (&signed("arn:aws:iam::111122223333:user/stranger"), "acme", "forbidden-account"),
        (&json!({"identity": {}, "authorizer": {}}), "acme", "not-valid"),
    ];
    let mut reasons = BTreeMap::new();
    for (i, (who, account, reason)) in refused.into_iter().enumerate() {
        let answer =
            door.post("set", who, Some("application/json"), set_of(account, &format!("no {i}")).as_bytes()).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        reasons.insert(answer.json()["id"].as_str().unwrap().to_owned(), reason);
    }
    for (who, account) in stored {
        let answer = door.post("set", who, Some("application/json"), set_of(account, account).as_bytes()).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let (url, bearer) = (format!("{}/v1/keys/{account}", hookcache.url()), format!("Bearer {}", token.reveal()));
        let reply = eventually(account, || async {
            let reply = http_send(Method::GET, &url, &[("authorization", &bearer)], "").await;
            (reply.status == 200).then_some(reply)
        })
        .await;
        assert_eq!((reply.header("hookcache-id"), reply.header("hookcache-account-id")), (id.as_str(), account));
    }
    let letters = take_letters(&client(&endpoint_url), &door.queues.dead_letter_url, reasons.len()).await;
    for letter in letters {
        let body: Value = serde_json::from_str(&letter.body).expect("a wire form");
        let id = body["id"].as_str().expect("an id");
        assert_eq!(Some(&letter.reason()), reasons.get(id), "{letter:?}");
        let named = body["by"].as_str().unwrap_or_default();
        assert!(letter.reason() != "forbidden-account" || letter.detail().contains(named), "{letter:?}");
    }
}
