//! A real PostgreSQL 15, with its data in a folder of its own. It runs as another user where the tests run as root, which
//! it refuses to.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::free_port;
use super::process::{Process, Recipe};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
const USER: &str = "hookcache";
/// The user that Debian's package makes.
const SYSTEM_USER: &str = "postgres";
/// A client that logs in. The answer is `R`, for let in, or `E` while it is starting.
const PROBE: &str = "\0\0\0\u{2a}\0\u{3}\0\0user\0hookcache\0database\0postgres\0\0";
const SETTINGS: [&str; 5] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "max_connections=50",
    "logging_collector=off",
];

pub struct Postgres {
    process: Process,
    _folder: TempDir,
}

impl Postgres {
    pub async fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let data = folder.path().join("data");
        own(folder.path());
        let made = as_user("initdb")
            .args(["--no-sync", "--no-instructions", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", USER, "-D"])
            .arg(&data)
            .output()
            .expect("initdb starts: run `make tools`");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let command = as_user("postgres");
        let mut args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        args.extend(["-D".into(), data.into(), "-p".into(), port.to_string().into()]);
        args.extend(SETTINGS.iter().flat_map(|setting| ["-c".into(), (*setting).into()]));
        let program = command.get_program().into();
        let recipe = Recipe { program, args, env: Vec::new(), port, probe: PROBE, ready: &["R"] };
        Self { process: Process::start(recipe).await, _folder: folder }
    }

    /// Of the database of this name.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.process.port())
    }

    /// Makes an empty database, and tells its URL.
    pub fn database(&self, name: &str) -> String {
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(name)
    }

    /// What psql says: a row per line, `|` between columns.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let psql = Command::new(format!("{PROGRAMS}/psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1"])
            .args(["-c", statement, &self.url(database)])
            .output()
            .expect("psql is installed");
        assert!(psql.status.success(), "{statement}: {}", String::from_utf8_lossy(&psql.stderr));
        String::from_utf8_lossy(&psql.stdout).trim_end().to_owned()
    }

    /// Ends it as an operator does who can't wait: every connection is cut.
    pub async fn stop(&mut self) {
        self.process.signal("INT");
        self.process.until_exit().await;
    }

    /// Starts it again on the same port and data.
    pub async fn start_again(&mut self) {
        self.process.start_again().await;
    }
}

/// One of its programs, as a user that may run it.
fn as_user(program: &str) -> Command {
    let program = format!("{PROGRAMS}/{program}");
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", SYSTEM_USER, "--regid", SYSTEM_USER, "--clear-groups", &program]);
    command
}

/// Makes a folder that user's.
fn own(folder: &Path) {
    if !is_root() {
        return;
    }
    let id = |flag| {
        let output = Command::new("id").args([flag, SYSTEM_USER]).output().expect("id is there");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("Debian's package has made the user postgres")
    };
    chown(folder, Some(id("-u")), Some(id("-g"))).expect("root may");
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0)
}
