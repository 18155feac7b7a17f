//! `hookcache confluence`: what concerns Confluence sites and their pages.

pub mod links;

use clap::{Args as ClapArgs, Subcommand};

#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the links of a page, from a file with its body: no site is asked
    Links(links::Args),
}

/// Whether the page could be read as a whole.
pub fn run(args: Args) -> Result<links::Read, String> {
    match args.command {
        Command::Links(args) => links::run(args),
    }
}
