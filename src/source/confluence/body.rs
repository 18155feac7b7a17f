//! The body of a webhook, in any of its three envelopes, read to one event.
//!
//! | sender | the event's name | the page |
//! | --- | --- | --- |
//! | Connect | the last part of the URL: `page_updated` | `page.id`, a number or a text |
//! | Forge | `eventType`: `avi:confluence:updated:page` | `content.id` |
//! | Data Center | `event`: `page_updated` | `page.id`, often the one thing that it tells |
//!
//! What a body tells beside its ids is never used: pages are read again. Members that are not known are passed over, and so
//! is an event that nobody acts upon, whatever its body holds beside its name.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::task::{self, EventName, Lifecycle, What};
use crate::envelope::{Fault, FaultCode};

/// What Forge's names of page events begin with, and those of an app's own life.
const FORGE_CONFLUENCE: &str = "avi:confluence:";
const FORGE_LIFE: &str = "avi:forge:";

/// A webhook, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub told: Told,
    /// The sites that it names. Each must be the one that has sent it.
    pub sites: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Something happened to a page or a space.
    Event(What),
    Lifecycle(Lifecycle),
    /// Nothing that is acted upon.
    Nothing,
}

/// What the name of an event asks for.
enum Named {
    Event(EventName),
    Lifecycle(Lifecycle),
    Unknown,
}

/// A Connect webhook or lifecycle callback. `name` is the last part of its URL.
pub fn connect(name: &str, body: &[u8]) -> Result<Heard, Fault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        #[serde(default)]
        client_key: Option<String>,
    }
    let head: Head = object(body)?;
    let told = told(connect_name(name), body)?;
    Ok(Heard { told, sites: head.client_key.into_iter().collect() })
}

/// An event that Forge Remote has sent.
pub fn forge(body: &[u8]) -> Result<Heard, Fault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        event_type: Option<String>,
        #[serde(default)]
        cloud_id: Option<String>,
        #[serde(default)]
        context: Option<Context>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Context {
        /// `ari:cloud:confluence::site/{cloudId}`
        Site(String),
        Object {
            #[serde(rename = "cloudId")]
            cloud_id: String,
        },
        Other(IgnoredAny),
    }
    let head: Head = object(body)?;
    let event_type = head.event_type.ok_or_else(|| invalid("/eventType", "is missing"))?;
    let in_context = head.context.and_then(|context| match context {
        Context::Site(ari) => ari.rsplit_once('/').map(|(_, site)| site.to_owned()),
        Context::Object { cloud_id } => Some(cloud_id),
        Context::Other(_) => None,
    });
    let told = told(forge_name(&event_type), body)?;
    Ok(Heard { told, sites: head.cloud_id.into_iter().chain(in_context).collect() })
}

/// A webhook of a site with a secret of its own: Data Center's, or whatever else posts `event` or Forge's `eventType`.
pub fn of_site(body: &[u8]) -> Result<Heard, Fault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        #[serde(default)]
        event: Option<String>,
        #[serde(default)]
        event_type: Option<String>,
    }
    let head: Head = object(body)?;
    let named = match (head.event, head.event_type) {
        (Some(event), None) => EventName::parse(&event).map_or(Named::Unknown, Named::Event),
        (None, Some(event_type)) => match forge_name(&event_type) {
            // Who shares a secret with us is not an app that could leave.
            Named::Lifecycle(_) => Named::Unknown,
            named => named,
        },
        (None, None) => return Err(invalid("/event", "is missing: the name of the event, such as page_updated")),
        (Some(_), Some(_)) => return Err(invalid("/eventType", "must not stand beside event")),
    };
    Ok(Heard { told: told(named, body)?, sites: Vec::new() })
}

fn connect_name(name: &str) -> Named {
    match name {
        "installed" => Named::Lifecycle(Lifecycle::Installed),
        "enabled" | "connect_addon_enabled" => Named::Lifecycle(Lifecycle::Enabled),
        "disabled" | "connect_addon_disabled" => Named::Lifecycle(Lifecycle::Disabled),
        "uninstalled" => Named::Lifecycle(Lifecycle::Uninstalled),
        name => EventName::parse(name).map_or(Named::Unknown, Named::Event),
    }
}

fn forge_name(event_type: &str) -> Named {
    if let Some(life) = event_type.strip_prefix(FORGE_LIFE) {
        return match life {
            "installed:app" => Named::Lifecycle(Lifecycle::Installed),
            "uninstalled:app" => Named::Lifecycle(Lifecycle::Uninstalled),
            _ => Named::Unknown,
        };
    }
    let event = match event_type.strip_prefix(FORGE_CONFLUENCE).unwrap_or_default() {
        // A live doc is created by being initialized.
        "created:page" | "initialized:page" => EventName::PageCreated,
        "updated:page" => EventName::PageUpdated,
        "published:page" => EventName::PagePublished,
        "snapshotted:page" => EventName::PageSnapshotted,
        "started:page" => EventName::PageStarted,
        "restored:page" => EventName::PageRestored,
        "deleted:page" | "removed:page" => EventName::PageRemoved,
        "trashed:page" => EventName::PageTrashed,
        "moved:page" => EventName::PageMoved,
        "copied:page" => EventName::PageCopied,
        "archived:page" => EventName::PageArchived,
        "unarchived:page" => EventName::PageUnarchived,
        "deleted:space:V2" | "removed:space:V2" | "deleted:space" | "removed:space" => EventName::SpaceRemoved,
        "trashed:space:V2" | "trashed:space" => EventName::SpaceTrashed,
        _ => return Named::Unknown,
    };
    Named::Event(event)
}

fn told(named: Named, body: &[u8]) -> Result<Told, Fault> {
    match named {
        Named::Event(event) if event.is_of_space() => space(event, body).map(Told::Event),
        Named::Event(event) => page(event, body).map(Told::Event),
        Named::Lifecycle(lifecycle) => Ok(Told::Lifecycle(lifecycle)),
        Named::Unknown => Ok(Told::Nothing),
    }
}

/// `page` is Connect's and Data Center's name for what Forge calls `content`.
#[derive(Deserialize)]
struct PageBody {
    #[serde(default)]
    page: Option<Page>,
    #[serde(default)]
    content: Option<Page>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    id: Option<Id>,
    /// The same, from a sender that knows what becomes of large numbers in JSON.
    #[serde(default)]
    id_as_string: Option<Id>,
    #[serde(default)]
    version: Option<Version>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
    Other(IgnoredAny),
}

impl Id {
    fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => task::number(text),
            Self::Other(_) => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Version {
    Number(u64),
    Object { number: u64 },
    Other(IgnoredAny),
}

fn page(event: EventName, body: &[u8]) -> Result<What, Fault> {
    let body: PageBody = object(body)?;
    let (at, page) = match (body.page, body.content) {
        (Some(page), _) => ("/page", page),
        (None, Some(content)) => ("/content", content),
        (None, None) => return Err(invalid("/page", "is missing: the page that the event is about")),
    };
    let pointer = format!("{at}/id");
    let id = page.id_as_string.or(page.id).ok_or_else(|| invalid(&pointer, "is missing: the page's id"))?;
    let page_id =
        id.number().ok_or_else(|| invalid(&pointer, "must be the page's id, a number or a text of digits"))?;
    let version = page.version.and_then(|version| match version {
        Version::Number(number) | Version::Object { number } => Some(number),
        Version::Other(_) => None,
    });
    Ok(What::Page { page: page_id, event, version })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpaceBody {
    #[serde(default)]
    space: Option<Space>,
    #[serde(default)]
    content: Option<Space>,
    #[serde(default)]
    space_key: Option<String>,
}

#[derive(Default, Deserialize)]
struct Space {
    #[serde(default)]
    id: Option<Id>,
    #[serde(default)]
    key: Option<String>,
}

fn space(event: EventName, body: &[u8]) -> Result<What, Fault> {
    let body: SpaceBody = object(body)?;
    let space = body.space.or(body.content).unwrap_or_default();
    let space_key = space.key.or(body.space_key);
    if space_key.as_deref().is_some_and(|key| !task::is_space_key(key)) {
        return Err(invalid("/space/key", "must be the key of a space"));
    }
    let space_id = match space.id {
        Some(id) => Some(id.number().ok_or_else(|| invalid("/space/id", "must be a number or a text of digits"))?),
        None => None,
    };
    if space_key.is_none() && space_id.is_none() {
        return Err(invalid("/space", "is missing: the key or the id of the space that the event is about"));
    }
    Ok(What::Space { space_key, space_id, event })
}

/// One JSON object; of members that are not asked for, anything.
pub(super) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    let parsed: Result<T, serde_json::Error> = serde_json::from_slice(body);
    let starts = body.iter().find(|byte| !byte.is_ascii_whitespace());
    match parsed {
        // serde would take the items of an array for members.
        Ok(value) if starts == Some(&b'{') => Ok(value),
        Ok(_) => Err(invalid("", "must be a JSON object")),
        Err(error) if error.classify() == serde_json::error::Category::Data => {
            let (line, column) = (error.line(), error.column());
            Err(invalid("", format!("a member is of the wrong type, or stands twice, at line {line}, column {column}")))
        }
        Err(error) => {
            let detail = format!("not JSON at line {}, column {}", error.line(), error.column());
            Err(Fault::new(FaultCode::MalformedJson, "", detail))
        }
    }
}

pub(super) fn invalid(pointer: &str, detail: impl Into<String>) -> Fault {
    Fault::new(FaultCode::InvalidRequest, pointer, detail)
}

#[cfg(test)]
mod tests;
