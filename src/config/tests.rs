use std::collections::BTreeSet;

mod page_links;

use super::*;
use crate::envelope::Account;

/// The sources of a file's text, variables and flags.
fn sources(environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Sources {
    Sources {
        file: None,
        environment: environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        flags: flags.iter().map(|(key, value)| (*key, value.to_string())).collect(),
    }
}

fn with_file(text: &str, sources: &Sources) -> Result<Loaded, ConfigError> {
    let file = layers::FileText { path: "test.toml".into(), text: text.to_owned() };
    load_with(sources, Some(file), None)
}

fn of_file(text: &str) -> Result<Loaded, ConfigError> {
    with_file(text, &Sources::default())
}

/// The one fault of a file, as it is shown.
fn fault_of(text: &str) -> String {
    let error = of_file(text).err().unwrap_or_else(|| panic!("was not refused: {text}"));
    assert_eq!(error.faults.len(), 1, "{error}");
    error.faults[0].to_string()
}

fn shown<'a>(loaded: &'a Loaded, key: &str) -> &'a Setting {
    loaded.settings.iter().find(|setting| setting.key == key).unwrap()
}

const HASH: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[test]
fn every_key_of_the_manual_is_read_and_every_key_that_is_read_is_in_the_manual() {
    let (merged, faults) = layers::merge(&Sources::default(), None);
    assert_eq!(faults, vec![]);
    let in_manual: BTreeSet<&str> = merged.keys().collect();
    assert_eq!(narrow::keys_read(&merged), in_manual);
}

#[test]
fn every_key_of_the_manual_has_a_comment() {
    let mut commented = false;
    for line in layers::DEFAULTS.lines() {
        match line.trim() {
            "" => commented = false,
            line if line.starts_with('#') => commented = true,
            // A group of keys shares the comment above it.
            line => assert!(commented || line.starts_with('['), "no comment above: {line}"),
        }
    }
}

#[test]
fn the_defaults_alone_are_a_valid_configuration() {
    let loaded = load(&Sources::default()).unwrap();
    assert!(Role::ALL.into_iter().all(|role| loaded.config.roles.has(role)));
    assert_eq!(loaded.config.access, Access::OpenOnLoopback);
    assert!(matches!(loaded.config.buffer, BufferOptions::Embedded(_)));
    assert!(matches!(loaded.config.store, StoreOptions::Embedded(_)));
    assert!(loaded.settings.iter().all(|setting| setting.source == Source::Default));
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default_and_each_says_where_it_is_from() {
    let file = "listen = \"127.0.0.1:1\"\n[get]\nmax_age_seconds = 1\n[consumer]\npollers = 3";
    let sources = sources(
        &[("HOOKCACHE_LISTEN", "127.0.0.1:2"), ("HOOKCACHE_GET__MAX_AGE_SECONDS", "2")],
        &[("listen", "127.0.0.1:3")],
    );
    let loaded = with_file(file, &sources).unwrap();
    assert_eq!(loaded.config.listen.port(), 3);
    assert_eq!(loaded.config.get.max_age, Duration::from_secs(2));
    assert_eq!(loaded.config.consumer.pollers, 3);
    let from = |key| shown(&loaded, key).source.to_string();
    assert_eq!(from("listen"), "flag --listen");
    assert_eq!(from("get.max_age_seconds"), "environment HOOKCACHE_GET__MAX_AGE_SECONDS");
    assert_eq!(from("consumer.pollers"), "file test.toml");
    assert_eq!(from("consumer.attempts_max"), "default");
}

#[test]
fn a_variable_that_is_no_setting_is_left_alone() {
    let others = [
        ("HOOKCACHE_TOKEN", "x"),
        ("HOOKCACHE_URL", "x"),
        ("HOOKCACHE_ADMIN_URL", "x"),
        ("PATH", "x"),
        // What Kubernetes sets for services called hookcache and hookcache-get.
        ("HOOKCACHE_SERVICE_HOST", "10.0.0.1"),
        ("HOOKCACHE_SERVICE_PORT_HTTP", "80"),
        ("HOOKCACHE_PORT", "tcp://10.0.0.1:80"),
        ("HOOKCACHE_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("HOOKCACHE_GET_PORT_80_TCP", "tcp://10.0.0.1:80"),
    ];
    assert!(load(&sources(&others, &[])).is_ok());
}

#[test]
fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
    let cases = [
        ("lisen = \"127.0.0.1:1\"", "lisen (file test.toml): unknown key; did you mean listen?"),
        ("[stor]\nurl = \"\"", "stor.url (file test.toml): unknown key; did you mean store.url?"),
        ("[buffer]\nurl = \"\"", "buffer.url (file test.toml): unknown key; did you mean store.url?"),
        (
            "[consumer]\nattempt_max = 1",
            "consumer.attempt_max (file test.toml): unknown key; did you mean consumer.attempts_max?",
        ),
        ("\"store.url\" = \"\"", "\"store.url\" (file test.toml): unknown key; did you mean store.url?"),
        ("listen = { a = 1 }", "listen.a (file test.toml): unknown key; did you mean listen?"),
        (
            "auth = \"none\"",
            "auth (file test.toml): is a section, not a key; its keys are auth.callers, auth.mode, auth.tokens",
        ),
    ];
    for (text, fault) in cases {
        assert_eq!(fault_of(text), fault);
    }
    let far = fault_of("[zzzzzzzz]\nqqqqqqqqqqq = 1");
    assert!(far.ends_with("unknown key; `hookcache config print` lists those there are"), "{far}");
    let error = load(&sources(&[("HOOKCACHE_STORE__PASSWORD", "hunter2")], &[])).err().unwrap().to_string();
    assert!(error.contains("store.password (environment HOOKCACHE_STORE__PASSWORD): unknown key"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_wrong_value_is_refused_with_its_key_what_it_was_and_what_is_allowed() {
    let at = |key: &str, text: &str| format!("{key} (file test.toml): {text}");
    let cases = [
        (
            "listen = \"localhost\"",
            at("listen", "was \"localhost\", must be address:port, such as 127.0.0.1:8080 or [::]:8080"),
        ),
        ("listen = 8080", at("listen", "was 8080, must be a text in quotes")),
        (
            "[http]\nthreads = \"own\"",
            at("http.threads", "was \"own\", must be \"auto\" or \"per-core\" or \"shared\""),
        ),
        ("data_dir = \"\"", at("data_dir", "was \"\", must be the path of a folder")),
        (
            "roles = [\"get\", \"sett\"]",
            at(
                "roles",
                "was [\"get\", \"sett\"], each must be one of \"set\", \"consume\", \"get\", \"admin\", \"pages\", \"reindex\"",
            ),
        ),
        (
            "roles = []",
            at("roles", "needs at least one of \"set\", \"consume\", \"get\", \"admin\", \"pages\", \"reindex\""),
        ),
        (
            "[buffer]\nvisibility = \"soon\"",
            at("buffer.visibility", "was \"soon\", must be a time with a unit, 5s to 12h, such as \"10s\""),
        ),
        (
            "[buffer]\nwait = \"21s\"",
            at("buffer.wait", "was \"21s\", must be a time with a unit, 1s to 20s, such as \"10s\""),
        ),
        (
            "[buffer]\nmax_bytes = \"4GB\"",
            at("buffer.max_bytes", "was \"4GB\", must be a size with a unit, 1MiB to 16TiB, such as \"4GiB\""),
        ),
        (
            "[limits]\nsets_per_second = -1",
            at("limits.sets_per_second", "was -1, must be a whole number, 0 to 1000000"),
        ),
        (
            "[limits]\nsets_per_second = 5\nsets_burst = 0.5",
            at("limits.sets_burst", "was 0.5, must be a whole number, 0 to 1000000"),
        ),
        (
            "[reindex]\nevery = \"0s\"",
            at("reindex.every", "was \"0s\", must be \"never\" or a time with a unit, 1m to 30d, such as \"6h\""),
        ),
        (
            "[reindex]\nfull_every = \"often\"",
            at(
                "reindex.full_every",
                "was \"often\", must be \"never\" or a time with a unit, 1h to 365d, such as \"6h\"",
            ),
        ),
        ("[consumer]\npollers = 0", at("consumer.pollers", "was 0, must be a whole number, 1 to 64")),
        ("[consumer]\npollers = -1", at("consumer.pollers", "was -1, must be a whole number, 1 to 64")),
        ("[consumer]\npollers = \"2\"", at("consumer.pollers", "was \"2\", must be a whole number, 1 to 64")),
        (
            "[store]\nurl = \"http://h\"",
            at("store.url", "was \"http://h\", must be redis://host[:port][/path] or rediss://host[:port][/path]"),
        ),
        (
            "[store]\nurl = \"redis://u:secret@\"",
            at(
                "store.url",
                "was \"redis://u:***@\", must be redis://host[:port][/path] or rediss://host[:port][/path]",
            ),
        ),
        (
            "[store]\nacknowledge = \"replicas(0)\"",
            at(
                "store.acknowledge",
                "was \"replicas(0)\", must be \"memory\", \"replicas(n)\" with n from 1 to 16, or \"aof\"",
            ),
        ),
        (
            "[store]\nurl = \"redis://:pw@a,http://b\"",
            at(
                "store.url",
                "was \"redis://:***@a,http://b\", must be redis://host[:port][/path] or rediss://host[:port][/path]",
            ),
        ),
        (
            "[store]\nmode = \"clustered\"",
            at("store.mode", "was \"clustered\", must be one of \"standalone\", \"sentinel\", \"cluster\""),
        ),
        (
            "[ttl]\nallow_never = [\"*\"]",
            at("ttl.allow_never", "was [\"*\"], each must be `account/flow`, with `*` for any"),
        ),
        (
            "[log]\nlevel = \"loud\"",
            at("log.level", "was \"loud\", must be one of \"error\", \"warn\", \"info\", \"debug\", \"trace\""),
        ),
    ];
    for (text, fault) in cases {
        assert_eq!(fault_of(text), fault);
    }
}

#[test]
fn what_does_not_fit_together_is_refused_with_the_key_to_change() {
    let sqs = "[buffer]\nqueue_url = \"http://h/1/q\"\ndead_letter_url = \"http://h/1/d\"\n";
    let cases = [
        ("[buffer]\nqueue_url = \"http://h/1/q\"".to_owned(), "buffer.dead_letter_url: is needed"),
        (sqs.replace("/d", "/q"), "buffer.dead_letter_url (file test.toml): must be another queue"),
        ("[buffer]\nregion = \"eu-west-1\"".to_owned(), "buffer.region (file test.toml): is for SQS alone"),
        ("[store]\nca_file = \"ca.pem\"".to_owned(), "store.ca_file (file test.toml): is for Redis alone"),
        (
            "[store]\nurl = \"redis://h\"\nca_file = \"ca\"".to_owned(),
            "store.ca_file (file test.toml): is for TLS alone",
        ),
        (
            "[limits]\nsets_burst = 100".to_owned(),
            "limits.sets_burst (file test.toml): is for limits.sets_per_second alone",
        ),
        ("[store]\nmode = \"cluster\"".to_owned(), "store.mode (file test.toml): is for Redis alone"),
        (
            "[store]\nsentinel_master = \"m\"".to_owned(),
            "store.sentinel_master (file test.toml): is for Sentinel alone",
        ),
        (
            "[store]\nurl = \"redis://h\"\nmode = \"cluster\"\nsentinel_password_file = \"p\"".to_owned(),
            "store.sentinel_password_file (file test.toml): is for Sentinel alone",
        ),
        (
            "[store]\nurl = \"redis://h\"\nmode = \"sentinel\"".to_owned(),
            "store.sentinel_master: is needed with store.mode = \"sentinel\"",
        ),
        (
            "[store]\nurl = \"redis://a,redis://b\"".to_owned(),
            "store.url (file test.toml): names 2 servers: set store.mode to \"cluster\" or \"sentinel\"",
        ),
        ("[consumer]\npause_min = \"20s\"".to_owned(), "consumer.pause_min (file test.toml): must not be longer"),
        ("[ttl]\nmin = \"2d\"\nmax = \"1d\"".to_owned(), "ttl.min (file test.toml): must not be longer"),
        ("[ttl]\ndefault = \"never\"".to_owned(), "ttl.default (file test.toml): `never` is not allowed here"),
        ("admin_listen = \"127.0.0.1:8080\"".to_owned(), "admin_listen (file test.toml): must be another address"),
        (
            "roles = [\"set\"]\n[store]\nurl = \"redis://h\"".to_owned(),
            "roles (file test.toml): has only one of set and consume, which need each other in one process while the \
             buffer is embedded: set buffer.queue_url",
        ),
        (
            format!("roles = [\"get\"]\n{sqs}"),
            "roles (file test.toml): has only one of consume and get, which need each other in one process while the \
             store is embedded: set store.url",
        ),
        (format!("roles = [\"admin\"]\n{sqs}"), "roles (file test.toml): has admin without consume"),
    ];
    for (text, start) in cases {
        let fault = fault_of(&text);
        assert!(fault.starts_with(start), "{fault}");
    }
    assert!(of_file(&format!("roles = [\"set\"]\n{sqs}")).is_ok());
    assert!(of_file(&format!("roles = [\"consume\"]\n{sqs}[store]\nurl = \"redis://h\"")).is_ok());
    assert!(of_file("roles = [\"get\", \"admin\"]\n[store]\nurl = \"redis://h\"").is_ok());
}

#[test]
fn listening_elsewhere_without_tokens_is_refused_unless_none_is_written_out() {
    for text in [
        "listen = \"0.0.0.0:8080\"",
        "listen = \"[::]:8080\"",
        "listen = \"10.0.0.1:8080\"",
        "admin_listen = \"0.0.0.0:8081\"",
    ] {
        let fault = fault_of(text);
        assert!(fault.starts_with("auth.tokens: is empty, but ") && fault.contains("auth.mode = \"none\""), "{fault}");
        assert!(of_file(&format!("{text}\n[auth]\nmode = \"none\"")).is_ok());
        let token = format!("[[auth.tokens]]\nname = \"a\"\nhash = \"{HASH}\"\nscopes = [\"set\"]");
        assert!(of_file(&format!("{text}\n{token}")).is_ok());
    }
    assert!(of_file("listen = \"[::1]:8080\"").is_ok());
}

#[test]
fn a_token_is_read_whole_or_refused_and_what_stands_for_its_hash_is_never_shown() {
    let good = format!("[[auth.tokens]]\nname = \"up\"\nhash = \"{HASH}\"\nscopes = [\"set\", \"get\"]\n");
    let loaded = of_file(&format!("{good}accounts = [\"acme\"]\nenabled = false")).unwrap();
    let Access::Tokens(tokens) = &loaded.config.access else { panic!("no tokens") };
    assert_eq!((tokens[0].name.as_str(), tokens[0].enabled, tokens[0].scopes.len()), ("up", false, 2));
    assert!(loaded.config.grants().callers.unwrap().contains_key("up"));
    assert_eq!(shown(&loaded, "auth.tokens").shown_value, "[1 entry]");

    let raw = "hc_0123456789012345678901234567890123456789012";
    let cases = [
        (good.replace(HASH, raw), "auth.tokens[0].hash"),
        (good.replace("\"up\"", &format!("\"{raw} \"")), "auth.tokens[0].name"),
        (good.replace("up", "anonymous"), "auth.tokens[0].name"),
        (good.replace("up", "source:x"), "auth.tokens[0].name"),
        (good.replace("\"get\"", &format!("\"{raw}\"")), "auth.tokens[0].scopes"),
        (good.replace("[\"set\", \"get\"]", "[]"), "auth.tokens[0].scopes"),
        (format!("{good}accounts = []"), "auth.tokens[0].accounts"),
        (format!("{good}accounts = [\"a b\"]"), "auth.tokens[0].accounts"),
        (format!("{good}enabled = \"{raw}\""), "auth.tokens[0].enabled"),
        (
            format!("{good}acounts = [\"acme\"]"),
            "auth.tokens[0].acounts (file test.toml): unknown key; did you mean accounts?",
        ),
        (format!("{good}{}", good.replace("aaaa", "bbbb")), "auth.tokens[1].name"),
        (format!("{good}{}", good.replace("up", "other")), "auth.tokens[1].hash"),
        (format!("auth.tokens = \"{raw}\""), "auth.tokens (file test.toml): must be a list of tables"),
        (format!("{good}[[auth.tokens]]\nhash = {raw}"), "test.toml: line 6"),
    ];
    for (text, start) in cases {
        let fault = of_file(&text).err().unwrap_or_else(|| panic!("was not refused: {text}")).to_string();
        assert!(fault.contains(&format!("\n  {start}")), "{fault}");
        assert!(!fault.contains(raw), "{fault}");
    }
    let none = with_file(&good, &sources(&[("HOOKCACHE_AUTH__MODE", "none")], &[])).err().unwrap().to_string();
    assert!(none.contains("at odds with auth.tokens"), "{none}");
}

#[test]
fn a_caller_of_aws_is_known_by_its_arn_or_its_principal_and_by_nothing_else() {
    let role = "arn:aws:sts::123456789012:assumed-role/upstream/*";
    let row = |name: &str| format!("[[auth.callers]]\nname = \"{name}\"\naccounts = [\"acme\"]\n");
    let loaded = of_file(&(row(role) + &row("authorizer:app"))).unwrap();
    assert_eq!(shown(&loaded, "auth.callers").shown_value, "[2 entries]");
    let (acme, other) = (Account::parse("acme").unwrap(), Account::parse("other").unwrap());
    let grants = loaded.config.grants();
    for by in ["arn:aws:sts::123456789012:assumed-role/upstream/i-1", "authorizer:app"] {
        assert!(grants.check(by, &acme, &[]).is_ok() && grants.check(by, &other, &[]).is_err(), "{by}");
    }
    assert!(grants.check("arn:aws:iam::123456789012:user/x", &acme, &[]).is_err());
    assert!(grants.check("anonymous", &other, &[]).is_ok(), "no token is asked for on loopback");
    let token = format!("[[auth.tokens]]\nname = \"up\"\nhash = \"{HASH}\"\nscopes = [\"set\"]\n");
    let both = of_file(&(row(role) + &token)).unwrap().config.grants();
    assert!(both.check("up", &other, &[]).is_ok() && both.check("anonymous", &other, &[]).is_err());

    for bad in
        ["up", "anonymous", "source:confluence", "arn:", "authorizer:", "arn:a b", "arn:*", "arn:a/*/b", "arn:a/b*"]
    {
        let fault = fault_of(&row(bad));
        assert!(fault.starts_with("auth.callers[0].name (file test.toml): must be the ARN"), "{bad}: {fault}");
    }
    assert!(fault_of(&row(&format!("arn:{}", "x".repeat(509)))).starts_with("auth.callers[0].name"));
    assert!(fault_of(&row("arn:a").repeat(2)).starts_with("auth.callers[1].name (file test.toml): another caller"));
    assert!(fault_of(&row("arn:a").replace("acme", "a b")).starts_with("auth.callers[0].accounts"));
    assert!(fault_of(&format!("{}scopes = []", row("arn:a"))).starts_with("auth.callers[0].scopes"));
}

#[test]
fn the_text_of_a_file_may_come_from_the_environment_but_not_beside_a_file() {
    let text = ("HOOKCACHE_CONFIG_TEXT", "[[auth.callers]]\nname = \"arn:a\"\n[get]\nmax_age_seconds = 7");
    let loaded = load(&sources(&[text], &[])).unwrap();
    assert_eq!((loaded.config.callers.len(), loaded.config.get.max_age), (1, Duration::from_secs(7)));
    assert_eq!(shown(&loaded, "get.max_age_seconds").source.to_string(), "file $HOOKCACHE_CONFIG_TEXT");
    let beaten = load(&sources(&[text, ("HOOKCACHE_GET__MAX_AGE_SECONDS", "8")], &[])).unwrap();
    assert_eq!(beaten.config.get.max_age, Duration::from_secs(8));
    assert!(load(&sources(&[("HOOKCACHE_CONFIG_TEXT", "")], &[])).is_ok(), "empty is not set");
    let wrong = load(&sources(&[("HOOKCACHE_CONFIG_TEXT", "lisen = 1")], &[])).err().unwrap().to_string();
    assert!(wrong.contains("lisen (file $HOOKCACHE_CONFIG_TEXT): unknown key"), "{wrong}");
    let both = load(&sources(&[text, ("HOOKCACHE_CONFIG", "/etc/h.toml")], &[])).err().unwrap().to_string();
    assert!(both.contains("HOOKCACHE_CONFIG_TEXT: is at odds with the configuration file /etc/h.toml"), "{both}");
}

#[test]
fn ttl_rules_and_reserved_prefixes_are_read_or_refused() {
    let text = "[ttl]\nallow_never = [\"acme/*\"]\n[[ttl.rules]]\naccount = \"acme\"\nttl = \"never\"\n\
        [[ttl.rules]]\nflow = \"orders\"\nttl = \"1h\"\n\
        [keys.reserved]\n\"acme/\" = \"account:acme\"\n\"c:\" = \"source:confluence\"";
    let loaded = of_file(text).unwrap();
    let listing = loaded.config.ttl.listing();
    assert_eq!(listing.rules.len(), 2);
    assert_eq!(loaded.config.reserved.len(), 2);
    assert_eq!(loaded.config.reserved[1].1, Owner::Source("source:confluence".to_owned()));
    let cases = [
        (
            "[[ttl.rules]]\naccount = \"a\"\nttl = \"never\"",
            "ttl.rules[0].ttl (file test.toml): `never` is not allowed",
        ),
        ("[[ttl.rules]]\naccount = \"a\"\nttl = \"0s\"", "ttl.rules[0].ttl"),
        ("[[ttl.rules]]\naccount = \"a\"\nttl = 60", "ttl.rules[0].ttl"),
        ("[[ttl.rules]]\nttl = \"1h\"", "ttl.rules[0] (file test.toml): a rule needs an account, a flow, or both"),
        ("[[ttl.rules]]\naccount = \"a b\"\nttl = \"1h\"", "ttl.rules[0].account"),
        ("[[ttl.rules]]\nflow = \"\"\nttl = \"1h\"", "ttl.rules[0].flow"),
        (
            "[[ttl.rules]]\nacount = \"a\"\nflow = \"f\"\nttl = \"1h\"",
            "ttl.rules[0].acount (file test.toml): unknown key; did you mean account?",
        ),
        ("[keys.reserved]\n\"\" = \"account:a\"", "keys.reserved.\"\""),
        ("[keys.reserved]\n\"a\" = \"acme\"", "keys.reserved.\"a\""),
        ("[keys.reserved]\n\"a\" = 1", "keys.reserved.\"a\""),
        ("[keys]\nreserved = 1", "keys.reserved"),
    ];
    for (text, start) in cases {
        let fault = fault_of(text);
        assert!(fault.starts_with(start), "{fault}");
    }
    let twice = "[[ttl.rules]]\naccount = \"a\"\nttl = \"1h\"\n";
    assert!(fault_of(&twice.repeat(2)).starts_with("ttl.rules[1]"));
}

#[test]
fn lists_of_tables_can_be_set_in_a_file_only() {
    for name in
        ["HOOKCACHE_AUTH__TOKENS", "HOOKCACHE_AUTH__CALLERS", "HOOKCACHE_TTL__RULES", "HOOKCACHE_KEYS__RESERVED"]
    {
        let error = load(&sources(&[(name, "hunter2")], &[])).err().unwrap().to_string();
        assert!(error.contains("can be set in a configuration file only") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let file = "lisen = 1\n[consumer]\npollers = 0\n[store]\nurl = \"x\"\n[ttl]\nmin = \"x\"";
    let error = with_file(file, &sources(&[("HOOKCACHE_LOG__LEVEL", "x")], &[])).err().unwrap();
    let keys: BTreeSet<&str> = error.faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["lisen", "consumer.pollers", "store.url", "ttl.min", "log.level"].into());
}

#[test]
fn a_url_makes_the_backend_and_is_shown_without_its_password() {
    let environment = [
        ("HOOKCACHE_STORE__URL", "redis://me:hunter2@redis:6379"),
        ("HOOKCACHE_STORE__ACKNOWLEDGE", "replicas(2)"),
        ("HOOKCACHE_BUFFER__QUEUE_URL", "http://127.0.0.1:4566/1/q"),
        ("HOOKCACHE_BUFFER__DEAD_LETTER_URL", "http://127.0.0.1:4566/1/d"),
        ("HOOKCACHE_ROLES", "set, consume"),
    ];
    let loaded = load(&sources(&environment, &[])).unwrap();
    let StoreOptions::Redis(store) = &loaded.config.store else { panic!("not Redis") };
    let store::redis::Mode::Standalone { url } = &store.mode else { panic!("not standalone") };
    assert_eq!(url, "redis://me:hunter2@redis:6379");
    assert_eq!(store.acknowledge, store::Acknowledge::Replicas(2));
    assert!(matches!(loaded.config.buffer, BufferOptions::Sqs(_)));
    assert_eq!(loaded.config.roles.iter().collect::<Vec<_>>(), [Role::Set, Role::Consume]);
    assert_eq!(shown(&loaded, "store.url").shown_value, "\"redis://me:***@redis:6379\"");
}

#[test]
fn a_mode_carries_what_it_needs() {
    let of = |toml: &str| match of_file(toml).unwrap().config.store {
        StoreOptions::Redis(options) => options.mode,
        StoreOptions::Embedded(_) => panic!("not Redis"),
    };
    let urls = "[store]\nurl = \"redis://a:1, redis://b:2\"\n";
    let cluster = of(&format!("{urls}mode = \"cluster\""));
    assert!(matches!(cluster, store::redis::Mode::Cluster { urls } if urls == ["redis://a:1", "redis://b:2"]));
    let sentinel = "mode = \"sentinel\"\nsentinel_master = \"m\"\nsentinel_password_file = \"p\"";
    match of(&format!("{urls}{sentinel}")) {
        store::redis::Mode::Sentinel { urls, master, username_file, password_file } => {
            assert_eq!((urls.len(), master.as_str()), (2, "m"));
            assert_eq!((username_file, password_file), (None, Some("p".into())));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_is_not_there_is_refused_by_its_name() {
    let sources = Sources { file: Some("/no/such/hookcache.toml".into()), ..Sources::default() };
    let error = load(&sources).err().unwrap().to_string();
    assert!(error.contains("/no/such/hookcache.toml: the configuration file can't be read"), "{error}");
}
