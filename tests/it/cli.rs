//! The command line, as a person types it: the real program against a real server.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::support::hookcache::{PROGRAM, run};
use crate::support::stack::until_series;
use crate::support::{Hookcache, Redis, TempDir, eventually, free_port};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A command line against a server, with what it reads from standard input.
struct Line {
    env: Vec<(String, String)>,
}

impl Line {
    fn of(hookcache: &Hookcache) -> Self {
        let env = [("HOOKCACHE_URL", hookcache.url()), ("HOOKCACHE_ADMIN_URL", hookcache.admin_url())];
        Self { env: env.map(|(name, value)| (name.to_owned(), value)).to_vec() }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn run(&self, args: &[&str]) -> Output {
        let env: Vec<_> = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        run(args, &env)
    }

    fn fed(&self, args: &[&str], input: &str) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(args).envs(self.env.clone()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        // A program that does not read to the end has closed its side, which is its right.
        let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends")
    }

    /// What it printed, where it must succeed.
    fn prints(&self, args: &[&str]) -> String {
        done(&self.run(args))
    }

    async fn until_got(&self, key: &str) -> Output {
        eventually(&format!("{key} is there"), || async {
            Some(self.run(&["get", "--meta", key])).filter(|output| output.status.success())
        })
        .await
    }
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Failed with that code, in words that hold these.
fn failed(output: &Output, code: i32, words: &[&str]) {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    for word in words {
        assert!(told.contains(word), "{word:?} is not in: {told}");
    }
}

const NAMES: [&str; 5] = ["set", "--account", "acme", "--flow", "orders"];

fn set_args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&NAMES[..], more].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_is_set_from_an_argument_a_file_and_standard_input_byte_for_byte() {
    let hookcache = Hookcache::start(&[], &[]).await;
    let line = Line::of(&hookcache);
    let payload = "{\"b\" : 1.0,\n \"a\":[1e400, \"\\u00e9\", \"é\"]}";
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("payload.json");
    std::fs::write(&file, payload).unwrap();
    let file = file.display().to_string();
    let answers = [
        line.run(&set_args(&["--key", "argument", "--key", "a b/c%2F", "--data", payload])),
        line.run(&set_args(&["--key", "file", "--ttl", "1h", &file])),
        line.fed(&set_args(&["--key", "stdin", "-"]), payload),
    ];
    for answer in &answers {
        let answer: Value = serde_json::from_str(&done(answer)).expect("the server's answer");
        assert!(answer["id"].is_string() && answer["messageId"].is_string(), "{answer}");
    }
    for (key, answer) in [("argument", 0), ("a b/c%2F", 0), ("file", 1), ("stdin", 2)] {
        let got = line.until_got(key).await;
        assert_eq!(text(&got.stdout), payload, "{key}");
        let meta: Value = serde_json::from_slice(&got.stderr).expect("one line of JSON");
        let set: Value = serde_json::from_slice(&answers[answer].stdout).unwrap();
        assert_eq!((&meta["id"], &meta["accountId"], &meta["flowId"]), (&set["id"], &"acme".into(), &"orders".into()));
        assert!(meta["eTag"].is_string() && meta["expiresAt"].is_string(), "{meta}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_deletes_carry_their_own_order() {
    let hookcache = Hookcache::start(&[], &[]).await;
    let line = Line::of(&hookcache);
    let now = SystemTime::now();
    let with_event = |args: &[&str], age: Duration| {
        let (id, time) = (format!("{age:?}"), humantime::format_rfc3339_millis(now - age).to_string());
        done(&line.run(&[args, &["--event-id", &id, "--event-time", &time]].concat()))
    };
    with_event(&set_args(&["--key", "k", "--data", "\"new\""]), Duration::from_secs(60));
    line.until_got("k").await;
    with_event(&["delete", "--account", "acme", "k"], Duration::from_secs(120));
    until_series(&hookcache, r#"hookcache_consumer_outcomes_total{outcome="superseded"}"#, 1.0).await;
    assert_eq!(text(&line.run(&["get", "k"]).stdout), "\"new\"", "an older delete does nothing");
    line.prints(&["delete", "--account", "acme", "k", "never-there"]);
    eventually("it is gone", || async { (line.run(&["get", "k"]).status.code() == Some(3)).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_waits_until_something_is_set_or_its_time_is_over() {
    let hookcache = Hookcache::start(&[], &[]).await;
    let line = Line::of(&hookcache);
    let begin = Instant::now();
    failed(&line.run(&["get", "--wait", "1500ms", "k"]), 3, &["nothing is stored"]);
    assert!(begin.elapsed() >= Duration::from_millis(1_500));
    failed(&line.run(&["get", "--wait", "soon", "k"]), 2, &["--wait"]);
    let other = Line::of(&hookcache);
    let waiting = tokio::task::spawn_blocking(move || other.run(&["get", "--wait", "5m", "k"]));
    until_series(&hookcache, "hookcache_gets_held", 1.0).await;
    done(&line.run(&set_args(&["--key", "k", "--data", "\"here\""])));
    assert_eq!(done(&waiting.await.unwrap()), "\"here\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_absence_failure_and_wrong_use_apart() {
    let hookcache = Hookcache::start(&[], &[]).await;
    let line = Line::of(&hookcache);
    failed(&line.run(&["get", "nothing"]), 3, &["nothing is stored"]);
    // A control plane knows no keys: that is no word on the key.
    failed(&line.run(&["get", "nothing", "--url", &hookcache.admin_url()]), 1, &["no-such-route"]);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    failed(&line.run(&["get", "k", "--url", &nobody]), 1, &["no answer from", "hookcache serve", "HOOKCACHE_URL"]);
    failed(&line.run(&["ttl", "show", "--admin-url", &nobody]), 1, &["no answer from", "HOOKCACHE_ADMIN_URL"]);
    failed(&line.run(&set_args(&["--key", "k", "--data", "{\"s3cr3t\":"])), 1, &["the payload is not JSON at line 1"]);
    failed(&line.run(&set_args(&["--key", "k", "/no/such/file"])), 1, &["/no/such/file", "can't be read"]);
    failed(&line.run(&set_args(&["--key", "", "--data", "1"])), 1, &["invalid-request", "/webhookKeys/0"]);
    failed(&line.run(&set_args(&["--key", "k", "--ttl", "never", "--data", "1"])), 1, &["--ttl"]);
    for wrong in [
        &["get"][..],
        &["gett", "k"],
        &set_args(&["--key", "k"]),
        &set_args(&["--data", "1"]),
        &set_args(&["--key", "k", "--data", "1", "--event-id", "e"]),
        &["set", "--account", "acme", "--key", "k", "--data", "1"],
        &["ttl", "set", "1h"],
        &["ttl", "set", "--account", "acme", "soon"],
        &["ttl", "set", "--account", "a b", "1h"],
        &["ttl", "apply", "--dry-run"],
        &["keys", "purge", "--yes"],
        &["keys", "purge", "--account", "acme"],
        &["keys", "purge", "--account", "acme", "--yes", "--dry-run"],
        &["keys", "list", "--flow", "a b"],
        &["token", "create", "--name", "n", "--scopes", "everything"],
        &["token", "create", "--name", "n n", "--scopes", "get"],
    ] {
        failed(&line.run(wrong), 2, &["error: "]);
    }
    for help in [&["--help"][..], &["set", "--help"], &["ttl", "import", "--help"], &["serve", "--help"]] {
        assert!(done(&line.run(help)).contains("Examples:"), "{help:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_rules_are_shown_set_explained_and_unset() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hookcache.toml");
    std::fs::write(&file, "[ttl]\nallow_never = [\"acme/*\"]\n[[ttl.rules]]\naccount = \"fixed\"\nttl = \"2h\"\n")
        .unwrap();
    let hookcache = Hookcache::start(&["--config", &file.display().to_string()], &[]).await;
    let line = Line::of(&hookcache);
    assert!(line.prints(&["ttl", "show"]).starts_with("default 7d"));
    line.prints(&["ttl", "set", "--account", "acme", "1h"]);
    line.prints(&["ttl", "set", "--account", "acme", "--flow", "orders", "never"]);
    line.prints(&["ttl", "set", "--flow", "orders", "90s"]);
    failed(&line.run(&["ttl", "set", "--account", "other", "never"]), 1, &["ttl.allow_never"]);
    let shown = line.prints(&["ttl", "show"]);
    let row = |account: &str, flow: &str| {
        let found = shown.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        let found = found.into_iter().find(|row| row.starts_with(&[account, flow]));
        found.unwrap_or_else(|| panic!("{account} {flow} in {shown}")).join(" ")
    };
    assert!(row("acme", "*").contains("1h while running") && row("acme", "orders").contains("never while running"));
    assert!(row("*", "orders").contains("while running") && row("fixed", "*").contains("2h in the configuration"));
    let json: Value = serde_json::from_str(&line.prints(&["ttl", "show", "--json"])).unwrap();
    assert_eq!(json["rules"].as_array().map(Vec::len), Some(4), "{json}");

    let explained = line.prints(&["ttl", "explain", "--account", "acme", "--flow", "orders", "--request", "60s"]);
    assert!(explained.contains(": 1m after"), "a request's own comes first: {explained}");
    let explained = line.prints(&["ttl", "explain", "--account", "acme", "--flow", "orders"]);
    assert!(explained.lines().next().is_some_and(|line| line.contains("never")), "{explained}");
    assert!(line.prints(&["ttl", "unset", "--account", "acme", "--flow", "orders"]).contains("removed"));
    assert!(line.prints(&["ttl", "unset", "--account", "acme", "--flow", "orders"]).contains("there was no rule"));
    let explained = line.prints(&["ttl", "explain", "--account", "acme", "--flow", "orders"]);
    assert!(explained.contains(": 1h after"), "the next narrowest wins: {explained}");
    // What is set holds for what is stored from then on.
    line.prints(&set_args(&["--key", "k", "--data", "1"]));
    line.until_got("k").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_a_file_that_an_import_makes_true_elsewhere() {
    let (one, other) = (Hookcache::start(&[], &[]).await, Hookcache::start(&[], &[]).await);
    let (one, other) = (Line::of(&one), Line::of(&other));
    one.prints(&["ttl", "set", "--account", "acme", "1h"]);
    one.prints(&["ttl", "set", "--account", "acme", "--flow", "orders", "90s"]);
    one.prints(&["ttl", "set", "--flow", "orders", "2d"]);
    other.prints(&["ttl", "set", "--account", "acme", "5m"]);
    other.prints(&["ttl", "set", "--account", "gone", "5m"]);
    let exported = one.prints(&["ttl", "export"]);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rules.toml");
    std::fs::write(&file, &exported).unwrap();
    let file = file.display().to_string();

    let before = other.prints(&["ttl", "export"]);
    let planned = other.prints(&["ttl", "import", "--dry-run", &file]);
    assert!(planned.contains("2 added, 1 changed, 1 removed") && planned.contains("nothing was changed"), "{planned}");
    assert_eq!(other.prints(&["ttl", "export"]), before);
    assert!(other.prints(&["ttl", "import", &file]).contains("2 added, 1 changed, 1 removed"));
    assert_eq!(other.prints(&["ttl", "export"]), exported);
    assert!(done(&other.fed(&["ttl", "import", "-"], &exported)).contains("0 added, 0 changed, 0 removed"));

    // A failed export, or a wrong file, changes nothing.
    for (text, words) in [
        ("", &["no rules"][..]),
        ("[[rules]]\naccount = \"a\"", &["rules[0]", "ttl"]),
        ("[[rule]]\n", &["unknown key"]),
        ("rules = [", &["TOML"]),
    ] {
        failed(&other.fed(&["ttl", "import", "-"], text), 1, words);
    }
    assert_eq!(other.prints(&["ttl", "export"]), exported);
    assert!(done(&other.fed(&["ttl", "import", "-"], "rules = []")).contains("3 removed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_created_and_pasted_works_and_is_recognised() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hookcache.toml");
    let created = run(&["token", "create", "--name", "upstream", "--scopes", "set,get", "--accounts", "acme"], &[]);
    let token = done(&created).trim().to_owned();
    assert!(!text(&created.stderr).contains(&token), "the lines for the file hold the hash alone");
    std::fs::write(&file, &created.stderr).unwrap();
    let path = file.display().to_string();
    let hookcache = Hookcache::start(&["--config", &path], &[]).await;
    assert!(hookcache.captured().stdout.contains("Authorization: Bearer $HOOKCACHE_TOKEN"), "the banner tells of it");

    let (with, without) = (Line::of(&hookcache).with("HOOKCACHE_TOKEN", &token), Line::of(&hookcache));
    with.prints(&set_args(&["--key", "k", "--data", "1"]));
    assert_eq!(text(&with.until_got("k").await.stdout), "1");
    failed(&without.run(&["get", "k"]), 1, &["token-required", "HOOKCACHE_TOKEN"]);
    let other = Line::of(&hookcache).with("HOOKCACHE_TOKEN", "hc_wrong");
    failed(&other.run(&["get", "k"]), 1, &["token-unknown"]);
    failed(&with.run(&["ttl", "show"]), 1, &["forbidden-scope", "admin"]);
    let foreign = ["set", "--account", "globex", "--flow", "f", "--key", "k", "--data", "1"];
    failed(&with.run(&foreign), 1, &["forbidden-account", "/accountId"]);

    let check = ["token", "check", "--config", &path];
    let told = done(&without.fed(&check, &format!("{token}\n")));
    assert!(told.contains("upstream") && told.contains("set, get") && told.contains("acme"), "{told}");
    assert_eq!(told, with.prints(&check));
    let unknown = done(&run(&["token", "create", "--name", "x", "--scopes", "get"], &[]));
    let ended = without.fed(&check, &unknown);
    failed(&ended, 1, &["this is none of them"]);
    assert!(!text(&ended.stderr).contains(unknown.trim()));
}

#[test]
fn the_printed_configuration_shows_each_value_and_where_it_came_from() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hookcache.toml");
    std::fs::write(&file, "[consumer]\npollers = 3\n[buffer]\nwait = \"2s\"\n[get]\nmax_age_seconds = 5\n").unwrap();
    let path = file.display().to_string();
    let env = [("HOOKCACHE_BUFFER__WAIT", "3s"), ("HOOKCACHE_LISTEN", "127.0.0.1:1")];
    let printed = done(&run(&["config", "print", "--config", &path, "--listen", "127.0.0.1:2"], &env));
    let line = |key: &str| {
        let found = printed.lines().find(|line| line.starts_with(&format!("{key} = ")));
        found.unwrap_or_else(|| panic!("{key} in {printed}"))
    };
    let of_file = format!("# file {path}");
    for (key, value, source) in [
        ("consumer.pollers", "3", of_file.as_str()),
        ("get.max_age_seconds", "5", &of_file),
        ("buffer.wait", "\"3s\"", "# environment HOOKCACHE_BUFFER__WAIT"),
        ("listen", "\"127.0.0.1:2\"", "# flag --listen"),
        ("store.url", "\"\"", "# default"),
    ] {
        assert!(line(key).starts_with(&format!("{key} = {value}")) && line(key).ends_with(source), "{}", line(key));
    }
    let checked = done(&run(&["config", "check", "--config", &path], &env));
    assert!(checked.contains("the configuration is right") && checked.contains(&path), "{checked}");
    // The file can be named by the environment as well.
    let of_env = [("HOOKCACHE_CONFIG", path.as_str())];
    assert!(done(&run(&["config", "print"], &of_env)).contains(&of_file));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_tells_what_lives_from_what_is_ready() {
    let redis = Redis::start().await;
    let url = redis.url();
    let hookcache = Hookcache::start(&["--roles", "get"], &[("HOOKCACHE_STORE__URL", &url)]).await;
    let line = Line::of(&hookcache);
    assert_eq!(line.prints(&["healthcheck"]) + &line.prints(&["healthcheck", "--ready"]), "");
    drop(redis);
    eventually("it is not ready", || async { (!line.run(&["healthcheck", "--ready"]).status.success()).then_some(()) })
        .await;
    failed(&line.run(&["healthcheck", "--ready"]), 1, &["/readyz says 503", "store.url"]);
    assert_eq!(line.prints(&["healthcheck"]), "", "it lives all the same");

    let nobody = format!("http://127.0.0.1:{}", free_port());
    failed(&line.run(&["healthcheck", "--admin-url", &nobody]), 1, &["no answer from", "--admin-url"]);
    failed(&line.run(&["healthcheck", "--admin-url", "localhost"]), 1, &["--admin-url"]);
}
