//! The program: reads the command line, and leaves the rest to the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    hookcache::cli::run(hookcache::cli::Cli::parse())
}
