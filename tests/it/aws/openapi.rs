//! What `config/aws/openapi.yaml` must say.

use std::collections::{BTreeMap, BTreeSet};

use hookcache::problem::Code;
use serde_json::{Value, json};

use super::door::StandIn;
use crate::support::cloudformation::{self, Stack};
use crate::support::localstack::api;

/// Every answer of API Gateway's own that is an error (its developer guide, "Gateway response types").
const GATEWAY_RESPONSES: [&str; 21] = [
    "ACCESS_DENIED",
    "API_CONFIGURATION_ERROR",
    "AUTHORIZER_CONFIGURATION_ERROR",
    "AUTHORIZER_FAILURE",
    "BAD_REQUEST_BODY",
    "BAD_REQUEST_PARAMETERS",
    "DEFAULT_4XX",
    "DEFAULT_5XX",
    "EXPIRED_TOKEN",
    "INTEGRATION_FAILURE",
    "INTEGRATION_TIMEOUT",
    "INVALID_API_KEY",
    "INVALID_SIGNATURE",
    "MISSING_AUTHENTICATION_TOKEN",
    "QUOTA_EXCEEDED",
    "REQUEST_TOO_LARGE",
    "RESOURCE_NOT_FOUND",
    "THROTTLED",
    "UNAUTHORIZED",
    "UNSUPPORTED_MEDIA_TYPE",
    "WAF_FILTERED",
];
/// The one variable that may stand in a gateway response: quoted JSON already.
const QUOTED: &str = "$context.error.messageString";

fn integration<'a>(api: &'a Value, call: &str) -> &'a Value {
    &api["paths"][format!("/v1/{call}")]["post"]["x-amazon-apigateway-integration"]
}

/// All texts below a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(members) => members.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// The problems that a text of templates can answer.
fn problems(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| line.contains("\"code\""));
    lines.map(|line| serde_json::from_str(&line.replace(QUOTED, "\"\"")).expect("a problem is JSON")).collect()
}

/// Holds a problem to the table of codes. Returns the code.
fn check_problem(problem: &Value, wherefrom: &str) -> Code {
    let code = Code::ALL.iter().find(|code| problem["code"] == code.as_str());
    let code = *code.unwrap_or_else(|| panic!("{wherefrom}: there is no such code: {problem}"));
    assert_eq!(problem["status"], code.status(), "{wherefrom}");
    assert_eq!(problem["title"], code.title(), "{wherefrom}");
    assert_eq!(problem["type"], format!("/docs/errors.md#{}", code.as_str()), "{wherefrom}");
    assert_eq!(problem.get("retryAfterSeconds").is_some(), code.retry_helps(), "{wherefrom}");
    code
}

#[test]
fn set_and_delete_differ_in_their_names_and_models_alone() {
    let api = api();
    let (set, delete) = (integration(&api, "set").to_string(), integration(&api, "delete").to_string());
    assert_eq!(set.replace("%22set%22%3A", "%22delete%22%3A"), delete);
    for (call, model) in [("set", "SetRequest"), ("delete", "DeleteRequest")] {
        let operation = &api["paths"][format!("/v1/{call}")]["post"];
        assert_eq!(operation["x-amazon-apigateway-request-validator"], "body");
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(*schema, format!("#/components/schemas/{model}"));
        assert_eq!(integration(&api, call)["passthroughBehavior"], "never");
    }
    assert_eq!(api["x-amazon-apigateway-request-validators"]["body"]["validateRequestBody"], true);
}

#[test]
fn whatever_enters_the_form_is_encoded_and_nothing_is_written_anew() {
    let api = api();
    for call in ["set", "delete"] {
        let templates = integration(&api, call)["requestTemplates"].as_object().unwrap();
        assert_eq!(templates.keys().collect::<Vec<_>>(), ["application/json"]);
        let template = templates["application/json"].as_str().unwrap();
        let (before, form) = template.rsplit_once('\n').unwrap();
        assert!(before.lines().all(|line| line.ends_with("##")), "an end of a line would be in the form: {before}");
        let mut left = form.to_owned();
        for encoded in ["$input.body", "$input.path('$.accountId')", "$context.extendedRequestId", "$by"] {
            let call = format!("$util.urlEncode({encoded})");
            assert_eq!(form.matches(&call).count(), 1, "{encoded}");
            left = left.replace(&call, "");
        }
        // A number of API Gateway's own.
        assert!(!left.replace("$context.requestTimeEpoch", "").contains('$'), "{left}");
        for wrong in ["$input.json", "$context.requestId", "$input.params"] {
            assert!(!template.contains(wrong), "{wrong}: {template}");
        }
    }
}

#[test]
fn every_problem_is_one_of_the_table_and_tells_nothing_of_a_caller() {
    let api = api();
    let responses = &api["x-amazon-apigateway-gateway-responses"];
    let listed: BTreeSet<&str> = responses.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(listed, GATEWAY_RESPONSES.into());
    for kind in GATEWAY_RESPONSES {
        let response = &responses[kind];
        let template = response["responseTemplates"]["application/json"].as_str().unwrap();
        let problem = problems(template).pop().unwrap_or_else(|| panic!("{kind} is no problem"));
        let code = check_problem(&problem, kind);
        assert_eq!(response["statusCode"], code.status(), "{kind}");
        assert!(!template.replace(QUOTED, "").contains('$'), "{kind}: {template}");
        let headers = &response["responseParameters"];
        assert_eq!(headers["gatewayresponse.header.Content-Type"], "'application/problem+json'", "{kind}");
        let retry = problem.get("retryAfterSeconds").map(|seconds| json!(format!("'{seconds}'")));
        assert_eq!(headers.get("gatewayresponse.header.Retry-After"), retry.as_ref(), "{kind}");
    }
    for call in ["set", "delete"] {
        let mut codes = BTreeSet::new();
        for (pattern, response) in integration(&api, call)["responses"].as_object().unwrap() {
            for problem in texts(&response["responseTemplates"]).into_iter().flat_map(problems) {
                codes.insert(check_problem(&problem, pattern).as_str());
                assert!(!problem.to_string().contains('$'), "{problem}");
            }
        }
        let wanted = ["buffer-unavailable", "illegal-character", "payload-too-large", "refused-by-buffer"];
        assert_eq!(codes, wanted.into(), "{call}");
    }
}

#[test]
fn every_call_asks_who_it_is_and_an_api_key_never_says_so_alone() {
    let document = cloudformation::read("openapi.yaml");
    for (authorizer, key) in [(false, false), (false, true), (true, false), (true, true)] {
        let conditions = BTreeMap::from([("UsesAuthorizer".to_owned(), authorizer), ("NeedsApiKey".to_owned(), key)]);
        let api = Stack { conditions, ..Stack::default() }.resolve(&document);
        let scheme = if authorizer { "authorizer" } else { "sigv4" };
        let wanted = if key { json!([{scheme: [], "api_key": []}]) } else { json!([{scheme: []}]) };
        let schemes = &api["components"]["securitySchemes"];
        assert_eq!(schemes.get("authorizer").is_some(), authorizer);
        assert_eq!(schemes["sigv4"]["x-amazon-apigateway-authtype"], "awsSigv4");
        for (path, item) in api["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert_eq!(operation["security"], wanted, "{method} {path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sqs_answers_is_told_by_status_and_code() {
    let door = StandIn::start().await;
    let too_long = "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes.";
    let cases = [
        (400, "InvalidMessageContents", "Invalid characters found.", 400, "illegal-character"),
        (400, "InvalidParameterValue", too_long, 413, "payload-too-large"),
        (400, "InvalidParameterValue", "The value is not valid.", 400, "refused-by-buffer"),
        (400, "Throttling", "Rate exceeded", 503, "buffer-unavailable"),
        (400, "AWS.SimpleQueueService.NonExistentQueue", "There is none.", 503, "buffer-unavailable"),
        (403, "AccessDenied", "Access is denied.", 503, "buffer-unavailable"),
        (500, "InternalError", "", 503, "buffer-unavailable"),
        (503, "ServiceUnavailable", "", 503, "buffer-unavailable"),
    ];
    for (status, code, message, answered, problem) in cases {
        let answer = door.answer_to_sqs("set", status, json!({"Error": {"Code": code, "Message": message}}));
        assert_eq!((answer.status, &answer.json()["code"]), (answered, &json!(problem)), "{status} {code}");
        assert_eq!(answer.json()["status"], answered, "{status} {code}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{status} {code}");
        let retry = answer.headers.get("retry-after").map(String::as_str);
        assert_eq!(retry, (answered == 503).then_some("2"), "{status} {code}");
    }
}
