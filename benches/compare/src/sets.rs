//! Sets accepted per second: each answered only once it is safe in the buffer.

use std::process::Command;

use crate::args::Args;
use crate::figures::Rounds;
use crate::load::{CONNECTIONS, Call, Figures, round};
use crate::process::{Process, free_port, listens};
use crate::report::Report;
use crate::stage::{Stage, payload, program, root, set_body};
use crate::subject::Subject;

const PAYLOAD_BYTES: usize = 512;
const QUEUE: &str = "webhooks";

pub fn measure(stage: &Stage, args: &Args, report: &mut Report) {
    let emulator = emulator(stage);
    let environment = queues(emulator.port);
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // The emulator is idle while the embedded buffer is measured.
    let subjects = [
        Subject::hookcache_alone(stage, "embedded buffer and store", &[]),
        Subject::hookcache_alone(stage, "SQS emulator", &environment),
    ];
    let words = format!(
        "wrk, closed loop, {CONNECTIONS} connections, one key and {PAYLOAD_BYTES} bytes a set. Embedded, an answer follows a \
         sync of the disk that holds this repository, which concurrent sets share, and the same process stores what it \
         accepts. With SQS, it follows the emulator's word (local-aws-sqs, one thread of Node.js): where that is near one \
         core, the emulator is the bottleneck."
    );
    report.section("Sets accepted", &words);
    let (mut all, authorization) = (vec![Figures::default(); subjects.len()], stage.bearer());
    let body = set_body("set-{n}", &payload(PAYLOAD_BYTES));
    for _ in 0..args.rounds {
        for (subject, figures) in subjects.iter().zip(&mut all) {
            let (port, path) = (subject.process.port, "/v1/set");
            let call = Call { port, method: "POST", path, authorization: &authorization, body: Some(&body) };
            round(&call, args.seconds, &subject.process, &emulator, figures);
        }
    }
    let row = |(subject, figures): (&Subject, &Figures)| {
        let Figures { per_second, p50_ms, p99_ms, server_us, backend_us } = figures;
        let cores = |us: &Rounds| us.times(per_second).scaled(1e-6).spread(2);
        let (name, cpu) = (subject.name.clone(), server_us.spread(1));
        vec![name, per_second.spread(0), p50_ms.spread(1), p99_ms.spread(1), cpu, cores(server_us), cores(backend_us)]
    };
    let rows: Vec<Vec<String>> = subjects.iter().zip(&all).map(row).collect();
    report.table(&["", "sets/s", "p50", "p99", "CPU per set", "cores, hookcache", "cores, emulator"], &rows);
}

fn emulator(stage: &Stage) -> Process {
    let (port, mut command) = (free_port(), Command::new("node"));
    command.arg(root().join("tests/tools/local-aws-sqs.js")).arg(port.to_string());
    Process::start(command, port, &stage.folder.join("sqs.log"), listens)
}

/// Creates both queues, and says how a process that only accepts finds them.
fn queues(port: u16) -> Vec<(&'static str, String)> {
    let url = |name: &str| format!("http://127.0.0.1:{port}/123456789012/{name}");
    let mut environment = vec![
        ("HOOKCACHE_BUFFER__QUEUE_URL", url(QUEUE)),
        ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", url(&format!("{QUEUE}-dead"))),
        ("HOOKCACHE_BUFFER__ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
        ("HOOKCACHE_BUFFER__REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
    ];
    let create = Command::new(program()).args(["queues", "create"]).envs(environment.clone()).output();
    let created = create.expect("the program is built");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    environment.push(("HOOKCACHE_ROLES", "set".to_owned()));
    environment
}
