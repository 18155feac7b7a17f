//! `hookcache set`: one set request, its payload byte for byte.

use std::io::Read;
use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs};
use http::Method;
use serde_json::value::RawValue;

use super::CliResult;
use super::client::DataTarget;
use super::output::{print, print_bytes};
use crate::config::parse_ttl;
use crate::envelope::limits::WIRE_BYTES_MAX;
use crate::ttl::Ttl;

#[derive(Debug, ClapArgs)]
#[command(
    group = ArgGroup::new("payload").required(true).args(["file", "data"]),
    after_help = "Examples:\n  hookcache set --account demo --flow first --key hello --data '{\"text\":\"hello, world\"}'\n  \
        hookcache set --account acme --flow orders --key order/7 --key latest --ttl 1h order.json\n  \
        jq .order in.json | hookcache set --account acme --flow orders --key order/7 -\n  \
        hookcache set --account acme --flow orders --key order/7 --event-id 7-3 --event-time 2026-01-01T00:00:00Z \
        order.json\n\nThe answer, {\"id\":...,\"messageId\":...}, says that the payload is safe; it is readable a moment \
        later. With --event-id and --event-time, a repetition is harmless."
)]
pub struct Args {
    /// The account that the payload belongs to
    #[arg(long, value_name = "ACCOUNT")]
    account: String,
    /// The account's flow that the payload comes from
    #[arg(long, value_name = "FLOW")]
    flow: String,
    /// A webhook key to set; may be given more than once
    #[arg(long = "key", value_name = "KEY", required = true)]
    keys: Vec<String>,
    /// How long it is to live, such as 90s, 1h or 7d; followed where the server's rules allow it
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    ttl: Option<Ttl>,
    #[command(flatten)]
    event: EventArgs,
    /// A file with the payload, any JSON value; `-` for standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The payload itself
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    #[command(flatten)]
    target: DataTarget,
}

/// The producer's own name and time of what happened.
#[derive(Debug, ClapArgs)]
pub struct EventArgs {
    /// The producer's own id of the event
    #[arg(long, value_name = "ID", requires = "event_time")]
    event_id: Option<String>,
    /// When it happened, as in 2026-01-01T00:00:00.000Z; the newest wins
    #[arg(long, value_name = "TIME", requires = "event_id")]
    event_time: Option<String>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    account_id: &'a str,
    flow_id: &'a str,
    webhook_keys: &'a [String],
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u64>,
    #[serde(flatten)]
    event: Event<'a>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<&'a str>,
}

impl EventArgs {
    pub fn event(&self) -> Event<'_> {
        Event { event_id: self.event_id.as_deref(), event_time: self.event_time.as_deref() }
    }
}

pub fn run(args: Args) -> CliResult {
    let ttl_seconds = match args.ttl {
        None => None,
        Some(Ttl::For(time)) => Some(time.as_secs()),
        Some(Ttl::Never) => return Err("--ttl: a set can't ask for never; a TTL rule may".to_owned()),
    };
    let text = match (&args.data, &args.file) {
        (Some(data), _) => data.clone(),
        (None, Some(file)) => read(file)?,
        (None, None) => return Err("a payload is needed: a file, `-` or --data".to_owned()),
    };
    let data: &RawValue = serde_json::from_str(&text)
        .map_err(|error| format!("the payload is not JSON at line {}, column {}", error.line(), error.column()))?;
    let (account_id, flow_id, webhook_keys) = (&args.account, &args.flow, &args.keys);
    let request = Request { account_id, flow_id, webhook_keys, data, ttl_seconds, event: args.event.event() };
    send(&args.target, "/v1/set", &request)
}

/// Posts a request, and prints the answer.
pub fn send(target: &DataTarget, path: &str, request: &impl serde::Serialize) -> CliResult {
    let body = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    let answer = target.client()?.call(Method::POST, path, Some(&body))?.ok()?;
    print_bytes(&answer.body)?;
    if answer.body.ends_with(b"\n") { Ok(()) } else { print("\n") }
}

fn read(file: &PathBuf) -> Result<String, String> {
    let shown = file.display();
    let mut text = String::new();
    // More than one set may have is not read; the server says what is too large.
    let limit = WIRE_BYTES_MAX as u64 + 1;
    let read = if file.as_os_str() == "-" {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    match read {
        Ok(bytes) if bytes > WIRE_BYTES_MAX => {
            Err(format!("{shown}: the payload is larger than the {WIRE_BYTES_MAX} bytes that one set may have"))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(format!("{shown}: the payload can't be read: {error}")),
    }
}
