//! What goes wrong while a site is read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hookcache::confluence::{Credential, Product};
use hookcache::registry::{JoinedBy, PageRow, Run, SiteState};
use hookcache::source::confluence::ReindexScope;
use serde_json::json;
use sqlx::Executor;

use super::rig::{DAY, Rig};
use crate::support::confluence::{Call, Odd};
use crate::support::eventually;

fn is_list(path: &str) -> bool {
    path.contains("/api/v2/pages?")
}

fn error(run: &Run) -> &str {
    run.ended.as_ref().and_then(|ended| ended.error.as_deref()).expect("it has failed")
}

/// Answers the `n`th list (from 0) so, and everything else as it should.
fn answer_list(rig: &Rig, n: usize, odd: Odd) {
    let lists = AtomicUsize::new(0);
    rig.confluence.script(move |call| {
        let its_turn = is_list(&call.path) && lists.fetch_add(1, Ordering::Relaxed) == n;
        its_turn.then(|| odd.clone())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_slows_a_run_and_loses_nothing() {
    let rig = Rig::start(350).await;
    answer_list(&rig, 1, Odd::TooMany(Some("1".to_owned())));
    let run = rig.reindex(ReindexScope::Full).await;
    assert_eq!((run.pages_seen, rig.lists()), (350, 5));
    rig.until_stored(350, 1, "current").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_wants_to_be_left_alone_for_long_keeps_nobody_busy_and_is_not_asked_before() {
    let rig = Rig::start(150).await;
    answer_list(&rig, 1, Odd::TooMany(Some("900".to_owned())));
    let worker = rig.worker();
    let number = rig.ask(ReindexScope::Full).await;
    let waits = async || rig.run().await.filter(|run| run.waiting.is_some());
    let waiting = eventually("it waits", waits).await.waiting.expect("it waits");
    assert!(waiting.why.contains("429"), "{waiting:?}");
    assert!(waiting.until_ms >= rig.now_ms() + 800_000, "{waiting:?}");
    worker.stop().await;
    // Nobody can claim it before.
    let claim = async || rig.registry.claim_run("other", rig.now_ms(), rig.now_ms() + 1_000).await.unwrap();
    assert_eq!(claim().await, None);
    rig.let_pass(Duration::from_secs(901));
    let worker = rig.worker();
    rig.ended(number).await;
    worker.stop().await;
    assert_eq!(rig.lists(), 3);
    rig.until_stored(150, 1, "current").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_down_for_a_while_costs_time_and_no_part_is_read_twice() {
    let rig = Rig::start(250).await;
    let lists = AtomicUsize::new(0);
    rig.confluence.script(move |call| {
        let down = is_list(&call.path) && matches!(lists.fetch_add(1, Ordering::Relaxed), 1 | 2);
        down.then_some(Odd::CutOff)
    });
    let run = rig.reindex(ReindexScope::Full).await;
    assert_eq!((run.pages_seen, rig.lists(), run.waiting), (250, 5, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_answer_that_makes_no_sense_fails_no_run() {
    let rig = Rig::start(150).await;
    answer_list(&rig, 1, Odd::Text("<html>".to_owned()));
    let run = rig.reindex(ReindexScope::Full).await;
    assert_eq!((run.pages_seen, rig.lists()), (150, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_done_only_when_the_road_has_all_of_it() {
    const FULL: usize = 256 << 10;
    let mut rig = Rig::at_rest(150, FULL as u64).await;
    // In ever smaller pieces.
    for bytes in [FULL / 8, FULL / 64, 1_000, 100, 10].into_iter().flat_map(|bytes| [bytes; 16]) {
        rig.put_on_road(bytes).await;
    }
    let worker = rig.worker();
    let number = rig.ask(ReindexScope::Full).await;
    let waits = async || rig.run().await.filter(|run| run.waiting.is_some());
    let run = eventually("it waits", waits).await;
    worker.stop().await;
    assert_eq!((run.pages_seen, run.cursor.clone()), (0, None), "{run:?}");
    assert!(run.waiting.as_ref().is_some_and(|waiting| waiting.why.contains("full")), "{run:?}");
    assert_eq!(rig.registry.pages_known(&rig.site).await.unwrap(), 0, "and none of it is noted");
    rig.empty_road().await;
    rig.consume();
    rig.let_pass(Duration::from_secs(60));
    let worker = rig.worker();
    let run = rig.ended(number).await;
    worker.stop().await;
    assert_eq!((run.ended.and_then(|ended| ended.error), run.pages_seen), (None, 150));
    for page in 1..=150 {
        rig.until_stored(page, 1, "current").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_whose_tokens_come_with_its_events_is_waited_for() {
    let rig = Rig::start(150).await;
    let day_ms = DAY.as_millis() as u64;
    let forge = |token: &str, expires_ms| Some(Credential::Forge { token: token.to_owned(), expires_ms });
    let refused = |call: &Call| (call.authorization != "Bearer good").then_some(Odd::Status(401));
    rig.confluence.script(refused);
    let mut number = None;
    for (credential, why) in [
        (None, "has sent no token yet"),
        (forge("good", rig.now_ms() - 1), "has expired"),
        (forge("refused", rig.now_ms() + day_ms), "401"),
    ] {
        rig.join_by(JoinedBy::Forge, Product::Cloud, credential).await;
        if number.is_none() {
            number = Some(rig.ask(ReindexScope::Full).await);
        }
        let worker = rig.worker();
        let waits = async || rig.run().await?.waiting.filter(|waiting| waiting.why.contains(why));
        let waiting = eventually(&format!("it waits, as its token {why}"), waits).await;
        assert!(waiting.why.contains("the next event of the site brings a new one"), "{waiting:?}");
        worker.stop().await;
        rig.let_pass(Duration::from_secs(61));
    }
    rig.join_by(JoinedBy::Forge, Product::Cloud, forge("good", rig.now_ms() + day_ms)).await;
    let worker = rig.worker();
    let run = rig.ended(number.expect("it was asked for")).await;
    worker.stop().await;
    assert_eq!((run.ended.and_then(|ended| ended.error), run.pages_seen), (None, 150));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_fails_the_run_and_says_what_to_do() {
    let rig = Rig::start(1).await;
    rig.confluence.require("Bearer another");
    let worker = rig.worker();
    let run = rig.ended(rig.ask(ReindexScope::Full).await).await;
    worker.stop().await;
    assert!(error(&run).contains("401") && error(&run).contains("hookcache confluence add --site acme"), "{run:?}");
    assert_eq!((rig.stored(1).await, rig.registry.last_success(&rig.site).await.unwrap()), (None, (None, None)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_never_ends_is_noticed() {
    let rig = Rig::start(1).await;
    let calls = AtomicUsize::new(0);
    rig.confluence.script(move |call| {
        is_list(&call.path).then(|| {
            // The same page for ever, and each time another place to go on.
            let next = format!("/wiki/api/v2/pages?cursor={}", calls.fetch_add(1, Ordering::Relaxed));
            let page = json!({"id": "1", "title": "Page 1", "status": "current", "spaceId": "7",
                "version": {"number": 1, "createdAt": "2999-01-01T00:00:00Z"},
                "body": {"storage": {"representation": "storage", "value": ""}}});
            Odd::Text(json!({"results": [page], "_links": {"next": next}}).to_string())
        })
    });
    for scope in [ReindexScope::Full, ReindexScope::SinceLast] {
        let before = rig.lists();
        let worker = rig.worker();
        let run = rig.ended(rig.ask(scope).await).await;
        worker.stop().await;
        assert!(error(&run).contains("does not end"), "{run:?}");
        assert!(rig.lists() - before <= 110, "{}", rig.lists());
    }
    assert_eq!(rig.registry.last_success(&rig.site).await.unwrap(), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_breaks_off_makes_no_success_and_sweeps_nothing() {
    let rig = Rig::start(150).await;
    rig.reindex(ReindexScope::Full).await;
    let last = rig.registry.last_success(&rig.site).await.unwrap();
    let lists = AtomicUsize::new(0);
    rig.confluence.script(move |call| {
        (is_list(&call.path) && lists.fetch_add(1, Ordering::Relaxed) > 0).then_some(Odd::Status(400))
    });
    let worker = rig.worker();
    let run = rig.ended(rig.ask(ReindexScope::Full).await).await;
    worker.stop().await;
    assert!(error(&run).contains("400"), "{run:?}");
    assert_eq!(run.pages_swept, 0);
    assert_eq!(rig.registry.last_success(&rig.site).await.unwrap(), last);
    rig.until_stored(150, 1, "current").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_can_not_be_read_keeps_no_other_from_being_swept() {
    let rig = Rig::start(3).await;
    rig.reindex(ReindexScope::Full).await;
    (1..=2).for_each(|page| rig.confluence.remove(page));
    rig.confluence.set_status(3, "trashed");
    for odd in [Odd::Text("<html>".to_owned()), Odd::Status(500)] {
        rig.confluence.script(move |call| call.path.contains("/pages/1?").then(|| odd.clone()));
        rig.reindex(ReindexScope::Full).await;
        rig.until_gone(2).await;
        rig.until_stored(3, 1, "trashed").await;
        let row = rig.row(1).await.expect("a row");
        assert!(row.last_fetch.is_some_and(|fetched| fetched.result != "ok"));
        rig.until_stored(1, 1, "current").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_list_that_can_not_be_read_alone_keeps_no_other_from_being_read() {
    let rig = Rig::start(2).await;
    rig.confluence.script(|call| {
        let bare = |id: &str| {
            json!({"id": id, "title": "Page", "status": "current", "spaceId": "7",
                "version": {"number": 1, "createdAt": "2999-01-01T00:00:00Z"}, "body": {}})
        };
        match &call.path {
            path if is_list(path) => Some(Odd::Text(json!({"results": [bare("1"), bare("2")]}).to_string())),
            path => path.contains("/pages/1?").then_some(Odd::Status(500)),
        }
    });
    rig.reindex(ReindexScope::Full).await;
    rig.until_stored(2, 1, "current").await;
    let row = rig.row(1).await.expect("a row");
    assert!(row.status.is_none() && row.last_fetch.is_some_and(|fetched| fetched.result.contains("500")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_names_new_pages_for_ever_is_noticed() {
    let rig = Rig::start(0).await;
    let calls = AtomicUsize::new(0);
    rig.confluence.script(move |call| {
        is_list(&call.path).then(|| {
            let n = calls.fetch_add(1, Ordering::Relaxed);
            let page = json!({"id": (n + 1).to_string(), "title": "Page", "status": "current", "spaceId": "7",
                "version": {"number": 1, "createdAt": "2999-01-01T00:00:00Z"},
                "body": {"storage": {"representation": "storage", "value": ""}}});
            let next = format!("/wiki/api/v2/pages?cursor={n}");
            Odd::Text(json!({"results": [page], "_links": {"next": next}}).to_string())
        })
    });
    let worker = rig.worker();
    let number = rig.ask(ReindexScope::Full).await;
    eventually("some parts", async || rig.run().await.filter(|run| run.pages_seen >= 3)).await;
    rig.let_pass(3 * DAY);
    let run = rig.ended(number).await;
    worker.stop().await;
    assert!(error(&run).contains("does not end") && error(&run).contains("2 days"), "{run:?}");
    assert_eq!(rig.registry.last_success(&rig.site).await.unwrap(), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_put_and_not_noted_is_found_to_be_gone() {
    let rig = Rig::start(3).await;
    let mut database = rig.database().await;
    // As when the registry goes down, or the process dies, just after the envelopes were put.
    let down = "CREATE TRIGGER down BEFORE INSERT ON pages WHEN NEW.status IS NOT NULL \
        BEGIN SELECT RAISE(ABORT, 'down'); END";
    database.execute(down).await.expect("SQLite");
    let worker = rig.worker();
    let number = rig.ask(ReindexScope::Full).await;
    rig.until_stored(2, 1, "current").await;
    rig.confluence.remove(2);
    database.execute("DROP TRIGGER down").await.expect("SQLite");
    rig.ended(number).await;
    worker.stop().await;
    rig.until_gone(2).await;
    rig.until_stored(3, 1, "current").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_a_later_read_did_not_find_is_taken_back_by_the_list() {
    let rig = Rig::start(3).await;
    let (registry, site, at_ms) = (rig.registry.clone(), rig.site.clone(), rig.now_ms() + 60_000);
    let runtime = tokio::runtime::Handle::current();
    // The worker that reads pages after events begins later, finds nothing, and is done before the list is answered.
    rig.confluence.script(move |call| {
        if is_list(&call.path) {
            let gone = [PageRow::unread(2).gone(at_ms)];
            tokio::task::block_in_place(|| runtime.block_on(registry.note_read(&site, &gone))).expect("a registry");
        }
        None
    });
    rig.reindex(ReindexScope::Full).await;
    // It comes behind the pages.
    eventually("the index is told", || rig.index()).await;
    rig.until_gone(2).await;
    rig.until_stored(3, 1, "current").await;
    assert_eq!(rig.row(2).await.map(|row| (row.version, row.status)), Some((1, None)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_gets_nowhere_for_days_fails_with_what_it_waited_for() {
    let rig = Rig::start(1).await;
    rig.confluence.script(|_| Some(Odd::Status(503)));
    let number = rig.ask(ReindexScope::Full).await;
    rig.let_pass(3 * DAY);
    let worker = rig.worker();
    let run = rig.ended(number).await;
    worker.stop().await;
    assert!(error(&run).contains("2 days") && error(&run).contains("503"), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_paused_is_left_at_once_and_goes_on_where_it_was() {
    let rig = Rig::start(250).await;
    let (registry, site, now_ms) = (rig.registry.clone(), rig.site.clone(), rig.now_ms());
    let lists = AtomicUsize::new(0);
    let runtime = tokio::runtime::Handle::current();
    rig.confluence.script(move |call| {
        if is_list(&call.path) && lists.fetch_add(1, Ordering::Relaxed) == 1 {
            tokio::task::block_in_place(|| runtime.block_on(registry.set_state(&site, SiteState::Paused, now_ms)))
                .expect("a registry");
        }
        None
    });
    let worker = rig.worker();
    let number = rig.ask(ReindexScope::Full).await;
    eventually("the site is left", async || {
        let paused = rig.registry.site(&rig.site).await.unwrap()?.state == SiteState::Paused;
        (paused && rig.is_let_go().await && rig.run().await?.pages_seen == 100).then_some(())
    })
    .await;
    rig.until_stored(100, 1, "current").await;
    // The second part was answered, and nothing of it was put.
    assert_eq!(rig.stored(101).await, None);
    rig.registry.resume(&rig.site).await.unwrap();
    let run = rig.ended(number).await;
    worker.stop().await;
    assert_eq!((run.pages_seen, rig.lists()), (250, 4));
    rig.until_stored(250, 1, "current").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_put_for_a_site_that_was_removed_while_its_list_was_read() {
    let rig = Rig::start(250).await;
    let (registry, site) = (rig.registry.clone(), rig.site.clone());
    let lists = AtomicUsize::new(0);
    let runtime = tokio::runtime::Handle::current();
    rig.confluence.script(move |call| {
        if is_list(&call.path) && lists.fetch_add(1, Ordering::Relaxed) == 1 {
            tokio::task::block_in_place(|| runtime.block_on(registry.forget_site(&site))).expect("a registry");
        }
        None
    });
    let worker = rig.worker();
    rig.ask(ReindexScope::Full).await;
    rig.until_stored(100, 1, "current").await;
    eventually("the site is gone", async || {
        let site = rig.registry.site(&rig.site).await.unwrap();
        site.is_none().then_some(())
    })
    .await;
    // It ends what it does before it stops.
    worker.stop().await;
    assert_eq!((rig.lists(), rig.stored(101).await, rig.run().await), (2, None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_removed_in_mid_sweep_is_left_as_it_is_for_whoever_removes_it() {
    let rig = Rig::start(60).await;
    rig.reindex(ReindexScope::Full).await;
    rig.until_stored(60, 1, "current").await;
    (1..=50).for_each(|page| rig.confluence.remove(page));
    let (registry, site) = (rig.registry.clone(), rig.site.clone());
    let runtime = tokio::runtime::Handle::current();
    rig.confluence.script(move |call| {
        // In the second step of the sweep.
        if call.path.contains("/pages/30?") {
            tokio::task::block_in_place(|| runtime.block_on(registry.forget_site(&site))).expect("a registry");
        }
        None
    });
    let worker = rig.worker();
    rig.ask(ReindexScope::Full).await;
    rig.until_gone(20).await;
    eventually("the site is gone", async || rig.registry.site(&rig.site).await.unwrap().is_none().then_some(())).await;
    // It ends what it does before it stops.
    worker.stop().await;
    assert_eq!((rig.run().await, rig.row(60).await), (None, None));
    rig.until_stored(21, 1, "current").await;
    assert_eq!(rig.confluence.reads(41), 0, "and nobody asks for more of it");
}
