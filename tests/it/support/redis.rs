//! A real Redis, with its data in a folder of its own.

use tempfile::TempDir;

use super::free_port;
use super::process::{Process, Recipe};

/// `-LOADING` is not among them: such a Redis isn't ready yet.
const READY: &[&str] = &["+PONG", "-NOAUTH"];

pub struct Redis {
    process: Process,
    folder: TempDir,
}

impl Redis {
    /// Empty, without persistence: a kill empties it.
    pub async fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"]).await
    }

    /// With options as on redis-server's command line.
    pub async fn start_with(options: &[&str]) -> Self {
        let (folder, port) = (TempDir::new().expect("a temporary folder"), free_port());
        let mut args: Vec<_> = ["--bind", "127.0.0.1", "--daemonize", "no", "--port"].map(Into::into).to_vec();
        args.extend([port.to_string().into(), "--dir".into(), folder.path().into()]);
        args.extend(options.iter().map(Into::into));
        let program = "redis-server".into();
        let recipe = Recipe { program, args, env: Vec::new(), port, probe: "PING\r\n", ready: READY };
        Self { process: Process::start(recipe).await, folder }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.process.port())
    }

    pub fn port(&self) -> u16 {
        self.process.port()
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// SIGKILL: what was not persisted is gone.
    pub fn stop(&mut self) {
        self.process.kill9();
    }

    /// SIGTERM: it saves what it is configured to save, and ends.
    pub async fn shut_down(&mut self) {
        self.process.sigterm().await;
    }

    /// Starts it again on the same port and data.
    pub async fn start_again(&mut self) {
        self.process.start_again().await;
    }

    /// Freezes it: connections stay open, and nothing is answered.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    pub fn resume(&self) {
        self.process.signal("CONT");
    }
}
