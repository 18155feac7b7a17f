//! `hookcache doctor`: what is wrong or risky about the places behind the configuration, and how to mend it.

use std::fmt::Write as _;

use clap::Args as ClapArgs;
use serde::Serialize;

use super::config::Layers;
use super::output::print;
use super::runtime::block_on;
use crate::app::checks;
use crate::config::load;
use crate::doctor::{Finding, Severity, worst};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  hookcache doctor\n  hookcache doctor --config hookcache.toml\n  hookcache doctor \
    --config hookcache.toml --roles get\n  hookcache doctor --config hookcache.toml --json | jq '.findings[] | \
    select(.severity == \"risky\")'\n\nIt looks at what `serve` with the same flags would open, and leaves nothing behind. \
    `serve` makes the same checks when it starts: it logs what is risky and refuses what is dangerous.\n\nExit codes: \
    0 fine (ok and note), 4 risky, 1 dangerous, or a place that can't be looked at (unseen), or a wrong \
    configuration; 2 wrong use of the command line."
)]
pub struct Args {
    #[command(flatten)]
    layers: Layers,
    /// Print JSON: {"verdict", "findings": [{"check", "severity", "place", "found", "mend"}]}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    verdict: Severity,
    findings: &'a [Finding],
}

/// Answers with the worst of what was found.
pub fn run(args: Args) -> Result<Severity, String> {
    let config = load(&args.layers.sources()).map_err(|error| error.to_string())?.config;
    let findings = block_on(checks::examine(&config))?;
    let verdict = worst(&findings);
    match args.json {
        true => {
            let report = serde_json::to_string_pretty(&Report { verdict, findings: &findings });
            print(&format!("{}\n", report.map_err(|error| error.to_string())?))?;
        }
        false => print(&listing(&findings))?,
    }
    Ok(verdict)
}

/// A line for each finding under its place, with what to do below it; then how many there are of each severity.
fn listing(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut places: Vec<&str> = Vec::new();
    for finding in findings {
        if !places.contains(&finding.place.as_str()) {
            places.push(&finding.place);
        }
    }
    // Writing to memory can't fail.
    for place in places {
        let _ = writeln!(text, "{place}");
        for finding in findings.iter().filter(|finding| finding.place == place) {
            let _ = writeln!(text, "  {:<9}  {:<17}  {}", mark(finding.severity), finding.check, finding.found);
            if let Some(mend) = &finding.mend {
                let _ = writeln!(text, "  {:<9}  {:<17}  -> {mend}", "", "");
            }
        }
    }
    let all = [Severity::Dangerous, Severity::Unseen, Severity::Risky, Severity::Note, Severity::Ok];
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let counts = all.map(|severity| (count(severity), severity.as_str()));
    let told: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    let _ = writeln!(text, "\n{}", told.join(", "));
    text
}

/// What somebody must act on stands out.
fn mark(severity: Severity) -> String {
    match severity {
        Severity::Ok | Severity::Note => severity.as_str().to_owned(),
        Severity::Risky | Severity::Unseen | Severity::Dangerous => severity.as_str().to_uppercase(),
    }
}
