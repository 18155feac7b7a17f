//! `hookcache dead-letters`: what could not be stored, through the control plane of a running server.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use http::Method;

use super::CliResult;
use super::client::{AdminTarget, escape};
use super::output::{columns, plain, print, print_bytes, print_json};
use super::pace::{Next, Pace, Progress};
use crate::admin::dead_letters::SCAN_DEFAULT;
use crate::admin::dead_letters::json::{Letter, ListQuery, Listing, Looked, Queue, Selection, Settled, Whole};
use crate::envelope::{Account, Flow, PoisonCode};

/// Characters of a detail that a list shows; `show` shows all.
const DETAIL_CHARS_MAX: usize = 60;
/// Letters that a list shows, unless the user says otherwise.
const LIMIT_DEFAULT: usize = 100;
/// Rows that one call asks for at most: the server's own limit.
const ROWS_PER_CALL_MAX: usize = 1_000;

#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List dead letters with their reasons, without their bodies
    #[command(
        after_help = "Examples:\n  hookcache dead-letters list\n  hookcache dead-letters list --reason foreign-key \
        --account acme --newer-than 1d\n  hookcache dead-letters list --queue pages\n  hookcache dead-letters list --json | \
        jq .letters"
    )]
    List(List),
    /// Show one dead letter with its body
    #[command(after_help = "Examples:\n  hookcache dead-letters show 42\n  hookcache dead-letters show \
        019a0000-0000-7000-8000-000000000001 --body > message.json\n\nThe id is the letter's own, as `list` shows it, or \
        what the set was answered with.")]
    Show(Show),
    /// Put dead letters back on the road, after their cause was mended
    #[command(
        after_help = "Examples:\n  hookcache dead-letters redrive 42 43\n  hookcache dead-letters redrive --reason \
        forbidden-account --account acme\n  hookcache dead-letters redrive --all\n\nA letter is checked again like any \
        message: what is still wrong with it makes it a dead letter again, and what is too old stays too old. It never \
        overwrites what is newer."
    )]
    Redrive(Settle),
    /// Drop dead letters for good
    #[command(
        after_help = "Examples:\n  hookcache dead-letters drop 42\n  hookcache dead-letters drop --older-than 14d\n  \
        hookcache dead-letters drop --all"
    )]
    Drop(Settle),
}

#[derive(Debug, ClapArgs)]
struct Narrow {
    /// Whose dead letters: buffer (sets and deletes), or pages (what page links could not read)
    #[arg(long, value_parser = parse_queue, default_value = "buffer")]
    queue: Queue,
    /// Only letters of this reason
    #[arg(long, value_parser = parse_reason)]
    reason: Option<PoisonCode>,
    /// Only letters whose body names this account
    #[arg(long, value_parser = parse_account)]
    account: Option<Account>,
    /// Only letters whose body names this flow
    #[arg(long, value_parser = parse_flow)]
    flow: Option<Flow>,
    /// Only letters that lie there for longer, such as 90m or 2d
    #[arg(long, value_parser = parse_age, value_name = "TIME")]
    older_than: Option<Duration>,
    /// Only letters that lie there for no longer
    #[arg(long, value_parser = parse_age, value_name = "TIME")]
    newer_than: Option<Duration>,
    /// Look at no more letters than this. On SQS, looking at a letter hides it from others, for 30 seconds at most
    #[arg(long, default_value_t = SCAN_DEFAULT, value_name = "LETTERS")]
    scan_limit: usize,
}

#[derive(Debug, ClapArgs)]
struct List {
    #[command(flatten)]
    narrow: Narrow,
    /// Show no more letters than this
    #[arg(long, default_value_t = LIMIT_DEFAULT, value_name = "LETTERS")]
    limit: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: AdminTarget,
}

#[derive(Debug, ClapArgs)]
struct Show {
    /// The letter's own id, or the id of its event
    id: String,
    /// Whose dead letters: buffer, or pages
    #[arg(long, value_parser = parse_queue, default_value = "buffer")]
    queue: Queue,
    /// The body alone, byte for byte
    #[arg(long, conflicts_with = "json")]
    body: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Look at no more letters than this
    #[arg(long, default_value_t = SCAN_DEFAULT, value_name = "LETTERS")]
    scan_limit: usize,
    #[command(flatten)]
    target: AdminTarget,
}

#[derive(Debug, ClapArgs)]
struct Settle {
    /// Letters' own ids, or ids of their events
    ids: Vec<String>,
    #[command(flatten)]
    narrow: Narrow,
    /// All of them; needed where neither ids nor a filter narrow the choice
    #[arg(long)]
    all: bool,
    /// What was done as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: AdminTarget,
}

fn parse_queue(text: &str) -> Result<Queue, String> {
    let known = [Queue::Buffer, Queue::Pages].into_iter().find(|queue| queue.as_str() == text);
    known.ok_or_else(|| "must be buffer or pages".to_owned())
}

fn parse_reason(text: &str) -> Result<PoisonCode, String> {
    let known = PoisonCode::ALL.into_iter().find(|code| code.as_str() == text);
    known.ok_or_else(|| format!("must be one of {}", PoisonCode::ALL.map(PoisonCode::as_str).join(", ")))
}

fn parse_account(text: &str) -> Result<Account, String> {
    Account::parse(text).map_err(|error| error.to_string())
}

fn parse_flow(text: &str) -> Result<Flow, String> {
    Flow::parse(text).map_err(|error| error.to_string())
}

fn parse_age(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "must be a time such as 90m, 12h or 2d".to_owned())
}

pub fn run(args: Args) -> CliResult {
    match args.command {
        Command::List(args) => list(&args),
        Command::Show(args) => show(&args),
        Command::Redrive(args) => settle(&args, "redrive", "redriven"),
        Command::Drop(args) => settle(&args, "drop", "dropped"),
    }
}

fn list(args: &List) -> CliResult {
    let client = args.target.client()?;
    let (mut pace, mut progress) = (Pace::new(args.narrow.scan_limit), Progress::new("found"));
    let mut letters: Vec<Letter> = Vec::new();
    let (complete, as_of_ms) = loop {
        let limit = (args.limit - letters.len()).clamp(1, ROWS_PER_CALL_MAX);
        let mut listing: Listing = client.ask(Method::GET, &list_path(&args.narrow, &pace, limit), None)?;
        letters.append(&mut listing.letters);
        progress.show(&listing.looked, letters.len());
        if letters.len() >= args.limit {
            break (listing.looked.complete, listing.looked.as_of_ms);
        }
        match pace.next(&listing.looked, 0) {
            Next::Done => break (listing.looked.complete, listing.looked.as_of_ms),
            Next::On => {}
            // The same letters come again.
            Next::Again => letters.clear(),
        }
    };
    progress.clear();
    if args.json {
        let looked = Looked { complete, as_of_ms, next: None, scanned: None, total: None };
        return print_json(&Listing { letters, looked });
    }
    print(&rows(&letters))?;
    if !complete {
        eprintln!("complete: false; there are more than --limit or --scan-limit let it look at");
    }
    Ok(())
}

fn list_path(narrow: &Narrow, pace: &Pace, limit: usize) -> String {
    let mut path =
        format!("/v1/dead-letters?queue={}&limit={limit}&scanLimit={}", narrow.queue.as_str(), pace.scan_limit());
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(path, "&{name}={}", escape(&value));
        }
    };
    let ListQuery { reason, account_id, flow_id, older_than_seconds, newer_than_seconds, .. } = narrow.query();
    add("reason", reason);
    add("accountId", account_id);
    add("flowId", flow_id);
    add("olderThanSeconds", older_than_seconds.map(|seconds| seconds.to_string()));
    add("newerThanSeconds", newer_than_seconds.map(|seconds| seconds.to_string()));
    add("after", pace.after().map(str::to_owned));
    path
}

impl Narrow {
    fn query(&self) -> ListQuery {
        ListQuery {
            queue: self.queue,
            reason: self.reason.map(|reason| reason.as_str().to_owned()),
            account_id: self.account.as_ref().map(Account::to_string),
            flow_id: self.flow.as_ref().map(Flow::to_string),
            older_than_seconds: self.older_than.map(|time| time.as_secs()),
            newer_than_seconds: self.newer_than.map(|time| time.as_secs()),
            ..ListQuery::default()
        }
    }
}

fn rows(letters: &[Letter]) -> String {
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut rows = vec![["SINCE", "ID", "REASON", "ACCOUNT", "FLOW", "EVENT", "DETAIL"].map(str::to_owned)];
    rows.extend(letters.iter().map(|letter| {
        let known = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), plain);
        let detail = plain(&letter.detail).chars().take(DETAIL_CHARS_MAX).collect();
        let (id, reason) = (plain(&letter.message_id), letter.reason.clone());
        let (account, flow) = (known(&letter.account_id), known(&letter.flow_id));
        [known(&letter.since), id, reason, account, flow, known(&letter.id), detail]
    }));
    columns(&rows)
}

fn show(args: &Show) -> CliResult {
    let client = args.target.client()?;
    let path =
        format!("/v1/dead-letters/{}?queue={}&scanLimit={}", escape(&args.id), args.queue.as_str(), args.scan_limit);
    let whole: Whole = client.ask(Method::GET, &path, None)?;
    if args.body {
        return print_bytes(whole.body.as_bytes());
    }
    if args.json {
        return print_json(&whole);
    }
    let Whole { letter, body } = whole;
    let mut text = String::new();
    let mut line = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<18}{}", plain(value));
        }
    };
    line("id", Some(&letter.message_id));
    line("id in the queue", letter.former_message_id.as_deref());
    line("reason", Some(&letter.reason));
    line("detail", Some(&letter.detail));
    line("since", letter.since.as_deref());
    line("event", letter.id.as_deref());
    line("arrived", letter.at.as_deref());
    line("by", letter.by.as_deref());
    line("account", letter.account_id.as_deref());
    line("flow", letter.flow_id.as_deref());
    line("bytes", Some(&letter.body_bytes.to_string()));
    print(&format!("{text}\n{}\n", body.lines().map(plain).collect::<Vec<_>>().join("\n")))
}

fn settle(args: &Settle, verb: &str, done_word: &'static str) -> CliResult {
    let client = args.target.client()?;
    let ListQuery { queue, reason, account_id, flow_id, older_than_seconds, newer_than_seconds, .. } =
        args.narrow.query();
    let (ids, all) = (args.ids.clone(), args.all);
    let selection = Selection {
        queue,
        ids,
        reason,
        account_id,
        flow_id,
        older_than_seconds,
        newer_than_seconds,
        all,
        ..Selection::default()
    };
    let (mut pace, mut progress) = (Pace::new(args.narrow.scan_limit), Progress::new(done_word));
    let looked = Looked { complete: false, as_of_ms: 0, next: None, scanned: None, total: None };
    let mut as_of_ms = None;
    let mut sum = Settled { done: 0, failed: Vec::new(), missing: args.ids.clone(), looked };
    loop {
        let part = Selection {
            scan_limit: Some(pace.scan_limit() as u64),
            after: pace.after().map(str::to_owned),
            as_of_ms,
            ..selection.clone()
        };
        let body = serde_json::to_vec(&part).map_err(|error| error.to_string())?;
        let part: Settled = client
            .ask(Method::POST, &format!("/v1/dead-letters/{verb}"), Some(&body))
            .map_err(|error| format!("{error}\n{} were {done_word} before; repeating it is harmless", sum.done))?;
        sum.done += part.done;
        sum.failed.extend(part.failed);
        let still: BTreeSet<String> = part.missing.into_iter().collect();
        sum.missing.retain(|id| still.contains(id));
        as_of_ms = Some(part.looked.as_of_ms);
        (sum.looked.complete, sum.looked.as_of_ms) = (part.looked.complete, part.looked.as_of_ms);
        progress.show(&part.looked, sum.done);
        let all_found = !args.ids.is_empty() && sum.missing.is_empty();
        if all_found || pace.next(&part.looked, part.done) == Next::Done {
            break;
        }
    }
    progress.clear();
    if args.json {
        print_json(&sum)?;
    } else {
        print(&format!("{done_word}: {}\n", sum.done))?;
    }
    judge(&sum, args.ids.is_empty())
}

/// What is left to do is said on standard error, and what was not done makes the exit code.
fn judge(sum: &Settled, by_filter: bool) -> CliResult {
    let Looked { complete, .. } = sum.looked;
    if let Some(first) = sum.failed.first() {
        return Err(format!("{} failed, the first being {}: {}", sum.failed.len(), first.message_id, first.detail));
    }
    if !sum.missing.is_empty() {
        let more = if complete { "" } else { ", and not all were looked at: raise --scan-limit" };
        return Err(format!("no dead letter has the id {}{more}", sum.missing.join(", ")));
    }
    if by_filter && !complete {
        eprintln!("complete: false; there are more than --scan-limit let it look at: run it again, or raise it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters_of_a_letter() {
        let letter: Letter = serde_json::from_value(serde_json::json!({
            "messageId": "1", "reason": "not-valid", "detail": "a\u{1b}[2Jb", "id": "\u{7}", "bodyBytes": 1,
        }))
        .unwrap();
        let text = rows(&[letter]);
        assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
        assert!(text.contains("a?[2Jb"), "{text}");
    }
}
