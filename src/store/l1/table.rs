//! What is remembered, found by its key: a table that many threads read and few write, bounded in bytes.
//!
//! A place for it is one of [`WAYS`] in the set that its hash chooses. A read looks at the tags of the set, which lie
//! side by side, and then at what the right one stands for; it takes no lock, and writes nothing that another thread
//! reads or writes: not even a count of references, and the mark that it was of use only where it has none yet. Writes
//! take one lock, as each of them comes after a question to the store.
//!
//! Where there is no room, a hand goes around the table and drops what was of no use since it came by last (CLOCK). So a
//! crowd of keys that are asked for once drives out each other rather than what is asked for all the time.
//!
//! It knows nothing of what makes something out of date: who finds it looks, and it stays until its place is needed.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use crate::store::changes::Hash;

/// Places that a key may have. Their tags fill half a cache line.
const WAYS: usize = 8;
/// There is a place for so many bytes: few enough that small entries fill the table's bytes before its places.
const BYTES_PER_PLACE: usize = 512;
/// Nothing larger than this part of the table is remembered: it would drive out too much.
const LARGEST_PART: usize = 8;

/// Something that is remembered under a key.
pub(super) trait Item {
    fn hash(&self) -> Hash;
    fn key(&self) -> &str;
    /// All of the memory that it takes.
    fn bytes(&self) -> usize;
    /// Set when it was of use, until the hand comes by.
    fn was_of_use(&self) -> &AtomicBool;
}

pub(super) struct Table<I> {
    /// Of each place a part of its item's hash, zero where it is free. May be out of step for a moment: the item decides.
    tags: Box<[AtomicU32]>,
    places: Box<[ArcSwapOption<I>]>,
    ledger: Mutex<Ledger>,
    bytes_max: usize,
}

#[derive(Default)]
struct Ledger {
    bytes: usize,
    items: usize,
    /// The place that the hand looks at next.
    hand: usize,
}

/// What a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    pub items: usize,
    pub bytes: usize,
}

impl<I: Item> Table<I> {
    /// `bytes_max` is for its items and itself.
    pub(super) fn new(bytes_max: usize) -> Self {
        let count = (bytes_max / BYTES_PER_PLACE / WAYS).next_power_of_two() * WAYS;
        Self {
            tags: (0..count).map(|_| AtomicU32::new(0)).collect(),
            places: (0..count).map(|_| ArcSwapOption::empty()).collect(),
            ledger: Mutex::default(),
            bytes_max: bytes_max.saturating_sub(count * Self::PLACE_BYTES),
        }
    }

    /// What a place takes though nothing lies there.
    const PLACE_BYTES: usize = size_of::<AtomicU32>() + size_of::<ArcSwapOption<I>>();

    /// Looks at the item under a key, if there is one.
    pub(super) fn look<R>(&self, hash: Hash, key: &str, look: impl FnOnce(&Arc<I>) -> R) -> Option<R> {
        let (first, tag) = (self.first(hash), tag(hash));
        for at in first..first + WAYS {
            if self.tags[at].load(Ordering::Acquire) != tag {
                continue;
            }
            let place = self.places[at].load();
            if let Some(item) = &*place
                && is_under(&**item, hash, key)
            {
                if !item.was_of_use().load(Ordering::Relaxed) {
                    item.was_of_use().store(true, Ordering::Relaxed);
                }
                return Some(look(item));
            }
        }
        None
    }

    /// Puts an item in the place of the one under the same key, if there is one, or of others. `keeps` judges the one
    /// that is there: where it says so, that one stays, and the new one is not put.
    pub(super) fn put(&self, item: Arc<I>, keeps: impl FnOnce(&I) -> bool) {
        let bytes = item.bytes();
        if bytes > self.bytes_max / LARGEST_PART {
            return;
        }
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let (hash, first) = (item.hash(), self.first(item.hash()));
        let set = first..first + WAYS;
        let under_same_key = |at| Some((at, self.at(at).filter(|there| is_under(&**there, hash, item.key()))?));
        let at = match set.clone().find_map(under_same_key) {
            Some((_, there)) if keeps(&there) => return,
            Some((at, _)) => at,
            None => self.make_place(set, ledger.hand),
        };
        self.clear(&mut ledger, at);
        while ledger.bytes + bytes > self.bytes_max {
            self.move_hand(&mut ledger);
        }
        ledger.bytes += bytes;
        ledger.items += 1;
        self.places[at].store(Some(item));
        self.tags[at].store(tag(hash), Ordering::Release);
    }

    pub(super) fn size(&self) -> Size {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        Size { items: ledger.items, bytes: ledger.bytes }
    }

    fn first(&self, hash: Hash) -> usize {
        // The low bits choose the bucket of its generation.
        ((hash.0 >> 16) as usize * WAYS) & (self.places.len() - 1)
    }

    fn at(&self, at: usize) -> Option<Arc<I>> {
        self.places[at].load_full()
    }

    /// A free place, or one whose item was of no use, or else any of them.
    fn make_place(&self, set: std::ops::Range<usize>, random: usize) -> usize {
        let is_free = |at: &usize| self.tags[*at].load(Ordering::Relaxed) == 0;
        let was_of_no_use = |at: &usize| !self.forget_use(*at);
        let any = set.start + random % WAYS;
        set.clone().find(is_free).or_else(|| set.clone().find(was_of_no_use)).unwrap_or(any)
    }

    fn clear(&self, ledger: &mut Ledger, at: usize) {
        if let Some(item) = self.places[at].swap(None) {
            self.tags[at].store(0, Ordering::Release);
            ledger.bytes -= item.bytes();
            ledger.items -= 1;
        }
    }

    /// Was the item there of use? From now on it was not.
    fn forget_use(&self, at: usize) -> bool {
        self.places[at].load().as_ref().is_some_and(|item| item.was_of_use().swap(false, Ordering::Relaxed))
    }

    /// Drops what it points at, unless that was of use.
    fn move_hand(&self, ledger: &mut Ledger) {
        let at = ledger.hand;
        ledger.hand = (at + 1) % self.places.len();
        if self.tags[at].load(Ordering::Relaxed) != 0 && !self.forget_use(at) {
            self.clear(ledger, at);
        }
    }
}

fn is_under<I: Item>(item: &I, hash: Hash, key: &str) -> bool {
    item.hash() == hash && item.key() == key
}

fn tag(hash: Hash) -> u32 {
    (hash.0 >> 32) as u32 | 1
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::envelope::Clock;
    use crate::store::changes::Changes;

    struct Text {
        hash: Hash,
        key: String,
        bytes: usize,
        number: usize,
        was_of_use: AtomicBool,
    }

    impl Text {
        fn new(hash: Hash, key: &str, bytes: usize, number: usize) -> Arc<Self> {
            Arc::new(Self { hash, key: key.to_owned(), bytes, number, was_of_use: AtomicBool::new(false) })
        }
    }

    impl Item for Text {
        fn hash(&self) -> Hash {
            self.hash
        }

        fn key(&self) -> &str {
            &self.key
        }

        fn bytes(&self) -> usize {
            self.bytes
        }

        fn was_of_use(&self) -> &AtomicBool {
            &self.was_of_use
        }
    }

    struct Keyed {
        changes: Changes,
        table: Table<Text>,
    }

    impl Keyed {
        fn new(bytes_max: usize) -> Self {
            Self { changes: Changes::new(Clock::system()), table: Table::new(bytes_max) }
        }

        fn put(&self, key: &str, bytes: usize, number: usize) {
            let hash = self.changes.hash(key.as_bytes());
            self.table.put(Text::new(hash, key, bytes, number), |_| false);
        }

        fn get(&self, key: &str) -> Option<usize> {
            self.table.look(self.changes.hash(key.as_bytes()), key, |text| text.number)
        }
    }

    #[test]
    fn the_last_one_under_a_key_is_found_and_no_other() {
        let keyed = Keyed::new(1 << 20);
        assert_eq!(keyed.get("a"), None);
        keyed.put("a", 100, 1);
        keyed.put("b", 100, 2);
        keyed.put("a", 300, 3);
        assert_eq!((keyed.get("a"), keyed.get("b"), keyed.get("c")), (Some(3), Some(2), None));
        assert_eq!(keyed.table.size(), Size { items: 2, bytes: 400 });
    }

    #[test]
    fn what_is_there_may_be_kept() {
        let keyed = Keyed::new(1 << 20);
        keyed.put("a", 100, 1);
        let hash = keyed.changes.hash(b"a");
        let other = || Text::new(hash, "a", 50, 2);
        keyed.table.put(other(), |there| there.number == 1);
        assert_eq!(keyed.get("a"), Some(1));
        keyed.table.put(other(), |there| there.number == 7);
        assert_eq!((keyed.get("a"), keyed.table.size().bytes), (Some(2), 50));
    }

    #[test]
    fn it_never_holds_more_than_its_bytes_whatever_comes() {
        let keyed = Keyed::new(64 << 10);
        let mut random = fastrand::Rng::with_seed(7);
        for i in 0..20_000 {
            keyed.put(&format!("key-{}", random.usize(..5_000)), random.usize(1..20_000), i);
            let size = keyed.table.size();
            assert!(size.bytes <= 64 << 10, "{size:?}");
        }
        let found = (0..5_000).filter(|n| keyed.get(&format!("key-{n}")).is_some()).count();
        assert_eq!(found, keyed.table.size().items);
        assert!(found > 0);
    }

    #[test]
    fn its_places_count_in_its_bytes() {
        // Just above a power of two, so that it has almost twice the places that it needs.
        let bytes_max = (1 << 20) + (64 << 10);
        let keyed = Keyed::new(bytes_max);
        (0..5_000).for_each(|n| keyed.put(&format!("key-{n}"), 800, n));
        let places = keyed.table.places.len() * (size_of::<usize>() + size_of::<u32>());
        let size = keyed.table.size();
        assert!(size.bytes + places <= bytes_max && size.bytes > 1 << 19, "{size:?} and {places}");
    }

    #[test]
    fn what_is_too_large_is_not_remembered_and_drives_nothing_out() {
        let keyed = Keyed::new(64 << 10);
        keyed.put("small", 100, 1);
        keyed.put("large", 9 << 10, 2);
        assert_eq!((keyed.get("small"), keyed.get("large")), (Some(1), None));
    }

    #[test]
    fn what_is_asked_for_all_the_time_outlives_a_crowd_that_is_asked_for_once() {
        let keyed = Keyed::new(1 << 20);
        let wanted: Vec<String> = (0..200).map(|n| format!("wanted-{n}")).collect();
        let (mut asked, mut missed) = (0, 0);
        for n in 0..50_000 {
            keyed.put(&format!("once-{n}"), 1_000, 2);
            if n % 100 != 0 {
                continue;
            }
            for key in &wanted {
                asked += 1;
                if keyed.get(key).is_none() {
                    missed += 1;
                    keyed.put(key, 1_000, 1);
                }
            }
        }
        assert!(missed * 20 < asked, "{missed} of {asked}");
    }

    #[test]
    fn a_table_of_small_items_is_filled_to_its_bytes() {
        let keyed = Keyed::new(8 << 20);
        (0..20_000).for_each(|n| keyed.put(&format!("key-{n}"), 800, n));
        let size = keyed.table.size();
        assert!(size.bytes > 7 << 20, "{size:?}");
    }

    #[test]
    fn threads_that_read_see_whole_items_of_their_key_while_others_write() {
        const KEYS: usize = 50;
        let (keyed, writers) = (Keyed::new(32 << 10), AtomicUsize::new(2));
        let pass = || {
            let found = (0..KEYS).filter_map(|key| Some((key, keyed.get(&format!("key-{key}"))?)));
            found.inspect(|(key, number)| assert_eq!(number / 10, *key)).count()
        };
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (keyed, writers) = (&keyed, &writers);
                scope.spawn(move || {
                    let put = |i| keyed.put(&format!("key-{}", i % KEYS), 700, (i % KEYS) * 10 + thread);
                    (0..20_000).for_each(put);
                    writers.fetch_sub(1, Ordering::SeqCst);
                });
                scope.spawn(|| {
                    while writers.load(Ordering::SeqCst) > 0 {
                        pass();
                    }
                });
            }
        });
        assert!(pass() > 0);
        assert!(keyed.table.size().bytes <= 32 << 10);
    }
}
