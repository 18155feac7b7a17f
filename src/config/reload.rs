//! What changes without a restart: tokens, grants and static TTL rules.
//!
//! On SIGHUP, or when the content of the configuration file changes, the whole configuration is read again. What is
//! wrong is logged and changes nothing. What has changed and can't be changed while running is logged by its key.
//!
//! It never opens a server that asks who calls, unless `auth.mode = "none"` is written out. It never reads twice what
//! can be read once only, such as a pipe (`--config <(...)`).

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::layers::FileText;
use super::{Access, Config, ConfigError, Fault, Loaded, Source, Sources, load_with, narrow};
use crate::auth::Auth;
use crate::ttl::Rules;

/// How often the file is looked at. A revoked token must fail within 5 seconds, so twice in that time.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// A file that has just changed is read again after this time, so that one being written is not taken for whole.
const SETTLE_TIME: Duration = Duration::from_millis(200);
/// The sections and keys that a reload puts in place.
const LIVE: [&str; 3] = ["auth.", "ttl.", "keys.reserved"];

/// What a reload replaces. Clones see a replacement at once.
#[derive(Clone)]
pub struct Live {
    pub auth: Auth,
    /// The static rules.
    pub rules: Arc<ArcSwap<Rules>>,
}

impl Live {
    pub fn new(config: &Config) -> Self {
        let auth = Auth::new(config.access.policy(), config.grants());
        Self { auth, rules: Arc::new(ArcSwap::from_pointee(config.ttl.clone())) }
    }

    fn replace(&self, config: &Config) {
        self.auth.replace(config.access.policy(), config.grants());
        self.rules.store(Arc::new(config.ttl.clone()));
    }
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// Keys that are in place now.
    pub replaced: Vec<String>,
    /// Keys that have changed, and are in place after a restart.
    pub needs_restart: Vec<String>,
}

pub struct Reloader {
    live: Live,
    sources: Sources,
    /// As it was at the start: the addresses that are listened on, and what needs a restart.
    started: Loaded,
    /// As it was put in place last.
    current: Loaded,
    /// The file as it was read last, faults included, so that each content is judged once.
    seen: Option<FileText>,
    /// False for a pipe.
    rereadable: bool,
    hangup: Signal,
}

impl Reloader {
    /// Catches SIGHUP from now on. Needs a runtime.
    pub fn new(live: Live, sources: Sources, started: Loaded) -> std::io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        let rereadable = sources.file_path().is_none_or(|path| path.is_file());
        let (current, seen) = (started.clone(), started.text.clone());
        Ok(Self { live, sources, started, current, seen, rereadable, hangup })
    }

    /// Runs until it is stopped. `report` hears of every reload, for the metrics.
    pub async fn run(mut self, stop: CancellationToken, report: impl Fn(&Result<Reloaded, ConfigError>)) {
        let mut ticks = tokio::time::interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watches = self.rereadable && self.sources.file_path().is_some();
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                signal = self.hangup.recv() => signal.is_some(),
                _ = ticks.tick(), if watches => false,
            };
            let file = self.read_file().await;
            let result = match file {
                Ok(file) if !asked && file == self.seen => continue,
                Ok(file) if !self.is_settled(&file).await => continue,
                Ok(file) => self.apply(file),
                // A file that is gone or can't be read is told once, and again when asked.
                Err(fault) if asked || self.seen.is_some() => {
                    self.seen = None;
                    Err(ConfigError { faults: vec![fault] })
                }
                Err(_) => continue,
            };
            log(&result);
            report(&result);
        }
    }

    /// Does the file still say the same? Where not, the next look takes it up.
    async fn is_settled(&self, file: &Option<FileText>) -> bool {
        tokio::time::sleep(SETTLE_TIME).await;
        self.read_file().await.is_ok_and(|again| again == *file)
    }

    async fn read_file(&self) -> Result<Option<FileText>, Fault> {
        let fault =
            |text: String| Err(Fault { key: "the configuration file".to_owned(), source: Source::Default, text });
        if !self.rereadable {
            return fault("is no regular file, so it can't be read again: restart to change it".to_owned());
        }
        let sources = self.sources.clone();
        let read = tokio::task::spawn_blocking(move || sources.read_file()).await;
        read.unwrap_or_else(|error| fault(format!("can't be read: {error}")))
    }

    /// Judges the file's new content, and puts it in place where nothing is wrong with it.
    fn apply(&mut self, file: Option<FileText>) -> Result<Reloaded, ConfigError> {
        self.seen.clone_from(&file);
        let new = load_with(&self.sources, file, Some(&self.started.merged))?;
        if let Some(text) = self.opened_by(&new) {
            let source = new.merged.get("auth.tokens").map_or(Source::Default, |at| at.source.clone());
            return Err(ConfigError { faults: vec![Fault { key: "auth.tokens".to_owned(), source, text }] });
        }
        let is_live = |key: &String| LIVE.iter().any(|live| key.starts_with(live));
        let replaced = new.merged.changed(&self.current.merged).into_iter().filter(is_live).collect();
        let needs_restart = new.merged.changed(&self.started.merged).into_iter().filter(|key| !is_live(key)).collect();
        self.live.replace(&new.config);
        self.current = new;
        Ok(Reloaded { replaced, needs_restart })
    }

    /// What is wrong with who may call now, if anything is.
    fn opened_by(&self, new: &Loaded) -> Option<String> {
        // The addresses that count are those that are listened on, not those that the file names now.
        let Config { listen, admin_listen, .. } = self.started.config;
        let Config { access, callers, .. } = &self.current.config;
        // Callers alone let nobody in: they only say what may come out of a queue.
        let had_tokens = matches!(access, Access::Tokens(_));
        let had_callers = !callers.is_empty() && new.config.callers.is_empty();
        let opens = new.config.access == Access::OpenOnLoopback && (had_tokens || had_callers);
        let what = if had_tokens { "is empty now" } else { "is empty, and so is auth.callers now" };
        let text = format!(
            "{what}, and a reload doesn't open what asked who calls: write out auth.mode = \"none\", or restart"
        );
        narrow::exposure(&new.config.access, listen, admin_listen).or_else(|| opens.then_some(text))
    }
}

fn log(result: &Result<Reloaded, ConfigError>) {
    match result {
        Ok(Reloaded { replaced, needs_restart }) => {
            tracing::info!(keys = replaced.join(", "), "configuration reloaded");
            if !needs_restart.is_empty() {
                tracing::warn!(keys = needs_restart.join(", "), "changed in the configuration: needs a restart");
            }
        }
        Err(error) => tracing::error!(%error, "configuration not reloaded, the old one stays in place"),
    }
}
