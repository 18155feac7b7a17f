//! Who is measured: a server, and how it is asked for a key.

use std::path::Path;
use std::process::Command;

use crate::http::{Client, answers};
use crate::load::Call;
use crate::process::{Process, free_port};
use crate::stage::{Stage, program, root};

/// webdis has no bearer tokens, but names and passwords: `user:password`.
const BASIC: &str = "Basic dXNlcjpwYXNzd29yZA==";
/// Processes of the FastAPI handler: one for each core.
const WORKERS: &str = "2";

pub struct Subject {
    pub name: String,
    pub process: Process,
    /// Where hookcache tells its metrics; `None` for the others.
    admin_port: Option<u16>,
    /// Without the number of the key.
    path: String,
    authorization: String,
}

impl Subject {
    /// A get of key `<prefix><n>`, for a load that draws `n`.
    pub fn get_path(&self, prefix: &str) -> String {
        self.path.replace("{key}", &format!("{prefix}{{n}}"))
    }

    pub fn get<'a>(&'a self, path: &'a str) -> Call<'a> {
        Call { port: self.process.port, method: "GET", path, authorization: &self.authorization, body: None }
    }

    /// hookcache over the stage's Redis, every role in one process, its buffer embedded.
    pub fn hookcache(stage: &Stage, name: &str, environment: &[(&str, &str)]) -> Self {
        let redis_url = stage.redis_url();
        let environment = [&[("HOOKCACHE_STORE__URL", redis_url.as_str())], environment].concat();
        Self::hookcache_alone(stage, name, &environment)
    }

    /// hookcache with nothing but these variables.
    pub fn hookcache_alone(stage: &Stage, name: &str, environment: &[(&str, &str)]) -> Self {
        let (port, admin_port) = (free_port(), free_port());
        let data = stage.folder.join(format!("data-{port}"));
        let mut command = Command::new(program());
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--admin-listen", &format!("127.0.0.1:{admin_port}"), "--data-dir"]).arg(data);
        command.arg("--config").arg(stage.config()).envs(environment.iter().copied());
        let is_ready = |port| answers(port, "/readyz", "");
        let process = Process::start(command, port, &log(stage, name), is_ready);
        let (name, path) = (name.to_owned(), "/v1/keys/{key}".to_owned());
        Self { name, process, admin_port: Some(admin_port), path, authorization: stage.bearer() }
    }

    pub fn is_hookcache(&self) -> bool {
        self.admin_port.is_some()
    }

    /// A series of hookcache's metrics; zero where there is no such line.
    pub fn series(&self, name: &str) -> f64 {
        let admin_port = self.admin_port.expect("only hookcache is asked");
        let asked = Client::connect(admin_port, "").and_then(|mut client| client.get("/metrics"));
        let page = String::from_utf8_lossy(&asked.expect("an answer").body).into_owned();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Asks for each of these keys once, as a client would.
    pub fn read_all(&self, prefix: &str, count: usize) {
        let mut client = Client::connect(self.process.port, &self.authorization).expect("it listens");
        for n in 0..count {
            let answer = client.get(&self.path.replace("{key}", &format!("{prefix}{n}"))).expect("an answer");
            assert_eq!(answer.status, 200);
        }
    }

    /// The limit: answers whatever it is asked with what `upstream` answers to a get of this key.
    pub fn bare(stage: &Stage, upstream: &Subject, key: &str) -> Self {
        let port = free_port();
        let mut command = Command::new(root().join("target/compare/release/hookcache-compare-bare"));
        let path = upstream.path.replace("{key}", key);
        command.args([port.to_string(), upstream.process.port.to_string(), path, upstream.authorization.clone()]);
        let process = Process::start(command, port, &log(stage, "bare"), |port| answers(port, "/", ""));
        let (path, authorization) = (upstream.path.clone(), upstream.authorization.clone());
        Self { name: "bare hyper".to_owned(), process, admin_port: None, path, authorization }
    }

    /// webdis as Debian configures it, but for ports, and with a password for GET.
    pub fn webdis(stage: &Stage) -> Self {
        let (port, redis_port) = (free_port(), stage.redis.port);
        let (config, own_log) = (stage.folder.join("webdis.json"), stage.folder.join("webdis-own.log"));
        let acl = r#"[{"disabled":["GET","DEBUG"]},{"http_basic_auth":"user:password","enabled":["GET"]}]"#;
        let text = format!(
            r#"{{"redis_host":"127.0.0.1","redis_port":{redis_port},"redis_auth":null,"http_host":"127.0.0.1",
            "http_port":{port},"threads":2,"daemonize":false,"database":0,"acl":{acl},"verbosity":3,"logfile":"{}"}}"#,
            own_log.display()
        );
        std::fs::write(&config, text).expect("a file");
        let mut command = Command::new("webdis");
        command.arg(config);
        let is_ready = |port| answers(port, "/GET/plain:none", BASIC);
        let process = Process::start(command, port, &log(stage, "webdis"), is_ready);
        let path = "/GET/plain:{key}?type=application/json".to_owned();
        Self { name: "webdis".to_owned(), process, admin_port: None, path, authorization: BASIC.to_owned() }
    }

    /// A handler over redis-py, under uvicorn with uvloop and httptools.
    pub fn fastapi(stage: &Stage) -> Self {
        let port = free_port();
        let mut command = Command::new(root().join(".tools/compare-venv/bin/uvicorn"));
        command.args(["app:app", "--port", &port.to_string(), "--workers", WORKERS, "--no-access-log"]);
        command.args(["--log-level", "warning"]).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("peer"));
        command.env("REDIS_PORT", stage.redis.port.to_string()).env("AUTHORIZATION", stage.bearer());
        let is_ready = |port| answers(port, "/openapi.json", "");
        let process = Process::start(command, port, &log(stage, "fastapi"), is_ready);
        let (name, path) = ("FastAPI".to_owned(), "/v1/keys/{key}".to_owned());
        Self { name, process, admin_port: None, path, authorization: stage.bearer() }
    }
}

fn log(stage: &Stage, name: &str) -> std::path::PathBuf {
    stage.folder.join(format!("{}.log", name.replace(' ', "-")))
}
