//! microburst, a fault proxy from PyPI that speaks SQS and Redis: errors in their own shapes, latency, resets, answers
//! that are cut off in the middle.

use serde_json::Value;

use super::process::{Process, Recipe};
use super::{free_port, http_get, http_post, tool};

const PROBE: &str = "GET /_microburst/health HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
/// Its coin is Python's own, which is seeded here.
const SEEDED: &str =
    "import random, sys; random.seed(int(sys.argv.pop(1))); from microburst.cli import main; sys.exit(main())";

/// Lets everything through until it is given rules.
pub struct Microburst {
    process: Process,
    port: u16,
}

impl Microburst {
    /// In front of an SQS emulator, whose endpoint URL it is given.
    pub async fn sqs(endpoint_url: &str, seed: u64) -> Self {
        let port = free_port();
        Self::start(seed, "http", endpoint_url, port, port).await
    }

    /// In front of a Redis on a port of this machine.
    pub async fn redis(redis: u16, seed: u64) -> Self {
        Self::start(seed, "redis", &format!("127.0.0.1:{redis}"), free_port(), free_port()).await
    }

    async fn start(seed: u64, protocol: &str, upstream: &str, port: u16, control: u16) -> Self {
        // Small enough for any reader of a number.
        let (seed, of) = ((seed % 1_000_000).to_string(), port.to_string());
        let args = ["-c", SEEDED, &seed, "--protocol", protocol, "--upstream", upstream, "--port", &of];
        let mut args: Vec<_> = args.map(Into::into).to_vec();
        args.extend(["--control-port".into(), control.to_string().into()]);
        let (program, ready) = (tool("venv/bin/python"), &["HTTP/1.1 200"]);
        let recipe = Recipe { program, args, env: Vec::new(), port: control, probe: PROBE, ready };
        Self { process: Process::start(recipe).await, port }
    }

    /// Where it listens in place of what lies behind it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on the first rule that fits a call, and whose probability says so, is what happens to it; without
    /// rules everything passes.
    pub async fn set(&self, rules: &[Value]) {
        let reply = http_post(&self.control("rules"), Value::from(rules).to_string()).await;
        assert!(reply.status.is_success(), "{}", reply.text());
    }

    /// Calls that a rule changed so far.
    pub async fn faults(&self) -> u64 {
        let stats = http_get(&self.control("stats")).await.json();
        stats["requests"]["faulted"].as_u64().unwrap_or_else(|| panic!("no count of faults in {stats}"))
    }

    fn control(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/_microburst/{path}", self.process.port())
    }
}
