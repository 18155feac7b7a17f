//! The SQS buffer against a stand-in that answers what an emulator never would; `emulators` runs it against two.

mod emulators;

use std::time::Duration;

use bytes::Bytes;
use hookcache::buffer::sqs::{self, Appender, OpenError, Options, Taker};
use hookcache::buffer::{
    AppendError, DeadLetter, Delivery, MessageId, Receipt, Ruling, Unavailable, Walk, Walked, Which,
};
use hookcache::envelope::{Account, Poison, PoisonCode, WireForm};
use serde_json::{Value, json};

use crate::support::sqs_stand_in::{Answer, all_successful, failed, successful};
use crate::support::{DEADLINE, Queues, SqsStandIn, dead_letters, eventually, free_port};

fn options(endpoint_url: String, queues: Queues) -> Options {
    let Queues { queue_url, dead_letter_url } = queues;
    let (visibility, wait) = (Duration::from_secs(30), Duration::from_secs(1));
    let keys = Default::default();
    Options { keys, queue_url, dead_letter_url, endpoint_url: Some(endpoint_url), region: None, visibility, wait }
}

/// Opened on a stand-in that has both queues.
async fn open(stand_in: &SqsStandIn) -> (Appender, Taker) {
    let queues = Queues { queue_url: stand_in.queue_url("q"), dead_letter_url: stand_in.queue_url("dead") };
    sqs::open(options(stand_in.endpoint_url(), queues)).await.unwrap()
}

/// A stand-in whose queues exist, and whose other answers are the test's.
async fn stand_in(answer: impl Fn(&str, &Value) -> Answer + Send + Sync + 'static) -> SqsStandIn {
    SqsStandIn::start(move |operation, call| match operation {
        "GetQueueAttributes" => Answer::Json(json!({ "Attributes": { "QueueArn": "arn:aws:sqs:us-east-1:0:q" } })),
        _ => answer(operation, call),
    })
    .await
}

fn wire_form(body: &str) -> WireForm {
    let body = Bytes::copy_from_slice(body.as_bytes());
    WireForm { id: "id".into(), account: Account::parse("acme").unwrap(), traceparent: None, body }
}

fn delivery(name: &str) -> Delivery {
    let (message_id, receipt) = (MessageId(name.into()), Receipt(name.into()));
    Delivery { message_id, receipt, body: Bytes::from(name.to_owned()), receive_count: 1, traceparent: None }
}

fn poison(detail: &str) -> Poison {
    Poison { code: PoisonCode::NotValid, detail: detail.into() }
}

fn entries(call: &Value) -> Vec<Value> {
    call["Entries"].as_array().cloned().unwrap_or_default()
}

/// Appends all at once, and returns the results in their order.
async fn append_all(appender: &Appender, bodies: Vec<String>) -> Vec<Result<MessageId, AppendError>> {
    let mut tasks = tokio::task::JoinSet::new();
    for (index, body) in bodies.into_iter().enumerate() {
        let appender = appender.clone();
        tasks.spawn(async move { (index, appender.append(wire_form(&body)).await) });
    }
    let mut results = tasks.join_all().await;
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[tokio::test]
async fn every_entry_of_a_batch_send_has_its_own_result() {
    let answer = |entry: &Value| match entry["MessageBody"].as_str().unwrap() {
        "refused" => Err(failed(entry, "InvalidMessageContents", true)),
        "later" => Err(failed(entry, "InternalError", false)),
        "throttled" => Err(failed(entry, "AWS.SimpleQueueService.ThrottlingException", true)),
        "silent" => Err(Value::Null),
        _ => Ok(successful(entry)),
    };
    let stand_in = stand_in(move |_, call| {
        let (good, bad): (Vec<_>, Vec<_>) = entries(call).iter().map(answer).partition(Result::is_ok);
        let good: Vec<_> = good.into_iter().map(Result::unwrap).collect();
        let bad: Vec<_> = bad.into_iter().map(Result::unwrap_err).filter(Value::is_object).collect();
        Answer::Json(json!({ "Successful": good, "Failed": bad }))
    })
    .await;
    let (appender, _) = open(&stand_in).await;

    let bodies = ["a", "refused", "later", "throttled", "silent", "b"].map(str::to_owned).to_vec();
    let results = append_all(&appender, bodies).await;
    assert!(results[0].is_ok(), "{results:?}");
    assert!(matches!(results[1], Err(AppendError::Refused(_))), "{results:?}");
    for unavailable in &results[2..5] {
        assert!(matches!(unavailable, Err(AppendError::Unavailable(_))), "{results:?}");
    }
    assert!(results[5].is_ok(), "{results:?}");
}

/// On the one thread of this test all appends stand in line before the collecting task runs.
#[tokio::test]
async fn concurrent_appends_are_coalesced_into_full_batches() {
    let stand_in = stand_in(|_, call| all_successful(call)).await;
    let (appender, _) = open(&stand_in).await;
    let results = append_all(&appender, (0..64).map(|n| format!("body {n}")).collect()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let sizes: Vec<_> = stand_in.calls("SendMessageBatch").iter().map(|call| entries(call).len()).collect();
    assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (7, 64), "{sizes:?}");
}

#[tokio::test]
async fn a_batch_never_weighs_more_than_1_mib() {
    let stand_in = stand_in(|_, call| all_successful(call)).await;
    let (appender, _) = open(&stand_in).await;
    let bodies = (0..12).map(|_| "x".repeat(400_000)).chain(["y".into()]).collect();
    assert!(append_all(&appender, bodies).await.iter().all(Result::is_ok));
    for call in stand_in.calls("SendMessageBatch") {
        let weight: usize = entries(&call).iter().map(|entry| entry["MessageBody"].as_str().unwrap().len()).sum();
        assert!(weight <= 1 << 20, "{weight}");
    }
}

#[tokio::test]
async fn a_message_names_its_account_as_group_and_carries_its_trace_context() {
    let stand_in = stand_in(|_, call| all_successful(call)).await;
    let (appender, _) = open(&stand_in).await;
    let traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    appender.append(WireForm { traceparent: traceparent.clone(), ..wire_form("x") }).await.unwrap();
    let calls = stand_in.calls("SendMessageBatch");
    let entry = &calls[0]["Entries"][0];
    assert_eq!(entry["MessageGroupId"], "acme");
    assert_eq!(entry["MessageAttributes"]["traceparent"]["StringValue"].as_str(), traceparent.as_deref());
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_its_message() {
    let stand_in = stand_in(|_, call| all_successful(call)).await;
    let (appender, _) = open(&stand_in).await;
    {
        let append = appender.append(wire_form("left behind"));
        tokio::pin!(append);
        // Polled once, which hands the message over, and dropped.
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(append.as_mut().poll(cx))).await.is_pending());
    }
    drop(appender);
    let sent = || async { stand_in.calls("SendMessageBatch").first().cloned() };
    let call = eventually("the message is sent", sent).await;
    assert_eq!(call["Entries"][0]["MessageBody"], "left behind");
}

#[tokio::test]
async fn one_message_that_spoils_a_call_costs_the_others_nothing() {
    let stand_in = stand_in(|_, call| {
        let spoilt = entries(call).iter().any(|entry| entry["MessageBody"] == "spoilt");
        if spoilt { Answer::Error(400, "InvalidMessageContents") } else { all_successful(call) }
    })
    .await;
    let (appender, _) = open(&stand_in).await;
    let results = append_all(&appender, ["a", "spoilt", "b"].map(str::to_owned).to_vec()).await;
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    assert!(matches!(results[1], Err(AppendError::Refused(_))), "{results:?}");
}

#[tokio::test]
async fn what_sqs_would_refuse_is_refused_before_it_is_sent() {
    let stand_in = stand_in(|_, call| all_successful(call)).await;
    let (appender, _) = open(&stand_in).await;
    for body in ["", "\u{1}", "a\u{FFFE}", "a\u{FFFF}", &"x".repeat((1 << 20) + 1)] {
        let result = appender.append(wire_form(body)).await;
        assert!(matches!(result, Err(AppendError::Refused(_))), "{:.9}", body);
    }
    assert!(stand_in.calls("SendMessageBatch").is_empty());
}

#[tokio::test]
async fn a_failing_or_throttled_sqs_is_unavailable_and_a_retry_helps() {
    for (status, code) in [(500, "InternalFailure"), (503, "ServiceUnavailable"), (400, "ThrottlingException")] {
        let stand_in = stand_in(move |_, _| Answer::Error(status, code)).await;
        let (appender, taker) = open(&stand_in).await;
        let refused = appender.append(wire_form("x")).await.unwrap_err();
        assert!(matches!(&refused, AppendError::Unavailable(why) if why.contains(code)), "{refused}");
        let Unavailable(why) = taker.take(1).await.unwrap_err();
        assert!(why.contains(code), "{why}");
        for result in taker.delete(&[Receipt("r".into())]).await {
            assert!(result.unwrap_err().0.contains(code));
        }
    }
}

#[tokio::test]
async fn a_receive_that_is_never_answered_ends() {
    let stand_in = stand_in(|_, _| Answer::Silence).await;
    let queues = Queues { queue_url: stand_in.queue_url("q"), dead_letter_url: stand_in.queue_url("dead") };
    let options = Options { wait: Duration::ZERO, ..options(stand_in.endpoint_url(), queues) };
    let (_, taker) = sqs::open(options).await.unwrap();
    let taken = tokio::time::timeout(DEADLINE, taker.take(10)).await.expect("it ends");
    assert!(taken.is_err());
    assert_eq!(stand_in.calls("ReceiveMessage").len(), 1, "a receive is not repeated");
}

#[tokio::test]
async fn a_send_that_is_never_answered_ends_and_was_tried_twice() {
    let stand_in = stand_in(|_, _| Answer::Silence).await;
    let (appender, _) = open(&stand_in).await;
    let result = tokio::time::timeout(DEADLINE, appender.append(wire_form("x"))).await.expect("it ends");
    assert!(matches!(result, Err(AppendError::Unavailable(_))), "{result:?}");
    assert_eq!(stand_in.calls("SendMessageBatch").len(), 2);
}

#[tokio::test]
async fn deleting_reads_what_failed_in_every_chunk_and_a_stale_receipt_is_done() {
    let stand_in = stand_in(|_, call| {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for entry in entries(call) {
            match entry["ReceiptHandle"].as_str().unwrap() {
                "r3" | "r14" => bad.push(failed(&entry, "InternalError", false)),
                "r5" => bad.push(failed(&entry, "ReceiptHandleIsInvalid", true)),
                "r7" => {}
                _ => good.push(json!({ "Id": entry["Id"] })),
            }
        }
        Answer::Json(json!({ "Successful": good, "Failed": bad }))
    })
    .await;
    let (_, taker) = open(&stand_in).await;
    let receipts: Vec<_> = (0..23).map(|n| Receipt(format!("r{n}"))).collect();
    for results in [taker.delete(&receipts).await, taker.hide(&receipts, Duration::from_secs(5)).await] {
        let failed: Vec<_> = (0..23).filter(|n| results[*n].is_err()).collect();
        assert_eq!((results.len(), failed), (23, vec![3, 7, 14]));
    }
    for operation in ["DeleteMessageBatch", "ChangeMessageVisibilityBatch"] {
        let sizes: Vec<_> = stand_in.calls(operation).iter().map(|call| entries(call).len()).collect();
        assert_eq!(sizes, [10, 10, 3], "{operation}");
    }
}

#[tokio::test]
async fn hiding_is_cut_to_12_hours() {
    let stand_in = stand_in(|_, call| all_successful(call)).await;
    let (_, taker) = open(&stand_in).await;
    taker.hide(&[Receipt("r".into())], Duration::from_secs(100_000)).await;
    let calls = stand_in.calls("ChangeMessageVisibilityBatch");
    assert_eq!(calls[0]["Entries"][0]["VisibilityTimeout"], 43_200);
}

#[tokio::test]
async fn only_what_became_a_dead_letter_is_deleted_from_the_queue() {
    let stand_in = stand_in(|operation, call| {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for entry in entries(call) {
            match entry["MessageBody"].as_str() {
                Some("m1" | "m12") => bad.push(failed(&entry, "InternalError", false)),
                Some("m4") => bad.push(failed(&entry, "InvalidMessageContents", true)),
                _ if operation == "SendMessageBatch" => good.push(successful(&entry)),
                _ => good.push(json!({ "Id": entry["Id"] })),
            }
        }
        Answer::Json(json!({ "Successful": good, "Failed": bad }))
    })
    .await;
    let (_, taker) = open(&stand_in).await;
    let messages: Vec<_> = (0..14).map(|n| (delivery(&format!("m{n}")), poison("wrong"))).collect();
    let results = taker.bury(&messages).await;
    let failed: Vec<_> = (0..14).filter(|n| results[*n].is_err()).collect();
    assert_eq!((results.len(), failed), (14, vec![1, 4, 12]));
    let deletes = stand_in.calls("DeleteMessageBatch");
    let deleted: Vec<_> = deletes.iter().flat_map(entries).map(|entry| entry["ReceiptHandle"].clone()).collect();
    let want: Vec<_> = (0..14).filter(|n| ![1, 4, 12].contains(n)).map(|n| json!(format!("m{n}"))).collect();
    assert_eq!(deleted, want);
}

#[tokio::test]
async fn a_message_that_cannot_be_removed_makes_one_dead_letter_and_no_more() {
    let stand_in = stand_in(|operation, call| match operation {
        "DeleteMessageBatch" => {
            let stuck = |entry: &&Value| entry["ReceiptHandle"] == "stuck";
            let (bad, good): (Vec<_>, Vec<_>) = entries(call).into_iter().partition(|entry| stuck(&entry));
            let bad: Vec<_> = bad.iter().map(|entry| failed(entry, "InternalError", false)).collect();
            let good: Vec<_> = good.iter().map(|entry| json!({ "Id": entry["Id"] })).collect();
            Answer::Json(json!({ "Successful": good, "Failed": bad }))
        }
        _ => all_successful(call),
    })
    .await;
    let (_, taker) = open(&stand_in).await;
    let results = taker.bury(&[(delivery("stuck"), poison("why")), (delivery("gone"), poison("why"))]).await;
    assert!(results.iter().all(Result::is_ok), "what is among the dead letters is not sent again: {results:?}");
    assert_eq!(stand_in.calls("SendMessageBatch").len(), 1);
    let deletes: Vec<_> = stand_in.calls("DeleteMessageBatch").iter().map(|call| entries(call).len()).collect();
    assert_eq!(deletes, [2, 1, 1], "only what is left is tried again");
}

#[tokio::test]
async fn a_dead_letter_too_large_for_its_reason_travels_without_it() {
    let stand_in = stand_in(|_, call| all_successful(call)).await;
    let (_, taker) = open(&stand_in).await;
    let large = Delivery { body: "x".repeat(1 << 20).into(), ..delivery("large") };
    let results = taker.bury(&[(delivery("small"), poison("why")), (large, poison("why"))]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let sends = stand_in.calls("SendMessageBatch");
    assert_eq!(sends.len(), 2, "they don't fit together");
    assert_eq!(sends[0]["Entries"][0]["MessageAttributes"]["reason"]["StringValue"], "not-valid");
    assert_eq!(sends[0]["Entries"][0]["MessageAttributes"]["detail"]["StringValue"], "why");
    assert!(sends[1]["Entries"][0].get("MessageAttributes").is_none_or(|attributes| attributes == &json!({})));
}

#[tokio::test]
async fn a_letter_without_a_reason_was_moved_by_the_queue_unless_it_left_no_room_for_one() {
    let next = offered(&["small", &"x".repeat(1 << 20)]);
    let stand_in = stand_in(move |operation, call| match operation {
        "ReceiveMessage" => next(call),
        _ => all_successful(call),
    })
    .await;
    let (_, taker) = open(&stand_in).await;
    let mut reasons = Vec::new();
    walked(&taker, |letter| {
        reasons.push((letter.body.len(), letter.reason));
        Ruling::Leave
    })
    .await;
    assert_eq!(reasons, [(5, PoisonCode::ReceiveCountExceeded), (1 << 20, PoisonCode::NotDecodable)]);
}

/// A dead-letter queue that offers letters of these bodies, once.
fn offered(bodies: &[&str]) -> impl Fn(&Value) -> Answer + Send + Sync + use<> {
    let message = |body: &&str| {
        let (name, attributes) = (&body[..body.len().min(20)], json!({ "SentTimestamp": "1700000000000" }));
        json!({ "MessageId": name, "ReceiptHandle": format!("r-{name}"), "Body": body, "Attributes": attributes })
    };
    let messages = std::sync::Mutex::new(bodies.iter().map(message).collect::<Vec<_>>());
    move |_| Answer::Json(json!({ "Messages": std::mem::take(&mut *messages.lock().unwrap()) }))
}

async fn walked(taker: &Taker, rule: impl FnMut(&DeadLetter) -> Ruling + Send) -> Walked {
    let letters = sqs::DeadLetters::of(taker);
    letters.walk(&Walk { which: Which::All, letters_max: 10 }, rule).await.unwrap()
}

fn handles(stand_in: &SqsStandIn, operation: &str) -> Vec<String> {
    let calls = stand_in.calls(operation);
    let of = |call: &Value| entries(call).into_iter().map(|entry| entry["ReceiptHandle"].as_str().unwrap().to_owned());
    let mut handles: Vec<String> = calls.iter().flat_map(of).collect();
    handles.sort();
    handles
}

#[tokio::test]
async fn a_letter_is_deleted_only_after_its_body_was_sent_and_what_is_left_is_offered_again() {
    let receive = offered(&["a", "fails", "stays", "goes"]);
    let stand_in = stand_in(move |operation, call| match operation {
        "ReceiveMessage" => receive(call),
        "SendMessageBatch" => {
            let (bad, good): (Vec<_>, Vec<_>) =
                entries(call).into_iter().partition(|entry| entry["MessageBody"] == "fails");
            let bad: Vec<_> = bad.iter().map(|entry| failed(entry, "InternalError", false)).collect();
            Answer::Json(json!({ "Successful": good.iter().map(successful).collect::<Vec<_>>(), "Failed": bad }))
        }
        _ => all_successful(call),
    })
    .await;
    let (_, taker) = open(&stand_in).await;
    let acme = Account::parse("acme").unwrap();
    let walked = walked(&taker, |letter| match &*letter.body {
        b"stays" => Ruling::Leave,
        b"goes" => Ruling::Drop,
        _ => Ruling::Redrive(Some(acme.clone())),
    })
    .await;
    let mut results: Vec<_> = walked.results.iter().map(|(id, result)| (id.0.as_str(), result.is_ok())).collect();
    results.sort_unstable();
    assert_eq!((results, walked.seen), (vec![("a", true), ("fails", false), ("goes", true)], 4));

    let sends = stand_in.calls("SendMessageBatch");
    assert!(sends.len() == 1 && sends[0]["QueueUrl"].as_str().unwrap().ends_with("/q"), "{sends:?}");
    let sent = entries(&sends[0]);
    assert_eq!((&sent[0]["MessageBody"], &sent[0]["MessageGroupId"]), (&json!("a"), &json!("acme")));
    assert_eq!(handles(&stand_in, "DeleteMessageBatch"), ["r-a", "r-goes"]);
    assert_eq!(handles(&stand_in, "ChangeMessageVisibilityBatch"), ["r-fails", "r-stays"]);
    for operation in ["DeleteMessageBatch", "ChangeMessageVisibilityBatch"] {
        let calls = stand_in.calls(operation);
        assert!(calls.iter().all(|call| call["QueueUrl"].as_str().unwrap().ends_with("/dead")), "{calls:?}");
    }
}

#[tokio::test]
async fn a_walk_hides_a_letter_for_30_seconds_at_most_and_gives_it_back_at_once() {
    let receive = offered(&["a"]);
    let stand_in = stand_in(move |operation, call| match operation {
        "ReceiveMessage" => receive(call),
        _ => all_successful(call),
    })
    .await;
    let (_, taker) = open(&stand_in).await;
    let walked = walked(&taker, |_| Ruling::Leave).await;
    assert_eq!((walked.seen, walked.complete, walked.results.len()), (1, true, 0));
    assert!(stand_in.calls("ReceiveMessage").iter().all(|call| call["VisibilityTimeout"] == 30));
    let back = stand_in.calls("ChangeMessageVisibilityBatch");
    assert_eq!((back.len(), &back[0]["Entries"][0]["VisibilityTimeout"]), (1, &json!(0)));
    assert!(stand_in.calls("DeleteMessageBatch").is_empty());
}

#[tokio::test]
async fn a_letter_that_was_sent_but_not_deleted_is_told_as_failed() {
    let receive = offered(&["a"]);
    let stand_in = stand_in(move |operation, call| match operation {
        "ReceiveMessage" => receive(call),
        "DeleteMessageBatch" => {
            let bad: Vec<_> = entries(call).iter().map(|entry| failed(entry, "InternalError", false)).collect();
            Answer::Json(json!({ "Successful": [], "Failed": bad }))
        }
        _ => all_successful(call),
    })
    .await;
    let (_, taker) = open(&stand_in).await;
    let walked = walked(&taker, |_| Ruling::Redrive(None)).await;
    assert!(walked.results.len() == 1 && walked.results[0].1.is_err(), "{:?}", walked.results);
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_opens_and_is_unavailable() {
    let endpoint_url = format!("http://127.0.0.1:{}", free_port());
    let queues = Queues { queue_url: format!("{endpoint_url}/0/q"), dead_letter_url: format!("{endpoint_url}/0/d") };
    let (appender, taker) = sqs::open(options(endpoint_url, queues)).await.unwrap();
    assert!(appender.check().await.is_err());
    assert!(matches!(appender.append(wire_form("x")).await, Err(AppendError::Unavailable(_))));
    assert!(taker.take(1).await.is_err());
    assert!(taker.depth().await.is_err());
    assert!(dead_letters(&hookcache::buffer::Taker::Sqs(taker.clone()), 1).await.is_err());
    assert!(taker.bury(&[(delivery("m"), poison("p"))]).await[0].is_err());
}

#[tokio::test]
async fn a_refusal_at_the_start_names_the_key_to_correct() {
    for (code, want) in [("QueueDoesNotExist", "there is no queue"), ("AccessDeniedException", "permissions")] {
        for (refused, key) in [("q", "buffer.queue_url"), ("dead", "buffer.dead_letter_url")] {
            let stand_in = SqsStandIn::start(move |_, call| {
                let name = call["QueueUrl"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
                if name == refused { Answer::Error(400, code) } else { Answer::Json(json!({})) }
            })
            .await;
            let queues = Queues { queue_url: stand_in.queue_url("q"), dead_letter_url: stand_in.queue_url("dead") };
            let error = sqs::open(options(stand_in.endpoint_url(), queues)).await.err().unwrap().to_string();
            assert!(error.starts_with(key) && error.contains(want), "{error}");
        }
    }
}

#[tokio::test]
async fn a_fifo_queue_and_a_queue_that_is_its_own_dead_letter_queue_are_refused() {
    let endpoint_url = "http://127.0.0.1:1".to_owned();
    let open = async |queue: &str, dead: &str| {
        let queues = Queues { queue_url: queue.into(), dead_letter_url: dead.into() };
        sqs::open(options(endpoint_url.clone(), queues)).await.err()
    };
    assert!(matches!(open("http://h/0/q.fifo", "http://h/0/d").await, Some(OpenError::Fifo { .. })));
    assert!(matches!(open("http://h/0/q", "http://h/0/d.fifo").await, Some(OpenError::Fifo { .. })));
    assert!(matches!(open("http://h/0/q", "http://h/0/q").await, Some(OpenError::SameQueue(_))));
}
