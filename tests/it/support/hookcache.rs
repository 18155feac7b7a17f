//! The real program, as a user runs it.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::free_port;
use super::process::{Process, Recipe};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_hookcache");
const PROBE: &str = "GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";

/// `hookcache serve` with free ports and a data folder of its own. The methods of [`Process`] are its own: `kill9`,
/// `sigterm`, `signal`, `start_again` (same ports, same data), `captured`.
pub struct Hookcache {
    process: Process,
    listen: u16,
    folder: Option<TempDir>,
}

impl Hookcache {
    /// Waits until `/readyz` says 200. `args` come after `serve --listen ... --admin-listen ... --data-dir ...`.
    pub async fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut hookcache = Self::spawn(folder.path(), args, env);
        hookcache.folder = Some(folder);
        Self { process: hookcache.process.until_ready().await, ..hookcache }
    }

    /// In a data folder of the caller's, and without waiting; [`Process::until_ready`] does.
    pub fn spawn(data: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let (listen, admin) = (free_port(), free_port());
        let mut all: Vec<_> = ["serve", "--listen"].map(Into::into).to_vec();
        all.extend([address(listen).into(), "--admin-listen".into(), address(admin).into()]);
        all.extend(["--data-dir".into(), data.into()]);
        all.extend(args.iter().map(Into::into));
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
        let recipe =
            Recipe { program: PROGRAM.into(), args: all, env, port: admin, probe: PROBE, ready: &["HTTP/1.1 200"] };
        Self { process: Process::spawn(recipe), listen, folder: None }
    }

    /// `http://127.0.0.1:port`, of the data plane.
    pub fn url(&self) -> String {
        format!("http://{}", address(self.listen))
    }

    /// `http://127.0.0.1:port`, of the control plane.
    pub fn admin_url(&self) -> String {
        format!("http://{}", address(self.process.port()))
    }
}

impl Deref for Hookcache {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Hookcache {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Runs the program to its end, as a command line does.
pub fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(args).envs(env.iter().copied()).stdin(Stdio::null());
    command.output().unwrap_or_else(|e| panic!("{PROGRAM}: {e}"))
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
