//! Open loop: requests are due at a fixed rate, whether or not earlier ones are answered, and latency counts from when a
//! request was due. So a pause of the server is charged to every request that fell into it (no coordinated omission).

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::http;
use crate::load::{CONNECTIONS, Call};
use crate::stage::KEYS;

/// Latencies of one round, sorted.
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        let place = ((self.0.len() - 1) as f64 * quantile).round() as usize;
        self.0[place].as_secs_f64() * 1e3
    }
}

/// Gets over [`CONNECTIONS`], each of which is due at every `CONNECTIONS / per_second`, evenly shifted.
pub fn round(call: &Call<'_>, seconds: u64, per_second: f64) -> Latencies {
    let interval = Duration::from_secs_f64(CONNECTIONS as f64 / per_second);
    let begin = Instant::now() + Duration::from_millis(50);
    let end = begin + Duration::from_secs(seconds);
    let mut all = std::thread::scope(|scope| {
        let one = |n: usize| {
            let first = begin + interval.mul_f64(n as f64 / CONNECTIONS as f64);
            scope.spawn(move || connection(call, first, interval, end))
        };
        let threads: Vec<_> = (0..CONNECTIONS).map(one).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    all.sort_unstable();
    Latencies(all)
}

fn connection(call: &Call<'_>, first: Instant, interval: Duration, end: Instant) -> Vec<Duration> {
    let stream = TcpStream::connect(("127.0.0.1", call.port)).expect("it listens");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut stream = BufReader::new(stream);
    let (mut due, mut latencies) = (first, Vec::new());
    while due < end {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let path = call.path.replace("{n}", &fastrand::usize(..KEYS).to_string());
        stream.get_mut().write_all(&http::get_bytes(&path, call.authorization)).expect("it takes requests");
        let answer = http::read(&mut stream).expect("it answers");
        assert_eq!(answer.status, 200);
        latencies.push(due.elapsed());
        due += interval;
    }
    latencies
}
