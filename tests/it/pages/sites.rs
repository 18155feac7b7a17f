//! Tasks about spaces, lifecycles and reindexes, and sites that come and go.

use std::time::Duration;

use hookcache::confluence::Product;
use hookcache::pages::UNINSTALLED_RETENTION;
use hookcache::registry::{Ended, JoinedBy, Lease, PageRow, Run, SiteState};
use hookcache::source::confluence::{EventName, Lifecycle, PageTask, ReindexScope, What};

use super::PAGE;
use super::stage::{Stage, Wanted, site};
use crate::support::eventually;

const DAY: Duration = Duration::from_secs(86_400);

impl Stage {
    /// Pages that were read and are known, and whose envelopes are off the road.
    async fn with_pages(&self, pages: std::ops::RangeInclusive<u64>) {
        for page in pages.clone() {
            self.stand_in.add_page(page, "p", PAGE);
            self.tell(page, EventName::PageCreated).await;
        }
        self.on_road(pages.count()).await;
        self.until_idle().await;
    }

    async fn state(&self) -> Option<SiteState> {
        self.registry.site(&site("acme")).await.expect("a registry").map(|site| site.state)
    }

    async fn lifecycle(&self, lifecycle: Lifecycle) -> PageTask {
        let task = self.task("acme", What::Lifecycle(lifecycle));
        self.give(&task).await;
        task
    }

    async fn asked(&self) -> Option<ReindexScope> {
        self.registry.runs(&site("acme"), 1).await.expect("a registry").first().map(|run| run.scope)
    }
}

#[tokio::test]
async fn the_pages_of_a_space_that_is_gone_are_looked_at_one_by_one() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.with_pages(1..=5).await;
    stage.stand_in.set_status(1, "trashed");
    for page in [2, 3, 4] {
        stage.stand_in.remove(page);
    }
    // 5 was moved before, and nobody was told.
    stage.stand_in.add_space(9, "ELSE");
    stage.stand_in.change(5, |page| page.space_id = 9);
    // The events of the pages' creation lie just before, so that they were read well before is not known.
    let space = What::Space { space_key: Some("DOC".into()), space_id: None, event: EventName::SpaceRemoved };
    stage.give(&stage.task("acme", space)).await;
    let on_road = stage.on_road(5).await;
    let mut told: Vec<String> = on_road
        .iter()
        .map(|on_road| match on_road.is_drop() {
            true => format!("{} dropped", on_road.key()),
            false => format!("{} {}", on_road.key(), on_road.payload()["page"]["status"].as_str().unwrap()),
        })
        .collect();
    told.sort();
    let want = ["1 trashed", "2 dropped", "3 dropped", "4 dropped", "5 current"];
    assert_eq!(told, want.map(|page| format!("confluence:acme:page:{page}")));
    stage.until_idle().await;
    assert_eq!(stage.counted(r#"hookcache_pages_tasks_total{outcome="space"}"#), 1.0);
    assert_eq!(stage.counted(r#"hookcache_pages_put_off_total{cause="late"}"#), 0.0, "what is to go is not waited for");
}

#[tokio::test]
async fn a_space_of_more_pages_than_are_looked_at_at_once_is_looked_at_as_a_whole() {
    let mut wanted = Wanted::default();
    // No page waits for its turn.
    (wanted.options.tasks_in_hand_max, wanted.options.reads_per_site_max) = (128, 128);
    wanted.client.requests_at_once = 64;
    let stage = Stage::at_work(wanted).await;
    let row = |page| PageRow {
        status: Some(hookcache::page::Status::Current),
        space_id: Some(7),
        version: 3,
        ..PageRow::unread(page).gone(stage.now_ms() - 60_000)
    };
    let rows: Vec<_> = (1..=110).map(row).collect();
    stage.registry.note_read(&site("acme"), &rows).await.unwrap();
    let space = What::Space { space_key: None, space_id: Some(7), event: EventName::SpaceTrashed };
    stage.give(&stage.task("acme", space)).await;
    stage.until_done("dropped", 110).await;
    assert!(stage.on_road(110).await.iter().all(|on_road| on_road.is_drop()));
}

#[tokio::test]
async fn a_site_that_is_enabled_is_read_as_a_whole_at_first() {
    for lifecycle in [Lifecycle::Enabled, Lifecycle::Installed] {
        let stage = Stage::at_work(Wanted::default()).await;
        stage.lifecycle(lifecycle).await;
        stage.until_done("lifecycle", 1).await;
        assert_eq!((stage.state().await, stage.asked().await), (Some(SiteState::Active), Some(ReindexScope::Full)));
    }
}

#[tokio::test]
async fn a_reindex_is_asked_for_as_it_was_wanted() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.give(&stage.task("acme", What::Reindex(ReindexScope::Since(5)))).await;
    stage.give(&stage.task("nobody", What::Reindex(ReindexScope::Full))).await;
    stage.until_done("reindex", 1).await;
    stage.until_done("no-site", 1).await;
    assert_eq!(stage.asked().await, Some(ReindexScope::Since(5)));
}

#[tokio::test]
async fn who_asks_for_a_reindex_finds_it_by_the_time_of_asking_whatever_our_clock_says() {
    let stage = Stage::at_work(Wanted::default()).await;
    let task = stage.task("acme", What::Reindex(ReindexScope::Full));
    let at_ms = task.at_ms + 60_000;
    stage.give(&PageTask { at_ms, ..task }).await;
    stage.until_done("reindex", 1).await;
    assert_eq!(stage.registry.runs(&site("acme"), 1).await.unwrap()[0].asked_ms, at_ms);
}

#[tokio::test]
async fn what_a_site_does_not_want_is_not_done() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.stand_in.add_page(1, "p", PAGE);
    let id = site("acme");
    for (n, state) in (1..).zip([
        SiteState::Disabled,
        SiteState::Uninstalled { since_ms: stage.now_ms() },
        SiteState::Active,
        SiteState::Paused,
    ]) {
        stage.registry.set_state(&id, state, stage.now_ms()).await.unwrap();
        if state == SiteState::Active {
            continue;
        }
        stage.tell(1, EventName::PageUpdated).await;
        let done = if n == 4 { 3 } else { n };
        stage.until_done("inactive", done).await;
    }
    stage.give(&stage.task("nobody", What::Page { page: 1, event: EventName::PageUpdated, version: None })).await;
    stage.until_done("no-site", 1).await;
    stage.until_idle().await;
    assert_eq!((stage.stand_in.calls().len(), stage.letters().await.len()), (0, 0));
}

#[tokio::test]
async fn an_old_lifecycle_event_that_comes_again_changes_nothing() {
    let stage = Stage::at_work(Wanted::default()).await;
    let before = stage.task("acme", What::Lifecycle(Lifecycle::Uninstalled));
    let before = PageTask { at_ms: before.at_ms - 60_000, ..before };
    stage.lifecycle(Lifecycle::Disabled).await;
    stage.until_done("lifecycle", 1).await;
    assert_eq!(stage.state().await, Some(SiteState::Disabled));
    stage.give(&before).await;
    stage.until_done("lifecycle", 2).await;
    assert_eq!(stage.state().await, Some(SiteState::Disabled));
    let enabled = stage.lifecycle(Lifecycle::Enabled).await;
    stage.until_done("lifecycle", 3).await;
    assert_eq!(stage.state().await, Some(SiteState::Active));
    stage.give(&PageTask { what: What::Lifecycle(Lifecycle::Disabled), at_ms: enabled.at_ms - 1, ..enabled }).await;
    stage.until_done("lifecycle", 4).await;
    assert_eq!(stage.state().await, Some(SiteState::Active));
}

#[tokio::test]
async fn a_site_that_uninstalled_the_app_is_purged_after_the_retention() {
    let mut stage = Stage::at_work(Wanted::default()).await;
    stage.join("acme", Product::Cloud, JoinedBy::Connect).await;
    stage.with_pages(1..=3).await;
    stage.lifecycle(Lifecycle::Uninstalled).await;
    stage.until_done("lifecycle", 1).await;
    assert!(matches!(stage.state().await, Some(SiteState::Uninstalled { .. })));
    stage.tell(1, EventName::PageUpdated).await;
    stage.until_done("inactive", 1).await;
    // Each start looks for what is due.
    stage.stop().await;
    stage.let_pass(UNINSTALLED_RETENTION - DAY);
    stage.work();
    stage.tell(1, EventName::PageUpdated).await;
    stage.until_done("inactive", 2).await;
    assert!(stage.state().await.is_some());
    stage.stop().await;
    stage.let_pass(2 * DAY);
    stage.work();
    let on_road = stage.on_road(4).await;
    assert!(on_road.iter().all(|on_road| on_road.is_drop()));
    let keys: Vec<&str> = on_road.iter().map(|on_road| on_road.key()).collect();
    assert!(keys.contains(&"confluence:acme:index") && keys.contains(&"confluence:acme:page:3"), "{keys:?}");
    eventually("a site forgotten", || async { stage.state().await.is_none().then_some(()) }).await;
}

#[tokio::test]
async fn a_site_that_an_operator_removes_is_purged_at_once() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.with_pages(1..=3).await;
    stage.registry.set_state(&site("acme"), SiteState::REMOVED, stage.now_ms()).await.unwrap();
    stage.lifecycle(Lifecycle::Uninstalled).await;
    let on_road = stage.on_road(4).await;
    assert!(on_road.iter().all(|on_road| on_road.is_drop()));
    // A drop of a lower version than the stored one would leave it there.
    let orders: Vec<u64> = on_road.iter().map(|on_road| on_road.envelope.version.order()).collect();
    assert_eq!(orders, [0, 1, 1, 1], "the index, and three pages");
    eventually("a site forgotten", || async { stage.state().await.is_none().then_some(()) }).await;
    stage.until_idle().await;
    assert_eq!(stage.row(1).await, None);
}

#[tokio::test]
async fn a_site_that_comes_back_after_some_of_its_pages_were_deleted_is_read_as_a_whole() {
    // Room for a few of the drops.
    let mut stage = Stage::set(Wanted { road_bytes_max: 4 << 10, ..Wanted::default() }).await;
    let (id, now_ms) = (site("acme"), stage.now_ms());
    let row = |page| PageRow {
        status: Some(hookcache::page::Status::Current),
        version: 3,
        ..PageRow::unread(page).gone(now_ms - 60_000)
    };
    stage.registry.note_read(&id, &(1..=90).map(row).collect::<Vec<_>>()).await.unwrap();
    stage.registry.ask_for_run(&id, ReindexScope::Full, now_ms).await.unwrap();
    let run = stage.registry.claim_run("test", now_ms, now_ms + 1_000).await.unwrap().expect("it was asked for");
    let (run, lease) =
        (Run { began_ms: Some(now_ms), ..run }, Lease { owner: "test".to_owned(), until_ms: now_ms + 1_000 });
    stage.registry.end_run(&run, &lease, &Ended { at_ms: now_ms, error: None }).await.unwrap();
    assert_eq!(stage.registry.last_success(&id).await.unwrap(), (Some(now_ms), Some(now_ms)));

    stage.registry.set_state(&id, SiteState::REMOVED, stage.now_ms()).await.unwrap();
    stage.work();
    assert!(stage.on_road(1).await[0].is_drop());
    stage.stop().await;
    stage.work();
    stage.lifecycle(Lifecycle::Installed).await;
    let scope = async || stage.registry.runs(&id, 1).await.unwrap().first().map(|run| (run.number, run.scope));
    eventually("a full run", async || (scope().await == Some((2, ReindexScope::Full))).then_some(())).await;
}

#[tokio::test]
async fn what_is_known_of_pages_that_are_long_gone_is_forgotten() {
    let mut stage = Stage::at_work(Wanted::default()).await;
    stage.with_pages(1..=2).await;
    stage.stand_in.remove(1);
    stage.tell(1, EventName::PageRemoved).await;
    stage.until_done("dropped", 1).await;
    stage.stop().await;
    stage.let_pass(20 * DAY);
    stage.work();
    eventually("a row forgotten", || async { stage.row(1).await.is_none().then_some(()) }).await;
    assert!(stage.row(2).await.is_some());
}
