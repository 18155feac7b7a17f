//! A real Redis, with its data in a folder of its own.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::process::{Process, Recipe};
use super::{free_port, tool};

/// `-LOADING` is not among them: such a Redis isn't ready yet.
const READY: &[&str] = &["+PONG", "-NOAUTH"];
/// Nothing of it outlives its process.
pub const IN_MEMORY: &[&str] = &["--save", "", "--appendonly", "no"];

pub struct Redis {
    process: Process,
    folder: TempDir,
}

/// What speaks Redis, and is installed here.
#[derive(Clone, Copy)]
pub enum Program {
    /// Debian's, 7.0.
    Redis,
    Redis8,
    Valkey9,
}

impl Program {
    fn path(self) -> PathBuf {
        match self {
            Self::Redis => "redis-server".into(),
            Self::Redis8 => tool("servers/redis-server-8"),
            Self::Valkey9 => tool("servers/valkey-server-9"),
        }
    }
}

impl Redis {
    /// Empty, without persistence: a kill empties it.
    pub async fn start() -> Self {
        Self::start_with(IN_MEMORY).await
    }

    /// With options as on redis-server's command line.
    pub async fn start_with(options: &[&str]) -> Self {
        Self::start_program(Program::Redis, options).await
    }

    pub async fn start_program(program: Program, options: &[&str]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        Self::start_in(folder, program.path(), &[], options).await
    }

    /// `first` comes before all options, as the name of a configuration file must.
    pub(super) async fn start_in(folder: TempDir, program: PathBuf, first: &[&str], options: &[&str]) -> Self {
        let port = free_port();
        let mut args: Vec<_> = first.iter().map(Into::into).collect();
        args.extend(["--bind", "127.0.0.1", "--daemonize", "no", "--port"].map(Into::into));
        args.extend([port.to_string().into(), "--dir".into(), folder.path().into()]);
        args.extend(options.iter().map(Into::into));
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

    /// What redis-cli would say.
    pub fn cli(&self, args: &[&str]) -> String {
        let port = self.port().to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(args).output().expect("redis-cli is installed");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The same, where the answer must be OK.
    pub fn ok(&self, args: &[&str]) {
        assert_eq!(self.cli(args), "OK", "{args:?}");
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
