//! `hookcache token`: make one, and see which one it is. Works on this machine alone, without a server.

use std::io::{BufRead, IsTerminal, Read};

use clap::{Args as ClapArgs, Subcommand};

use super::CliResult;
use super::config::Layers;
use super::output::print;
use crate::auth::token::Token;
use crate::auth::{Scope, TokenEntry, find};
use crate::config::{Access, Loaded, check_token_name, load};
use crate::envelope::{Account, Accounts};

/// A token is far shorter; more than that is not read.
const INPUT_BYTES_MAX: u64 = 4_096;

#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token: it is shown once, with the lines for the configuration file, which hold only its hash
    #[command(
        after_help = "Examples:\n  hookcache token create --name upstream --scopes set --accounts acme\n  hookcache \
        token create --name operator --scopes set,get,admin\n\nThe token alone goes to standard output, the lines for the \
        configuration to standard error:\n  hookcache token create --name ci --scopes get > token.txt 2>> hookcache.toml"
    )]
    Create(Create),
    /// Say which token of the configuration this is, and what it may do
    #[command(after_help = "Examples:\n  hookcache token check --config hookcache.toml < token.txt\n  \
        HOOKCACHE_TOKEN=hc_... hookcache token check --config hookcache.toml")]
    Check(Check),
}

#[derive(Debug, ClapArgs)]
struct Create {
    /// Its name in logs and in `by`: 1 to 64 of A-Z a-z 0-9 . _ -
    #[arg(long, value_parser = |text: &str| check_token_name(text))]
    name: String,
    /// What it may do, any of: set (and delete), get, admin
    #[arg(long, value_delimiter = ',', required = true, value_parser = parse_scope)]
    scopes: Vec<Scope>,
    /// The accounts that it may act for; all accounts where left out
    #[arg(long, value_delimiter = ',', value_parser = parse_account)]
    accounts: Vec<Account>,
}

#[derive(Debug, ClapArgs)]
struct Check {
    /// The token; read from HOOKCACHE_TOKEN or standard input where left out, which other users of the machine can't see
    #[arg(env = "HOOKCACHE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    layers: Layers,
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| "must be set, get or admin".to_owned())
}

fn parse_account(text: &str) -> Result<Account, String> {
    Account::parse(text).map_err(|error| error.to_string())
}

pub fn run(args: Args) -> CliResult {
    match args.command {
        Command::Create(create) => {
            let token = Token::generate().map_err(|error| format!("the system gives no random bytes: {error}"))?;
            eprint!("{}", block(&create, &token));
            print(&format!("{}\n", token.reveal()))
        }
        Command::Check(check) => {
            let token = match check.token {
                Some(token) if !token.trim().is_empty() => token,
                _ => read_token()?,
            };
            let loaded = load(&check.layers.sources()).map_err(|error| error.to_string())?;
            print(&found(&loaded, token.trim())?)
        }
    }
}

/// The lines for the configuration file. All but the table are comments, so that they can be appended as they are.
fn block(create: &Create, token: &Token) -> String {
    let list = |items: Vec<&str>| {
        let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
        format!("[{}]", quoted.join(", "))
    };
    let mut text = format!(
        "\n# For the configuration file. The token itself is shown once, and kept nowhere.\n[[auth.tokens]]\nname = \
         {:?}\nhash = \"{}\"\nscopes = {}\n",
        create.name,
        token.hash(),
        list(create.scopes.iter().map(|scope| scope.as_str()).collect())
    );
    if !create.accounts.is_empty() {
        text.push_str(&format!("accounts = {}\n", list(create.accounts.iter().map(Account::as_str).collect())));
    }
    text
}

fn read_token() -> Result<String, String> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("paste the token, and press Enter:");
    }
    let mut line = String::new();
    let read = stdin.lock().take(INPUT_BYTES_MAX).read_line(&mut line);
    read.map_err(|error| format!("can't read a token from standard input: {error}"))?;
    Ok(line)
}

fn found(loaded: &Loaded, token: &str) -> Result<String, String> {
    let form = "that is no token: one is hc_ and 43 characters of A-Z a-z 0-9 - _";
    let token = Token::parse(token).ok_or(form)?;
    let entries = match &loaded.config.access {
        Access::Tokens(entries) => entries.as_slice(),
        Access::OpenOnLoopback | Access::OpenAnywhere => &[],
    };
    let place = loaded.file.as_ref().map_or("(no --config given)".to_owned(), |file| format!("({})", file.display()));
    let unknown = || format!("the configuration {place} has {} tokens, and this is none of them", entries.len());
    find(entries, &token).map(describe).ok_or_else(unknown)
}

fn describe(entry: &TokenEntry) -> String {
    let scopes: Vec<&str> = entry.scopes.iter().map(|scope| scope.as_str()).collect();
    let accounts = match &entry.accounts {
        Accounts::All => "all".to_owned(),
        Accounts::Only(accounts) => accounts.iter().map(Account::as_str).collect::<Vec<_>>().join(", "),
    };
    let enabled = if entry.enabled { "yes" } else { "no: it is refused, but what it has had accepted is still stored" };
    format!("name      {}\nscopes    {}\naccounts  {accounts}\nenabled   {enabled}\n", entry.name, scopes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn what_create_prints_is_a_configuration_that_check_finds_the_token_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hookcache.toml");
        let (a, b) = (Token::generate().unwrap(), Token::generate().unwrap());
        let account = |name: &str| Account::parse(name).unwrap();
        let up = Create { name: "up".into(), scopes: vec![Scope::Set], accounts: vec![account("acme"), account("b")] };
        let op = Create { name: "op".into(), scopes: vec![Scope::Get, Scope::Admin], accounts: vec![] };
        std::fs::write(&path, block(&up, &a) + &block(&op, &b)).unwrap();
        let loaded = load(&Sources { file: Some(path), ..Sources::default() }).unwrap();
        assert_eq!(
            found(&loaded, a.reveal()).unwrap(),
            "name      up\nscopes    set\naccounts  acme, b\nenabled   yes\n"
        );
        assert!(found(&loaded, b.reveal()).unwrap().contains("accounts  all"));
        let other = Token::generate().unwrap();
        assert!(found(&loaded, other.reveal()).unwrap_err().contains("has 2 tokens, and this is none of them"));
        assert!(found(&loaded, "secret").unwrap_err().starts_with("that is no token"));
    }
}
