//! Who we are to Redis, and how we know that it is Redis: TLS, ACL users, files, and options that are wrong.

use std::path::Path;

use hookcache::envelope::Clock;
use hookcache::store::Outcome;
use hookcache::store::catalog::{Changed, To};
use hookcache::store::redis::{Mode, OpenError, Options, open};

use super::{cli, halves, options, started, until_read, until_written};
use crate::store_contract::catalog::everything;
use crate::store_contract::{all_unavailable, key, now_ms, put, rules_are_set_loaded_and_unset};
use crate::support::{Certificates, Redis, TempDir, free_port};

/// What the module's documentation asks for, and nothing more.
pub const ACL: &[&str] = &[
    "~hc:v1:*",
    "+get",
    "+set",
    "+getrange",
    "+exists",
    "+unlink",
    "+hgetall",
    "+hset",
    "+hdel",
    "+hexists",
    "+hlen",
    "+eval",
    "+evalsha",
    "+script|load",
    "+ping",
    "+unwatch",
    "+scan",
    "+dbsize",
    "+strlen",
    "+setrange",
    "+persist",
    "+pexpireat",
];

#[tokio::test]
async fn tls_and_an_acl_user_whose_password_changes_while_it_runs() {
    let certificates = Certificates::make();
    let port = free_port();
    let with_tls = certificates.server_options();
    let with_tls: Vec<&str> = with_tls.iter().map(String::as_str).collect();
    let redis = Redis::start_with(&[&["--save", "", "--tls-port", &port.to_string()], &with_tls[..]].concat()).await;
    let user = ["ACL", "SETUSER", "hook", "reset", "on"];
    assert_eq!(cli(&redis, &[&user[..], &[">first"], ACL].concat()).await, "OK");
    let (username_file, password_file) =
        (certificates.write("user", "hook\n"), certificates.write("password", "first\n"));
    let right = Options {
        username_file: Some(username_file),
        password_file: Some(password_file.clone()),
        ca_file: Some(certificates.path("ca.pem")),
        ..options(&format!("rediss://localhost:{port}"))
    };
    let store = halves(&right);
    assert_eq!(store.one(put("acme", 1, &["k"])).await, [Outcome::Written]);
    until_read(&store, "k").await;
    rules_are_set_loaded_and_unset(&store).await;
    assert_eq!(store.one(put("acme", 1, &["walked"])).await, [Outcome::Written]);
    let page = store.catalog().page(&everything(), None, 100, now_ms()).await.expect("it may walk");
    assert_eq!((page.entries.len(), page.next), (2, None));
    assert!(store.catalog().count().await.is_ok_and(|count| count >= 2));
    let seen = store.seen("walked").await.expect("it is there");
    let changes = [To::ExpireAt(None), To::ExpireAt(Some(now_ms() + 60_000)), To::Gone].map(|to| seen.change(to));
    assert_eq!(store.change(&changes).await, [Changed::Rewritten, Changed::Rewritten, Changed::Removed]);
    assert_eq!((store.writer.check().await, store.reader.check().await), (Ok(()), Ok(())));

    // A new password: every connection is cut, as a rotation does in the end.
    assert_eq!(cli(&redis, &[&user[..], &[">second"], ACL].concat()).await, "OK");
    cli(&redis, &["CLIENT", "KILL", "USER", "hook"]).await;
    let results = store.writer.write(&[put("acme", 2, &["k"])], now_ms()).await;
    assert!(all_unavailable(&results), "{results:?}");
    let text = format!("{results:?} {:?}", store.reader.get(&key("k")).await);
    assert!(text.contains("store.url") && !text.contains("first"), "{text}");
    std::fs::write(&password_file, "second\n").expect("it is ours");
    assert_eq!(until_written(&store, 2, "k").await, Outcome::Written);
    until_read(&store, "k").await;

    let untrusted = halves(&Options { ca_file: None, ..right.clone() });
    let results = untrusted.writer.write(&[put("acme", 3, &["k"])], now_ms()).await;
    assert!(all_unavailable(&results), "the public authorities did not sign this: {results:?}");
}

#[tokio::test]
async fn a_user_who_may_not_write_is_told_so_by_name() {
    let (redis, _) = started().await;
    cli(&redis, &["ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+@connection", "+@transaction"]).await;
    let store = halves(&options(&format!("redis://reader:secret@127.0.0.1:{}", redis.port())));
    let results = store.writer.write(&[put("acme", 1, &["k"])], now_ms()).await;
    assert!(all_unavailable(&results), "{results:?}");
    let text = format!("{results:?}");
    assert!(text.contains("the user of store.url lacks a permission") && !text.contains("secret"), "{text}");
    assert_eq!(store.get("k").await, None, "it may read");
}

#[tokio::test]
async fn wrong_options_are_refused_by_the_name_of_their_key() {
    let missing = || Some(Path::new("/nonexistent/file").to_owned());
    let here = options("redis://127.0.0.1:1");
    let junk = TempDir::new().expect("a temporary folder");
    let empty = junk.path().join("empty.pem");
    std::fs::write(&empty, "nothing").expect("it is ours");
    let tls = options("rediss://127.0.0.1:1");
    let of = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
    let cluster = |urls: &[&str]| Options { mode: Mode::Cluster { urls: of(urls) }, ..options("") };
    let sentinel = |username_file, password_file| {
        let (urls, master) = (of(&["redis://:hunter2@127.0.0.1:1"]), "webhooks".to_owned());
        Options { mode: Mode::Sentinel { urls, master, username_file, password_file }, ..options("") }
    };
    let cases = [
        ("store.url", cluster(&[])),
        ("store.url", cluster(&["redis://127.0.0.1:1/2"])),
        ("store.url", cluster(&["redis://127.0.0.1:1", "rediss://127.0.0.1:2"])),
        ("store.url", cluster(&["redis://a:hunter2@127.0.0.1:1", "redis://b:hunter2@127.0.0.1:2"])),
        ("store.sentinel_password_file", sentinel(None, missing())),
        ("store.sentinel_password_file", sentinel(Some(empty.clone()), None)),
        ("store.url", options("http://127.0.0.1")),
        ("store.url", options("redis://")),
        ("store.url", options("redis://user:hunter2@127.0.0.1:notaport")),
        ("store.url", options("rediss://127.0.0.1/#insecure")),
        ("store.password_file", Options { password_file: missing(), ..here.clone() }),
        ("store.username_file", Options { username_file: missing(), ..options("redis://:pw@127.0.0.1:1") }),
        ("store.username_file", Options { username_file: Some(empty.clone()), ..here.clone() }),
        ("store.ca_file", Options { ca_file: missing(), ..tls.clone() }),
        ("store.ca_file", Options { ca_file: Some(empty.clone()), ..tls }),
        ("store.ca_file", Options { ca_file: Some(empty), ..here.clone() }),
        ("store.read_connections", Options { read_connections: 0, ..here.clone() }),
        ("store.write_connections", Options { write_connections: 0, ..here.clone() }),
    ];
    for (name, wrong) in cases {
        let error: OpenError = open(&wrong, Clock::system()).err().unwrap_or_else(|| panic!("{name}: {wrong:?}"));
        let text = error.to_string();
        assert!(text.contains(name) && !text.contains("hunter2"), "{text}");
    }
    assert!(open(&here, Clock::system()).is_ok(), "a Redis that is away is no wrong option");
}
