//! What goes wrong: with one page, with one site, with the places.

use std::time::Duration;

use hookcache::confluence::{Credential, Product};
use hookcache::envelope::{PoisonCode, WireForm};
use hookcache::registry::{JoinedBy, Joining};
use hookcache::source::confluence::{EventName, PageTask, What};

use super::PAGE;
use super::stage::{Stage, Wanted, site};
use crate::support::confluence::Odd;
use crate::support::eventually;

#[tokio::test]
async fn a_site_that_never_answers_does_not_hold_up_another() {
    let mut wanted = Wanted::default();
    (wanted.options.tasks_in_hand_max, wanted.options.reads_per_site_max) = (4, 2);
    // Longer than any test.
    wanted.client.request_timeout = Duration::from_secs(600);
    let mut stage = Stage::set(wanted).await;
    stage.join("quick", Product::Cloud, JoinedBy::Operator).await;
    stage.stand_in.script(|call| (call.authorization == "Bearer acme").then_some(Odd::Silence));
    for page in 1..=20 {
        stage.tell(page, EventName::PageUpdated).await;
    }
    stage.stand_in.add_page(99, "p", PAGE);
    stage.work();
    stage.until_put_off("busy", 18).await;
    stage.give(&stage.task("quick", What::Page { page: 99, event: EventName::PageUpdated, version: None })).await;
    assert_eq!(stage.on_road(1).await[0].key(), "confluence:quick:page:99");
    let asked = stage.stand_in.calls().iter().filter(|call| call.authorization == "Bearer acme").count();
    assert_eq!(asked, 2, "and it is asked by no more than it may be at once");
}

#[tokio::test]
async fn an_outage_of_a_site_makes_no_dead_letters_and_ends_by_itself() {
    let mut wanted = Wanted::default();
    wanted.options.attempts_max = 1;
    wanted.client.request_timeout = Duration::from_millis(200);
    let stage = Stage::at_work(wanted).await;
    stage.stand_in.add_page(1, "p", PAGE);
    for (cause, odd) in [
        ("away", Odd::Status(503)),
        ("away", Odd::CutOff),
        ("away", Odd::Silence),
        ("away", Odd::TooMany(Some("1".to_owned()))),
    ] {
        let before = stage.counted(r#"hookcache_pages_put_off_total{cause="away"}"#) as u32;
        stage.stand_in.script(move |_| Some(odd.clone()));
        stage.tell(1, EventName::PageUpdated).await;
        stage.until_put_off(cause, before + 1).await;
        stage.stand_in.no_script();
        stage.on_road(1).await;
    }
    stage.until_idle().await;
    assert_eq!(stage.letters().await.len(), 0);
}

#[tokio::test]
async fn a_refused_credential_makes_no_dead_letters_and_a_new_one_is_tried_at_once() {
    let mut wanted = Wanted::default();
    wanted.options.attempts_max = 1;
    let stage = Stage::at_work(wanted).await;
    stage.stand_in.add_page(1, "p", PAGE);
    stage.stand_in.require("Bearer new");
    stage.tell(1, EventName::PageUpdated).await;
    // Once by the site, then without asking it.
    stage.until_put_off("refused", 2).await;
    assert_eq!(stage.stand_in.reads(1), 1);
    let row = stage.row(1).await.expect("it is noted");
    assert!(row.last_fetch.is_some_and(|fetched| fetched.result.contains("refuses the credential")));
    let acme = stage.registry.site(&site("acme")).await.unwrap().expect("it is there");
    let credential = Some(Credential::Bearer("new".to_owned()));
    let joining =
        Joining { site: hookcache::registry::Site { added_ms: stage.now_ms(), ..acme }, credential, hook_secret: None };
    stage.registry.join(&joining, 0).await.unwrap();
    stage.on_road(1).await;
    stage.until_idle().await;
    assert_eq!(stage.letters().await.len(), 0);
}

#[tokio::test]
async fn a_page_that_alone_can_not_be_used_is_dead_lettered_with_its_reason() {
    let mut wanted = Wanted::default();
    wanted.options.attempts_max = 2;
    let stage = Stage::at_work(wanted).await;
    stage.stand_in.add_page(2, "p", PAGE);
    stage.stand_in.script(|call| match call.path.as_str() {
        path if path.contains("/pages/1?") => Some(Odd::Text("<html>".into())),
        path if path.contains("/pages/3?") => Some(Odd::Status(500)),
        _ => None,
    });
    stage.tell(1, EventName::PageUpdated).await;
    stage.tell(3, EventName::PageUpdated).await;
    stage.until_put_off("alone", 2).await;
    stage.tell(2, EventName::PageUpdated).await;
    let letters = eventually("two dead letters", || async {
        let letters = stage.letters().await;
        (letters.len() == 2).then_some(letters)
    })
    .await;
    assert!(letters.iter().all(|letter| letter.reason == PoisonCode::AttemptsExhausted));
    for detail in ["not JSON", "500"] {
        assert!(letters.iter().any(|letter| letter.detail.contains(detail)), "{detail}: {letters:?}");
    }
    assert_eq!(stage.counted(r#"hookcache_pages_dead_letters_total{reason="attempts-exhausted"}"#), 2.0);
    assert_eq!(stage.on_road(1).await[0].key(), "confluence:acme:page:2");
}

#[tokio::test]
async fn where_a_site_answers_nothing_usable_no_page_is_blamed() {
    for status in [302, 500] {
        let mut wanted = Wanted::default();
        wanted.options.attempts_max = 2;
        let stage = Stage::at_work(wanted).await;
        stage.stand_in.add_page(1, "p", PAGE);
        stage.stand_in.script(move |_| Some(Odd::Status(status)));
        stage.tell(1, EventName::PageUpdated).await;
        // As often as a page may fail alone.
        stage.until_put_off("alone", 2).await;
        stage.stand_in.no_script();
        stage.on_road(1).await;
        assert_eq!(stage.letters().await.len(), 0);
    }
}

#[tokio::test]
async fn what_is_no_task_or_too_old_is_dead_lettered() {
    let stage = Stage::at_work(Wanted::default()).await;
    let task = stage.task("acme", What::Page { page: 1, event: EventName::PageUpdated, version: None });
    let old = PageTask { at_ms: task.at_ms - 16 * 86_400_000, ..task.clone() };
    stage.give(&old).await;
    stage.queue.append(WireForm { body: "{}".into(), ..task.encode() }).await.unwrap();
    let mut reasons = eventually("two dead letters", || async {
        let reasons: Vec<_> = stage.letters().await.iter().map(|letter| letter.reason.as_str()).collect();
        (reasons.len() == 2).then_some(reasons)
    })
    .await;
    reasons.sort_unstable();
    assert_eq!(reasons, ["not-decodable", "too-old"]);
    assert_eq!(stage.stand_in.calls().len(), 0);
}

#[tokio::test]
async fn a_task_leaves_the_queue_only_when_the_road_has_its_envelope() {
    const FULL: usize = 1 << 20;
    let stage = Stage::at_work(Wanted { road_bytes_max: FULL as u64, ..Wanted::default() }).await;
    let form = |bytes: usize| WireForm {
        id: "x".into(),
        account: hookcache::envelope::Account::parse("a").unwrap(),
        traceparent: None,
        body: "x".repeat(bytes).into(),
    };
    // Filled up, in ever smaller pieces.
    for bytes in [FULL / 2, FULL / 4, FULL / 8, FULL / 64, 1_000, 100, 10].into_iter().flat_map(|bytes| [bytes; 64]) {
        let _full = stage.road.append(form(bytes)).await;
    }
    stage.stand_in.add_page(1, "p", PAGE);
    stage.tell(1, EventName::PageUpdated).await;
    stage.until_put_off("buffer", 1).await;
    assert_eq!(stage.counted("hookcache_pages_pauses_total"), 1.0);
    assert_eq!(stage.counted(r#"hookcache_pages_tasks_total{outcome="stored"}"#), 0.0);
    assert_eq!(stage.row(1).await.and_then(|row| row.status), None, "and it is not noted as read");
    loop {
        let messages = stage.envelopes.take(10).await.unwrap();
        if messages.is_empty() {
            break;
        }
        let receipts: Vec<_> = messages.into_iter().map(|message| message.receipt).collect();
        stage.envelopes.delete(&receipts).await;
    }
    assert_eq!(stage.on_road(1).await[0].key(), "confluence:acme:page:1");
    stage.until_done("stored", 1).await;
    stage.until_idle().await;
}

#[tokio::test]
async fn what_was_read_for_a_site_that_went_meanwhile_is_taken_back() {
    let stage = Stage::at_work(Wanted::default()).await;
    stage.stand_in.add_page(1, "p", PAGE);
    let gate = stage.stand_in.gate();
    stage.tell(1, EventName::PageUpdated).await;
    eventually("a read", || async { (stage.stand_in.reads(1) == 1).then_some(()) }).await;
    stage.registry.forget_site(&site("acme")).await.unwrap();
    gate.open();
    let on_road = stage.on_road(2).await;
    assert!(!on_road[0].is_drop() && on_road[1].is_drop(), "{on_road:?}");
    stage.until_idle().await;
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_hand() {
    let mut stage = Stage::at_work(Wanted::default()).await;
    stage.stand_in.add_page(1, "p", PAGE);
    let gate = stage.stand_in.gate();
    stage.tell(1, EventName::PageUpdated).await;
    eventually("a read", || async { (stage.stand_in.reads(1) == 1).then_some(()) }).await;
    let stand_in = stage.stand_in.clone();
    let opened = async {
        // The worker has been told to stop by now, or will be: either way it is to finish.
        tokio::time::sleep(Duration::from_millis(50)).await;
        gate.open();
        drop(stand_in);
    };
    tokio::join!(stage.stop(), opened);
    assert_eq!(stage.on_road(1).await.len(), 1);
    assert_eq!(stage.depth().await.visible + stage.depth().await.in_flight, 0);
}

#[tokio::test]
async fn a_stop_gives_back_what_is_not_finished_in_time() {
    let mut wanted = Wanted::default();
    wanted.options.drain_deadline = Duration::from_millis(50);
    let mut stage = Stage::at_work(wanted).await;
    stage.stand_in.script(|_| Some(Odd::Silence));
    stage.tell(1, EventName::PageUpdated).await;
    eventually("a read", || async { (stage.stand_in.reads(1) == 1).then_some(()) }).await;
    stage.stop().await;
    eventually("the task at once", || stage.take_task()).await;
}
