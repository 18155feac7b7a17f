use std::collections::HashMap;

use bytes::Bytes;
use redb::backends::InMemoryBackend;
use tokio::net::TcpListener;

use super::*;
use crate::buffer::{Receipt, sqs};
use crate::consumer::Policy;
use crate::disk::Storage;
use crate::envelope::wire::{Kind, encode};
use crate::envelope::{Account, Accounts, Grants, Stamper, WebhookKey};
use crate::store::redis::Mode;
use crate::store::{Acknowledge, Reader, RuleBook, embedded, redis};
use crate::ttl::{Rules, Ttl};

const MINUTE: Duration = Duration::from_secs(60);

/// Dead letters go to a port on which nothing listens.
fn handler(writer: Writer, book: RuleBook) -> Handler {
    let queue_url = "http://127.0.0.1:1/0/queue".to_owned();
    let dead_letter_url = format!("{queue_url}-dead");
    let endpoint_url = Some("http://127.0.0.1:1".to_owned());
    let options = sqs::Options { queue_url, dead_letter_url, endpoint_url, ..sqs::Options::default() };
    let burier = Burier::Sqs(sqs::Burier::new(options).unwrap());
    let rules = Rules {
        default: Ttl::For(MINUTE),
        min: MINUTE,
        max: MINUTE,
        allow_request: vec![],
        allow_never: vec![],
        static_rules: Default::default(),
        dynamic_rules: Default::default(),
    };
    let callers = HashMap::from([("up".to_owned(), Accounts::Only([Account::parse("a").unwrap()].into()))]);
    let grants = Grants { callers: Some(callers), reserved: vec![] };
    let rulings = Rulings { rules: rules.into(), grants: grants.into() };
    Handler::new(writer, RuleSource::new(Policy::from_fn(move || rulings.clone()), book), burier, Clock::system())
}

fn in_memory() -> (Handler, Reader) {
    let storage = Storage::given(|| Ok(Box::new(InMemoryBackend::new())));
    let (writer, reader, book) = embedded::open_on(storage, Clock::system()).unwrap();
    (handler(Writer::Embedded(writer), RuleBook::Embedded(book)), Reader::Embedded(reader))
}

fn over_redis(port: u16) -> Handler {
    let (writer, _, book) = redis::open(&redis::Options {
        mode: Mode::Standalone { url: format!("redis://127.0.0.1:{port}") },
        username_file: None,
        password_file: None,
        ca_file: None,
        acknowledge: Acknowledge::Memory,
        read_connections: 1,
        write_connections: 1,
        connect_timeout: MINUTE,
        read_timeout: MINUTE,
        write_timeout: MINUTE,
    })
    .unwrap();
    handler(Writer::Redis(writer), RuleBook::Redis(book))
}

fn message(name: &str, body: impl Into<Bytes>) -> Delivery {
    let (message_id, receipt) = (MessageId(name.to_owned()), Receipt(name.to_owned()));
    Delivery { message_id, receipt, body: body.into(), receive_count: 1, traceparent: None }
}

fn set(by: &str, account: &str, key: &str) -> Bytes {
    let request = format!(r#"{{"accountId":"{account}","flowId":"f","webhookKeys":["{key}"],"data":1}}"#);
    encode(&Stamper::new(Clock::system()).stamp(), by, Kind::Set, &request).unwrap()
}

async fn is_stored(reader: &Reader, key: &str) -> bool {
    reader.get(&WebhookKey::parse(key).unwrap()).await.unwrap().is_some()
}

fn ids(left: Vec<MessageId>) -> Vec<String> {
    left.into_iter().map(|MessageId(id)| id).collect()
}

#[tokio::test]
async fn only_what_is_neither_stored_nor_buried_comes_again() {
    let (handler, reader) = in_memory();
    let (one, two) = (set("up", "a", "one"), set("up", "a", "two"));
    let batch = [
        message("1", one.clone()),
        message("not-ours", "{}"),
        message("1-again", one),
        message("forbidden", set("up", "b", "b")),
        message("unknown-caller", set("down", "a", "c")),
        // Crashes and outages count too, so that many receives are no fault of the message.
        Delivery { receive_count: 999, ..message("2", two) },
    ];
    assert_eq!(ids(handler.handle(&batch, MINUTE).await), ["not-ours", "forbidden", "unknown-caller"]);
    assert!(is_stored(&reader, "one").await && is_stored(&reader, "two").await);
    assert!(!is_stored(&reader, "b").await && !is_stored(&reader, "c").await);
    assert_eq!(handler.handle(&[], MINUTE).await, []);
}

#[tokio::test]
async fn a_batch_of_many_parts_is_stored_whole() {
    let (handler, reader) = in_memory();
    let count = 2 * PART_MESSAGES_MAX + 1;
    let batch: Vec<Delivery> = (0..count).map(|i| message(&i.to_string(), set("up", "a", &format!("k{i}")))).collect();
    assert_eq!(handler.handle(&batch, MINUTE).await, []);
    for i in 0..count {
        assert!(is_stored(&reader, &format!("k{i}")).await, "{i}");
    }
}

#[tokio::test]
async fn while_the_store_is_down_or_silent_all_come_again() {
    let batch = [message("1", set("up", "a", "one")), message("2", set("up", "a", "two"))];
    assert_eq!(ids(over_redis(1).handle(&batch, MINUTE).await), ["1", "2"]);
    // It is connected to, and answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let handler = over_redis(silent.local_addr().unwrap().port());
    assert_eq!(ids(handler.handle(&batch, Duration::from_millis(100)).await), ["1", "2"]);
    assert_eq!(ids(handler.handle(&batch, Duration::ZERO).await), ["1", "2"], "no time is left");
}
