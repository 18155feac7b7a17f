//! Incremental runs: what was changed since, and no more.

use hookcache::source::confluence::ReindexScope;

use super::rig::{DAY, Rig, body};

#[tokio::test(flavor = "multi_thread")]
async fn events_that_never_came_are_made_up_for_and_nothing_else_is_put() {
    let rig = Rig::start(30).await;
    // All but a few were changed long before the overlap.
    (1..=25).for_each(|page| rig.confluence.change(page, |page| page.modified_ms -= 10 * DAY.as_millis() as u64));
    rig.reindex(ReindexScope::Full).await;
    let old = rig.until_stored(30, 1, "current").await;
    rig.confluence.edit(3, &body(3, 2));
    rig.confluence.add_page(31, "Page 31", &body(31, 1));
    rig.confluence.set_status(29, "archived");

    let run = rig.reindex(ReindexScope::SinceLast).await;
    rig.until_stored(3, 2, "current").await;
    rig.until_stored(31, 1, "current").await;
    rig.until_stored(29, 1, "archived").await;
    // 26 to 30 are within the overlap.
    assert_eq!((run.pages_seen, run.pages_changed), (7, 3));
    assert_eq!(rig.stored(30).await.expect("it is there").version, old.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_left_where_it_comes_to_what_was_seen_before() {
    let rig = Rig::start(250).await;
    (1..=250).for_each(|page| rig.confluence.change(page, |page| page.modified_ms -= 10 * DAY.as_millis() as u64));
    rig.reindex(ReindexScope::Full).await;
    rig.confluence.edit(3, &body(3, 2));
    let lists = rig.lists();
    let run = rig.reindex(ReindexScope::SinceLast).await;
    assert_eq!((run.pages_seen, run.pages_changed, rig.lists() - lists), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_since_a_moment_reaches_back_to_it_and_to_the_last_success_at_least() {
    let rig = Rig::start(3).await;
    rig.reindex(ReindexScope::Full).await;
    let age = |days: u32| rig.now_ms() - u64::from(days) * DAY.as_millis() as u64;
    for (page, days) in [(1, 30), (2, 10), (3, 0)] {
        rig.confluence.change(page, |page| page.modified_ms = age(days));
    }
    let run = rig.reindex(ReindexScope::Since(age(20))).await;
    assert_eq!(run.pages_seen, 2);
    // Whatever lies between the last success and that moment would be looked at by nobody else.
    rig.let_pass(4 * DAY);
    rig.confluence.change(2, |page| page.modified_ms = rig.now_ms() - 2 * DAY.as_millis() as u64);
    let run = rig.reindex(ReindexScope::Since(rig.now_ms())).await;
    assert_eq!(run.pages_seen, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_never_read_is_read_to_its_end_and_is_not_complete_by_that() {
    let rig = Rig::start(120).await;
    let run = rig.reindex(ReindexScope::SinceLast).await;
    assert_eq!((run.pages_seen, run.pages_changed), (120, 120));
    let index = crate::support::eventually("the index is told", || rig.index()).await;
    assert_eq!(index["complete"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sites_own_clock_decides_how_far_back_is_looked() {
    let rig = Rig::start(2).await;
    // Our clock is three days ahead of the site's.
    rig.let_pass(3 * DAY);
    rig.reindex(ReindexScope::Full).await;
    rig.confluence.edit(1, &body(1, 2));
    rig.reindex(ReindexScope::SinceLast).await;
    rig.until_stored(1, 2, "current").await;
}
