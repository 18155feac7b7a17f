//! What a body in the buffer says of itself, read leniently: for whoever looks after dead letters, whose bodies may be
//! anything. Nothing is stored by it, and what is not plain is not known: a member that stands twice, or is no legal
//! name, has no value here.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::names::{Account, Flow};

/// What is known of a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peek {
    pub id: Option<String>,
    /// Arrival at the edge, milliseconds since the epoch.
    pub at_ms: Option<u64>,
    pub by: Option<String>,
    pub account: Option<Account>,
    pub flow: Option<Flow>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    at: Option<&'a RawValue>,
    #[serde(borrow, default)]
    by: Option<&'a RawValue>,
    #[serde(borrow, default)]
    set: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delete: Option<&'a RawValue>,
    #[serde(borrow, default)]
    site: Option<&'a RawValue>,
    #[serde(borrow, default)]
    account: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Names<'a> {
    #[serde(borrow, default)]
    account_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    flow_id: Option<&'a RawValue>,
}

/// Reads what there is to read.
pub fn peek(body: &[u8]) -> Peek {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let Some(head) = object::<Head<'_>>(text) else { return Peek::default() };
    let (account, flow) = match (head.set, head.delete) {
        (Some(request), None) | (None, Some(request)) => {
            let names = object::<Names<'_>>(request.get());
            names.map_or((None, None), |names| (names.account_id, names.flow_id))
        }
        // A task of the pages queue, which is about a site, has its account beside it.
        (None, None) => (head.account.filter(|_| head.site.is_some()), None),
        // Whose it is would depend on which of both one reads.
        (Some(_), Some(_)) => (None, None),
    };
    Peek {
        id: head.id.and_then(value),
        at_ms: head.at.and_then(value),
        by: head.by.and_then(value),
        account: account.and_then(value::<String>).and_then(|account| Account::parse(&account).ok()),
        flow: flow.and_then(value::<String>).and_then(|flow| Flow::parse(&flow).ok()),
    }
}

/// An array is no object, though serde would take its elements for members.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    if text.trim_start().starts_with('{') { serde_json::from_str(text).ok() } else { None }
}

fn value<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(body: &str) -> (Option<String>, Option<String>) {
        let peek = peek(body.as_bytes());
        (peek.account.map(|account| account.to_string()), peek.flow.map(|flow| flow.to_string()))
    }

    #[test]
    fn a_wire_form_of_any_version_tells_whose_it_is() {
        let body = r#"{"v":9,"new":1,"id":"i","at":7,"by":"b","set":{"data":[],"accountId":"a","flowId":"f"}}"#;
        let peek = peek(body.as_bytes());
        assert_eq!((peek.id.as_deref(), peek.at_ms, peek.by.as_deref()), (Some("i"), Some(7), Some("b")));
        assert_eq!(names(body), (Some("a".into()), Some("f".into())));
        assert_eq!(names(r#"{"delete":{"accountId":"a"}}"#), (Some("a".into()), None));
        assert_eq!(names(r#"{"v":1,"site":"s","account":"a","reindex":"full"}"#), (Some("a".into()), None));
    }

    #[test]
    fn one_bad_member_does_not_hide_the_others() {
        let body = r#"{"id":7,"at":"x","by":null,"set":{"accountId":"a","flowId":"not legal"}}"#;
        assert_eq!(names(body), (Some("a".into()), None));
        let peek = peek(body.as_bytes());
        assert_eq!((peek.id, peek.at_ms, peek.by), (None, None, None));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_known() {
        for body in [
            r#"{"set":{"accountId":"a"},"set":{"accountId":"b"}}"#,
            r#"{"set":{"accountId":"a"},"delete":{"accountId":"b"}}"#,
            r#"{"set":{"accountId":"a","accountId":"b"}}"#,
            r#"{"set":{"accountId":"a","\u0061ccountId":"b"}}"#,
            r#"{"set":{"accountId":"a"}} {}"#,
            r#"{"set":["a"]}"#,
            r#"{"accountId":"a"}"#,
            r#"{"account":"a"}"#,
            r#"{"site":"s","account":"a","account":"b"}"#,
            r#"{"site":"s","account":"a","delete":[]}"#,
            "garbage",
            "",
        ] {
            assert_eq!(names(body), (None, None), "{body}");
        }
        assert_eq!(super::peek(&[0xff, 0xfe]), Peek::default());
    }
}
