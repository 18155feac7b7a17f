//! The links of a page over real sockets, from what the store holds: what is told, to whom, and in which parts.

use hookcache::auth::{Policy, Scope};
use hookcache::envelope::{Account, Action, Clock, Envelope, Flow, SiteId, Stamp, WireForm, wire};
use hookcache::extract::Kind;
use hookcache::page::{Archived, Home, IndexFacts, PageFacts, Status, index_stored, key_of};
use hookcache::serve::{LINKS_DEFAULT, LINKS_MAX};
use hookcache::store::{Effect, Outcome, Write};
use http::Method;
use serde_json::{Value, json};

use crate::http_api::{Edge, Setup, token};
use crate::support::{Reply, http_get, http_send};

/// 2026-01-01, when a page was read first.
const READ_MS: u64 = 1_767_225_600_000;
const PATH: &str = "/v1/sites/acme/pages/42/links";
/// One link of each of these kinds, in this order.
const BODY: &str = r#"<p><a href="https://example.com/">out</a>
    <ac:link ac:anchor="Two"><ri:page ri:content-title="Next" /></ac:link> <a href="mailto:a@example.com">mail</a>
    <a href="https://example.org/">further</a> <ac:image><ri:attachment ri:filename="map.png" /></ac:image></p>"#;

/// What reads pages, as far as the store sees it.
struct Library {
    edge: Edge,
    home: Home,
}

impl Library {
    async fn open(setup: Setup) -> Self {
        let home = Home {
            site: site("acme"),
            account: Account::parse("acme").expect("a legal name"),
            base_url: "https://acme.example/wiki".to_owned(),
            other_urls: vec![],
            archived: setup.archived,
        };
        Self { edge: Edge::with(setup).await, home }
    }

    /// Keeps page 42 as a read of this moment has found it.
    async fn keep(&self, facts: &PageFacts, body: &str, read_ms: u64) {
        let form = self.home.envelope(stamp(read_ms), facts, body, read_ms).expect("a base URL");
        self.write(form, read_ms).await;
    }

    async fn keep_body(&self, body: &str) {
        self.keep(&facts(), body, READ_MS).await;
    }

    async fn keep_index(&self, complete: bool, last_reindex_ms: u64) {
        let index = IndexFacts { complete, last_reindex_ms: Some(last_reindex_ms) };
        let form = index_stored(stamp(last_reindex_ms), &self.home.site, &self.home.account, &index);
        self.write(form, last_reindex_ms).await;
    }

    async fn write(&self, form: WireForm, now_ms: u64) {
        let Envelope { id, at_ms, account, version, keys, action, .. } =
            wire::decode(&form.body, now_ms).unwrap_or_else(|poison| panic!("{poison:?}"));
        let Action::Set { payload, .. } = action else { panic!("a set") };
        let flow = Flow::parse("page-links").expect("a legal name");
        let effect = Effect::Put { flow, payload, expires_at_ms: None };
        let outcomes = self.edge.writer.write(&[Write { id, at_ms, account, version, keys, effect }], at_ms).await;
        assert_eq!(outcomes, [[Ok(Outcome::Written)]]);
    }

    async fn get(&self, path_and_query: &str) -> Reply {
        http_get(&self.edge.url(path_and_query)).await
    }

    /// Of page 42, with this query.
    async fn links(&self, query: &str) -> Value {
        let reply = self.get(&format!("{PATH}{query}")).await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        reply.json()
    }
}

fn site(name: &str) -> SiteId {
    SiteId::parse(name).expect("a legal name")
}

fn stamp(at_ms: u64) -> Stamp {
    Stamp { id: "018f0000-0000-7000-8000-000000000001".into(), at_ms }
}

fn facts() -> PageFacts {
    PageFacts { id: 42, title: "Home".into(), space: Some("DOC".into()), version: 7, status: Status::Current }
}

/// `count` links elsewhere, each with one to an address behind it.
fn many(count: usize) -> String {
    let link = |n| format!("<a href=\"https://example.com/{n}\">{n}</a> <a href=\"mailto:{n}@example.com\">{n}</a>");
    (0..count).map(link).collect()
}

fn urls(answer: &Value) -> Vec<String> {
    let links = answer["links"].as_array().expect("a list").iter();
    links.map(|link| link["url"].as_str().unwrap_or_default().to_owned()).collect()
}

fn problem(reply: &Reply) -> (u16, String) {
    assert_eq!(reply.header("content-type"), "application/problem+json");
    (reply.status.as_u16(), reply.json()["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn the_links_of_a_page_are_told_with_the_page_and_the_age_of_its_index() {
    let library = Library::open(Setup::default()).await;
    library.keep_body(BODY).await;
    let told = library.get(PATH).await;
    let stored = library.get("/v1/keys/confluence:acme:page:42").await;
    let (answer, payload) = (told.json(), stored.json());
    assert_eq!((&answer["page"], &answer["links"]), (&payload["page"], &payload["links"]));
    assert_eq!(answer["page"]["indexedAt"], "2026-01-01T00:00:00Z");
    assert_eq!(answer["links"].as_array().map(Vec::len), Some(5));
    assert_eq!(answer["next"], Value::Null);
    let unknown = json!({ "complete": false, "lastReindexAt": null, "lagSeconds": null });
    assert_eq!(answer["index"], unknown, "no reindex has ended yet");
    assert_eq!(answer.as_object().map(serde_json::Map::len), Some(4));
    for name in ["content-type", "cache-control", "hookcache-account-id", "hookcache-flow-id", "hookcache-id"] {
        assert_eq!(told.header(name), stored.header(name), "{name}");
    }

    let hour_ago_ms = Clock::system().now_ms() - 3_600_000;
    library.keep_index(true, hour_ago_ms).await;
    let index = library.links("").await["index"].clone();
    assert_eq!(index["complete"], true);
    assert!(index["lastReindexAt"].as_str().is_some_and(|at| at.ends_with('Z')), "{index}");
    assert!(index["lagSeconds"].as_u64().is_some_and(|lag| (3_600..7_200).contains(&lag)), "{index}");
}

#[tokio::test]
async fn a_page_without_links_has_an_empty_list_and_an_unknown_page_is_not_found_like_any_key() {
    let library = Library::open(Setup::default()).await;
    library.keep_body("<p>nothing</p>").await;
    let answer = library.links("").await;
    assert_eq!((&answer["links"], &answer["next"]), (&json!([]), &Value::Null));
    assert_eq!(library.links("?kind=mail").await["links"], json!([]));
    let absent = library.get("/v1/keys/absent").await;
    for path in ["/v1/sites/acme/pages/43/links", "/v1/sites/other/pages/42/links?kind=mail"] {
        let reply = library.get(path).await;
        assert_eq!((reply.status, reply.text()), (absent.status, absent.text()), "{path}");
    }
}

#[tokio::test]
async fn kinds_are_chosen_with_commas_or_by_standing_several_times() {
    let library = Library::open(Setup::default()).await;
    library.keep_body(BODY).await;
    let kinds = async |query: &str| {
        let answer = library.links(query).await;
        let links = answer["links"].as_array().cloned().unwrap_or_default();
        let kinds: Vec<String> =
            links.iter().map(|link| link["kind"].as_str().unwrap_or_default().to_owned()).collect();
        kinds.join(" ")
    };
    let all = "external internal mail external image";
    for (query, want) in [
        ("", all),
        ("?kind=external", "external external"),
        ("?kind=image,internal", "internal image"),
        ("?kind=image%2Cinternal&kind=mail&kind=mail", "internal mail image"),
        ("?kind=jira", ""),
        ("?", all),
        ("?&limit=2&", "external internal"),
    ] {
        assert_eq!(kinds(query).await, want, "{query}");
    }
    let every: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(kinds(&format!("?kind={}", every.join(","))).await, all);
}

#[tokio::test]
async fn a_list_in_parts_holds_every_link_once_and_in_order() {
    let library = Library::open(Setup::default()).await;
    library.keep_body(&many(250)).await;
    let whole = urls(&library.links(&format!("?limit={LINKS_MAX}")).await);
    assert_eq!(whole.len(), 500);
    for (query, limit) in [("", LINKS_DEFAULT), ("&kind=mail", LINKS_DEFAULT), ("&kind=external&limit=7", 7)] {
        let wanted = |url: &&String| {
            (!query.contains("mail") || url.starts_with("mailto:"))
                && (!query.contains("external") || url.starts_with("https:"))
        };
        let wanted: Vec<String> = whole.iter().filter(wanted).cloned().collect();
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let answer = library.links(&format!("?{query}{cursor}")).await;
            let some = urls(&answer);
            assert_eq!(some.len(), limit.min(wanted.len() - all.len()), "{query}");
            all.extend(some);
            let Some(next) = answer["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(all, wanted, "{query}");
    }
    // The last part is full, and is the last all the same; a limit may change on the way.
    let first = library.links("?kind=mail&limit=150").await;
    let cursor = first["next"].as_str().expect("there is more");
    let last = library.links(&format!("?limit=100&cursor={cursor}&kind=mail")).await;
    assert_eq!((urls(&last).len(), &last["next"]), (100, &Value::Null));
}

#[tokio::test]
async fn a_list_goes_on_while_its_links_are_the_same_and_is_refused_once_they_are_not() {
    let library = Library::open(Setup::default()).await;
    library.keep_body(&many(3)).await;
    let begun = library.links("?limit=2").await;
    let path = format!("{PATH}?limit=10&cursor={}", begun["next"].as_str().expect("there is more"));
    // Read again, archived by the way and renamed: another version of the entry, the same links.
    library.keep(&PageFacts { title: "Start".into(), version: 8, ..facts() }, &many(3), READ_MS + 1).await;
    let rest = library.get(&path).await.json();
    assert_eq!((urls(&rest).len(), &rest["page"]["version"]), (4, &8.into()));

    library.keep(&PageFacts { version: 9, ..facts() }, &many(4), READ_MS + 2).await;
    let outdated = library.get(&path).await;
    assert_eq!(problem(&outdated), (410, "cursor-outdated".to_owned()));
    assert!(outdated.text().contains("without cursor"), "{}", outdated.text());
    assert_eq!(urls(&library.links("").await).len(), 8);
    // A page that has lost its links since is no end of the list.
    library.keep(&PageFacts { version: 10, ..facts() }, "<p/>", READ_MS + 3).await;
    assert_eq!(library.get(&path).await.status, 410);
}

#[tokio::test]
async fn a_cursor_of_another_page_or_of_other_kinds_is_refused() {
    let library = Library::open(Setup::default()).await;
    library.keep_body(&many(3)).await;
    library.keep(&PageFacts { id: 43, ..facts() }, &many(3), READ_MS).await;
    let begun = library.links("?limit=2&kind=mail,external").await;
    let cursor = begun["next"].as_str().expect("there is more");
    assert_eq!(library.get(&format!("{PATH}?cursor={cursor}&kind=external&kind=mail")).await.status, 200);
    for path in [
        format!("/v1/sites/acme/pages/43/links?kind=mail,external&cursor={cursor}"),
        format!("{PATH}?cursor={cursor}"),
        format!("{PATH}?kind=mail&cursor={cursor}"),
        format!("{PATH}?kind=mail,external&cursor={}", &cursor[1..]),
        format!("{PATH}?kind=mail,external&cursor={cursor}AAAA"),
        format!("{PATH}?kind=mail,external&cursor=A{}", &cursor[1..]),
        format!("{PATH}?cursor=1"),
    ] {
        let reply = library.get(&path).await;
        assert_eq!(problem(&reply), (400, "invalid-request".to_owned()), "{path}");
        assert_eq!(reply.json()["errors"][0]["pointer"], "/cursor", "{path}");
    }
}

#[tokio::test]
async fn a_reader_that_has_the_page_and_the_index_as_they_are_is_told_so() {
    let library = Library::open(Setup::default()).await;
    library.keep_body(BODY).await;
    library.keep_index(true, READ_MS).await;
    let url = library.edge.url(PATH);
    let ask = async |tags: &str| http_send(Method::GET, &url, &[("if-none-match", tags)], "").await;
    let first = http_get(&url).await;
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with("W/\"") && tag.ends_with('"'), "{tag}");
    // The index grows older all the time, which alone is no news.
    for tags in [tag.clone(), tag.trim_start_matches("W/").to_owned(), format!("\"x\", {tag}"), "*".to_owned()] {
        let reply = ask(&tags).await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (304, 0), "{tags}");
        assert_eq!((reply.header("etag"), reply.header("content-type")), (tag.as_str(), ""));
    }
    library.keep_index(true, READ_MS + 1).await;
    let other_index = ask(&tag).await;
    assert_eq!(other_index.status, 200);
    library.keep(&facts(), BODY, READ_MS + 2).await;
    let other_page = ask(other_index.header("etag")).await;
    assert_eq!(other_page.status, 200);
    assert_eq!(ask(other_page.header("etag")).await.status, 304);
    // What can't be told is not there, whatever a reader has.
    assert_eq!(
        http_send(Method::GET, &format!("{url}?status=trashed"), &[("if-none-match", "*")], "").await.status,
        404
    );
}

#[tokio::test]
async fn a_page_out_of_use_is_told_to_those_who_ask_for_its_status() {
    for archived in [Archived::Hide, Archived::Keep] {
        let library = Library::open(Setup { archived, ..Setup::default() }).await;
        for (n, status) in (0..).zip(Status::ALL) {
            library.keep(&PageFacts { status, ..facts() }, BODY, READ_MS + n).await;
            let by_default = status == Status::Current || status == Status::Archived && archived == Archived::Keep;
            for (query, told) in [
                ("", by_default),
                ("?status=current", status == Status::Current),
                ("?status=archived", status == Status::Archived),
                ("?status=trashed", status == Status::Trashed),
                ("?status=current,archived", status != Status::Trashed),
                ("?status=trashed&status=archived", status != Status::Current),
            ] {
                let reply = library.get(&format!("{PATH}{query}")).await;
                let what = format!("{archived:?} {status:?} {query}: {}", reply.text());
                if told {
                    assert_eq!(
                        (reply.status.as_u16(), &reply.json()["page"]["status"]),
                        (200, &status.as_str().into())
                    );
                    assert_eq!(urls(&reply.json()).len(), 5, "{what}");
                    continue;
                }
                assert_eq!(problem(&reply), (404, "not-found".to_owned()), "{what}");
                assert!(reply.text().contains(&format!("status={}", status.as_str())), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_head_has_the_headers_of_its_get_and_other_methods_are_not_known() {
    let library = Library::open(Setup::default()).await;
    library.keep_body(BODY).await;
    let url = library.edge.url(PATH);
    let (get, head) = (http_get(&url).await, http_send(Method::HEAD, &url, &[], "").await);
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    for name in ["etag", "last-modified", "content-length", "content-type", "cache-control", "hookcache-account-id"] {
        assert!(!get.header(name).is_empty() && get.header(name) == head.header(name), "{name}");
    }
    assert_eq!(get.header("content-length"), get.body.len().to_string());
    let absent = http_send(Method::HEAD, &library.edge.url("/v1/sites/acme/pages/1/links"), &[], "").await;
    assert_eq!((absent.status.as_u16(), absent.body.len()), (404, 0));
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let reply = http_send(method.clone(), &url, &[], "").await;
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, "GET, HEAD"), "{method}");
    }
}

#[tokio::test]
async fn site_and_page_are_percent_decoded_once_and_wrong_parameters_are_named() {
    let mut library = Library::open(Setup::default()).await;
    library.home.site = site("a:b@c");
    library.keep_body(BODY).await;
    for path in ["/v1/sites/a:b@c/pages/42/links", "/v1/sites/a%3Ab%40c/pages/%342/links"] {
        assert_eq!(library.get(path).await.status, 200, "{path}");
    }
    for (path, parameter) in [
        ("/v1/sites/a%253Ab%2540c/pages/42/links", "site"),
        ("/v1/sites/a%2Fb/pages/42/links", "site"),
        ("/v1/sites/%FF/pages/42/links", "site"),
        ("/v1/sites/acme/pages/4x/links", "page"),
        ("/v1/sites/acme/pages/-1/links", "page"),
        ("/v1/sites/acme/pages/99999999999999999999/links", "page"),
        ("/v1/sites/acme/pages/42/links?kind=pictures", "kind"),
        ("/v1/sites/acme/pages/42/links?status=live", "status"),
        ("/v1/sites/acme/pages/42/links?limit=0", "limit"),
        ("/v1/sites/acme/pages/42/links?limit=1001", "limit"),
        ("/v1/sites/acme/pages/42/links?limit=ten", "limit"),
    ] {
        let reply = library.get(path).await;
        assert_eq!(problem(&reply), (400, "invalid-request".to_owned()), "{path}");
        assert_eq!(reply.json()["errors"][0]["pointer"], format!("/{parameter}"), "{path}");
        assert!(reply.json()["detail"].as_str().is_some_and(|detail| detail.starts_with(parameter)), "{path}");
    }
    let unknown = library.get("/v1/sites/acme/pages/42/links?sort=up").await;
    assert_eq!(problem(&unknown), (400, "invalid-request".to_owned()));
    assert!(unknown.text().contains("kind, status, limit, cursor"), "{}", unknown.text());
    assert_eq!(problem(&library.get("/v1/sites/acme/pages/42").await), (404, "no-such-route".to_owned()));
}

#[tokio::test]
async fn a_token_that_is_bound_to_accounts_learns_nothing_of_a_page_of_another() {
    let (acme, of_acme) = token("acme", &[Scope::Get], &["acme"]);
    let (other, of_other) = token("other", &[Scope::Get], &["other"]);
    let (all, of_all) = token("all", &[Scope::Get], &[]);
    let (setter, of_setter) = token("setter", &[Scope::Set], &[]);
    let policy = Policy::Tokens(vec![of_acme, of_other, of_all, of_setter]);
    let library = Library::open(Setup { policy, ..Setup::default() }).await;
    library.keep_body(&many(3)).await;
    library.keep_index(true, READ_MS).await;
    let ask = async |token: &str, path: &str| {
        http_send(Method::GET, &library.edge.url(path), &[("authorization", token)], "").await
    };
    for token in [&acme, &all] {
        let answer = ask(token, PATH).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["index"]["complete"]), (200, &true.into()));
    }
    let begun = ask(&acme, &format!("{PATH}?limit=1")).await.json();
    let cursor = begun["next"].as_str().expect("there is more");
    for query in ["", "?status=archived", "?limit=1", &format!("?cursor={cursor}"), "?kind=mail"] {
        let theirs = ask(&other, &format!("{PATH}{query}")).await;
        let nobodys = ask(&other, &format!("/v1/sites/acme/pages/43/links{}", query.replace(cursor, ""))).await;
        assert_eq!(problem(&theirs), (404, "not-found".to_owned()), "{query}");
        if !query.contains("cursor") {
            assert_eq!(theirs.text(), nobodys.text(), "{query}");
        }
        assert!(theirs.headers.get("etag").is_none() && theirs.headers.get("hookcache-account-id").is_none());
    }
    // A page of another account beside whose index lies one of ours, and the other way round.
    assert_eq!(problem(&ask(&setter, PATH).await), (403, "forbidden-scope".to_owned()));
    assert_eq!(problem(&library.get(PATH).await), (401, "token-required".to_owned()));
    assert_eq!(problem(&ask("Bearer made-up", PATH).await), (401, "token-unknown".to_owned()));
    // Who may not call is told so before anything about the call.
    assert_eq!(library.get(&format!("{PATH}?limit=0")).await.status, 401);
}

#[tokio::test]
async fn the_index_of_another_account_is_not_told() {
    let (acme, of_acme) = token("acme", &[Scope::Get], &["acme"]);
    let policy = Policy::Tokens(vec![of_acme]);
    let mut library = Library::open(Setup { policy, ..Setup::default() }).await;
    library.keep_body(BODY).await;
    library.home.account = Account::parse("other").expect("a legal name");
    library.keep_index(true, READ_MS).await;
    let reply = http_send(Method::GET, &library.edge.url(PATH), &[("authorization", &acme)], "").await;
    let unknown = json!({ "complete": false, "lastReindexAt": null, "lagSeconds": null });
    assert_eq!((reply.status.as_u16(), &reply.json()["index"]), (200, &unknown));
}

#[tokio::test]
async fn a_store_that_is_down_is_503_and_what_page_links_did_not_write_is_500() {
    let mut library = Library::open(Setup::default()).await;
    let key = key_of(&site("acme"), 42);
    for (n, strange) in
        [r#"{"links":[]}"#, r#"{"page":{"version":1,"status":"new"},"links":[]}"#, "[]"].iter().enumerate()
    {
        let version = hookcache::envelope::Version::of_event(n as u64, READ_MS, "e");
        let flow = Flow::parse("page-links").expect("a legal name");
        let effect = Effect::Put { flow, payload: bytes::Bytes::from_static(strange.as_bytes()), expires_at_ms: None };
        let (id, account, keys) = ("i".to_owned(), Account::parse("acme").expect("a legal name"), vec![key.clone()]);
        let write = Write { id, at_ms: READ_MS, account, version, keys, effect };
        assert_eq!(library.edge.writer.write(&[write], READ_MS).await, [[Ok(Outcome::Written)]]);
        assert_eq!(problem(&library.get(PATH).await), (500, "entry-unreadable".to_owned()), "{strange}");
    }
    library.keep(&facts(), BODY, READ_MS).await;
    assert_eq!(library.get(PATH).await.status, 200);
    library.edge.redis.stop();
    for path in [PATH, "/v1/sites/acme/pages/43/links"] {
        let reply = library.get(path).await;
        assert_eq!(problem(&reply), (503, "store-unavailable".to_owned()), "{path}");
        assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{path}");
    }
}
