//! What `k8s/` starts is this program: by a configuration that it takes, and with metrics that alerts and dashboard ask for.
//! What Kubernetes itself would say of it, `make manifests` says.

mod rolling;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::hookcache::{PROGRAM, run};
use crate::support::process::{Process, Recipe};
use crate::support::stack::until_series;
use crate::support::{
    Hookcache, TempDir, eventually, free_port, http_delete, http_get, http_post, http_send, repository, tool,
};

const PROBE: &str = "GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
/// Arrays of sets that a server is under, and the sets of each.
const ARRAYS: usize = 50;
const SETS: usize = 10;

/// How a Deployment or StatefulSet starts the program.
#[derive(Debug, Clone, Deserialize)]
pub struct Start {
    pub overlay: String,
    pub name: String,
    pub command: Vec<String>,
    args: Vec<String>,
    /// `None` where a Secret has the value.
    pub env: BTreeMap<String, Option<String>>,
    config: String,
    probes: Vec<String>,
    pub ports: Vec<u16>,
    pub user: u32,
    /// Its own, and that of its volumes.
    pub groups: Vec<u32>,
    /// What it may write.
    pub volumes: Vec<String>,
    update: Update,
    pre_stop_seconds: u64,
    grace_seconds: u64,
}

/// How a rolling update goes on; `None` where the workload has no such choice.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Update {
    max_surge: Option<u32>,
    max_unavailable: Option<u32>,
}

fn script(name: &str) -> Command {
    let mut command = Command::new(tool("venv/bin/python"));
    command.arg("-B").arg(repository().join("tests/tools/kubernetes").join(name));
    command
}

pub fn starts() -> Vec<Start> {
    let output = script("workloads").output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("what `workloads` prints")
}

#[test]
fn every_workload_starts_by_a_configuration_that_is_right() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hookcache.toml");
    let starts = starts();
    for overlay in ["dev", "production", "page-links"] {
        assert!(starts.iter().any(|start| start.overlay == overlay), "{overlay} starts nothing");
    }
    for start in &starts {
        let Start { overlay, name, .. } = start;
        let right = check(start, &file, &start.config);
        assert!(right.is_ok(), "{overlay}, {name}: {right:?}");
        let wrong = check(start, &file, &format!("{}\n[buffers]\nwait = \"20s\"\n", start.config));
        assert!(wrong.is_err_and(|said| said.contains("buffers")), "{overlay}, {name}: the file is not read");
    }
}

/// What `config check` says with the same file, environment and flags.
fn check(start: &Start, file: &std::path::Path, config: &str) -> Result<(), String> {
    fs::write(file, config).unwrap();
    let env: Vec<(&str, &str)> = start
        .env
        .iter()
        .map(|(name, value)| match (name.as_str(), value.as_deref()) {
            ("HOOKCACHE_CONFIG", _) => ("HOOKCACHE_CONFIG", file.to_str().expect("a path")),
            ("HOOKCACHE_REGISTRY__URL", None) => {
                ("HOOKCACHE_REGISTRY__URL", "postgres://user:secret@registry/hookcache")
            }
            (name, Some(value)) => (name, value),
            (name, None) => panic!("what would the Secret of {name} hold?"),
        })
        .collect();
    let args: Vec<&str> = ["config", "check"].into_iter().chain(start.args[1..].iter().map(String::as_str)).collect();
    let output = run(&args, &env);
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_dev_overlay_starts_serves_answers_its_probes_and_stops() {
    let start = starts().into_iter().find(|start| start.overlay == "dev").expect("a workload");
    let (folder, listen, admin) = (TempDir::new().unwrap(), free_port(), free_port());
    let file = folder.path().join("hookcache.toml");
    fs::write(&file, &start.config).unwrap();
    let here = |name: &str, value: &str| match name {
        "HOOKCACHE_CONFIG" => file.clone().into(),
        "HOOKCACHE_DATA_DIR" => folder.path().join("data").into(),
        // On every address, as there: other machines reach it only by the network of this one.
        "HOOKCACHE_LISTEN" => format!("127.0.0.1:{listen}").into(),
        "HOOKCACHE_ADMIN_LISTEN" => format!("127.0.0.1:{admin}").into(),
        _ => value.into(),
    };
    let env = start.env.iter().map(|(name, value)| (name.clone(), here(name, value.as_deref().expect("no Secret"))));
    let (env, args) = (env.collect(), start.args.iter().map(Into::into).collect());
    let recipe = Recipe { program: PROGRAM.into(), args, env, port: admin, probe: PROBE, ready: &["HTTP/1.1 200"] };
    let mut process = Process::start(recipe).await;

    for path in &start.probes {
        assert_eq!(http_get(&format!("http://127.0.0.1:{admin}{path}")).await.status, 200, "{path}");
    }
    let url = format!("http://127.0.0.1:{listen}");
    assert_eq!(http_post(&format!("{url}/v1/set"), set_of("k").to_string()).await.status, 202);
    eventually("a get", || async { (http_get(&format!("{url}/v1/keys/k")).await.status == 200).then_some(()) }).await;
    assert!(process.sigterm().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_dashboard_ask_for_what_the_metrics_page_has() {
    let hookcache = Hookcache::start(&[], &[]).await;
    under_load(&hookcache).await;
    let page = http_get(&format!("{}/metrics", hookcache.admin_url())).await.text();
    assert_eq!(judged(&page), Ok(()));

    // A metric that goes, a label that is called otherwise, and a value that is no more: each is told.
    for (was, is, told) in [
        ("hookcache_appends_total", "hookcache_appended_total", "there is no metric hookcache_appends_total"),
        ("cause=", "reason=", "has no label cause"),
        (r#"state="dead""#, r#"state="buried""#, "has no state='dead'"),
        ("hookcache_consumer_paused", "hookcache_consumer_resting", "there is no metric hookcache_consumer_paused"),
    ] {
        let said = judged(&page.replace(was, is));
        assert!(said.as_ref().is_err_and(|said| said.contains(told)), "{told}: {said:?}");
    }
}

/// Each call at least once, as series of requests begin with the first.
async fn under_load(hookcache: &Hookcache) {
    let url = hookcache.url();
    for array in 0..ARRAYS {
        let sets: Vec<Value> = (0..SETS).map(|set| set_of(&format!("k{array}-{set}"))).collect();
        assert_eq!(http_post(&format!("{url}/v1/set"), Value::from(sets).to_string()).await.status, 200);
    }
    until_series(hookcache, r#"hookcache_consumer_outcomes_total{outcome="written"}"#, (ARRAYS * SETS) as f64).await;
    let key = format!("{url}/v1/keys/k0-0");
    assert_eq!(http_get(&key).await.status, 200);
    assert_eq!(http_send(Method::HEAD, &key, &[], "").await.status, 200);
    assert_eq!(http_post(&format!("{url}/v1/get"), json!({"webhookKeys": ["k0-0"]}).to_string()).await.status, 200);
    assert_eq!(http_delete(&format!("{key}?accountId=a")).await.status, 202);
    let delete = json!({"accountId": "a", "webhookKeys": ["k0-1"]});
    assert_eq!(http_post(&format!("{url}/v1/delete"), delete.to_string()).await.status, 202);
    assert_eq!(http_post(&format!("{url}/v1/hooks/confluence"), "{}").await.status, 404, "page links are off");
}

/// What `queries.py` says to a page.
fn judged(page: &str) -> Result<(), String> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("page.txt");
    fs::write(&file, page).unwrap();
    let output = script("queries.py").arg(file).output().expect("python starts");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn set_of(key: &str) -> Value {
    json!({"accountId": "a", "flowId": "f", "webhookKeys": [key], "data": key})
}
