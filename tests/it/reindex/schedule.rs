//! Runs that nobody asks for.

use hookcache::source::confluence::{ReindexScope, What};

use super::rig::{Rig, WEEKLY};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_site_is_asked_for_as_a_whole_and_after_that_by_the_hour() {
    let rig = Rig::start(1).await;
    let worker = rig.worker_with(WEEKLY);
    let task = eventually("a task", async || rig.take_task().await).await;
    assert_eq!((&task.site, task.what), (&rig.site, What::Reindex(ReindexScope::Full)));
    rig.ended(rig.ask(ReindexScope::Full).await).await;
    // Others have asked meanwhile, and so has this one: there is no second task.
    let depth = rig.tasks.1.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
    worker.stop().await;

    // Two hours later, another process.
    rig.let_pass(std::time::Duration::from_secs(2 * 3_600));
    let worker = rig.worker_with(WEEKLY);
    let task = eventually("another task", async || rig.take_task().await).await;
    assert_eq!(task.what, What::Reindex(ReindexScope::SinceLast));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_a_run_that_nobody_opens_is_not_asked_for_at_every_look() {
    let rig = Rig::start(1).await;
    let worker = rig.worker_with(WEEKLY);
    eventually("a task", async || (rig.tasks.1.depth().await.unwrap().visible == 1).then_some(())).await;
    // Some looks more.
    tokio::time::sleep(std::time::Duration::from_secs(25)).await;
    assert_eq!(rig.tasks.1.depth().await.unwrap().visible, 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_tell_of_runs_and_of_how_far_it_is_behind() {
    use crate::support::stack::series;
    let rig = Rig::start(1).await;
    let page = rig.metrics.text();
    for name in ["hookcache_reindex_runs_total{result=\"succeeded\"}", "hookcache_reindex_pages_total{what=\"seen\"}"] {
        assert_eq!(series(&page, name), Some(0.0), "{page}");
    }
    rig.let_pass(std::time::Duration::from_secs(3_600));
    rig.registry.ask_for_run(&rig.site, ReindexScope::Full, 0).await.unwrap();
    rig.confluence.script(|_| Some(crate::support::confluence::Odd::Silence));
    let worker = rig.worker();
    let behind = async || {
        let page = rig.metrics.text();
        let behind = series(&page, "hookcache_reindex_behind_seconds")?;
        (series(&page, "hookcache_reindex_open_runs") == Some(1.0) && behind >= 3_600.0).then_some(())
    };
    eventually("it is behind by an hour", behind).await;
    worker.stop().await;
    rig.confluence.no_script();
    rig.reindex(ReindexScope::Full).await;
    let page = rig.metrics.text();
    assert_eq!(series(&page, "hookcache_reindex_runs_total{result=\"succeeded\"}"), Some(1.0));
    assert_eq!(series(&page, "hookcache_reindex_pages_total{what=\"seen\"}"), Some(1.0));
}
