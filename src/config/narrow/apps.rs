//! The keys of `confluence` that say for which apps webhooks are received.

use crate::config::fields::Fields;
use crate::envelope::Account;
use crate::hooks;
use crate::source::confluence::AllowedHosts;
use crate::source::confluence::descriptor::App;

/// Longest key and name of a Connect app: what Atlassian allows.
const APP_KEY_BYTES_MAX: usize = 64;
const APP_NAME_CHARS_MAX: usize = 80;
/// What the id of a Forge app begins with, and how long the rest may be, in bytes.
const FORGE_APP: &str = "ari:cloud:ecosystem::app/";
const FORGE_APP_ID_BYTES_MAX: usize = 64;

/// What is received for which apps.
pub(super) fn read(fields: &mut Fields<'_>) -> Option<hooks::Options> {
    let account = fields.parsed("confluence.account", |text| match text {
        "" => Ok(None),
        name => Account::parse(name).map(Some).map_err(|error| error.to_string()),
    });
    let connect = connect_app(fields);
    let forge_app_id = fields.parsed("confluence.forge_app_id", forge_app_id);
    let schemes = ["https", "http"];
    let connect_keys_url = fields.needed_url("confluence.connect_keys_url", &schemes);
    let forge_keys_url = fields.needed_url("confluence.forge_keys_url", &schemes);
    let allowed = fields.list("confluence.allowed_hosts", |text| {
        AllowedHosts::parse([text]).map(|_| text.to_owned()).map_err(|allowed| format!("each {allowed}"))
    });
    let allowed_hosts = AllowedHosts::parse(allowed?.iter().map(String::as_str)).ok()?;
    Some(hooks::Options {
        account: account?,
        connect: connect?,
        connect_keys_url: connect_keys_url?.trim_end_matches('/').to_owned(),
        forge_app_id: forge_app_id?,
        forge_keys_url: forge_keys_url?,
        allowed_hosts,
    })
}

fn connect_app(fields: &mut Fields<'_>) -> Option<Option<App>> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let key = fields.parsed("confluence.app_key", |text| match text.len() <= APP_KEY_BYTES_MAX {
        true if text.bytes().all(legal) => Ok(text.to_owned()),
        _ => Err(format!("must have at most {APP_KEY_BYTES_MAX} characters of A-Z a-z 0-9 . _ -")),
    });
    let name = fields.parsed("confluence.app_name", |text| match text.chars().count() {
        1..=APP_NAME_CHARS_MAX => Ok(text.to_owned()),
        _ => Err(format!("must have 1 to {APP_NAME_CHARS_MAX} characters")),
    });
    let public_url = fields.url("confluence.public_url", &["https", "http"]);
    let (key, name) = (key?, name?);
    match (key.is_empty(), public_url) {
        (true, None) => Some(None),
        (false, Some(url)) if !url.contains(['?', '#']) => {
            Some(Some(App { key, name, public_url: url.trim_end_matches('/').to_owned() }))
        }
        (false, Some(_)) => {
            fields.refuse("confluence.public_url", "must not have a query or a fragment");
            None
        }
        (false, None) => {
            let text = "is needed with confluence.app_key: the URL below which Confluence reaches this data plane";
            fields.refuse("confluence.public_url", text);
            None
        }
        (true, Some(_)) => {
            let text = "is for the Connect app alone: set confluence.app_key too, or leave it empty";
            fields.refuse("confluence.public_url", text);
            None
        }
    }
}

/// The app's id as tokens have it, from that or from its last part.
fn forge_app_id(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let id = text.strip_prefix(FORGE_APP).unwrap_or(text);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    match (1..=FORGE_APP_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(legal) {
        true => Ok(Some(format!("{FORGE_APP}{id}"))),
        false => Err(format!("must be the app.id of the app's manifest: {FORGE_APP}<uuid>")),
    }
}
