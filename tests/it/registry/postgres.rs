//! The registry on a real PostgreSQL 15: the contract, and what becomes of it while the server is away.

use hookcache::registry::inspect::{State, inspect};
use hookcache::registry::{Key, Options, Registry};
use tempfile::TempDir;

use super::contract::every_part;
use super::{Pair, id, joined, joining, pages, runs, site, sites};
use crate::support::{Postgres, eventually};

/// Files with keys.
struct Keys {
    folder: TempDir,
}

impl Keys {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// One that is nothing but this digit.
    fn of(&self, digit: &str) -> Key {
        let path = self.folder.path().join(digit);
        std::fs::write(&path, digit.repeat(64)).unwrap();
        Key::File(path)
    }
}

async fn open(url: &str, keys: &Keys) -> Registry {
    Registry::open(Options::Postgres { url: url.to_owned(), key: keys.of("a") }).await.unwrap()
}

async fn refusal(url: &str, key: Key) -> String {
    Registry::open(Options::Postgres { url: url.to_owned(), key }).await.err().expect("it is refused").to_string()
}

macro_rules! in_turn {
    ($($part:ident::$case:ident,)*) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn postgres_keeps_the_contract() {
            let (postgres, keys) = (Postgres::start().await, Keys::new());
            $({
                println!("{}", stringify!($case));
                let url = postgres.database(stringify!($case));
                // Both come to an empty database at once.
                let (one, other) = tokio::join!(open(&url, &keys), open(&url, &keys));
                $part::$case(Pair { one, other }).await;
            })*
            what_needs_the_operator_is_refused(&postgres, &keys).await;
        }
    };
}

every_part!(in_turn);

async fn what_needs_the_operator_is_refused(postgres: &Postgres, keys: &Keys) {
    let url = postgres.database("refused");
    let state = async |url: &str, key| inspect(&Options::Postgres { url: url.to_owned(), key }).await.state;
    assert_eq!(state(&url, keys.of("a")).await, State::Empty);
    assert_eq!(postgres.sql("refused", "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    let registry = open(&url, keys).await;
    assert_eq!(state(&url, keys.of("a")).await, State::Fine);
    assert!(matches!(state(&url, keys.of("b")).await, State::Refused(why) if why.starts_with("registry.key_file: ")));
    assert!(
        matches!(state(&postgres.url("nowhere"), keys.of("a")).await, State::Refused(why) if why.contains("nowhere"))
    );
    assert!(matches!(state("postgres://127.0.0.1:1/db", keys.of("a")).await, State::Away(_)));
    registry.join(&joining(site("acme", 1), Some("tiger lily")), 0).await.unwrap();
    let row = postgres.sql("refused", "SELECT * FROM sites");
    assert!(row.contains("acme") && !row.contains("tiger lily") && !row.contains("token of the bot"), "{row}");

    let text = refusal(&url, keys.of("b")).await;
    assert!(text.starts_with("registry.key_file: ") && text.contains("another key"), "{text}");
    let text = refusal(&url, Key::Text("b".repeat(64))).await;
    assert!(text.starts_with("registry.key: is another key"), "{text}");
    assert_eq!(state(&url, Key::Text("a".repeat(64))).await, State::Fine);
    let text = refusal(&url, Key::File("/nowhere/key".into())).await;
    assert!(text.starts_with("registry.key_file: /nowhere/key is missing"), "{text}");
    let text = refusal(&postgres.url("nowhere"), keys.of("a")).await;
    assert!(text.starts_with("registry.url: ") && text.contains("nowhere"), "{text}");
    let text = refusal(&format!("{url}?sslmode=perhaps"), keys.of("a")).await;
    assert!(text.starts_with("registry.url: ") && text.contains("perhaps"), "{text}");
    // It speaks no TLS, which was asked for: it may do so after its next restart.
    assert!(open(&format!("{url}?sslmode=require"), keys).await.check().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_comes_late_and_restarts_in_mid_use_is_used_as_soon_as_it_is_there() {
    let (mut postgres, keys) = (Postgres::start().await, Keys::new());
    let url = postgres.database("registry");
    postgres.stop().await;
    let registry = open(&url, &keys).await;
    assert!(registry.site(&id("acme")).await.is_err());
    postgres.start_again().await;
    eventually("the registry is there", || async { registry.check().await.ok() }).await;
    let acme = joined(&registry, "acme").await;

    // Several connections, all of which are cut.
    let reads = (0..8).map(|_| registry.site(&acme));
    assert!(futures_util::future::join_all(reads).await.into_iter().all(|site| site.is_ok()));
    postgres.stop().await;
    assert!(registry.site(&acme).await.is_err());
    postgres.start_again().await;
    let site = eventually("the registry is there again", || async { registry.site(&acme).await.ok() }).await;
    assert!(site.is_some());
    let reads = (0..8).map(|_| registry.site(&acme));
    assert!(futures_util::future::join_all(reads).await.into_iter().all(|site| site.is_ok()));
}
