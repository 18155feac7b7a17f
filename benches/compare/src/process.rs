//! A process that ends with us, and what the kernel says that it takes.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Far more than a busy machine needs.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

pub struct Process {
    child: Child,
    pub port: u16,
    /// From its start until it answered.
    pub started_in: Duration,
}

impl Process {
    /// Starts it and waits until `is_ready`, which is given its port. What it says goes to `log`.
    pub fn start(mut command: Command, port: u16, log: &Path, is_ready: impl Fn(u16) -> bool) -> Self {
        let log_file = File::create(log).expect("a log");
        let begin = Instant::now();
        let streams = (log_file.try_clone().expect("a log"), log_file);
        let child = command.stdin(Stdio::null()).stdout(streams.0).stderr(streams.1).spawn();
        let mut this = Self { child: child.expect("installed by benches/compare/run"), port, started_in: DEADLINE };
        while !is_ready(port) {
            let told = || format!("{command:?} is not ready:\n{}", fs::read_to_string(log).unwrap_or_default());
            assert!(matches!(this.child.try_wait(), Ok(None)), "{}", told());
            assert!(begin.elapsed() < DEADLINE, "{}", told());
            std::thread::sleep(POLL_INTERVAL);
        }
        this.started_in = begin.elapsed();
        this
    }

    /// User and system time of all its threads and those of its children, from the scheduler's account in nanoseconds.
    pub fn cpu_time(&self) -> Duration {
        let spent = |pid: &u32| -> u64 {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            // A thread may end while we look.
            let account = |path: std::path::PathBuf| fs::read_to_string(path.join("schedstat")).ok();
            threads.filter_map(|thread| account(thread.path())?.split(' ').next()?.parse::<u64>().ok()).sum()
        };
        Duration::from_nanos(self.tree().iter().map(spent).sum())
    }

    /// Resident memory of it and its children, in MiB.
    pub fn resident_mib(&self) -> f64 {
        let resident = |pid: &u32| -> Option<f64> {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse::<f64>().ok()
        };
        self.tree().iter().filter_map(resident).sum::<f64>() / 1_024.0
    }

    fn tree(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        let mut seen = 0;
        while let Some(pid) = pids.get(seen).copied() {
            seen += 1;
            for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
        }
        pids
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whoever has children ends them at this signal.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > Duration::from_secs(10) {
                let _ = self.child.kill();
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

pub fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
