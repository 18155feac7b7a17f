//! `config/systemd/hookcache.service`: systemd understands all of it, and what it starts runs, reloads and stops.

use std::fs;
use std::process::Command;
use std::time::Duration;

use hookcache::config::{Sources, load};

use crate::support::hookcache::PROGRAM;
use crate::support::process::{Process, Recipe};
use crate::support::stack::series;
use crate::support::{TempDir, eventually, free_port, http_get, repository};

const PROBE: &str = "GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
/// In tenths, as systemd-analyze counts: 0 is shut in, 100 may do everything. A unit without any hardening has 96.
const EXPOSURE_MAX: &str = "20";

fn unit() -> String {
    fs::read_to_string(repository().join("config/systemd/hookcache.service")).expect("the unit")
}

/// The value of a key that stands once.
fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("there is no {key}"));
    assert_eq!(values.next(), None, "{key}");
    value
}

#[test]
fn systemd_understands_the_unit_and_finds_it_hardened() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("hookcache.service");
    // It looks for the program.
    fs::write(&path, unit().replace("/usr/local/bin/hookcache", PROGRAM)).unwrap();
    let analyze = |args: &[&str]| {
        let output = Command::new("systemd-analyze").args(args).arg(&path).output();
        let output = output.expect("systemd-analyze: run `make tools`");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    };
    let (understood, said) = analyze(&["verify", "--man=no"]);
    // It reads the machine's own units, too, and may have something to say of those.
    let of_ours: Vec<&str> = said.lines().filter(|line| line.contains("hookcache")).collect();
    assert!(understood && of_ours.is_empty(), "{said}");
    let (hardened, said) = analyze(&["security", "--offline=yes", "--no-pager", "--threshold", EXPOSURE_MAX]);
    assert!(hardened, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_unit_starts_runs_reloads_and_stops() {
    let (unit, folder) = (unit(), TempDir::new().unwrap());
    let (config, data) = (folder.path().join("hookcache.toml"), folder.path().join("data"));
    fs::write(&config, "").unwrap();
    let mut words = value(&unit, "ExecStart").split_whitespace();
    assert_eq!(words.next(), Some("/usr/local/bin/hookcache"));
    let here = |word: &str| match word {
        "/etc/hookcache/hookcache.toml" => config.clone().into(),
        "/var/lib/hookcache" => data.clone().into(),
        word => word.into(),
    };
    let (listen, admin) = (free_port(), free_port());
    let variable = |name: &str, port: u16| (name.to_owned(), format!("127.0.0.1:{port}").into());
    let env = vec![variable("HOOKCACHE_LISTEN", listen), variable("HOOKCACHE_ADMIN_LISTEN", admin)];
    let args = words.map(here).collect();
    let recipe = Recipe { program: PROGRAM.into(), args, env, port: admin, probe: PROBE, ready: &["HTTP/1.1 200"] };
    let mut process = Process::start(recipe).await;
    assert!(data.join("buffer.redb").exists() && data.join("store.redb").exists(), "it writes there alone");

    let signal = value(&unit, "ExecReload").strip_prefix("/bin/kill -").and_then(|rest| rest.split(' ').next());
    process.signal(signal.expect("a signal"));
    let metrics = format!("http://127.0.0.1:{admin}/metrics");
    eventually("a reload", || async {
        let page = http_get(&metrics).await.text();
        series(&page, r#"hookcache_config_reloads_total{result="applied"}"#).filter(|reloads| *reloads == 1.0)
    })
    .await;
    assert!(process.sigterm().await.success());

    // All that an end may take, by its deadlines (see http.drain_deadline).
    let defaults = load(&Sources::default()).unwrap().config;
    let appends_and_giving_back = Duration::from_secs(10 + 3);
    let longest = 2 * defaults.http.drain_deadline + defaults.consumer.drain_deadline + appends_and_giving_back;
    let given = humantime::parse_duration(value(&unit, "TimeoutStopSec")).unwrap();
    assert!(given > longest, "{given:?} is not longer than {longest:?}");
    let descriptors: usize = value(&unit, "LimitNOFILE").parse().unwrap();
    assert!(descriptors > 2 * defaults.http.connections_max);
}
