//! Tokens, passwords and payloads show nowhere but where they belong.

use http::Method;

use super::{call, set_of, token};
use crate::support::hookcache::run;
use crate::support::{Hookcache, Redis, TempDir, eventually, http_get};

const PASSWORD: &str = "pa55word-of-redis";
const PAYLOAD: &str = "pay10ad-of-a-user";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_in_output_logs_metrics_answers_or_the_printed_configuration() {
    let redis = Redis::start_with(&["--save", "", "--requirepass", PASSWORD]).await;
    let url = format!("redis://default:{PASSWORD}@127.0.0.1:{}", redis.port());
    let (token, lines) = token("op", "set,get,admin", None);
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("hookcache.toml");
    std::fs::write(&path, format!("{lines}[store]\nurl = \"{url}\"\n[log]\nlevel = \"trace\"\n")).expect("it is ours");
    let file = path.display().to_string();
    let hookcache = Hookcache::start(&["--config", &file], &[]).await;
    let mut shown = vec![];

    let (set, key) = (format!("{}/v1/set", hookcache.url()), format!("{}/v1/keys/k", hookcache.url()));
    assert_eq!(call(Method::POST, &set, &token, &set_of("a", &["k"], PAYLOAD)).await.status, 202);
    eventually("k is readable", || async { (call(Method::GET, &key, &token, "").await.status == 200).then_some(()) })
        .await;
    // Everything that goes wrong may be tempted to tell why.
    shown.push(call(Method::POST, &set, &token, &set_of("a!", &["k"], PAYLOAD)).await.text());
    shown.push(call(Method::POST, &set, &token, &format!("{{\"data\":\"{PAYLOAD}")).await.text());
    shown.push(call(Method::GET, &key, &format!("{token}x"), "").await.text());
    redis.pause();
    // One that is not remembered.
    shown.push(call(Method::GET, &format!("{key}-of-nobody"), &token, "").await.text());
    assert_eq!(call(Method::POST, &set, &token, &set_of("a", &["k"], PAYLOAD)).await.status, 202);
    let ready = format!("{}/readyz", hookcache.admin_url());
    let not_ready =
        eventually("not ready", || async { Some(http_get(&ready).await).filter(|reply| reply.status == 503) }).await;
    shown.push(not_ready.text());
    std::fs::write(&path, format!("[store]\nurl = \"{url}\"\nbroken = \"{token}\n")).expect("it is ours");
    eventually("the log tells of the file", || async {
        hookcache.captured().stderr.contains("not reloaded").then_some(())
    })
    .await;
    redis.resume();
    shown.push(http_get(&format!("{}/metrics", hookcache.admin_url())).await.text());
    let written = hookcache.captured();
    assert!(written.stderr.contains("accepted"), "{}", written.stderr);
    shown.extend([written.stdout, written.stderr]);

    let whole = format!("{lines}[store]\nurl = \"{url}\"\n");
    let wrong_port = whole.replace("@127.0.0.1:", "@127.0.0.1:99999");
    let wrong_scheme = whole.replace("redis://", "http://");
    for (toml, right) in [(whole.clone(), true), (wrong_port, false), (wrong_scheme, false)] {
        std::fs::write(&path, toml).expect("it is ours");
        for command in ["check", "print"] {
            let ended = run(&["config", command, "--config", &file], &[]);
            assert_eq!(ended.status.success(), right, "{ended:?}");
            shown.extend([ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()));
        }
    }
    let hash = lines.split("hash = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a hash");
    let hash = hash.rsplit(':').next().expect("its digits");
    for text in &shown {
        for secret in [PASSWORD, PAYLOAD, &token, hash] {
            assert!(!text.contains(secret), "{secret} shows in: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_redis_refuses_is_told_by_its_key_and_not_shown() {
    let redis = Redis::start_with(&["--save", "", "--requirepass", "right"]).await;
    let url = format!("redis://default:{PASSWORD}@127.0.0.1:{}", redis.port());
    let folder = TempDir::new().expect("a temporary folder");
    let hookcache = Hookcache::spawn(folder.path(), &[], &[("HOOKCACHE_STORE__URL", &url)]);
    let ready = format!("{}/readyz", hookcache.admin_url());
    let told = eventually("not ready", || async {
        let reply = crate::support::client::try_send(Method::GET, &ready, &[], "").await.ok()?;
        Some(reply.text()).filter(|_| reply.status == 503)
    })
    .await;
    assert!(told.contains("store.url") && !told.contains(PASSWORD), "{told}");
    let written = hookcache.captured();
    assert!(!written.stderr.contains(PASSWORD) && !written.stdout.contains(PASSWORD), "{written:#?}");
}
