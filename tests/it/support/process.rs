//! A process that a test starts, signals, starts again, and that dies with the test.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{DEADLINE, POLL_INTERVAL, eventually};

/// What to run, and how to tell that it is ready.
pub struct Recipe {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(String, OsString)>,
    /// The port on which it answers, once it is ready.
    pub port: u16,
    /// What to send there, and how an answer of a process that is ready starts.
    pub probe: &'static str,
    pub ready: &'static [&'static str],
}

/// What a process has written so far.
#[derive(Debug, Clone, Default)]
pub struct Captured {
    pub stdout: String,
    pub stderr: String,
}

pub struct Process {
    recipe: Recipe,
    child: Child,
    captured: Arc<Mutex<Captured>>,
    /// They read what it writes, and end with it.
    readers: [JoinHandle<()>; 2],
}

impl Process {
    /// Starts it, and waits until it is ready. Panics with its output when it ends before.
    pub async fn start(recipe: Recipe) -> Self {
        let process = Self::spawn(recipe);
        process.until_ready().await
    }

    /// Starts it, and does not wait.
    pub fn spawn(recipe: Recipe) -> Self {
        let captured = Arc::default();
        let (child, readers) = launch(&recipe, &captured);
        Self { recipe, child, captured, readers }
    }

    /// Waits until it is ready. Panics with its output when it ends before.
    pub async fn until_ready(mut self) -> Self {
        self.wait_ready().await;
        self
    }

    /// Kills it if it still runs, and starts it again with the same arguments; what it writes is kept.
    pub async fn start_again(&mut self) {
        self.kill9();
        (self.child, self.readers) = launch(&self.recipe, &self.captured);
        self.wait_ready().await;
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        // Both fail only where the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits until it has ended by itself.
    pub async fn sigterm(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.until_exit().await
    }

    /// Waits until it has ended by itself, and all that it wrote is captured.
    pub async fn until_exit(&mut self) -> ExitStatus {
        let program = self.recipe.program.display().to_string();
        let child = Mutex::new(&mut self.child);
        let exited = || async { child.lock().expect("no holder panics").try_wait().expect("our child can be asked") };
        let status = eventually(&format!("the end of {program}"), exited).await;
        let read = || async { self.readers.iter().all(JoinHandle::is_finished).then_some(()) };
        eventually(&format!("the last that {program} wrote"), read).await;
        status
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child can be asked").is_some()
    }

    /// Sends a signal, such as `HUP`; `STOP` and `CONT` freeze it and let it go on.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} {}", self.pid());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn port(&self) -> u16 {
        self.recipe.port
    }

    /// What it has written so far.
    pub fn captured(&self) -> Captured {
        self.captured.lock().expect("no holder panics").clone()
    }

    async fn wait_ready(&mut self) {
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our child can be asked") {
                panic!(
                    "{} ended before it was ready ({status}): {:#?}",
                    self.recipe.program.display(),
                    self.captured()
                );
            }
            if self.is_ready().await {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "{} is not ready: {:#?}", self.what(), self.captured());
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn is_ready(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.recipe.port)).await else { return false };
        // Another program that took the port in between must not pass for ours.
        if !owns_listener(self.pid(), self.recipe.port) {
            return false;
        }
        if stream.write_all(self.recipe.probe.as_bytes()).await.is_err() {
            return false;
        }
        let mut answer = vec![0; 64];
        let Ok(Ok(length)) = tokio::time::timeout(DEADLINE, stream.read(&mut answer)).await else { return false };
        let answer = String::from_utf8_lossy(&answer[..length]);
        self.recipe.ready.iter().any(|ready| answer.starts_with(ready))
    }

    fn what(&self) -> String {
        self.recipe.program.display().to_string()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn launch(recipe: &Recipe, captured: &Arc<Mutex<Captured>>) -> (Child, [JoinHandle<()>; 2]) {
    let mut child = Command::new(&recipe.program)
        .args(&recipe.args)
        .envs(recipe.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{} does not start: {e}: run `make tools`", recipe.program.display()));
    let stdout = child.stdout.take().expect("it is piped");
    let stderr = child.stderr.take().expect("it is piped");
    let readers = [
        capture(stdout, Arc::clone(captured), |captured| &mut captured.stdout),
        capture(stderr, Arc::clone(captured), |captured| &mut captured.stderr),
    ];
    (child, readers)
}

/// Reads until the process closes its end, so that a full pipe never stops it.
fn capture(
    mut from: impl Read + Send + 'static,
    into: Arc<Mutex<Captured>>,
    part: fn(&mut Captured) -> &mut String,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            let text = String::from_utf8_lossy(&chunk[..length]);
            part(&mut into.lock().expect("no holder panics")).push_str(&text);
        }
    })
}

/// Does this very process listen on that port of 127.0.0.1?
fn owns_listener(pid: u32, port: u16) -> bool {
    const LISTENING: &str = "0A";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let inodes: Vec<u64> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.len() > 9 && columns[3] == LISTENING)
        .filter(|columns| columns[1].ends_with(&format!(":{port:04X}")))
        .filter_map(|columns| columns[9].parse().ok())
        .collect();
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().filter_map(|file| std::fs::metadata(file.path()).ok()).any(|file| inodes.contains(&file.ino()))
}
