//! Every command of README.md is run, in its order, as a newcomer would; only ports and folders differ.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::support::{TempDir, cloudformation, eventually, free_port, repository};

/// Ports that README.md names; each becomes a free one.
const PORTS: &[u16] = &[8080, 8081, 8082, 8083, 8084, 8085, 6379, 4566];
/// Commands that start something which runs until it is stopped.
const SERVERS: &[&str] = &["hookcache serve", "HOOKCACHE_CONFLUENCE__ENABLED=", "redis-server", "GATEWAY_PORT="];
/// Before these, the reader is told to stop the first server.
const AFTER_A_STOP: &[&str] = &["HOOKCACHE_CONFLUENCE__ENABLED=", "redis-server"];

struct Block {
    language: String,
    text: String,
}

fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { language: language.to_owned(), text: text.join("\n") });
        }
    }
    blocks
}

/// The folder of a newcomer, who has `hookcache` on the path.
struct Newcomer {
    folder: TempDir,
    ports: HashMap<u16, u16>,
    servers: Vec<Child>,
}

impl Newcomer {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hookcache"), folder.path().join("hookcache")).expect("a link");
        let ports = PORTS.iter().map(|port| (*port, free_port())).collect();
        Self { folder, ports, servers: Vec::new() }
    }

    fn adapt(&self, text: &str) -> String {
        let serve = "hookcache serve --listen 127.0.0.1:8080 --admin-listen 127.0.0.1:8081";
        let text = text.replace("cargo run --release -- serve", serve);
        let text = text.replace(".tools/", &format!("{}/.tools/", repository().display()));
        // All at once, so that a free port that equals a port of the list is not replaced again.
        let mut adapted = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
            let digits = rest[at..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - at);
            let number = &rest[at..at + digits];
            adapted.push_str(&rest[..at]);
            match number.parse().ok().and_then(|port| self.ports.get(&port)) {
                Some(port) => adapted.push_str(&port.to_string()),
                None => adapted.push_str(number),
            }
            rest = &rest[at + digits..];
        }
        adapted + rest
    }

    fn command(&self, script: &str) -> Command {
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(self.folder.path()).env("PATH", path);
        command.env("HOOKCACHE_URL", format!("http://127.0.0.1:{}", self.ports[&8080]));
        command.env("HOOKCACHE_ADMIN_URL", format!("http://127.0.0.1:{}", self.ports[&8081]));
        command.stdin(Stdio::null());
        command
    }

    async fn serve(&mut self, script: &str) {
        if AFTER_A_STOP.iter().any(|first| script.starts_with(first)) {
            self.stop();
        }
        let log = fs::File::create(self.folder.path().join(format!("server-{}.log", self.servers.len()))).unwrap();
        let script = format!("exec env {script}");
        let (out, err) = (log.try_clone().expect("a log"), log);
        self.servers.push(self.command(&script).stdout(out).stderr(err).spawn().expect("bash"));
        let port = listens_on(&script, &self.ports);
        let url = format!("127.0.0.1:{port}");
        eventually(&format!("a server on {url}: {script}"), || async {
            tokio::net::TcpStream::connect(&url).await.ok()
        })
        .await;
    }

    /// Gets are asked again, as a set takes a moment until it is readable.
    async fn run(&self, script: &str) -> String {
        let gets_only = script.lines().all(|line| line.starts_with("hookcache get") || line.contains("/v1/keys/"));
        let run = || self.command(script).output().expect("bash");
        let fine = |output: &Output| {
            output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("\"status\":404")
        };
        let output = if gets_only {
            eventually(&format!("success of: {script}"), || async { Some(run()).filter(fine) }).await
        } else {
            run()
        };
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn stop(&mut self) {
        for mut server in self.servers.drain(..) {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The port that a server of README.md will listen on, after [`Newcomer::adapt`].
fn listens_on(script: &str, ports: &HashMap<u16, u16>) -> u16 {
    let named = |port: &&u16| script.contains(&ports[*port].to_string());
    ports[PORTS.iter().find(named).unwrap_or_else(|| panic!("no port in: {script}"))]
}

/// What nobody can run here: it is shell, names files that there are, and gives parameters that the template has.
fn needs_a_cloud(text: &str) {
    let checked = Command::new("bash").args(["-n", "-c", text]).output().expect("bash");
    assert!(checked.status.success() && checked.stderr.is_empty(), "{}", String::from_utf8_lossy(&checked.stderr));
    for file in text.split_whitespace().filter(|word| word.starts_with("config/") || word.starts_with("k8s/")) {
        assert!(repository().join(file).exists(), "there is no {file}");
    }
    let Some((_, overrides)) = text.split_once("--parameter-overrides") else { return };
    let template = cloudformation::read("template.yaml");
    let parameters = template["Parameters"].as_object().expect("parameters");
    let given = overrides.split_whitespace().filter_map(|word| word.split_once('=')).map(|(name, _)| name);
    let given: BTreeSet<&str> = given.filter(|name| name.starts_with(char::is_uppercase)).collect();
    for name in &given {
        assert!(parameters.contains_key(*name), "the template has no parameter {name}");
    }
    for (name, parameter) in parameters {
        assert!(given.contains(name.as_str()) || parameter.get("Default").is_some(), "{name} must be given");
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_works_in_its_order() {
    let mut newcomer = Newcomer::new();
    let makefile = read("Makefile");
    let (mut outputs, mut ran) = (String::new(), 0);
    for block in blocks(&read("README.md")) {
        let text = newcomer.adapt(&block.text);
        match block.language.as_str() {
            "toml" => {
                fs::write(newcomer.folder.path().join("hookcache.toml"), text).expect("a file");
                newcomer.run("hookcache config check --config hookcache.toml").await;
            }
            "json" => {
                // What a command answers; ids differ, so only what has none is compared.
                assert!(block.text.contains("...") || outputs.contains(&block.text), "{}\nin\n{outputs}", block.text);
            }
            "sh" if text.starts_with("make ") => {
                let target = format!("\n{}:", text["make ".len()..].trim());
                assert!(makefile.contains(&target), "the Makefile lacks {target}");
            }
            // It would build the program once more; the program on the path is what it installs.
            "sh" if text.starts_with("cargo install ") => {}
            // A program of its own, with tests of its own.
            "sh" if text == "lambda/build" => {}
            "shell" => needs_a_cloud(&block.text),
            "sh" if SERVERS.iter().any(|server| text.starts_with(server)) => newcomer.serve(&text).await,
            "sh" => {
                outputs.push_str(&newcomer.run(&text).await);
                ran += 1;
            }
            other => panic!("README.md has a block of `{other}`, which no test looks at"),
        }
    }
    assert!(ran >= 10, "only {ran} blocks of commands ran");
}
