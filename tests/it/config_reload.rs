//! What changes without a restart, through the file and through SIGHUP.

use std::path::PathBuf;
use std::time::Duration;

use hookcache::auth::token::Token;
use hookcache::auth::{AuthError, Scope};
use hookcache::config::reload::{Live, Reloaded, Reloader};
use hookcache::config::{ConfigError, Sources, load};
use hookcache::envelope::{Account, Flow};
use hookcache::ttl::Ttl;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

const DEADLINE: Duration = Duration::from_secs(30);

/// A running reloader over a file of its own.
struct Running {
    folder: tempfile::TempDir,
    live: Live,
    reports: UnboundedReceiver<Result<Reloaded, ConfigError>>,
    _task: AbortOnDropHandle<()>,
}

impl Running {
    async fn start(text: &str, flags: Vec<(&'static str, String)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hookcache.toml");
        std::fs::write(&path, text).unwrap();
        let sources = Sources { file: Some(path), environment: vec![], flags };
        let loaded = load(&sources).unwrap();
        let live = Live::new(&loaded.config);
        let (sender, reports) = unbounded_channel();
        let reloader = Reloader::new(live.clone(), sources, loaded).unwrap();
        let report = move |result: &Result<Reloaded, ConfigError>| {
            let _ = sender.send(result.clone());
        };
        let task = tokio::spawn(reloader.run(CancellationToken::new(), report));
        Self { folder, live, reports, _task: AbortOnDropHandle::new(task) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("hookcache.toml")
    }

    /// Replaces the file at once, as an editor or a ConfigMap does.
    fn rewrite(&self, text: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    /// The next report that is wanted. Others may come in between: a SIGHUP of another test reaches all.
    async fn reported(&mut self, wanted: impl Fn(&Result<Reloaded, ConfigError>) -> bool) {
        let search = async {
            loop {
                let report = self.reports.recv().await.expect("the reloader runs");
                if wanted(&report) {
                    return;
                }
            }
        };
        tokio::time::timeout(DEADLINE, search).await.expect("a report within the deadline");
    }

    fn caller(&self, token: &Token) -> Result<String, AuthError> {
        let header = format!("Bearer {}", token.reveal());
        self.live.auth.authenticate(Some(&header)).map(|caller| caller.name)
    }

    fn ttl(&self) -> Ttl {
        let (account, flow) = (Account::parse("acme").unwrap(), Flow::parse("orders").unwrap());
        self.live.rules.load().resolve(&account, &flow, None)
    }
}

fn entry(name: &str, token: &Token) -> String {
    format!("[[auth.tokens]]\nname = \"{name}\"\nhash = \"{}\"\nscopes = [\"set\"]\n", token.hash())
}

fn replaced(keys: &[&str]) -> impl Fn(&Result<Reloaded, ConfigError>) -> bool {
    move |report| report.as_ref().is_ok_and(|done| done.replaced == keys)
}

#[tokio::test]
async fn a_change_of_the_file_replaces_tokens_grants_and_static_ttl_rules() {
    let (a, b) = (Token::generate().unwrap(), Token::generate().unwrap());
    let mut running = Running::start(&entry("a", &a), vec![]).await;
    assert_eq!(running.caller(&a).as_deref(), Ok("a"));
    running.rewrite(&format!(
        "{}[[ttl.rules]]\naccount = \"acme\"\nttl = \"1h\"\n[keys.reserved]\n\"x\" = \"account:b\"",
        entry("b", &b)
    ));
    running.reported(replaced(&["auth.tokens", "keys.reserved", "ttl.rules"])).await;
    assert_eq!(running.caller(&a), Err(AuthError::Unknown));
    assert_eq!(running.caller(&b).as_deref(), Ok("b"));
    assert_eq!(running.ttl(), Ttl::from_seconds(3_600).unwrap());
    let grants = running.live.auth.grants();
    assert!(grants.callers.as_ref().unwrap().contains_key("b") && !grants.callers.as_ref().unwrap().contains_key("a"));
    assert_eq!(grants.reserved.len(), 1);
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_the_next_right_one_heals_it() {
    let token = Token::generate().unwrap();
    let mut running = Running::start(&entry("a", &token), vec![]).await;
    for broken in ["[[auth.tokens", "lisen = 1", "[[auth.tokens]]\nname = \"b\""] {
        running.rewrite(broken);
        running.reported(Result::is_err).await;
        assert_eq!(running.caller(&token).as_deref(), Ok("a"), "{broken}");
    }
    std::fs::remove_file(running.path()).unwrap();
    running.reported(|report| report.as_ref().is_err_and(|error| error.to_string().contains("can't be read"))).await;
    assert_eq!(running.caller(&token).as_deref(), Ok("a"));
    running.rewrite(&entry("renamed", &token));
    running.reported(replaced(&["auth.tokens"])).await;
    assert_eq!(running.caller(&token).as_deref(), Ok("renamed"));
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_not_put_in_place() {
    let mut running = Running::start("", vec![]).await;
    running.rewrite("[consumer]\npollers = 5\n[ttl]\ndefault = \"2d\"");
    let wanted = Reloaded { replaced: vec!["ttl.default".into()], needs_restart: vec!["consumer.pollers".into()] };
    running.reported(|report| report.as_ref() == Ok(&wanted)).await;
    assert_eq!(running.ttl(), Ttl::from_seconds(2 * 86_400).unwrap());
}

#[tokio::test]
async fn what_counts_are_the_addresses_that_are_listened_on_not_those_of_the_new_file() {
    let mut running = Running::start("listen = \"0.0.0.0:8080\"\n[auth]\nmode = \"none\"", vec![]).await;
    running.rewrite("listen = \"127.0.0.1:8080\"");
    running.reported(|report| report.as_ref().is_err_and(|error| error.to_string().contains("auth.tokens"))).await;
}

#[tokio::test]
async fn a_reload_never_opens_what_asked_for_tokens_unless_none_is_written_out() {
    let token = Token::generate().unwrap();
    let mut running = Running::start(&entry("a", &token), vec![]).await;
    // As a file that was cut off would have it.
    running.rewrite("");
    running.reported(|report| report.as_ref().is_err_and(|error| error.to_string().contains("auth.tokens"))).await;
    assert_eq!(running.live.auth.authenticate(None), Err(AuthError::Missing));
    assert_eq!(running.caller(&token).as_deref(), Ok("a"));
    running.rewrite("[auth]\nmode = \"none\"");
    running.reported(replaced(&["auth.mode", "auth.tokens"])).await;
    assert!(running.live.auth.authenticate(None).unwrap().may(Scope::Admin));
}

#[tokio::test]
async fn a_reload_never_lets_everybody_set_everything_where_callers_were_listed() {
    let mut running = Running::start("[[auth.callers]]\nname = \"arn:up\"", vec![]).await;
    running.rewrite("");
    running.reported(|report| report.as_ref().is_err_and(|error| error.to_string().contains("auth.callers"))).await;
    assert!(running.live.auth.grants().callers.as_ref().is_some_and(|callers| callers.contains_key("arn:up")));
}

#[tokio::test]
async fn a_reload_that_keeps_callers_opens_nothing_that_asked_for_tokens() {
    let caller = "[[auth.callers]]\nname = \"arn:up\"\n";
    let token = Token::generate().unwrap();
    let mut running = Running::start(&format!("{caller}{}", entry("t", &token)), vec![]).await;
    running.rewrite(caller);
    running.reported(|report| report.as_ref().is_err_and(|error| error.to_string().contains("auth.tokens"))).await;
    assert!(running.live.auth.authenticate(None).is_err());
}

#[tokio::test]
async fn sighup_reads_the_file_again_and_tells_a_lasting_fault_again() {
    let mut running = Running::start("", vec![]).await;
    running.rewrite("lisen = 1");
    running.reported(Result::is_err).await;
    let pid = std::process::id().to_string();
    let sent = std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap();
    assert!(sent.success());
    running.reported(Result::is_err).await;
}
