//! The rules, applied to what is stored already, page by page.

use std::time::Duration;

use clap::Args as ClapArgs;
use http::Method;

use super::Names;
use crate::admin::keys::json::{Applied, ApplyRequest, Looked};
use crate::cli::CliResult;
use crate::cli::client::{AdminTarget, Client};
use crate::cli::output::{print, print_json};
use crate::cli::pace::{Next, Pace, Progress};
use crate::envelope::{Account, Flow};
use crate::ttl::Scope;

/// Within this time every consumer stores by a rule that was changed. What is stored by the old one until then is found
/// by a walk that begins after it.
const EFFECTIVE: Duration = Duration::from_secs(5);

/// Of a command that changes a rule.
#[derive(Debug, ClapArgs)]
pub struct Existing {
    /// Make the rules hold for what is stored already, too, 5 seconds later (when every consumer has the change)
    #[arg(long)]
    apply_existing: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    names: Names,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Look at no more keys than this
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true, value_name = "KEYS")]
    scan_limit: usize,
    /// Go on where an earlier run ended, as it said
    #[arg(long, value_name = "CURSOR")]
    resume: Option<String>,
    /// What was done as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: AdminTarget,
}

impl Existing {
    pub fn apply(&self, client: &Client, scope: &Scope) -> CliResult {
        if !self.apply_existing {
            return Ok(());
        }
        eprintln!(
            "in {} seconds every consumer has the change; then it is applied to what is stored",
            EFFECTIVE.as_secs()
        );
        std::thread::sleep(EFFECTIVE);
        let applied = walk(client, scope, &mut Pace::new(usize::MAX), false)?;
        print(&told(&applied))?;
        judge(&applied)
    }
}

pub fn run(args: &Args) -> CliResult {
    let (client, scope) = (args.target.client()?, args.names.scope()?);
    let applied = walk(&client, &scope, &mut Pace::resumed(args.scan_limit, args.resume.clone()), args.dry_run)?;
    match (args.json, args.dry_run) {
        (true, _) => print_json(&applied)?,
        (false, true) => print(&format!("would be {}", told(&applied)))?,
        (false, false) => print(&told(&applied))?,
    }
    judge(&applied)
}

fn told(applied: &Applied) -> String {
    let Applied { rewritten, removed, unchanged, narrower, superseded, .. } = applied;
    format!(
        "rewritten: {rewritten}, removed: {removed}, unchanged: {unchanged}, left to narrower rules: {narrower}, changed \
         meanwhile: {superseded}\n"
    )
}

fn walk(client: &Client, scope: &Scope, pace: &mut Pace, dry_run: bool) -> Result<Applied, String> {
    let mut progress = Progress::new(if dry_run { "to change" } else { "changed" });
    let looked = Looked { complete: false, as_of_ms: 0, next: None, scanned: None, total: None };
    let (rewritten, removed, unchanged, narrower, superseded) = (0, 0, 0, 0, 0);
    let mut sum = Applied { rewritten, removed, unchanged, narrower, superseded, failed: Vec::new(), looked };
    loop {
        let request = ApplyRequest {
            account_id: scope.account().map(Account::to_string),
            flow_id: scope.flow().map(Flow::to_string),
            scan_limit: Some(pace.scan_limit() as u64),
            after: pace.after().map(str::to_owned),
            dry_run,
        };
        let body = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
        let part: Applied = client.ask(Method::POST, "/v1/ttl/apply", Some(&body)).map_err(|error| {
            let again = again(scope, pace.after(), dry_run);
            format!("{error}\n{} were changed before; go on with: {again}", sum.rewritten + sum.removed)
        })?;
        sum.rewritten += part.rewritten;
        sum.removed += part.removed;
        sum.unchanged += part.unchanged;
        sum.narrower += part.narrower;
        sum.superseded += part.superseded;
        sum.failed.extend(part.failed);
        progress.show(&part.looked, sum.rewritten + sum.removed);
        let next = pace.next(&part.looked, 0);
        sum.looked = Looked { scanned: None, total: None, ..part.looked };
        if next == Next::Done {
            break;
        }
    }
    progress.clear();
    if !sum.looked.complete {
        eprintln!("complete: false; go on with: {}", again(scope, sum.looked.next.as_deref(), dry_run));
    }
    Ok(sum)
}

/// What a person types to go on.
fn again(scope: &Scope, cursor: Option<&str>, dry_run: bool) -> String {
    let mut line = "hookcache ttl apply".to_owned();
    let parts = [
        ("account", scope.account().map(Account::as_str)),
        ("flow", scope.flow().map(Flow::as_str)),
        ("resume", cursor),
    ];
    for (name, value) in parts {
        if let Some(value) = value {
            line.push_str(&format!(" --{name} {value}"));
        }
    }
    if dry_run {
        line.push_str(" --dry-run");
    }
    line
}

fn judge(sum: &Applied) -> CliResult {
    match sum.failed.first() {
        Some(first) => {
            Err(format!("{} failed, the first being {}: {}", sum.failed.len(), first.webhook_key, first.detail))
        }
        None => Ok(()),
    }
}
