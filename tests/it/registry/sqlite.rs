//! The registry on SQLite: the contract, its file and its key.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use hookcache::confluence::Credential;
use hookcache::registry::inspect::{Inspected, State, inspect};
use hookcache::registry::{Joining, Key, Options, Registry};
use hookcache::source::confluence::ReindexScope;

use super::contract::every_part;
use super::{Pair, id, joined, joining, pages, runs, site, sites};

macro_rules! each_alone {
    ($($part:ident::$case:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $case() {
            let folder = tempfile::tempdir().unwrap();
            let one = open(folder.path()).await;
            $part::$case(Pair { other: one.clone(), one }).await;
        }
    )*};
}

every_part!(each_alone);

fn options(folder: &Path) -> Options {
    Options::Sqlite { path: folder.join("registry.db"), key: Key::MadeAtFirst(folder.join("registry.key")) }
}

async fn open(folder: &Path) -> Registry {
    Registry::open(options(folder)).await.unwrap()
}

async fn refusal(options: Options) -> String {
    Registry::open(options).await.err().expect("it is refused").to_string()
}

/// What Python's own SQLite makes of a statement, behind the program's back.
fn sql(folder: &Path, statement: &str) {
    let script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute(sys.argv[2]); db.commit()";
    let done =
        Command::new("python3").args(["-c", script]).arg(folder.join("registry.db")).arg(statement).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn no_secret_lies_in_any_file_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path()).await;
    let (token, hook, former, shared, forge) = ("tiger lily", "wild rose", "white lotus", "blue iris", "red poppy");
    registry.join(&joining(site("acme", 1), Some(former)), 0).await.unwrap();
    registry.join(&joining(site("acme", 2), Some(hook)), 1_000).await.unwrap();
    let basic = Credential::Basic { user: "bot".to_owned(), token: token.to_owned() };
    registry.renew_credential(&id("acme"), &basic).await.unwrap();
    let connect = Credential::Connect {
        app_key: "app".to_owned(),
        client_key: "client".to_owned(),
        shared_secret: shared.to_owned(),
    };
    let of = |name, credential| Joining { site: site(name, 1), credential: Some(credential), hook_secret: None };
    registry.join(&of("connect", connect), 0).await.unwrap();
    let forge_credential = Credential::Forge { token: forge.to_owned(), expires_ms: 9 };
    registry.join(&of("forge", forge_credential), 0).await.unwrap();
    assert_eq!(registry.hook_secrets(&id("acme"), 5).await.unwrap(), [hook, former]);

    let mut read = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        read += bytes.len();
        for secret in [token, hook, former, shared, forge] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
    }
    assert!(read > 10_000, "the files were read: {read} bytes");
}

#[tokio::test]
async fn a_key_that_is_another_or_gone_is_refused_with_the_setting_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path()).await;
    registry.join(&joining(site("acme", 1), Some("hush")), 0).await.unwrap();
    drop(registry);
    let key = folder.path().join("registry.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let right = std::fs::read_to_string(&key).unwrap();

    std::fs::write(&key, "a".repeat(64)).unwrap();
    let text = refusal(options(folder.path())).await;
    assert!(text.starts_with("registry.key_file: ") && text.contains("another key"), "{text}");
    std::fs::remove_file(&key).unwrap();
    let text = refusal(options(folder.path())).await;
    assert!(text.starts_with("registry.key_file: ") && text.contains("is missing"), "{text}");
    assert!(!key.exists(), "no other key takes its place");
    std::fs::write(&key, "not a key").unwrap();
    let text = refusal(options(folder.path())).await;
    assert!(text.contains("must hold 64 hexadecimal digits"), "{text}");

    std::fs::write(&key, right).unwrap();
    assert_eq!(open(folder.path()).await.hook_secrets(&id("acme"), 1).await.unwrap(), ["hush"]);
}

#[tokio::test]
async fn doctor_looks_at_a_registry_and_leaves_it_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    assert_eq!(inspect(&options).await.state, State::Empty);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let registry = open(folder.path()).await;
    assert_eq!(inspect(&options).await.state, State::Fine, "while it is in use");
    drop(registry);
    assert_eq!(inspect(&options).await, Inspected { state: State::Fine, proves_itself: None });
    std::fs::write(folder.path().join("registry.key"), "b".repeat(64)).unwrap();
    let State::Refused(why) = inspect(&options).await.state else { panic!("another key fits") };
    assert!(why.starts_with("registry.key_file: ") && why.contains("another key"), "{why}");
    sql(folder.path(), "INSERT INTO _sqlx_migrations VALUES (999, 'later', '2030-01-01', true, x'00', 0)");
    let State::Refused(why) = inspect(&options).await.state else { panic!("a newer one is read") };
    assert!(why.contains("newer version of hookcache (step 999)"), "{why}");
}

#[tokio::test]
async fn a_secret_of_one_site_is_none_of_anothers() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path()).await;
    for name in ["acme", "other"] {
        registry.join(&joining(site(name, 1), Some(name)), 0).await.unwrap();
    }
    sql(folder.path(), "UPDATE sites SET hook_secret = (SELECT hook_secret FROM sites WHERE site = 'acme')");
    assert_eq!(registry.hook_secrets(&id("acme"), 1).await.unwrap(), ["acme"]);
    let error = registry.hook_secrets(&id("other"), 1).await.unwrap_err().to_string();
    assert!(error.contains("the site other") && error.contains("registry.key_file"), "{error}");
}

#[tokio::test]
async fn what_a_process_that_died_held_is_free_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path()).await;
    let acme = joined(&registry, "acme").await;
    registry.ask_for_run(&acme, ReindexScope::Full, 1).await.unwrap();
    let held = registry.claim_run("a", 10, 1_000_000).await.unwrap();
    assert_eq!(registry.claim_run("b", 11, 1_000_000).await.unwrap(), None);
    drop(registry);
    let registry = open(folder.path()).await;
    assert_eq!(registry.claim_run("b", 12, 1_000_000).await.unwrap(), held);
}

#[tokio::test]
async fn a_file_that_is_no_registry_or_a_newer_one_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registry.db");
    let junk = "no database, though as long as one".repeat(100);
    std::fs::write(&file, &junk).unwrap();
    let text = refusal(options(folder.path())).await;
    assert!(text.contains("registry.db: the registry can't be opened") && text.contains("not a database"), "{text}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), junk);

    std::fs::remove_file(&file).unwrap();
    drop(open(folder.path()).await);
    sql(folder.path(), "INSERT INTO _sqlx_migrations VALUES (999, 'later', '2030-01-01', true, x'00', 0)");
    let text = refusal(options(folder.path())).await;
    assert!(text.contains("newer version of hookcache (step 999)"), "{text}");
}
