//! Full runs: everything is read, and what is gone, hidden or back is found.

use hookcache::confluence::Product;
use hookcache::page::Status;
use hookcache::source::confluence::ReindexScope;
use serde_json::json;

use super::rig::{DAY, Rig, body};
use crate::support::confluence::Odd;
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_site_is_read_to_the_end_of_its_list_and_told_to_be_complete() {
    let rig = Rig::start(250).await;
    let run = rig.reindex(ReindexScope::Full).await;
    assert_eq!((run.pages_seen, run.pages_changed, run.pages_swept), (250, 250, 0));
    assert_eq!(rig.lists(), 3);
    for page in [1, 100, 101, 250] {
        rig.until_stored(page, 1, "current").await;
    }
    let page = serde_json::from_slice::<serde_json::Value>(&rig.stored(7).await.expect("stored").payload).unwrap();
    assert_eq!((&page["page"]["title"], &page["page"]["space"]), (&json!("Page 7"), &json!("DOC")));
    let index = eventually("the index is told", || rig.index()).await;
    assert_eq!(index["complete"], json!(true));
    assert_eq!(rig.registry.last_success(&rig.site).await.unwrap(), (run.began_ms, run.began_ms));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vanished_was_archived_trashed_or_hidden_without_an_event_is_found() {
    for product in [Product::Cloud, Product::DataCenter] {
        let rig = Rig::start(6).await;
        rig.join(product).await;
        rig.reindex(ReindexScope::Full).await;
        rig.until_stored(6, 1, "current").await;

        rig.confluence.remove(1);
        rig.confluence.set_status(2, "archived");
        rig.confluence.set_status(3, "trashed");
        rig.confluence.change(4, |page| page.restricted = true);
        rig.confluence.change(5, |page| page.title = "Moved".to_owned());
        let run = rig.reindex(ReindexScope::Full).await;
        assert!(run.pages_swept >= 3, "{run:?}");
        rig.until_gone(1).await;
        rig.until_gone(4).await;
        rig.until_stored(2, 1, "archived").await;
        rig.until_stored(3, 1, "trashed").await;
        rig.until_stored(6, 1, "current").await;
        let statuses = [1, 2, 3, 4].map(async |page| rig.row(page).await.expect("a row").status);
        let statuses = futures_util::future::join_all(statuses).await;
        assert_eq!(statuses, [None, Some(Status::Archived), Some(Status::Trashed), None]);
        assert_eq!(rig.row(5).await.unwrap().title, "Moved");

        // And back again, all of it.
        rig.confluence.set_status(2, "current");
        rig.confluence.set_status(3, "current");
        rig.confluence.change(4, |page| page.restricted = false);
        rig.reindex(ReindexScope::Full).await;
        for page in 2..=6 {
            rig.until_stored(page, 1, "current").await;
        }
        // What lies in the trash is in no list; that it is purged from there is found, too.
        rig.confluence.set_status(3, "trashed");
        rig.reindex(ReindexScope::Full).await;
        rig.until_stored(3, 1, "trashed").await;
        rig.confluence.remove(3);
        rig.reindex(ReindexScope::Full).await;
        rig.until_gone(3).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_last_edited_in_2019_outlives_the_default_ttl() {
    let rig = Rig::start(1).await;
    rig.confluence.change(1, |page| page.modified_ms = 1_556_668_800_000);
    rig.reindex(ReindexScope::Full).await;
    let entry = rig.until_stored(1, 1, "current").await;
    assert_eq!(entry.expires_at_ms, None);
    rig.let_pass(2 * DAY);
    rig.until_stored(1, 1, "current").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_began_with_its_first_part_and_a_page_was_read_when_its_part_was_asked_for() {
    let rig = Rig::start(150).await;
    let gate = rig.confluence.gate();
    let at = gate.clone();
    rig.confluence.script(move |call| call.path.contains("cursor=").then(|| Odd::Gated(at.clone())));
    let worker = rig.worker();
    let number = rig.ask(ReindexScope::Full).await;
    eventually("the second part is asked for", async || (rig.lists() == 2).then_some(())).await;
    rig.let_pass(DAY);
    gate.open();
    let run = rig.ended(number).await;
    worker.stop().await;
    // What was changed while it went on is for the next one to look at.
    let half_a_day_ago = rig.now_ms() - DAY.as_millis() as u64 / 2;
    assert!(run.began_ms.is_some_and(|began_ms| began_ms < half_a_day_ago), "{run:?}");
    // And an event of that time wins over what the list says.
    let stored = rig.until_stored(150, 1, "current").await;
    assert!(stored.version.time_ms() < half_a_day_ago, "{stored:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_run_mends_a_store_that_has_lost_a_page() {
    let rig = Rig::start(3).await;
    rig.reindex(ReindexScope::Full).await;
    let lost = rig.until_stored(2, 1, "current").await;
    rig.lose(2, &lost).await;
    let run = rig.reindex(ReindexScope::Full).await;
    assert_eq!((run.pages_seen, run.pages_changed), (3, 0));
    rig.until_stored(2, 1, "current").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_while_a_run_goes_on_are_right_in_the_end() {
    let rig = Rig::start(250).await;
    let confluence = rig.confluence.clone();
    // With each part of the list some pages change that are listed already, some that are not, and some come and go.
    rig.confluence.script(move |call| {
        if call.path.contains("/api/v2/pages?") {
            for page in [5, 105, 205] {
                let version = confluence.page(page).expect("it is there").version + 1;
                confluence.edit(page, &body(page, version));
            }
        }
        None
    });
    rig.reindex(ReindexScope::Full).await;
    rig.confluence.no_script();
    rig.confluence.remove(249);
    rig.confluence.add_page(251, "Page 251", &body(251, 1));
    rig.reindex(ReindexScope::SinceLast).await;
    for page in [5, 105, 205] {
        let version = rig.confluence.page(page).expect("it is there").version;
        assert_eq!(version, 4);
        rig.until_stored(page, version, "current").await;
    }
    rig.until_stored(251, 1, "current").await;
    rig.reindex(ReindexScope::Full).await;
    rig.until_gone(249).await;
    rig.until_stored(250, 1, "current").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_event_brought_in_a_higher_version_stays() {
    let rig = Rig::start(2).await;
    let list = rig.confluence.clone();
    rig.confluence.script(move |call| {
        // What the list says of page 1 is older than what its event has brought.
        if call.path.contains("/api/v2/pages?") {
            list.change(1, |page| (page.version, page.body) = (1, body(1, 1)));
        }
        None
    });
    rig.confluence.change(1, |page| (page.version, page.body) = (5, body(1, 5)));
    rig.read_by_event(1).await;
    rig.until_stored(1, 5, "current").await;
    rig.reindex(ReindexScope::Full).await;
    rig.until_stored(2, 1, "current").await;
    rig.until_stored(1, 5, "current").await;
    assert_eq!(rig.row(1).await.unwrap().version, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_deleted_in_mid_list_hides_none_that_comes_after_it() {
    let rig = Rig::start(120).await;
    rig.join(Product::DataCenter).await;
    // Its list is counted by offsets: once the first part is told, what comes after it moves up.
    let stand_in = rig.confluence.clone();
    rig.confluence.script(move |call| {
        if call.path.contains("start=") {
            (1..=8).for_each(|page| stand_in.remove(page));
        }
        None
    });
    let run = rig.reindex(ReindexScope::Full).await;
    rig.confluence.no_script();
    assert_eq!((run.pages_seen, run.pages_swept), (120, 0), "each of them once");
    for page in 100..=110 {
        rig.until_stored(page, 1, "current").await;
    }
}
