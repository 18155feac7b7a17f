use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;

use super::*;
use crate::envelope::{Account, Flow};
use crate::store::changes::Source;
use crate::store::{Effect, Outcome, Write, Writer, embedded};

const START_MS: u64 = 1_767_225_600_000;
const HOUR_MS: u64 = 3_600_000;
const MIB: usize = 1 << 20;

/// The payload.
struct Text(Bytes);

impl Make for Text {
    fn make(entry: Entry) -> Self {
        Self(entry.payload)
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// A memory over a store in memory, whose clock is set by hand.
struct Stage {
    writer: Writer,
    l1: L1<Text>,
    hands: Arc<AtomicU64>,
    reads: Arc<AtomicUsize>,
    times: AtomicU64,
}

fn key(name: &str) -> WebhookKey {
    WebhookKey::parse(name).unwrap()
}

fn entry(time_ms: u64, payload: &str, expires_at_ms: Option<u64>) -> Entry {
    Entry {
        version: Version::of_event(0, time_ms, "event"),
        expires_at_ms,
        account: Account::parse("acme").unwrap(),
        flow: Flow::parse("flow").unwrap(),
        id: "id".to_owned(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

impl Stage {
    fn new() -> Self {
        Self::with(Options { bytes_max: MIB, stale_max: Duration::from_secs(1) })
    }

    fn with(options: Options) -> Self {
        let hands = Arc::new(AtomicU64::new(START_MS));
        let shown = Arc::clone(&hands);
        let clock = Clock::from_fn(move || shown.load(Ordering::SeqCst));
        let (writer, reader, _) = embedded::open_in_memory(clock.clone());
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reads);
        let on_read = Box::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let l1 = L1::new(Reader::Embedded(reader), clock, options, on_read);
        Self { writer: Writer::Embedded(writer), l1, hands, reads, times: AtomicU64::new(1) }
    }

    /// Newer than all before it.
    async fn put(&self, name: &str, payload: &str, expires_at_ms: Option<u64>) {
        let time_ms = self.times.fetch_add(1, Ordering::SeqCst);
        let Entry { version, account, flow, id, payload, .. } = entry(time_ms, payload, None);
        let effect = Effect::Put { flow, payload, expires_at_ms };
        let write = Write { id, at_ms: time_ms, account, version, keys: vec![key(name)], effect };
        let outcomes = self.writer.write(&[write], self.now_ms()).await;
        assert_eq!(outcomes, [[Ok(Outcome::Written)]]);
    }

    /// What is remembered: of an entry its payload, of an absence nothing.
    fn look(&self, name: &str) -> Option<Option<String>> {
        let text = |text: &Text| String::from_utf8(text.0.to_vec()).unwrap();
        self.l1.look(name, |found| found.map(text))
    }

    async fn find(&self, name: &str) -> Option<String> {
        let found = self.l1.find(&[key(name)]).await.pop().unwrap().unwrap();
        found.get().map(|text| String::from_utf8(text.0.to_vec()).unwrap())
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn now_ms(&self) -> u64 {
        self.hands.load(Ordering::SeqCst)
    }

    fn wait_ms(&self, ms: u64) {
        self.hands.fetch_add(ms, Ordering::SeqCst);
    }

    /// As an answer to a question that was asked now would be taken.
    fn settle(&self, name: &str, found: Option<Entry>, lease: Option<Lease>) {
        let stamp = self.l1.changes().stamp(self.l1.changes().hash(name.as_bytes()));
        self.settle_of(name, stamp, found, lease);
    }

    fn settle_of(&self, name: &str, stamp: Stamp, found: Option<Entry>, lease: Option<Lease>) {
        let answer = Answer { found: Ok(found), lease };
        assert!(self.l1.settle(key(name), stamp, self.now_ms(), answer).is_ok());
    }

    /// Another one who tells of changes, which never ends.
    fn told(&self) -> (Source, Lease) {
        let source = self.l1.changes().source();
        source.begin(u64::MAX);
        let lease = source.lease();
        (source, lease)
    }
}

fn some(text: &str) -> Option<Option<String>> {
    Some(Some(text.to_owned()))
}

#[tokio::test]
async fn what_was_read_is_remembered_until_it_changes() {
    let stage = Stage::new();
    assert_eq!(stage.look("k"), None);
    assert_eq!(stage.find("k").await, None);
    assert_eq!(stage.look("k"), Some(None), "that it is absent is remembered, too");
    for text in ["one", "two"] {
        stage.put("k", text, None).await;
        assert_eq!(stage.look("k"), None, "who was told of the outcome never finds what was there before");
        assert_eq!(stage.find("k").await.as_deref(), Some(text));
        let reads = stage.reads();
        assert_eq!((stage.look("k"), stage.find("k").await.as_deref()), (some(text), Some(text)));
        assert_eq!(stage.reads(), reads);
    }
}

#[tokio::test]
async fn many_keys_are_one_read_and_those_that_are_remembered_none() {
    let stage = Stage::new();
    for name in ["a", "b", "c"] {
        stage.put(name, name, None).await;
    }
    assert!(stage.find("b").await.is_some());
    let before = stage.reads();
    let found = stage.l1.find(&["a", "b", "nothing", "c", "a"].map(key)).await;
    let texts: Vec<_> = found.iter().map(|found| found.as_ref().unwrap().get().map(|text| text.0.clone())).collect();
    assert_eq!(texts, [Some("a"), Some("b"), None, Some("c"), Some("a")].map(|text| text.map(Bytes::from)));
    assert_eq!(stage.reads(), before + 1);
    assert!(matches!(found[1], Ok(Found::Remembered(_))) && matches!(found[0], Ok(Found::Read(_))));
}

#[tokio::test]
async fn a_change_while_the_answer_is_on_its_way_makes_it_worthless() {
    let stage = Stage::new();
    let (_source, lease) = stage.told();
    let changes = stage.l1.changes();
    let hash = changes.hash(b"k");
    let things: [&dyn Fn(); 2] = [&|| changes.key_changed(hash), &|| changes.everything_changed()];
    for happens in things {
        let stamp = changes.stamp(hash);
        happens();
        stage.settle_of("k", stamp, Some(entry(1, "old", None)), Some(lease.clone()));
        assert_eq!(stage.look("k"), None);
        stage.settle("k", Some(entry(2, "new", None)), Some(lease.clone()));
        assert_eq!(stage.look("k"), some("new"));
        happens();
        assert_eq!(stage.look("k"), None);
    }
}

#[tokio::test]
async fn of_two_answers_that_differ_neither_is_believed() {
    let stage = Stage::new();
    let (_source, lease) = stage.told();
    let answers = [Some(entry(1, "old", None)), Some(entry(2, "new", None)), None];
    for one in &answers {
        for other in &answers {
            stage.settle("k", one.clone(), Some(lease.clone()));
            stage.settle("k", other.clone(), Some(lease.clone()));
            let is_same = one == other;
            assert_eq!(stage.look("k").is_some(), is_same, "{one:?} {other:?}");
            stage.l1.changes().everything_changed();
        }
    }
}

#[tokio::test]
async fn what_has_expired_is_gone_to_the_millisecond() {
    let stage = Stage::new();
    stage.put("k", "text", Some(START_MS + 1_000)).await;
    assert!(stage.find("k").await.is_some());
    stage.wait_ms(999);
    assert_eq!(stage.look("k"), some("text"));
    stage.wait_ms(1);
    assert_eq!(stage.look("k"), None);
    assert_eq!(stage.find("k").await, None);
}

#[tokio::test]
async fn nothing_is_believed_for_longer_than_its_time_nor_before_it() {
    let stage = Stage::new();
    stage.put("k", "text", Some(START_MS + HOUR_MS)).await;
    assert!(stage.find("k").await.is_some() && stage.find("absent").await.is_none());
    stage.wait_ms(4_999);
    assert_eq!((stage.look("k"), stage.look("absent")), (some("text"), Some(None)));
    stage.wait_ms(1);
    assert_eq!((stage.look("k"), stage.look("absent")), (some("text"), None));
    stage.wait_ms(54_999);
    assert_eq!(stage.look("k"), some("text"));
    stage.wait_ms(1);
    assert_eq!(stage.look("k"), None);
    stage.hands.store(START_MS - 1, Ordering::SeqCst);
    assert_eq!(stage.look("k"), None, "the clock was set back");
}

#[tokio::test]
async fn where_nobody_tells_an_answer_is_as_old_as_is_allowed_and_no_older() {
    let stage = Stage::new();
    stage.settle("k", Some(entry(1, "text", None)), None);
    stage.wait_ms(999);
    assert_eq!(stage.look("k"), some("text"));
    stage.wait_ms(1);
    assert_eq!(stage.look("k"), None);
    let strict = Stage::with(Options { bytes_max: MIB, stale_max: Duration::ZERO });
    strict.settle("k", Some(entry(1, "text", None)), None);
    assert_eq!(strict.look("k"), None);
}

#[tokio::test]
async fn what_a_source_told_ends_with_it() {
    let stage = Stage::new();
    let source = stage.l1.changes().source();
    source.begin(START_MS + 10);
    stage.settle("k", Some(entry(1, "text", None)), Some(source.lease()));
    assert_eq!(stage.look("k"), some("text"));
    stage.wait_ms(10);
    assert_eq!(stage.look("k"), None, "it was not heard of in time");
    source.renew(START_MS + HOUR_MS);
    assert_eq!(stage.look("k"), some("text"), "it was late, and has lost nothing");
    source.lose("it broke");
    source.begin(START_MS + HOUR_MS);
    assert_eq!(stage.look("k"), None, "nobody knows what it has missed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_want_one_key_ask_once_and_who_hangs_up_breaks_nothing_off() {
    let stage = Stage::new();
    stage.put("hot", "text", None).await;
    for _ in 0..10 {
        let before = stage.reads();
        let wants = |n: usize| {
            let l1 = stage.l1.clone();
            let asked = tokio::spawn(async move { l1.find(&[key("hot")]).await.pop().unwrap() });
            if n.is_multiple_of(3) {
                asked.abort();
            }
            asked
        };
        let found = join_all((0..1_000).map(wants)).await;
        let answered = found.into_iter().flatten().filter(|found| found.as_ref().is_ok_and(|f| f.get().is_some()));
        assert!(answered.count() >= 666);
        assert_eq!(stage.reads(), before + 1);
        stage.l1.changes().everything_changed();
    }
    assert!(stage.l1.inner.flights.is_empty());
}

#[tokio::test]
async fn a_read_goes_on_when_who_began_it_hangs_up() {
    let stage = Stage::new();
    stage.put("k", "text", None).await;
    let (mut first, mut second) = (Box::pin(stage.find("k")), Box::pin(stage.find("k")));
    // Polled once each, the first one has begun the read, and the second one waits for it.
    assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
    drop(first);
    assert_eq!((second.await.as_deref(), stage.reads()), (Some("text"), 1));
}

#[tokio::test]
async fn who_comes_after_a_change_does_not_join_a_read_from_before_it() {
    let stage = Stage::new();
    stage.put("k", "old", None).await;
    // Polled once, the read is under way; its answer can't come, as this runtime has one thread.
    let mut early = Box::pin(stage.find("k"));
    assert!(futures_util::poll!(&mut early).is_pending());
    stage.l1.changes().key_changed(stage.l1.changes().hash(b"k"));
    let late = stage.find("k");
    let (early, late) = tokio::join!(early, late);
    assert_eq!((early.as_deref(), late.as_deref(), stage.reads()), (Some("old"), Some("old"), 2));
    assert!(stage.l1.inner.flights.is_empty());
}

#[tokio::test]
async fn where_no_answer_may_be_old_nobody_joins_a_read_that_is_under_way() {
    for (stale_max, reads) in [(Duration::ZERO, 2), (Duration::from_secs(1), 1)] {
        let stage = Stage::with(Options { bytes_max: MIB, stale_max });
        // Another one who should tell, and doesn't yet.
        let _silent = stage.l1.changes().source();
        let mut early = Box::pin(stage.find("k"));
        assert!(futures_util::poll!(&mut early).is_pending());
        // In the same millisecond, and yet after a write that the other one may have been too early for.
        tokio::join!(early, stage.find("k"));
        assert_eq!(stage.reads(), reads, "{stale_max:?}");
    }
}

#[tokio::test]
async fn a_crowd_of_absent_keys_is_bounded_and_drives_out_nothing_that_is_there() {
    let stage = Stage::new();
    let (_source, lease) = stage.told();
    for n in 0..400 {
        stage.settle(&format!("there-{n}"), Some(entry(1, &"x".repeat(1_000), None)), Some(lease.clone()));
    }
    let before = stage.l1.size();
    for n in 0..100_000 {
        stage.settle(&format!("absent-{n}"), None, Some(lease.clone()));
    }
    let left = (0..400).filter(|n| stage.look(&format!("there-{n}")).is_some()).count();
    let there = before.items;
    assert_eq!(left, there);
    let size = stage.l1.size();
    assert!(size.bytes <= before.bytes + MIB / ABSENT_PART, "{size:?} after {before:?}");
    assert!(size.items > there + 100, "{size:?} after {before:?}");
}
