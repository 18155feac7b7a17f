//! `hookcache confluence explain`: where the links of a page are. The last line says what to do.

use std::fmt::Write;

use clap::Args as ClapArgs;
use http::Method;

use crate::admin::explain::json::{Dead, Explained, Known, Stored, Waiting};
use crate::admin::reindex::json::{Next, Progress, State};
use crate::cli::CliResult;
use crate::cli::client::{AdminTarget, escape};
use crate::cli::output::{plain, print, print_json};

/// Width of the names.
const NAME_CHARS: usize = 14;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  hookcache confluence explain --site acme --page 123456\n  hookcache confluence explain --site \
    acme --page 123456 --json | jq -r .advice\n\nThe id of a page stands in its URL: .../spaces/DOC/pages/123456/Title."
)]
pub struct Args {
    /// The site
    #[arg(long, value_name = "SITE")]
    site: String,
    /// The id of the page
    #[arg(long, value_name = "ID")]
    page: u64,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: AdminTarget,
}

pub fn run(args: &Args) -> CliResult {
    let path = format!("/v1/sites/{}/pages/{}", escape(&args.site), args.page);
    let explained: Explained = args.target.client()?.ask(Method::GET, &path, None)?;
    if args.json { print_json(&explained) } else { print(&text(&explained)) }
}

fn text(explained: &Explained) -> String {
    let Explained { site, account_id, page, webhook_key, known, stored, waiting, dead, .. } = explained;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<NAME_CHARS$}{}", plain(&value));
    };
    line("site", format!("{site}, of account {account_id}"));
    line("page", known.as_ref().map_or_else(|| page.clone(), |known| named(page, known)));
    let event = known.as_ref().and_then(|known| known.last_event.as_ref());
    line("last event", event.map_or_else(none, |event| format!("{} at {}", event.name, event.at)));
    let fetch = known.as_ref().and_then(|known| known.last_fetch.as_ref());
    line("last fetch", fetch.map_or_else(none, |fetch| format!("{}, asked at {}", fetch.result, fetch.at)));
    line("read", known.as_ref().map_or_else(none, read));
    line("stored", stored.as_ref().map_or_else(|| format!("nothing under {webhook_key}"), |it| kept(it, webhook_key)));
    line("waiting", waits(waiting));
    line("dead letters", died(dead));
    line("last reindex", explained.last_reindex.as_ref().map_or_else(none, reindexed));
    line(
        "next reindex",
        explained.next_reindex.as_ref().map_or_else(none, |Next { at, scope }| format!("{scope} at {at}")),
    );
    format!("{text}\n{}\n", plain(&explained.advice))
}

fn none() -> String {
    "none".to_owned()
}

fn named(page: &str, Known { title, space, .. }: &Known) -> String {
    match (title.as_str(), space) {
        ("", _) => page.to_owned(),
        (title, None) => format!("{page} {title:?}"),
        (title, Some(space)) => format!("{page} {title:?} in space {space}"),
    }
}

fn read(Known { version, status, .. }: &Known) -> String {
    match (version, status) {
        (0, _) => "nothing yet".to_owned(),
        (version, Some(status)) => format!("version {version}, {status}"),
        (version, None) => format!("version {version} once; now not there, or not to be seen"),
    }
}

fn kept(stored: &Stored, key: &str) -> String {
    let Stored { version, read_at, expires_at, payload_bytes, .. } = stored;
    let expires = expires_at.as_ref().map_or_else(|| "never expires".to_owned(), |at| format!("expires at {at}"));
    format!("version {version}, asked for at {read_at}, {expires}, {payload_bytes} bytes under {key}")
}

fn waits(Waiting { pages_queue, buffer, complete }: &Waiting) -> String {
    let count = |count: &Option<u64>| count.map_or_else(|| "not known".to_owned(), |count| count.to_string());
    let more = match (pages_queue.is_none() || buffer.is_none(), complete) {
        (true, _) => " (SQS can't be looked into)",
        (false, false) => " (not all was looked at)",
        (false, true) => "",
    };
    format!("to be read: {}, to be stored: {}{more}", count(pages_queue), count(buffer))
}

fn died(Dead { pages_queue, buffer, looked_at, complete }: &Dead) -> String {
    let more = if *complete { "" } else { ", and there are more" };
    let letters = pages_queue.iter().chain(buffer);
    let named: Vec<String> = letters.map(|letter| format!("{} ({})", letter.message_id, letter.reason)).collect();
    match named.is_empty() {
        true => format!("none of the {looked_at} that were looked at{more}"),
        false => format!("{}; {looked_at} were looked at{more}", named.join(", ")),
    }
}

fn reindexed(run: &Progress) -> String {
    let Progress { number, scope, asked_at, pages_seen, .. } = run;
    let state = match run.state {
        State::Asked => "not begun".to_owned(),
        State::Listing | State::Sweeping => format!("{pages_seen} pages read so far"),
        State::Waiting => "it waits".to_owned(),
        State::Succeeded => "ended well".to_owned(),
        State::Failed => format!("failed: {}", run.error.as_deref().unwrap_or_default()),
    };
    format!("{number} ({scope}), asked for at {asked_at}: {state}")
}
