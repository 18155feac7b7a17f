//! `hookcache confluence add`: a site that has no app, or adds it again with other credentials.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use http::Method;

use super::sites::{SiteArg, path_of};
use crate::admin::sites::json::{Credential, Join, Product, Shown};
use crate::cli::CliResult;
use crate::cli::client::AdminTarget;
use crate::cli::output::{plain, print};
use crate::envelope::Account;

/// A secret is far shorter; more than that is not read.
const SECRET_BYTES_MAX: u64 = 16 << 10;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  hookcache confluence add --site acme --account acme --base-url https://acme.atlassian.net/wiki \
        \\\n    --user bot@acme.example --token-file token.txt\n  hookcache confluence add --site wiki --account acme \
        --base-url https://wiki.acme.example --data-center \\\n    --bearer-file token.txt --hook-secret-file \
        hook-secret.txt\n  pass show confluence | hookcache confluence add --site acme --account acme \\\n    --base-url \
        https://acme.atlassian.net/wiki --user bot@acme.example --token-file -\n\nSecrets come from files, or one of them \
        from standard input (`-`), and are never shown again. A blank at either end and the line end are no part of them. \
        What was there under this name before is replaced, but for a hook secret without a new one; webhooks may be \
        signed with the former secret for ten minutes. A new site is read as a whole: `hookcache confluence status` \
        says how far that is."
)]
pub struct Args {
    #[command(flatten)]
    site: SiteArg,
    /// The account that its links belong to, which decides who may read them and for how long they live
    #[arg(long, value_parser = |text: &str| Account::parse(text).map_err(|error| error.to_string()))]
    account: Account,
    /// Where the site is, with its context path: https://acme.atlassian.net/wiki
    #[arg(long, value_name = "URL")]
    base_url: String,
    /// Where its REST API is, if not there
    #[arg(long, value_name = "URL")]
    api_base: Option<String>,
    /// Confluence Data Center, not Cloud
    #[arg(long)]
    data_center: bool,
    /// The user whose API token it is (on Data Center, whose password)
    #[arg(long, requires = "token_file", conflicts_with = "bearer_file", required_unless_present = "bearer_file")]
    user: Option<String>,
    /// A file with the API token or password; `-` for standard input
    #[arg(long, value_name = "FILE", requires = "user")]
    token_file: Option<PathBuf>,
    /// A file with a bearer token, such as a personal access token of Data Center; `-` for standard input
    #[arg(long, value_name = "FILE")]
    bearer_file: Option<PathBuf>,
    /// A file with what the site's webhooks are signed with; `-` for standard input
    #[arg(long, value_name = "FILE")]
    hook_secret_file: Option<PathBuf>,
    /// A custom domain under which its pages are shown, too
    #[arg(long, value_name = "URL")]
    display_url: Option<String>,
    /// Another name of the site, such as a former one: links to it are internal. May be given more than once
    #[arg(long = "alias", value_name = "URL")]
    aliases: Vec<String>,
    #[command(flatten)]
    target: AdminTarget,
}

pub fn run(args: Args) -> CliResult {
    let files = [&args.token_file, &args.bearer_file, &args.hook_secret_file];
    if files.into_iter().flatten().filter(|file| is_stdin(file)).count() > 1 {
        return Err("only one secret can come from standard input".to_owned());
    }
    let secret = |file: &Option<PathBuf>| file.as_deref().map(read_secret).transpose();
    let join = Join {
        account_id: args.account.to_string(),
        product: if args.data_center { Product::DataCenter } else { Product::Cloud },
        base_url: args.base_url,
        api_base: args.api_base,
        display_url: args.display_url,
        aliases: args.aliases,
        credential: Credential {
            user: args.user,
            token: secret(&args.token_file)?,
            bearer: secret(&args.bearer_file)?,
        },
        hook_secret: secret(&args.hook_secret_file)?,
    };
    let body = serde_json::to_vec(&join).map_err(|error| error.to_string())?;
    let shown: Shown = args.target.client()?.ask(Method::PUT, &path_of(&args.site.site), Some(&body))?;
    let (site, base_url) = (plain(&shown.site), plain(&shown.base_url));
    print(&format!("added: {site}, {base_url}; it is read from now on: hookcache confluence status --site {site}\n"))
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn read_secret(file: &Path) -> Result<String, String> {
    let (source, shown): (Box<dyn Read>, _) = match is_stdin(file) {
        true => {
            if std::io::stdin().is_terminal() {
                eprintln!("paste the secret, and end with Ctrl-D on a line of its own:");
            }
            (Box::new(std::io::stdin()), "standard input".to_owned())
        }
        false => {
            let shown = file.display().to_string();
            (Box::new(File::open(file).map_err(|error| format!("can't read {shown}: {error}"))?), shown)
        }
    };
    let mut bytes = Vec::new();
    let read = source.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("can't read {shown}: {error}"))?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("{shown} has more than {SECRET_BYTES_MAX} bytes, which no secret has"));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8"))?;
    match text.trim() {
        "" => Err(format!("{shown} is empty")),
        secret => Ok(secret.to_owned()),
    }
}
