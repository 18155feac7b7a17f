//! Page links with the real program, embedded, against a stand-in for Confluence that answers at once.
//!
//! `cargo bench --bench page_links`. Goals: from a webhook to readable links in 250 ms (p99); a full reindex of 10,000
//! pages of 13 KB as fast as `confluence.requests_per_second` allows, in less than 150 MB resident. Of another number of
//! pages: `cargo bench --bench page_links -- 50000`; the stand-in, which is in the bench's own process, takes some 14 KB
//! for each.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use support::confluence::ConfluenceStandIn;
use support::{Hookcache, eventually_within, http_get, http_post, http_send};

#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "a bench needs only some of what the tests share")]
mod support;

const EVENTS: u64 = 1_000;
const EVENTS_PER_SECOND: u32 = 20;
const PAGES: u64 = 10_000;
const PAGE_BYTES: usize = 13_000;
const SECRET: &str = "a secret of the bench";
const SWEEP_DEADLINE: Duration = Duration::from_secs(600);
const PARAGRAPH: &str = "<p>The store keeps the latest payload under every key, and what is old never overwrites what is \
    new. See <a href=\"https://example.com/guide\">the guide</a>, or <ac:link><ri:page ri:content-title=\"Home\" \
    ri:space-key=\"DOC\" /><ac:link-body>the start</ac:link-body></ac:link>.</p>";

fn main() {
    // Cargo adds `--bench`.
    let pages = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(PAGES);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        event_to_readable().await;
        full_reindex(pages, None).await;
        full_reindex(pages, Some("1000")).await;
    });
}

/// Of 13 KB, with a link that names its version.
fn body(version: u64) -> String {
    let link = format!("<p><a href=\"https://example.com/{version}\">this version</a></p>");
    link + &PARAGRAPH.repeat((PAGE_BYTES / PARAGRAPH.len()).max(1))
}

/// The program, with the site `acme` at the stand-in.
async fn start(stand_in: &ConfluenceStandIn, per_second: Option<&str>) -> Hookcache {
    let mut environment = vec![("HOOKCACHE_CONFLUENCE__ENABLED", "true")];
    environment.extend(per_second.map(|limit| ("HOOKCACHE_CONFLUENCE__REQUESTS_PER_SECOND", limit)));
    let hookcache = Hookcache::start(&[], &environment).await;
    let site = json!({ "accountId": "acme", "baseUrl": stand_in.cloud(), "credential": { "bearer": "t" },
        "hookSecret": SECRET })
    .to_string();
    let url = format!("{}/v1/sites/acme", hookcache.admin_url());
    let added = http_send(Method::PUT, &url, &[("content-type", "application/json")], site).await;
    assert_eq!(added.status, 200, "{}", added.text());
    hookcache
}

async fn event_to_readable() {
    let stand_in = ConfluenceStandIn::start().await;
    stand_in.add_page(1, "Page", &body(1));
    let hookcache = start(&stand_in, Some("1000")).await;
    reindexed(&hookcache).await;
    let (hook, key) = (
        format!("{}/v1/hooks/confluence/sites/acme", hookcache.url()),
        format!("{}/v1/keys/confluence:acme:page:1", hookcache.url()),
    );
    let headers = [("content-type", "application/json"), ("x-hookcache-secret", SECRET)];
    let event = json!({ "event": "page_updated", "page": { "id": 1 } }).to_string();
    let (begin, mut took) = (Instant::now(), Vec::new());
    for n in 0..EVENTS {
        tokio::time::sleep_until((begin + Duration::from_secs(1) * n as u32 / EVENTS_PER_SECOND).into()).await;
        let version = stand_in.edit(1, &body(n + 2));
        let (told, wanted) = (Instant::now(), format!("\"version\":{version},"));
        assert_eq!(http_send(Method::POST, &hook, &headers, event.clone()).await.status, 204);
        while !http_get(&key).await.text().contains(&wanted) {
            assert!(told.elapsed() < SWEEP_DEADLINE, "version {version} never came");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        took.push(told.elapsed());
    }
    took.sort();
    for percent in [50, 99] {
        let at = took[(took.len() * percent / 100).min(took.len() - 1)];
        println!("page_links/event_to_readable/p{percent}  {:.1} ms", at.as_secs_f64() * 1e3);
    }
}

/// With the default limit where none is given.
async fn full_reindex(pages: u64, per_second: Option<&str>) {
    let stand_in = ConfluenceStandIn::start().await;
    (1..=pages).for_each(|page| stand_in.add_page(page, "Page", &body(1)));
    let hookcache = start(&stand_in, per_second).await;
    let idle = resident(hookcache.pid(), "VmRSS");
    let begin = Instant::now();
    let run = reindexed(&hookcache).await;
    let took = begin.elapsed().as_secs_f64();
    assert_eq!(run["pagesSeen"], pages, "{run}");
    // The last of them is stored, too.
    let last = json!({ "webhookKeys": [format!("confluence:acme:page:{pages}")] }).to_string();
    let url = format!("{}/v1/get", hookcache.url());
    eventually_within(SWEEP_DEADLINE, "the last page", async || {
        http_post(&url, last.clone()).await.json()["missing"].as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
    let stored = begin.elapsed().as_secs_f64();
    let name = format!("page_links/reindex_of_{pages}/limit_{}", per_second.unwrap_or("default"));
    println!("{name}/pages_per_second  {:.0} ({:.0} stored)", pages as f64 / took, pages as f64 / stored);
    println!("{name}/calls             {}", stand_in.calls().len());
    println!("{name}/resident          {:.0} MB at most, {idle:.0} MB before", resident(hookcache.pid(), "VmHWM"));
}

/// Waits for the end of the site's first reindex.
async fn reindexed(hookcache: &Hookcache) -> Value {
    let url = format!("{}/v1/sites/acme/reindex", hookcache.admin_url());
    let run = eventually_within(SWEEP_DEADLINE, "the end of the reindex", async || {
        Some(http_get(&url).await.json()["runs"][0].clone()).filter(|run| run["endedAt"].is_string())
    })
    .await;
    assert_eq!(run["state"], "succeeded", "{run}");
    run
}

/// `VmRSS` or `VmHWM` of a process, in megabytes.
fn resident(pid: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("Linux");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1_024.0 / 1e6
}
