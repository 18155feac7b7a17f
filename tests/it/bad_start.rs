//! What the program says when it can't start, or can't work yet: who must act, and by which key or flag.

mod disk;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::client::try_send;
use crate::support::hookcache::{PROGRAM, run};
use crate::support::stack::series;
use crate::support::{DEADLINE, Hookcache, Ministack, Redis, TempDir, eventually, free_port, http_get, http_post};

/// `serve` on free ports, to its end. A start that should be refused and isn't is ended, with another exit code.
fn serve(data: &Path, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let data = data.display().to_string();
    let fixed = ["serve", "--data-dir", &data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    // Of two flags of one name the command line is refused, so those of the test take the place of ours.
    let mut all: Vec<&str> = fixed.to_vec();
    for pair in args.chunks(2) {
        all.iter().position(|flag| *flag == pair[0]).into_iter().for_each(|at| drop(all.drain(at..at + 2)));
    }
    let mut command = ending(PROGRAM);
    command.args(&all).args(args).envs(env.iter().copied());
    told(&command.output().expect("the program starts"))
}

/// A command that is ended, and so fails its test, where it would run on.
fn ending(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg(DEADLINE.as_secs().to_string()).arg(program).stdin(Stdio::null());
    command
}

fn told(ended: &Output) -> (Option<i32>, String) {
    (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

/// Refused, in words that hold all of these, and without a backtrace or a Rust value in them.
fn is_refused((code, text): (Option<i32>, String), words: &[&str]) {
    assert_eq!(code, Some(1), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    for unfit in ["panicked", "Error {", "Some(", "Err("] {
        assert!(!text.contains(unfit), "{text}");
    }
}

fn is_empty(folder: &Path) -> bool {
    folder.read_dir().expect("it is ours").next().is_none()
}

#[test]
fn a_wrong_configuration_file_is_refused_with_the_key_and_what_is_allowed() {
    let (folder, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let path = folder.path().join("hookcache.toml");
    let cases: [(&str, &[&str]); 10] = [
        ("[store]\nurll = \"redis://127.0.0.1\"", &["store.urll", "unknown key", "store.url?"]),
        ("lisen = \"127.0.0.1:1\"", &["lisen", "unknown key", "did you mean listen?"]),
        ("[buffers]\nwait = \"1s\"", &["buffers.wait", "buffer.wait"]),
        ("[buffer]\nvisibility = \"5 parsecs\"", &["buffer.visibility", "5 parsecs", "5s to 12h"]),
        ("[buffer]\nvisibility = 60", &["buffer.visibility", "60"]),
        ("[consumer]\npollers = 0", &["consumer.pollers", "1 to 64"]),
        (
            "[consumer]\npollers = 2\nattempts_max = -1\n[get]\nmax_age_seconds = \"x\"",
            &["consumer.attempts_max", "get.max_age_seconds"],
        ),
        ("roles = [\"sett\"]", &["roles", "sett", "consume"]),
        ("a = 1\n[store\nurl = \"s3cr3t\"", &["hookcache.toml", "line 2"]),
        ("[buffer]\nqueue_url = \"http://127.0.0.1:1/q\"", &["buffer.dead_letter_url"]),
    ];
    for (toml, words) in cases {
        std::fs::write(&path, toml).unwrap();
        let file = path.display().to_string();
        for ended in
            [serve(data.path(), &["--config", &file], &[]), told(&run(&["config", "check", "--config", &file], &[]))]
        {
            assert!(!ended.1.contains("s3cr3t"), "{}", ended.1);
            is_refused(ended, words);
        }
    }
    let missing = folder.path().join("missing.toml").display().to_string();
    is_refused(serve(data.path(), &["--config", &missing], &[]), &["missing.toml", "can't be read"]);
    assert!(is_empty(data.path()), "nothing was opened");
}

#[test]
fn a_wrong_variable_of_the_environment_is_refused_by_its_name() {
    let data = TempDir::new().unwrap();
    let cases: [(&str, &str, &[&str]); 5] = [
        ("HOOKCACHE_STORE__URLL", "redis://127.0.0.1", &["HOOKCACHE_STORE__URLL", "store.urll", "store.url?"]),
        ("HOOKCACHE_STOR__URL", "redis://127.0.0.1", &["HOOKCACHE_STOR__URL", "store.url?"]),
        ("HOOKCACHE_BUFFER__WAIT", "soon", &["HOOKCACHE_BUFFER__WAIT", "buffer.wait", "soon", "1s to 20s"]),
        ("HOOKCACHE_AUTH__TOKENS", "s3cr3t", &["HOOKCACHE_AUTH__TOKENS", "auth.tokens", "configuration file only"]),
        ("HOOKCACHE_STORE__URL", "postgres://u:s3cr3t@h", &["HOOKCACHE_STORE__URL", "store.url", "redis://"]),
    ];
    for (name, value, words) in cases {
        let ended = serve(data.path(), &[], &[(name, value)]);
        assert!(!ended.1.contains("s3cr3t"), "{}", ended.1);
        is_refused(ended, words);
    }
    assert!(is_empty(data.path()), "nothing was opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_told_with_the_flag_that_chooses_another_and_nothing_is_opened() {
    let data = TempDir::new().unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin-listen"] {
        let ended = serve(data.path(), &[flag, &address], &[]);
        is_refused(ended, &[flag, &address, &flag[2..].replace('-', "_")]);
    }
    assert!(is_empty(data.path()), "nothing was opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_does_not_exist_is_refused_by_its_key() {
    let (data, sqs) = (TempDir::new().unwrap(), Ministack::start().await);
    let (queues, endpoint) = (sqs.queues("there").await, sqs.endpoint_url());
    let nowhere = format!("{}-not", queues.queue_url);
    let pairs = [
        ("buffer.queue_url", &nowhere, &queues.dead_letter_url),
        ("buffer.dead_letter_url", &queues.queue_url, &nowhere),
    ];
    for (key, queue_url, dead_letter_url) in pairs {
        let env = [
            ("HOOKCACHE_BUFFER__QUEUE_URL", queue_url.as_str()),
            ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", dead_letter_url),
            ("HOOKCACHE_BUFFER__ENDPOINT_URL", &endpoint),
        ];
        is_refused(serve(data.path(), &[], &env), &[key, &nowhere, "no queue"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_it_starts_says_why_it_is_not_ready_and_becomes_ready_with_redis() {
    let mut redis = Redis::start().await;
    redis.stop();
    let folder = TempDir::new().unwrap();
    let hookcache = Hookcache::spawn(folder.path(), &[], &[("HOOKCACHE_STORE__URL", &redis.url())]);
    let ready = format!("{}/readyz", hookcache.admin_url());
    let told = eventually("an answer that says why", || async {
        let reply = try_send(http::Method::GET, &ready, &[], "").await.ok()?;
        (reply.status == 503).then(|| reply.text())
    })
    .await;
    assert!(told.contains("get") && told.contains("consume") && told.contains("store.url"), "{told}");
    assert!(!told.contains("set:"), "the buffer is there: {told}");
    let is_ready =
        async || series(&http_get(&format!("{}/metrics", hookcache.admin_url())).await.text(), "hookcache_ready");
    assert_eq!(is_ready().await, Some(0.0));
    // A set is safe all the same, and a get is no miss.
    let body = r#"{"accountId":"a","flowId":"f","webhookKeys":["k"],"data":"kept"}"#;
    assert_eq!(http_post(&format!("{}/v1/set", hookcache.url()), body).await.status, 202);
    let key = format!("{}/v1/keys/k", hookcache.url());
    assert_eq!(http_get(&key).await.status, 503);

    redis.start_again().await;
    eventually("ready", || async { (http_get(&ready).await.status == 200).then_some(()) }).await;
    assert_eq!(is_ready().await, Some(1.0));
    let read = || async { Some(http_get(&key).await).filter(|reply| reply.text() == "\"kept\"") };
    eventually("what was set before is readable", read).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sqs_it_starts_and_a_set_is_503_until_sqs_is_there() {
    let folder = TempDir::new().unwrap();
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let (queue, dead) = (format!("{endpoint}/000000000000/q"), format!("{endpoint}/000000000000/q-dead"));
    let env = [
        ("HOOKCACHE_BUFFER__QUEUE_URL", queue.as_str()),
        ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", &dead),
        ("HOOKCACHE_BUFFER__ENDPOINT_URL", &endpoint),
    ];
    let hookcache = Hookcache::spawn(folder.path(), &[], &env);
    let ready = format!("{}/readyz", hookcache.admin_url());
    let told = eventually("an answer that says why", || async {
        let reply = try_send(http::Method::GET, &ready, &[], "").await.ok()?;
        (reply.status == 503).then(|| reply.text())
    })
    .await;
    assert!(told.contains("set: ") && told.contains("consume: ") && told.contains("buffer.queue_url"), "{told}");
    let body = r#"{"accountId":"a","flowId":"f","webhookKeys":["k"],"data":1}"#;
    let reply = http_post(&format!("{}/v1/set", hookcache.url()), body).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (503, &"buffer-unavailable".into()));
    assert!(!reply.header("retry-after").is_empty());
}
