//! The client of Confluence's REST API, over real sockets: what it asks, as whom, and what it makes of each answer.

use std::time::Duration;

use hookcache::confluence::{
    Access, Confluence, Credential, FetchError, Listing, Options, Order, PAGES_PER_LISTING, Product, RemotePage,
};
use hookcache::envelope::{Clock, SiteId};
use hookcache::jwt;
use hookcache::outbound::{LARGE_BYTES, Limits, Outbound, OutboundError};
use hookcache::page::Status;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::support::confluence::{ConfluenceStandIn, Odd};
use crate::support::process::{Process, Recipe};
use crate::support::{Certificates, DEADLINE, free_port};

/// Far more than a loaded machine needs, and no test waits for it.
fn options() -> Options {
    Options { requests_at_once: 4, requests_per_second: 1_000, request_timeout: DEADLINE, answer_bytes_max: 40 << 20 }
}

fn outbound() -> Outbound {
    Outbound::new(DEADLINE, &[]).expect("no authorities, none wrong")
}

fn client(options: Options) -> Confluence {
    Confluence::new(outbound(), options, Clock::system())
}

fn access(api_base: String, product: Product) -> Access {
    let site = SiteId::parse("acme").expect("a legal name");
    Access { site, product, api_base, credential: Credential::Bearer("t".to_owned()) }
}

/// Both products of one stand-in.
fn both(stand_in: &ConfluenceStandIn) -> [Access; 2] {
    [access(stand_in.cloud(), Product::Cloud), access(stand_in.data_center(), Product::DataCenter)]
}

fn cloud(stand_in: &ConfluenceStandIn) -> Access {
    access(stand_in.cloud(), Product::Cloud)
}

async fn read(client: &Confluence, access: &Access, page: u64) -> RemotePage {
    client.page(access, page).await.expect("an answer").expect("a page")
}

/// All parts of a list, from its start.
async fn all(client: &Confluence, access: &Access, order: Order) -> Vec<RemotePage> {
    let (mut pages, mut from) = (Vec::new(), None);
    loop {
        let listing = client.pages(access, order, from.as_deref()).await.expect("a part of the list");
        assert!(listing.site_time_ms.is_some(), "the stand-in tells its time");
        pages.extend(listing.pages);
        match listing.next {
            Some(next) => from = Some(next),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn a_page_is_read_from_cloud_and_from_data_center() {
    let stand_in = ConfluenceStandIn::start().await;
    stand_in.add_page(42, "Home", "<p>one</p>");
    stand_in.edit(42, "<p>two &amp; \"three\"</p>");
    for access in both(&stand_in) {
        let page = read(&client(options()), &access, 42).await;
        assert_eq!((page.id, page.title.as_str(), page.version), (42, "Home", 2));
        assert_eq!((page.space_id, page.status), (Some(65_634), Status::Current));
        assert_eq!(page.body.as_deref(), Some("<p>two &amp; \"three\"</p>"));
        assert_eq!(page.modified_ms, stand_in.page(42).unwrap().modified_ms);
        assert_eq!(client(options()).page(&access, 43).await, Ok(None));
    }
}

#[tokio::test]
async fn a_page_in_the_trash_is_told_as_such_and_a_draft_is_not_there() {
    let stand_in = ConfluenceStandIn::start().await;
    stand_in.add_page(1, "Old", "");
    for access in both(&stand_in) {
        for (word, status) in [("trashed", Status::Trashed), ("archived", Status::Archived)] {
            stand_in.set_status(1, word);
            assert_eq!(read(&client(options()), &access, 1).await.status, status);
        }
        for word in ["draft", "deleted", "historical"] {
            stand_in.set_status(1, word);
            assert_eq!(client(options()).page(&access, 1).await, Ok(None), "{word}");
        }
    }
}

#[tokio::test]
async fn a_list_has_each_page_once_wherever_its_next_part_is_told_to_be() {
    let stand_in = ConfluenceStandIn::start().await;
    for id in 1..=(2 * PAGES_PER_LISTING as u64 + 1) {
        stand_in.add_page(id, "p", "<p/>");
    }
    stand_in.set_status(7, "archived");
    stand_in.set_status(8, "trashed");
    stand_in.change(9, |page| page.restricted = true);
    let client = client(options());
    // By Forge's way, `next` still starts at the site's own root.
    let forge = access(stand_in.cloud().replace("/wiki", "/ex/confluence/0a/wiki"), Product::Cloud);
    for round in 0..2 {
        for access in [cloud(&stand_in), forge.clone()] {
            let ids: Vec<u64> = all(&client, &access, Order::Id).await.iter().map(|page| page.id).collect();
            let want: Vec<u64> = (1..=201).filter(|id| ![8, 9].contains(id)).collect();
            assert_eq!(ids, want, "{round}");
        }
        stand_in.tell_whole_urls();
    }
    let pages = all(&client, &access(stand_in.data_center(), Product::DataCenter), Order::Id).await;
    // Counted by offsets: two parts of three begin with the end of the one before.
    let mut ids: Vec<u64> = pages.iter().map(|page| page.id).collect();
    assert_eq!(ids.len(), 198 + 20);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, (1..=201).filter(|id| ![7, 8, 9].contains(id)).collect::<Vec<_>>());
    assert!(pages.iter().all(|page| page.body.is_some() && page.space_key.as_deref() == Some("DOC")));
}

#[tokio::test]
async fn the_latest_change_comes_first_where_that_is_asked_for() {
    let stand_in = ConfluenceStandIn::start().await;
    for id in 1..=5 {
        stand_in.add_page(id, "p", "");
        stand_in.change(id, |page| page.modified_ms = 1_700_000_000_000 + id * 1_000);
    }
    stand_in.change(2, |page| page.modified_ms = 1_800_000_000_000);
    for access in both(&stand_in) {
        let ids: Vec<u64> = all(&client(options()), &access, Order::LatestFirst).await.iter().map(|p| p.id).collect();
        assert_eq!(ids, [2, 5, 4, 3, 1]);
    }
}

#[tokio::test]
async fn a_list_that_leads_elsewhere_or_round_in_circles_is_not_followed() {
    let stand_in = ConfluenceStandIn::start().await;
    let next = |next: &'static str| {
        stand_in.script(move |_| Some(Odd::Text(format!(r#"{{"results":[],"_links":{{"next":"{next}"}}}}"#))));
    };
    let client = client(options());
    next("https://evil.example/wiki/api/v2/pages?cursor=a");
    let elsewhere = client.pages(&cloud(&stand_in), Order::Id, None).await;
    assert!(matches!(&elsewhere, Err(FetchError::Unusable(why)) if why.contains("another host")), "{elsewhere:?}");
    next("/wiki/api/v2/pages?cursor=a");
    let Listing { next: same, .. } = client.pages(&cloud(&stand_in), Order::Id, None).await.unwrap();
    let round = client.pages(&cloud(&stand_in), Order::Id, same.as_deref()).await;
    assert!(matches!(&round, Err(FetchError::Unusable(why)) if why.contains("does not go on")), "{round:?}");
    assert!(client.pages(&cloud(&stand_in), Order::Id, Some("cursor=a&limit=1")).await.is_err());
}

#[tokio::test]
async fn one_odd_page_does_not_spoil_its_list() {
    let stand_in = ConfluenceStandIn::start().await;
    let good = r#"{"id":"1","status":"current","title":"t","version":{"number":1}}"#;
    stand_in.script(move |_| Some(Odd::Text(format!(r#"{{"results":[{{"id":"x"}},7,{good}],"_links":{{}}}}"#))));
    let listing = client(options()).pages(&cloud(&stand_in), Order::Id, None).await.unwrap();
    assert_eq!(listing.pages.iter().map(|page| page.id).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_list_whose_bodies_are_too_much_comes_without_them() {
    let stand_in = ConfluenceStandIn::start().await;
    for id in 1..=20 {
        stand_in.add_page(id, "p", &"x".repeat(2_000));
    }
    let client = client(Options { answer_bytes_max: 20_000, ..options() });
    for access in both(&stand_in) {
        let pages = all(&client, &access, Order::Id).await;
        assert_eq!(pages.len(), 20);
        assert!(pages.iter().all(|page| page.body.is_none() && page.version == 1));
        assert_eq!(read(&client, &access, 20).await.body.as_deref().map(str::len), Some(2_000));
    }
    stand_in.change(1, |page| page.body = "x".repeat(20_000));
    let error = client.page(&cloud(&stand_in), 1).await.unwrap_err();
    assert!(matches!(&error, FetchError::Unusable(why) if why.contains("confluence.answer_bytes_max")), "{error}");
}

#[tokio::test]
async fn large_pages_are_all_read_in_the_end() {
    let stand_in = ConfluenceStandIn::start().await;
    for id in 1..=8 {
        stand_in.add_page(id, "p", &"x".repeat(LARGE_BYTES + 1));
    }
    let client = client(Options { requests_at_once: 8, ..options() });
    let reads = (1..=8).map(|id| {
        let (client, access) = (client.clone(), cloud(&stand_in));
        // Dropped at once: who keeps a large body keeps others from reading one.
        tokio::spawn(async move { read(&client, &access, id).await.body.expect("a body").len() })
    });
    for read in reads.collect::<Vec<_>>() {
        assert_eq!(read.await.unwrap(), LARGE_BYTES + 1);
    }
}

#[tokio::test]
async fn a_key_of_a_space_is_asked_for_once() {
    let stand_in = ConfluenceStandIn::start().await;
    stand_in.add_space(7, "DOC");
    let client = client(options());
    let asks = (0..10).map(|_| {
        let (client, access) = (client.clone(), cloud(&stand_in));
        tokio::spawn(async move { client.space_key(&access, 7).await })
    });
    for ask in asks.collect::<Vec<_>>() {
        assert_eq!(ask.await.unwrap(), Ok(Some("DOC".to_owned())));
    }
    assert_eq!(client.space_key(&cloud(&stand_in), 8).await, Ok(None));
    assert_eq!(stand_in.count("/spaces/7"), 1);
}

#[tokio::test]
async fn a_page_that_this_credential_alone_may_not_see_is_not_there() {
    let stand_in = ConfluenceStandIn::start().await;
    for access in both(&stand_in) {
        stand_in.script(|call| call.path.contains("/1?").then_some(Odd::Status(403)));
        assert_eq!(client(options()).page(&access, 1).await, Ok(None));
        stand_in.script(|_| Some(Odd::Status(403)));
        let refused = client(options()).page(&access, 1).await;
        assert!(matches!(refused, Err(FetchError::Unauthorized(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn each_answer_says_whether_a_retry_helps() {
    let stand_in = ConfluenceStandIn::start().await;
    stand_in.add_page(1, "p", "");
    let page = |json: &str| Odd::Text(json.to_owned());
    for (odd, want) in [
        (Odd::Status(408), "later"),
        (Odd::Status(502), "later"),
        (Odd::Status(503), "later"),
        (Odd::Status(504), "later"),
        (Odd::CutOff, "later"),
        (Odd::Status(401), "unauthorized"),
        (Odd::Status(302), "unusable"),
        (Odd::Status(400), "unusable"),
        (Odd::Status(500), "unusable"),
        (Odd::Status(501), "unusable"),
        (Odd::Status(505), "unusable"),
        (page("<html>Log in</html>"), "unusable"),
        (page(r#"{"id":"2","status":"current","version":{"number":1},"body":{"storage":{"value":""}}}"#), "unusable"),
        (page(r#"{"id":"1","status":"current","version":{"number":1}}"#), "unusable"),
        (page(r#"{"id":"1","status":"current","version":{"number":-1}}"#), "unusable"),
    ] {
        let answer = odd.clone();
        stand_in.script(move |_| Some(answer.clone()));
        let found = match client(options()).page(&cloud(&stand_in), 1).await.unwrap_err() {
            FetchError::Later { .. } => "later",
            FetchError::Unauthorized(_) => "unauthorized",
            FetchError::Unusable(_) => "unusable",
            FetchError::Busy { .. } => "busy",
        };
        assert_eq!(found, want, "{odd:?}");
    }
}

#[tokio::test]
async fn a_site_that_never_answers_or_is_not_there_is_given_up() {
    let stand_in = ConfluenceStandIn::start().await;
    stand_in.script(|_| Some(Odd::Silence));
    let short = client(Options { request_timeout: Duration::from_millis(200), ..options() });
    let silent = short.page(&cloud(&stand_in), 1).await;
    assert!(matches!(silent, Err(FetchError::Later { after: None, .. })), "{silent:?}");
    let nobody = access(format!("http://127.0.0.1:{}", free_port()), Product::Cloud);
    let refused = client(options()).page(&nobody, 1).await;
    assert!(matches!(refused, Err(FetchError::Later { after: None, .. })), "{refused:?}");
    let no_url = client(options()).page(&access("ftp://x".to_owned(), Product::Cloud), 1).await;
    assert!(matches!(no_url, Err(FetchError::Unusable(_))), "{no_url:?}");
}

#[tokio::test]
async fn a_429_keeps_everybody_from_the_site_for_as_long_as_it_says() {
    for odd in [Odd::TooMany(Some("600".to_owned())), Odd::Away(503, "600".to_owned())] {
        let stand_in = ConfluenceStandIn::start().await;
        stand_in.script(move |_| Some(odd.clone()));
        let client = client(options());
        let first = client.page(&cloud(&stand_in), 1).await.unwrap_err();
        let told = Some(Duration::from_secs(600));
        assert!(matches!(&first, FetchError::Later { after, .. } if *after == told), "{first:?}");
        for refused in [
            client.page(&cloud(&stand_in), 2).await.unwrap_err(),
            client.pages(&cloud(&stand_in), Order::Id, None).await.unwrap_err(),
            client.space_key(&cloud(&stand_in), 1).await.unwrap_err(),
        ] {
            let FetchError::Busy { after, .. } = refused else { panic!("{refused:?}") };
            assert!(after > Duration::from_secs(500), "{after:?}");
        }
        assert_eq!(stand_in.calls().len(), 1);
        let other = Access { site: SiteId::parse("other").unwrap(), ..cloud(&stand_in) };
        assert!(matches!(client.page(&other, 1).await, Err(FetchError::Later { .. })), "another site is asked");
    }
}

#[tokio::test]
async fn no_more_calls_run_at_once_than_the_operator_allows() {
    let stand_in = ConfluenceStandIn::start().await;
    for id in 1..=8 {
        stand_in.add_page(id, "p", "");
    }
    stand_in.script(|_| Some(Odd::Slow(Duration::from_millis(30))));
    let client = client(Options { requests_at_once: 2, ..options() });
    let reads = (1..=8).map(|id| {
        let (client, access) = (client.clone(), cloud(&stand_in));
        tokio::spawn(async move { client.page(&access, id).await })
    });
    for read in reads.collect::<Vec<_>>() {
        match read.await.unwrap() {
            Ok(page) => assert!(page.is_some()),
            // On a slow machine not all of them get a turn in time.
            Err(error) => assert!(matches!(error, FetchError::Busy { .. }), "{error}"),
        }
    }
    assert!(stand_in.running_max() <= 2, "{}", stand_in.running_max());
}

#[tokio::test]
async fn every_credential_is_sent_in_its_own_way() {
    let stand_in = ConfluenceStandIn::start().await;
    stand_in.add_page(1, "p", "");
    let client = client(options());
    let with = |credential| Access { credential, ..cloud(&stand_in) };
    let basic = Credential::Basic { user: "me@acme.example".to_owned(), token: "s:3cret".to_owned() };
    read(&client, &with(basic), 1).await;
    read(&client, &with(Credential::Forge { token: "f".to_owned(), expires_ms: u64::MAX }), 1).await;
    read(&client, &cloud(&stand_in), 1).await;
    let sent: Vec<String> = stand_in.calls().into_iter().map(|call| call.authorization).collect();
    assert_eq!(sent, ["Basic bWVAYWNtZS5leGFtcGxlOnM6M2NyZXQ=", "Bearer f", "Bearer t"]);

    let over = client.page(&with(Credential::Forge { token: "f".to_owned(), expires_ms: 1 }), 1).await;
    assert!(matches!(over, Err(FetchError::Unauthorized(_))), "{over:?}");
    let odd = client.page(&with(Credential::Bearer("a\nb".to_owned())), 1).await;
    assert!(matches!(odd, Err(FetchError::Unauthorized(_))), "{odd:?}");
    assert_eq!(stand_in.calls().len(), 3, "what can't be used is not sent");
}

#[tokio::test]
async fn connect_signs_each_call_anew() {
    let stand_in = ConfluenceStandIn::start().await;
    stand_in.add_page(1, "p", "");
    let secret = "a-secret-key-not-to-be-lost".to_owned();
    let credential = Credential::Connect {
        app_key: "our-app".to_owned(),
        client_key: "their-key".to_owned(),
        shared_secret: secret.clone(),
    };
    let access = Access { credential, ..cloud(&stand_in) };
    let client = client(options());
    read(&client, &access, 1).await;
    client.pages(&access, Order::Id, None).await.unwrap();
    for call in stand_in.calls() {
        let token = call.authorization.strip_prefix("JWT ").expect("a token");
        let (path, query) = call.path.split_once('?').expect("a query");
        let made_for = jwt::qsh::Call { method: "GET", path, query: Some(query), base_path: "/wiki" };
        let now_ms = Clock::system().now_ms();
        let verified = jwt::connect::verify_shared(token, std::slice::from_ref(&secret), &made_for, now_ms).unwrap();
        assert_eq!(verified.client_key, "our-app");
        let other = jwt::qsh::Call { query: None, ..made_for };
        assert!(jwt::connect::verify_shared(token, std::slice::from_ref(&secret), &other, now_ms).is_err());
    }
}

#[tokio::test]
async fn a_server_is_trusted_by_the_authorities_that_are_given_and_no_other() {
    let certificates = Certificates::make();
    let (port, file) = (free_port(), |name: &str| certificates.path(name).into_os_string());
    let mut args: Vec<std::ffi::OsString> = ["s_server", "-www", "-accept"].map(Into::into).to_vec();
    args.extend([
        format!("127.0.0.1:{port}").into(),
        "-cert".into(),
        file("server.pem"),
        "-key".into(),
        file("server.key"),
    ]);
    let recipe = Recipe {
        program: "openssl".into(),
        args,
        env: Vec::new(),
        port,
        // A server that is ready answers plain text with an alert, or not at all.
        probe: "GET / HTTP/1.1\r\n\r\n",
        ready: &[""],
    };
    let _server = Process::start(recipe).await;
    let limits = Limits { time: DEADLINE, body_bytes_max: 1 << 20 };
    let url = format!("https://127.0.0.1:{port}/");
    let authority = CertificateDer::from_pem_file(certificates.path("ca.pem")).expect("a certificate");
    let trusting = Outbound::new(DEADLINE, &[authority]).unwrap();
    assert_eq!(trusting.get(&url, &[], limits).await.expect("an answer").status, 200);
    let refused = outbound().get(&url, &[], limits).await.map(|reply| reply.status);
    assert!(matches!(&refused, Err(OutboundError::Broken(why)) if why.contains("certificate")), "{refused:?}");
    assert!(Outbound::new(DEADLINE, &[CertificateDer::from_slice(b"none").into_owned()]).is_err());
}
