use std::collections::BTreeMap;

use super::file::{Change, changes, read, summary, write};
use super::*;

fn scope(account: Option<&str>, flow: Option<&str>) -> Scope {
    crate::ttl::json::scope_of(account, flow).unwrap()
}

fn seconds(seconds: u64) -> Ttl {
    Ttl::from_seconds(seconds).unwrap()
}

#[test]
fn an_export_is_sorted_and_imports_as_it_was() {
    let rules = vec![
        (scope(None, Some("orders")), Ttl::Never),
        (scope(Some("b"), None), seconds(90)),
        (scope(Some("a.b:c@d"), Some("x")), seconds(604_800)),
    ];
    let text = write(&rules);
    let backwards: Vec<_> = rules.iter().rev().cloned().collect();
    assert_eq!(write(&backwards), text);
    assert_eq!(read(&text).unwrap(), rules.into_iter().collect::<BTreeMap<_, _>>());
    let tables = "\n[[rules]]\naccount = \"a.b:c@d\"\nflow = \"x\"\nttl = \"7d\"\n\n[[rules]]\naccount = \"b\"\nttl = \
                  \"90s\"\n\n[[rules]]\nflow = \"orders\"\nttl = \"never\"\n";
    assert!(text.ends_with(tables), "{text}");
    assert_eq!(read(&write(&[])).unwrap(), BTreeMap::new());
}

#[test]
fn an_import_adds_changes_and_removes_and_leaves_the_rest_alone() {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| scope(Some(name), None));
    let there = [(a.clone(), seconds(1)), (b.clone(), seconds(2)), (c.clone(), seconds(3))];
    let wanted = [(a, seconds(1)), (b.clone(), seconds(9)), (d.clone(), seconds(4))].into();
    let found = changes(&there, &wanted);
    let expected =
        [Change::Replace(b, seconds(2), seconds(9)), Change::Add(d, seconds(4)), Change::Remove(c, seconds(3))];
    assert_eq!(found, expected);
    assert_eq!(summary(&found), "1 added, 1 changed, 1 removed");
}

#[test]
fn a_file_that_is_not_quite_an_export_is_refused() {
    let cases = [
        ("", "the file has no rules"),
        ("rules = 1", "`rules` must be a list"),
        ("rule = []", "unknown key \"rule\""),
        ("[[rules]]\nttl = \"1h\"", "rules[0]: a rule needs an account, a flow, or both"),
        ("[[rules]]\naccount = \"a\"", "rules[0]: needs a ttl"),
        ("[[rules]]\naccount = \"a\"\nttl = 60", "rules[0]: ttl must be a text"),
        ("[[rules]]\naccount = \"a\"\nttl = \"soon\"", "rules[0]: ttl must be"),
        ("[[rules]]\naccount = \"a b\"\nttl = \"1h\"", "rules[0]: accountId must have"),
        ("[[rules]]\nacount = \"a\"\nttl = \"1h\"", "rules[0]: unknown key \"acount\""),
        ("[[rules]]\nflow = \"a\"\nttl = \"1h\"\n[[rules]]\nflow = \"a\"\nttl = \"1h\"", "rules[1]: another rule"),
        ("[[rules", "the file is not TOML"),
    ];
    for (text, start) in cases {
        let error = read(text).unwrap_err();
        assert!(error.starts_with(start), "{error}");
    }
}

#[test]
fn a_listing_and_an_explanation_are_shown_as_the_server_sends_them() {
    let config = "[ttl]\nallow_never = [\"*/*\"]\n[[ttl.rules]]\naccount = \"acme\"\nttl = \"2h\"";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hookcache.toml");
    std::fs::write(&path, config).unwrap();
    let sources = crate::config::Sources { file: Some(path), ..Default::default() };
    let rules = crate::config::load(&sources).unwrap().config.ttl;
    let rules = rules.with_dynamic(vec![(scope(None, Some("orders")), Ttl::Never)]);

    let sent = serde_json::to_vec(&rules.listing()).unwrap();
    let shown = show_rules(&serde_json::from_slice(&sent).unwrap());
    let expected = "default 7d, min 1s, max 365d\nACCOUNT  FLOW    TTL    SET\nacme     *       2h     in the \
                    configuration\n*        orders  never  while running\n";
    assert_eq!(shown, expected);

    let asked = (Account::parse("acme").unwrap(), Flow::parse("orders").unwrap());
    let sent = serde_json::to_vec(&rules.explain(&asked.0, &asked.1, None)).unwrap();
    let shown = show_explanation(&asked.0, &asked.1, &serde_json::from_slice(&sent).unwrap());
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "account acme, flow orders: 2h after the event's time");
    assert_eq!(lines[3].split_whitespace().collect::<Vec<_>>().join(" "), "acme * 2h in the configuration used");
    assert_eq!(lines[4].split_whitespace().collect::<Vec<_>>().join(" "), "* orders never while running outranked");
    assert!(shown.contains("\nBounds: 1s to 365d. A set's own ttlSeconds is followed here.\n"), "{shown}");
}

#[test]
fn a_rule_needs_an_account_a_flow_or_both() {
    let command = || Args::augment_args(clap::Command::new("ttl"));
    command().debug_assert();
    let fits = |line: &str| command().try_get_matches_from(line.split(' ')).is_ok();
    for good in ["ttl set --account a 1h", "ttl set --flow f never", "ttl unset --account a --flow f"] {
        assert!(fits(good), "{good}");
    }
    for bad in ["ttl set 1h", "ttl unset", "ttl set --account a", "ttl set --account a/b 1h", "ttl set --flow f 0s"] {
        assert!(!fits(bad), "{bad}");
    }
}
