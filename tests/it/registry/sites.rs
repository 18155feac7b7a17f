//! Sites: the parts of the contract that are about them.

use hookcache::confluence::{Credential, Product};
use hookcache::envelope::Account;
use hookcache::registry::{JoinedBy, Joining, Site, SiteState};
use hookcache::source::confluence::{EventName, ReindexScope};

use super::{Pair, id, joined, joining, read, site};

pub async fn a_site_is_kept_as_it_joined(Pair { one, other }: Pair) {
    let whole = Site {
        product: Product::DataCenter,
        api_base: "https://api.example/wiki".to_owned(),
        display_url: Some("https://docs.example".to_owned()),
        aliases: vec!["https://old.example/wiki".to_owned(), "https://\u{e4}.example \"'\\".to_owned()],
        joined_by: JoinedBy::Forge,
        state: SiteState::Disabled,
        ..site("acme", 5)
    };
    one.join(&joining(whole.clone(), Some("hush")), 0).await.unwrap();
    assert_eq!(other.site(&whole.id).await.unwrap(), Some(whole.clone()));
    assert_eq!(other.hook_secrets(&whole.id, 5).await.unwrap(), ["hush"]);
    let basic = Credential::Basic { user: "bot".to_owned(), token: "token of the bot".to_owned() };
    assert!(other.credential(&whole.id).await.unwrap() == Some(basic));

    let nobody = id("nobody");
    assert_eq!(one.site(&nobody).await.unwrap(), None);
    assert!(one.credential(&nobody).await.unwrap().is_none());
    assert_eq!(one.hook_secrets(&nobody, 5).await.unwrap(), Vec::<String>::new());
    assert_eq!(one.last_success(&nobody).await.unwrap(), (None, None));
    assert!(!one.set_state(&nobody, SiteState::Active, 9).await.unwrap());
    assert_eq!(one.ask_for_run(&nobody, ReindexScope::Full, 9).await.unwrap(), None);
}

pub async fn sites_come_in_parts_in_order(Pair { one, .. }: Pair) {
    for name in ["d", "a", "c", "b", "e"] {
        joined(&one, name).await;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let part = one.sites(after.as_ref(), 2).await.unwrap();
        assert!(part.len() <= 2);
        let Some(last) = part.last() else { break };
        after = Some(last.id.clone());
        seen.extend(part.into_iter().map(|site| site.id));
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"].map(id));
}

pub async fn a_site_that_joins_again_keeps_what_was_there(Pair { one, .. }: Pair) {
    let acme = joined(&one, "acme").await;
    one.note_event(&acme, 1, EventName::PageCreated, 7).await.unwrap();
    one.note_read(&acme, &[read(1, 3, 8)]).await.unwrap();
    let again = Site {
        account: Account::parse("other").unwrap(),
        base_url: "https://new.example/wiki".to_owned(),
        joined_by: JoinedBy::Forge,
        ..site("acme", 20)
    };
    for _ in 0..2 {
        one.join(&joining(again.clone(), None), 0).await.unwrap();
        let kept = one.site(&acme).await.unwrap().unwrap();
        // The account owns what is stored of its pages.
        assert_eq!((kept.account.as_str(), kept.added_ms, kept.last_event_ms), ("acme", 1, Some(7)));
        assert_eq!(kept.base_url, "https://new.example/wiki");
        assert_eq!(one.page(&acme, 1).await.unwrap().unwrap().version, 3);
    }
}

pub async fn what_is_added_for_another_account_than_that_of_the_site_changes_nothing(Pair { one, other }: Pair) {
    one.join(&joining(site("acme", 1), Some("first")), 0).await.unwrap();
    let taken = Site {
        account: Account::parse("other").unwrap(),
        base_url: "https://taken.example".to_owned(),
        ..site("acme", 20)
    };
    other.join(&joining(taken, Some("of another")), 1_000).await.unwrap();
    assert_eq!(one.hook_secrets(&id("acme"), 21).await.unwrap(), ["first"]);
    let kept = one.site(&id("acme")).await.unwrap().unwrap();
    assert_eq!((kept.account.as_str(), kept.base_url.as_str()), ("acme", "https://acme.example/wiki"));
}

pub async fn a_joining_that_comes_late_changes_nothing(Pair { one, .. }: Pair) {
    one.join(&joining(site("acme", 20), Some("new")), 0).await.unwrap();
    let late = Site { base_url: "https://old.example".to_owned(), ..site("acme", 10) };
    one.join(&joining(late, Some("old")), 1_000).await.unwrap();
    assert_eq!(one.hook_secrets(&id("acme"), 21).await.unwrap(), ["new"]);
    assert_eq!(one.site(&id("acme")).await.unwrap().unwrap().base_url, "https://acme.example/wiki");
}

pub async fn a_former_secret_is_valid_until_its_time_and_not_after(Pair { one, other }: Pair) {
    let acme = id("acme");
    one.join(&joining(site("acme", 1), Some("first")), 500).await.unwrap();
    assert_eq!(one.hook_secrets(&acme, 1).await.unwrap(), ["first"]);
    one.join(&joining(site("acme", 2), Some("second")), 1_000).await.unwrap();
    // The same again replaces nothing, and extends nothing.
    other.join(&joining(site("acme", 3), Some("second")), 2_000).await.unwrap();
    assert_eq!(other.hook_secrets(&acme, 999).await.unwrap(), ["second", "first"]);
    assert_eq!(other.hook_secrets(&acme, 1_000).await.unwrap(), ["second"]);
    one.join(&joining(site("acme", 4), Some("third")), 3_000).await.unwrap();
    assert_eq!(one.hook_secrets(&acme, 500).await.unwrap(), ["third", "second"]);
    // Who renews a credential need not know the secret.
    one.join(&joining(site("acme", 5), None), 4_000).await.unwrap();
    assert_eq!(one.hook_secrets(&acme, 500).await.unwrap(), ["third", "second"]);
    assert_eq!(one.hook_secrets(&acme, 3_000).await.unwrap(), ["third"]);
}

pub async fn a_connect_site_is_signed_with_its_shared_secret(Pair { one, .. }: Pair) {
    let acme = id("acme");
    let connect = |shared_secret: &str, added_ms| Joining {
        site: Site { joined_by: JoinedBy::Connect, ..site("acme", added_ms) },
        credential: Some(Credential::Connect {
            app_key: "app".to_owned(),
            client_key: "acme".to_owned(),
            shared_secret: shared_secret.to_owned(),
        }),
        hook_secret: None,
    };
    one.join(&connect("first", 1), 0).await.unwrap();
    one.join(&connect("second", 2), 600).await.unwrap();
    assert_eq!(one.hook_secrets(&acme, 10).await.unwrap(), ["second", "first"]);
    assert!(one.credential(&acme).await.unwrap() == connect("second", 2).credential);
}

pub async fn a_credential_is_renewed_by_one_that_lives_longer(Pair { one, .. }: Pair) {
    let forge = |token: &str, expires_ms| Credential::Forge { token: token.to_owned(), expires_ms };
    let joining = |credential, added_ms| Joining {
        site: Site { joined_by: JoinedBy::Forge, ..site("acme", added_ms) },
        credential,
        hook_secret: None,
    };
    let acme = id("acme");
    one.join(&joining(None, 1), 0).await.unwrap();
    assert!(one.credential(&acme).await.unwrap().is_none());
    for (token, expires_ms, current) in [("a", 100, "a"), ("b", 90, "a"), ("c", 100, "a"), ("d", 101, "d")] {
        one.renew_credential(&acme, &forge(token, expires_ms)).await.unwrap();
        let found = one.credential(&acme).await.unwrap();
        assert!(matches!(found, Some(Credential::Forge { token, .. }) if token == current), "{token}");
    }
    // Joining again without one keeps it, and one that lives for ever is replaced by its like alone.
    one.join(&joining(None, 2), 0).await.unwrap();
    assert!(one.credential(&acme).await.unwrap() == Some(forge("d", 101)));
    for token in ["e", "f"] {
        let bearer = Credential::Bearer(token.to_owned());
        one.renew_credential(&acme, &bearer).await.unwrap();
        one.renew_credential(&acme, &forge("g", 5_000)).await.unwrap();
        assert!(one.credential(&acme).await.unwrap() == Some(bearer));
    }
    one.renew_credential(&id("nobody"), &forge("x", 1)).await.unwrap();
    assert_eq!(one.site(&id("nobody")).await.unwrap(), None);
}

pub async fn states_come_in_any_order(Pair { one, .. }: Pair) {
    let acme = joined(&one, "acme").await;
    let state = || async { one.site(&acme).await.unwrap().unwrap().state };
    let uninstalled = SiteState::Uninstalled { since_ms: 10 };
    assert!(one.set_state(&acme, uninstalled, 10).await.unwrap());
    assert!(!one.set_state(&acme, SiteState::Active, 9).await.unwrap());
    assert_eq!(state().await, uninstalled);
    one.join(&joining(site("acme", 20), None), 0).await.unwrap();
    assert_eq!(state().await, SiteState::Active);
    assert!(!one.set_state(&acme, uninstalled, 10).await.unwrap(), "it comes again, after the site has joined anew");
    assert_eq!(state().await, SiteState::Active);
    assert!(one.set_state(&acme, SiteState::Disabled, 21).await.unwrap());
    assert_eq!(state().await, SiteState::Disabled);
}

pub async fn a_pause_stands_beside_what_the_site_says(Pair { one, .. }: Pair) {
    let acme = joined(&one, "acme").await;
    let state = || async { one.site(&acme).await.unwrap().unwrap().state };
    assert!(one.set_state(&acme, SiteState::Paused, 2).await.unwrap());
    assert!(!one.set_state(&acme, SiteState::Paused, 3).await.unwrap());
    one.set_state(&acme, SiteState::Active, 4).await.unwrap();
    assert_eq!(state().await, SiteState::Paused);
    one.join(&joining(site("acme", 5), None), 0).await.unwrap();
    assert_eq!(state().await, SiteState::Paused);
    one.set_state(&acme, SiteState::Disabled, 6).await.unwrap();
    assert!(one.resume(&acme).await.unwrap());
    assert_eq!(state().await, SiteState::Disabled);
    assert!(!one.resume(&acme).await.unwrap());
    one.set_state(&acme, SiteState::Paused, 7).await.unwrap();
    one.set_state(&acme, SiteState::Uninstalled { since_ms: 8 }, 8).await.unwrap();
    assert_eq!(state().await, SiteState::Uninstalled { since_ms: 8 });
}

pub async fn a_site_that_is_forgotten_leaves_nothing_and_nothing_comes_back(Pair { one, other }: Pair) {
    let (acme, stays) = (joined(&one, "acme").await, joined(&one, "stays").await);
    for site in [&acme, &stays] {
        one.note_event(site, 1, EventName::PageCreated, 2).await.unwrap();
        one.ask_for_run(site, ReindexScope::Full, 3).await.unwrap().unwrap();
    }
    let many: Vec<_> = (1..12_000).map(|page| read(page, 1, 4)).collect();
    one.note_read(&acme, &many).await.unwrap();
    one.forget_site(&acme).await.unwrap();
    one.forget_site(&acme).await.unwrap();
    for (page, registry) in [(1, &one), (20_000, &other)] {
        registry.note_event(&acme, page, EventName::PageUpdated, 9).await.unwrap();
        registry.note_read(&acme, &[read(page, 9, 9)]).await.unwrap();
        let fetched = read(page, 9, 9).last_fetch.unwrap();
        registry.note_failed(&acme, page, &fetched).await.unwrap();
        assert_eq!(registry.page(&acme, page).await.unwrap(), None);
    }
    assert_eq!(other.site(&acme).await.unwrap(), None);
    assert_eq!(other.pages_after(&acme, 0, 10).await.unwrap(), []);
    assert_eq!(other.runs(&acme, 10).await.unwrap(), []);
    assert_eq!(other.hook_secrets(&acme, 5).await.unwrap(), Vec::<String>::new());
    assert_eq!(other.runs(&stays, 10).await.unwrap().len(), 1);
    assert!(other.page(&stays, 1).await.unwrap().is_some());
    // A site of the same name is another one.
    joined(&one, "acme").await;
    assert_eq!(one.pages_after(&acme, 0, 10).await.unwrap(), []);
}
