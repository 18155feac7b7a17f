//! Pages: the parts of the contract that are about them.

use hookcache::page::Status;
use hookcache::registry::{Fetched, PageRow, TEXT_CHARS_MAX};
use hookcache::source::confluence::EventName;

use super::{FOR_EVER, Pair, joined, read};

fn failed(at_ms: u64, result: &str) -> Fetched {
    Fetched { at_ms, result: result.to_owned() }
}

pub async fn what_is_older_never_overwrites_what_is_newer(Pair { one, other }: Pair) {
    let acme = joined(&one, "acme").await;
    one.note_event(&acme, 1, EventName::PageUpdated, 20).await.unwrap();
    other.note_event(&acme, 1, EventName::PageCreated, 10).await.unwrap();
    one.note_read(&acme, &[read(1, 5, 200)]).await.unwrap();
    other.note_read(&acme, &[PageRow { status: None, sweep: 3, ..read(1, 4, 100) }]).await.unwrap();
    let kept = one.page(&acme, 1).await.unwrap().unwrap();
    let expected = PageRow { last_event: Some((EventName::PageUpdated, 20)), sweep: 3, ..read(1, 5, 200) };
    assert_eq!(kept, expected);
    assert_eq!(one.site(&acme).await.unwrap().unwrap().last_event_ms, Some(20));

    // A later fetch wins; only version and sweep never fall.
    one.note_read(&acme, &[PageRow { status: Some(Status::Archived), ..read(1, 2, 300) }]).await.unwrap();
    let kept = other.page(&acme, 1).await.unwrap().unwrap();
    assert_eq!((kept.version, kept.status, kept.sweep), (5, Some(Status::Archived), 3));
    assert_eq!(kept.last_event, Some((EventName::PageUpdated, 20)));
}

pub async fn a_failed_fetch_hides_nothing_that_was_read(Pair { one, .. }: Pair) {
    let acme = joined(&one, "acme").await;
    one.note_failed(&acme, 1, &failed(50, "429")).await.unwrap();
    // A fetch that began earlier and ended well, after it.
    one.note_read(&acme, &[read(1, 7, 40)]).await.unwrap();
    let kept = one.page(&acme, 1).await.unwrap().unwrap();
    assert_eq!((kept.version, kept.last_fetch), (7, Some(failed(50, "429"))));
    one.note_failed(&acme, 1, &failed(45, "older")).await.unwrap();
    one.note_failed(&acme, 1, &failed(60, "503")).await.unwrap();
    let kept = one.page(&acme, 1).await.unwrap().unwrap();
    assert_eq!(kept, PageRow { last_fetch: Some(failed(60, "503")), ..read(1, 7, 40) });
    one.note_failed(&acme, 2, &failed(60, "503")).await.unwrap();
    let bare = one.page(&acme, 2).await.unwrap().unwrap();
    assert_eq!((bare.version, bare.status, bare.title.as_str()), (0, None, ""));
}

pub async fn what_is_on_its_way_raises_the_version_and_is_not_yet_read(Pair { one, other }: Pair) {
    let acme = joined(&one, "acme").await;
    // A page of which nothing is known: it may be stored from now on, and is not there yet.
    one.note_on_its_way(&acme, &[read(1, 3, 40), read(2, 3, 40)]).await.unwrap();
    let kept = other.page(&acme, 1).await.unwrap().unwrap();
    let expected = PageRow { version: 3, last_fetch: Some(failed(40, Fetched::ON_ITS_WAY)), ..PageRow::unread(1) };
    assert_eq!((kept.may_be_stored(), kept), (true, expected));
    assert_eq!(one.pages_known(&acme).await.unwrap(), 0);
    assert_eq!(one.pages_unmet(&acme, 1, 0, 9).await.unwrap().len(), 2);
    one.note_read(&acme, &[read(1, 3, 40)]).await.unwrap();
    assert_eq!(one.page(&acme, 1).await.unwrap().unwrap(), read(1, 3, 40));

    // What is no news changes nothing; a higher version hides that the lower one was read well, and nothing else.
    one.note_on_its_way(&acme, &[read(1, 3, 50)]).await.unwrap();
    assert_eq!(one.page(&acme, 1).await.unwrap().unwrap(), read(1, 3, 40));
    one.note_on_its_way(&acme, &[read(1, 4, 30)]).await.unwrap();
    let kept = one.page(&acme, 1).await.unwrap().unwrap();
    assert_eq!(kept, PageRow { version: 4, last_fetch: Some(failed(40, Fetched::ON_ITS_WAY)), ..read(1, 3, 40) });

    // A page that was dropped comes back, unless it was found to be gone since.
    one.note_read(&acme, &[read(1, 4, 60).gone(60)]).await.unwrap();
    one.note_on_its_way(&acme, &[read(1, 4, 50)]).await.unwrap();
    assert!(!one.page(&acme, 1).await.unwrap().unwrap().may_be_stored());
    one.note_on_its_way(&acme, &[read(1, 4, 70)]).await.unwrap();
    assert!(one.page(&acme, 1).await.unwrap().unwrap().may_be_stored());
    one.note_read(&acme, &[read(2, 3, 80).gone(80)]).await.unwrap();
    let unmet = one.pages_unmet(&acme, 1, 0, 9).await.unwrap();
    assert_eq!(unmet.iter().map(|row| row.page).collect::<Vec<_>>(), [1]);
}

pub async fn a_batch_may_name_a_page_twice_and_have_any_length(Pair { one, .. }: Pair) {
    let acme = joined(&one, "acme").await;
    let mut rows: Vec<PageRow> = (1..=350).rev().map(|page| read(page, 1, 100)).collect();
    rows.push(PageRow { sweep: 9, ..read(5, 8, 90) });
    rows.push(read(6, 8, 110));
    one.note_read(&acme, &rows).await.unwrap();
    one.note_read(&acme, &[]).await.unwrap();
    let all: Vec<u64> = (0..=360).collect();
    let mut found = one.pages(&acme, &all).await.unwrap();
    found.sort_by_key(|row| row.page);
    assert_eq!(found.iter().map(|row| row.page).collect::<Vec<_>>(), (1..=350).collect::<Vec<_>>());
    assert_eq!((found[4].version, found[4].title.as_str(), found[4].sweep), (8, "version 1", 9));
    assert_eq!(found[5].version, 8);
    assert_eq!(one.pages(&acme, &[]).await.unwrap(), []);
    assert_eq!(one.pages_known(&acme).await.unwrap(), 350);
}

pub async fn texts_of_every_kind_are_kept(Pair { one, .. }: Pair) {
    let acme = joined(&one, "acme").await;
    let row = |page, title: &str| PageRow { title: title.to_owned(), ..read(page, 1, 1) };
    let titles = ["", "'; DROP TABLE sites; --", "$1 ?1 {}", "\u{1F980} \u{e4}\u{0301}", "a\r\nb\tc \u{7f}\\"];
    for (page, title) in (1..).zip(titles) {
        one.note_read(&acme, &[row(page, title)]).await.unwrap();
        assert_eq!(one.page(&acme, page).await.unwrap().unwrap().title, title);
    }
    // PostgreSQL has no NUL, and nobody needs a longer title.
    let long = "\u{1F980}".repeat(TEXT_CHARS_MAX);
    let key = "k".repeat(5_000);
    let strange = PageRow { space_key: Some(key.clone()), ..row(90, &format!("\0{long}")) };
    one.note_read(&acme, &[strange]).await.unwrap();
    let kept = one.page(&acme, 90).await.unwrap().unwrap();
    assert_eq!(kept.title.chars().count(), TEXT_CHARS_MAX);
    assert!(kept.title.starts_with("\u{FFFD}\u{1F980}"));
    assert_eq!(one.pages_of_space(&acme, Some(&key), None, 0, 9).await.unwrap().len(), 1);
    one.note_failed(&acme, 90, &failed(2, &format!("\0{long}{long}"))).await.unwrap();
    // A number that is no page's is kept as the largest that can be, and is no error.
    one.note_event(&acme, FOR_EVER, EventName::PageCreated, FOR_EVER).await.unwrap();
    assert!(one.page(&acme, FOR_EVER).await.unwrap().is_some());
}

pub async fn pages_come_in_parts_by_space_and_by_sweep(Pair { one, .. }: Pair) {
    let acme = joined(&one, "acme").await;
    let rows: Vec<PageRow> = (1..=30)
        .map(|page| PageRow {
            space_key: (page % 3 != 0).then(|| "DOC".to_owned()),
            space_id: (page % 3 == 0).then_some(7),
            status: Some(Status::Trashed),
            sweep: page % 2,
            ..read(page, 1, 1)
        })
        .map(|row| if row.page == 4 { row.gone(1) } else { row })
        .collect();
    one.note_read(&acme, &rows).await.unwrap();
    let pages = |rows: Vec<PageRow>| rows.into_iter().map(|row| row.page).collect::<Vec<_>>();
    let of_space = |key, id, after| one.pages_of_space(&acme, key, id, after, 4);
    assert_eq!(pages(of_space(Some("DOC"), None, 0).await.unwrap()), [1, 2, 5, 7]);
    assert_eq!(pages(of_space(Some("DOC"), None, 7).await.unwrap()), [8, 10, 11, 13]);
    assert_eq!(pages(of_space(None, Some(7), 20).await.unwrap()), [21, 24, 27, 30]);
    assert_eq!(pages(of_space(Some("DOC"), Some(7), 0).await.unwrap()), [1, 2, 3, 5]);
    assert_eq!(pages(of_space(Some("doc"), None, 0).await.unwrap()), [0; 0]);
    assert_eq!(pages(of_space(None, None, 0).await.unwrap()), [0; 0]);
    assert_eq!(pages(one.pages_unmet(&acme, 1, 0, 3).await.unwrap()), [2, 6, 8]);
    assert_eq!(pages(one.pages_unmet(&acme, 1, 8, 100).await.unwrap()), (10..=30).step_by(2).collect::<Vec<_>>());
    assert_eq!(pages(one.pages_after(&acme, 2, 3).await.unwrap()), [3, 4, 5]);
    assert_eq!(pages(one.pages_after(&acme, 30, 3).await.unwrap()), [0; 0]);
    assert_eq!(one.pages_known(&acme).await.unwrap(), 29);
}

pub async fn rows_of_pages_that_are_gone_go_after_a_while(Pair { one, .. }: Pair) {
    let acme = joined(&one, "acme").await;
    let gone = |page, at_ms| PageRow { status: None, ..read(page, 1, at_ms) };
    let rows: Vec<PageRow> =
        (100..2_300).map(|page| gone(page, 10)).chain([gone(1, 10), gone(2, 50), read(3, 1, 10)]).collect();
    one.note_read(&acme, &rows).await.unwrap();
    one.note_event(&acme, 1, EventName::PageRemoved, 60).await.unwrap();
    assert_eq!(one.prune(50).await.unwrap(), 2_200);
    assert_eq!(one.prune(50).await.unwrap(), 0);
    let left: Vec<u64> = one.pages_after(&acme, 0, 10).await.unwrap().iter().map(|row| row.page).collect();
    assert_eq!(left, [1, 2, 3]);
    assert_eq!(one.prune(61).await.unwrap(), 2);
    assert_eq!(one.pages_after(&acme, 0, 10).await.unwrap().len(), 1);
}

pub async fn of_eight_writers_at_once_the_newest_wins(Pair { one, other }: Pair) {
    let acme = joined(&one, "acme").await;
    let writer = |writer: u64| {
        let registry = if writer.is_multiple_of(2) { one.clone() } else { other.clone() };
        let acme = acme.clone();
        async move {
            for round in 0..10 {
                let at_ms = 100 + round * 8 + writer;
                // Each in another order, so that they meet.
                let mut rows: Vec<PageRow> = (1..=40).map(|page| read(page, at_ms, at_ms)).collect();
                rows.rotate_left(5 * writer as usize);
                registry.note_read(&acme, &rows).await.unwrap();
                registry.note_event(&acme, 1 + writer, EventName::PageUpdated, at_ms).await.unwrap();
            }
        }
    };
    let tasks: Vec<_> = (0..8).map(|n| tokio::spawn(writer(n))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let rows = one.pages_after(&acme, 0, 100).await.unwrap();
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().all(|row| row.version == 179), "{rows:?}");
    assert_eq!(one.site(&acme).await.unwrap().unwrap().last_event_ms, Some(179));
}
