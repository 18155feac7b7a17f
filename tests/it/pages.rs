//! The pages worker: from a task to an envelope on the road, whatever the site does.

mod drops;
mod names;
mod sites;
mod stage;
mod trouble;

use std::time::Duration;

use hookcache::confluence::Product;
use hookcache::page::{Archived, Status};
use hookcache::registry::{Fetched, JoinedBy};
use hookcache::source::confluence::{EventName, What};

use crate::support::confluence::Odd;
use crate::support::eventually;
use stage::{Stage, Wanted, site};

const MINUTE: Duration = Duration::from_secs(60);
const PAGE: &str = r#"<p><a href="https://example.com/a">a</a></p>"#;

#[tokio::test]
async fn an_event_puts_the_links_of_its_page_on_the_road() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.join("dc", Product::DataCenter, JoinedBy::Operator).await;
    stage.stand_in.add_page(42, "Home", PAGE);
    stage.stand_in.edit(42, PAGE);
    for (name, product) in [("acme", "cloud"), ("dc", "data center")] {
        let before_ms = stage.now_ms();
        stage.give(&stage.task(name, What::Page { page: 42, event: EventName::PageUpdated, version: Some(2) })).await;
        let on_road = stage.on_road(1).await.remove(0);
        assert_eq!(on_road.key(), format!("confluence:{name}:page:42"), "{product}");
        assert_eq!((on_road.envelope.by.as_str(), on_road.envelope.version.order()), ("source:confluence", 2));
        assert!((before_ms..=stage.now_ms()).contains(&on_road.envelope.version.time_ms()));
        let payload = on_road.payload();
        assert_eq!((&payload["page"]["space"], &payload["page"]["version"]), (&"DOC".into(), &2.into()));
        assert_eq!(on_road.urls(), ["https://example.com/a"]);
    }
    stage.until_done("stored", 2).await;
    stage.until_idle().await;
    let row = stage.row(42).await.expect("it is noted");
    assert_eq!((row.title.as_str(), row.version, row.status), ("Home", 2, Some(Status::Current)));
    assert_eq!(row.last_event.map(|(event, _)| event), Some(EventName::PageUpdated));
    assert_eq!(row.last_fetch.map(|fetched| fetched.result).as_deref(), Some(Fetched::OK));
    let took = stage.counted("hookcache_pages_event_to_road_seconds_count");
    assert_eq!((took, stage.counted(r#"hookcache_pages_reads_total{result="read"}"#)), (2.0, 2.0));
}

#[tokio::test]
async fn what_waits_for_one_page_is_answered_by_one_read() {
    let mut stage = Stage::set(Wanted::default()).await;
    stage.stand_in.add_page(1, "p", PAGE);
    stage.stand_in.add_page(2, "p", PAGE);
    for page in [1, 1, 2, 1, 1] {
        stage.tell(page, EventName::PageUpdated).await;
    }
    stage.work();
    stage.until_done("stored", 5).await;
    stage.until_idle().await;
    assert_eq!((stage.stand_in.reads(1), stage.stand_in.reads(2)), (1, 1));
    assert_eq!(stage.on_road(2).await.len(), 2);
}

#[tokio::test]
async fn a_page_that_was_read_since_its_event_is_not_read_again() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.stand_in.add_page(1, "p", PAGE);
    stage.tell(1, EventName::PageUpdated).await;
    stage.until_done("stored", 1).await;
    stage.tell_after(MINUTE, 1, EventName::PageMoved, None).await;
    stage.until_done("skipped", 1).await;
    assert_eq!(stage.stand_in.reads(1), 1);
    // Of an event just before a read nobody knows whether the read has seen it; and a version that was not read, was not.
    stage.tell(1, EventName::PageUpdated).await;
    stage.until_done("stored", 2).await;
    stage.stand_in.edit(1, PAGE);
    stage.tell_after(MINUTE, 1, EventName::PageUpdated, Some(2)).await;
    stage.until_done("stored", 3).await;
    assert_eq!(stage.stand_in.reads(1), 3);
}

#[tokio::test]
async fn an_event_from_just_before_a_read_may_tell_of_more_than_it_saw() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.stand_in.add_page(1, "p", PAGE);
    stage.tell(1, EventName::PageUpdated).await;
    stage.until_done("stored", 1).await;
    stage.tell_after(Duration::from_secs(1), 1, EventName::PageUpdated, None).await;
    stage.until_done("stored", 2).await;
    assert_eq!(stage.stand_in.reads(1), 2);
}

#[tokio::test]
async fn the_time_of_a_read_is_when_it_began_so_that_a_slow_one_never_wins_over_a_later_one() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.stand_in.add_page(1, "p", PAGE);
    for event in [EventName::PageUpdated, EventName::PageRemoved] {
        let gate = stage.stand_in.gate();
        let reads = stage.stand_in.reads(1);
        stage.tell(1, event).await;
        eventually("a read", || async { (stage.stand_in.reads(1) > reads).then_some(()) }).await;
        stage.let_pass(60 * MINUTE);
        // A version that is the same either way: of what the site still shows, or of what it showed last.
        if event == EventName::PageRemoved {
            stage.stand_in.remove(1);
        }
        gate.open();
        let on_road = stage.on_road(1).await.remove(0);
        assert_eq!((on_road.is_drop(), on_road.envelope.version.order()), (event == EventName::PageRemoved, 1));
        assert!(on_road.envelope.version.time_ms() < stage.now_ms() - 30 * 60_000, "{:?}", on_road.envelope.version);
        stage.until_idle().await;
    }
}

#[tokio::test]
async fn long_what_takes_longer_than_its_visibility_stays_in_hand() {
    let mut stage = Stage::set(Wanted { visibility: Duration::from_secs(10), ..Wanted::default() }).await;
    stage.stand_in.add_page(1, "p", PAGE);
    let gate = stage.stand_in.gate();
    stage.work();
    stage.tell(1, EventName::PageUpdated).await;
    eventually("a read", || async { (stage.stand_in.reads(1) == 1).then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!((stage.depth().await.visible, stage.stand_in.reads(1)), (0, 1), "nobody else could take it");
    gate.open();
    stage.until_done("stored", 1).await;
    stage.until_idle().await;
    assert_eq!(stage.stand_in.reads(1), 1);
}

#[tokio::test]
async fn a_page_that_a_site_shows_late_is_waited_for() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.stand_in.read_late(1, 1);
    stage.stand_in.add_page(1, "p", PAGE);
    stage.tell(1, EventName::PageCreated).await;
    stage.until_put_off("late", 1).await;
    assert_eq!(stage.on_road(1).await[0].urls(), ["https://example.com/a"]);
    assert_eq!(stage.stand_in.reads(1), 2);

    stage.stand_in.add_page(2, "p", PAGE);
    stage.stand_in.read_late(2, 1);
    stage.stand_in.edit(2, "<p/>");
    stage.give(&stage.task("acme", What::Page { page: 2, event: EventName::PageUpdated, version: Some(2) })).await;
    let on_road = stage.on_road(1).await.remove(0);
    assert_eq!(
        (on_road.envelope.version.order(), on_road.urls().len()),
        (2, 0),
        "the old version is not taken for new"
    );
}

#[tokio::test]
async fn a_version_that_never_comes_is_not_waited_for_for_ever() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.stand_in.add_page(1, "p", PAGE);
    stage.tell_after(60 * MINUTE, 1, EventName::PageUpdated, Some(9)).await;
    assert_eq!(stage.on_road(1).await[0].envelope.version.order(), 1);
}

#[tokio::test]
async fn a_page_that_is_not_there_or_not_to_be_seen_is_dropped() {
    let stage = Stage::at_work(Wanted::default()).await;
    for page in [1, 2] {
        stage.stand_in.add_page(page, "p", PAGE);
        stage.stand_in.edit(page, PAGE);
        stage.tell(page, EventName::PageUpdated).await;
    }
    stage.on_road(2).await;
    stage.until_done("stored", 2).await;
    // A list that lags behind is no reason to drop a lower version than the store has.
    let stale = hookcache::registry::PageRow { version: 1, ..stage.row(1).await.expect("it is noted") };
    let last_fetch = Some(Fetched { at_ms: stage.now_ms(), result: Fetched::OK.to_owned() });
    stage.registry.note_read(&site("acme"), &[hookcache::registry::PageRow { last_fetch, ..stale }]).await.unwrap();

    stage.stand_in.change(1, |page| page.restricted = true);
    stage.stand_in.remove(2);
    // It was removed on purpose, so nobody waits for it to show up.
    stage.tell(2, EventName::PageRemoved).await;
    // Long enough after its event that it is not late any more, and after its last read.
    stage.let_pass(MINUTE);
    stage.tell_after(MINUTE / 6, 1, EventName::PageUpdated, None).await;
    for dropped in stage.on_road(2).await {
        assert!(dropped.is_drop(), "{dropped:?}");
        assert_eq!(dropped.envelope.version.order(), 2);
    }
    stage.until_done("dropped", 2).await;
    let row = stage.row(1).await.expect("it is kept");
    assert_eq!((row.status, row.version), (None, 2));
    assert_eq!(row.last_fetch.map(|fetched| fetched.result).as_deref(), Some(Fetched::NOT_FOUND));
    assert_eq!(stage.counted(r#"hookcache_pages_put_off_total{cause="late"}"#), 0.0);

    // It may be seen again.
    stage.stand_in.change(1, |page| page.restricted = false);
    stage.tell(1, EventName::PageUpdated).await;
    assert_eq!(stage.on_road(1).await[0].urls(), ["https://example.com/a"]);
}

#[tokio::test]
async fn what_becomes_of_a_page_is_told_by_the_site_and_not_by_the_event() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.stand_in.add_page(1, "p", PAGE);
    for (status, event) in [
        ("current", EventName::PageRemoved),
        ("trashed", EventName::PageRemoved),
        ("archived", EventName::PageArchived),
        ("trashed", EventName::PageTrashed),
        ("current", EventName::PageRestored),
        ("archived", EventName::PageMoved),
        ("current", EventName::PageArchived),
    ] {
        stage.stand_in.set_status(1, status);
        stage.tell(1, event).await;
        let on_road = stage.on_road(1).await.remove(0);
        assert_eq!(on_road.payload()["page"]["status"], status, "{event:?}");
        assert_eq!(on_road.urls().len(), 1, "the links of what may come back are kept");
    }
}

#[tokio::test]
async fn an_archived_page_is_dropped_where_the_operator_wants_it() {
    let stage = Stage::at_work(Wanted { archived: Archived::Drop, ..Wanted::default() }).await;
    stage.stand_in.add_page(1, "p", PAGE);
    stage.stand_in.set_status(1, "archived");
    stage.tell(1, EventName::PageArchived).await;
    assert!(stage.on_road(1).await[0].is_drop());
    stage.until_done("stored", 1).await;
    assert_eq!(stage.row(1).await.expect("it is known").status, Some(Status::Archived));
}

#[tokio::test]
async fn a_moved_page_has_the_key_of_its_new_space() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.stand_in.add_space(7, "OLD");
    stage.stand_in.add_space(8, "NEW");
    stage.stand_in.add_page(1, "p", r#"<ac:link><ri:page ri:content-title="T"/></ac:link>"#);
    for (space_id, key) in [(7, "OLD"), (8, "NEW"), (9, "")] {
        stage.stand_in.change(1, |page| page.space_id = space_id);
        stage.tell(1, EventName::PageMoved).await;
        let payload = stage.on_road(1).await.remove(0).payload();
        let (space, target) = (&payload["page"]["space"], &payload["links"][0]["target"]["space"]);
        assert_eq!((space.as_str().unwrap_or(""), target.as_str().unwrap_or("")), (key, key));
    }
}

#[tokio::test]
async fn large_deep_and_broken_pages_are_searched_and_told_as_they_are() {
    let stage = Stage::at_work(Wanted::default()).await;
    let link = r#"<a href="https://example.com/a">a</a>"#;
    let bodies = [
        ("p".repeat(30 << 20) + link, None),
        ("<div>".repeat(100_000) + link + &"</div>".repeat(100_000), None),
        (format!("&undeclared; &alsonot; {link}"), None),
        (format!("{link}<p><![CDATA["), Some("syntax")),
    ];
    for (page, (body, flaw)) in (1..).zip(bodies) {
        stage.stand_in.add_page(page, "p", &body);
        stage.tell(page, EventName::PageUpdated).await;
        let on_road = stage.on_road(1).await.remove(0);
        assert_eq!(on_road.urls(), ["https://example.com/a"], "{page}");
        let flaws = on_road.payload()["page"]["flaws"].clone();
        assert_eq!(flaws[0].as_str(), flaw, "{page}: {flaws}");
    }
}

#[tokio::test]
async fn no_more_is_in_hand_than_there_are_permits() {
    let mut wanted = Wanted::default();
    wanted.options.tasks_in_hand_max = 3;
    let mut stage = Stage::set(wanted).await;
    for page in 1..=12 {
        stage.stand_in.add_page(page, "p", PAGE);
        stage.tell(page, EventName::PageUpdated).await;
    }
    stage.stand_in.script(|_| Some(Odd::Slow(Duration::from_millis(20))));
    stage.work();
    stage.until_done("stored", 12).await;
    assert!(stage.stand_in.running_max() <= 3, "{}", stage.stand_in.running_max());
}
