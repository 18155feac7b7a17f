//! `hookcache doctor`, and the same checks at start, against real Redis and both SQS emulators.

mod modes;
mod queues;
mod start;

use serde_json::Value;

use crate::support::client::try_send;
use crate::support::hookcache::{PROGRAM, run};
use crate::support::{Hookcache, Redis, TempDir, eventually, free_port};

/// Redis as it should be. The default user may do everything.
const FINE: [&str; 6] = ["--save", "", "--appendonly", "yes", "--maxmemory", "100mb"];
/// Whatever limits of open files and disks the tests run under, and however late a busy machine answers.
const SETTINGS: [(&str, &str); 4] = [
    ("HOOKCACHE_HTTP__CONNECTIONS_MAX", "10"),
    ("HOOKCACHE_BUFFER__MAX_BYTES", "1MiB"),
    ("HOOKCACHE_STORE__CONNECT_TIMEOUT", "10s"),
    ("HOOKCACHE_STORE__READ_TIMEOUT", "10s"),
];

/// What it says of the places behind an environment.
struct Report {
    code: i32,
    json: Value,
}

impl Report {
    fn of(args: &[&str], env: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().display().to_string();
        let all = [&["doctor", "--json", "--data-dir", &data], args].concat();
        let output = run(&all, &[&SETTINGS, env].concat());
        let out = String::from_utf8_lossy(&output.stdout);
        let json = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{output:?}"));
        assert!(folder.path().read_dir().unwrap().next().is_none(), "it makes nothing");
        Self { code: output.status.code().expect("no signal"), json }
    }

    fn findings(&self) -> &Vec<Value> {
        self.json["findings"].as_array().expect("a list")
    }

    /// Checks that ended worse than as a note.
    fn bad(&self) -> Vec<(&str, &str)> {
        let pair = |finding| (text(finding, "check"), text(finding, "severity"));
        self.findings().iter().map(pair).filter(|(_, severity)| !["ok", "note"].contains(severity)).collect()
    }

    fn found(&self, check: &str) -> &Value {
        self.findings().iter().find(|f| f["check"] == check).unwrap_or_else(|| panic!("no {check}: {}", self.json))
    }

    fn text(&self, check: &str) -> String {
        let finding = self.found(check);
        format!("{} {}", text(finding, "found"), text(finding, "mend"))
    }
}

fn text<'a>(finding: &'a Value, name: &str) -> &'a str {
    finding[name].as_str().unwrap_or_default()
}

fn of_redis(redis: &Redis, more: &[(&str, &str)]) -> Report {
    Report::of(&[], &[&[("HOOKCACHE_STORE__URL", redis.url().as_str())], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_as_it_should_be_is_fine_and_keeps_nothing_of_the_visit() {
    let redis = Redis::start_with(&FINE).await;
    let report = of_redis(&redis, &[]);
    assert_eq!((report.code, report.bad()), (0, vec![]), "{}", report.json);
    assert_eq!(report.json["verdict"], "ok");
    for check in ["redis-acl", "redis-version", "redis-mode", "redis-role", "redis-memory", "redis-eviction"] {
        assert_eq!(report.found(check)["severity"], "ok", "{check}");
    }
    for check in ["redis-persistence", "redis-tracking", "redis-clock", "redis-replicas", "open-files", "disk-space"] {
        assert_eq!(report.found(check)["severity"], "ok", "{check}");
    }
    assert_eq!(report.found("redis-role")["place"], format!("redis://127.0.0.1:{}", redis.port()));
    assert_eq!(report.found("redis-role")["mend"], Value::Null);
    eventually("an empty Redis", || async { (redis.cli(&["DBSIZE"]) == "0").then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_risky_redis_has_an_exit_code_of_its_own_and_is_told_how_to_mend_it() {
    let options = ["--save", "", "--appendonly", "no", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let redis = Redis::start_with(&options).await;
    let report = of_redis(&redis, &[]);
    let bad = vec![("redis-eviction", "risky"), ("redis-persistence", "risky")];
    assert_eq!((report.code, report.bad()), (4, bad), "{}", report.json);
    assert_eq!(report.json["verdict"], "risky");
    assert!(report.text("redis-eviction").contains("set maxmemory-policy noeviction"));

    let url = redis.url();
    let env = [&SETTINGS[..], &[("HOOKCACHE_STORE__URL", url.as_str())]].concat();
    let folder = TempDir::new().unwrap();
    let output = run(&["doctor", "--data-dir", &folder.path().display().to_string()], &env);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4));
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| line.starts_with("RISKY      redis-eviction")).expect(&text);
    assert!(lines[at].contains("maxmemory-policy is allkeys-lru"), "{text}");
    assert!(lines[at + 1].starts_with("-> set maxmemory-policy noeviction"), "{text}");
    assert!(lines.last().unwrap().starts_with("2 risky, "), "{text}");

    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction", "appendonly", "yes"]);
    let mended = || async { Some(of_redis(&redis, &[])).filter(|report| report.code == 0) };
    eventually("what was mended is fine", mended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_risky_to_write_to_and_good_enough_to_read_from() {
    let primary = Redis::start_with(&[&FINE[..], &["--repl-diskless-sync-delay", "0"]].concat()).await;
    let replica =
        Redis::start_with(&[&FINE[..], &["--replicaof", "127.0.0.1", &primary.port().to_string()]].concat()).await;
    let report = of_redis(&replica, &[]);
    assert_eq!(report.code, 4, "{}", report.json);
    assert!(report.bad().contains(&("redis-role", "risky")), "{}", report.json);
    assert!(report.text("redis-role").contains("store.url"));

    let url = replica.url();
    let env = [
        ("HOOKCACHE_STORE__URL", url.as_str()),
        ("HOOKCACHE_BUFFER__QUEUE_URL", "http://127.0.0.1:1/0/q"),
        ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", "http://127.0.0.1:1/0/d"),
    ];
    let report = Report::of(&["--roles", "get"], &env);
    assert_eq!(report.found("redis-role")["severity"], "note");
    assert!(report.findings().iter().all(|f| !f["check"].as_str().unwrap().starts_with("sqs")), "get needs no queue");

    let asked = |count: &str| {
        let acknowledge = format!("replicas({count})");
        of_redis(&primary, &[("HOOKCACHE_STORE__ACKNOWLEDGE", &acknowledge)])
    };
    let online = || async { Some(asked("1")).filter(|report| report.found("redis-replicas")["severity"] == "note") };
    let report = eventually("the replica is in step", online).await;
    assert_eq!(report.code, 0, "{}", report.json);
    let report = asked("2");
    assert_eq!((report.code, report.bad()), (4, vec![("redis-replicas", "risky")]), "{}", report.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_redis_can_not_give_is_dangerous() {
    let redis = Redis::start_with(&["--save", "", "--appendonly", "no", "--maxmemory", "100mb"]).await;
    let report = of_redis(&redis, &[("HOOKCACHE_STORE__ACKNOWLEDGE", "aof")]);
    assert_eq!((report.code, &report.json["verdict"]), (1, &"dangerous".into()));
    assert!(report.bad().contains(&("redis-persistence", "dangerous")), "{}", report.json);
    assert!(report.text("redis-persistence").contains("appendonly yes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_acl_user_lacks_is_named_and_no_secret_is_shown() {
    let redis = Redis::start_with(&FINE).await;
    let may = "~hc:v1:* +get +set +getrange +exists +unlink +hgetall +hset +hdel +hexists +hlen +eval +evalsha \
        +script|load +ping +unwatch";
    let walks = "+scan +dbsize +strlen +setrange +persist +pexpireat";
    let user = |rules: &str| {
        let all: Vec<String> = ["ACL", "SETUSER", "hook", "reset", "on", ">s3cr3t"].map(str::to_owned).to_vec();
        all.into_iter().chain(rules.split_whitespace().map(str::to_owned)).collect::<Vec<_>>()
    };
    let url = format!("redis://hook:s3cr3t@127.0.0.1:{}", redis.port());
    let report = async |rules: String| {
        let args = user(&rules);
        assert_eq!(redis.cli(&args.iter().map(String::as_str).collect::<Vec<_>>()), "OK");
        let report = Report::of(&[], &[("HOOKCACHE_STORE__URL", &url)]);
        assert!(!report.json.to_string().contains("s3cr3t"), "{}", report.json);
        report
    };
    // What the manual asks for is enough, though INFO and TIME would show more.
    let enough = report(format!("{may} {walks}")).await;
    assert_eq!((enough.code, enough.bad()), (0, vec![]), "{}", enough.json);
    assert_eq!(enough.found("redis-info")["severity"], "note");
    assert_eq!(enough.found("redis-tracking")["severity"], "note");
    assert!(enough.text("redis-tracking").contains("ACL SETUSER <user> +info +client|tracking"), "{}", enough.json);
    assert!(enough.text("redis-tracking").contains("get.cache"), "{}", enough.json);
    assert_eq!(report(format!("{may} {walks} +info +time +client|tracking")).await.json["verdict"], "ok");
    let report_without = async |lacking: &str| {
        let all = format!("{may} {walks} +info");
        let others: Vec<&str> = all.split_whitespace().filter(|rule| *rule != lacking).collect();
        report(others.join(" ")).await
    };
    for lacking in may.split_whitespace() {
        let report = report_without(lacking).await;
        assert_eq!(report.code, 1, "{lacking}: {}", report.json);
        let text = report.text("redis-acl");
        assert!(text.contains(&format!("ACL SETUSER <user> {lacking}")), "{text}");
    }
    for lacking in walks.split_whitespace() {
        let report = report_without(lacking).await;
        assert_eq!((report.code, report.bad()), (4, vec![("redis-acl-walks", "risky")]), "{lacking}: {}", report.json);
        let text = report.text("redis-acl-walks");
        assert!(text.contains(&format!("ACL SETUSER <user> {lacking}")), "{text}");
    }
    let url = format!("redis://hook:wr0ng@127.0.0.1:{}", redis.port());
    let report = Report::of(&[], &[("HOOKCACHE_STORE__URL", &url)]);
    assert_eq!((report.code, report.bad()), (1, vec![("redis-reached", "unseen")]));
    assert!(!report.json.to_string().contains("wr0ng"), "{}", report.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_away_or_silent_is_unseen_and_no_exit_code_of_success() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let report = Report::of(&[], &[("HOOKCACHE_STORE__URL", &url)]);
    assert_eq!((report.code, report.bad()), (1, vec![("redis-reached", "unseen")]), "{}", report.json);
    assert_eq!(report.json["verdict"], "unseen");

    let redis = Redis::start_with(&FINE).await;
    redis.pause();
    let soon = [("HOOKCACHE_STORE__CONNECT_TIMEOUT", "1s"), ("HOOKCACHE_STORE__READ_TIMEOUT", "1s")];
    let report = of_redis(&redis, &soon);
    redis.resume();
    assert_eq!((report.code, report.bad()), (1, vec![("redis-reached", "unseen")]), "{}", report.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_server_are_looked_at_from_outside() {
    let look = |folder: &TempDir| {
        let output = run(&["doctor", "--json", "--data-dir", &folder.path().display().to_string()], &SETTINGS);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        Report { code: output.status.code().expect("no signal"), json }
    };
    let folder = TempDir::new().unwrap();
    let mut hookcache = Hookcache::spawn(folder.path(), &[], &SETTINGS);
    let ready = format!("{}/readyz", hookcache.admin_url());
    let answered = || async { try_send(http::Method::GET, &ready, &[], "").await.ok().filter(|r| r.status == 200) };
    eventually("ready", answered).await;
    let report = look(&folder);
    assert_eq!((report.code, report.bad()), (0, vec![]), "{}", report.json);
    assert!(report.text("data-file").contains("in use by a running server"), "{}", report.json);
    assert!(hookcache.sigterm().await.success());
    let report = look(&folder);
    assert!(report.text("data-file").contains("of a format that this version reads"), "{}", report.json);

    std::fs::write(folder.path().join("store.redb"), "a letter to my mother").unwrap();
    let report = look(&folder);
    assert_eq!((report.code, report.bad()), (1, vec![("data-file", "dangerous")]), "{}", report.json);
    assert_eq!(std::fs::read_to_string(folder.path().join("store.redb")).unwrap(), "a letter to my mother");
}

#[test]
fn too_few_open_files_are_told() {
    let folder = TempDir::new().unwrap();
    let script = "ulimit -n 100; exec \"$@\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh", PROGRAM, "doctor", "--json", "--data-dir"]);
    let output = command.arg(folder.path()).env(SETTINGS[1].0, SETTINGS[1].1).output().expect("sh");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let report = Report { code: output.status.code().expect("no signal"), json };
    assert_eq!((report.code, report.bad()), (4, vec![("open-files", "risky")]), "{}", report.json);
    assert!(report.text("open-files").contains("http.connections_max"), "{}", report.json);
}

#[test]
fn a_wrong_configuration_is_told_by_its_key() {
    let output = run(&["doctor"], &[("HOOKCACHE_STORE__URL", "postgres://u:s3cr3t@h")]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("store.url") && !text.contains("s3cr3t"), "{text}");
    assert_eq!(run(&["doctor", "--nonsense"], &[]).status.code(), Some(2));
}
