//! `hookcache keys`: what is stored, through the control plane of a running server.

use std::fmt::Write;

use clap::{Args as ClapArgs, Subcommand};
use http::Method;

use super::CliResult;
use super::client::{AdminTarget, escape};
use super::output::{columns, plain, print, print_json};
use super::pace::{Next, Pace, Progress};
use super::ttl::{parse_account, parse_flow};
use crate::admin::keys::json::{Entry, Listing, Looked, PurgeRequest, Purged};
use crate::envelope::{Account, Flow};

/// Entries that a list shows, unless the user says otherwise.
const LIMIT_DEFAULT: usize = 100;

#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what is stored, without payloads
    #[command(
        after_help = "Examples:\n  hookcache keys list --account acme\n  hookcache keys list --account acme --flow orders \
        --prefix order/ --limit 1000\n  hookcache keys list --json | jq .entries\n\nWhat is there during the whole walk is \
        listed, in no order; Redis may list an entry twice. What comes or goes meanwhile may be listed or not."
    )]
    List(List),
    /// Show what is known of one entry, without its payload
    #[command(
        after_help = "Examples:\n  hookcache keys show order/7\n  hookcache keys show order/7 --json\n\nThe payload \
        itself: hookcache get order/7"
    )]
    Show(Show),
    /// Remove what is stored of an account
    #[command(
        after_help = "Examples:\n  hookcache keys purge --account acme --dry-run\n  hookcache keys purge --account acme \
        --flow orders --yes\n  hookcache keys purge --account acme --prefix order/ --yes\n\nAn entry that is set anew \
        meanwhile stays. What was removed stays away, also where its event is delivered once more. Repeating it is \
        harmless."
    )]
    Purge(Purge),
}

#[derive(Debug, ClapArgs)]
struct Narrow {
    /// Only entries of this flow
    #[arg(long, value_parser = parse_flow)]
    flow: Option<Flow>,
    /// Only keys that begin so
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Look at no more keys than this
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true, value_name = "KEYS")]
    scan_limit: usize,
}

#[derive(Debug, ClapArgs)]
struct List {
    /// Only entries of this account
    #[arg(long, value_parser = parse_account)]
    account: Option<Account>,
    #[command(flatten)]
    narrow: Narrow,
    /// Show no more entries than this
    #[arg(long, default_value_t = LIMIT_DEFAULT, value_name = "ENTRIES")]
    limit: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: AdminTarget,
}

#[derive(Debug, ClapArgs)]
struct Show {
    /// The webhook key
    #[arg(value_name = "KEY")]
    key: String,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: AdminTarget,
}

#[derive(Debug, ClapArgs)]
#[group(id = "how", args = ["yes", "dry_run"], required = true, multiple = false)]
struct Purge {
    /// The account whose entries go
    #[arg(long, value_parser = parse_account)]
    account: Account,
    #[command(flatten)]
    narrow: Narrow,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Say how many would go, and remove none
    #[arg(long)]
    dry_run: bool,
    /// Go on where an earlier run ended, as it said
    #[arg(long, value_name = "CURSOR")]
    resume: Option<String>,
    /// What was done as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: AdminTarget,
}

pub fn run(args: Args) -> CliResult {
    match args.command {
        Command::List(args) => list(&args),
        Command::Show(args) => show(&args),
        Command::Purge(args) => purge(&args),
    }
}

fn list(args: &List) -> CliResult {
    let client = args.target.client()?;
    let (mut pace, mut progress) = (Pace::new(args.narrow.scan_limit), Progress::new("found"));
    let mut keys: Vec<Entry> = Vec::new();
    let looked = loop {
        let mut page: Listing = client.ask(Method::GET, &list_path(args, &pace), None)?;
        keys.append(&mut page.entries);
        progress.show(&page.looked, keys.len());
        if keys.len() >= args.limit || pace.next(&page.looked, 0) == Next::Done {
            break page.looked;
        }
    };
    progress.clear();
    let complete = looked.complete && keys.len() <= args.limit;
    keys.truncate(args.limit);
    if args.json {
        let looked = Looked { complete, next: None, scanned: None, total: None, ..looked };
        return print_json(&Listing { entries: keys, looked });
    }
    print(&rows(&keys))?;
    if !complete {
        eprintln!("complete: false; there may be more than --limit or --scan-limit let it show");
    }
    Ok(())
}

fn list_path(args: &List, pace: &Pace) -> String {
    let mut path = format!("/v1/entries?scanLimit={}", pace.scan_limit());
    let parts = [
        ("accountId", args.account.as_ref().map(Account::as_str)),
        ("flowId", args.narrow.flow.as_ref().map(Flow::as_str)),
        ("prefix", args.narrow.prefix.as_deref()),
        ("after", pace.after()),
    ];
    for (name, value) in parts {
        if let Some(value) = value {
            let _ = write!(path, "&{name}={}", escape(value));
        }
    }
    path
}

fn rows(keys: &[Entry]) -> String {
    if keys.is_empty() {
        return "nothing is stored\n".to_owned();
    }
    let mut rows = vec![["KEY", "ACCOUNT", "FLOW", "EVENT TIME", "EXPIRES", "BYTES"].map(str::to_owned)];
    rows.extend(keys.iter().map(|entry| {
        let Entry { webhook_key, account_id, flow_id, event_time, payload_bytes, .. } = entry;
        let (event, expires) = (plain(event_time), plain(entry.expires_at.as_deref().unwrap_or("never")));
        [plain(webhook_key), plain(account_id), plain(flow_id), event, expires, payload_bytes.to_string()]
    }));
    columns(&rows)
}

fn show(args: &Show) -> CliResult {
    let path = format!("/v1/entries/{}", escape(&args.key));
    let entry: Entry = args.target.client()?.ask(Method::GET, &path, None)?;
    if args.json {
        return print_json(&entry);
    }
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12}{}", plain(value));
    };
    line("key", &entry.webhook_key);
    line("account", &entry.account_id);
    line("flow", &entry.flow_id);
    line("id", &entry.id);
    line("ETag", &entry.e_tag);
    line("event time", &entry.event_time);
    line("expires", entry.expires_at.as_deref().unwrap_or("never"));
    line("bytes", &entry.payload_bytes.to_string());
    print(&text)
}

fn purge(args: &Purge) -> CliResult {
    let client = args.target.client()?;
    let mut pace = Pace::resumed(args.narrow.scan_limit, args.resume.clone());
    let word = if args.dry_run { "would be purged" } else { "purged" };
    let mut progress = Progress::new(word);
    let looked = Looked { complete: false, as_of_ms: 0, next: None, scanned: None, total: None };
    let mut sum = Purged { purged: 0, superseded: 0, reserved: 0, failed: Vec::new(), looked };
    loop {
        let request = PurgeRequest {
            account_id: args.account.to_string(),
            flow_id: args.narrow.flow.as_ref().map(Flow::to_string),
            prefix: args.narrow.prefix.clone(),
            scan_limit: Some(pace.scan_limit() as u64),
            after: pace.after().map(str::to_owned),
            dry_run: args.dry_run,
        };
        let body = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
        let part: Purged = client.ask(Method::POST, "/v1/purge", Some(&body)).map_err(|error| {
            let resume = pace.after().map_or_else(String::new, |cursor| format!(", with --resume {cursor}"));
            format!("{error}\n{} {word} before; repeating it is harmless{resume}", sum.purged)
        })?;
        sum.purged += part.purged;
        sum.superseded += part.superseded;
        sum.reserved += part.reserved;
        sum.failed.extend(part.failed);
        progress.show(&part.looked, sum.purged);
        let next = pace.next(&part.looked, 0);
        sum.looked = Looked { scanned: None, total: None, ..part.looked };
        if next == Next::Done {
            break;
        }
    }
    progress.clear();
    match args.json {
        true => print_json(&sum)?,
        false => print(&format!("{word}: {}\n", sum.purged))?,
    }
    judge(&sum)
}

/// What was left is said on standard error, and what was not done makes the exit code.
fn judge(sum: &Purged) -> CliResult {
    for (count, why) in [(sum.superseded, "changed meanwhile, and stay"), (sum.reserved, "are reserved to another")] {
        if count > 0 {
            eprintln!("{count} {why}");
        }
    }
    if let Some(cursor) = &sum.looked.next {
        eprintln!("complete: false; go on with --resume {cursor}");
    }
    match sum.failed.first() {
        Some(first) => {
            Err(format!("{} failed, the first being {}: {}", sum.failed.len(), first.webhook_key, first.detail))
        }
        None => Ok(()),
    }
}
