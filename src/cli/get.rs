//! `hookcache get`: the payload under a key, byte for byte.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use http::{HeaderMap, Method};
use serde_json::{Map, Value};

use super::client::{Answer, Client, DataTarget, WAIT_MAX, escape};
use super::output::{print, print_bytes};

/// Headers that say something of the entry, and their names in `--meta`.
const META: [(&str, &str); 7] = [
    ("etag", "eTag"),
    ("last-modified", "lastModified"),
    ("hookcache-account-id", "accountId"),
    ("hookcache-flow-id", "flowId"),
    ("hookcache-id", "id"),
    ("hookcache-expires-at", "expiresAt"),
    ("cache-control", "cacheControl"),
];

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  hookcache get hello\n  hookcache get order/7 > order.json\n  hookcache get --meta \
    order/7 > order.json 2> meta.json\n  hookcache get --wait 5m order/8\n\nExit codes: 0 found, 3 nothing is stored \
    under the key, 1 anything else, such as a server or a store that can't be reached."
)]
pub struct Args {
    /// The webhook key
    #[arg(value_name = "KEY")]
    key: String,
    /// Also print what is known of the entry, as one line of JSON on standard error
    #[arg(long)]
    meta: bool,
    /// Where nothing is stored under the key, wait for so long until something is, such as 25s or 5m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    target: DataTarget,
}

pub enum Found {
    Yes,
    No,
}

pub fn run(args: Args) -> Result<Found, String> {
    let (client, path) = (args.target.client()?, format!("/v1/keys/{}", escape(&args.key)));
    let answer = match args.wait {
        Some(wait) => get_within(&client, &path, wait)?,
        None => client.call(Method::GET, &path, None)?,
    };
    if answer.status == 404 && is_absence(&answer) {
        eprintln!("hookcache: nothing is stored under this key");
        return Ok(Found::No);
    }
    let answer = answer.ok()?;
    if args.meta {
        eprintln!("{}", Value::Object(meta(&answer.headers)));
    }
    print_bytes(&answer.body)?;
    // A person's prompt begins a line of its own; a file gets the payload and nothing else.
    if std::io::stdout().is_terminal() {
        print("\n")?;
    }
    Ok(Found::Yes)
}

/// Asks on while nothing is there, until the time is over.
fn get_within(client: &Client, path: &str, wait: Duration) -> Result<Answer, String> {
    let begin = Instant::now();
    loop {
        let left = wait.saturating_sub(begin.elapsed());
        let answer = client.get_waiting(path, left.min(WAIT_MAX))?;
        let left = wait.saturating_sub(begin.elapsed());
        if answer.status != 404 || !is_absence(&answer) || left.is_zero() {
            return Ok(answer);
        }
        if left < SECOND || !answer.headers.contains_key("preference-applied") {
            // The server counts whole seconds; and one that is too busy to hold a call, or too old, answers at once.
            std::thread::sleep(left.min(SECOND));
        }
    }
}

/// A 404 of another server, or of a process that doesn't serve gets, is no word on the key.
fn is_absence(answer: &Answer) -> bool {
    answer.json::<Value>().is_ok_and(|problem| problem["code"] == "not-found")
}

fn meta(headers: &HeaderMap) -> Map<String, Value> {
    let known = META.iter().filter_map(|(header, name)| {
        let value = headers.get(*header)?.to_str().ok()?;
        Some(((*name).to_owned(), Value::from(value)))
    });
    known.collect()
}
