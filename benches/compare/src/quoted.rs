//! Comparisons that other programs make, as they print them.

use std::process::{Command, Stdio};

use crate::report::Report;
use crate::stage::{Stage, root};

pub fn measure(_: &Stage, report: &mut Report) {
    report.section("The consumer", "Beside a Python handler that does the same (`benches/consumer.rs`).");
    let mut consumer = Command::new("cargo");
    consumer.args(["bench", "--locked", "--bench", "consumer"]);
    report.quote(&printed(consumer));

    let words = "redb, which the buffer stands on, and fjall at the buffer's work (`benches/compare/engines`), on the disk \
                 that holds this repository.";
    report.section("Engines", words);
    let mut engines = Command::new(root().join("target/compare/release/hookcache-compare-engines"));
    // The folder is part of the figure: a tmpfs syncs for nothing.
    engines.arg(root().join("target"));
    report.quote(&printed(engines));
}

fn printed(mut command: Command) -> String {
    let output = command.current_dir(root()).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.expect("benches/compare/run has built it");
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
