//! The API contract: what the OpenAPI documents say is what the real program does, and the other way round.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use hookcache::admin::keys::SCAN_MAX;
use hookcache::auth::token::Token;
use hookcache::envelope::limits::{
    FAULTS_MAX, KEY_CHARS_MAX, KEYS_PER_REQUEST_MAX, SETS_PER_ARRAY_MAX, TTL_SECONDS_MAX,
};
use hookcache::extract::{Kind, TEXT_CHARS_MAX};
use hookcache::http::Route;
use hookcache::openapi;
use hookcache::page::Status;
use hookcache::problem::Code;
use hookcache::serve::{KEYS_PER_GET_MAX, LINKS_DEFAULT, LINKS_MAX};
use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::confluence::ConfluenceStandIn;
use crate::support::{Hookcache, TempDir, eventually, http_get, http_send, repository, tool};

/// Every run draws the same requests.
const SEED: &str = "20261122";
/// Random requests per call and kind, beside those that cover each rule of a schema once.
const EXAMPLES: &str = "12";
/// The documents offer `never`, so the configuration must allow it for legal requests to be accepted.
const CONFIG: &str = "[ttl]\nallow_never = [\"*/*\"]\n";

/// Page links on, so that their calls and webhooks are judged, too.
const ENVIRONMENT: [(&str, &str); 1] = [("HOOKCACHE_CONFLUENCE__ENABLED", "true")];
/// The page that the data plane's document has as its example.
const PAGE: (&str, u64) = ("wiki.example.com", 42);

/// Adds the site of the example, and waits until its page is read, so that there are links to be judged. The site is
/// there until the stand-in is dropped.
async fn with_page(hookcache: &Hookcache, authorization: &str) -> ConfluenceStandIn {
    let (stand_in, (site, page)) = (ConfluenceStandIn::start().await, PAGE);
    let link =
        |n| format!("<a href=\"https://example.com/{n}\">{n}</a> <a href=\"mailto:a@example.com?n={n}\">mail</a>");
    let body: String = (0..60).map(link).collect();
    let body = body
        + r#"<ac:link ac:anchor="a"><ri:page ri:content-title="T" /></ac:link> <a href="/wiki/x/TQBFJ">t</a>
        <ac:image><ri:attachment ri:filename="f.png"><ri:page ri:content-title="T" /></ri:attachment></ac:image>"#;
    stand_in.add_page(page, "Home", &body);
    let join = json!({ "accountId": "acme", "baseUrl": stand_in.cloud(), "credential": { "bearer": "t" } });
    let headers = [("content-type", "application/json"), ("authorization", authorization)];
    let url = format!("{}/v1/sites/{site}", hookcache.admin_url());
    assert_eq!(http_send(Method::PUT, &url, &headers, join.to_string()).await.status, 200);
    let url = format!("{}/v1/sites/{site}/pages/{page}/links", hookcache.url());
    eventually("the page is read", || async {
        (http_send(Method::GET, &url, &headers, "").await.status == 200).then_some(())
    })
    .await;
    stand_in
}

/// Runs schemathesis against one plane: did it pass, and its output. Nothing of it stays outside `folder`.
async fn schemathesis(plane: &str, folder: &Path, options: &[&str]) -> (bool, String) {
    // From a file, since the address that it reads a document from is a call that it leaves out.
    let document = http_get(&format!("{plane}/openapi.json")).await;
    fs::write(folder.join("openapi.json"), &document.body).expect("a file in a folder of ours");
    let mut command = Command::new(tool("venv/bin/schemathesis"));
    command.args(["run", "openapi.json", "--url", plane, "--seed", SEED, "--max-examples", EXAMPLES]);
    command.args(["--phases", "examples,coverage,fuzzing", "--generation-database", "none"]);
    command.args(["--no-color", "--continue-on-failure"]).args(options).current_dir(folder).kill_on_drop(true);
    command.env("SCHEMATHESIS_HOOKS", "schemathesis_hooks").env("PYTHONPATH", repository().join("tests/tools"));
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().await.expect("schemathesis starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// Both planes at once: all checks pass, and each call was tried.
async fn finds_nothing(hookcache: &Hookcache, options: &[&str]) {
    let (data_folder, control_folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (data_url, control_url) = (hookcache.url(), hookcache.admin_url());
    let (data, control) = tokio::join!(
        schemathesis(&data_url, data_folder.path(), options),
        schemathesis(&control_url, control_folder.path(), options),
    );
    for ((passed, output), document) in [(data, data_document()), (control, openapi::control())] {
        assert!(passed, "{output}");
        let calls = calls(&document).len();
        assert!(output.contains(&format!("Tested: {calls}\n")), "{calls} calls must be tried:\n{output}");
    }
    // Not only refused: there was something to be told.
    let metrics = http_get(&format!("{}/metrics", hookcache.url())).await.text();
    let counted = |route: &str, status: u16| {
        let is_it = |line: &&str| {
            line.contains(&format!("route=\"{route}\"")) && line.contains(&format!("status=\"{status}\""))
        };
        metrics.lines().filter(is_it).count()
    };
    for (route, status) in [("links", 200), ("links", 400), ("links", 404), ("hook", 401)] {
        assert!(counted(route, status) > 0, "no {status} of {route}:\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_where_everybody_may_do_everything() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hookcache.toml");
    fs::write(&file, CONFIG).unwrap();
    let hookcache = Hookcache::start(&["--config", file.to_str().unwrap()], &ENVIRONMENT).await;
    let _site = with_page(&hookcache, "").await;
    // Here nobody is asked for the token that the documents name.
    let options = ["--exclude-checks", "ignored_auth", "--generation-with-security-parameters", "false"];
    finds_nothing(&hookcache, &options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_where_tokens_are_asked_for() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hookcache.toml");
    let token = Token::generate().unwrap();
    let scopes = r#"["set", "get", "admin"]"#;
    let entry = format!("[[auth.tokens]]\nname = \"t\"\nhash = \"{}\"\nscopes = {scopes}\n", token.hash());
    fs::write(&file, format!("{CONFIG}{entry}")).unwrap();
    let hookcache = Hookcache::start(&["--config", file.to_str().unwrap()], &ENVIRONMENT).await;
    let authorization = format!("Bearer {}", token.reveal());
    let _site = with_page(&hookcache, &authorization).await;
    finds_nothing(&hookcache, &["--header", &format!("Authorization: {authorization}")]).await;

    // Documents and page are for everybody.
    for plane in [hookcache.url(), hookcache.admin_url()] {
        assert_eq!(http_get(&format!("{plane}/openapi.json")).await.header("content-type"), "application/json");
        let page = http_get(&format!("{plane}/docs")).await;
        assert_eq!((page.status.as_u16(), page.text().as_str()), (200, openapi::PAGE));
        assert_eq!(page.header("content-security-policy"), openapi::PAGE_POLICY);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_document_tells_the_limits_of_its_server() {
    let hookcache = Hookcache::start(&[], &[("HOOKCACHE_LIMITS__KEYS_PER_REQUEST_MAX", "3")]).await;
    let served = http_get(&format!("{}/openapi.json", hookcache.url())).await.json();
    assert_eq!(served, openapi::data(3));
    assert_eq!(http_get(&format!("{}/openapi.json", hookcache.admin_url())).await.json(), openapi::control());
}

fn data_document() -> Value {
    openapi::data(KEYS_PER_REQUEST_MAX)
}

const METHODS: &[&str] = &["get", "head", "post", "put", "patch", "delete", "options", "trace"];

/// Path, method in capitals, and the operation.
fn calls(document: &Value) -> Vec<(&str, String, &Value)> {
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in METHODS {
            calls.extend(item.get(*method).map(|call| (path.as_str(), method.to_uppercase(), call)));
        }
    }
    calls
}

fn methods_by_path(document: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, method, _) in calls(document) {
        found.entry(path.to_owned()).or_default().insert(method);
    }
    found
}

fn listed(methods: &str) -> BTreeSet<String> {
    methods.split(',').map(|method| method.trim().to_owned()).collect()
}

#[test]
fn the_data_planes_document_and_its_route_table_agree_both_ways() {
    let table = Route::TABLE.iter().map(|(path, route)| {
        assert_eq!(Route::of(path), *route, "{path}");
        ((*path).to_owned(), listed(route.methods().expect("a route knows its methods")))
    });
    assert_eq!(methods_by_path(&data_document()), table.collect());
}

#[test]
fn the_control_planes_document_and_its_router_name_the_same_paths() {
    // A router can't be asked for its paths, so its source is.
    let folder = fs::read_dir(repository().join("src/admin")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let files = files.chain([repository().join("src/admin.rs")]);
    let sources = files.map(|file| fs::read_to_string(file).unwrap()).collect::<String>();
    let routed = sources.split(".route(").skip(1).map(|rest| rest.split('"').nth(1).expect("a path").to_owned());
    let nameless = |path: String| {
        let part = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
        path.split('/').map(part).collect::<Vec<_>>().join("/")
    };
    let mut routed: BTreeSet<String> = routed.map(nameless).collect();
    assert!(routed.contains("/v1/ttl"), "the router's paths stand in its source: {routed:?}");
    routed.extend(Route::TABLE.iter().filter(|(_, route)| route.is_probe()).map(|(path, _)| (*path).to_owned()));
    let documented: BTreeSet<String> = methods_by_path(&openapi::control()).into_keys().map(nameless).collect();
    assert_eq!(documented, routed);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_path_allows_the_documented_methods_and_no_other() {
    let hookcache = Hookcache::start(&[], &[]).await;
    for (plane, document) in [(hookcache.url(), data_document()), (hookcache.admin_url(), openapi::control())] {
        for (path, methods) in methods_by_path(&document) {
            let url = format!("{plane}{}", path.replace(['{', '}'], ""));
            let reply = http_send(Method::PATCH, &url, &[], "").await;
            assert_eq!(reply.status, 405, "{url}");
            assert_eq!(listed(reply.header("allow")), methods, "{url}");
        }
    }
}

/// The answers of a call, each with the codes that it names.
fn answers<'a>(document: &'a Value, call: &'a Value) -> BTreeMap<u16, BTreeSet<&'a str>> {
    let answer = |(status, answer): (&'_ String, &'a Value)| {
        let answer = match answer["$ref"].as_str() {
            Some(reference) => {
                document.pointer(reference.trim_start_matches('#')).expect("a reference leads somewhere")
            }
            None => answer,
        };
        let schema = &answer["content"]["application/problem+json"]["schema"];
        let parts = schema["allOf"].as_array().into_iter().flatten();
        let codes = parts.filter_map(|part| part["properties"]["code"]["enum"].as_array()).flatten();
        (status.parse().expect("a status"), codes.map(|code| code.as_str().expect("a code")).collect())
    };
    call["responses"].as_object().expect("responses").iter().map(answer).collect()
}

#[test]
fn every_problem_code_is_documented_under_its_own_status_and_no_other_code_is() {
    let documents = [data_document(), openapi::control()];
    let mut documented = BTreeSet::new();
    for document in &documents {
        for (path, method, call) in calls(document) {
            for (status, codes) in answers(document, call) {
                assert!(
                    status < 400 || method == "HEAD" || !codes.is_empty(),
                    "{method} {path}: {status} names no code"
                );
                for code in codes {
                    let known = Code::ALL.iter().find(|known| known.as_str() == code);
                    let known = known.unwrap_or_else(|| panic!("{method} {path}: there is no code {code}"));
                    assert_eq!(known.status(), status, "{method} {path}: {code}");
                    documented.insert(code);
                }
            }
        }
    }
    assert_eq!(documented, Code::ALL.iter().map(|code| code.as_str()).collect());
}

#[test]
fn the_documents_bounds_are_the_limits_of_the_code() {
    let document = data_document();
    let schemas = &document["components"]["schemas"];
    for (pointer, limit) in [
        ("/SetRequest/properties/webhookKeys/maxItems", KEYS_PER_REQUEST_MAX),
        ("/DeleteRequest/properties/webhookKeys/maxItems", KEYS_PER_REQUEST_MAX),
        ("/WebhookKey/maxLength", KEY_CHARS_MAX),
        ("/SetRequests/maxItems", SETS_PER_ARRAY_MAX),
        ("/GetRequest/properties/webhookKeys/maxItems", KEYS_PER_GET_MAX),
        ("/Problem/properties/errors/maxItems", FAULTS_MAX),
        ("/SetRequest/properties/ttlSeconds/maximum", TTL_SECONDS_MAX as usize),
    ] {
        assert_eq!(schemas.pointer(pointer), Some(&Value::from(limit)), "{pointer}");
    }
    let limit = &document["components"]["parameters"]["linksLimit"]["schema"];
    assert_eq!((&limit["default"], &limit["maximum"]), (&LINKS_DEFAULT.into(), &LINKS_MAX.into()));
    assert_eq!(schemas["PageLinks"]["properties"]["links"]["maxItems"], Value::from(LINKS_MAX));
    assert_eq!(schemas["LinkKind"]["enum"], json!(Kind::ALL.map(|kind| kind.as_str())));
    assert_eq!(schemas["PageStatus"]["enum"], json!(Status::ALL.map(|status| status.as_str())));
    let text = schemas["Link"]["properties"]["text"]["description"].as_str().unwrap();
    assert!(text.contains(&TEXT_CHARS_MAX.to_string()), "{text}");
    let control = openapi::control();
    for schema in ["PurgeRequest", "ApplyRequest"] {
        let bound = &control["components"]["schemas"][schema]["properties"]["scanLimit"]["maximum"];
        assert_eq!(*bound, Value::from(SCAN_MAX), "{schema}");
    }
}

#[test]
fn the_page_shows_every_call_and_schema_of_a_document_and_every_link_of_it_leads_somewhere() {
    for document in [data_document(), openapi::control()] {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("openapi.json");
        fs::write(&file, document.to_string()).unwrap();
        let (script, page) = ("tests/tools/show-page.js", "docs/api.html");
        let node = std::process::Command::new("node").args([script, page]).arg(file).current_dir(repository()).output();
        let node = node.expect("node starts");
        let shown: Value = serde_json::from_slice(&node.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&node.stderr)));
        let text = shown["text"].as_str().unwrap();
        assert!(!text.contains("could not be shown") && shown["errors"] == Value::Array(vec![]), "{text}");
        for (path, method, call) in calls(&document) {
            let line = format!("{method} {path} – {}", call["summary"].as_str().unwrap());
            assert!(text.contains(&line), "not shown: {line}");
        }
        let texts = |name: &str| shown[name].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned());
        let ids: BTreeSet<String> = texts("ids").collect();
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(ids.contains(&format!("schema-{name}")), "{name}");
        }
        for link in texts("links") {
            let (page, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let found = match page {
                "" => ids.contains(anchor),
                "docs/errors.md" => anchor.is_empty() || Code::ALL.iter().any(|code| code.as_str() == anchor),
                page => page == "openapi.json" && anchor.is_empty(),
            };
            assert!(found, "{link} leads nowhere");
        }
    }
}

#[test]
fn a_head_answers_with_the_statuses_of_its_get() {
    for document in [data_document(), openapi::control()] {
        let statuses = |call: &Value| answers(&document, call).into_keys().filter(|status| *status != 405).collect();
        for (path, item) in document["paths"].as_object().unwrap() {
            if let (Some(get), Some(head)) = (item.get("get"), item.get("head")) {
                let (get, head): (BTreeSet<u16>, BTreeSet<u16>) = (statuses(get), statuses(head));
                assert_eq!(get, head, "{path}");
            }
        }
    }
}
