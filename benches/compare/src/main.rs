//! Side by side with peers: gets by key over HTTP, and what else tells how much hookcache takes.
//!
//! Everything is started here, on free ports of 127.0.0.1, and ends with it. Subjects are measured in turn, one short
//! round each, so that a machine that gets busier for a while does so for all of them. Each figure is a median with its
//! least and most; ratios are taken within a round. The figure that survives a noisy machine is CPU per request, which
//! is the kernel's own account of the processes (/proc), and counts the kernel's work for them.
//!
//! `benches/compare/run` installs what it needs and builds; it calls this with the arguments that it was given.
//!
//! | file | holds |
//! | --- | --- |
//! | `args` | what may be said on the command line |
//! | `stage` | what all subjects share: Redis with its entries, tokens, folders |
//! | `subject` | who is measured: the bare server, hookcache, webdis, a FastAPI handler |
//! | `process` | a process that ends with us; its CPU time and memory |
//! | `http`, `redis` | the few calls that set the stage |
//! | `load` | closed loop: wrk, as many requests as come back |
//! | `open_loop` | open loop: a fixed rate, latency from when a request was due |
//! | `gets`, `latency`, `sets`, `sizes`, `quoted` | the sections of the report |
//! | `figures`, `report` | medians, ratios, tables |

mod args;
mod figures;
mod gets;
mod http;
mod latency;
mod load;
mod open_loop;
mod process;
mod quoted;
mod redis;
mod report;
mod sets;
mod sizes;
mod stage;
mod subject;

use args::{Args, Section};
use report::Report;
use stage::Stage;

fn main() {
    let args = Args::parse(std::env::args().skip(1)).unwrap_or_else(|why| {
        eprintln!("{why}\n{}", args::USAGE);
        std::process::exit(2)
    });
    let mut report = Report::begin(&args);
    for section in &args.sections {
        // A stage for each, so that no section finds what another left in Redis.
        let stage = Stage::set();
        match section {
            Section::Gets => gets::measure(&stage, &args, &mut report),
            Section::Latency => latency::measure(&stage, &args, &mut report),
            Section::Sets => sets::measure(&stage, &args, &mut report),
            Section::Sizes => sizes::measure(&stage, &args, &mut report),
            Section::Quoted => quoted::measure(&stage, &mut report),
        }
    }
    report.end(&args, &stage::results_path());
}
