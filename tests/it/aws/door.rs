//! API Gateway with `config/aws/openapi.yaml` in it: a stand-in, or LocalStack.
//!
//! The stand-in does what AWS documents, and no more: content type, model, request template, SQS, response template,
//! gateway responses. Templates are rendered by Apache Velocity, models are judged as JSON Schema draft 4 without array
//! lengths, and SQS is an emulator that is sent the very bytes of the form.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::velocity::Velocity;
use crate::support::localstack::{CALLER, LocalStack, QUEUE, api};
use crate::support::{Ministack, Queues, Reply, http_send};

const JSON: &str = "application/json";
/// The largest body that API Gateway takes.
const BODY_BYTES_MAX: usize = 10 << 20;

/// What a caller is answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned())
        };
        Self { status: reply.status.as_u16(), headers: reply.headers.iter().map(header).collect(), body: reply.text() }
    }
}

pub enum Door {
    StandIn(Box<StandIn>),
    LocalStack(Box<LocalStack>),
}

impl Door {
    /// Posts to `/v1/{call}`, as [`CALLER`].
    pub async fn post(&self, call: &str, content_type: Option<&str>, body: &[u8]) -> Answer {
        match self {
            Self::StandIn(door) => door.post(call, &signed(CALLER), content_type, body).await,
            Self::LocalStack(door) => {
                let url = format!("{}/v1/{call}", door.url());
                let headers: Vec<_> =
                    content_type.map(|content_type| ("content-type", content_type)).into_iter().collect();
                http_send(Method::POST, &url, &headers, body.to_vec()).await.into()
            }
        }
    }

    pub fn endpoint_url(&self) -> String {
        match self {
            Self::StandIn(door) => door.endpoint_url(),
            Self::LocalStack(door) => door.endpoint_url(),
        }
    }

    pub fn queues(&self) -> &Queues {
        match self {
            Self::StandIn(door) => &door.queues,
            Self::LocalStack(door) => door.queues(),
        }
    }
}

/// `$context` of a call that IAM has let in.
pub fn signed(arn: &str) -> Value {
    json!({"identity": {"userArn": arn}, "authorizer": {"principalId": null}})
}

/// `$context` of a call that a Lambda authorizer has let in.
pub fn authorized(principal: &str) -> Value {
    json!({"identity": {"userArn": null}, "authorizer": {"principalId": principal}})
}

pub struct StandIn {
    api: Value,
    velocity: Velocity,
    sqs: Ministack,
    pub queues: Queues,
    calls: AtomicU64,
}

/// What came back from SQS, as API Gateway shows it to a response template: Query answers, in JSON.
struct FromSqs {
    status: u16,
    body: Value,
}

impl StandIn {
    pub async fn start() -> Self {
        let (api, velocity, sqs) = (api(), Velocity::start(), Ministack::start().await);
        let queues = sqs.queues(QUEUE).await;
        Self { api, velocity, sqs, queues, calls: AtomicU64::new(0) }
    }

    /// `who` holds `identity` and `authorizer` of `$context`.
    pub async fn post(&self, call: &str, who: &Value, content_type: Option<&str>, body: &[u8]) -> Answer {
        let operation = &self.api["paths"][format!("/v1/{call}")]["post"];
        let integration = &operation["x-amazon-apigateway-integration"];
        let content_type = content_type.unwrap_or(JSON);
        if body.len() > BODY_BYTES_MAX {
            return self.own("REQUEST_TOO_LARGE", "Request Too Long");
        }
        let text = String::from_utf8_lossy(body);
        let model = &operation["requestBody"]["content"][content_type]["schema"]["$ref"];
        if let Some(model) = model.as_str().and_then(|path| self.api.pointer(path.trim_start_matches('#')))
            && !is_valid(model, &text)
        {
            return self.own("BAD_REQUEST_BODY", "Invalid request body");
        }
        let Some(template) = integration["requestTemplates"][content_type].as_str() else {
            return self.own("UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type");
        };
        let context = self.context(who);
        let Ok(form) = self.velocity.render(template, &text, &context) else {
            return self.own("API_CONFIGURATION_ERROR", "Internal server error");
        };
        let from_sqs = self.send(integration, form.text).await;
        self.answer(&integration["responses"], &from_sqs, &context)
    }

    pub fn endpoint_url(&self) -> String {
        self.sqs.endpoint_url()
    }

    /// What the request template of a call makes of any body.
    pub fn form(&self, call: &str, who: &Value, body: &str) -> Result<String, String> {
        let operation = &self.api["paths"][format!("/v1/{call}")]["post"];
        let template = &operation["x-amazon-apigateway-integration"]["requestTemplates"][JSON];
        let rendered = self.velocity.render(template.as_str().expect("a template"), body, &self.context(who));
        rendered.map(|rendered| rendered.text)
    }

    fn context(&self, who: &Value) -> Value {
        // As long and as odd as those of AWS.
        let id = format!("JKJaX+/{:08}=", self.calls.fetch_add(1, Ordering::Relaxed));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        let mut context = json!({"extendedRequestId": id, "requestTimeEpoch": now, "responseOverride": {"header": {}}});
        for (name, value) in who.as_object().expect("who calls") {
            context[name] = value.clone();
        }
        context
    }

    async fn send(&self, integration: &Value, form: String) -> FromSqs {
        let content_type = &integration["requestParameters"]["integration.request.header.Content-Type"];
        let content_type = content_type.as_str().expect("a content type").trim_matches('\'');
        let headers = [("content-type", content_type), ("authorization", AUTHORIZATION)];
        let reply = http_send(Method::POST, &self.queues.queue_url, &headers, form).await;
        let (status, text) = (reply.status.as_u16(), reply.text());
        let body = match status {
            200 => json!({"SendMessageResponse": {"SendMessageResult": {"MessageId": element(&text, "MessageId")}}}),
            _ => json!({"Error": {"Code": element(&text, "Code"), "Message": element(&text, "Message")}}),
        };
        FromSqs { status, body }
    }

    pub fn answer_to_sqs(&self, call: &str, status: u16, body: Value) -> Answer {
        let integration = &self.api["paths"][format!("/v1/{call}")]["post"]["x-amazon-apigateway-integration"];
        self.answer(&integration["responses"], &FromSqs { status, body }, &self.context(&signed(CALLER)))
    }

    fn answer(&self, responses: &Value, from_sqs: &FromSqs, context: &Value) -> Answer {
        let pattern = match from_sqs.status {
            200..300 => "2\\d{2}".to_owned(),
            status => status.to_string(),
        };
        let response = responses.get(&pattern).unwrap_or(&responses["default"]);
        let template = response["responseTemplates"][JSON].as_str().expect("a template");
        let rendered = self.velocity.render(template, &from_sqs.body.to_string(), context).expect("a good template");
        let overridden = &rendered.response_override;
        let mut headers = literal_headers(response, "method.response.header.");
        let more = overridden["header"].as_object().into_iter().flatten();
        headers.extend(more.map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap_or_default().to_owned())));
        let status = overridden["status"].as_u64().map(|status| status as u16);
        Answer { status: status.unwrap_or_else(|| number(&response["statusCode"])), headers, body: rendered.text }
    }

    /// An answer of API Gateway's own.
    pub fn own(&self, kind: &str, message: &str) -> Answer {
        let response = &self.api["x-amazon-apigateway-gateway-responses"][kind];
        let template = response["responseTemplates"][JSON].as_str().unwrap_or_else(|| panic!("{kind} has no template"));
        let body = template.replace("$context.error.messageString", &Value::from(message).to_string());
        Answer {
            status: number(&response["statusCode"]),
            headers: literal_headers(response, "gatewayresponse.header."),
            body,
        }
    }
}

/// What an emulator wants to see; it checks no signature.
pub const AUTHORIZATION: &str =
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=none";

/// Headers that are set to a text, by names in lower case.
fn literal_headers(response: &Value, prefix: &str) -> BTreeMap<String, String> {
    let parameters = response["responseParameters"].as_object().into_iter().flatten();
    let header = |(name, value): (&String, &Value)| {
        let name = name.strip_prefix(prefix)?.to_lowercase();
        Some((name, value.as_str()?.trim_matches('\'').to_owned()))
    };
    parameters.filter_map(header).collect()
}

/// A status is written as a text or as a number.
fn number(value: &Value) -> u16 {
    value.to_string().trim_matches('"').parse().unwrap_or_else(|_| panic!("no status: {value}"))
}

/// The text of the first element of that name.
fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let rest = xml.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {xml}")).1;
    rest.split('<').next().expect("a part")
}

/// Is it JSON, and what the model says? The payload is JSON of any kind, and not read: 1e400 is a number.
fn is_valid(model: &Value, text: &str) -> bool {
    let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else { return false };
    let value = |(name, raw): (String, &RawValue)| match name.as_str() {
        "data" => Some((name, Value::Null)),
        _ => Some((name, serde_json::from_str(raw.get()).ok()?)),
    };
    let Some(members) = members.into_iter().map(value).collect::<Option<_>>() else { return false };
    let options = jsonschema::options().with_draft(jsonschema::Draft::Draft4).should_validate_formats(false);
    let validator = options.build(&without_array_lengths(model)).expect("a model is a schema");
    validator.is_valid(&Value::Object(members))
}

/// "The maxItems and minItems tags aren't included in simple request validation" (API Gateway's important notes).
fn without_array_lengths(model: &Value) -> Value {
    match model {
        Value::Object(members) => {
            let kept = members.iter().filter(|(name, _)| !["minItems", "maxItems"].contains(&name.as_str()));
            kept.map(|(name, value)| (name.clone(), without_array_lengths(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_array_lengths).collect(),
        plain => plain.clone(),
    }
}
