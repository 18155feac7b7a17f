//! `hookcache confluence`: sites, and what their pages link to.

mod add;
mod explain;
pub mod links;
mod reindex;
mod sites;

use clap::{Args as ClapArgs, Subcommand};

use super::CliResult;

#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a site that has no app, or replace its credential
    Add(add::Args),
    /// List sites
    List(sites::List),
    /// Show how a site is: its state, its last event, how far its index is
    Status(sites::Look),
    /// Stop reading a site for a while; its links stay
    #[command(after_help = "Example:\n  hookcache confluence pause --site acme")]
    Pause(sites::One),
    /// Go on reading a site, with what has changed meanwhile
    #[command(after_help = "Example:\n  hookcache confluence resume --site acme")]
    Resume(sites::One),
    /// Stop reading a site at once, delete its links, and forget it
    #[command(after_help = "Example:\n  hookcache confluence remove --site acme")]
    Remove(sites::One),
    /// Show the links of a page, from a file with its body: no site is asked
    Links(links::Args),
    /// Read a site again, for what no event has told, and wait until it is done
    Reindex(reindex::Args),
    /// Say where the links of a page are, and what to do when they are not what they should be
    Explain(explain::Args),
}

/// Whether the page could be read as a whole, where a page is read.
pub fn run(args: Args) -> Result<links::Read, String> {
    let done: CliResult = match args.command {
        Command::Links(args) => return links::run(args),
        Command::Add(args) => add::run(args),
        Command::List(args) => sites::list(&args),
        Command::Status(args) => sites::status(&args),
        Command::Pause(args) => sites::pause(&args),
        Command::Resume(args) => sites::resume(&args),
        Command::Remove(args) => sites::remove(&args),
        Command::Reindex(args) => reindex::run(&args),
        Command::Explain(args) => explain::run(&args),
    };
    done.map(|()| links::Read::Whole)
}
