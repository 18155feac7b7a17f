//! What a site tells when it installs a Connect app, and when it leaves it.

use serde::Deserialize;

use super::body::{invalid, object};
use super::hosts::{AllowedHosts, plain_url};
use crate::envelope::{Fault, SiteId};

/// Longest secret that a site may share, in bytes; Confluence's have about 100.
const SECRET_BYTES_MAX: usize = 1_024;
/// The one product whose pages are read.
const PRODUCT: &str = "confluence";

/// A site has installed the app, or has told its secret anew. Its secret is never shown: no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Installed {
    pub site: SiteId,
    pub shared_secret: String,
    /// Where the site is, and its REST API: on a host that may be called.
    pub base_url: String,
    /// A custom domain, where the site has one.
    pub display_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    client_key: Option<String>,
    #[serde(default)]
    shared_secret: Option<String>,
    #[serde(default)]
    base_url: Option<String>,
    #[serde(default)]
    display_url: Option<String>,
    #[serde(default)]
    product_type: Option<String>,
    #[serde(default)]
    event_type: Option<String>,
}

/// The body of `installed`, which was verified to be for the app `app_key`.
pub fn installed(body: &[u8], app_key: &str, hosts: &AllowedHosts) -> Result<Installed, Fault> {
    let raw: Raw = object(body)?;
    let site = site(&raw, "installed", app_key)?;
    if raw.product_type.as_deref().is_some_and(|product| !product.eq_ignore_ascii_case(PRODUCT)) {
        return Err(invalid("/productType", "must be confluence: pages of no other product are read"));
    }
    let shared_secret = raw.shared_secret.filter(|secret| (1..=SECRET_BYTES_MAX).contains(&secret.len()));
    let shared_secret = shared_secret
        .ok_or_else(|| invalid("/sharedSecret", format!("must be a text of 1 to {SECRET_BYTES_MAX} bytes")))?;
    let base_url = raw.base_url.ok_or_else(|| invalid("/baseUrl", "is missing"))?;
    let base_url = hosts.check("/baseUrl", &base_url)?;
    let display_url = raw.display_url.filter(|url| !url.is_empty());
    let display_url = display_url.map(|url| plain_url("/displayUrl", &url)).transpose()?;
    Ok(Installed { site, shared_secret, base_url, display_url })
}

/// The site that leaves the app `app_key`: the body of `uninstalled`.
pub fn uninstalled(body: &[u8], app_key: &str) -> Result<SiteId, Fault> {
    site(&object(body)?, "uninstalled", app_key)
}

fn site(raw: &Raw, event: &str, app_key: &str) -> Result<SiteId, Fault> {
    if raw.event_type.as_deref().is_some_and(|named| named != event) {
        return Err(invalid("/eventType", format!("must be {event}, as the URL says")));
    }
    if raw.key.as_deref().is_some_and(|key| key != app_key) {
        return Err(invalid("/key", "must be the key of this app: `confluence.app_key`"));
    }
    let client_key = raw.client_key.as_deref().ok_or_else(|| invalid("/clientKey", "is missing"))?;
    SiteId::parse(client_key).map_err(|error| invalid("/clientKey", error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn body() -> Value {
        json!({
            "key": "my-add-on", "clientKey": "12345678-1234-1234-1234-0123456789AB", "publicKey": "123",
            "sharedSecret": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "serverVersion": "6452", "pluginsVersion": "1.245.0",
            "baseUrl": "https://example.atlassian.net/wiki", "productType": "confluence",
            "description": "Atlassian Confluence at null ", "eventType": "installed",
        })
    }

    fn read(body: &Value) -> Result<Installed, Fault> {
        let hosts = AllowedHosts::parse(["*.atlassian.net"]).unwrap();
        installed(body.to_string().as_bytes(), "my-add-on", &hosts)
    }

    #[test]
    fn an_install_is_read_and_what_it_lacks_may_be_lacking() {
        let read_whole = read(&body()).ok().unwrap();
        assert_eq!(read_whole.site.as_str(), "12345678-1234-1234-1234-0123456789AB");
        assert_eq!(read_whole.base_url, "https://example.atlassian.net/wiki");
        assert_eq!(read_whole.display_url, None);
        let mut some = body();
        some["displayUrl"] = "https://docs.example.com/".into();
        for name in ["key", "publicKey", "productType", "eventType", "description"] {
            some.as_object_mut().unwrap().remove(name);
        }
        assert_eq!(read(&some).ok().unwrap().display_url.as_deref(), Some("https://docs.example.com"));
    }

    #[test]
    fn an_install_that_is_not_ours_or_leads_elsewhere_is_refused_by_name() {
        let long = "s".repeat(SECRET_BYTES_MAX + 1);
        for (name, value) in [
            ("key", json!("another")),
            ("clientKey", json!(null)),
            ("clientKey", json!("a/b")),
            ("sharedSecret", json!(null)),
            ("sharedSecret", json!("")),
            ("sharedSecret", json!(long)),
            ("baseUrl", json!(null)),
            ("baseUrl", json!("https://evil.example")),
            ("displayUrl", json!("javascript:alert(1)")),
            ("productType", json!("jira")),
            ("eventType", json!("uninstalled")),
        ] {
            let mut changed = body();
            changed[name] = value.clone();
            let fault = read(&changed).err().unwrap();
            assert_eq!(fault.pointer, format!("/{name}"), "{value}");
        }
    }

    #[test]
    fn a_site_that_leaves_needs_to_name_itself_alone() {
        let leave = |body: Value| uninstalled(body.to_string().as_bytes(), "my-add-on");
        assert_eq!(leave(json!({"clientKey": "c"})).unwrap().as_str(), "c");
        assert_eq!(leave(body()).unwrap_err().pointer, "/eventType");
        assert_eq!(leave(json!({})).unwrap_err().pointer, "/clientKey");
    }
}
