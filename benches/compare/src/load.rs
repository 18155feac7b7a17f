//! Closed loop: wrk asks again as soon as it is answered.

use std::path::Path;
use std::process::Command;

use crate::figures::Rounds;
use crate::process::Process;
use crate::stage::KEYS;

pub const CONNECTIONS: usize = 32;
/// One, as it needs less of a core than what it asks.
const THREADS: usize = 1;

/// What wrk asks for; `{n}` in path and body stands for the number of a key.
pub struct Call<'a> {
    pub port: u16,
    pub method: &'a str,
    pub path: &'a str,
    pub authorization: &'a str,
    pub body: Option<&'a str>,
}

/// Figures of one kind of load, one per round.
#[derive(Clone, Default)]
pub struct Figures {
    pub per_second: Rounds,
    pub p50_ms: Rounds,
    pub p99_ms: Rounds,
    /// CPU per request in microseconds: of the server, and of what it asks (Redis, SQS).
    pub server_us: Rounds,
    pub backend_us: Rounds,
}

/// One round.
pub fn round(call: &Call<'_>, seconds: u64, server: &Process, backend: &Process, figures: &mut Figures) {
    let before = (server.cpu_time(), backend.cpu_time());
    let done = wrk(call, seconds);
    let after = (server.cpu_time(), backend.cpu_time());
    let per_request = |spent: std::time::Duration| spent.as_secs_f64() * 1e6 / done.requests;
    figures.per_second.push(done.requests / done.seconds);
    figures.p50_ms.push(done.p50_ms);
    figures.p99_ms.push(done.p99_ms);
    figures.server_us.push(per_request(after.0 - before.0));
    figures.backend_us.push(per_request(after.1 - before.1));
}

struct Done {
    requests: f64,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// No request may fail: what fails fast would look fast.
fn wrk(call: &Call<'_>, seconds: u64) -> Done {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("wrk.lua");
    let mut command = Command::new("wrk");
    command.args(["-t", &THREADS.to_string(), "-c", &CONNECTIONS.to_string(), "-d", &format!("{seconds}s"), "-s"]);
    command.arg(script).arg(format!("http://127.0.0.1:{}", call.port));
    command.args(["--", call.method, call.path, &KEYS.to_string(), call.authorization]).args(call.body);
    let output = command.output().expect("wrk: run benches/compare/run");
    let text = String::from_utf8_lossy(&output.stdout);
    let told = || format!("wrk: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| line.strip_prefix("done ")).unwrap_or_else(|| panic!("{}", told()));
    let numbers: Vec<f64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
    let [requests, micros, failed, p50_us, p99_us] = numbers[..] else { panic!("{}", told()) };
    assert!(failed == 0.0 && requests > 0.0, "{failed} of {requests} failed. {}", told());
    Done { requests, seconds: micros / 1e6, p50_ms: p50_us / 1e3, p99_ms: p99_us / 1e3 }
}
