//! Envelopes: from links to a wire form.

use serde::{Serialize, Serializer};

use super::{IndexFacts, NAME_CHARS_MAX, PageFacts, index_key_of, key_of};
use crate::envelope::request::illegal_character;
use crate::envelope::stamp::rfc_3339;
use crate::envelope::wire::{self, Kind as Request};
use crate::envelope::{Account, SiteId, Stamp, WebhookKey, WireForm};
use crate::extract::{Extraction, Kind, Link, Origin, Target};
use crate::source::confluence::{CALLER, FLOW};

/// The flaw of a payload that holds fewer links than were found, as the wire form carries no more.
pub const DOES_NOT_FIT: &str = "does-not-fit";

/// A set request, up to its payload, and a delete request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    account_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_id: Option<&'a str>,
    webhook_keys: [&'a str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(serialize_with = "as_text")]
    id: u64,
    title: &'a str,
    space: Option<&'a str>,
    version: u64,
    status: &'a str,
    indexed_at: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    flaws: &'a [&'static str],
}

/// `kind` comes first: whoever looks for one kind need not read the rest.
#[derive(Serialize)]
struct StoredLink<'a> {
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a Target>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    origin: &'a Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<&'a str>,
    count: u32,
    position: u32,
}

impl<'a> From<&'a Link> for StoredLink<'a> {
    fn from(link: &'a Link) -> Self {
        let Link { kind, url, target, text, origin, anchor, count, position } = link;
        Self {
            kind: *kind,
            url: url.as_deref(),
            target: target.as_ref(),
            text: text.as_deref(),
            origin,
            anchor: anchor.as_deref(),
            count: *count,
            position: *position,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    complete: bool,
    last_reindex_at: Option<&'a str>,
}

/// Atlassian writes ids as text, as they are larger than a JavaScript number.
fn as_text<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// JSON that every queue carries: SQS refuses two characters that JSON allows.
fn json<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string(value).expect("texts and numbers are always JSON");
    match illegal_character(&text) {
        None => text,
        Some(_) => text.replace('\u{FFFE}', "\\ufffe").replace('\u{FFFF}', "\\uffff"),
    }
}

/// The envelope that stores a page's links. `read_at_ms` is when its fetch began: the event time. Where the links would
/// not fit into one wire form, as many as fit are kept, and the payload says so.
pub fn stored(
    stamp: Stamp,
    site: &SiteId,
    account: &Account,
    page: &PageFacts,
    links: &Extraction,
    read_at_ms: u64,
) -> WireForm {
    let head = json(&Head {
        account_id: account.as_str(),
        flow_id: Some(FLOW),
        webhook_keys: [key_of(site, page.id).as_str()],
        event_id: Some(&stamp.id),
        event_time: Some(&rfc_3339(read_at_ms)),
    });
    let flaws: Vec<&str> = links.flaws.iter().map(|flaw| flaw.kind.as_str()).collect();
    // Measured with the flaw that it gets if not all links fit.
    let cut_flaws = [flaws.as_slice(), &[DOES_NOT_FIT]].concat();
    let cut_page = page_json(page, &cut_flaws, read_at_ms);
    let frame_bytes = head.len() + r#","data":{"page":,"links":[]}"#.len() + cut_page.len();
    let room = wire::room_in_order(&stamp, CALLER, page.version, Request::Set).saturating_sub(frame_bytes);
    let kept = joined(&links.links, room);
    let page_json = if kept.is_cut { cut_page } else { page_json(page, &flaws, read_at_ms) };

    let mut request = head;
    // Its closing brace comes last.
    request.pop();
    request.push_str(r#","data":{"page":"#);
    request.push_str(&page_json);
    request.push_str(r#","links":["#);
    request.push_str(&kept.text);
    request.push_str("]}}");
    envelope(stamp, account, page.version, Request::Set, &request)
}

/// The envelope that drops a page's links. `version` is the highest that is known of it.
pub fn dropped(stamp: Stamp, site: &SiteId, account: &Account, page: u64, version: u64, read_at_ms: u64) -> WireForm {
    delete(stamp, account, &key_of(site, page), version, read_at_ms)
}

/// The envelope that stores [`IndexFacts`] under [`index_key_of`].
pub fn index_stored(stamp: Stamp, site: &SiteId, account: &Account, index: &IndexFacts) -> WireForm {
    let mut request = json(&Head {
        account_id: account.as_str(),
        flow_id: Some(FLOW),
        webhook_keys: [index_key_of(site).as_str()],
        event_id: None,
        event_time: None,
    });
    let last_reindex_at = index.last_reindex_ms.map(rfc_3339);
    let data = json(&Index { complete: index.complete, last_reindex_at: last_reindex_at.as_deref() });
    request.pop();
    request.push_str(&format!(r#","data":{data}}}"#));
    envelope(stamp, account, 0, Request::Set, &request)
}

/// The envelope that drops them.
pub fn index_dropped(stamp: Stamp, site: &SiteId, account: &Account) -> WireForm {
    let read_at_ms = stamp.at_ms;
    delete(stamp, account, &index_key_of(site), 0, read_at_ms)
}

fn delete(stamp: Stamp, account: &Account, key: &WebhookKey, order: u64, time_ms: u64) -> WireForm {
    let request = json(&Head {
        account_id: account.as_str(),
        flow_id: None,
        webhook_keys: [key.as_str()],
        event_id: Some(&stamp.id),
        event_time: Some(&rfc_3339(time_ms)),
    });
    envelope(stamp, account, order, Request::Delete, &request)
}

fn envelope(stamp: Stamp, account: &Account, order: u64, kind: Request, request: &str) -> WireForm {
    let body = wire::encode_in_order(&stamp, CALLER, order, kind, request).expect("it was measured to fit");
    WireForm { id: stamp.id, account: account.clone(), traceparent: None, body }
}

fn page_json(page: &PageFacts, flaws: &[&'static str], read_at_ms: u64) -> String {
    json(&Page {
        id: page.id,
        title: cut(&page.title),
        space: page.space.as_deref().map(cut),
        version: page.version,
        status: page.status.as_str(),
        indexed_at: &rfc_3339(read_at_ms),
        flaws,
    })
}

fn cut(name: &str) -> &str {
    name.char_indices().nth(NAME_CHARS_MAX).map_or(name, |(at, _)| &name[..at])
}

struct Joined {
    text: String,
    /// Not all of them are there.
    is_cut: bool,
}

/// Links with commas between them, in at most so many bytes.
fn joined(links: &[Link], bytes_max: usize) -> Joined {
    let mut text = String::new();
    for link in links {
        let link = json(&StoredLink::from(link));
        let comma = usize::from(!text.is_empty());
        if text.len() + comma + link.len() > bytes_max {
            return Joined { text, is_cut: true };
        }
        if comma > 0 {
            text.push(',');
        }
        text.push_str(&link);
    }
    Joined { text, is_cut: false }
}
