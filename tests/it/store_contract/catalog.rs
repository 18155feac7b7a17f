//! The contract of the catalog: walks through what is stored, and changes that are made only to what was seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hookcache::envelope::{Accounts, Flow, WebhookKey};
use hookcache::store::catalog::{Change, Changed, Choice, Cursor, Page, PageError, Seen, To};
use hookcache::store::{Catalog, Effect, Outcome, ReadError, Write};

use super::{Halves, account, delete, key, now_ms, put, put_payload, put_until, version};
use crate::support::{DEADLINE, eventually};

/// A day in milliseconds.
const DAY: u64 = 86_400_000;

impl Halves {
    pub fn catalog(&self) -> Catalog {
        Catalog::of(&self.writer)
    }

    pub async fn change(&self, changes: &[Change]) -> Vec<Changed> {
        let results = self.catalog().change(changes, now_ms()).await;
        results.into_iter().map(|result| result.expect("the store is healthy")).collect()
    }

    /// As the catalog sees it.
    pub async fn seen(&self, name: &str) -> Option<Seen> {
        self.catalog().find(&key(name), now_ms()).await.expect("the store is healthy")
    }

    async fn page(&self, choice: &Choice, from: Option<&Cursor>, look_max: usize) -> Page {
        self.catalog().page(choice, from, look_max, now_ms()).await.expect("the store is healthy")
    }

    /// Every page of a walk.
    async fn walk(&self, choice: &Choice, look_max: usize) -> Vec<Page> {
        let mut pages: Vec<Page> = Vec::new();
        loop {
            let from = pages.last().and_then(|page| page.next.clone());
            pages.push(self.page(choice, from.as_ref(), look_max).await);
            if pages.last().is_some_and(|page| page.next.is_none()) {
                return pages;
            }
        }
    }
}

pub fn everything() -> Choice {
    Choice { accounts: Accounts::All, account: None, flow: None, prefix: String::new() }
}

fn names(pages: &[Page]) -> BTreeSet<String> {
    pages.iter().flat_map(|page| &page.entries).map(|seen| seen.key.to_string()).collect()
}

fn in_flow(write: Write, name: &str) -> Write {
    let effect = match write.effect {
        Effect::Put { payload, expires_at_ms, .. } => {
            Effect::Put { flow: Flow::parse(name).expect("a legal flow"), payload, expires_at_ms }
        }
        Effect::Delete => Effect::Delete,
    };
    Write { effect, ..write }
}

pub async fn a_walk_shows_ten_thousand_live_entries_and_nothing_else(store: &Halves) {
    let until = now_ms() + DAY;
    let mut wanted = BTreeMap::new();
    for round in 0..10 {
        let (of, flow) = (["acme", "globex"][round % 2], ["orders", "audit", "x"][round % 3]);
        let keys: Vec<String> = (0..1_000).map(|i| format!("{flow}/{round}-{i}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let expires_at_ms = (round != 4).then_some(until + round as u64);
        let write = in_flow(put_until(of, 5 + round as u64, &keys, expires_at_ms), flow);
        let payload = "p".repeat(round * 200);
        let effect = match write.effect {
            Effect::Put { flow, expires_at_ms, .. } => Effect::Put { flow, payload: payload.into(), expires_at_ms },
            Effect::Delete => unreachable!("it is a put"),
        };
        assert_eq!(store.one(Write { effect, ..write }).await, vec![Outcome::Written; 1_000]);
        wanted.extend(keys.iter().map(|name| ((*name).to_owned(), (of, flow, expires_at_ms, round))));
    }
    for i in 0..50 {
        let name = format!("orders/0-{i}");
        assert_eq!(store.one(delete("acme", 99, &[&name])).await, [Outcome::Deleted]);
        wanted.remove(&name);
    }
    let pages = store.walk(&everything(), 1_000).await;
    assert!(pages.len() >= 5, "pages are bounded: {}", pages.len());
    assert!(pages.iter().map(|page| page.looked_at).sum::<usize>() >= 10_000, "tombstones are looked at, too");
    assert_eq!(names(&pages), wanted.keys().cloned().collect());
    for seen in pages.iter().flat_map(|page| &page.entries) {
        let (of, flow, expires_at_ms, round) = wanted[seen.key.as_str()];
        assert_eq!((seen.account.as_str(), seen.flow.as_str()), (of, flow));
        assert_eq!((seen.expires_at_ms, seen.version), (expires_at_ms, version(5 + round as u64)));
        assert_eq!((seen.payload_bytes, seen.id.clone()), (round as u64 * 200, format!("id-{of}-{}", 5 + round)));
    }
    let count = store.catalog().count().await.expect("the store is healthy");
    assert!((10_000..10_100).contains(&count), "about as many as there are: {count}");

    let choices = [
        Choice { account: Some(account("acme")), ..everything() },
        Choice { flow: Some(Flow::parse("audit").expect("a legal flow")), ..everything() },
        Choice { prefix: "orders/3-9".to_owned(), ..everything() },
        Choice {
            accounts: Accounts::Only([account("globex")].into()),
            flow: Some(Flow::parse("x").expect("a legal flow")),
            ..everything()
        },
        Choice { accounts: Accounts::Only([account("nobody")].into()), ..everything() },
    ];
    for choice in choices {
        let matches = |(name, (of, flow, ..)): &(&String, &(&str, &str, Option<u64>, usize))| {
            choice.accounts.allow(&account(of))
                && choice.account.as_ref().is_none_or(|wanted| wanted.as_str() == *of)
                && choice.flow.as_ref().is_none_or(|wanted| wanted.as_str() == *flow)
                && name.starts_with(&choice.prefix)
        };
        let some: BTreeSet<String> = wanted.iter().filter(matches).map(|(name, _)| name.clone()).collect();
        assert_eq!(names(&store.walk(&choice, 700).await), some, "{choice:?}");
    }
}

pub async fn a_prefix_stands_for_itself_whatever_it_holds(store: &Halves) {
    let keys = ["a*b", "a?b", "axb", "[a]c", "ac", "a\\", "a", "{}", "\u{e9}t\u{e9}", "^"];
    assert_eq!(store.one(put("acme", 5, &keys)).await, vec![Outcome::Written; keys.len()]);
    for prefix in ["", "a", "a*", "a?b", "[", "[a]", "a\\", "{", "\u{e9}", "^", "b", "\u{10ffff}"] {
        let wanted: BTreeSet<String> =
            keys.iter().filter(|name| name.starts_with(prefix)).map(ToString::to_string).collect();
        let choice = Choice { prefix: prefix.to_owned(), ..everything() };
        assert_eq!(names(&store.walk(&choice, 3).await), wanted, "{prefix:?}");
    }
}

pub async fn what_stays_during_a_walk_is_in_it_whatever_comes_and_goes(store: &Halves) {
    let stay: Vec<String> = (0..2_000).map(|i| format!("stay-{i}")).collect();
    let stay: Vec<&str> = stay.iter().map(String::as_str).collect();
    for keys in stay.chunks(500) {
        assert!(store.one(put("acme", 5, keys)).await.iter().all(|outcome| *outcome == Outcome::Written));
    }
    let mut pages = vec![store.page(&everything(), None, 100).await];
    let mut turn = 0;
    while let Some(from) = pages.last().and_then(|page| page.next.clone()) {
        // The store grows to several times its size, and shrinks again.
        let come: Vec<String> = (0..500).map(|i| format!("come-{}-{i}", turn % 10)).collect();
        let come: Vec<&str> = come.iter().map(String::as_str).collect();
        turn += 1;
        let write = if turn % 20 < 10 { put("acme", turn, &come) } else { delete("acme", turn, &come) };
        store.one(write).await;
        pages.push(store.page(&everything(), Some(&from), 100).await);
    }
    let seen = names(&pages);
    let missing: Vec<_> = stay.iter().filter(|name| !seen.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

pub async fn a_walk_for_some_accounts_tells_nothing_of_others(store: &Halves) {
    let theirs: Vec<String> = (0..3_000).map(|i| format!("key-{i:04}-theirs")).collect();
    let theirs: Vec<&str> = theirs.iter().map(String::as_str).collect();
    for keys in theirs.chunks(1_000) {
        store.one(put("globex", 5, keys)).await;
    }
    let mine = ["a-mine", "key-1000-mine", "key-1001-mine", "z-mine"];
    store.one(put("acme", 5, &mine)).await;
    let choice = Choice { accounts: Accounts::Only([account("acme")].into()), ..everything() };
    let pages = store.walk(&choice, 10).await;
    assert_eq!(names(&pages), mine.iter().map(ToString::to_string).collect());
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    for Cursor(text) in pages.iter().filter_map(|page| page.next.as_ref()) {
        assert!(!text.contains("theirs") && !text.contains(&hex("theirs")), "{text}");
    }
}

pub async fn a_cursor_of_nobodys_is_refused(store: &Halves) {
    let keys: Vec<String> = (0..300).map(|i| format!("key-{i}")).collect();
    store.one(put("acme", 5, &keys.iter().map(String::as_str).collect::<Vec<_>>())).await;
    let page = store.page(&everything(), None, 10).await;
    let right = page.next.expect("there are more");
    assert!(store.page(&everything(), Some(&right), 10).await.looked_at > 0);
    for wrong in ["", " ", "0", "0.", "1.5", "0.-1", "k", "k6", "kzz", "kff", "k00", "*", &format!("{} ", right.0)] {
        let cursor = Cursor(wrong.to_owned());
        let result = store.catalog().page(&everything(), Some(&cursor), 10, now_ms()).await;
        assert_eq!(result.err(), Some(PageError::Cursor), "{wrong:?}");
    }
    // One of the other kind of store.
    let foreign = if right.0.starts_with('k') { "0.17" } else { "k6b" };
    let result = store.catalog().page(&everything(), Some(&Cursor(foreign.to_owned())), 10, now_ms()).await;
    assert_eq!(result.err(), Some(PageError::Cursor));
}

pub async fn one_entry_is_found_without_its_payload(store: &Halves) {
    assert_eq!(store.seen("k").await, None);
    let longest = "x".repeat(128);
    let write = in_flow(put_payload(&longest, 5, &["k"], "p".repeat(100_000)), &longest);
    assert_eq!(store.one(Write { id: "i".repeat(128), ..write }).await, [Outcome::Written]);
    let (seen, entry) = (store.seen("k").await.expect("it is there"), store.get("k").await.expect("it is there"));
    assert_eq!((seen.account, seen.flow, seen.id), (entry.account, entry.flow, entry.id));
    assert_eq!((seen.version, seen.expires_at_ms), (entry.version, entry.expires_at_ms));
    assert_eq!((seen.key, seen.payload_bytes), (key("k"), 100_000));
    store.one(delete(&longest, 6, &["k"])).await;
    assert_eq!(store.seen("k").await, None, "a tombstone is no entry");
}

pub async fn what_was_removed_stays_away_and_what_is_newer_comes_in(store: &Halves) {
    assert_eq!(store.one(put("acme", 5, &["k"])).await, [Outcome::Written]);
    let change = store.seen("k").await.expect("it is there").change(To::Gone);
    assert_eq!(store.change(std::slice::from_ref(&change)).await, [Changed::Removed]);
    assert_eq!((store.get("k").await, store.seen("k").await), (None, None));
    assert_eq!(store.one(put("acme", 5, &["k"])).await, [Outcome::Duplicate], "the same event once more");
    assert_eq!(store.one(put_until("acme", 5, &["k"], None)).await, [Outcome::Duplicate]);
    for of in ["acme", "other"] {
        assert_eq!(store.one(put(of, 4, &["k"])).await, [Outcome::Superseded], "{of}");
    }
    assert_eq!(store.get("k").await, None);
    assert_eq!(store.change(std::slice::from_ref(&change)).await, [Changed::Superseded], "there is nothing to remove");
    assert_eq!(store.one(put("other", 6, &["k"])).await, [Outcome::Written], "it owns nothing");
    assert_eq!(store.change(&[change]).await, [Changed::Superseded]);
    assert_eq!(store.payload("k").await.as_deref(), Some("{\"other\":6}"));
}

pub async fn an_expiry_is_rewritten_and_nothing_else_is(store: &Halves) {
    let huge = format!("\"{}\"", "x".repeat(1_000_000));
    assert_eq!(store.one(put_payload("acme", 5, &["k"], huge)).await, [Outcome::Written]);
    let before = store.get("k").await.expect("it is there");
    let seen = store.seen("k").await.expect("it is there");
    for expires_at_ms in [Some(now_ms() + DAY), Some(now_ms() + 100 * DAY), None, Some(now_ms() + DAY)] {
        for _ in 0..2 {
            assert_eq!(store.change(&[seen.change(To::ExpireAt(expires_at_ms))]).await, [Changed::Rewritten]);
            let now = store.get("k").await.expect("it is there");
            assert_eq!((now.expires_at_ms, &now.payload), (expires_at_ms, &before.payload));
            assert_eq!((now.version, &now.account, &now.flow), (before.version, &before.account, &before.flow));
            assert_eq!(now.id, before.id);
        }
        assert_eq!(store.one(put_until("acme", 5, &["k"], Some(now_ms() + 5 * DAY))).await, [Outcome::Duplicate]);
        assert_eq!(
            store.get("k").await.expect("it is there").expires_at_ms,
            expires_at_ms,
            "a duplicate extends nothing"
        );
    }
    assert_eq!(store.one(put("acme", 6, &["k"])).await, [Outcome::Written], "newer still wins");

    // It is gone at its new end, though not before it, and though it had no end at all; and at that end alone.
    let until = now_ms() + 4_000;
    assert_eq!(store.one(put_until("acme", 5, &["soon"], None)).await, [Outcome::Written]);
    assert_eq!(store.one(put_until("acme", 5, &["kept"], Some(until))).await, [Outcome::Written]);
    let (soon, kept) = (store.seen("soon").await.expect("it is there"), store.seen("kept").await.expect("it is there"));
    let changes = [soon.change(To::ExpireAt(Some(until))), kept.change(To::ExpireAt(Some(until + DAY)))];
    assert_eq!(store.change(&changes).await, [Changed::Rewritten; 2]);
    eventually("the entry's end", || async { store.get("soon").await.is_none().then_some(()) }).await;
    assert!(now_ms() >= until, "it ended too soon");
    assert_eq!(store.one(put("other", 1, &["soon"])).await, [Outcome::Written], "guard and ownership end with it");
    // An embedded store makes room for what has ended once a second, beside a write.
    eventually("some time to make room", || async { (now_ms() > until + 1_500).then_some(()) }).await;
    store.one(put("acme", 5, &["another"])).await;
    assert_eq!(store.get("kept").await.expect("it is there").expires_at_ms, Some(until + DAY));
}

pub async fn an_expiry_in_the_past_removes_and_guards(store: &Halves) {
    assert_eq!(store.one(put("acme", 5, &["k"])).await, [Outcome::Written]);
    let seen = store.seen("k").await.expect("it is there");
    assert_eq!(store.change(&[seen.change(To::ExpireAt(Some(now_ms())))]).await, [Changed::Removed]);
    assert_eq!(store.get("k").await, None);
    assert_eq!(store.one(put("acme", 5, &["k"])).await, [Outcome::Duplicate]);
    assert_eq!(store.one(put("acme", 4, &["k"])).await, [Outcome::Superseded]);
}

pub async fn a_change_is_made_only_to_what_was_seen(store: &Halves) {
    assert_eq!(store.one(put("acme", 5, &["newer", "gone", "same", "never-was"])).await, [Outcome::Written; 4]);
    let of = |name: &str| Change { key: key(name), account: account("acme"), version: version(5), to: To::Gone };
    store.one(put("acme", 6, &["newer"])).await;
    store.one(delete("acme", 6, &["gone"])).await;
    // The same event of another account: an entry that expired in between makes room for it.
    let foreign = Change { account: account("acm"), ..of("same") };
    let longer = Change { account: account("acmee"), ..of("same") };
    let older = Change { version: version(4), ..of("same") };
    let changes = [of("newer"), of("gone"), foreign, longer, older, of("absent")];
    for to in [To::Gone, To::ExpireAt(None), To::ExpireAt(Some(now_ms() + DAY)), To::ExpireAt(Some(1))] {
        let changes: Vec<Change> = changes.iter().cloned().map(|change| Change { to, ..change }).collect();
        assert_eq!(store.change(&changes).await, [Changed::Superseded; 6], "{to:?}");
    }
    assert_eq!(store.payload("newer").await.as_deref(), Some("{\"acme\":6}"));
    assert_eq!(store.payload("same").await.as_deref(), Some("{\"acme\":5}"));
    let (gone, absent) = (store.get("gone").await, store.get("absent").await);
    assert_eq!((gone, absent), (None, None));
    assert_eq!(store.one(put("other", 1, &["absent"])).await, [Outcome::Written], "nothing was left there");
}

pub async fn changes_have_one_result_each_in_order(store: &Halves) {
    assert!(store.change(&[]).await.is_empty());
    let keys: Vec<String> = (0..500).map(|i| format!("key-{i}")).collect();
    store.one(put("acme", 5, &keys.iter().map(String::as_str).collect::<Vec<_>>())).await;
    let mut wanted = Vec::new();
    let mut changes = Vec::new();
    for (i, name) in keys.iter().enumerate() {
        let (to, changed) = match i % 3 {
            0 => (To::Gone, Changed::Removed),
            1 => (To::ExpireAt(None), Changed::Rewritten),
            _ => (To::Gone, Changed::Superseded),
        };
        let time = if i % 3 == 2 { 4 } else { 5 };
        changes.push(Change { key: key(name), account: account("acme"), version: version(time), to });
        wanted.push(changed);
    }
    assert_eq!(store.change(&changes).await, wanted);
    let kept = names(&store.walk(&everything(), 100).await);
    assert_eq!(kept.len(), 333, "a third is gone");
}

/// Writers set ever newer events, while one walks and removes, and another rewrites. What was acknowledged last is there,
/// or was removed by someone who saw it.
pub async fn changes_that_race_with_sets_never_lose_the_newer(store: &Halves) {
    const KEYS: usize = 30;
    const ROUNDS_MIN: u64 = 150;
    let start = Instant::now();
    // Changes that were made, removed and rewritten: the writers go on until there are some of each.
    let made = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let names: Vec<String> = (0..KEYS).map(|i| format!("key-{i}")).collect();
    let mut writers = tokio::task::JoinSet::new();
    for part in names.chunks(KEYS / 3) {
        let (writer, names, made) = (store.writer.clone(), part.to_vec(), made.clone());
        writers.spawn(async move {
            let mut time = 0;
            while time < ROUNDS_MIN || made.iter().any(|made| made.load(Ordering::Relaxed) == 0) {
                time += 1;
                assert!(start.elapsed() < DEADLINE, "nobody changes anything");
                let keys: Vec<&str> = names.iter().map(String::as_str).collect();
                let results = writer.write(&[put("acme", time, &keys)], now_ms()).await.remove(0);
                assert!(results.iter().all(|result| *result == Ok(Outcome::Written)), "{results:?}");
            }
            names.into_iter().map(|name| (name, time)).collect::<Vec<_>>()
        });
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut walkers = tokio::task::JoinSet::new();
    for rewrites in [false, true] {
        let (catalog, stopped, made) = (store.catalog(), stopped.clone(), made.clone());
        walkers.spawn(async move {
            let mut done: Vec<(WebhookKey, u64, Changed)> = Vec::new();
            while !*stopped.borrow() {
                let page = catalog.page(&everything(), None, 100, now_ms()).await.expect("the store is healthy");
                // Time for the writers to come in between what was seen and what is done.
                tokio::task::yield_now().await;
                let to = if rewrites { To::ExpireAt(Some(now_ms() + DAY)) } else { To::Gone };
                let changes: Vec<Change> = page.entries.iter().map(|seen| seen.change(to)).collect();
                for (change, result) in changes.iter().zip(catalog.change(&changes, now_ms()).await) {
                    let changed = result.expect("the store is healthy");
                    if changed != Changed::Superseded {
                        made[usize::from(rewrites)].fetch_add(1, Ordering::Relaxed);
                    }
                    done.push((change.key.clone(), change.version.time_ms(), changed));
                }
            }
            done
        });
    }
    let last: Vec<(String, u64)> = writers.join_all().await.into_iter().flatten().collect();
    stop.send_replace(true);
    let done: Vec<_> = walkers.join_all().await.into_iter().flatten().collect();
    let mut removed: HashMap<&WebhookKey, u64> = HashMap::new();
    for (key, time, _) in done.iter().filter(|(.., changed)| *changed == Changed::Removed) {
        let held = removed.entry(key).or_default();
        *held = (*time).max(*held);
    }
    for (name, last) in last {
        match store.get(&name).await {
            Some(entry) => {
                assert_eq!(entry.version.time_ms(), last, "{name}");
                assert_eq!(entry.payload, format!("{{\"acme\":{last}}}"), "{name}");
            }
            None => assert_eq!(removed.get(&key(&name)), Some(&last), "{name} was removed by one who saw it"),
        }
    }
}

/// What can't be read is told apart from what is not there. Only for stores that others can write to.
pub fn is_unreadable(found: &Result<Option<Seen>, ReadError>) -> bool {
    matches!(found, Err(ReadError::Unreadable(_)))
}
