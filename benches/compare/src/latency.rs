//! Gets by key at a rate that all can bear: what a caller waits, pauses included.

use crate::args::Args;
use crate::figures::Rounds;
use crate::gets::{L1_OFF, L1_OFF_NAME};
use crate::load::{CONNECTIONS, Figures, round};
use crate::open_loop;
use crate::report::Report;
use crate::stage::{KEYS, Stage, payload};
use crate::subject::Subject;

const PAYLOAD_BYTES: usize = 512;
const PREFIX: &str = "latency-";
/// Of what webdis answers in a closed loop.
const SHARE_OF_WEBDIS: f64 = 0.3;
/// More than elsewhere: a p99 is a matter of few requests.
const ROUNDS_FACTOR: f64 = 1.8;

pub fn measure(stage: &Stage, args: &Args, report: &mut Report) {
    let (hits, misses) =
        (Subject::hookcache(stage, "hookcache", &[]), Subject::hookcache(stage, L1_OFF_NAME, &[L1_OFF]));
    stage.fill(misses.process.port, PREFIX, KEYS, &payload(PAYLOAD_BYTES));
    let (webdis, bare) = (Subject::webdis(stage), Subject::bare(stage, &misses, &format!("{PREFIX}0")));
    hits.read_all(PREFIX, KEYS);
    let per_second = SHARE_OF_WEBDIS * closed_loop_rate(stage, args, &webdis);
    let rounds = (args.rounds as f64 * ROUNDS_FACTOR) as usize;

    let words = format!(
        "Open loop: {per_second:.0} requests per second ({:.0} % of what webdis answers in a closed loop) over \
         {CONNECTIONS} connections, {PAYLOAD_BYTES} bytes, {rounds} rounds. Latency counts from when a request was due, so \
         that no pause is left out.",
        SHARE_OF_WEBDIS * 100.0
    );
    report.section("Latency at a fixed rate", &words);
    let subjects = [&bare, &webdis, &hits, &misses];
    let mut all = vec![[Rounds::default(), Rounds::default(), Rounds::default()]; subjects.len()];
    for _ in 0..rounds {
        for (subject, quantiles) in subjects.iter().zip(&mut all) {
            let path = subject.get_path(PREFIX);
            let latencies = open_loop::round(&subject.get(&path), args.seconds, per_second);
            for (rounds, quantile) in quantiles.iter_mut().zip([0.5, 0.99, 0.999]) {
                rounds.push(latencies.quantile_ms(quantile));
            }
        }
    }
    let row = |(subject, [p50, p99, p999]): (&&Subject, &[Rounds; 3])| {
        let behind_bare = p99.minus(&all[0][1]);
        let cells = [p50.spread(2), p99.spread(2), p999.spread(2), behind_bare.spread(2)];
        std::iter::once(subject.name.clone()).chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = subjects.iter().zip(&all).map(row).collect();
    report.table(&["", "p50", "p99", "p99.9", "p99 behind the bare server's"], &rows);
}

fn closed_loop_rate(stage: &Stage, args: &Args, subject: &Subject) -> f64 {
    let (mut figures, path) = (Figures::default(), subject.get_path(PREFIX));
    round(&subject.get(&path), args.seconds, &subject.process, &stage.redis, &mut figures);
    figures.per_second.median()
}
