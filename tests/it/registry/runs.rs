//! Reindexes: the parts of the contract that are about them.

use hookcache::envelope::SiteId;
use hookcache::registry::{Backlog, Ended, Lease, Phase, RUNS_KEPT_MAX, Registry, Run, SiteState, Waiting};
use hookcache::source::confluence::ReindexScope::{self, Full, Since, SinceLast};

use super::{Pair, joined, joining, site};

fn lease(owner: &str, until_ms: u64) -> Lease {
    Lease { owner: owner.to_owned(), until_ms }
}

fn ended(at_ms: u64) -> Ended {
    Ended { at_ms, error: None }
}

async fn ask(registry: &Registry, site: &SiteId, scope: ReindexScope, now_ms: u64) -> Run {
    registry.ask_for_run(site, scope, now_ms).await.unwrap().expect("the site is there")
}

/// Asks for a run, and has it end well.
async fn run(registry: &Registry, site: &SiteId, scope: ReindexScope, began_ms: u64) {
    ask(registry, site, scope, began_ms).await;
    let run = registry.claim_run("a", began_ms, began_ms + 5).await.unwrap().expect("it is free");
    let run = Run { began_ms: Some(began_ms), ..run };
    assert!(registry.end_run(&run, &lease("a", 0), &ended(began_ms + 2)).await.unwrap());
}

pub async fn a_run_is_asked_for_claimed_advanced_and_ended(Pair { one, other }: Pair) {
    let acme = joined(&one, "acme").await;
    assert_eq!(other.claim_run("b", 5, 10).await.unwrap(), None);
    let asked = ask(&one, &acme, Full, 5).await;
    assert_eq!((asked.number, asked.scope, asked.asked_ms, asked.phase), (1, Full, 5, Phase::Listing));
    one.run_asked().await;
    assert_eq!(ask(&one, &acme, SinceLast, 6).await, Run { asked_ms: 6, ..asked.clone() });

    let claimed = other.claim_run("b", 10, 20).await.unwrap().unwrap();
    assert_eq!(claimed, Run { asked_ms: 6, ..asked });
    assert_eq!(one.claim_run("a", 19, 30).await.unwrap(), None, "it is b's");
    let far = Run {
        began_ms: Some(11),
        watermark_ms: Some(3),
        phase: Phase::Sweeping,
        cursor: Some("/wiki/api/v2/pages?cursor=\u{e4}".to_owned()),
        pages_seen: 100,
        pages_changed: 20,
        pages_swept: 1,
        ..claimed
    };
    assert!(other.advance_run(&far, &lease("b", 40)).await.unwrap());
    assert!(!one.advance_run(&far, &lease("a", 90)).await.unwrap());
    assert_eq!(one.claim_run("a", 39, 50).await.unwrap(), None, "the lease was renewed");
    assert_eq!(one.runs(&acme, 5).await.unwrap(), std::slice::from_ref(&far));

    assert!(!one.end_run(&far, &lease("a", 90), &ended(50)).await.unwrap());
    assert!(other.end_run(&far, &lease("b", 40), &ended(50)).await.unwrap());
    assert!(!other.end_run(&far, &lease("b", 40), &ended(51)).await.unwrap());
    assert!(!other.advance_run(&far, &lease("b", 60)).await.unwrap());
    assert_eq!(one.runs(&acme, 5).await.unwrap(), [Run { ended: Some(ended(50)), ..far }]);
    assert_eq!(one.last_success(&acme).await.unwrap(), (Some(11), Some(11)));
    assert_eq!(ask(&one, &acme, SinceLast, 60).await.number, 2);
}

pub async fn of_eight_that_claim_at_once_each_run_goes_to_one(Pair { one, other }: Pair) {
    let mut sites = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let site = joined(&one, name).await;
        ask(&one, &site, Full, 1).await;
        sites.push(site);
    }
    let claim = |n: usize| {
        let registry = if n.is_multiple_of(2) { one.clone() } else { other.clone() };
        async move {
            let mut taken = Vec::new();
            for _ in 0..4 {
                let claimed = registry.claim_run(&format!("process {n}"), 10, 1_000).await.unwrap();
                taken.extend(claimed.map(|run| run.site));
            }
            taken
        }
    };
    let tasks: Vec<_> = (0..8).map(|n| tokio::spawn(claim(n))).collect();
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await.unwrap());
    }
    taken.sort();
    assert_eq!(taken, sites);
}

pub async fn a_run_whose_holder_died_goes_on_where_it_was(Pair { one, other }: Pair) {
    let acme = joined(&one, "acme").await;
    ask(&one, &acme, Full, 1).await;
    let held = one.claim_run("a", 10, 20).await.unwrap().unwrap();
    let far = Run { cursor: Some("next".to_owned()), pages_seen: 250, began_ms: Some(10), ..held };
    assert!(one.advance_run(&far, &lease("a", 30)).await.unwrap());
    assert_eq!(other.claim_run("b", 29, 60).await.unwrap(), None);
    assert_eq!(other.claim_run("b", 30, 60).await.unwrap(), Some(far.clone()));
    // The one that was thought dead finds out.
    assert!(!one.advance_run(&far, &lease("a", 90)).await.unwrap());
    one.release_run(&far, &lease("a", 90)).await.unwrap();
    assert_eq!(one.claim_run("a", 59, 90).await.unwrap(), None);
    assert!(other.advance_run(&far, &lease("b", 70)).await.unwrap());
}

pub async fn a_wider_run_takes_the_place_of_a_narrower_one(Pair { one, other }: Pair) {
    let acme = joined(&one, "acme").await;
    ask(&one, &acme, SinceLast, 1).await;
    let held = one.claim_run("a", 10, 1_000).await.unwrap().unwrap();
    let far = Run { cursor: Some("next".to_owned()), began_ms: Some(10), ..held };
    one.advance_run(&far, &lease("a", 1_000)).await.unwrap();

    for (scope, stands, number) in [
        (SinceLast, SinceLast, 1),
        (Since(70), Since(70), 2),
        (Since(80), Since(70), 2),
        (SinceLast, Since(70), 2),
        (Since(60), Since(60), 3),
        (Full, Full, 4),
        (Since(1), Full, 4),
        (Full, Full, 4),
    ] {
        let open = ask(&other, &acme, scope, 20).await;
        assert_eq!((open.scope, open.number), (stands, number), "{scope:?}");
    }
    assert!(!one.advance_run(&far, &lease("a", 2_000)).await.unwrap());
    let anew = other.claim_run("b", 30, 1_000).await.unwrap().unwrap();
    assert_eq!((anew.number, anew.cursor, anew.began_ms), (4, None, None));
    assert_eq!(one.runs(&acme, 10).await.unwrap().len(), 1);
}

pub async fn a_run_that_waits_is_claimed_when_its_time_has_come(Pair { one, other }: Pair) {
    let acme = joined(&one, "acme").await;
    ask(&one, &acme, Full, 1).await;
    let held = one.claim_run("a", 10, 1_000).await.unwrap().unwrap();
    let waiting = Waiting { until_ms: 500, why: "the site asks for peace (429)".to_owned() };
    let waits = Run { waiting: Some(waiting), pages_seen: 3, ..held };
    one.release_run(&waits, &lease("a", 1_000)).await.unwrap();
    assert_eq!(one.runs(&acme, 1).await.unwrap(), std::slice::from_ref(&waits));
    assert_eq!(other.claim_run("b", 499, 1_000).await.unwrap(), None);
    let again = other.claim_run("b", 500, 1_000).await.unwrap().unwrap();
    assert_eq!(again.pages_seen, 3);
    other.release_run(&Run { waiting: None, ..again }, &lease("b", 1_000)).await.unwrap();
    assert!(one.claim_run("a", 501, 1_000).await.unwrap().is_some(), "what waits for nothing is free at once");
}

pub async fn a_site_that_is_not_active_has_no_run_under_way(Pair { one, .. }: Pair) {
    let acme = joined(&one, "acme").await;
    ask(&one, &acme, Full, 1).await;
    let held = one.claim_run("a", 10, 20).await.unwrap().unwrap();
    for (state, at_ms) in [(SiteState::Disabled, 11), (SiteState::Uninstalled { since_ms: 12 }, 12)] {
        one.set_state(&acme, state, at_ms).await.unwrap();
        assert!(!one.advance_run(&held, &lease("a", 30)).await.unwrap());
        assert!(!one.end_run(&held, &lease("a", 30), &ended(13)).await.unwrap());
        assert_eq!(one.claim_run("b", 40, 50).await.unwrap(), None);
    }
    one.set_state(&acme, SiteState::Active, 14).await.unwrap();
    one.set_state(&acme, SiteState::Paused, 15).await.unwrap();
    assert_eq!(one.claim_run("b", 40, 50).await.unwrap(), None);
    one.resume(&acme).await.unwrap();
    assert!(one.claim_run("b", 40, 50).await.unwrap().is_some());
}

pub async fn ended_runs_are_kept_and_not_for_ever(Pair { one, .. }: Pair) {
    let acme = joined(&one, "acme").await;
    run(&one, &acme, Full, 10).await;
    for at_ms in 0..25 {
        run(&one, &acme, SinceLast, 100 + at_ms).await;
    }
    ask(&one, &acme, Full, 500).await;
    let held = one.claim_run("a", 500, 600).await.unwrap().unwrap();
    let failed = Ended { at_ms: 501, error: Some("the credential is refused".to_owned()) };
    assert!(one.end_run(&Run { began_ms: Some(500), ..held }, &lease("a", 600), &failed).await.unwrap());
    let open = ask(&one, &acme, SinceLast, 900).await;
    assert_eq!(open.number, 28);
    let runs = one.runs(&acme, 100).await.unwrap();
    assert_eq!(runs.len(), 1 + RUNS_KEPT_MAX);
    assert_eq!((&runs[0], &runs[1].ended), (&open, &Some(failed)));
    assert!(runs.windows(2).all(|pair| pair[0].number > pair[1].number));
    assert_eq!(one.runs(&acme, 3).await.unwrap(), runs[..3]);
    // Though the run itself is not kept any more, and the last one failed.
    assert_eq!(one.last_success(&acme).await.unwrap(), (Some(124), Some(10)));
}

pub async fn what_was_read_since_a_moment_counts_only_where_it_left_no_gap(Pair { one, .. }: Pair) {
    let acme = joined(&one, "acme").await;
    let success = || async { one.last_success(&acme).await.unwrap() };
    run(&one, &acme, Since(5), 10).await;
    assert_eq!(success().await, (None, None), "nothing is known of what was before");
    run(&one, &acme, Full, 100).await;
    run(&one, &acme, Since(150), 200).await;
    assert_eq!(success().await, (Some(100), Some(100)), "what was changed from 100 to 150 is not read");
    run(&one, &acme, Since(100), 300).await;
    assert_eq!(success().await, (Some(300), Some(100)));
    run(&one, &acme, SinceLast, 400).await;
    assert_eq!(success().await, (Some(400), Some(100)));
}

pub async fn the_backlog_is_that_of_active_sites(Pair { one, .. }: Pair) {
    assert_eq!(one.backlog().await.unwrap(), Backlog::default());
    for (name, added_ms) in [("a", 50), ("b", 40), ("c", 30)] {
        one.join(&joining(site(name, added_ms), None), 0).await.unwrap();
    }
    let [a, b, c] = ["a", "b", "c"].map(super::id);
    assert_eq!(one.backlog().await.unwrap(), Backlog { open_runs: 0, oldest_ms: Some(30) });
    run(&one, &c, Full, 100).await;
    run(&one, &b, SinceLast, 110).await;
    ask(&one, &a, Full, 120).await;
    ask(&one, &c, Full, 120).await;
    assert_eq!(one.backlog().await.unwrap(), Backlog { open_runs: 2, oldest_ms: Some(50) });
    one.set_state(&a, SiteState::Paused, 130).await.unwrap();
    assert_eq!(one.backlog().await.unwrap(), Backlog { open_runs: 1, oldest_ms: Some(100) });
}
