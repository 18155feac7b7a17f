//! `hookcache confluence list|status|pause|resume|remove`: sites, through the control plane of a running server.

use std::fmt::Write;

use clap::Args as ClapArgs;
use http::Method;

use crate::admin::sites::json::{Changed, Listing, Removing, Shown, Status};
use crate::cli::CliResult;
use crate::cli::client::{AdminTarget, escape};
use crate::cli::output::{columns, plain, print, print_json};
use crate::envelope::SiteId;

/// Sites that one call asks for.
const ROWS_PER_CALL: usize = 1_000;

/// Which site a command is about.
#[derive(Debug, ClapArgs)]
pub struct SiteArg {
    /// The site's name: 1 to 128 characters of A-Z a-z 0-9 . _ : @ -
    #[arg(long, value_parser = |text: &str| SiteId::parse(text).map_err(|error| error.to_string()))]
    pub site: SiteId,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  hookcache confluence list\n  hookcache confluence list --json | jq -r '.sites[].site'"
)]
pub struct List {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: AdminTarget,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  hookcache confluence status --site acme\n  hookcache confluence status --site acme --json | \
        jq .reindex"
)]
pub struct Look {
    #[command(flatten)]
    site: SiteArg,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: AdminTarget,
}

#[derive(Debug, ClapArgs)]
pub struct One {
    #[command(flatten)]
    site: SiteArg,
    #[command(flatten)]
    target: AdminTarget,
}

pub fn path_of(site: &SiteId) -> String {
    format!("/v1/sites/{}", escape(site.as_str()))
}

pub fn list(args: &List) -> CliResult {
    let client = args.target.client()?;
    let (mut sites, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/sites?limit={ROWS_PER_CALL}{after}");
        let part: Listing = client.ask(Method::GET, &path, None)?;
        sites.extend(part.sites);
        match part.next {
            Some(next) => after = format!("&after={}", escape(&next)),
            None => break,
        }
    }
    match args.json {
        true => print_json(&Listing { sites, next: None }),
        false => print(&rows(&sites)),
    }
}

fn rows(sites: &[Shown]) -> String {
    if sites.is_empty() {
        return "no sites; `hookcache confluence add` adds one\n".to_owned();
    }
    let mut rows = vec![["SITE", "STATE", "ACCOUNT", "JOINED BY", "LAST EVENT", "URL"].map(str::to_owned)];
    rows.extend(sites.iter().map(|site| {
        let last_event = site.last_event_at.as_deref().map_or_else(|| "-".to_owned(), plain);
        let (state, joined_by) = (site.state.as_str().to_owned(), site.joined_by.as_str().to_owned());
        [plain(&site.site), state, plain(&site.account_id), joined_by, last_event, plain(&site.base_url)]
    }));
    columns(&rows)
}

pub fn status(args: &Look) -> CliResult {
    let status: Status = args.target.client()?.ask(Method::GET, &path_of(&args.site.site), None)?;
    match args.json {
        true => print_json(&status),
        false => print(&told(&status)),
    }
}

fn told(status: &Status) -> String {
    let Status { shown, reindex, .. } = status;
    let mut text = String::new();
    let mut line = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            // Writing to memory can't fail.
            let _ = writeln!(text, "{name:<15}{}", plain(value));
        }
    };
    line("site", Some(&shown.site));
    line("state", Some(shown.state.as_str()));
    line("not read", status.not_active.as_deref());
    line("account", Some(&shown.account_id));
    line("url", Some(&shown.base_url));
    line("api", Some(&shown.api_base).filter(|api| **api != shown.base_url).map(String::as_str));
    line("shown as", shown.display_url.as_deref());
    shown.aliases.iter().for_each(|alias| line("alias", Some(alias)));
    line("joined by", Some(shown.joined_by.as_str()));
    line("asked with", Some(status.asks.map_or("nothing yet: the next event brings it", |asks| asks.as_str())));
    line("hook secret", Some(if status.has_hook_secret { "yes" } else { "no" }));
    line("added", Some(&shown.added_at));
    line("last event", Some(shown.last_event_at.as_deref().unwrap_or("never")));
    line("pages known", Some(&reindex.pages_known.to_string()));
    let open = reindex.runs.first().filter(|run| run.ended_at.is_none());
    line("reindex", open.map(|run| format!("{}, {} pages seen", run.scope, run.pages_seen)).as_deref());
    line(
        "waits",
        open.and_then(|run| run.waits.as_ref()).map(|waits| format!("until {}: {}", waits.until, waits.why)).as_deref(),
    );
    let last = reindex.runs.iter().find(|run| run.ended_at.is_some());
    line("last failure", last.and_then(|run| run.error.as_deref()));
    line("last reindex", Some(reindex.last_reindex_at.as_deref().unwrap_or("never")));
    line("index", Some(if reindex.complete { "complete" } else { "not complete yet" }));
    line("next reindex", reindex.next.as_ref().map(|next| format!("{}, {}", next.at, next.scope)).as_deref());
    let queue = |queue: &crate::admin::sites::json::Queue| {
        format!("{} waiting, {} in hand, {} dead (of all sites)", queue.waiting, queue.in_hand, queue.dead)
    };
    line("pages queue", status.queue.as_ref().map(queue).as_deref());
    text
}

pub fn pause(args: &One) -> CliResult {
    let Changed { changed } = change(args, "pause")?;
    print(if changed { "paused: it is not read, and its links stay as they are\n" } else { "it is paused already\n" })
}

pub fn resume(args: &One) -> CliResult {
    let Changed { changed } = change(args, "resume")?;
    print(if changed { "resumed: what has changed meanwhile is read again\n" } else { "it was not paused\n" })
}

fn change(args: &One, verb: &str) -> Result<Changed, String> {
    let path = format!("{}/{verb}", path_of(&args.site.site));
    args.target.client()?.ask(Method::POST, &path, None)
}

pub fn remove(args: &One) -> CliResult {
    let Removing { site, pages_known, .. } =
        args.target.client()?.ask(Method::DELETE, &path_of(&args.site.site), None)?;
    print(&format!(
        "removing: {} is not read any more, and the links of its {pages_known} pages are being deleted; when it is done, \
         `hookcache confluence list` shows it no more\n",
        plain(&site)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters_of_a_site() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "site": "acme", "accountId": "acme", "state": "paused", "product": "cloud", "baseUrl": "https://a\u{1b}[2J",
            "apiBase": "https://b", "joinedBy": "operator", "addedAt": "2026-01-01T00:00:00.000Z", "hasHookSecret": true,
            "notActive": "the site is paused",
            "reindex": { "site": "acme", "runs": [], "complete": false, "pagesKnown": 3 },
        }))
        .unwrap();
        let text = told(&status);
        assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
        assert!(text.contains("pages known    3\n") && text.contains("last event     never\n"), "{text}");
        assert!(!rows(&[status.shown]).replace('\n', "").contains(char::is_control));
    }
}
