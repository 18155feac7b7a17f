//! `hookcache queues`: makes the queue and the dead-letter queue of an SQS buffer as they should be.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::CliResult;
use super::output::print;
use super::runtime::block_on;
use crate::buffer::sqs::{self, Effect, Made, Mode, Plan};
use crate::config::{BufferOptions, Sources, load};

#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make both queues, or change what differs from what `hookcache doctor` asks for
    #[command(
        after_help = "Examples:\n  hookcache queues create --config hookcache.toml\n  hookcache queues create --config \
        hookcache.toml --dry-run\n  hookcache queues create --queue webhooks\n  hookcache queues create --queue webhooks \
        --endpoint-url http://127.0.0.1:4566\n\nThe names are the last parts of buffer.queue_url and \
        buffer.dead_letter_url, and of pages.queue_url and pages.dead_letter_url where page links are on; or they come \
        from the flags, and then the lines for the configuration file are printed. Run \
        again, it changes nothing. It never removes anything, and leaves alone what is better than asked for. It needs \
        sqs:GetQueueUrl, sqs:CreateQueue, sqs:GetQueueAttributes and sqs:SetQueueAttributes."
    )]
    Create(Create),
}

#[derive(Debug, ClapArgs)]
struct Create {
    /// Configuration file [env: HOOKCACHE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Name of the queue, in place of the last part of buffer.queue_url
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Name of the dead-letter queue; where absent, that of the queue and "-dead"
    #[arg(long, value_name = "NAME", requires = "queue")]
    dead_letter_queue: Option<String>,
    /// Another endpoint than AWS's own, such as that of an emulator [key: buffer.endpoint_url]
    #[arg(long, value_name = "URL", requires = "queue")]
    endpoint_url: Option<String>,
    /// The region [key: buffer.region]
    #[arg(long, value_name = "REGION", requires = "queue")]
    region: Option<String>,
}

pub fn run(args: Args) -> CliResult {
    let Command::Create(args) = args.command;
    let sources = Sources::of_process(args.config.clone(), Vec::new());
    let config = load(&sources).map_err(|error| error.to_string())?.config;
    let (visibility, configured) = match config.buffer {
        BufferOptions::Sqs(options) => (options.visibility, Some(options)),
        #[cfg(feature = "embedded")]
        BufferOptions::Embedded(options) => (options.visibility, None),
    };
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Apply };
    match (&args.queue, configured) {
        (Some(queue), configured) => {
            let dead_letters = args.dead_letter_queue.clone().unwrap_or_else(|| format!("{queue}-dead"));
            let access = access_by_flags(&args, configured);
            let made = create(&access, &Plan { queue: queue.clone(), dead_letters, visibility, mode })?;
            print(&lines_to_configure(&made, &args))
        }
        (None, Some(buffer)) => {
            create_configured(&buffer, mode)?;
            match config.page_links.map(|page_links| page_links.queue) {
                Some(BufferOptions::Sqs(pages)) => create_configured(&pages, mode),
                _ => Ok(()),
            }
        }
        (None, None) => Err("buffer.queue_url is not set: set it, or name the queue with --queue".to_owned()),
    }
}

fn create_configured(options: &sqs::Options, mode: Mode) -> CliResult {
    let (queue, dead_letters) = (name_of(&options.queue_url), name_of(&options.dead_letter_url));
    let made = create(options, &Plan { queue, dead_letters, visibility: options.visibility, mode })?;
    check_places(&made, options)
}

fn create(access: &sqs::Options, plan: &Plan) -> Result<[Made; 2], String> {
    let made = block_on(sqs::create(access, plan))?.map_err(|error| error.to_string())?;
    print(&report(&made, plan.mode))?;
    Ok(made)
}

/// Where names come from the command line, so does the way to them; what it leaves out, the configuration may say.
fn access_by_flags(args: &Create, configured: Option<sqs::Options>) -> sqs::Options {
    let configured = configured.unwrap_or_default();
    sqs::Options {
        endpoint_url: args.endpoint_url.clone().or(configured.endpoint_url),
        region: args.region.clone().or(configured.region),
        ..configured
    }
}

fn name_of(url: &str) -> String {
    url.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
}

fn report(made: &[Made], mode: Mode) -> String {
    let mut text = String::new();
    for Made { name, was_there, changes, .. } in made {
        let what = match (was_there, mode, changes.is_empty()) {
            (true, _, true) => "as it should be",
            (true, Mode::Apply, false) => "changed",
            (true, Mode::DryRun, false) => "would be changed",
            (false, Mode::Apply, _) => "created",
            (false, Mode::DryRun, _) => "would be created",
        };
        // Writing to memory can't fail.
        let _ = writeln!(text, "{name}: {what}");
        for (change, effect) in changes {
            let from = change.from.as_ref().map(|from| format!("{from} -> ")).unwrap_or_default();
            let left = match effect {
                Effect::Planned | Effect::Applied => String::new(),
                Effect::Unknown(code) => format!("  (not known here: {code})"),
                Effect::NotShown => "  (taken, but not shown yet; an emulator may not know it)".to_owned(),
            };
            let _ = writeln!(text, "  {}: {from}{}{left}", change.attribute, change.to);
        }
    }
    text
}

fn lines_to_configure([dead_letters, queue]: &[Made; 2], args: &Create) -> String {
    let (Some(queue_url), Some(dead_letter_url)) = (&queue.url, &dead_letters.url) else { return String::new() };
    let mut text = "\nFor the configuration file:\n\n[buffer]\n".to_owned();
    let given = |value: &Option<String>| value.clone().unwrap_or_default();
    for (key, value) in [
        ("queue_url", queue_url),
        ("dead_letter_url", dead_letter_url),
        ("endpoint_url", &given(&args.endpoint_url)),
        ("region", &given(&args.region)),
    ] {
        if !value.is_empty() {
            let _ = writeln!(text, "{key} = {value:?}");
        }
    }
    text
}

/// The queue that was made is the one that the configuration leads to, unless the credentials are of another account.
fn check_places([dead_letters, queue]: &[Made; 2], access: &sqs::Options) -> CliResult {
    let pairs = [
        (access.keys.queue_url, &access.queue_url, &queue.url),
        (access.keys.dead_letter_url, &access.dead_letter_url, &dead_letters.url),
    ];
    for (key, configured, made) in pairs {
        if let Some(made) = made
            && path(configured) != path(made)
        {
            return Err(format!(
                "{key} is {configured}, but the queue of that name is {made}: correct the key, or use the credentials of \
                 that account"
            ));
        }
    }
    Ok(())
}

/// Account and name; one host may go by several names.
fn path(url: &str) -> Vec<&str> {
    url.trim_end_matches('/').rsplitn(3, '/').take(2).collect()
}
