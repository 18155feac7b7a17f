//! The consumer where the queue itself hands batches over, and removes what is not returned to it (AWS Lambda).
//!
//! It answers with the messages that must come again, one by one: those that are neither stored nor among the dead
//! letters. It never fails as a whole, so that what is done is never done again for the sake of what is not.
//!
//! It keeps no count of attempts: whoever hands over keeps no process alive for that, and the queue's own count of
//! receives also counts outages. So a message that only fails alone comes again until the queue gives it up.

use std::ops::Range;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::apply::{Verdict, apply};
use super::report;
use super::rulings::{RuleSource, Rulings};
use crate::buffer::{Burier, Delivery, MessageId};
use crate::envelope::{Clock, Poison};
use crate::store::Writer;

/// Messages that go to the store together. A huge batch is written in parts: what is stored when the time is over need
/// not come again.
const PART_MESSAGES_MAX: usize = 100;
/// A batch may take one part in so many of the time that its caller has: the rest is for the answer, on a machine that
/// may be slow.
const SHARE_OF_TIME: u32 = 2;
/// A batch takes no longer than this, however much time there is: a store that answers nothing must not cost minutes.
const BATCH_TIME_MAX: Duration = Duration::from_secs(30);
/// Of that time, one part in so many is kept for dead letters: a store that is slow must not send poison round and round.
const SHARE_FOR_LETTERS: u32 = 4;
/// Dead letters that are sent together, as many as SQS takes: what was sent when the time is over is not sent again.
const LETTERS_MAX: usize = 10;
/// The first connection may take this long before there is anything to do. A start is given 10 seconds.
const WARM_UP_TIME_MAX: Duration = Duration::from_secs(3);

/// Stores batches. Made once; each batch is handed to [`Handler::handle`].
pub struct Handler {
    writer: Writer,
    rules: RuleSource,
    burier: Burier,
    clock: Clock,
}

/// The store takes nothing now.
struct Outage(String);

/// A batch, and how far each of its messages is.
struct Batch<'a> {
    messages: &'a [Delivery],
    states: Vec<State>,
}

#[derive(Clone)]
enum State {
    Open,
    /// It can never be stored, and is not among the dead letters yet.
    Poison(Poison),
    /// It need not come again.
    Settled,
}

impl<'a> Batch<'a> {
    fn new(messages: &'a [Delivery]) -> Self {
        Self { messages, states: vec![State::Open; messages.len()] }
    }

    fn parts(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let count = self.messages.len();
        (0..count).step_by(PART_MESSAGES_MAX).map(move |from| from..count.min(from + PART_MESSAGES_MAX))
    }

    fn poison(&self) -> Vec<(usize, Poison)> {
        let poison = |(i, state): (usize, &State)| match state {
            State::Poison(its) => Some((i, its.clone())),
            State::Open | State::Settled => None,
        };
        self.states.iter().enumerate().filter_map(poison).collect()
    }

    /// Who must come again.
    fn left(&self) -> Vec<MessageId> {
        let all = self.messages.iter().zip(&self.states);
        let left = all.filter(|(_, state)| !matches!(state, State::Settled));
        left.map(|(message, _)| message.message_id.clone()).collect()
    }
}

impl Handler {
    pub fn new(writer: Writer, rules: RuleSource, burier: Burier, clock: Clock) -> Self {
        Self { writer, rules, burier, clock }
    }

    /// Connects and loads the TTL rules before there is a batch. A store that is away is told, and heals by itself.
    pub async fn warm_up(&self) {
        let error = match timeout(WARM_UP_TIME_MAX, self.rules.rulings()).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store does not answer".to_owned(),
        };
        tracing::error!(error, "started without the store; until it is back, all messages are returned to the queue");
    }

    /// Stores a batch within a share of `time`, which is what its caller has left. Returns who must come again.
    pub async fn handle(&self, messages: &[Delivery], time: Duration) -> Vec<MessageId> {
        let mut batch = Batch::new(messages);
        let time = (time / SHARE_OF_TIME).min(BATCH_TIME_MAX);
        let time_to_store = time - time / SHARE_FOR_LETTERS;
        let began = Instant::now();
        let stored = timeout_at(began + time_to_store, self.store(&mut batch)).await;
        // Also in an outage of the store, to which poison is nothing.
        let buried = timeout_at(began + time, self.bury(&mut batch)).await;
        let left = batch.left();
        let error = match (stored, buried) {
            // Whatever is left then has a line of its own.
            (Ok(Ok(())), Ok(())) => return left,
            (Ok(Err(Outage(error))), _) => error,
            (Err(_), _) => format!("not stored within {} ms", time_to_store.as_millis()),
            (_, Err(_)) => format!("not dead-lettered within {} ms", time.as_millis()),
        };
        let (returned, of) = (left.len(), messages.len());
        tracing::warn!(returned, of, error, "returned to the queue, which offers them again; nothing is lost");
        left
    }

    async fn store(&self, batch: &mut Batch<'_>) -> Result<(), Outage> {
        for part in batch.parts() {
            let rulings = self.rulings().await?;
            if let Err(outage) = self.step(batch, part.clone(), &rulings).await {
                self.one_by_one(batch, part, &rulings, outage).await?;
            }
        }
        Ok(())
    }

    /// Asks twice: the first may be told that a connection had broken while nobody looked, and that says nothing of the
    /// store.
    async fn rulings(&self) -> Result<Rulings, Outage> {
        if let Ok(rulings) = self.rules.rulings().await {
            return Ok(rulings);
        }
        self.rules.rulings().await.map_err(|error| Outage(error.to_string()))
    }

    /// The store failed. It was a connection that had broken while nobody looked, or a single message, which must not
    /// take the others with it for ever: then it answers now, and takes some.
    async fn one_by_one(
        &self,
        batch: &mut Batch<'_>,
        part: Range<usize>,
        rulings: &Rulings,
        Outage(error): Outage,
    ) -> Result<(), Outage> {
        let left: Vec<usize> = part.filter(|&i| matches!(batch.states[i], State::Open)).collect();
        let mut took_some = false;
        for i in left {
            self.writer.check().await.map_err(|_| Outage(error.clone()))?;
            match self.step(batch, i..i + 1, rulings).await {
                Ok(()) => took_some = true,
                Err(Outage(error)) => report::put_off(&batch.messages[i], &error),
            }
        }
        if took_some { Ok(()) } else { Err(Outage(error)) }
    }

    /// Applies once. The error is that of messages whose outcome is not known.
    async fn step(&self, batch: &mut Batch<'_>, part: Range<usize>, rulings: &Rulings) -> Result<(), Outage> {
        let messages = &batch.messages[part.clone()];
        let verdicts = apply(messages, &self.writer, rulings, self.clock.now_ms()).await;
        let mut outage = None;
        for ((i, message), verdict) in part.zip(messages).zip(verdicts) {
            match verdict {
                Verdict::Done(done) => {
                    report::stored(message, &done);
                    batch.states[i] = State::Settled;
                }
                Verdict::Poison(its) => batch.states[i] = State::Poison(its),
                Verdict::Retry(retry) if retry.alone => report::put_off(message, &retry.error),
                Verdict::Retry(retry) => outage = Some(Outage(retry.error)),
            }
        }
        outage.map_or(Ok(()), Err)
    }

    async fn bury(&self, batch: &mut Batch<'_>) {
        for poison in batch.poison().chunks(LETTERS_MAX) {
            let letters: Vec<_> = poison.iter().map(|(i, its)| (batch.messages[*i].clone(), its.clone())).collect();
            let results = self.burier.bury(&letters).await;
            for ((i, its), result) in poison.iter().zip(results) {
                let message = &batch.messages[*i];
                match result {
                    Ok(()) => {
                        report::dead_lettered(message, its);
                        batch.states[*i] = State::Settled;
                    }
                    Err(error) => report::not_dead_lettered(message, its, &error),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
        handler_with_letters_to("http://127.0.0.1:1".to_owned(), writer, book)
    }

    fn handler_with_letters_to(endpoint_url: String, writer: Writer, book: RuleBook) -> Handler {
        let queue_url = "http://127.0.0.1:1/0/queue".to_owned();
        let dead_letter_url = format!("{queue_url}-dead");
        let endpoint_url = Some(endpoint_url);
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
        let (writer, reader, book) = store_in_memory();
        (handler(writer, book), reader)
    }

    fn store_in_memory() -> (Writer, Reader, RuleBook) {
        let storage = Storage::given(|| Ok(Box::new(InMemoryBackend::new())));
        let (writer, reader, book) = embedded::open_on(storage, Clock::system()).unwrap();
        (Writer::Embedded(writer), Reader::Embedded(reader), RuleBook::Embedded(book))
    }

    fn over_redis(port: u16) -> Handler {
        let (writer, book) = store_in_redis(port);
        handler(writer, book)
    }

    fn store_in_redis(port: u16) -> (Writer, RuleBook) {
        let options = redis::Options {
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
            tracking: redis::Tracking::Off,
        };
        let (writer, _, book) = redis::open(&options, Clock::system()).unwrap();
        (Writer::Redis(writer), RuleBook::Redis(book))
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
        let batch: Vec<Delivery> =
            (0..count).map(|i| message(&i.to_string(), set("up", "a", &format!("k{i}")))).collect();
        assert_eq!(handler.handle(&batch, MINUTE).await, []);
        for i in 0..count {
            assert!(is_stored(&reader, &format!("k{i}")).await, "{i}");
        }
    }

    #[tokio::test]
    async fn where_nobody_takes_dead_letters_poison_takes_no_time_from_what_can_be_stored() {
        // It is connected to, and answers nothing.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint_url = format!("http://{}", silent.local_addr().unwrap());
        let (writer, reader, book) = store_in_memory();
        let handler = handler_with_letters_to(endpoint_url, writer, book);
        let is_poison = |i: usize| i.is_multiple_of(PART_MESSAGES_MAX);
        let body = |i| if is_poison(i) { "{}".into() } else { set("up", "a", &format!("k{i}")) };
        let batch: Vec<Delivery> = (0..=2 * PART_MESSAGES_MAX + 1).map(|i| message(&i.to_string(), body(i))).collect();
        assert_eq!(ids(handler.handle(&batch, Duration::from_secs(6)).await), ["0", "100", "200"]);
        assert!(is_stored(&reader, "k99").await && is_stored(&reader, "k201").await);
    }

    #[tokio::test]
    async fn poison_that_was_found_is_sent_to_the_dead_letters_also_where_the_store_then_fails() {
        let letters = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint_url = format!("http://{}", letters.local_addr().unwrap());
        // The rules can be had, so that the batch is looked at; nothing can be written.
        let ((writer, _), (_, _, book)) = (store_in_redis(1), store_in_memory());
        let handler = handler_with_letters_to(endpoint_url, writer, book);
        let batch = [message("not-ours", "{}"), message("1", set("up", "a", "one"))];
        tokio::select! {
            asked = letters.accept() => drop(asked.unwrap()),
            left = handler.handle(&batch, MINUTE) => panic!("nobody was asked to take the poison; returned: {left:?}"),
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
}
