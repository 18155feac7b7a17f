//! The same checks at start: what is dangerous is refused, what is risky is logged, what is away is neither.

use std::process::Command;

use super::{FINE, SETTINGS};
use crate::support::client::try_send;
use crate::support::hookcache::PROGRAM;
use crate::support::{DEADLINE, Hookcache, Redis, TempDir, eventually, free_port};

/// `serve` to its end. One that should be refused and isn't is ended, with another exit code.
fn refused(env: &[(&str, &str)]) -> String {
    let folder = TempDir::new().unwrap();
    let data = folder.path().display().to_string();
    let mut command = Command::new("timeout");
    command.arg(DEADLINE.as_secs().to_string()).args([PROGRAM, "serve", "--data-dir", &data]);
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).envs(SETTINGS).envs(env.iter().copied());
    let output = command.output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(folder.path().read_dir().unwrap().next().is_none(), "nothing was opened: {text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dangerous_is_refused_with_the_way_out() {
    let primary = Redis::start_with(&FINE).await;
    let bus = free_port().to_string();
    let node = ["--cluster-enabled", "yes", "--cluster-port", &bus];
    let cluster = Redis::start_with(&[&FINE[..], &node].concat()).await;
    let text = refused(&[("HOOKCACHE_STORE__URL", &cluster.url())]);
    assert!(text.contains("redis-mode") && text.contains("Cluster"), "{text}");

    let unsaved = Redis::start().await;
    let text = refused(&[("HOOKCACHE_STORE__URL", &unsaved.url()), ("HOOKCACHE_STORE__ACKNOWLEDGE", "aof")]);
    assert!(text.contains("redis-persistence") && text.contains("appendonly yes"), "{text}");

    let args = "ACL SETUSER hook on >s3cr3t ~hc:v1:* +@all -evalsha".split(' ').collect::<Vec<_>>();
    assert_eq!(primary.cli(&args), "OK");
    let text = refused(&[("HOOKCACHE_STORE__URL", &format!("redis://hook:s3cr3t@127.0.0.1:{}", primary.port()))]);
    assert!(text.contains("redis-acl") && text.contains("+evalsha") && !text.contains("s3cr3t"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_risky_is_logged_and_starts() {
    let redis = Redis::start_with(&["--save", "", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let url = redis.url();
    let env = [&SETTINGS[..], &[("HOOKCACHE_STORE__URL", &url)]].concat();
    let hookcache = Hookcache::start(&[], &env).await;
    let logged = || async { Some(hookcache.captured().stderr).filter(|log| log.contains("redis-eviction")) };
    let log = eventually("the warning", logged).await;
    let line = log.lines().find(|line| line.contains("redis-eviction")).unwrap();
    assert!(line.contains("WARN") && line.contains("maxmemory-policy noeviction"), "{line}");
    assert!(log.contains("redis-persistence") && !log.contains("redis-role"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_a_replica_for_a_moment_stops_no_start() {
    let primary = Redis::start_with(&FINE).await;
    let redis = Redis::start_with(&FINE).await;
    assert_eq!(redis.cli(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]), "OK");
    let folder = TempDir::new().unwrap();
    let hookcache = Hookcache::spawn(folder.path(), &[], &[("HOOKCACHE_STORE__URL", &redis.url())]);
    let ready = format!("{}/readyz", hookcache.admin_url());
    let status = |status: u16| {
        let ready = &ready;
        move || async move { try_send(http::Method::GET, ready, &[], "").await.ok().filter(|reply| reply.status == status) }
    };
    eventually("not ready", status(503)).await;
    assert!(hookcache.captured().stderr.contains("redis-role"), "{}", hookcache.captured().stderr);
    assert_eq!(redis.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
    eventually("ready", status(200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_starts_on_a_replica() {
    let primary = Redis::start_with(&FINE).await;
    let replica =
        Redis::start_with(&[&FINE[..], &["--replicaof", "127.0.0.1", &primary.port().to_string()]].concat()).await;
    let env = [
        ("HOOKCACHE_STORE__URL", replica.url()),
        ("HOOKCACHE_BUFFER__QUEUE_URL", "http://127.0.0.1:1/0/q".to_owned()),
        ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", "http://127.0.0.1:1/0/d".to_owned()),
    ];
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Hookcache::start(&["--roles", "get"], &env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_redis_delays_a_start_and_does_not_stop_it() {
    let redis = Redis::start_with(&FINE).await;
    redis.pause();
    let folder = TempDir::new().unwrap();
    let hookcache = Hookcache::spawn(folder.path(), &[], &[("HOOKCACHE_STORE__URL", &redis.url())]);
    let ready = format!("{}/readyz", hookcache.admin_url());
    let status = |status: u16| {
        let ready = &ready;
        move || async move {
            let reply = try_send(http::Method::GET, ready, &[], "").await.ok()?;
            (reply.status == status).then_some(())
        }
    };
    eventually("an answer that it is not ready", status(503)).await;
    redis.resume();
    eventually("ready", status(200)).await;
}
