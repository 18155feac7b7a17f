//! What tests share: processes that they start and stop, a small HTTP client, and waiting without guessing.
//!
//! Every server listens on a free port of 127.0.0.1, is known to be the one that was started here (its process owns the
//! listener), and is killed on drop. Nothing here retries an assertion: [`eventually`] waits for a state, with a
//! deadline that only a fault reaches.

pub mod atlassian;
pub mod certificates;
pub mod client;
pub mod cloudformation;
pub mod cluster;
pub mod confluence;
pub mod dead;
pub mod hookcache;
pub mod lambda;
pub mod localstack;
pub mod microburst;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod sentinels;
pub mod sqs;
pub mod sqs_stand_in;
pub mod sqs_tap;
pub mod stack;
pub mod staller;

use std::future::Future;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub use certificates::Certificates;
pub use client::{Reply, http_delete, http_get, http_post, http_send};
pub use cluster::Cluster;
pub use dead::dead_letters;
pub use hookcache::Hookcache;
pub use lambda::Lambda;
pub use localstack::LocalStack;
pub use microburst::Microburst;
pub use postgres::Postgres;
pub use redis::{Program, Redis};
pub use sentinels::Sentinels;
pub use sqs::{LocalAwsSqs, Ministack, Queues};
pub use sqs_stand_in::SqsStandIn;
pub use sqs_tap::SqsTap;
pub use staller::Staller;
pub use tempfile::TempDir;

/// How long a test waits for a state before it fails. Far more than a loaded machine needs.
pub const DEADLINE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Below the range from which the system hands out ports of its own, so that no outgoing connection takes one of ours.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A port of 127.0.0.1 on which nothing listens, handed out to nobody else: tests run side by side, and a port that was
/// asked for is listened on only a moment later.
pub fn free_port() -> u16 {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().expect("no holder panics");
    loop {
        let port = next.unwrap_or_else(|| fastrand::u16(PORTS));
        *next = Some(if port + 1 < PORTS.end { port + 1 } else { PORTS.start });
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until `state` answers `Some`, and returns it. `what` is named when it never does.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, state: impl FnMut() -> F) -> T {
    eventually_within(DEADLINE, what, state).await
}

/// The same, with a deadline of the caller's, for what takes its time.
pub async fn eventually_within<T, F: Future<Output = Option<T>>>(
    deadline: Duration,
    what: &str,
    mut state: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = state().await {
            return found;
        }
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// A file that `make tools` installs.
pub fn tool(path: &str) -> PathBuf {
    let path = repository().join(".tools").join(path);
    assert!(path.exists(), "{} is missing: run `make tools`", path.display());
    path
}

pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
