//! API Gateway's proxy integration: its events read to requests, and answers written as it takes them. Pure.
//!
//! | payload | who sends it | the query |
//! | --- | --- | --- |
//! | 1.0 | REST APIs | decoded by names and values, so it is encoded again: a Connect token's hash is one of decoded names and values |
//! | 2.0 | HTTP APIs, function URLs | as it was sent |
//!
//! *The path begins with `/v1/hooks/confluence`.* What stands before it is a stage or a base path of API Gateway's, and is
//! cut off: senders sign what is below the URL that they know, which holds it.
//!
//! Lambda takes no event above 6 MB.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http::{HeaderValue, Method};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hooks::{Call, HOOKS_PATH};
use crate::problem::{Code, Problem};

/// An event that is no request of API Gateway's.
#[derive(Debug, thiserror::Error)]
#[error("the event is none of API Gateway's proxy integration, payload 1.0 or 2.0: {0}")]
pub struct NotProxied(#[from] serde_json::Error);

/// `null` stands for none of them.
type Texts = Option<BTreeMap<String, String>>;
type Lists = Option<BTreeMap<String, Vec<String>>>;

#[derive(Deserialize)]
struct Version {
    /// REST APIs name none.
    version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct First {
    http_method: String,
    path: String,
    headers: Texts,
    multi_value_headers: Lists,
    query_string_parameters: Texts,
    multi_value_query_string_parameters: Lists,
    #[serde(flatten)]
    content: Content,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Second {
    request_context: Context,
    raw_path: String,
    #[serde(default)]
    raw_query_string: String,
    headers: Texts,
    #[serde(flatten)]
    content: Content,
}

#[derive(Deserialize)]
struct Context {
    http: HttpContext,
}

#[derive(Deserialize)]
struct HttpContext {
    method: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// What API Gateway takes for an answer, of either payload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    status_code: u16,
    headers: BTreeMap<String, String>,
    body: String,
    is_base64_encoded: bool,
}

/// The request that an event holds; a problem where no server could have had it.
pub fn call(event: Value) -> Result<Result<Call, Problem>, NotProxied> {
    let Version { version } = Version::deserialize(&event)?;
    if version.as_deref() == Some("2.0") {
        let event: Second = serde_json::from_value(event)?;
        let query = Some(event.raw_query_string).filter(|query| !query.is_empty());
        let headers = event.headers.unwrap_or_default().into_iter();
        return Ok(joined(&event.request_context.http.method, &event.raw_path, query, headers, event.content));
    }
    let event: First = serde_json::from_value(event)?;
    let query = query(pairs(event.multi_value_query_string_parameters, event.query_string_parameters));
    let headers = pairs(event.multi_value_headers, event.headers);
    Ok(joined(&event.http_method, &event.path, query, headers.into_iter(), event.content))
}

/// The lists have everything, and the texts but the last of each name. A test in AWS's console may have the texts alone.
fn pairs(lists: Lists, texts: Texts) -> Vec<(String, String)> {
    match lists {
        Some(lists) => {
            let spread =
                |(name, values): (String, Vec<String>)| values.into_iter().map(move |value| (name.clone(), value));
            lists.into_iter().flat_map(spread).collect()
        }
        None => texts.unwrap_or_default().into_iter().collect(),
    }
}

fn query(pairs: Vec<(String, String)>) -> Option<String> {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

fn joined(
    method: &str,
    path: &str,
    query: Option<String>,
    headers: impl Iterator<Item = (String, String)>,
    content: Content,
) -> Result<Call, Problem> {
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| malformed("the method is none of HTTP"))?;
    let path = path[path.find(HOOKS_PATH).unwrap_or_default()..].to_owned();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed("a header's name is none of HTTP"))?;
        let value = HeaderValue::from_str(&value).map_err(|_| malformed("a header's value is none of HTTP"))?;
        map.append(name, value);
    }
    let body = content.body.unwrap_or_default();
    let body = match content.is_base64_encoded {
        true => STANDARD.decode(body).map_err(|_| malformed("the body is said to be base64, and is not"))?,
        false => body.into_bytes(),
    };
    Ok(Call { method, path, query, headers: map, body: body.into() })
}

fn malformed(what: &str) -> Problem {
    Problem::new(Code::InvalidRequest, what)
}

impl Response {
    /// No header of ours stands twice, and every body of ours is a text.
    pub fn of(response: http::Response<Bytes>) -> Self {
        let (head, body) = response.into_parts();
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Self {
            status_code: head.status.as_u16(),
            headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
            is_base64_encoded: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use serde_json::json;

    use super::*;
    use crate::jwt::qsh;

    const VECTORS: &str = include_str!("../../tests/fixtures/jwt/qsh-vectors.json");

    fn hash(event: Value, method: &str) -> String {
        let call = call(event).unwrap().unwrap();
        qsh::Call { method, path: &call.path, query: call.query.as_deref(), base_path: "" }.hash()
    }

    #[test]
    fn a_query_has_the_hash_that_was_signed_whether_the_gateway_has_decoded_it_or_not() {
        let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
        let mut judged = 0;
        for vector in vectors {
            let query = vector["url"].as_str().unwrap().split_once('?').map_or("", |(_, query)| query);
            let signed = qsh::Call { method: "POST", path: HOOKS_PATH, query: Some(query), base_path: "" }.hash();
            let second = json!({
                "version": "2.0", "requestContext": {"http": {"method": "POST"}}, "rawPath": HOOKS_PATH,
                "rawQueryString": query,
            });
            assert_eq!(hash(second, "POST"), signed, "{vector}");
            let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
            let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8().map(String::from);
            let parameters: Result<Vec<_>, _> = query
                .split('&')
                .filter(|parameter| !parameter.is_empty())
                .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
                .map(|(name, value)| decoded(name).and_then(|name| Ok((name, decoded(value)?))))
                .collect();
            // An event is JSON, which holds no other text than Unicode's.
            let Ok(parameters) = parameters else { continue };
            parameters.into_iter().for_each(|(name, value)| lists.entry(name).or_default().push(value));
            let first = json!({
                "httpMethod": "POST", "path": format!("/live{HOOKS_PATH}"), "multiValueQueryStringParameters": lists,
            });
            assert_eq!(hash(first, "POST"), signed, "{vector}");
            judged += 1;
        }
        assert!(judged >= 40, "{judged}");
    }

    #[test]
    fn a_stage_or_a_base_path_is_cut_off_and_nothing_else_is() {
        for (path, want) in [
            ("/v1/hooks/confluence", "/v1/hooks/confluence"),
            ("/live/v1/hooks/confluence/page_updated", "/v1/hooks/confluence/page_updated"),
            ("/a/b/v1/hooks/confluence/sites/x", "/v1/hooks/confluence/sites/x"),
            ("/v1/hooks/confluence/v1/hooks/confluence", "/v1/hooks/confluence/v1/hooks/confluence"),
            ("/v1/hooks/other", "/v1/hooks/other"),
            ("", ""),
        ] {
            let event = json!({"httpMethod": "POST", "path": path, "headers": null, "body": null});
            assert_eq!(call(event).unwrap().unwrap().path, want);
        }
    }
}
