//! A page that has gone wins over what was read of it before, whoever comes first.

use hookcache::page;
use hookcache::registry::PageRow;
use hookcache::source::confluence::EventName;
use sqlx::Executor;

use super::PAGE;
use super::stage::{OnRoad, Stage, Wanted, site};

/// In version 5.
fn add_page(stage: &Stage) {
    stage.stand_in.add_page(1, "p", PAGE);
    stage.stand_in.change(1, |page| page.version = 5);
}

fn newest(on_road: &[OnRoad]) -> &OnRoad {
    on_road.iter().max_by_key(|on_road| on_road.envelope.version).expect("there is one")
}

#[tokio::test]
async fn a_page_that_was_put_and_not_noted_is_dropped_by_the_version_that_was_put() {
    let stage = Stage::at_work(Wanted::default()).await;
    add_page(&stage);
    let mut database = stage.database().await;
    // As when the registry goes down, or the process dies, just after the envelope was put.
    let down = "CREATE TRIGGER down BEFORE INSERT ON pages WHEN NEW.status IS NOT NULL \
        BEGIN SELECT RAISE(ABORT, 'down'); END";
    database.execute(down).await.expect("SQLite");
    stage.tell(1, EventName::PageTrashed).await;
    let mut on_road = stage.on_road(1).await;
    stage.stand_in.remove(1);
    database.execute("DROP TRIGGER down").await.expect("SQLite");
    while !on_road.last().expect("there is one").is_drop() {
        on_road.extend(stage.on_road(1).await);
    }
    stage.until_done("dropped", 1).await;
    assert!(newest(&on_road).is_drop(), "{on_road:?}");
    assert_eq!(newest(&on_road).envelope.version.order(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_a_later_read_did_not_find_is_taken_back_by_the_read_that_came_late() {
    let stage = Stage::set(Wanted::default()).await;
    let row = PageRow { version: 4, ..PageRow::unread(1) };
    let (registry, road, at_ms) = (stage.registry.clone(), stage.road.clone(), stage.now_ms() + 60_000);
    let task = stage.task(
        "acme",
        hookcache::source::confluence::What::Page { page: 1, event: EventName::PageRemoved, version: None },
    );
    let dropped = page::dropped(stage.stamp(), &task.site, &task.account, 1, row.version, at_ms);
    let runtime = tokio::runtime::Handle::current();
    // Another process begins later, finds nothing, and is done before this one has its answer.
    stage.stand_in.script(move |call| {
        if call.path.contains("/pages/1?") {
            let dropping = async {
                road.append(dropped.clone()).await.expect("a buffer");
                registry.note_read(&site("acme"), &[row.clone().gone(at_ms)]).await.expect("a registry");
            };
            tokio::task::block_in_place(|| runtime.block_on(dropping));
        }
        None
    });
    add_page(&stage);
    let mut stage = stage;
    stage.work();
    stage.tell(1, EventName::PageUpdated).await;
    let on_road = stage.on_road(3).await;
    assert!(newest(&on_road).is_drop(), "{on_road:?}");
    stage.until_done("stored", 1).await;
    assert_eq!(stage.row(1).await.map(|row| (row.version, row.status)), Some((5, None)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_is_by_the_highest_version_that_an_earlier_read_has_brought_meanwhile() {
    let mut stage = Stage::set(Wanted::default()).await;
    let read = |version| PageRow { version, ..PageRow::unread(1) }.gone(1);
    stage.registry.note_read(&site("acme"), &[read(4)]).await.expect("a registry");
    // While the site is asked, ...
    let (registry, runtime) = (stage.registry.clone(), tokio::runtime::Handle::current());
    stage.stand_in.script(move |_| {
        let noting = async { registry.note_on_its_way(&site("acme"), &[read(5)]).await.expect("a registry") };
        tokio::task::block_in_place(|| runtime.block_on(noting));
        None
    });
    // ... and while the page is dropped.
    let meanwhile = "CREATE TRIGGER meanwhile AFTER UPDATE ON pages WHEN NEW.fetch_result = 'not-found' \
        BEGIN UPDATE pages SET version = 6 WHERE site = NEW.site AND page = NEW.page AND version = 5; END";
    stage.database().await.execute(meanwhile).await.expect("SQLite");
    stage.work();
    stage.tell(1, EventName::PageRemoved).await;
    let on_road = stage.on_road(2).await;
    assert!(on_road.iter().all(OnRoad::is_drop), "{on_road:?}");
    assert_eq!([0, 1].map(|at: usize| on_road[at].envelope.version.order()), [5, 6]);
    stage.until_idle().await;
}
