//! What lies in the pages queue: a task, in a wire form of its own.
//!
//! ```json
//! {"v":1,"id":"018f...","at":1767225600123,"site":"acme","account":"acme","page":{"id":"123","event":"page_updated","version":7}}
//! ```
//!
//! or one of these in place of `"page"`:
//!
//! ```json
//! "space":{"key":"DOCS","id":"65634","event":"space_removed"}
//! "lifecycle":"enabled"
//! "reindex":{"scope":"since","since":1767225600123}
//! ```
//!
//! Whoever takes it out checks all of it again: what is unknown, stands twice or breaks a rule is poison. Ids of pages and
//! spaces are texts, as a JSON number beyond 2^53 is not the same number everywhere.
//!
//! Limits: [`TASK_BYTES_MAX`], [`SPACE_KEY_BYTES_MAX`], and those of the names.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::envelope::limits::{ARRIVAL_MS_MAX, HORIZON, ID_BYTES_MAX};
use crate::envelope::{Account, Poison, PoisonCode, SiteId, Stamp, WireForm};

/// The version of a task's wire form that this code reads and writes.
const TASK_VERSION: u64 = 1;
/// Longest wire form of a task, in bytes: its names take less than 1 KiB.
pub const TASK_BYTES_MAX: usize = 4 << 10;
/// Longest key of a space, in bytes: what Confluence allows.
pub const SPACE_KEY_BYTES_MAX: usize = 255;

/// One task of the pages worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageTask {
    pub id: String,
    /// Arrival at the edge, milliseconds since the epoch.
    pub at_ms: u64,
    pub site: SiteId,
    /// Names the queue's message group.
    pub account: Account,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Something happened to a page: read it again.
    Page {
        page: u64,
        event: EventName,
        /// The page's version as the event has it, where it does: a site may answer with an older one for a moment.
        version: Option<u64>,
    },
    /// Something happened to a whole space, of which at least one of key and id is known.
    Space {
        space_key: Option<String>,
        space_id: Option<u64>,
        event: EventName,
    },
    Lifecycle(Lifecycle),
    Reindex(ReindexScope),
}

/// Every event that is acted upon, under Connect's name for it. Forge's and Data Center's names map to these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventName {
    PageCreated,
    PageUpdated,
    PagePublished,
    PageSnapshotted,
    PageStarted,
    PageRestored,
    PageRemoved,
    PageTrashed,
    PageMoved,
    PageCopied,
    PageArchived,
    PageUnarchived,
    SpaceRemoved,
    SpaceTrashed,
}

/// What became of the app on a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    Installed,
    /// The site may be read from now on. Forge knows no enabling: an app that is installed there is enabled.
    Enabled,
    Disabled,
    Uninstalled,
}

/// How much of a site a reindex reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "scope", content = "since", deny_unknown_fields)]
pub enum ReindexScope {
    /// Every page; what is not met any more is swept.
    Full,
    /// What was changed since the last success, less an overlap.
    SinceLast,
    /// What was changed since then, milliseconds since the epoch.
    Since(u64),
}

impl EventName {
    pub const ALL: [Self; 14] = [
        Self::PageCreated,
        Self::PageUpdated,
        Self::PagePublished,
        Self::PageSnapshotted,
        Self::PageStarted,
        Self::PageRestored,
        Self::PageRemoved,
        Self::PageTrashed,
        Self::PageMoved,
        Self::PageCopied,
        Self::PageArchived,
        Self::PageUnarchived,
        Self::SpaceRemoved,
        Self::SpaceTrashed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::PageCreated => "page_created",
            Self::PageUpdated => "page_updated",
            Self::PagePublished => "page_published",
            Self::PageSnapshotted => "page_snapshotted",
            Self::PageStarted => "page_started",
            Self::PageRestored => "page_restored",
            Self::PageRemoved => "page_removed",
            Self::PageTrashed => "page_trashed",
            Self::PageMoved => "page_moved",
            Self::PageCopied => "page_copied",
            Self::PageArchived => "page_archived",
            Self::PageUnarchived => "page_unarchived",
            Self::SpaceRemoved => "space_removed",
            Self::SpaceTrashed => "space_trashed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == text)
    }

    /// Is it about a whole space?
    pub fn is_of_space(self) -> bool {
        matches!(self, Self::SpaceRemoved | Self::SpaceTrashed)
    }
}

/// A task as JSON has it. Exactly one of the last four is there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    v: u64,
    #[serde(borrow)]
    id: Cow<'a, str>,
    at: u64,
    #[serde(borrow)]
    site: Cow<'a, str>,
    #[serde(borrow)]
    account: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    page: Option<RawPage<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    space: Option<RawSpace<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifecycle: Option<Lifecycle>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reindex: Option<ReindexScope>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPage<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    event: EventName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpace<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    event: EventName,
}

impl PageTask {
    pub fn new(stamp: Stamp, site: SiteId, account: Account, what: What) -> Self {
        Self { id: stamp.id, at_ms: stamp.at_ms, site, account, what }
    }

    pub fn encode(&self) -> WireForm {
        let mut raw = Raw {
            v: TASK_VERSION,
            id: Cow::Borrowed(&self.id),
            at: self.at_ms,
            site: Cow::Borrowed(self.site.as_str()),
            account: Cow::Borrowed(self.account.as_str()),
            page: None,
            space: None,
            lifecycle: None,
            reindex: None,
        };
        match &self.what {
            What::Page { page, event, version } => {
                raw.page = Some(RawPage { id: page.to_string().into(), event: *event, version: *version });
            }
            What::Space { space_key, space_id, event } => {
                let (key, id) = (space_key.as_deref().map(Cow::Borrowed), space_id.map(|id| id.to_string().into()));
                raw.space = Some(RawSpace { key, id, event: *event });
            }
            What::Lifecycle(lifecycle) => raw.lifecycle = Some(*lifecycle),
            What::Reindex(scope) => raw.reindex = Some(*scope),
        }
        let body = serde_json::to_vec(&raw).expect("plain strings and numbers are always JSON");
        WireForm { id: self.id.clone(), account: self.account.clone(), traceparent: None, body: body.into() }
    }

    /// `now_ms` decides whether it is too old.
    pub fn decode(body: &Bytes, now_ms: u64) -> Result<Self, Poison> {
        use PoisonCode::{NotDecodable, NotValid, TooOld};

        if body.len() > TASK_BYTES_MAX {
            let detail = format!("takes {} bytes, of which at most {TASK_BYTES_MAX} are allowed", body.len());
            return Err(poison(NotDecodable, detail));
        }
        // An array is no task, though serde would take its items for members.
        if body.first() != Some(&b'{') {
            return Err(poison(NotDecodable, "not a task of the pages queue"));
        }
        let raw: Raw<'_> = serde_json::from_slice(body)
            .map_err(|e| poison(NotDecodable, format!("not a task at line {}, column {}", e.line(), e.column())))?;
        if raw.v != TASK_VERSION {
            return Err(poison(NotDecodable, format!("task of version {}; this program reads {TASK_VERSION}", raw.v)));
        }
        let task = raw.checked().map_err(|detail| poison(NotValid, detail))?;
        if task.at_ms.saturating_add(HORIZON.as_millis() as u64) < now_ms {
            let days = HORIZON.as_secs() / 86_400;
            return Err(poison(TooOld, format!("arrived more than {days} days ago")));
        }
        Ok(task)
    }
}

impl Raw<'_> {
    fn checked(self) -> Result<PageTask, String> {
        if !(1..=ID_BYTES_MAX).contains(&self.id.len()) || self.id.chars().any(char::is_control) {
            return Err(format!("/id: must have 1 to {ID_BYTES_MAX} bytes without control characters"));
        }
        if self.at > ARRIVAL_MS_MAX {
            return Err("/at: must be milliseconds since the epoch, before the year 10000".to_owned());
        }
        let site = SiteId::parse(&self.site).map_err(|error| format!("/site: {error}"))?;
        let account = Account::parse(&self.account).map_err(|error| format!("/account: {error}"))?;
        let what = match (self.page, self.space, self.lifecycle, self.reindex) {
            (Some(page), None, None, None) => page.checked()?,
            (None, Some(space), None, None) => space.checked()?,
            (None, None, Some(lifecycle), None) => What::Lifecycle(lifecycle),
            (None, None, None, Some(scope)) => What::Reindex(scope),
            _ => return Err("must hold exactly one of page, space, lifecycle and reindex".to_owned()),
        };
        Ok(PageTask { id: self.id.into_owned(), at_ms: self.at, site, account, what })
    }
}

impl RawPage<'_> {
    fn checked(self) -> Result<What, String> {
        if self.event.is_of_space() {
            return Err("/page/event: must be an event of a page".to_owned());
        }
        let page = number(&self.id).ok_or("/page/id: must be a number in decimal digits")?;
        Ok(What::Page { page, event: self.event, version: self.version })
    }
}

impl RawSpace<'_> {
    fn checked(self) -> Result<What, String> {
        if !self.event.is_of_space() {
            return Err("/space/event: must be an event of a space".to_owned());
        }
        let space_id = match &self.id {
            Some(id) => Some(number(id).ok_or("/space/id: must be a number in decimal digits")?),
            None => None,
        };
        if self.key.as_deref().is_some_and(|key| !is_space_key(key)) {
            return Err(format!("/space/key: must have 1 to {SPACE_KEY_BYTES_MAX} bytes without control characters"));
        }
        if self.key.is_none() && space_id.is_none() {
            return Err("/space: must name a key or an id".to_owned());
        }
        Ok(What::Space { space_key: self.key.map(Cow::into_owned), space_id, event: self.event })
    }
}

pub(super) fn is_space_key(text: &str) -> bool {
    (1..=SPACE_KEY_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// An id as Confluence writes it: decimal digits alone, no sign.
pub(super) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn poison(code: PoisonCode, detail: impl Into<String>) -> Poison {
    Poison { code, detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_225_600_000;

    fn task(what: What) -> PageTask {
        let stamp = Stamp { id: "018f0000-0000-7000-8000-000000000001".into(), at_ms: NOW };
        PageTask::new(stamp, SiteId::parse("acme").unwrap(), Account::parse("acme-inc").unwrap(), what)
    }

    fn code(body: &str) -> PoisonCode {
        PageTask::decode(&Bytes::copy_from_slice(body.as_bytes()), NOW).unwrap_err().code
    }

    #[test]
    fn every_task_is_decoded_as_it_was_encoded() {
        let page = |version| move |event| What::Page { page: u64::MAX, event, version };
        let space = |event| {
            let only_key = What::Space { space_key: Some("~\"ä".into()), space_id: None, event };
            let both = What::Space { space_key: Some("DOCS".into()), space_id: Some(7), event };
            [only_key, both, What::Space { space_key: None, space_id: Some(7), event }]
        };
        let of_event = |event: EventName| match event.is_of_space() {
            true => space(event).to_vec(),
            false => vec![page(None)(event), page(Some(7))(event)],
        };
        let mut all: Vec<What> = EventName::ALL.into_iter().flat_map(of_event).collect();
        let lifecycles = [Lifecycle::Installed, Lifecycle::Enabled, Lifecycle::Disabled, Lifecycle::Uninstalled];
        all.extend(lifecycles.map(What::Lifecycle));
        all.extend([ReindexScope::Full, ReindexScope::SinceLast, ReindexScope::Since(NOW)].map(What::Reindex));
        for what in all {
            let task = task(what);
            let wire = task.encode();
            assert_eq!((&wire.id, &wire.account), (&task.id, &task.account));
            assert_eq!(PageTask::decode(&wire.body, NOW).unwrap(), task, "{:?}", wire.body);
        }
    }

    #[test]
    fn the_wire_form_is_as_documented() {
        let body = |what| String::from_utf8(task(what).encode().body.to_vec()).unwrap();
        let head = format!(
            r#"{{"v":1,"id":"018f0000-0000-7000-8000-000000000001","at":{NOW},"site":"acme","account":"acme-inc","#
        );
        let page = |version| What::Page { page: 123, event: EventName::PageUpdated, version };
        assert_eq!(body(page(None)), format!(r#"{head}"page":{{"id":"123","event":"page_updated"}}}}"#));
        assert_eq!(body(page(Some(7))), format!(r#"{head}"page":{{"id":"123","event":"page_updated","version":7}}}}"#));
        let space = What::Space { space_key: Some("DOCS".into()), space_id: Some(6), event: EventName::SpaceRemoved };
        assert_eq!(body(space), format!(r#"{head}"space":{{"key":"DOCS","id":"6","event":"space_removed"}}}}"#));
        assert_eq!(body(What::Lifecycle(Lifecycle::Enabled)), format!(r#"{head}"lifecycle":"enabled"}}"#));
        assert_eq!(body(What::Reindex(ReindexScope::Full)), format!(r#"{head}"reindex":{{"scope":"full"}}}}"#));
        let since = What::Reindex(ReindexScope::Since(5));
        assert_eq!(body(since), format!(r#"{head}"reindex":{{"scope":"since","since":5}}}}"#));
    }

    #[test]
    fn names_read_back_and_are_those_of_the_wire_form() {
        for event in EventName::ALL {
            assert_eq!(EventName::parse(event.as_str()), Some(event));
            assert_eq!(serde_json::to_string(&event).unwrap(), format!("{:?}", event.as_str()));
        }
        assert_eq!(EventName::parse("page_viewed"), None);
    }

    #[test]
    fn what_is_unknown_stands_twice_or_is_missing_is_poison() {
        let good = |rest: &str| format!(r#"{{"v":1,"id":"i","at":{NOW},"site":"s","account":"a"{rest}}}"#);
        let page = r#","page":{"id":"1","event":"page_updated"}"#;
        assert!(PageTask::decode(&Bytes::from(good(page)), NOW).is_ok());
        let undecodable = [
            String::new(),
            "x".into(),
            "null".into(),
            "{}".into(),
            format!(r#"[1,"i",{NOW},"s","a",null,null,"enabled"]"#),
            good(&format!("{page},\"x\":1")),
            good(&format!("{page},\"site\":\"t\"")),
            good(&format!("{page},\"\\u0073ite\":\"t\"")),
            good(&format!("{page}{page}")),
            good(r#","page":{"id":"1","event":"page_updated","x":1}"#),
            good(r#","page":{"id":1,"event":"page_updated"}"#),
            good(r#","page":{"id":"1","event":"page_updated","version":"7"}"#),
            good(r#","page":{"id":"1","event":"page_viewed"}"#),
            good(r#","lifecycle":"revoked""#),
            good(r#","reindex":{"scope":"since"}"#),
            good(r#","reindex":{"scope":"full","x":1}"#),
            good(page).replace("\"v\":1", "\"v\":2"),
            good(&format!("{page}{}", " ".repeat(TASK_BYTES_MAX))),
        ];
        for body in undecodable {
            assert_eq!(code(&body), PoisonCode::NotDecodable, "{body}");
        }
        let invalid = [
            good(""),
            good(&format!(r#"{page},"lifecycle":"enabled""#)),
            good(page).replace("\"id\":\"i\"", "\"id\":\"\""),
            good(page).replace("\"site\":\"s\"", "\"site\":\"no site\""),
            good(page).replace("\"account\":\"a\"", "\"account\":\"\""),
            good(page).replace(&NOW.to_string(), &(NOW * 1_000).to_string()),
            good(r#","page":{"id":"+1","event":"page_updated"}"#),
            good(r#","page":{"id":"","event":"page_updated"}"#),
            good(r#","page":{"id":"99999999999999999999","event":"page_updated"}"#),
            good(r#","page":{"id":"1","event":"space_removed"}"#),
            good(r#","space":{"key":"K","event":"page_removed"}"#),
            good(r#","space":{"event":"space_removed"}"#),
            good(r#","space":{"key":"","event":"space_removed"}"#),
            good(&format!(r#","space":{{"key":"{}","event":"space_removed"}}"#, "K".repeat(SPACE_KEY_BYTES_MAX + 1))),
        ];
        for body in invalid {
            assert_eq!(code(&body), PoisonCode::NotValid, "{body}");
        }
    }

    #[test]
    fn a_task_is_too_old_after_the_horizon() {
        let body = task(What::Lifecycle(Lifecycle::Enabled)).encode().body;
        let horizon = HORIZON.as_millis() as u64;
        assert!(PageTask::decode(&body, NOW + horizon).is_ok());
        assert_eq!(PageTask::decode(&body, NOW + horizon + 1).unwrap_err().code, PoisonCode::TooOld);
        assert!(PageTask::decode(&body, 0).is_ok(), "a clock that was set back makes no poison");
    }
}
