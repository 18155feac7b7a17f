//! The JSON forms of sites. The control plane writes them and its client reads them, from these very types.

use serde::{Deserialize, Deserializer, Serialize};

use crate::admin::reindex::json::Status as Reindex;

/// What is asked for when a site is added. Never shown: no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Join {
    pub account_id: String,
    #[serde(default)]
    pub product: Product,
    pub base_url: String,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub api_base: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub display_url: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    pub credential: Credential,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub hook_secret: Option<String>,
}

/// Either `user` and `token`, or `bearer`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub bearer: Option<String>,
}

/// An optional member may be absent, but not null.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    String::deserialize(from).map(Some)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Product {
    #[default]
    Cloud,
    DataCenter,
}

/// A site, without its secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    pub site: String,
    pub account_id: String,
    pub state: State,
    pub product: Product,
    pub base_url: String,
    pub api_base: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_url: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    pub joined_by: JoinedBy,
    pub added_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_event_at: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Active,
    /// By the operator.
    Paused,
    /// By the site's administrator.
    Disabled,
    /// By the site's administrator; its data is kept for a while.
    Uninstalled,
    /// By the operator; its data is being deleted.
    Removing,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
            Self::Uninstalled => "uninstalled",
            Self::Removing => "removing",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinedBy {
    Forge,
    Connect,
    Operator,
}

impl JoinedBy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forge => "forge",
            Self::Connect => "connect",
            Self::Operator => "operator",
        }
    }
}

/// The query of a list.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListQuery {
    pub limit: Option<usize>,
    pub after: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listing {
    pub sites: Vec<Shown>,
    /// The next call's `after`; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// All that is known of a site.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    #[serde(flatten)]
    pub shown: Shown,
    /// Why it is not read, and what would change that; absent for an active site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_active: Option<String>,
    /// As whom it is asked; absent where nothing is known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<Asks>,
    /// Its webhooks can be verified by a secret.
    pub has_hook_secret: bool,
    pub reindex: Reindex,
    /// The pages queue, whoever's tasks they are. Absent for a token that is bound to accounts, and where it can't be
    /// reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
}

/// The kind of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asks {
    Basic,
    Bearer,
    Connect,
    Forge,
}

impl Asks {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "user and API token",
            Self::Bearer => "bearer token",
            Self::Connect => "Connect app",
            Self::Forge => "Forge app",
        }
    }
}

/// How full the pages queue is; approximate on SQS.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    pub waiting: u64,
    pub in_hand: u64,
    pub dead: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Removing {
    pub site: String,
    /// Of the task that does it.
    pub id: String,
    /// Pages whose links are deleted.
    pub pages_known: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Changed {
    /// False where it was so already.
    pub changed: bool,
}
