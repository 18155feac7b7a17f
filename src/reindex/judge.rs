//! What a part of a list means: what of it is unchanged, where the list ends, and when it has no end. Pure.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::confluence::RemotePage;
use crate::registry::{Fetched, PageRow};

/// Parts of a list in a row that name no page which the run has not met before. More than a list needs whose pages the
/// app may not see; a list with more of them goes round in circles.
pub const STALE_PARTS_MAX: u32 = 100;

/// Where a run goes on. The registry keeps it as a text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bookmark {
    /// Where the next part of the list begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Parts in a row without a page that is new to the run.
    pub stale_parts: u32,
    /// The last page of the part before: the next one may begin with some of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// The last page that the list did not name and that was asked for.
    pub swept_to: u64,
}

impl Bookmark {
    /// One that can't be read is that of a version that keeps its place in another way: the run begins anew.
    pub fn read(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }

    /// The bookmark after a part of the list. The error says why the list has no end.
    pub fn turn(&self, next: String, met_new: bool) -> Result<Self, String> {
        if self.next.as_deref() == Some(next.as_str()) {
            return Err("the site's list of pages does not end: a part of it names itself as the next one".to_owned());
        }
        let stale_parts = if met_new { 0 } else { self.stale_parts + 1 };
        if stale_parts > STALE_PARTS_MAX {
            return Err(format!(
                "the site's list of pages does not end: {stale_parts} parts of it in a row named no page that the parts \
                 before had not named"
            ));
        }
        Ok(Self { next: Some(next), stale_parts, last: self.last, swept_to: 0 })
    }

    /// What of a part was not in the part before.
    pub fn unseen(&self, mut pages: Vec<RemotePage>) -> Vec<RemotePage> {
        let seen = pages.iter().position(|page| Some(page.id) == self.last).map_or(0, |at| at + 1);
        pages.drain(..seen);
        pages
    }
}

/// A part of a list, and what was known of its pages.
pub struct Part {
    pub pages: Vec<RemotePage>,
    pub known: HashMap<u64, PageRow>,
}

impl Part {
    pub fn new(pages: Vec<RemotePage>, known: Vec<PageRow>) -> Self {
        Self { pages, known: known.into_iter().map(|row| (row.page, row)).collect() }
    }

    /// Does it name a page that the run of this number has not met?
    pub fn names_new(&self, number: u64) -> bool {
        self.pages.iter().any(|page| self.known.get(&page.id).is_none_or(|row| row.sweep != number))
    }

    pub fn is_unchanged(&self, page: &RemotePage) -> bool {
        self.known.get(&page.id).is_some_and(|row| is_unchanged(row, page))
    }
}

/// Is all that is kept of the page as the site tells it?
pub fn is_unchanged(row: &PageRow, page: &RemotePage) -> bool {
    // A site names a space by id or by key, or both.
    let same_space = (page.space_id.is_none() || page.space_id == row.space_id)
        && (page.space_key.is_none() || page.space_key == row.space_key);
    row.last_fetch.as_ref().is_some_and(|fetched| fetched.result == Fetched::OK)
        && row.version == page.version
        && row.status == Some(page.status)
        && row.title == page.title
        && same_space
}

/// Of pages with the latest change first: those that were changed since the watermark, and whether the rest is older.
pub fn since(watermark_ms: u64, mut pages: Vec<RemotePage>) -> (Vec<RemotePage>, bool) {
    let end = pages.iter().position(|page| page.modified_ms < watermark_ms);
    pages.truncate(end.unwrap_or(pages.len()));
    (pages, end.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Status;

    fn page(id: u64, modified_ms: u64) -> RemotePage {
        RemotePage {
            id,
            title: "Home".to_owned(),
            space_id: Some(7),
            space_key: None,
            version: 3,
            modified_ms,
            status: Status::Current,
            body: None,
            site_url: None,
        }
    }

    fn row(page: &RemotePage, sweep: u64) -> PageRow {
        PageRow {
            page: page.id,
            title: page.title.clone(),
            space_id: page.space_id,
            space_key: Some("DOC".to_owned()),
            version: page.version,
            status: Some(page.status),
            last_event: None,
            last_fetch: Some(Fetched { at_ms: 1, result: Fetched::OK.to_owned() }),
            sweep,
        }
    }

    #[test]
    fn a_page_is_unchanged_while_everything_that_is_kept_of_it_is_the_same() {
        let known = row(&page(1, 0), 0);
        assert!(is_unchanged(&known, &page(1, 99)));
        // Of what these change, only the version moves the date of the last change.
        let changes: [fn(&mut RemotePage); 5] = [
            |page| page.version = 4,
            |page| page.status = Status::Archived,
            |page| page.title = "Start".to_owned(),
            |page| page.space_id = Some(8),
            |page| page.space_key = Some("OPS".to_owned()),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut changed = page(1, 0);
            change(&mut changed);
            assert!(!is_unchanged(&known, &changed), "{n}");
        }
    }

    #[test]
    fn a_page_that_was_not_read_well_last_time_is_not_known_to_be_unchanged() {
        let failed = Fetched { at_ms: 1, result: "503".to_owned() };
        for last_fetch in [None, Some(failed)] {
            assert!(!is_unchanged(&PageRow { last_fetch, ..row(&page(1, 0), 0) }, &page(1, 0)));
        }
        assert!(!is_unchanged(&PageRow { status: None, ..row(&page(1, 0), 0) }, &page(1, 0)));
    }

    #[test]
    fn an_incremental_list_ends_at_the_first_page_that_is_older_than_the_watermark() {
        let ids =
            |(pages, ended): (Vec<RemotePage>, bool)| (pages.iter().map(|page| page.id).collect::<Vec<_>>(), ended);
        let pages = || vec![page(1, 30), page(2, 20), page(3, 19), page(4, 25)];
        assert_eq!(ids(since(20, pages())), (vec![1, 2], true));
        assert_eq!(ids(since(19, pages())), (vec![1, 2, 3, 4], false));
        assert_eq!(ids(since(31, pages())), (vec![], true));
        assert_eq!(ids(since(31, vec![])), (vec![], false));
    }

    #[test]
    fn a_part_is_new_to_a_run_as_long_as_it_has_not_met_all_of_its_pages() {
        let pages = || vec![page(1, 0), page(2, 0)];
        let known = |sweeps: [u64; 2]| vec![row(&page(1, 0), sweeps[0]), row(&page(2, 0), sweeps[1])];
        assert!(Part::new(pages(), vec![]).names_new(5));
        assert!(Part::new(pages(), known([5, 4])).names_new(5));
        assert!(!Part::new(pages(), known([5, 5])).names_new(5));
        assert!(!Part::new(vec![], vec![]).names_new(5));
    }

    #[test]
    fn a_list_that_goes_round_in_circles_is_noticed_and_one_with_gaps_is_not() {
        let mut bookmark = Bookmark::default();
        for n in 0..STALE_PARTS_MAX {
            bookmark = bookmark.turn(n.to_string(), false).unwrap();
        }
        assert_eq!(bookmark.turn("new".to_owned(), true).unwrap().stale_parts, 0);
        assert!(bookmark.turn("more".to_owned(), false).unwrap_err().contains("does not end"));

        let itself = Bookmark { next: Some("a".to_owned()), ..Bookmark::default() };
        assert!(itself.turn("a".to_owned(), true).unwrap_err().contains("does not end"));
    }

    #[test]
    fn what_two_parts_have_in_common_is_told_once() {
        let unseen = |last, pages: &[u64]| {
            let pages = pages.iter().map(|id| page(*id, 0)).collect();
            let unseen = Bookmark { last, ..Bookmark::default() }.unseen(pages);
            unseen.iter().map(|page| page.id).collect::<Vec<_>>()
        };
        assert_eq!(unseen(Some(3), &[2, 3, 4, 5]), [4, 5]);
        assert_eq!(unseen(Some(3), &[2, 3]), [0; 0]);
        // The last one is gone: rather some twice than one never.
        assert_eq!(unseen(Some(3), &[2, 4, 5]), [2, 4, 5]);
        assert_eq!(unseen(None, &[1, 2]), [1, 2]);
    }

    #[test]
    fn a_bookmark_reads_back_and_an_odd_one_begins_anew() {
        let bookmark = Bookmark { next: Some("a\"b".to_owned()), stale_parts: 2, last: Some(7), swept_to: 9 };
        assert_eq!(Bookmark::read(Some(&bookmark.write())), bookmark);
        for odd in [None, Some(""), Some("[]"), Some("{\"swept_to\":\"x\"}")] {
            assert_eq!(Bookmark::read(odd), Bookmark::default());
        }
    }
}
