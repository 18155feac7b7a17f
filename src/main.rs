//! The program: reads the command line, and leaves the rest to the library.

use std::process::ExitCode;

use clap::Parser;

/// A tenth less CPU per message than with the system's allocator (`benches/consumer.rs`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hookcache::cli::run(hookcache::cli::Cli::parse())
}
