//! The subcommands that a person types: one file each.
//!
//! Answers go to standard output, everything else to standard error. Exit codes: 0 done; 1 it went wrong; 2 a wrong use
//! of the command line; 3 `get` found nothing under the key; 4 `doctor` found something risky, and nothing worse; 5
//! `confluence links` could not read the whole page.

pub mod client;
pub mod config;
pub mod confluence;
pub mod dead_letters;
pub mod delete;
pub mod doctor;
pub mod get;
pub mod healthcheck;
pub mod keys;
pub mod output;
pub mod pace;
#[cfg(feature = "sqs")]
pub mod queues;
mod runtime;
pub mod serve;
pub mod set;
pub mod token;
pub mod ttl;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::doctor::Severity;

/// What went wrong, as it is shown; the exit code is 1. A wrong use of the command line is 2, and told by clap.
pub type CliResult = Result<(), String>;

/// `get` found nothing.
const EXIT_ABSENT: u8 = 3;
/// `doctor` found what works, and can lose data or stop working one day.
const EXIT_RISKY: u8 = 4;
/// `confluence links` has printed what it found, and may have missed some.
const EXIT_FLAWED: u8 = 5;

/// A webhook cache: keeps the latest payload under every webhook key, and serves it back
#[derive(Debug, Parser)]
#[command(
    name = "hookcache",
    version,
    after_help = "Examples:\n  hookcache serve\n  hookcache set --account demo --flow first --key hello --data \
        '{\"text\":\"hello, world\"}'\n  hookcache get hello\n\nExit codes: 0 done, 1 it went wrong, 2 wrong use of the \
        command line, 3 `get` found nothing, 4 `doctor` found something risky, 5 `confluence links` could not read the \
        whole page."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server: accept sets, store them, and serve what is stored
    Serve(serve::Args),
    /// Set a payload under one or more webhook keys
    Set(set::Args),
    /// Get the payload under a webhook key, byte for byte
    Get(get::Args),
    /// Delete what is stored under webhook keys
    Delete(delete::Args),
    /// See and change how long entries live
    #[command(after_help = "Examples:\n  hookcache ttl show\n  hookcache ttl set --account acme 1h\n  hookcache ttl \
        explain --account acme --flow orders")]
    Ttl(ttl::Args),
    /// Look at what could not be stored, put it back on the road, or drop it
    #[command(
        after_help = "Examples:\n  hookcache dead-letters list\n  hookcache dead-letters show 42\n  hookcache dead-letters \
        redrive --reason forbidden-account --account acme\n  hookcache dead-letters drop --older-than 14d"
    )]
    DeadLetters(dead_letters::Args),
    /// See what is stored, and remove it
    #[command(
        after_help = "Examples:\n  hookcache keys list --account acme\n  hookcache keys show order/7\n  hookcache \
        keys purge --account acme --flow orders --dry-run"
    )]
    Keys(keys::Args),
    /// Look at Redis, SQS and disks behind the configuration: what is wrong or risky, and how to mend it
    Doctor(doctor::Args),
    /// Say whether the server beside it lives, or is ready: for an image that holds no other program
    Healthcheck(healthcheck::Args),
    /// Make the queues of an SQS buffer
    #[cfg(feature = "sqs")]
    #[command(
        after_help = "Examples:\n  hookcache queues create --config hookcache.toml --dry-run\n  hookcache queues create \
        --queue webhooks"
    )]
    Queues(queues::Args),
    /// Make and check bearer tokens
    #[command(
        after_help = "Examples:\n  hookcache token create --name upstream --scopes set --accounts acme\n  hookcache \
        token check --config hookcache.toml < token.txt"
    )]
    Token(token::Args),
    /// Check and show the configuration
    #[command(after_help = "Examples:\n  hookcache config check --config hookcache.toml\n  hookcache config print")]
    Config(config::Args),
    /// Look after Confluence sites, and look into their pages
    #[command(after_help = "Examples:\n  hookcache confluence add --site acme --account acme --base-url \
        https://acme.atlassian.net/wiki \\\n    --user bot@acme.example --token-file token.txt\n  hookcache confluence \
        status --site acme\n  hookcache confluence reindex --site acme\n  hookcache confluence \
        explain --site acme --page 123456\n  hookcache confluence links page.xml --base-url https://acme.atlassian.net/wiki --space DOC")]
    Confluence(confluence::Args),
}

/// Does what the command line says.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Get(args) => match get::run(args) {
            Ok(get::Found::Yes) => Ok(()),
            Ok(get::Found::No) => return ExitCode::from(EXIT_ABSENT),
            Err(error) => Err(error),
        },
        Command::Doctor(args) => match doctor::run(args) {
            Ok(Severity::Ok | Severity::Note) => Ok(()),
            Ok(Severity::Risky) => return ExitCode::from(EXIT_RISKY),
            Ok(Severity::Unseen | Severity::Dangerous) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Command::Confluence(args) => match confluence::run(args) {
            Ok(confluence::links::Read::Whole) => Ok(()),
            Ok(confluence::links::Read::WithFlaws) => return ExitCode::from(EXIT_FLAWED),
            Err(error) => Err(error),
        },
        Command::Serve(args) => serve::run(args),
        Command::Set(args) => set::run(args),
        Command::Healthcheck(args) => healthcheck::run(args),
        Command::Delete(args) => delete::run(args),
        Command::Ttl(args) => ttl::run(args),
        Command::DeadLetters(args) => dead_letters::run(args),
        Command::Keys(args) => keys::run(args),
        #[cfg(feature = "sqs")]
        Command::Queues(args) => queues::run(args),
        Command::Token(args) => token::run(args),
        Command::Config(args) => config::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hookcache: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_is_well_formed_and_its_help_has_examples() {
        let mut root = Cli::command();
        root.build();
        let mut commands: Vec<&clap::Command> = vec![&root];
        while let Some(command) = commands.pop() {
            if command.get_name() == "help" {
                continue;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no examples", command.get_name());
            commands.extend(command.get_subcommands());
        }
        root.debug_assert();
    }
}
