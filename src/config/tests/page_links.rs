//! What page links mean for the configuration.

use super::*;
use crate::envelope::{Account, Flow, WebhookKey};
use crate::registry::{Key, Options};
use crate::ttl::Ttl;

const ON: &str = "[confluence]\nenabled = true\n";
const SQS: &str = "[buffer]\nqueue_url = \"http://h/1/q\"\ndead_letter_url = \"http://h/1/qd\"\n";
const PAGES: &str = "[pages]\nqueue_url = \"http://h/1/p\"\ndead_letter_url = \"http://h/1/pd\"\n";
const POSTGRES: &str = "[registry]\nurl = \"postgres://u:secret@h/db\"\nkey_file = \"key\"\n";
const REDIS: &str = "[store]\nurl = \"redis://h\"\n";

fn account(name: &str) -> Account {
    Account::parse(name).unwrap()
}

fn resolved(loaded: &Loaded, of: &str) -> Ttl {
    loaded.config.ttl.resolve(&account(of), &Flow::parse("page-links").unwrap(), None)
}

#[test]
fn page_links_are_off_by_default_and_one_switch_turns_them_on() {
    assert!(of_file("").unwrap().config.page_links.is_none());
    let loaded = load(&sources(&[("HOOKCACHE_CONFLUENCE__ENABLED", "true")], &[])).unwrap();
    let page_links = loaded.config.page_links.unwrap();
    assert_eq!(page_links.hooks.account, None);
    let Options::Sqlite { path, key } = page_links.registry else { panic!("{:?}", page_links.registry) };
    assert!(path.ends_with("registry.db"));
    assert!(matches!(key, Key::MadeAtFirst(path) if path.ends_with("registry.key")));
    assert!(matches!(page_links.queue, BufferOptions::Embedded(options) if options.path.ends_with("pages.redb")));
    for wrong in ["[confluence]\nenabled = 1", "[confluence]\nenabled = \"true\""] {
        assert!(fault_of(wrong).ends_with("must be true or false"), "{}", fault_of(wrong));
    }
}

#[test]
fn a_password_of_the_registry_is_never_shown() {
    let loaded = of_file(&format!("{ON}{POSTGRES}")).unwrap();
    assert_eq!(shown(&loaded, "registry.url").shown_value, "\"postgres://u:***@h/db\"");
    assert!(!format!("{:?}", loaded.config).contains("secret"));
    let fault = fault_of("[registry]\nurl = \"mysql://u:secret@h/db\"\nkey_file = \"key\"");
    assert!(fault.contains("must be postgres://host") && !fault.contains("secret"), "{fault}");
}

#[test]
fn the_key_of_the_registry_may_stand_in_a_variable_and_is_never_shown() {
    let digits = "5EcE7".repeat(13)[..64].to_owned();
    let in_place = |text: &str| POSTGRES.replace("key_file = \"key\"", &format!("key = \"{text}\""));
    let loaded = of_file(&format!("{ON}{}", in_place(&digits))).unwrap();
    assert!(matches!(&loaded.config.page_links.as_ref().unwrap().registry,
        Options::Postgres { key: Key::Text(text), .. } if *text == digits));
    assert_eq!(shown(&loaded, "registry.key").shown_value, "\"***\"");
    assert!(!format!("{:?}", loaded.config).contains(&digits));
    assert_eq!(shown(&of_file("").unwrap(), "registry.key").shown_value, "\"\"");
    for (text, part) in [
        (in_place("5ece7"), "registry.key (file test.toml): was \"***\", must be 64 hexadecimal digits"),
        (in_place("7").replace("\"7\"", "5347"), "registry.key (file test.toml): was a integer"),
        (format!("{}key_file = \"key\"\n", in_place(&digits)), "registry.key (file test.toml): is at odds with"),
    ] {
        let fault = fault_of(&text);
        assert!(fault.contains(part) && !fault.contains("5ece7") && !fault.contains("5347"), "{fault}");
    }
}

#[test]
fn its_keys_belong_to_page_links_alone() {
    let keys = ["confluence:acme:page:1", "free"].map(|key| WebhookKey::parse(key).unwrap());
    let tokens = format!("[[auth.tokens]]\nname = \"t\"\nhash = \"{HASH}\"\nscopes = [\"set\"]\n");
    let grants = |text: &str| of_file(text).unwrap().config.grants();
    let of = account("acme");
    for text in [ON.to_owned(), format!("{ON}{tokens}")] {
        let grants = grants(&text);
        assert_eq!(grants.check("source:confluence", &of, &keys), Ok(()));
        assert!(grants.check("t", &of, &keys).is_err(), "{text}");
        assert!(grants.check("t", &of, &keys[1..]).is_ok());
    }
    // While they are off, nobody is that source.
    assert!(grants(&tokens).check("source:confluence", &of, &keys[1..]).is_err());
    assert!(grants(&tokens).check("t", &of, &keys).is_ok());

    for prefix in ["confluence:", "confluence:acme:", "con"] {
        let reserved = format!("[keys.reserved]\n\"{prefix}\" = \"account:acme\"\n");
        assert!(of_file(&reserved).is_ok());
        let fault = fault_of(&format!("{ON}{reserved}"));
        assert!(fault.starts_with("keys.reserved (file test.toml): reserves") && fault.contains(prefix), "{fault}");
    }
    assert!(of_file(&format!("{ON}[keys.reserved]\n\"confluence:\" = \"source:confluence\"\n")).is_ok());
}

#[test]
fn what_page_links_store_lives_for_ever_unless_the_operator_says_otherwise() {
    let day = Ttl::For(Duration::from_secs(86_400));
    let default = "[ttl]\ndefault = \"1d\"\n";
    assert_eq!(resolved(&of_file(default).unwrap(), "acme"), day);
    assert_eq!(resolved(&of_file(&format!("{ON}{default}")).unwrap(), "acme"), Ttl::Never);
    for rule in ["flow = \"page-links\"", "account = \"acme\"", "account = \"acme\"\nflow = \"page-links\""] {
        let loaded = of_file(&format!("{ON}[[ttl.rules]]\n{rule}\nttl = \"1d\"\n")).unwrap();
        assert_eq!(resolved(&loaded, "acme"), day, "{rule}");
    }
}

#[test]
fn a_reload_judges_by_what_the_process_has_started_with() {
    let started = of_file(ON).unwrap();
    let file = layers::FileText { path: "test.toml".into(), text: "[ttl]\ndefault = \"1d\"\n".to_owned() };
    let reloaded = load_with(&Sources::default(), Some(file), Some(&started.merged)).unwrap();
    assert_eq!(resolved(&reloaded, "acme"), Ttl::Never);
    assert_eq!(reloaded.config.grants().check("source:confluence", &account("acme"), &[]), Ok(()));
    assert!(reloaded.merged.changed(&started.merged).contains(&"confluence.enabled".to_owned()));
}

#[test]
fn roles_of_page_links_stay_in_one_process_while_something_of_theirs_is_embedded() {
    let apart = format!("{SQS}{REDIS}{ON}");
    let cases = [
        ("[\"set\"]", format!("{apart}{PAGES}"), "has set without pages", "registry.url"),
        ("[\"set\"]", format!("{apart}{POSTGRES}"), "has set without pages", "pages.queue_url"),
        ("[\"reindex\"]", apart.clone(), "has reindex without pages", "registry.url and pages.queue_url"),
        ("[\"admin\"]", apart.clone(), "has admin without pages", "registry.url and pages.queue_url"),
        ("[\"pages\"]", apart.clone(), "has pages without set", "registry.url and pages.queue_url"),
        ("[\"pages\"]", format!("{ON}{REDIS}"), "has pages without consume", "buffer.queue_url"),
    ];
    for (roles, text, what, keys) in cases {
        let error = of_file(&format!("roles = {roles}\n{text}")).err().unwrap_or_else(|| panic!("{roles} {text}"));
        let named = |fault: &Fault| fault.text.contains(what) && fault.text.contains(keys) && fault.key == "roles";
        assert!(error.faults.iter().any(named), "{error}");
    }
    for roles in ["[\"set\"]", "[\"pages\"]", "[\"reindex\"]", "[\"admin\"]", "[\"get\"]", "[\"consume\"]"] {
        assert!(of_file(&format!("roles = {roles}\n{apart}{PAGES}{POSTGRES}")).is_ok(), "{roles}");
    }
    for roles in ["[\"get\"]", "[\"consume\"]", "[\"set\", \"pages\"]"] {
        assert!(of_file(&format!("roles = {roles}\n{apart}")).is_ok(), "{roles}");
    }
}

#[test]
fn what_page_links_are_kept_in_must_fit_together() {
    let cases = [
        ("[registry]\nurl = \"postgres://h/db\"\n".to_owned(), "registry.key_file: is needed with registry.url"),
        (
            PAGES.replace("dead_letter_url = \"http://h/1/pd\"\n", ""),
            "pages.queue_url (file test.toml): is for SQS alone",
        ),
        (
            format!("{SQS}[pages]\nqueue_url = \"http://h/1/p\"\n"),
            "pages.dead_letter_url: is needed with pages.queue_url",
        ),
        (
            format!("{SQS}[pages]\ndead_letter_url = \"http://h/1/p\"\n"),
            "pages.dead_letter_url (file test.toml): is for SQS alone: set pages.queue_url",
        ),
        (
            format!("{SQS}{}", PAGES.replace("/pd", "/q")),
            "pages.dead_letter_url (file test.toml): must be another queue than buffer.queue_url",
        ),
        (format!("{SQS}{}", PAGES.replace("/pd", "/p")), "must be another queue than pages.queue_url"),
        ("[confluence]\naccount = \"a b\"\n".to_owned(), "confluence.account (file test.toml): was \"a b\""),
    ];
    for (text, part) in cases {
        let error = of_file(&text).err().unwrap_or_else(|| panic!("{text}")).to_string();
        assert!(error.contains(part), "{error}");
    }
}
