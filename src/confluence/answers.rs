//! What a site says. v2 and v1 tell a page in nearly the same words, so one form reads both.

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Body, FetchError, RemotePage};
use crate::outbound::Share;
use crate::page::Status;

#[derive(Deserialize)]
pub(super) struct List<'a> {
    #[serde(borrow)]
    pub results: Vec<&'a RawValue>,
    #[serde(rename = "_links", default)]
    pub links: Links,
}

#[derive(Deserialize, Default)]
pub(super) struct Links {
    #[serde(default)]
    pub next: Option<String>,
    #[serde(default)]
    base: Option<Base>,
}

/// What it is called by is of no use to a read: whatever stands there, the rest is read.
#[derive(Deserialize)]
#[serde(untagged)]
enum Base {
    Url(String),
    Other(IgnoredAny),
}

impl Links {
    /// What links to the site begin with, as it says itself.
    pub fn base(self) -> Option<String> {
        match self.base {
            Some(Base::Url(url)) => Some(url),
            Some(Base::Other(_)) | None => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(deserialize_with = "id")]
    id: u64,
    /// v1 only: a blog post is content, too.
    #[serde(default)]
    r#type: Option<String>,
    status: String,
    #[serde(default)]
    title: String,
    /// v2.
    #[serde(default, deserialize_with = "some_id")]
    space_id: Option<u64>,
    /// v1.
    #[serde(default)]
    space: Option<Space>,
    version: Version,
    #[serde(default)]
    body: Option<Bodies>,
    #[serde(rename = "_links", default)]
    links: Links,
}

#[derive(Deserialize)]
struct Space {
    #[serde(default, deserialize_with = "some_id")]
    id: Option<u64>,
    key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    number: u64,
    /// v1 calls it `when`.
    #[serde(default, alias = "when")]
    created_at: Option<String>,
}

#[derive(Deserialize)]
struct Bodies {
    #[serde(default)]
    storage: Option<Storage>,
}

#[derive(Deserialize)]
struct Storage {
    value: String,
}

/// `None` for what is no page that a reader sees: a draft, an old version, what is deleted for good, a blog post.
pub(super) fn page(json: &[u8], share: Option<&Share>) -> Result<Option<RemotePage>, FetchError> {
    let page: Page = read(json)?;
    if page.r#type.is_some_and(|kind| kind != "page") {
        return Ok(None);
    }
    let status = match page.status.as_str() {
        "deleted" | "draft" | "historical" => return Ok(None),
        word => Status::parse(word).ok_or_else(|| FetchError::Unusable("a page of an unknown status".to_owned()))?,
    };
    let (v1_id, space_key) = page.space.map_or((None, None), |space| (space.id, Some(space.key)));
    let body = page.body.and_then(|bodies| bodies.storage);
    Ok(Some(RemotePage {
        id: page.id,
        title: page.title,
        space_id: page.space_id.or(v1_id),
        space_key,
        version: page.version.number,
        modified_ms: page.version.created_at.as_deref().and_then(moment_ms).unwrap_or(u64::MAX),
        status,
        body: body.map(|storage| Body { text: storage.value, _share: share.cloned() }),
        site_url: page.links.base(),
    }))
}

pub(super) fn list(json: &[u8]) -> Result<List<'_>, FetchError> {
    read(json)
}

pub(super) fn space_key(json: &[u8]) -> Result<String, FetchError> {
    read::<Space>(json).map(|space| space.key)
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, FetchError> {
    serde_json::from_slice(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = if error.is_data() { "JSON of another form" } else { "not JSON" };
        FetchError::Unusable(format!("{what} at line {line}, column {column}"))
    })
}

fn moment_ms(text: &str) -> Option<u64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()
}

/// Atlassian writes an id as a text here and as a number there.
fn id<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(u64),
        Text(String),
    }
    match Id::deserialize(from)? {
        Id::Number(number) => Ok(number),
        Id::Text(text) => text.parse().map_err(D::Error::custom),
    }
}

/// An id that may be absent.
fn some_id<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Id(#[serde(deserialize_with = "id")] u64);
    Ok(Option::<Id>::deserialize(from)?.map(|Id(id)| id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_apis_tell_a_page_in_words_that_are_understood() {
        let v2 = r#"{"id":"42","status":"current","title":"Home","spaceId":"7","parentId":null,"position":1,
            "version":{"number":3,"message":"","createdAt":"2026-01-01T00:00:00.250Z"},
            "body":{"storage":{"representation":"storage","value":"<p>\u00e4</p>"}},
            "_links":{"webui":"/x","base":"https://acme.example/wiki"}}"#;
        let v1 = r#"{"id":42,"type":"page","status":"current","title":"Home","space":{"id":7,"key":"DOC","name":"D"},
            "version":{"number":3,"when":"2026-01-01T01:00:00.250+01:00"},
            "body":{"storage":{"value":"<p>ä</p>","representation":"storage","_expandable":{}}},
            "_links":{"base":"https://acme.example/wiki","context":"/wiki"}}"#;
        let (v2, v1) = (page(v2.as_bytes(), None).unwrap().unwrap(), page(v1.as_bytes(), None).unwrap().unwrap());
        assert_eq!(RemotePage { space_key: None, ..v1.clone() }, v2);
        assert_eq!((v1.space_key.as_deref(), v1.space_id), (Some("DOC"), Some(7)));
        assert_eq!(v1.site_url.as_deref(), Some("https://acme.example/wiki"));
        assert_eq!((v2.modified_ms, v2.version, v2.body.as_deref()), (1_767_225_600_250, 3, Some("<p>ä</p>")));
    }

    #[test]
    fn what_a_reader_does_not_see_is_no_page() {
        for (kind, status) in [("page", "draft"), ("page", "historical"), ("page", "deleted"), ("blogpost", "current")]
        {
            let json = format!(r#"{{"id":1,"type":"{kind}","status":"{status}","version":{{"number":1}}}}"#);
            assert_eq!(page(json.as_bytes(), None), Ok(None), "{json}");
        }
    }

    #[test]
    fn a_time_that_cannot_be_read_makes_no_page_old() {
        for when in ["", r#","when":"yesterday""#, r#","createdAt":null"#] {
            let json = format!(r#"{{"id":1,"status":"trashed","spaceId":null,"version":{{"number":1{when}}}}}"#);
            let page = page(json.as_bytes(), None).unwrap().unwrap();
            assert_eq!((page.modified_ms, page.status, page.body), (u64::MAX, Status::Trashed, None), "{json}");
        }
    }

    #[test]
    fn a_page_is_read_whatever_stands_where_the_site_tells_its_name() {
        for links in ["{}", r#"{"base":null}"#, r#"{"base":7}"#, r#"{"base":{"url":"x"}}"#] {
            let json = format!(r#"{{"id":1,"status":"current","version":{{"number":1}},"_links":{links}}}"#);
            assert_eq!(page(json.as_bytes(), None).unwrap().unwrap().site_url, None, "{links}");
        }
    }

    #[test]
    fn an_answer_of_another_form_is_told_by_its_place_alone() {
        for json in
            ["", "<html>secret</html>", "[]", "{}", r#"{"id":"secret","status":"current","version":{"number":1}}"#]
        {
            let error = page(json.as_bytes(), None).unwrap_err();
            assert!(matches!(&error, FetchError::Unusable(why) if !why.contains("secret")), "{error:?}");
        }
        let odd = r#"{"id":1,"status":"secret","version":{"number":1}}"#;
        assert!(matches!(page(odd.as_bytes(), None), Err(FetchError::Unusable(_))));
    }
}
