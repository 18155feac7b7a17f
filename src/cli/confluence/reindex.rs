//! `hookcache confluence reindex`: asks for a site to be read again, and watches.

use std::time::{Duration, Instant, SystemTime};

use clap::Args as ClapArgs;
use http::Method;

use crate::admin::reindex::json::{Asked, Progress, Request, State, Status};
use crate::cli::CliResult;
use crate::cli::client::{AdminTarget, Client, escape};
use crate::cli::output::{plain, print, print_json};
use crate::cli::pace::{StatusLine, bar};

/// How often it is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(700);
/// How often it is told where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// A run that has not begun by then may have nobody who works on it.
const BEGUN_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  hookcache confluence reindex --site acme\n  hookcache confluence reindex --site acme --since \
    3d\n  hookcache confluence reindex --site acme --full --no-wait\n\nWithout --since and --full it reads what was changed \
    since the last time. A full one reads every page, stores each anew, and drops what the site does not have any more.\n\n\
    Exit codes: 0 it has ended well (with --no-wait: it was asked for), 1 it has failed or could not be asked for."
)]
pub struct Args {
    /// The site
    #[arg(long, value_name = "SITE")]
    site: String,
    /// Read what was changed since then: a moment such as 2026-01-31T00:00:00Z, or a time such as 90m or 3d
    #[arg(long, value_name = "TIME", value_parser = parse_since, conflicts_with = "full")]
    since: Option<String>,
    /// Read every page, and find what is gone
    #[arg(long)]
    full: bool,
    /// Wait until it is done; so it does unless told otherwise
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Only ask for it
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// Wait for no longer than this
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// How it has ended, or that it was asked for, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: AdminTarget,
}

/// As RFC 3339.
fn parse_since(text: &str) -> Result<String, String> {
    let moment = match humantime::parse_duration(text) {
        Ok(ago) => SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH).max(SystemTime::UNIX_EPOCH),
        Err(_) => humantime::parse_rfc3339(text)
            .map_err(|_| "must be a moment such as 2026-01-31T00:00:00Z, or a time such as 90m or 3d".to_owned())?,
    };
    Ok(humantime::format_rfc3339_millis(moment).to_string())
}

pub fn run(args: &Args) -> CliResult {
    let client = args.target.client()?;
    let path = format!("/v1/sites/{}/reindex", escape(&args.site));
    let before: Status = client.ask(Method::GET, &path, None)?;
    let request = Request { since: args.since.clone(), full: args.full };
    let body = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
    let asked: Asked = client.ask(Method::POST, &path, Some(&body))?;
    if args.no_wait {
        if args.json {
            return print_json(&asked);
        }
        return print(&format!("asked for: {}\n", what(&asked.scope, asked.since.as_deref())));
    }
    let ended = watch(args, &client, &path, &before, &asked)?;
    if args.json {
        print_json(&ended)?;
    }
    match &ended.error {
        Some(why) => Err(format!("the reindex {} of {} has failed: {}", ended.number, args.site, plain(why))),
        None if args.json => Ok(()),
        None => print(&format!(
            "done: {} pages read, {} had changed, {} asked for because the list did not name them\n",
            ended.pages_seen, ended.pages_changed, ended.pages_swept
        )),
    }
}

/// Watches until the run has ended.
fn watch(args: &Args, client: &Client, path: &str, before: &Status, asked: &Asked) -> Result<Progress, String> {
    let (began, mut line, mut told, mut warned) = (Instant::now(), StatusLine::default(), None, false);
    loop {
        let status: Status = client.ask(Method::GET, path, None).inspect_err(|_| line.clear())?;
        let run = status.runs.iter().rev().find(|run| stands_for(run, before, asked));
        if let Some(run) = run.filter(|run| matches!(run.state, State::Succeeded | State::Failed)) {
            line.clear();
            return Ok(run.clone());
        }
        let text = told_of(run, &status);
        let due =
            told.as_ref().is_none_or(|(at, last): &(Instant, String)| at.elapsed() >= TELL_EVERY && *last != text);
        if !line.show(&text) && due {
            eprintln!("{text}");
            told = Some((Instant::now(), text));
        }
        let has_begun = run.is_some_and(|run| run.began_at.is_some() || run.waits.is_some());
        if !has_begun && !warned && began.elapsed() >= BEGUN_AFTER {
            line.clear();
            eprintln!("it has not begun yet: do processes with the roles pages and reindex run?");
            warned = true;
        }
        if args.timeout.is_some_and(|timeout| began.elapsed() >= timeout) {
            line.clear();
            return Err(format!("not done in time; it goes on. Last seen: {text}", text = told_of(run, &status)));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Does this run do what was asked for? It was asked for then or later, and reads as much.
fn stands_for(run: &Progress, before: &Status, asked: &Asked) -> bool {
    let had_ended = before.runs.iter().any(|old| old.number == run.number && old.ended_at.is_some());
    let reads_as_much = match (run.scope.as_str(), asked.scope.as_str()) {
        ("full", _) => true,
        (_, "full") => false,
        // The earlier moment was taken, or what this one asks for is in it anyway.
        _ => true,
    };
    !had_ended && run.asked_ms >= asked.asked_ms && reads_as_much
}

fn told_of(run: Option<&Progress>, status: &Status) -> String {
    let Some(run) = run else {
        return status.not_active.as_deref().map_or_else(|| "asked for, not begun yet".to_owned(), plain);
    };
    let Progress { pages_seen, pages_changed, pages_swept, .. } = run;
    let counts = format!("{pages_seen} pages read, {pages_changed} changed");
    match run.state {
        State::Asked => "asked for, not begun yet".to_owned(),
        State::Waiting => {
            let (until, why) = run.waits.as_ref().map_or(("", ""), |waits| (&waits.until, &waits.why));
            format!("{counts}; it waits until {until}: {}", plain(why))
        }
        State::Listing if run.scope == "full" && status.pages_known > *pages_seen => {
            let (seen, known) = (*pages_seen as usize, status.pages_known as usize);
            format!("{} {counts}, of {known} that are known", bar(seen, known))
        }
        State::Listing => counts,
        State::Sweeping => format!("{counts}; {pages_swept} asked for that the list did not name"),
        State::Succeeded | State::Failed => counts,
    }
}

fn what(scope: &str, since: Option<&str>) -> String {
    match (scope, since) {
        ("full", _) => "every page".to_owned(),
        (_, Some(since)) => format!("what was changed since {}", plain(since)),
        _ => "what was changed since the last time".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ago_and_a_moment_are_both_moments() {
        assert_eq!(parse_since("2026-01-31T00:00:00Z").unwrap(), "2026-01-31T00:00:00.000Z");
        let ago = humantime::parse_rfc3339(&parse_since("1h").unwrap()).unwrap();
        let hour = Duration::from_secs(3_600);
        assert!(ago.elapsed().is_ok_and(|age| (hour..hour + Duration::from_secs(60)).contains(&age)));
        assert_eq!(parse_since("1000000d").unwrap(), "1970-01-01T00:00:00.000Z");
        for bad in ["", "yesterday", "2026-01-31", "-1h"] {
            assert!(parse_since(bad).is_err(), "{bad}");
        }
    }
}
