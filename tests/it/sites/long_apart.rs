//! Every role in a process of its own, over real PostgreSQL, Redis and an SQS emulator.

use super::{ConfluenceStandIn, confluence, prints, secret, text, until_status};
use crate::support::hookcache::run;
use crate::support::stack::Stack;
use crate::support::{Postgres, TempDir, eventually, http_get};

#[tokio::test(flavor = "multi_thread")]
async fn roles_of_page_links_run_apart_over_postgres_redis_and_sqs() {
    let (stack, mut postgres, stand_in) = tokio::join!(Stack::start(), Postgres::start(), ConfluenceStandIn::start());
    stand_in.add_page(7, "Page", r#"<a href="https://example.com/first">one</a>"#);
    let folder = TempDir::new().unwrap();
    let key = secret(&folder, "key", &"5".repeat(64));
    let pages = stack.sqs.queues("pages").await;
    let toml = format!(
        "[confluence]\nenabled = true\n[registry]\nurl = \"{}\"\nkey_file = \"{key}\"\n[pages]\nqueue_url = \
         \"{}\"\ndead_letter_url = \"{}\"\n",
        postgres.database("registry"),
        pages.queue_url,
        pages.dead_letter_url
    );
    let role = async |roles: &str| stack.hookcache(&toml, &["--roles", roles]).await;
    // One after the other: each is ready before the next comes.
    let (mut set, consume, get) = (role("set").await, role("consume").await, role("get").await);
    let (admin, _pages, _reindex) = (role("admin").await, role("pages").await, role("reindex").await);
    let token = secret(&folder, "token", "token-of-the-bot");
    let base_url = stand_in.cloud();
    let site = ["add", "--site", "acme", "--account", "acme", "--base-url", &base_url, "--bearer-file", &token];
    prints(&confluence(&admin, &site));
    let url = format!("{}/v1/keys/confluence:acme:page:7", get.url());
    let links =
        eventually("the links are served", || async { Some(http_get(&url).await).filter(|reply| reply.status == 200) })
            .await;
    assert!(links.text().contains("https://example.com/first"), "{}", links.text());
    until_status(&admin, "its index is complete", |status| status["reindex"]["complete"] == true).await;

    let config = folder.path().join("hookcache.toml");
    std::fs::write(&config, stack.toml() + &toml).unwrap();
    let doctor = run(&["doctor", "--config", &config.display().to_string()], &[]);
    let told = text(&doctor.stdout);
    assert!(told.contains("registry.key_file opens its secrets") && told.contains("queue pages"), "{told}");

    // Who needs the registry is not ready without it, and says so; who does not is.
    postgres.stop().await;
    let not_ready = eventually("it is not ready", || async {
        Some(http_get(&format!("{}/readyz", set.admin_url())).await).filter(|reply| reply.status == 503)
    })
    .await;
    assert!(not_ready.text().contains("page links: the registry is unavailable"), "{}", not_ready.text());
    assert_eq!(http_get(&format!("{}/readyz", consume.admin_url())).await.status, 200);
    postgres.start_again().await;
    eventually("it is ready again", || async {
        (http_get(&format!("{}/readyz", set.admin_url())).await.status == 200).then_some(())
    })
    .await;
    assert!(set.sigterm().await.success());
}
