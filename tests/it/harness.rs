//! The harness itself: what other tests believe of it.

use http::Method;

use crate::support::client::try_send;
use crate::support::sqs::client;
use crate::support::{
    Hookcache, LocalAwsSqs, Ministack, Queues, Redis, Reply, TempDir, eventually, hookcache, http_delete, http_get,
    http_post, http_send,
};

/// What a Redis answers to one inline command; `None` where it is down.
async fn ask(redis: &Redis, command: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", redis.port())).await.ok()?;
    stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
    let mut answer = [0; 256];
    let length = stream.read(&mut answer).await.ok()?;
    Some(String::from_utf8_lossy(&answer[..length]).trim().to_owned())
}

#[tokio::test]
async fn a_redis_is_stopped_paused_and_started_again_on_its_port_and_data() {
    let mut redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    assert_eq!(ask(&redis, "SET a 1").await.as_deref(), Some("+OK"));
    redis.stop();
    assert_eq!(ask(&redis, "GET a").await, None);
    redis.start_again().await;
    assert_eq!(ask(&redis, "GET a").await.as_deref(), Some("$1\r\n1"));
    assert!(redis.folder().join("appendonlydir").is_dir());

    redis.pause();
    let mut answer = Box::pin(ask(&redis, "PING"));
    tokio::select! {
        biased;
        answer = &mut answer => panic!("a frozen Redis answered {answer:?}"),
        () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
    }
    redis.resume();
    assert_eq!(answer.as_mut().await.as_deref(), Some("+PONG"));
    drop(answer);
    redis.shut_down().await;
    assert_eq!(ask(&redis, "PING").await, None);
    assert!(redis.url().ends_with(&redis.port().to_string()));
}

#[tokio::test]
async fn without_options_a_killed_redis_comes_back_empty() {
    let mut redis = Redis::start().await;
    assert_eq!(ask(&redis, "SET a 1").await.as_deref(), Some("+OK"));
    redis.stop();
    redis.start_again().await;
    assert_eq!(ask(&redis, "GET a").await.as_deref(), Some("$-1"));
}

#[tokio::test]
async fn both_emulators_hand_out_queues_that_take_a_message() {
    let (ministack, local) = (Ministack::start().await, LocalAwsSqs::start().await);
    let queues: [(String, Queues); 2] = [
        (ministack.endpoint_url(), ministack.queues("orders").await),
        (local.endpoint_url(), local.queues("orders").await),
    ];
    for (endpoint_url, queues) in queues {
        assert!(queues.queue_url.starts_with(&endpoint_url), "{} of {endpoint_url}", queues.queue_url);
        let client = client(&endpoint_url);
        client.send_message().queue_url(&queues.queue_url).message_body("x").send().await.unwrap();
        let received = client.receive_message().queue_url(&queues.queue_url).send().await.unwrap();
        assert_eq!(received.messages().len(), 1);
        let dead = client.receive_message().queue_url(&queues.dead_letter_url).send().await.unwrap();
        assert_eq!(dead.messages().len(), 0);
    }
}

#[tokio::test]
#[should_panic(expected = "ended before it was ready")]
async fn a_program_that_ends_before_it_is_ready_fails_its_test_at_once() {
    Hookcache::start(&["--no-such-flag"], &[]).await;
}

#[tokio::test]
async fn nobody_answers_where_a_program_has_ended() {
    let folder = TempDir::new().unwrap();
    let mut program = Hookcache::spawn(folder.path(), &["--no-such-flag"], &[("HOOKCACHE_LISTEN", "")]);
    let status = program.until_exit().await;
    assert_eq!(status.success(), hookcache::run(&["serve", "--no-such-flag"], &[]).status.success());
    for url in [program.url(), program.admin_url()] {
        assert!(try_send(Method::GET, &url, &[], "").await.is_err());
    }
}

#[tokio::test]
async fn the_client_returns_status_headers_and_body() {
    let server = LocalAwsSqs::start().await;
    let url = format!("{}/", server.endpoint_url());
    let reply: Reply = http_post(&url, "{}").await;
    assert!(reply.status.is_client_error() && !reply.header("content-type").is_empty() && !reply.text().is_empty());
    let header = [("x-amz-target", "AmazonSQS.ListQueues"), ("content-type", "application/x-amz-json-1.0")];
    let reply = http_send(Method::POST, &url, &header, "{}").await;
    assert!(reply.status.is_success() && reply.json().is_object(), "{reply:?}");
    assert!(!http_get(&url).await.body.is_empty());
    assert!(!http_delete(&url).await.status.is_success());
    eventually("a state that is there already", || async { Some(()) }).await;
}
