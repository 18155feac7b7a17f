//! What it says of queues.

use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use super::Report;
use crate::support::hookcache::run;
use crate::support::sqs::{client, create_queues};
use crate::support::sqs_stand_in::Answer;
use crate::support::{LocalAwsSqs, Ministack, Queues, SqsStandIn, free_port};

fn of_queues(endpoint_url: &str, queues: &Queues) -> Report {
    with_roles(endpoint_url, queues, "set,consume,get")
}

fn with_roles(endpoint_url: &str, queues: &Queues, roles: &str) -> Report {
    let env = [
        ("HOOKCACHE_BUFFER__QUEUE_URL", queues.queue_url.as_str()),
        ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", &queues.dead_letter_url),
        ("HOOKCACHE_BUFFER__ENDPOINT_URL", endpoint_url),
    ];
    Report::of(&["--roles", roles], &env)
}

async fn queues_that_were_made_are_fine_and_each_fault_is_told(endpoint: &str) {
    let client = client(endpoint);
    let queues = create_queues(&client, "hooks", 3).await;
    let report = of_queues(endpoint, &queues);
    // The defaults of a queue: 4 days are noted, and so is what else `queues create` would mend.
    assert_eq!((report.code, report.bad()), (4, vec![("sqs-redrive", "risky")]), "{}", report.json);
    assert!(report.text("sqs-redrive").contains("3 receives") && report.text("sqs-redrive").contains("queues create"));
    assert_eq!(report.found("sqs-retention")["severity"], "note");

    let made = run(&["queues", "create", "--queue", "hooks", "--endpoint-url", endpoint], &[]);
    assert!(made.status.success(), "{made:?}");
    let report = of_queues(endpoint, &queues);
    assert_eq!((report.code, &report.json["verdict"]), (0, &"ok".into()), "{}", report.json);
    for check in ["sqs-queue", "sqs-permissions", "sqs-visibility", "sqs-retention", "sqs-redrive", "sqs-clock"] {
        assert_eq!(report.found(check)["place"], "queue hooks", "{check}");
    }

    let set = async |url: &str, name: &str, value: &str| {
        let name = QueueAttributeName::from(name);
        client.set_queue_attributes().queue_url(url).attributes(name, value).send().await.expect("it is set");
    };
    set(&queues.queue_url, "MessageRetentionPeriod", "3600").await;
    set(&queues.queue_url, "MaximumMessageSize", "1024").await;
    set(&queues.dead_letter_url, "MessageRetentionPeriod", "60").await;
    let report = of_queues(endpoint, &queues);
    let risky = ["sqs-message-size", "sqs-retention", "sqs-retention"].map(|check| (check, "risky"));
    assert_eq!((report.code, report.bad()), (4, risky.to_vec()), "{}", report.json);

    // One queue under two URLs.
    let localhost = queues.queue_url.replace("127.0.0.1", "localhost");
    let twice = Queues { dead_letter_url: localhost, ..queues.clone() };
    let report = of_queues(endpoint, &twice);
    assert_eq!(report.code, 1);
    assert!(report.bad().contains(&("sqs-dead-letters", "dangerous")), "{}", report.json);

    let missing = Queues { dead_letter_url: format!("{}-not", queues.dead_letter_url), ..queues };
    let report = of_queues(endpoint, &missing);
    assert_eq!(report.code, 1);
    assert!(report.bad().contains(&("sqs-queue", "dangerous")), "{}", report.json);
    assert!(report.json.to_string().contains("buffer.dead_letter_url"), "{}", report.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_on_ministack_are_judged() {
    let sqs = Ministack::start().await;
    queues_that_were_made_are_fine_and_each_fault_is_told(&sqs.endpoint_url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_on_local_aws_sqs_are_judged() {
    let sqs = LocalAwsSqs::start().await;
    queues_that_were_made_are_fine_and_each_fault_is_told(&sqs.endpoint_url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_away_or_fifo_is_told() {
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let queues = |queue: &str, dead: &str| Queues {
        queue_url: format!("{endpoint}/0/{queue}"),
        dead_letter_url: format!("{endpoint}/0/{dead}"),
    };
    let report = of_queues(&endpoint, &queues("q", "d"));
    assert_eq!((report.code, report.bad()), (1, vec![("sqs-queue", "unseen"); 2]), "{}", report.json);
    for wrong in [queues("q.fifo", "d"), queues("q", "d.fifo")] {
        let report = of_queues(&endpoint, &wrong);
        assert_eq!((report.code, report.bad()), (1, vec![("sqs-queue", "dangerous")]), "{}", report.json);
        assert!(report.text("sqs-queue").contains("FIFO"), "{}", report.json);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_is_tried_without_effect_and_only_where_a_role_needs_it() {
    let stand_in = SqsStandIn::start(|operation, call| match operation {
        "GetQueueAttributes" => {
            let name = call["QueueUrl"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
            Answer::Json(json!({ "Attributes": { "QueueArn": format!("arn:aws:sqs:us-east-1:0:{name}") } }))
        }
        "DeleteMessageBatch" => Answer::Error(403, "AccessDeniedException"),
        _ => Answer::Error(400, "EmptyBatchRequest"),
    })
    .await;
    let queues = Queues { queue_url: stand_in.queue_url("q"), dead_letter_url: stand_in.queue_url("d") };
    let report = of_queues(&stand_in.endpoint_url(), &queues);
    assert_eq!((report.code, report.bad()), (1, vec![("sqs-permissions", "dangerous")]), "{}", report.json);
    assert!(report.text("sqs-permissions").contains("sqs:DeleteMessage"), "{}", report.json);
    for operation in ["SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"] {
        let calls = stand_in.calls(operation);
        let entries = |call: &Value| call["Entries"].as_array().map(Vec::len);
        assert!(!calls.is_empty() && calls.iter().all(|call| entries(call) == Some(0)), "{operation}: {calls:?}");
    }
    assert!(stand_in.calls("ReceiveMessage").is_empty(), "to look at a message is to take it");

    let redis = format!("redis://127.0.0.1:{}", free_port());
    let env = [
        ("HOOKCACHE_STORE__URL", redis.as_str()),
        ("HOOKCACHE_BUFFER__QUEUE_URL", &queues.queue_url),
        ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", &queues.dead_letter_url),
        ("HOOKCACHE_BUFFER__ENDPOINT_URL", &stand_in.endpoint_url()),
    ];
    let report = Report::of(&["--roles", "set"], &env);
    assert_eq!((report.code, report.bad()), (0, vec![]), "set deletes nothing, and needs no store: {}", report.json);
}
