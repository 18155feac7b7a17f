//! The descriptor of the Connect app: what Confluence reads to install it.
//!
//! One URL per event, as a Connect webhook does not name its event. Atlassian's JSON Schema of descriptors is in no package
//! registry, so nothing but its documentation vouches for this one.

use serde_json::{Value, json};

use super::{EventName, HOOKS_PATH};

/// The Connect app, as the operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its key, the same for all time: tokens for installs and our own calls name it.
    pub key: String,
    pub name: String,
    /// Where Confluence reaches hookcache, without a slash at its end.
    pub public_url: String,
}

/// Webhooks beside those of [`EventName`], which tell that the app was switched on or off.
const OF_APP: [&str; 2] = ["connect_addon_enabled", "connect_addon_disabled"];
const LIFECYCLE: [&str; 4] = ["installed", "enabled", "disabled", "uninstalled"];

pub fn descriptor(app: &App) -> Value {
    let path = |name: &str| format!("{HOOKS_PATH}/{name}");
    let events = EventName::ALL.into_iter().map(EventName::as_str).chain(OF_APP);
    let webhooks: Vec<Value> = events.map(|event| json!({"event": event, "url": path(event)})).collect();
    let lifecycle: serde_json::Map<String, Value> =
        LIFECYCLE.into_iter().map(|name| (name.to_owned(), path(name).into())).collect();
    json!({
        "key": app.key,
        "name": app.name,
        "description": "Shows what the pages of this site link to.",
        "baseUrl": app.public_url,
        "authentication": {"type": "jwt"},
        "scopes": ["READ"],
        "lifecycle": lifecycle,
        "modules": {"webhooks": webhooks},
        "apiMigrations": {"signed-install": true, "gdpr": true, "context-qsh": true},
    })
}
