//! What all subjects share: Redis with the same payloads in each one's layout, a token, folders.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::http::Client;
use crate::process::Process;
use crate::redis;

/// Keys that gets are drawn from.
pub const KEYS: usize = 10_000;
/// Keys of one request while the entries are put in; hookcache takes 100.
const SETS_PER_ARRAY: usize = 100;

pub struct Stage {
    pub redis: Process,
    /// For everything that hookcache may be asked.
    pub token: String,
    /// Holds logs and data; emptied at each start.
    pub folder: PathBuf,
}

impl Stage {
    pub fn set() -> Self {
        let folder = root().join("target/compare-run");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let redis = redis::start(&folder);
        let token = make_token(&folder);
        Self { redis, token, folder }
    }

    pub fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.redis.port)
    }

    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// The file that makes hookcache know the token.
    pub fn config(&self) -> PathBuf {
        self.folder.join("hookcache.toml")
    }

    /// Puts entries `<prefix>0`, `<prefix>1` ... into Redis: hookcache's by its own set API, as whoever listens on this
    /// port takes them, and the same payloads as plain strings.
    pub fn fill(&self, hookcache_port: u16, prefix: &str, count: usize, payload: &str) {
        let mut client = Client::connect(hookcache_port, &self.bearer()).expect("hookcache listens");
        let numbers: Vec<usize> = (0..count).collect();
        for chunk in numbers.chunks(SETS_PER_ARRAY) {
            let sets: Vec<String> = chunk.iter().map(|n| set_body(&format!("{prefix}{n}"), payload)).collect();
            let answer = client.post("/v1/set", &format!("[{}]", sets.join(","))).expect("an answer");
            let told = String::from_utf8_lossy(&answer.body);
            assert!(answer.status == 200 && told.matches("\"status\":202").count() == chunk.len(), "{told}");
        }
        redis::set_all(self.redis.port, (0..count).map(|n| format!("plain:{prefix}{n}")), payload);
        for n in 0..count {
            while client.get(&format!("/v1/keys/{prefix}{n}")).expect("an answer").status != 200 {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// A JSON text of this many bytes.
pub fn payload(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

pub fn set_body(key: &str, payload: &str) -> String {
    format!(r#"{{"accountId":"acme","flowId":"orders","webhookKeys":["{key}"],"data":{payload}}}"#)
}

fn make_token(folder: &Path) -> String {
    let create = ["token", "create", "--name", "compare", "--scopes", "set,get,admin"];
    let made = Command::new(program()).args(create).output().expect("the program is built");
    assert!(made.status.success());
    std::fs::write(folder.join("hookcache.toml"), &made.stderr).expect("a file");
    String::from_utf8_lossy(&made.stdout).trim().to_owned()
}

/// The program, as `cargo build --release` makes it.
pub fn program() -> PathBuf {
    root().join("target/release/hookcache")
}

pub fn results_path() -> PathBuf {
    root().join("benches/RESULTS.md")
}

/// Of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders below it")
}
