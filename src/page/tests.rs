use super::*;
use crate::envelope::limits::WIRE_BYTES_MAX;
use crate::envelope::{Action, Envelope, Version, wire};
use crate::extract::{Extraction, Flaw, FlawKind, Kind, Link, Origin};

const NOW: u64 = 1_767_225_600_000;

fn site() -> SiteId {
    SiteId::parse("acme").unwrap()
}

fn account() -> Account {
    Account::parse("a").unwrap()
}

fn stamp() -> Stamp {
    Stamp { id: "018f0000-0000-7000-8000-000000000001".into(), at_ms: NOW }
}

fn facts() -> PageFacts {
    PageFacts { id: 42, title: "Home".into(), space: Some("DOC".into()), version: 7, status: Status::Current }
}

fn home(archived: Archived) -> Home {
    let (base_url, other_urls) = ("https://acme.example/wiki".to_owned(), vec!["https://old.example/wiki".to_owned()]);
    Home { site: site(), account: account(), base_url, other_urls, archived }
}

fn link(kind: Kind, url: &str, position: u32) -> Link {
    let url = Some(url.to_owned());
    Link { kind, url, target: None, text: None, origin: Origin::A, anchor: None, count: 1, position }
}

fn decoded(wire: &WireForm) -> Envelope {
    wire::decode(&wire.body, NOW).unwrap_or_else(|poison| panic!("{poison:?}: {:?}", wire.body))
}

fn payload(wire: &WireForm) -> String {
    let Action::Set { payload, .. } = decoded(wire).action else { panic!("a set") };
    String::from_utf8(payload.to_vec()).unwrap()
}

#[test]
fn a_page_is_stored_under_its_key_with_its_version_before_the_time_of_its_fetch() {
    let body = r#"<p><a href="https://old.example/wiki/x/TQBFJ">tiny</a> <a href="https://e.example/">e</a></p>"#;
    let wire = home(Archived::Hide).envelope(stamp(), &facts(), body, NOW - 5).unwrap();
    let envelope = decoded(&wire);
    assert_eq!((wire.id.as_str(), wire.account.as_str()), (&*stamp().id, "a"));
    assert_eq!(envelope.keys, [key_of(&site(), 42)]);
    assert_eq!(envelope.keys[0].as_str(), "confluence:acme:page:42");
    assert_eq!(envelope.by, "source:confluence");
    assert_eq!((envelope.version.order(), envelope.version.time_ms()), (7, NOW - 5));
    let want = r#"{"page":{"id":"42","title":"Home","space":"DOC","version":7,"status":"current",
        "indexedAt":"2025-12-31T23:59:59.995Z"},"links":[
        {"kind":"internal","url":"https://old.example/wiki/x/TQBFJ","target":{"id":"608501837"},"text":"tiny",
         "origin":"a","count":1,"position":0},
        {"kind":"external","url":"https://e.example/","text":"e","origin":"a","count":1,"position":1}]}"#;
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(value(&payload(&wire)), value(want));
}

#[test]
fn a_later_read_wins_only_within_one_version() {
    let at = |version, read_at_ms| {
        let page = PageFacts { version, ..facts() };
        decoded(&stored(stamp(), &site(), &account(), &page, &Extraction::default(), read_at_ms)).version
    };
    assert!(at(7, NOW) > at(7, NOW - 1));
    assert!(at(8, NOW - 1) > at(7, NOW));
    let gone = decoded(&dropped(stamp(), &site(), &account(), 42, 7, NOW)).version;
    assert!(gone > at(7, NOW - 1) && gone < at(8, NOW - 1));
}

#[test]
fn an_archived_page_is_dropped_where_the_operator_wants_it() {
    let archived = PageFacts { status: Status::Archived, ..facts() };
    for (policy, shown) in [(Archived::Hide, false), (Archived::Keep, true)] {
        let wire = home(policy).envelope(stamp(), &archived, "", NOW).unwrap();
        let payload = payload(&wire);
        assert_eq!(StoredPage::parse(payload.as_bytes()).unwrap().status, Status::Archived);
        assert_eq!(policy.shows(Status::Archived), shown);
        assert!(policy.shows(Status::Current) && !policy.shows(Status::Trashed));
    }
    let dropped = home(Archived::Drop).envelope(stamp(), &archived, "", NOW).unwrap();
    assert_eq!(decoded(&dropped).action, Action::Delete);
}

#[test]
fn as_many_links_as_fit_are_kept_and_the_payload_says_so() {
    let long = "x".repeat(500);
    let links = (0..10_000).map(|n| link(Kind::External, &format!("https://e.example/{n}/{long}"), n)).collect();
    let flaws = vec![Flaw { kind: FlawKind::Syntax, at: 3 }];
    let wire = stored(stamp(), &site(), &account(), &facts(), &Extraction { links, flaws }, NOW);
    assert!(wire.body.len() <= WIRE_BYTES_MAX && wire.body.len() > WIRE_BYTES_MAX - 1_000, "{}", wire.body.len());
    let payload = payload(&wire);
    let page = StoredPage::parse(payload.as_bytes()).unwrap();
    assert!(page.page.contains(r#""flaws":["syntax","does-not-fit"]"#), "{}", page.page);
    let kept = page.links(&[], 0, 10_000).unwrap();
    assert!(kept.links.len() > 1_500 && kept.links.len() < 10_000 && kept.next.is_none());
}

#[test]
fn a_payload_fits_to_the_last_byte() {
    let of = |length: usize| {
        let links = vec![link(Kind::External, &"x".repeat(length), 0)];
        stored(stamp(), &site(), &account(), &facts(), &Extraction { links, flaws: vec![] }, NOW)
    };
    let spare = WIRE_BYTES_MAX - of(0).body.len();
    let cut = |wire: &WireForm| payload(wire).contains(DOES_NOT_FIT);
    let most = (0..=spare).rev().find(|length| !cut(&of(*length))).unwrap();
    // The room for the flaw is kept in any case.
    assert!(most + r#","flaws":["does-not-fit"]"#.len() >= spare, "{most} of {spare}");
    assert!(cut(&of(most + 1)) && !cut(&of(most)));
}

#[test]
fn what_a_queue_does_not_carry_is_escaped_and_means_the_same() {
    let title = "a\u{FFFE}\u{FFFF}\u{0}\u{7}\"\\\u{2028}".to_owned();
    let page = PageFacts { title: title.clone(), space: Some("\u{FFFF}".into()), ..facts() };
    let links = Extraction { links: vec![link(Kind::Other, "tel:\u{FFFE}\u{1}", 0)], flaws: vec![] };
    let value: serde_json::Value =
        serde_json::from_str(&payload(&stored(stamp(), &site(), &account(), &page, &links, NOW))).unwrap();
    assert_eq!((&value["page"]["title"], &value["links"][0]["url"]), (&title.into(), &"tel:\u{FFFE}\u{1}".into()));
}

#[test]
fn a_title_of_megabytes_is_cut() {
    let page = PageFacts { title: "\u{1F980}".repeat(2_000_000), space: Some("s".repeat(2_000_000)), ..facts() };
    let wire = stored(stamp(), &site(), &account(), &page, &Extraction::default(), NOW);
    let value: serde_json::Value = serde_json::from_str(&payload(&wire)).unwrap();
    assert_eq!(value["page"]["title"].as_str().unwrap().chars().count(), NAME_CHARS_MAX);
}

#[test]
fn links_are_picked_by_kind_and_place_as_their_bytes() {
    let kinds = [Kind::External, Kind::Image, Kind::External, Kind::Mail, Kind::External, Kind::Image];
    let links = kinds.iter().zip(0..).map(|(kind, n)| link(*kind, &format!("u{n}"), n)).collect();
    let wire = stored(stamp(), &site(), &account(), &facts(), &Extraction { links, flaws: vec![] }, NOW);
    let payload = payload(&wire);
    let page = StoredPage::parse(payload.as_bytes()).unwrap();
    let urls = |kinds: &[Kind], from, limit| {
        let kept = page.links(kinds, from, limit).unwrap();
        let url =
            |link: &&str| serde_json::from_str::<serde_json::Value>(link).unwrap()["url"].as_str().unwrap().into();
        (kept.links.iter().map(url).collect::<Vec<String>>().join(" "), kept.next)
    };
    assert_eq!(urls(&[], 0, 100), ("u0 u1 u2 u3 u4 u5".into(), None));
    assert_eq!(urls(&[], 0, 6), ("u0 u1 u2 u3 u4 u5".into(), None));
    assert_eq!(urls(&[], 4, 1), ("u4".into(), Some(5)));
    assert_eq!(urls(&[Kind::External], 0, 2), ("u0 u2".into(), Some(4)));
    assert_eq!(urls(&[Kind::External], 4, 2), ("u4".into(), None));
    assert_eq!(urls(&[Kind::Image, Kind::Mail], 0, 9), ("u1 u3 u5".into(), None));
    assert_eq!(urls(&[Kind::Jira], 0, 9), (String::new(), None));
    assert_eq!(urls(&[], 99, 9), (String::new(), None));
}

#[test]
fn a_foreign_payload_is_no_page() {
    for payload in ["", "[]", "{}", r#"{"page":{},"links":[]}"#, r#"{"page":{"version":1,"status":"odd"},"links":[]}"#]
    {
        assert!(StoredPage::parse(payload.as_bytes()).is_none(), "{payload}");
    }
    let odd = br#"{"page":{"version":1,"status":"current"},"links":{}}"#;
    assert_eq!(StoredPage::parse(odd).unwrap().links(&[], 0, 1), None);
}

#[test]
fn what_is_told_of_an_index_is_read_again() {
    for index in [
        IndexFacts { complete: true, last_reindex_ms: Some(NOW - 3) },
        IndexFacts { complete: false, last_reindex_ms: None },
    ] {
        let wire = index_stored(stamp(), &site(), &account(), &index);
        let envelope = decoded(&wire);
        assert_eq!(envelope.keys[0].as_str(), "confluence:acme:index");
        assert_eq!(envelope.version, Version::of_arrival(0, NOW, &stamp().id));
        assert_eq!(IndexFacts::parse(payload(&wire).as_bytes()), Some(index));
    }
    let later = Stamp { at_ms: NOW + 1, ..stamp() };
    let gone = decoded(&index_dropped(later, &site(), &account()));
    assert!(gone.version > Version::of_arrival(0, NOW, &stamp().id));
    assert_eq!(gone.action, Action::Delete);
}

#[test]
fn a_site_with_the_longest_name_has_keys() {
    let site = SiteId::parse(&"s".repeat(128)).unwrap();
    assert!(key_of(&site, u64::MAX).as_str().ends_with(&format!(":page:{}", u64::MAX)));
    assert!(index_key_of(&site).as_str().ends_with(":index"));
}
