//! How soon it answers, and how much room it takes.

use crate::args::Args;
use crate::figures::Rounds;
use crate::gets::L1_OFF;
use crate::report::Report;
use crate::stage::{Stage, payload, program};
use crate::subject::Subject;

const ENTRIES: usize = 100_000;
const PAYLOAD_BYTES: usize = 512;
const PREFIX: &str = "size-";

pub fn measure(stage: &Stage, args: &Args, report: &mut Report) {
    report.section(
        "Start and size",
        &format!(
            "From the start of the process to its first answer, and resident memory in MiB: idle, and after each of \
             {ENTRIES} entries of {PAYLOAD_BYTES} bytes in Redis was read once."
        ),
    );
    let filler = Subject::hookcache(stage, "filler", &[]);
    stage.fill(filler.process.port, PREFIX, ENTRIES, &payload(PAYLOAD_BYTES));
    drop(filler);
    let starts: [(&str, &dyn Fn() -> Subject); 5] = [
        ("hookcache, embedded", &|| Subject::hookcache_alone(stage, "embedded", &[])),
        ("hookcache over Redis", &|| Subject::hookcache(stage, "redis", &[])),
        ("hookcache over Redis, L1 off", &|| Subject::hookcache(stage, "off", &[L1_OFF])),
        ("webdis", &|| Subject::webdis(stage)),
        ("FastAPI", &|| Subject::fastapi(stage)),
    ];
    let mut started_ms = vec![Rounds::default(); starts.len()];
    let mut subjects = Vec::new();
    for round in 0..args.rounds {
        for ((_, start), started_ms) in starts.iter().zip(&mut started_ms) {
            let subject = start();
            started_ms.push(subject.process.started_in.as_secs_f64() * 1e3);
            if round + 1 == args.rounds {
                subjects.push(subject);
            }
        }
    }
    let row = |((name, _), (started_ms, subject)): (&(&str, _), (&Rounds, &Subject))| {
        let idle = subject.process.resident_mib();
        let full = match *name {
            // Nothing of what is in Redis is asked of it; and the peers remember nothing.
            "hookcache, embedded" | "webdis" | "FastAPI" => "-".to_owned(),
            _ => {
                subject.read_all(PREFIX, ENTRIES);
                format!("{:.0}", subject.process.resident_mib())
            }
        };
        vec![(*name).to_owned(), started_ms.spread(0), format!("{idle:.0}"), full]
    };
    let rows: Vec<Vec<String>> = starts.iter().zip(started_ms.iter().zip(&subjects)).map(row).collect();
    report.table(&["", "start", "memory, idle", "memory, all read"], &rows);
    let bytes = std::fs::metadata(program()).expect("the program is built").len();
    report.say(&format!("The program is one file of {:.1} MiB.", bytes as f64 / f64::from(1 << 20)));
}
