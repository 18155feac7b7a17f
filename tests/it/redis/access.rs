//! Who we are to Redis, and how we know that it is Redis: TLS, ACL users, files, and options that are wrong.

use std::path::{Path, PathBuf};
use std::process::Command;

use hookcache::store::Outcome;
use hookcache::store::catalog::{Changed, To};
use hookcache::store::redis::{OpenError, Options, open};

use super::{cli, halves, options, started, until_read, until_written};
use crate::store_contract::catalog::everything;
use crate::store_contract::{all_unavailable, key, now_ms, put, rules_are_set_loaded_and_unset};
use crate::support::{Redis, TempDir, free_port};

struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// An authority, and a certificate for 127.0.0.1 and localhost.
    fn make() -> Self {
        let this = Self { folder: TempDir::new().expect("a temporary folder") };
        std::fs::write(this.path("ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").expect("it is ours");
        let (ca, ca_key, key) = (this.text("ca.pem"), this.text("ca.key"), this.text("server.key"));
        let (request, ext, server) = (this.text("server.csr"), this.text("ext"), this.text("server.pem"));
        let new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        this.openssl(
            &[&new[..], &["-x509", "-days", "2", "-subj", "/CN=test-ca", "-keyout", &ca_key, "-out", &ca]].concat(),
        );
        this.openssl(&[&new[..], &["-subj", "/CN=127.0.0.1", "-keyout", &key, "-out", &request]].concat());
        let sign = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-days", "2"];
        this.openssl(&[&sign[..], &["-extfile", &ext, "-out", &server]].concat());
        this
    }

    fn openssl(&self, args: &[&str]) {
        let output = Command::new("openssl").args(args).output().expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

#[tokio::test]
async fn tls_and_an_acl_user_whose_password_changes_while_it_runs() {
    let certificates = Certificates::make();
    let port = free_port();
    let redis = Redis::start_with(&[
        "--save",
        "",
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &certificates.text("server.pem"),
        "--tls-key-file",
        &certificates.text("server.key"),
        "--tls-ca-cert-file",
        &certificates.text("ca.pem"),
        "--tls-auth-clients",
        "no",
    ])
    .await;
    // What the module's documentation asks for, and nothing more.
    let may: Vec<&str> = "~hc:v1:* +get +set +getrange +exists +unlink +hgetall +hset +hdel +hexists +hlen \
        +eval +evalsha +script|load +ping +unwatch +scan +dbsize +strlen +setrange +persist +pexpireat"
        .split(' ')
        .collect();
    let user = ["ACL", "SETUSER", "hook", "reset", "on"];
    assert_eq!(cli(&redis, &[&user[..], &[">first"], &may[..]].concat()).await, "OK");
    let (username_file, password_file) = (certificates.path("user"), certificates.path("password"));
    std::fs::write(&username_file, "hook\n").expect("it is ours");
    std::fs::write(&password_file, "first\n").expect("it is ours");
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
    assert_eq!(cli(&redis, &[&user[..], &[">second"], &may[..]].concat()).await, "OK");
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
    let cases = [
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
        let error: OpenError = open(&wrong).err().unwrap_or_else(|| panic!("{name}: {wrong:?}"));
        let text = error.to_string();
        assert!(text.contains(name) && !text.contains("hunter2"), "{text}");
    }
    assert!(open(&here).is_ok(), "a Redis that is away is no wrong option");
}
