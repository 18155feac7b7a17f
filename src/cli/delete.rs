//! `hookcache delete`: one delete request. It takes the same road as a set, so that order holds.

use clap::Args as ClapArgs;

use super::CliResult;
use super::client::DataTarget;
use super::set::{Event, EventArgs, send};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  hookcache delete --account demo hello\n  hookcache delete --account acme order/7 \
    latest\n  hookcache delete --account acme order/7 --event-id 7-4 --event-time 2026-01-01T00:05:00Z\n\nWhat is older \
    than the delete stays away, however late it arrives."
)]
pub struct Args {
    /// The account that the keys belong to
    #[arg(long, value_name = "ACCOUNT")]
    account: String,
    /// The webhook keys to delete
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
    #[command(flatten)]
    event: EventArgs,
    #[command(flatten)]
    target: DataTarget,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    account_id: &'a str,
    webhook_keys: &'a [String],
    #[serde(flatten)]
    event: Event<'a>,
}

pub fn run(args: Args) -> CliResult {
    let request = Request { account_id: &args.account, webhook_keys: &args.keys, event: args.event.event() };
    send(&args.target, "/v1/delete", &request)
}
