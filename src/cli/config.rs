//! `hookcache config`: is the configuration right, and where does each value come from?

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::CliResult;
use super::output::{columns, print};
use crate::config::{Loaded, Sources, load};

/// The settings that have a flag. Shared with `serve`, so that `config print` shows what `serve` would do.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Layers {
    /// Configuration file; it names only what differs from the defaults [env: HOOKCACHE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the data plane listens [key: listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Where the control plane listens [key: admin_listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin_listen: Option<String>,
    /// Folder of the embedded buffer and store [key: data_dir]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<String>,
    /// What this process does, any of: set, consume, get, admin, pages, reindex [key: roles]
    #[arg(long, value_name = "ROLES")]
    pub roles: Option<String>,
}

impl Layers {
    /// With the environment of this process.
    pub fn sources(&self) -> Sources {
        let Self { config, listen, admin_listen, data_dir, roles } = self;
        let flags = [("listen", listen), ("admin_listen", admin_listen), ("data_dir", data_dir), ("roles", roles)];
        let given = flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)));
        Sources::of_process(config.clone(), given.collect())
    }
}

#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is wrong with the configuration, if anything is
    #[command(after_help = "Examples:\n  hookcache config check\n  hookcache config check --config hookcache.toml\n  \
        HOOKCACHE_STORE__URL=redis://127.0.0.1 hookcache config check")]
    Check(Layers),
    /// Show every key, its effective value, and where that came from
    #[command(
        after_help = "Examples:\n  hookcache config print\n  hookcache config print --config hookcache.toml | grep \
        -v default\n\nPasswords in URLs are not shown."
    )]
    Print(Layers),
}

pub fn run(args: Args) -> CliResult {
    match args.command {
        Command::Check(layers) => {
            let loaded = load(&layers.sources()).map_err(|error| error.to_string())?;
            print(&checked(&loaded))
        }
        Command::Print(layers) => {
            let loaded = load(&layers.sources()).map_err(|error| error.to_string())?;
            print(&listing(&loaded))
        }
    }
}

fn checked(loaded: &Loaded) -> String {
    match &loaded.file {
        Some(file) => format!("the configuration is right (file {})\n", file.display()),
        None => "the configuration is right (no file: defaults and environment)\n".to_owned(),
    }
}

fn listing(loaded: &Loaded) -> String {
    let row = |setting: &crate::config::Setting| {
        [format!("{} = {}", setting.key, setting.shown_value), format!("# {}", setting.source)]
    };
    columns(&loaded.settings.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listing_has_a_line_for_each_key_with_its_source() {
        let flags = vec![("listen", "127.0.0.1:1".to_owned())];
        let loaded = load(&Sources { flags, ..Sources::default() }).unwrap();
        let text = listing(&loaded);
        assert_eq!(text.lines().count(), loaded.settings.len());
        let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
        assert!(
            line("listen = ").starts_with("listen = \"127.0.0.1:1\"") && line("listen").ends_with("# flag --listen")
        );
        assert!(line("consumer.pollers = 2").ends_with("# default"));
    }
}
