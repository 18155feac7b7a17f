//! `hookcache queues create`, against both SQS emulators, and against a stand-in that refuses.

use std::collections::BTreeMap;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use crate::support::hookcache::run;
use crate::support::sqs::client;
use crate::support::sqs_stand_in::{Answer, SqsStandIn};
use crate::support::{Hookcache, LocalAwsSqs, Ministack, TempDir, http_post};

/// Runs it to its end: exit code, what it printed, what it said beside that.
fn queues_create(args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let output = run(&[&["queues", "create"], args].concat(), env);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

/// All that a queue says of itself, but for what changes by itself; `None` where there is no such queue.
async fn attributes(client: &Client, name: &str) -> Option<BTreeMap<String, String>> {
    let url = client.get_queue_url().queue_name(name).send().await.ok()?.queue_url?;
    let call = client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
    let all = call.send().await.expect("its attributes").attributes.unwrap_or_default();
    let kept = all.into_iter().map(|(name, value)| (name.as_str().to_owned(), value));
    Some(kept.filter(|(name, _)| !name.ends_with("Timestamp")).collect())
}

fn parsed(attributes: &BTreeMap<String, String>, name: &str) -> Value {
    serde_json::from_str(&attributes[name]).unwrap_or_else(|e| panic!("{name}: {e}: {}", attributes[name]))
}

/// The line after `key = ` in what was printed.
fn printed(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).expect(text);
    line.trim_matches('"').to_owned()
}

async fn queues_are_made_as_the_doctor_wants_them_and_only_once(endpoint: &str) {
    let client = client(endpoint);
    let by_name = ["--queue", "hooks", "--endpoint-url", endpoint];
    let (code, out, err) = queues_create(&[&by_name[..], &["--dry-run"]].concat(), &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("hooks: would be created") && out.contains("MessageRetentionPeriod: 864000"), "{out}");
    assert!(!out.contains("queue_url"), "there is none yet: {out}");
    assert_eq!(attributes(&client, "hooks").await, None, "a dry run makes nothing");
    assert_eq!(attributes(&client, "hooks-dead").await, None, "a dry run makes nothing");

    let (code, out, err) = queues_create(&by_name, &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("hooks: created\n") && out.contains("hooks-dead: created\n"), "{out}");
    let (queue, dead) = (attributes(&client, "hooks").await.unwrap(), attributes(&client, "hooks-dead").await.unwrap());
    let wanted = [("VisibilityTimeout", "60"), ("MessageRetentionPeriod", "864000"), ("MaximumMessageSize", "1048576")];
    for (name, value) in wanted {
        assert_eq!(queue[name], value, "{name}");
    }
    assert_eq!((&*queue["ReceiveMessageWaitTimeSeconds"], &*queue["SqsManagedSseEnabled"]), ("20", "true"));
    assert_eq!(dead["MessageRetentionPeriod"], "1209600");
    let redrive = parsed(&queue, "RedrivePolicy");
    assert_eq!(redrive["deadLetterTargetArn"], json!(dead["QueueArn"]));
    // A number or text, as SQS takes both.
    assert_eq!(redrive["maxReceiveCount"].to_string().trim_matches('"'), "1000");
    assert_eq!(parsed(&dead, "RedriveAllowPolicy")["sourceQueueArns"], json!([queue["QueueArn"]]));
    assert!(!queue.contains_key("Policy"), "plain HTTP could not reach a queue that asks for TLS");

    let (code, again, _) = queues_create(&by_name, &[]);
    assert_eq!(code, 0);
    assert!(again.starts_with("hooks-dead: as it should be\nhooks: as it should be\n"), "{again}");
    assert_eq!(attributes(&client, "hooks").await.unwrap(), queue, "run again, it changes nothing");
    assert_eq!(attributes(&client, "hooks-dead").await.unwrap(), dead, "run again, it changes nothing");

    let (queue_url, dead_letter_url) = (printed(&out, "queue_url"), printed(&out, "dead_letter_url"));
    let env = [
        ("HOOKCACHE_BUFFER__QUEUE_URL", queue_url.as_str()),
        ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", &dead_letter_url),
        ("HOOKCACHE_BUFFER__ENDPOINT_URL", endpoint),
    ];
    // What differs is shown and mended, what is better stays, and the queues come from the configuration.
    for (name, value) in [("VisibilityTimeout", "1"), ("MessageRetentionPeriod", "1209600")] {
        let name = QueueAttributeName::from(name);
        client.set_queue_attributes().queue_url(&queue_url).attributes(name, value).send().await.expect("it is set");
    }
    let (code, out, err) = queues_create(&["--dry-run"], &env);
    assert_eq!((code, err.as_str()), (0, ""));
    let differs = "hooks: would be changed\n  VisibilityTimeout: 1 -> 60\n";
    assert_eq!(out, format!("hooks-dead: as it should be\n{differs}"));
    assert_eq!(attributes(&client, "hooks").await.unwrap()["VisibilityTimeout"], "1", "a dry run changes nothing");
    let (_, out, _) = queues_create(&[], &env);
    assert!(out.ends_with(&differs.replace("would be ", "")), "{out}");
    let mended = attributes(&client, "hooks").await.unwrap();
    assert_eq!((&*mended["VisibilityTimeout"], &*mended["MessageRetentionPeriod"]), ("60", "1209600"));

    let hookcache = Hookcache::start(&[], &env).await;
    let body = r#"{"accountId":"a","flowId":"f","webhookKeys":["k"],"data":1}"#;
    assert_eq!(http_post(&format!("{}/v1/set", hookcache.url()), body).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_made_on_ministack_and_only_once() {
    let sqs = Ministack::start().await;
    queues_are_made_as_the_doctor_wants_them_and_only_once(&sqs.endpoint_url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_made_on_local_aws_sqs_and_only_once() {
    let sqs = LocalAwsSqs::start().await;
    queues_are_made_as_the_doctor_wants_them_and_only_once(&sqs.endpoint_url()).await;
}

/// An endpoint on which every queue is there, with nothing but an ARN, and which refuses some calls.
async fn stand_in(refuse: impl Fn(&str, &Value) -> Option<&'static str> + Send + Sync + 'static) -> SqsStandIn {
    SqsStandIn::start(move |operation, call| match (refuse(operation, call), operation) {
        (Some(code), _) => Answer::Error(400, code),
        (None, "GetQueueUrl") => Answer::Json(
            json!({ "QueueUrl": format!("http://h/1/{}", call["QueueName"].as_str().unwrap_or_default()) }),
        ),
        (None, "GetQueueAttributes") => Answer::Json(json!({ "Attributes": { "QueueArn": "arn:aws:sqs:r:1:x" } })),
        (None, _) => Answer::Json(json!({})),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_that_the_endpoint_does_not_know_is_told_and_the_others_are_set() {
    let of = |call: &Value, name: &str| call["Attributes"].get(name).is_some();
    let unknown = move |operation: &str, call: &Value| {
        (operation == "SetQueueAttributes" && of(call, "SqsManagedSseEnabled")).then_some("InvalidAttributeName")
    };
    let stand_in = stand_in(unknown).await;
    let (code, out, err) = queues_create(&["--queue", "q", "--endpoint-url", &stand_in.endpoint_url()], &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("SqsManagedSseEnabled: true  (not known here: InvalidAttributeName)"), "{out}");
    // This endpoint takes all others, and shows none.
    assert!(out.contains("VisibilityTimeout: 60  (taken, but not shown yet"), "{out}");
    let set = stand_in.calls("SetQueueAttributes");
    assert!(set.iter().any(|call| of(call, "RedrivePolicy")), "{set:?}");
    assert!(set.iter().any(|call| of(call, "RedriveAllowPolicy")), "{set:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_permission_is_told_by_its_name() {
    for operation in ["GetQueueUrl", "SetQueueAttributes", "GetQueueAttributes"] {
        let stand_in = stand_in(move |asked, _| (asked == operation).then_some("AccessDeniedException")).await;
        let (code, _, err) = queues_create(&["--queue", "q", "--endpoint-url", &stand_in.endpoint_url()], &[]);
        assert_eq!(code, 1);
        assert!(err.contains(&format!("sqs:{operation}")) && err.contains("AccessDenied"), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_another_account_than_the_configured_one_is_told() {
    let stand_in = stand_in(|_, _| None).await;
    let (queue, dead) = (stand_in.queue_url("q"), stand_in.queue_url("d"));
    let env = [
        ("HOOKCACHE_BUFFER__QUEUE_URL", queue.as_str()),
        ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", &dead),
        ("HOOKCACHE_BUFFER__ENDPOINT_URL", &stand_in.endpoint_url()),
    ];
    let (code, _, err) = queues_create(&[], &env);
    assert_eq!(code, 1);
    assert!(err.contains("buffer.queue_url") && err.contains("http://h/1/q") && err.contains("account"), "{err}");
}

#[test]
fn what_names_no_two_standard_queues_is_refused() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing.toml").display().to_string();
    let at = ["--endpoint-url", "http://127.0.0.1:1"];
    let cases: [(&[&str], &str); 5] = [
        (&[], "buffer.queue_url is not set"),
        (&["--queue", "q.fifo"], "FIFO"),
        (&["--queue", "q", "--dead-letter-queue", "q"], "two queues"),
        (&["--queue", "q"], "can't be reached"),
        (&["--config", &missing, "--queue", "q"], "missing.toml"),
    ];
    for (args, word) in cases {
        let args = if args.is_empty() { args.to_vec() } else { [args, &at].concat() };
        let (code, out, err) = queues_create(&args, &[]);
        assert_eq!((code, out.as_str()), (1, ""), "{args:?}");
        assert!(err.contains(word), "{args:?}: {err}");
    }
    assert_eq!(queues_create(&["--region", "eu-west-1"], &[]).0, 2, "flags that say how to get there need a name");
}
