//! `hookcache confluence links`: the links of a page's body, as JSON lines.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, ValueEnum};

use crate::cli::output::print;
use crate::extract::{BODY_BYTES_MAX, Context, Extraction, links_of_adf, links_of_storage};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  hookcache confluence links page.xml --base-url https://acme.atlassian.net/wiki --space DOC\n  \
        curl -sS -u EMAIL:TOKEN 'https://acme.atlassian.net/wiki/api/v2/pages/42?body-format=storage' |\n    \
        jq -r .body.storage.value | hookcache confluence links - --base-url https://acme.atlassian.net/wiki\n  \
        hookcache confluence links page.json --format adf --base-url https://wiki.example.com/confluence\n\n\
        One line per link, in order of first occurrence, what is absent left out:\n  \
        {\"kind\":...,\"url\":...,\"target\":{...},\"text\":...,\"origin\":...,\"anchor\":...,\"count\":...}\n\n\
        kind    external, internal, attachment, image, macro, mail, jira, anchor (a place in this page),\n          \
        other (tel:, ftp:, shortcuts, relative URLs)\n\
        target  what an internal link names: id; space and title, and day of a blog post; space; file of an\n          \
        attachment with the page that holds it; issue\n\
        origin  a, link (<ac:link>), smart-inline, smart-block, smart-embed, image, macro:NAME, iframe, resource\n\
        count   how often it occurs\n\n\
        Exit codes: 0 done, 1 it went wrong, 5 the page has flaws: what was found is printed, and standard error\n\
        says what may be missing."
)]
pub struct Args {
    /// A file with the page's body; `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The site that the page is of, with its context path: what lies below it is internal
    #[arg(long, value_name = "URL")]
    base_url: String,
    /// Another name of the site, such as a former one; may be given more than once
    #[arg(long = "alias", value_name = "URL")]
    aliases: Vec<String>,
    /// The key of the page's space, for links that name only a title
    #[arg(long, value_name = "KEY")]
    space: Option<String>,
    /// The page's own id, for attachments of its own
    #[arg(long, value_name = "ID")]
    page: Option<u64>,
    /// How the body is written
    #[arg(long, value_enum, default_value_t = Format::Storage)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Storage format: XHTML with ac: and ri: elements
    Storage,
    /// ADF (atlas_doc_format): JSON
    Adf,
}

/// How much of the page could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    Whole,
    WithFlaws,
}

pub fn run(args: Args) -> Result<Read, String> {
    let context = context(&args)?;
    let body = body(&args.file)?;
    let Extraction { links, flaws } = match args.format {
        Format::Storage => links_of_storage(&body, &context),
        Format::Adf => links_of_adf(&body, &context),
    };
    let mut lines = String::new();
    for link in &links {
        lines += &serde_json::to_string(link).map_err(|error| format!("can't write a link as JSON: {error}"))?;
        lines.push('\n');
    }
    print(&lines)?;
    for flaw in &flaws {
        eprintln!("hookcache: warning: links may be missing or cut: {flaw}");
    }
    Ok(if flaws.is_empty() { Read::Whole } else { Read::WithFlaws })
}

fn context(args: &Args) -> Result<Context, String> {
    let mut context = Context::new(&args.base_url).map_err(|error| format!("--base-url: {error}"))?;
    for alias in &args.aliases {
        context = context.with_alias(alias).map_err(|error| format!("--alias: {error}"))?;
    }
    if let Some(space) = &args.space {
        context = context.with_space(space);
    }
    Ok(match args.page {
        Some(page) => context.with_page(page),
        None => context,
    })
}

/// One byte more than is read of it, so that a body that is too long is seen to be.
fn body(file: &Path) -> Result<Vec<u8>, String> {
    let limit = BODY_BYTES_MAX as u64 + 1;
    let mut body = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut body)
    } else {
        File::open(file).and_then(|file| file.take(limit).read_to_end(&mut body))
    };
    read.map_err(|error| format!("{} can't be read: {error}", file.display()))?;
    Ok(body)
}
