//! From what is asked to a site that can join. Pure. No fault repeats what was sent: it may be a secret in a wrong place.

use super::json::{self, Join};
use crate::confluence::{Credential, Product};
use crate::envelope::{Account, SiteId};
use crate::registry::{JoinedBy, Joining, Site, SiteState};

/// How long webhooks may still be signed with a secret that was replaced: ten minutes, in milliseconds.
pub const FORMER_SECRET_MS: u64 = 10 * 60 * 1_000;
const ALIASES_MAX: usize = 16;
const URL_BYTES_MAX: usize = 1_000;
const USER_BYTES_MAX: usize = 512;
/// Atlassian's API tokens have some 200 characters.
const TOKEN_BYTES_MAX: usize = 8 << 10;
/// What is shorter can be guessed.
const HOOK_SECRET_BYTES_MIN: usize = 16;
const HOOK_SECRET_BYTES_MAX: usize = 1_024;
/// Where sites of the cloud are, and the path that their Confluence has there.
const CLOUD_HOSTS: &str = ".atlassian.net";
const CLOUD_PATH: &str = "/wiki";

/// The text says what is allowed.
pub fn joining(id: SiteId, join: &Join, now_ms: u64) -> Result<Joining, String> {
    let product = match join.product {
        json::Product::Cloud => Product::Cloud,
        json::Product::DataCenter => Product::DataCenter,
    };
    if join.aliases.len() > ALIASES_MAX {
        return Err(format!("aliases: at most {ALIASES_MAX}"));
    }
    let base_url = whole(url("baseUrl", &join.base_url)?, product);
    let api_base = match &join.api_base {
        Some(text) => whole(url("apiBase", text)?, product),
        None => base_url.clone(),
    };
    let aliases = join.aliases.iter().map(|alias| url("aliases", alias)).collect::<Result<_, _>>()?;
    let site = Site {
        id,
        account: Account::parse(&join.account_id).map_err(|error| format!("accountId: {error}"))?,
        product,
        base_url,
        api_base,
        display_url: join.display_url.as_deref().map(|text| url("displayUrl", text)).transpose()?,
        aliases,
        joined_by: JoinedBy::Operator,
        state: SiteState::Active,
        added_ms: now_ms,
        last_event_ms: None,
    };
    Ok(Joining {
        site,
        credential: Some(credential(&join.credential)?),
        hook_secret: join.hook_secret.as_deref().map(hook_secret).transpose()?,
    })
}

/// Why a site of this name can't be added for this account, where there is one already.
pub fn taken(before: &Site, account: &Account) -> Option<String> {
    let removing = matches!(before.state, SiteState::Uninstalled { .. });
    if before.account != *account {
        // The account owns what is stored of its pages.
        let wait = if removing { "; it is being removed: wait until it is gone" } else { "" };
        return Some(format!(
            "a site of this name belongs to another account: remove it first, or take another name{wait}"
        ));
    }
    (before.joined_by != JoinedBy::Operator && !removing).then(|| {
        "this site has installed the app, which looks after its credential: remove it first, or take another name"
            .to_owned()
    })
}

/// An absolute URL without what would make it ambiguous, and without a slash at its end.
fn url(field: &str, text: &str) -> Result<String, String> {
    let allowed = || {
        format!(
            "{field}: must be https://host[:port][/path] or http://..., at most {URL_BYTES_MAX} bytes, without user, query or fragment"
        )
    };
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or_else(allowed)?;
    let host = rest.split('/').next().unwrap_or_default();
    let parsed: http::Uri = text.parse().map_err(|_| allowed())?;
    let fits = text.len() <= URL_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    let plain = parsed.query().is_none() && !text.contains(['#', '@', '\\']);
    let has_host = parsed.host().is_some_and(|host| !host.is_empty()) && !host.ends_with(':');
    let has_legal_port = parsed.authority().is_none_or(|authority| {
        let port = authority.as_str().strip_prefix(authority.host()).and_then(|rest| rest.strip_prefix(':'));
        port.is_none_or(|port| port.parse::<u16>().is_ok())
    });
    match fits && plain && has_host && has_legal_port {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(allowed()),
    }
}

/// Confluence's own path, where a person has left it out.
fn whole(url: String, product: Product) -> String {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    match product == Product::Cloud && rest.ends_with(CLOUD_HOSTS) && !rest.contains('/') {
        true => url + CLOUD_PATH,
        false => url,
    }
}

fn credential(asked: &json::Credential) -> Result<Credential, String> {
    match (&asked.user, &asked.token, &asked.bearer) {
        (Some(user), Some(token), None) => {
            if user.contains(':') || !is_secret(user, 1..=USER_BYTES_MAX) {
                return Err(format!(
                    "credential.user: must have 1 to {USER_BYTES_MAX} bytes, no colon and no control characters"
                ));
            }
            Ok(Credential::Basic { user: user.clone(), token: token_of("credential.token", token)? })
        }
        (None, None, Some(bearer)) => Ok(Credential::Bearer(token_of("credential.bearer", bearer)?)),
        _ => Err("credential: must have either user and token, or bearer".to_owned()),
    }
}

fn token_of(field: &str, text: &str) -> Result<String, String> {
    match is_secret(text, 1..=TOKEN_BYTES_MAX) && !text.contains(char::is_whitespace) {
        true => Ok(text.to_owned()),
        false => Err(format!("{field}: must have 1 to {TOKEN_BYTES_MAX} bytes, no blanks and no control characters")),
    }
}

fn hook_secret(text: &str) -> Result<String, String> {
    match is_secret(text, HOOK_SECRET_BYTES_MIN..=HOOK_SECRET_BYTES_MAX) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "hookSecret: must have {HOOK_SECRET_BYTES_MIN} to {HOOK_SECRET_BYTES_MAX} bytes and no control characters; \
             `openssl rand -hex 32` makes one"
        )),
    }
}

fn is_secret(text: &str, bytes: std::ops::RangeInclusive<usize>) -> bool {
    bytes.contains(&text.len()) && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join() -> Join {
        serde_json::from_value(serde_json::json!({
            "accountId": "acme",
            "baseUrl": "https://acme.atlassian.net",
            "credential": { "user": "bot@acme.example", "token": "secret-of-the-bot" },
        }))
        .unwrap()
    }

    fn joined(join: &Join) -> Result<Joining, String> {
        joining(SiteId::parse("acme").unwrap(), join, 7)
    }

    #[test]
    fn what_a_person_leaves_out_is_filled_in() {
        let Joining { site, .. } = joined(&join()).ok().unwrap();
        assert_eq!(
            (site.base_url.as_str(), site.api_base.as_str()),
            ("https://acme.atlassian.net/wiki", site.base_url.as_str())
        );
        for (product, url, whole) in [
            (json::Product::Cloud, "https://acme.atlassian.net/wiki/", "https://acme.atlassian.net/wiki"),
            (json::Product::Cloud, "https://docs.example:8443/x", "https://docs.example:8443/x"),
            (json::Product::DataCenter, "http://127.0.0.1:8090", "http://127.0.0.1:8090"),
            (json::Product::DataCenter, "https://acme.atlassian.net", "https://acme.atlassian.net"),
            (json::Product::Cloud, "http://[::1]:80/confluence//", "http://[::1]:80/confluence"),
        ] {
            let Joining { site, .. } = joined(&Join { product, base_url: url.to_owned(), ..join() }).ok().unwrap();
            assert_eq!(site.base_url, whole);
        }
    }

    #[test]
    fn what_can_not_be_is_refused_without_being_shown() {
        let with = |change: fn(&mut Join)| {
            let mut join = join();
            change(&mut join);
            joined(&join).err().unwrap_or_else(|| panic!("it is taken"))
        };
        for (text, start) in [
            (with(|join| join.account_id = "sneaky value".to_owned()), "accountId: "),
            (with(|join| join.base_url = "acme.atlassian.net/sneaky".to_owned()), "baseUrl: "),
            (with(|join| join.base_url = "ftp://sneaky".to_owned()), "baseUrl: "),
            (with(|join| join.base_url = "https://sneaky:x@host".to_owned()), "baseUrl: "),
            (with(|join| join.base_url = "https://host/?sneaky".to_owned()), "baseUrl: "),
            (with(|join| join.base_url = "https://host/#sneaky".to_owned()), "baseUrl: "),
            (with(|join| join.base_url = "https://host:99999".to_owned()), "baseUrl: "),
            (with(|join| join.base_url = "https://".to_owned()), "baseUrl: "),
            (with(|join| join.base_url = format!("https://h/{}", "sneaky".repeat(200))), "baseUrl: "),
            (with(|join| join.api_base = Some("sneaky".to_owned())), "apiBase: "),
            (with(|join| join.display_url = Some("sneaky".to_owned())), "displayUrl: "),
            (with(|join| join.aliases = vec!["https://h".to_owned(); 17]), "aliases: at most 16"),
            (with(|join| join.aliases = vec!["sneaky".to_owned()]), "aliases: "),
            (with(|join| join.credential = json::Credential::default()), "credential: must have either"),
            (with(|join| join.credential.bearer = Some("sneaky".to_owned())), "credential: must have either"),
            (with(|join| join.credential.user = Some("sneaky:x".to_owned())), "credential.user: "),
            (with(|join| join.credential.token = Some("sneaky\nx".to_owned())), "credential.token: "),
            (with(|join| join.credential.token = Some(String::new())), "credential.token: "),
            (with(|join| join.hook_secret = Some("sneaky".to_owned())), "hookSecret: must have 16 to 1024"),
        ] {
            assert!(text.starts_with(start) && !text.contains("sneaky"), "{text}");
        }
    }

    #[test]
    fn a_name_is_taken_by_another_account_and_by_an_app_that_is_installed() {
        let site = joined(&join()).ok().unwrap().site;
        let (acme, other) = (Account::parse("acme").unwrap(), Account::parse("other").unwrap());
        assert_eq!(taken(&site, &acme), None);
        assert!(taken(&site, &other).is_some_and(|why| why.contains("another account")));
        let forge = Site { joined_by: JoinedBy::Forge, ..site };
        assert!(taken(&forge, &acme).is_some_and(|why| why.contains("installed the app")));
        let removed = Site { state: SiteState::REMOVED, ..forge };
        assert_eq!(taken(&removed, &acme), None);
        assert!(taken(&removed, &other).is_some_and(|why| why.contains("wait until it is gone")));
    }
}
