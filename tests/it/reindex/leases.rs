//! One process at a time works on a run, and another goes on where it stopped.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use hookcache::registry::Phase;
use hookcache::source::confluence::ReindexScope;

use super::rig::{Rig, body};
use crate::support::confluence::Odd;
use crate::support::eventually;

/// Longer than a lease.
const LEASE_IS_OVER: Duration = Duration::from_secs(40);

/// Stalls every list but the first `ready` ones.
fn stall_after(rig: &Rig, ready: usize) {
    let lists = AtomicUsize::new(0);
    rig.confluence.script(move |call| {
        let stalls = call.path.contains("/api/v2/pages?") && lists.fetch_add(1, Ordering::Relaxed) >= ready;
        stalls.then_some(Odd::Silence)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_one_reads_a_site() {
    let rig = Rig::start(550).await;
    let workers = [rig.worker(), rig.worker()];
    let run = rig.ended(rig.ask(ReindexScope::Full).await).await;
    assert_eq!((run.pages_seen, rig.lists()), (550, 6));
    for worker in workers {
        worker.stop().await;
    }
    rig.until_stored(550, 1, "current").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_gives_its_run_back_at_once() {
    let rig = Rig::start(250).await;
    stall_after(&rig, 1);
    let worker = rig.worker();
    rig.ask(ReindexScope::Full).await;
    eventually("the second part is asked for", async || (rig.lists() == 2).then_some(())).await;
    worker.stop().await;
    let run = rig.registry.claim_run("other", rig.now_ms(), rig.now_ms() + 1_000).await.unwrap();
    let run = run.expect("it is free");
    assert_eq!((run.pages_seen, run.phase, run.waiting), (100, Phase::Listing, None));
    assert!(run.cursor.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_lost_the_lease_changes_nothing_any_more() {
    let rig = Rig::start(250).await;
    let (go_on, wait) = mpsc::channel::<()>();
    let (wait, lists) = (std::sync::Mutex::new(wait), AtomicUsize::new(0));
    rig.confluence.script(move |call| {
        if call.path.contains("/api/v2/pages?") && lists.fetch_add(1, Ordering::Relaxed) == 1 {
            tokio::task::block_in_place(|| wait.lock().expect("one thread").recv().expect("the test goes on"));
        }
        None
    });
    let worker = rig.worker();
    rig.ask(ReindexScope::Full).await;
    eventually("the second part is asked for", async || (rig.lists() == 2).then_some(())).await;
    // Its holder, which is stuck, renews its lease every few seconds; another claims it as soon as it may.
    rig.let_pass(LEASE_IS_OVER);
    let claimed = rig.registry.claim_run("other", rig.now_ms(), u64::MAX >> 2).await.unwrap();
    let claimed = claimed.expect("the lease is over");
    assert_eq!(claimed.pages_seen, 100);
    go_on.send(()).expect("it waits");
    // The part that it had asked for is put, which is harmless.
    rig.until_stored(101, 1, "current").await;
    worker.stop().await;
    assert_eq!((rig.run().await, rig.lists()), (Some(claimed), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_a_lease_is_renewed_while_the_site_is_slow() {
    let rig = Rig::start(1).await;
    let gate = rig.confluence.gate();
    let worker = rig.worker();
    let number = rig.ask(ReindexScope::Full).await;
    eventually("the list is asked for", async || (rig.lists() == 1).then_some(())).await;
    let until_ms = async || {
        let mut database = rig.database().await;
        let until = "SELECT lease_until_ms FROM runs";
        sqlx::query_scalar::<_, i64>(until).fetch_one(&mut database).await.expect("SQLite")
    };
    let at_first = until_ms().await;
    eventually("a renewal", async || (until_ms().await > at_first).then_some(())).await;
    gate.open();
    rig.ended(number).await;
    worker.stop().await;
    assert_eq!(rig.lists(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_after_a_cut_at_any_point_and_repeats_a_part_at_most() {
    const CUTS: usize = 12;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let rig = Rig::start(450).await;
    // Half of them are known, so that there is something to sweep.
    rig.reindex(ReindexScope::Full).await;
    for page in 1..=450 {
        match page % 9 {
            0 => rig.confluence.remove(page),
            1 => rig.confluence.set_status(page, "trashed"),
            _ => _ = rig.confluence.edit(page, &body(page, 2)),
        }
    }
    let (lists, reads) = (rig.lists(), rig.confluence.count("/api/v2/pages/"));
    let number = rig.ask(ReindexScope::Full).await;
    for _ in 0..CUTS {
        let worker = rig.worker();
        tokio::time::sleep(Duration::from_millis(random.u64(0..60))).await;
        worker.cut_off().await;
        rig.let_pass(LEASE_IS_OVER);
    }
    let worker = rig.worker();
    rig.ended(number).await;
    worker.stop().await;
    // 350 pages are listed in four parts, 100 swept in parts of twenty.
    assert!(rig.lists() - lists <= 4 + CUTS, "{}", rig.lists() - lists);
    let reads = rig.confluence.count("/api/v2/pages/") - reads;
    assert!((100..=100 + 20 * CUTS).contains(&reads), "{reads}");
    for page in 1..=450 {
        match page % 9 {
            0 => rig.until_gone(page).await,
            1 => _ = rig.until_stored(page, 1, "trashed").await,
            _ => _ = rig.until_stored(page, 2, "current").await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_when_its_site_was_removed_is_taken_back() {
    let rig = Rig::start(20).await;
    let (asked, is_asked) = mpsc::channel::<()>();
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    rig.confluence.script(move |call| {
        if call.path.contains("/api/v2/pages?") {
            asked.send(()).expect("the test waits");
            tokio::task::block_in_place(|| wait.lock().expect("one thread").recv().expect("the test goes on"));
        }
        None
    });
    let worker = rig.worker();
    rig.ask(ReindexScope::Full).await;
    tokio::task::block_in_place(|| is_asked.recv()).expect("the list is asked for");
    // Nothing can be noted of the pages once they are put, so that the part is read again, ...
    let mut removing = rig.database().await;
    sqlx::query("PRAGMA foreign_keys = ON").execute(&mut removing).await.expect("SQLite");
    let down = "CREATE TRIGGER down BEFORE INSERT ON pages WHEN NEW.status IS NOT NULL \
        BEGIN SELECT RAISE(ABORT, 'down'); END";
    sqlx::query(down).execute(&mut removing).await.expect("SQLite");
    go_on.send(()).expect("it waits");
    rig.until_stored(20, 1, "current").await;
    tokio::task::block_in_place(|| is_asked.recv()).expect("the list is asked for again");
    // ... and meanwhile somebody removes the site.
    sqlx::query("DELETE FROM sites").execute(&mut removing).await.expect("SQLite");
    go_on.send(()).expect("it waits");
    for page in 1..=20 {
        rig.until_gone(page).await;
    }
    worker.stop().await;
    assert_eq!(rig.registry.site(&rig.site).await.unwrap(), None);
}
