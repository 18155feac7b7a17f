use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn account(name: &str) -> Account {
    Account::parse(name).unwrap()
}

fn flow(name: &str) -> Flow {
    Flow::parse(name).unwrap()
}

fn seconds(seconds: u64) -> Ttl {
    Ttl::For(Duration::from_secs(seconds))
}

fn rules(static_rules: Vec<(Scope, Ttl)>, dynamic_rules: Vec<(Scope, Ttl)>) -> Rules {
    Rules {
        default: seconds(1_000),
        min: SECOND,
        max: Duration::from_secs(100_000),
        allow_request: vec![],
        allow_never: vec![],
        static_rules: Arc::new(static_rules.into_iter().collect()),
        dynamic_rules: Arc::new(dynamic_rules.into_iter().collect()),
    }
}

/// The scopes that `acme/orders` has, narrowest first.
fn scopes() -> [Scope; 3] {
    [Scope::AccountFlow(account("acme"), flow("orders")), Scope::Account(account("acme")), Scope::Flow(flow("orders"))]
}

#[test]
fn the_narrowest_rule_wins_and_in_one_scope_dynamic_beats_static() {
    // In the order of rank; the TTL of each is its place in it.
    let ranked: Vec<(Origin, Scope, Ttl)> = scopes()
        .into_iter()
        .flat_map(|scope| [(Origin::Dynamic, scope.clone()), (Origin::Static, scope)])
        .enumerate()
        .map(|(place, (origin, scope))| (origin, scope, seconds(place as u64 + 10)))
        .collect();
    for first in 0..=ranked.len() {
        let of = |wanted: Origin| {
            let kept = ranked[first..].iter().filter(|rule| rule.0 == wanted);
            kept.map(|(_, scope, ttl)| (scope.clone(), *ttl)).collect()
        };
        let rules = rules(of(Origin::Static), of(Origin::Dynamic));
        let (origin, scope, ttl) = match ranked.get(first) {
            Some((origin, scope, ttl)) => (*origin, Some(scope.clone()), *ttl),
            None => (Origin::Default, None, seconds(1_000)),
        };
        assert_eq!(rules.resolve(&account("acme"), &flow("orders"), None), ttl, "from rank {first}");
        let told = rules.explain(&account("acme"), &flow("orders"), None);
        assert_eq!(told.winner, Winner { origin, scope }, "from rank {first}");
        assert_eq!(told.candidates.len(), ranked.len() - first + 1);
    }
}

#[test]
fn rules_of_others_have_no_say() {
    let others = vec![
        (Scope::AccountFlow(account("acme"), flow("other")), seconds(1)),
        (Scope::AccountFlow(account("other"), flow("orders")), seconds(2)),
        (Scope::Account(account("other")), seconds(3)),
        (Scope::Flow(flow("other")), seconds(4)),
    ];
    assert_eq!(rules(others.clone(), others).resolve(&account("acme"), &flow("orders"), None), seconds(1_000));
}

#[test]
fn a_request_is_followed_only_where_rules_allow_it() {
    let mut rules = rules(vec![(scopes()[0].clone(), seconds(20))], vec![]);
    rules.allow_request = vec![ScopePattern::parse("acme/orders").unwrap()];
    let asked = Some(Duration::from_secs(60));
    assert_eq!(rules.resolve(&account("acme"), &flow("orders"), asked), seconds(60));
    assert_eq!(rules.resolve(&account("acme"), &flow("other"), asked), seconds(1_000));
    let told = rules.explain(&account("acme"), &flow("other"), asked);
    assert_eq!((told.candidates[0].origin, told.candidates[0].fate), (Origin::Request, Fate::RequestNotAllowed));
    for (pattern, allowed) in [("*/*", true), ("acme/*", true), ("*/orders", true), ("b/*", false), ("*/b", false)] {
        rules.allow_request = vec![ScopePattern::parse(pattern).unwrap()];
        let followed = rules.resolve(&account("acme"), &flow("orders"), asked) == seconds(60);
        assert_eq!(followed, allowed, "{pattern}");
    }
}

#[test]
fn min_and_max_clamp_every_origin_and_the_explanation_says_so() {
    let mut rules = rules(vec![(scopes()[1].clone(), seconds(5))], vec![(scopes()[2].clone(), seconds(90_000))]);
    rules.allow_request = vec![ScopePattern::ANY];
    (rules.min, rules.max) = (Duration::from_secs(10), Duration::from_secs(500));
    let cases = [
        ("acme", "x", None, seconds(10), Some(Clamp::Min), Fate::RaisedToMin),
        ("b", "orders", None, seconds(500), Some(Clamp::Max), Fate::LoweredToMax),
        ("b", "x", None, seconds(500), Some(Clamp::Max), Fate::LoweredToMax),
        ("b", "x", Some(SECOND), seconds(10), Some(Clamp::Min), Fate::RaisedToMin),
        ("b", "x", Some(Duration::from_secs(10)), seconds(10), None, Fate::Used),
    ];
    for (a, f, asked, ttl, clamped, fate) in cases {
        let told = rules.explain(&account(a), &flow(f), asked);
        assert_eq!((told.ttl, told.clamped, told.candidates[0].fate), (ttl, clamped, fate), "{a}/{f}");
    }
}

#[test]
fn never_stands_only_where_a_pattern_covers_the_whole_rule() {
    let mut rules = rules(vec![], scopes().into_iter().map(|scope| (scope, Ttl::Never)).collect());
    let check = |rules: &Rules| scopes().map(|scope| rules.check(&scope, Ttl::Never).is_ok());
    assert_eq!(check(&rules), [false, false, false]);
    for (pattern, allowed) in [
        ("acme/orders", [true, false, false]),
        ("acme/*", [true, true, false]),
        ("*/orders", [true, false, true]),
        ("*/*", [true, true, true]),
        ("b/*", [false, false, false]),
    ] {
        rules.allow_never = vec![ScopePattern::parse(pattern).unwrap()];
        assert_eq!(check(&rules), allowed, "{pattern}");
    }
}

#[test]
fn a_never_that_is_no_longer_allowed_gives_the_maximum_and_says_so() {
    let mut rules = rules(vec![], vec![(scopes()[1].clone(), Ttl::Never)]);
    let told = rules.explain(&account("acme"), &flow("orders"), None);
    assert_eq!((told.ttl, told.clamped), (seconds(100_000), Some(Clamp::Max)));
    assert_eq!(told.candidates[0].fate, Fate::NeverNotAllowedUsesMax);
    rules.allow_never = vec![ScopePattern::parse("acme/*").unwrap()];
    let told = rules.explain(&account("acme"), &flow("orders"), None);
    assert_eq!((told.ttl, told.clamped, told.candidates[0].fate), (Ttl::Never, None, Fate::Used));
}

#[test]
fn a_rule_has_one_second_to_a_hundred_years() {
    let rules = rules(vec![], vec![]);
    let scope = scopes()[0].clone();
    assert_eq!(rules.check(&scope, seconds(1)), Ok(()));
    assert_eq!(rules.check(&scope, seconds(TTL_SECONDS_MAX)), Ok(()));
    for bad in [Duration::ZERO, Duration::from_millis(1_500), Duration::from_secs(TTL_SECONDS_MAX + 1)] {
        assert_eq!(rules.check(&scope, Ttl::For(bad)), Err(RuleError::OutOfRange), "{bad:?}");
    }
}

#[test]
fn a_pattern_is_two_names_or_stars() {
    for good in ["*/*", "a/*", "*/b", "a/b"] {
        assert!(ScopePattern::parse(good).is_ok(), "{good}");
    }
    for bad in ["", "*", "a", "a/", "/b", "a/b/c", "a b/*", "**/*"] {
        assert!(ScopePattern::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn with_dynamic_replaces_the_dynamic_rules_alone() {
    let old = rules(vec![(scopes()[1].clone(), seconds(5))], vec![(scopes()[0].clone(), seconds(6))]);
    let new = old.with_dynamic(vec![(scopes()[2].clone(), seconds(7))]);
    assert_eq!(new.resolve(&account("acme"), &flow("orders"), None), seconds(5));
    assert_eq!(new.resolve(&account("b"), &flow("orders"), None), seconds(7));
    assert_eq!(new.dynamic_rules.len(), 1);
}

#[test]
fn the_json_forms_say_seconds_or_never_and_nothing_else() {
    assert_eq!(serde_json::to_string(&seconds(60)).unwrap(), r#"{"ttlSeconds":60}"#);
    assert_eq!(serde_json::to_string(&Ttl::Never).unwrap(), r#"{"never":true}"#);
    for ttl in [seconds(60), Ttl::Never] {
        let text = serde_json::to_string(&ttl).unwrap();
        assert_eq!(serde_json::from_str::<Ttl>(&text).unwrap(), ttl);
    }
    let bad = [
        "{}",
        "60",
        r#"{"ttlSeconds":0}"#,
        r#"{"ttlSeconds":-1}"#,
        r#"{"ttlSeconds":1.5}"#,
        r#"{"ttlSeconds":1e30}"#,
        r#"{"ttlSeconds":"60"}"#,
        r#"{"never":false}"#,
        r#"{"ttlSeconds":60,"never":true}"#,
        r#"{"ttlSeconds":60,"x":1}"#,
        r#"{"ttlSeconds":60,"ttlSeconds":61}"#,
        r#"{"ttlSeconds":60,"never":null}"#,
        r#"{"ttlSeconds":null,"never":true}"#,
    ];
    for text in bad {
        assert!(serde_json::from_str::<Ttl>(text).is_err(), "{text}");
    }
}

#[test]
fn a_listing_reads_back_as_it_was_written_sorted_by_scope() {
    let listing = rules(
        scopes().into_iter().map(|scope| (scope, seconds(5))).collect(),
        vec![(scopes()[1].clone(), Ttl::Never), (Scope::Flow(flow("a")), seconds(9))],
    )
    .listing();
    let text = serde_json::to_string(&listing).unwrap();
    assert_eq!(serde_json::from_str::<Listing>(&text).unwrap(), listing);
    let order: Vec<_> = listing.rules.iter().map(|rule| (rule.scope.to_string(), rule.origin)).collect();
    let expected = [
        ("account acme, flow orders", Origin::Static),
        ("account acme", Origin::Dynamic),
        ("account acme", Origin::Static),
        ("flow a", Origin::Dynamic),
        ("flow orders", Origin::Static),
    ];
    assert_eq!(order, expected.map(|(scope, origin)| (scope.to_owned(), origin)));
}

#[test]
fn an_explanation_is_one_flat_json_object() {
    let rules = rules(vec![(scopes()[1].clone(), seconds(5))], vec![]);
    let told = serde_json::to_value(rules.explain(&account("acme"), &flow("orders"), None)).unwrap();
    let expected = serde_json::json!({
        "ttlSeconds": 5,
        "winner": {"origin": "static", "accountId": "acme"},
        "clamped": null,
        "minSeconds": 1,
        "maxSeconds": 100_000,
        "requestFollowed": false,
        "candidates": [
            {"origin": "static", "accountId": "acme", "ttlSeconds": 5, "fate": "used"},
            {"origin": "default", "ttlSeconds": 1000, "fate": "outranked"},
        ],
    });
    assert_eq!(told, expected);
}

fn any_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c"])
}

fn any_ttl() -> impl Strategy<Value = Ttl> {
    prop_oneof![3 => (1_u64..2_000).prop_map(seconds), 1 => Just(Ttl::Never)]
}

fn any_scope() -> impl Strategy<Value = Scope> {
    (any_name(), any_name(), 0..3_u8).prop_map(|(a, f, kind)| match kind {
        0 => Scope::AccountFlow(account(a), flow(f)),
        1 => Scope::Account(account(a)),
        _ => Scope::Flow(flow(f)),
    })
}

fn any_patterns() -> impl Strategy<Value = Vec<ScopePattern>> {
    let pattern = (prop::option::of(any_name()), prop::option::of(any_name()))
        .prop_map(|(a, f)| ScopePattern { account: a.map(account), flow: f.map(flow) });
    prop::collection::vec(pattern, 0..3)
}

prop_compose! {
    fn any_rules()(
        default in any_ttl(),
        (min, max) in (1_u64..500, 500_u64..1_500),
        allow_request in any_patterns(),
        allow_never in any_patterns(),
        static_rules in prop::collection::vec((any_scope(), any_ttl()), 0..8),
        dynamic_rules in prop::collection::vec((any_scope(), any_ttl()), 0..8),
    ) -> Rules {
        Rules {
            default,
            min: Duration::from_secs(min),
            max: Duration::from_secs(max),
            allow_request,
            allow_never,
            ..rules(static_rules, dynamic_rules)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn resolve_and_explain_never_disagree(
        rules in any_rules(),
        (a, f) in (any_name(), any_name()),
        asked in prop::option::of(1_u64..3_000),
    ) {
        let asked = asked.map(Duration::from_secs);
        let told = rules.explain(&account(a), &flow(f), asked);
        prop_assert_eq!(rules.resolve(&account(a), &flow(f), asked), told.ttl);
        match told.ttl {
            Ttl::For(time) => prop_assert!(rules.min <= time && time <= rules.max),
            Ttl::Never => prop_assert!(told.clamped.is_none()),
        }
        let won = |fate: &Fate| !matches!(fate, Fate::Outranked | Fate::RequestNotAllowed);
        prop_assert_eq!(told.candidates.iter().filter(|candidate| won(&candidate.fate)).count(), 1);
    }

    /// A scope has a say where it covers the names, and where no narrower rule wins.
    #[test]
    fn a_scope_resolves_what_it_has_a_say_in_as_the_rules_do(
        rules in any_rules(),
        scope in any_scope(),
        (a, f) in (any_name(), any_name()),
    ) {
        let told = rules.explain(&account(a), &flow(f), None);
        let rank = |scope: Option<&Scope>| match scope {
            Some(Scope::AccountFlow(..)) => 0,
            Some(Scope::Account(_)) => 1,
            Some(Scope::Flow(_)) => 2,
            None => 3,
        };
        let covers = match &scope {
            Scope::AccountFlow(of, named) => of.as_str() == a && named.as_str() == f,
            Scope::Account(of) => of.as_str() == a,
            Scope::Flow(named) => named.as_str() == f,
        };
        let has_a_say = covers && rank(told.winner.scope.as_ref()) >= rank(Some(&scope));
        prop_assert_eq!(rules.resolve_within(&scope, &account(a), &flow(f)), has_a_say.then_some(told.ttl));
    }
}
