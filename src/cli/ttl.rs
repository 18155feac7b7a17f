//! `hookcache ttl`: how long entries live, through the control plane of a running server.

mod apply;
mod file;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use http::Method;

use super::CliResult;
use super::client::{AdminTarget, Answer, Client, escape};
use super::output::{columns, print};
use crate::config::{parse_ttl, spell_ttl};
use crate::envelope::{Account, Flow};
use crate::ttl::{Listing, Origin, Scope, Ttl};
use file::Change;

#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the default, the bounds and all rules
    #[command(after_help = "Examples:\n  hookcache ttl show\n  hookcache ttl show --json | jq .rules")]
    Show(Show),
    /// Set the rule of an account, of a flow in any account, or of one account's flow
    #[command(
        after_help = "Examples:\n  hookcache ttl set --account acme 7d\n  hookcache ttl set --account acme --flow \
        orders 1h\n  hookcache ttl set --flow audit never\n  hookcache ttl set --account acme 1h --apply-existing"
    )]
    Set(Set),
    /// Remove a rule that was set while running
    #[command(
        after_help = "Examples:\n  hookcache ttl unset --account acme --flow orders\n  hookcache ttl unset --flow audit\n  \
        hookcache ttl unset --account acme --apply-existing"
    )]
    Unset(Unset),
    /// Make the rules hold for what is stored already, too
    #[command(
        after_help = "Examples:\n  hookcache ttl apply --account acme --dry-run\n  hookcache ttl apply --account acme \
        --flow orders\n\nAn entry expires at its event time and the TTL that the rules give it now; one that has expired \
        by them is removed. What a narrower rule than the named scope decides is left as it is. A set's own ttlSeconds \
        is kept nowhere, so such an entry gets the rules' TTL, too. Repeating it is harmless."
    )]
    Apply(apply::Args),
    /// Say which rule gives an account's flow its TTL, and what became of the others
    #[command(after_help = "Examples:\n  hookcache ttl explain --account acme --flow orders\n  hookcache ttl explain \
        --account acme --flow orders --request 60s")]
    Explain(Explain),
    /// Write the rules that were set while running as a file that fits in git
    #[command(after_help = "Examples:\n  hookcache ttl export > ttl-rules.toml")]
    Export(Export),
    /// Make the rules that are set while running those of a file: add, change and remove
    #[command(after_help = "Examples:\n  hookcache ttl import --dry-run ttl-rules.toml\n  hookcache ttl import \
        ttl-rules.toml\n  hookcache ttl import - < ttl-rules.toml")]
    Import(Import),
}

#[derive(Debug, ClapArgs)]
struct Show {
    /// The server's answer as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: AdminTarget,
}

/// At least one of both.
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = true)]
struct Names {
    /// The account; without it, the flow in any account
    #[arg(long, value_parser = parse_account)]
    account: Option<Account>,
    /// The flow; without it, all flows of the account
    #[arg(long, value_parser = parse_flow)]
    flow: Option<Flow>,
}

#[derive(Debug, ClapArgs)]
struct Set {
    #[command(flatten)]
    names: Names,
    /// A time such as 90s, 1h or 7d, or `never` (where ttl.allow_never allows it)
    #[arg(value_parser = parse_ttl, value_name = "TTL")]
    ttl: Ttl,
    #[command(flatten)]
    existing: apply::Existing,
    #[command(flatten)]
    target: AdminTarget,
}

#[derive(Debug, ClapArgs)]
struct Unset {
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    existing: apply::Existing,
    #[command(flatten)]
    target: AdminTarget,
}

#[derive(Debug, ClapArgs)]
struct Explain {
    #[arg(long, value_parser = parse_account)]
    account: Account,
    #[arg(long, value_parser = parse_flow)]
    flow: Flow,
    /// As if a set came with this TTL of its own
    #[arg(long, value_parser = parse_ttl, value_name = "TTL")]
    request: Option<Ttl>,
    /// The server's answer as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: AdminTarget,
}

#[derive(Debug, ClapArgs)]
struct Export {
    #[command(flatten)]
    target: AdminTarget,
}

#[derive(Debug, ClapArgs)]
struct Import {
    /// A file as `export` writes it; `-` for standard input
    file: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: AdminTarget,
}

pub(super) fn parse_account(text: &str) -> Result<Account, String> {
    Account::parse(text).map_err(|error| error.to_string())
}

pub(super) fn parse_flow(text: &str) -> Result<Flow, String> {
    Flow::parse(text).map_err(|error| error.to_string())
}

impl Names {
    fn scope(&self) -> Result<Scope, String> {
        let (account, flow) = (self.account.as_ref().map(Account::as_str), self.flow.as_ref().map(Flow::as_str));
        crate::ttl::json::scope_of(account, flow)
    }
}

pub fn run(args: Args) -> CliResult {
    match args.command {
        Command::Show(show) => {
            let answer = get_listing(&show.target.client()?)?;
            if show.json { print_json(&answer) } else { print(&show_rules(&answer.json()?)) }
        }
        Command::Set(set) => {
            let scope = set.names.scope()?;
            let client = set.target.client()?;
            put(&client, &scope, set.ttl)?;
            print(&format!("{scope}: {}\n", spell_ttl(set.ttl)))?;
            set.existing.apply(&client, &scope)
        }
        Command::Unset(unset) => {
            let scope = unset.names.scope()?;
            let client = unset.target.client()?;
            match delete(&client, &scope)? {
                true => print(&format!("{scope}: removed\n"))?,
                false => print(&format!("{scope}: there was no rule set while running\n"))?,
            }
            unset.existing.apply(&client, &scope)
        }
        Command::Apply(args) => apply::run(&args),
        Command::Explain(explain) => {
            let answer = ask_explanation(&explain)?;
            match explain.json {
                true => print_json(&answer),
                false => print(&show_explanation(&explain.account, &explain.flow, &answer.json()?)),
            }
        }
        Command::Export(export) => print(&file::write(&dynamic_rules(&export.target.client()?)?)),
        Command::Import(import) => run_import(&import),
    }
}

fn get_listing(client: &Client) -> Result<Answer, String> {
    client.call(Method::GET, "/v1/ttl", None)?.ok()
}

fn dynamic_rules(client: &Client) -> Result<Vec<(Scope, Ttl)>, String> {
    let listing: Listing = get_listing(client)?.json()?;
    let dynamic = listing.rules.into_iter().filter(|rule| rule.origin == Origin::Dynamic);
    Ok(dynamic.map(|rule| (rule.scope, rule.ttl)).collect())
}

fn path(scope: &Scope) -> String {
    match scope {
        Scope::AccountFlow(account, flow) => {
            format!("/v1/ttl/accounts/{}/flows/{}", escape(account.as_str()), escape(flow.as_str()))
        }
        Scope::Account(account) => format!("/v1/ttl/accounts/{}", escape(account.as_str())),
        Scope::Flow(flow) => format!("/v1/ttl/flows/{}", escape(flow.as_str())),
    }
}

fn put(client: &Client, scope: &Scope, ttl: Ttl) -> CliResult {
    let body = serde_json::to_vec(&ttl).map_err(|error| error.to_string())?;
    client.call(Method::PUT, &path(scope), Some(&body))?.ok().map(|_| ())
}

#[derive(serde::Deserialize)]
struct Removed {
    removed: bool,
}

/// Was there a rule to remove?
fn delete(client: &Client, scope: &Scope) -> Result<bool, String> {
    let answer = client.call(Method::DELETE, &path(scope), None)?.ok()?;
    Ok(answer.json::<Removed>()?.removed)
}

fn ask_explanation(explain: &Explain) -> Result<Answer, String> {
    let mut path = format!(
        "/v1/ttl/explain?accountId={}&flowId={}",
        escape(explain.account.as_str()),
        escape(explain.flow.as_str())
    );
    match explain.request {
        Some(Ttl::For(time)) => path.push_str(&format!("&ttlSeconds={}", time.as_secs())),
        Some(Ttl::Never) => return Err("--request: a request can't ask for never".to_owned()),
        None => {}
    }
    explain.target.client()?.call(Method::GET, &path, None)?.ok()
}

fn run_import(import: &Import) -> CliResult {
    let wanted = file::read(&file::text_of(&import.file)?)?;
    let client = import.target.client()?;
    let changes = file::changes(&dynamic_rules(&client)?, &wanted);
    let summary = file::summary(&changes);
    if import.dry_run {
        return print(&format!("{}{summary} to come; nothing was changed\n", file::describe_all(&changes)));
    }
    // What is needed comes before what has to go, so that no account is without its rule in between.
    for (done, change) in changes.iter().enumerate() {
        let result = match change {
            Change::Add(scope, ttl) | Change::Replace(scope, _, ttl) => put(&client, scope, *ttl),
            Change::Remove(scope, _) => delete(&client, scope).map(|_| ()),
        };
        result.map_err(|error| {
            format!(
                "{}: {error}\n{done} of {} changes were made; repeating it is harmless",
                change.scope(),
                changes.len()
            )
        })?;
        print(&format!("{change}\n"))?;
    }
    print(&format!("{summary}\n"))
}

fn print_json(answer: &Answer) -> CliResult {
    let value: serde_json::Value = answer.json()?;
    print(&format!("{value:#}\n"))
}

fn show_rules(listing: &Listing) -> String {
    let (default, min, max) = (spell_ttl(listing.default), spell_ttl(listing.min), spell_ttl(listing.max));
    let mut text = format!("default {default}, min {min}, max {max}\n");
    if listing.rules.is_empty() {
        return text + "no rules\n";
    }
    let any = || "*".to_owned();
    let mut rows = vec![["ACCOUNT", "FLOW", "TTL", "SET"].map(str::to_owned)];
    rows.extend(listing.rules.iter().map(|rule| {
        let account = rule.scope.account().map_or_else(any, Account::to_string);
        let flow = rule.scope.flow().map_or_else(any, Flow::to_string);
        [account, flow, spell_ttl(rule.ttl), origin(rule.origin).to_owned()]
    }));
    text.push_str(&columns(&rows));
    text
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Request => "by the request",
        Origin::Dynamic => "while running",
        Origin::Static => "in the configuration",
        Origin::Default => "as default",
    }
}

/// The explanation as far as it is shown; the server may say more.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    ttl_seconds: Option<u64>,
    never: Option<bool>,
    min_seconds: u64,
    max_seconds: u64,
    request_followed: bool,
    candidates: Vec<ToldCandidate>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToldCandidate {
    origin: Origin,
    account_id: Option<String>,
    flow_id: Option<String>,
    ttl_seconds: Option<u64>,
    never: Option<bool>,
    fate: String,
}

fn show_explanation(account: &Account, flow: &Flow, told: &Told) -> String {
    let spell = |seconds, never| crate::ttl::json::ttl_of(seconds, never).map_or_else(|_| "?".to_owned(), spell_ttl);
    let any = |name: &Option<String>| name.clone().unwrap_or_else(|| "*".to_owned());
    let mut rows = vec![["ACCOUNT", "FLOW", "TTL", "SET", "FATE"].map(str::to_owned)];
    rows.extend(told.candidates.iter().map(|rule| {
        let ttl = spell(rule.ttl_seconds, rule.never);
        [any(&rule.account_id), any(&rule.flow_id), ttl, origin(rule.origin).to_owned(), rule.fate.replace('-', " ")]
    }));
    let (min, max) = (spell(Some(told.min_seconds), None), spell(Some(told.max_seconds), None));
    let request = if told.request_followed { "followed" } else { "ignored" };
    let ttl = match told.never {
        Some(true) => "never expires".to_owned(),
        _ => format!("{} after the event's time", spell(told.ttl_seconds, None)),
    };
    format!(
        "account {account}, flow {flow}: {ttl}\n\n{}\nBounds: {min} to {max}. A set's own ttlSeconds is {request} here.\n\
         What is stored already keeps the expiry that it has, unless the rules are applied (`ttl apply`).\n",
        columns(&rows)
    )
}

#[cfg(test)]
mod tests;
