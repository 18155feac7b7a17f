//! `hookcache healthcheck`: does the server beside it live, or is it ready?
//!
//! It reads no configuration: a file that was changed and has a fault must not kill a server that works on by the one before.

use clap::Args as ClapArgs;
use http::Method;

use super::CliResult;
use super::client::Client;

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  hookcache healthcheck\n  hookcache healthcheck --ready\n  hookcache healthcheck \
    --admin-url http://127.0.0.1:9001\n\nIt asks /healthz of the control plane, or /readyz, and prints nothing where all is \
    well. Kill only what fails without --ready: what is not ready waits for a backend, and a restart mends nothing.\n\nExit \
    codes: 0 it is well, 1 it is not, or nobody answers.")]
pub struct Args {
    /// URL of the control plane
    #[arg(long, env = "HOOKCACHE_ADMIN_URL", default_value = "http://127.0.0.1:8081", value_name = "URL")]
    admin_url: String,
    /// Ask whether it can do its work now, too
    #[arg(long)]
    ready: bool,
}

pub fn run(args: Args) -> CliResult {
    let client = Client::new(&args.admin_url, None, "--admin-url or HOOKCACHE_ADMIN_URL")?;
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let answer = client.call(Method::GET, path, None)?;
    match answer.status {
        200 => Ok(()),
        status => Err(format!("{path} says {status}: {}", String::from_utf8_lossy(&answer.body).trim())),
    }
}
