//! The SQS buffer against two independent emulators: the contract of all buffers, and what only queues do.

use std::time::Duration;

use hookcache::buffer::sqs::{self, OpenError, Options};
use hookcache::buffer::{Appender, Taker};
use hookcache::envelope::{PoisonCode, WireForm};

use super::{append_all, options, poison, wire_form};
use crate::buffer_contract::{Fixture, Wanted};
use crate::support::sqs::{client, create_queues};
use crate::support::{LocalAwsSqs, Ministack, Queues, dead_letters, eventually};

async fn fixture(endpoint_url: String, queues: Queues, wanted: Wanted, keep: impl Send + 'static) -> Fixture {
    let Wanted { visibility, wait } = wanted;
    let (appender, taker) = sqs::open(Options { visibility, wait, ..options(endpoint_url, queues) }).await.unwrap();
    Fixture { appender: Appender::Sqs(appender), taker: Taker::Sqs(taker), _keep: Box::new(keep) }
}

mod ministack {
    use super::*;

    async fn open(wanted: Wanted) -> Fixture {
        let server = Ministack::start().await;
        let (endpoint_url, queues) = (server.endpoint_url(), server.queues("contract").await);
        fixture(endpoint_url, queues, wanted, server).await
    }

    crate::buffer_contract!(open);
}

mod local_aws_sqs {
    use super::*;

    async fn open(wanted: Wanted) -> Fixture {
        let server = LocalAwsSqs::start().await;
        let (endpoint_url, queues) = (server.endpoint_url(), server.queues("contract").await);
        fixture(endpoint_url, queues, wanted, server).await
    }

    // Without two facts that this emulator, unlike SQS, breaks itself: it counts hiding as one more receive
    // (`hiding_for_no_time_offers_it_at_once`), and what is taken as visible (`depth_tells_ready_from_taken_from_dead`).
    // The road below holds it to what is left of them.
    crate::buffer_contract!(@each open:
        what_is_appended_is_taken_with_its_body_and_its_trace_context
        the_largest_wire_form_passes_unchanged
        an_empty_buffer_answers_with_an_empty_list
        a_take_that_waits_is_woken_by_an_append
        concurrent_appends_are_each_acknowledged_and_offered
        many_pollers_get_each_message_once
        a_deleted_message_is_not_offered_again
        what_is_not_deleted_is_offered_again_and_counted
        hiding_for_longer_outlasts_the_visibility
        a_stale_receipt_is_harmless
        a_buried_message_is_a_dead_letter_with_its_reason_and_detail
        batches_of_any_length_yield_one_result_per_item
        a_redriven_letter_is_a_message_again_with_the_same_body_and_trace
        a_dropped_letter_is_gone_and_the_others_stay
        a_walk_looks_at_no_more_letters_than_it_may_and_says_when_there_are_more
        a_stopped_walk_does_nothing_to_the_letter_that_it_stopped_at
        a_walk_does_what_it_rules_over_more_letters_than_one_batch_carries
        a_reachable_buffer_passes_its_check
    );
}

/// The whole road through a real queue. local-aws-sqs counts what is taken as visible too, so each says what it counts
/// while all 25 messages are taken.
async fn a_message_is_taken_hidden_deleted_and_buried(
    endpoint_url: String,
    queues: Queues,
    visible_while_all_are_taken: u64,
) {
    let missing = Queues { queue_url: format!("{}-missing", queues.queue_url), ..queues.clone() };
    let error = sqs::open(options(endpoint_url.clone(), missing)).await.err().unwrap();
    assert!(matches!(error, OpenError::NoQueue { key: "buffer.queue_url", .. }), "{error}");

    let (appender, taker) = sqs::open(options(endpoint_url, queues)).await.unwrap();
    appender.check().await.unwrap();
    let bodies: Vec<String> = (0..25).map(|n| format!("body {n}: \u{1F980} \u{FFFD} \"é\"\r\n\t")).collect();
    let appended = append_all(&appender, bodies.clone()).await;
    assert!(appended.iter().all(Result::is_ok), "{appended:?}");

    let mut taken = Vec::new();
    while taken.len() < 25 {
        taken.extend(taker.take(10).await.unwrap());
    }
    taken.sort_by_key(|delivery| bodies.iter().position(|body| body.as_bytes() == delivery.body));
    assert!(taken.iter().zip(&bodies).all(|(delivery, body)| delivery.body == body.as_bytes()));
    assert!(taken.iter().all(|delivery| delivery.receive_count == 1));
    let depth = taker.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight, depth.dead), (visible_while_all_are_taken, 25, 0));

    let receipts: Vec<_> = taken.iter().map(|delivery| delivery.receipt.clone()).collect();
    assert!(taker.delete(&receipts[..23]).await.iter().all(Result::is_ok));
    assert!(taker.delete(&receipts[..23]).await.iter().all(Result::is_ok), "deleting twice is harmless");
    assert!(taker.hide(&receipts[23..24], Duration::ZERO).await.iter().all(Result::is_ok));
    let again = taker.take(10).await.unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].body, taken[23].body);
    // local-aws-sqs counts hiding as a receive too.
    assert!(again[0].receive_count >= 2, "{}", again[0].receive_count);

    let dead = [(again[0].clone(), poison("the \"detail\"")), (taken[24].clone(), poison(""))];
    assert!(taker.bury(&dead).await.iter().all(Result::is_ok));
    let depth = taker.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight, depth.dead), (0, 0, 2));
    for _ in 0..2 {
        let mut letters = dead_letters(&Taker::Sqs(taker.clone()), 10).await.unwrap();
        letters.sort_by_key(|letter| letter.detail.clone());
        let found: Vec<_> = letters.iter().map(|letter| (&letter.body, letter.reason, &*letter.detail)).collect();
        let (code, detail) = (PoisonCode::NotValid, "the \"detail\"");
        assert_eq!(found, [(&taken[24].body, code, ""), (&taken[23].body, code, detail)]);
    }
}

#[tokio::test]
async fn the_whole_road_on_ministack() {
    let server = Ministack::start().await;
    a_message_is_taken_hidden_deleted_and_buried(server.endpoint_url(), server.queues("road").await, 0).await;
}

#[tokio::test]
async fn the_whole_road_on_local_aws_sqs() {
    let server = LocalAwsSqs::start().await;
    a_message_is_taken_hidden_deleted_and_buried(server.endpoint_url(), server.queues("road").await, 25).await;
}

/// What the queue itself gives up carries no reason of ours.
async fn a_message_that_the_queue_gave_up_is_a_dead_letter(endpoint_url: String) {
    let queues = create_queues(&client(&endpoint_url), "crashes", 1).await;
    let (appender, taker) = sqs::open(options(endpoint_url, queues)).await.unwrap();
    let traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    appender.append(WireForm { traceparent: traceparent.clone(), ..wire_form("crashes us") }).await.unwrap();
    let taken = taker.take(10).await.unwrap();
    assert_eq!((taken.len(), &taken[0].traceparent), (1, &traceparent));

    let letter = eventually("the queue gives the message up", async || {
        for delivery in taker.take(10).await.unwrap().iter().chain(&taken) {
            taker.hide(std::slice::from_ref(&delivery.receipt), Duration::ZERO).await;
        }
        dead_letters(&Taker::Sqs(taker.clone()), 1).await.unwrap().pop()
    })
    .await;
    assert_eq!((&*letter.body, letter.reason), (b"crashes us".as_slice(), PoisonCode::ReceiveCountExceeded));
}

#[tokio::test]
async fn what_ministack_gives_up_is_a_dead_letter() {
    let server = Ministack::start().await;
    a_message_that_the_queue_gave_up_is_a_dead_letter(server.endpoint_url()).await;
}

#[tokio::test]
async fn what_local_aws_sqs_gives_up_is_a_dead_letter() {
    let server = LocalAwsSqs::start().await;
    a_message_that_the_queue_gave_up_is_a_dead_letter(server.endpoint_url()).await;
}
