use super::*;

const CREATED_2024: &str = r#"{"page":{"idAsString":"13139970","creatorAccountId":"5b10a2844c20165700ede21a","spaceKey":"IT",
"spaceId":65634,"modificationDate":1706398522457,"lastModifierAccountId":"5b10a2844c20165700ede21a",
"self":"https://example.atlassian.net/wiki/spaces/IT/pages/13139970/Test+Page","id":13139970,"title":"Test Page",
"creationDate":1706398513664,"contentType":"page","version":1},"timestamp":1706398522460,"accountType":"customer",
"userAccountId":"5b10a2844c20165700ede21a"}"#;
const UPDATED_2021: &str = r#"{"userAccountId":"557058:00000000-0000-4000-8000-000000000001","accountType":"customer",
"updateTrigger":"edit_page","page":{"spaceKey":"~700000001","modificationDate":1631606188966,
"self":"https://example.atlassian.net/wiki/spaces/~700000001/pages/1188560897/Team+Notes","id":1188560897,
"title":"Team Notes","creationDate":1631605030794,"contentType":"page","version":2},"timestamp":1631606188983}"#;
const DATA_CENTER: &str = r#"{"timestamp":1778071365412,"event":"page_moved","userKey":"abc123","page":{"id":123456},"oldParent":{"id":131148}}"#;
const FORGE: &str = r#"{"eventType":"avi:confluence:created:page","atlassianId":"4ad9aa0c52dc1b420a791d12",
"eventCreatedDate":"2021-01-20T06:29:21.907Z","suppressNotifications":false,"content":{"id":"838205441","type":"page",
"status":"current","title":"A brand new page","space":{"id":827392002,"key":"SP","icon":{"isDefault":false}},
"version":{"by":{"type":"known"},"when":"2021-01-20T06:29:21.707Z","number":3}}}"#;
const FORGE_INSTALLED: &str = r#"{"id":"i","context":"ari:cloud:confluence::site/866c3a03-ec62-4717-91c4-1ad078bfcc60",
"installerAccountId":"557058:x","app":{"id":"ari:cloud:ecosystem::app/d9","version":"5"},
"eventType":"avi:forge:installed:app","environment":{"id":"e"}}"#;

fn page_of(page: u64, event: EventName, version: Option<u64>) -> Told {
    Told::Event(What::Page { page, event, version })
}

#[test]
fn each_envelope_of_a_page_event_is_read() {
    let heard = connect("page_created", CREATED_2024.as_bytes()).unwrap();
    assert_eq!(heard, Heard { told: page_of(13139970, EventName::PageCreated, Some(1)), sites: vec![] });
    let heard = connect("page_updated", UPDATED_2021.as_bytes()).unwrap();
    assert_eq!(heard.told, page_of(1188560897, EventName::PageUpdated, Some(2)));
    let heard = of_site(DATA_CENTER.as_bytes()).unwrap();
    assert_eq!(heard.told, page_of(123456, EventName::PageMoved, None));
    for read in [forge, of_site] {
        let heard = read(FORGE.as_bytes()).unwrap();
        assert_eq!(heard, Heard { told: page_of(838205441, EventName::PageCreated, Some(3)), sites: vec![] });
    }
}

#[test]
fn every_event_has_its_name_in_each_envelope() {
    for event in EventName::ALL {
        let name = event.as_str();
        let body = r#"{"page":{"id":7},"space":{"key":"K","id":"9"}}"#;
        let want = match event.is_of_space() {
            true => Told::Event(What::Space { space_key: Some("K".into()), space_id: Some(9), event }),
            false => page_of(7, event, None),
        };
        assert_eq!(connect(name, body.as_bytes()).unwrap().told, want);
        let data_center = body.replacen('{', &format!(r#"{{"event":"{name}","#), 1);
        assert_eq!(of_site(data_center.as_bytes()).unwrap().told, want);

        let (kind, verb) = name.split_once('_').unwrap();
        let verb = if verb == "removed" { "deleted" } else { verb };
        let kind = if kind == "space" { "space:V2" } else { kind };
        let body = r#"{"content":{"id":"7"},"space":{"key":"K","id":9}}"#;
        let body = body.replacen('{', &format!(r#"{{"eventType":"avi:confluence:{verb}:{kind}","#), 1);
        assert_eq!(forge(body.as_bytes()).unwrap().told, want, "{body}");
    }
    let live = br#"{"eventType":"avi:confluence:initialized:page","content":{"id":"7","subType":"live"}}"#;
    assert_eq!(forge(live).unwrap().told, page_of(7, EventName::PageCreated, None));
}

#[test]
fn an_app_that_comes_and_goes_is_told_with_its_site() {
    let heard = forge(FORGE_INSTALLED.as_bytes()).unwrap();
    assert_eq!(heard.told, Told::Lifecycle(Lifecycle::Installed));
    assert_eq!(heard.sites, ["866c3a03-ec62-4717-91c4-1ad078bfcc60"]);
    let gone = FORGE_INSTALLED.replace("installed", "uninstalled");
    assert_eq!(forge(gone.as_bytes()).unwrap().told, Told::Lifecycle(Lifecycle::Uninstalled));
    let upgraded = FORGE_INSTALLED.replace("installed", "upgraded");
    assert_eq!(forge(upgraded.as_bytes()).unwrap().told, Told::Nothing);

    for (name, lifecycle) in [
        ("installed", Lifecycle::Installed),
        ("enabled", Lifecycle::Enabled),
        ("connect_addon_enabled", Lifecycle::Enabled),
        ("disabled", Lifecycle::Disabled),
        ("connect_addon_disabled", Lifecycle::Disabled),
        ("uninstalled", Lifecycle::Uninstalled),
    ] {
        let heard = connect(name, br#"{"clientKey":"site-a","key":"app"}"#).unwrap();
        assert_eq!(heard, Heard { told: Told::Lifecycle(lifecycle), sites: vec!["site-a".into()] }, "{name}");
    }
    let with_secret = FORGE_INSTALLED.replace("installed", "uninstalled");
    assert_eq!(of_site(with_secret.as_bytes()).unwrap().told, Told::Nothing, "a secret ends no app");
}

#[test]
fn every_site_that_a_body_names_is_told() {
    let body =
        r#"{"eventType":"avi:confluence:updated:page","content":{"id":"1"},"cloudId":"a","context":{"cloudId":"b"}}"#;
    assert_eq!(forge(body.as_bytes()).unwrap().sites, ["a", "b"]);
    for context in ["null", "7", "[]", "{}", r#""x""#] {
        let body = format!(r#"{{"eventType":"avi:confluence:liked:page","context":{context}}}"#);
        assert_eq!(forge(body.as_bytes()).unwrap(), Heard { told: Told::Nothing, sites: vec![] }, "{context}");
    }
}

#[test]
fn an_event_that_nobody_acts_upon_is_passed_over_whatever_it_holds() {
    for name in ["page_viewed", "blog_created", "", "PAGE_UPDATED", "page_updated/x"] {
        assert_eq!(connect(name, br#"{"page":7}"#).unwrap().told, Told::Nothing, "{name}");
    }
    for name in
        ["avi:confluence:viewed:page", "avi:confluence:updated:blogpost", "avi:jira:created:issue", "page_updated"]
    {
        assert_eq!(forge(format!(r#"{{"eventType":"{name}","content":[]}}"#).as_bytes()).unwrap().told, Told::Nothing);
    }
    for name in ["page_viewed", "installed", "uninstalled"] {
        assert_eq!(of_site(format!(r#"{{"event":"{name}","page":0}}"#).as_bytes()).unwrap().told, Told::Nothing);
    }
}

#[test]
fn an_id_is_a_number_or_a_text_and_the_text_wins() {
    let read = |page: &str| -> Result<u64, Fault> {
        match connect("page_updated", format!(r#"{{"page":{page}}}"#).as_bytes())?.told {
            Told::Event(What::Page { page, .. }) => Ok(page),
            told => panic!("{told:?}"),
        }
    };
    assert_eq!(read(r#"{"id":5}"#), Ok(5));
    assert_eq!(read(r#"{"id":"5"}"#), Ok(5));
    assert_eq!(read(r#"{"id":"18446744073709551615"}"#), Ok(u64::MAX));
    assert_eq!(read(r#"{"id":9007199254740992,"idAsString":"9007199254740993"}"#), Ok(9007199254740993));
    for id in ["-5", "5.5", "1e3", "null", "true", "[]", "{}", r#""""#, r#""x""#, r#""-5""#, r#"" 5""#, r#""5 OR 1""#] {
        let fault = read(&format!(r#"{{"id":{id}}}"#)).unwrap_err();
        assert_eq!((fault.code, fault.pointer.as_str()), (FaultCode::InvalidRequest, "/page/id"), "{id}");
    }
}

#[test]
fn what_a_body_lacks_is_named() {
    let pointer = |read: Result<Heard, Fault>| read.unwrap_err().pointer;
    assert_eq!(pointer(connect("page_updated", b"{}")), "/page");
    assert_eq!(pointer(connect("page_updated", br#"{"page":{}}"#)), "/page/id");
    assert_eq!(pointer(connect("space_removed", b"{}")), "/space");
    assert_eq!(pointer(connect("space_removed", br#"{"space":{"id":"x"}}"#)), "/space/id");
    assert_eq!(pointer(connect("space_removed", br#"{"space":{"key":""}}"#)), "/space/key");
    assert_eq!(pointer(forge(b"{}")), "/eventType");
    assert_eq!(pointer(forge(br#"{"eventType":"avi:confluence:moved:page","content":{"id":{}}}"#)), "/content/id");
    assert_eq!(pointer(of_site(br#"{"page":{"id":1}}"#)), "/event");
    assert_eq!(pointer(of_site(br#"{"event":"x","eventType":"y"}"#)), "/eventType");
}

#[test]
fn what_is_no_json_object_is_refused() {
    let deep = format!(r#"{{"page":{}}}"#, "[".repeat(100_000));
    for (body, code) in [
        ("", FaultCode::MalformedJson),
        ("page_id=5", FaultCode::MalformedJson),
        ("{", FaultCode::MalformedJson),
        (r#"{"page":{"id":1}} x"#, FaultCode::MalformedJson),
        (&deep, FaultCode::MalformedJson),
        ("null", FaultCode::InvalidRequest),
        ("[]", FaultCode::InvalidRequest),
        (r#"[{"page":{"id":1}}]"#, FaultCode::InvalidRequest),
        (r#"{"page":7}"#, FaultCode::InvalidRequest),
        (r#"{"page":{"id":1},"page":{"id":2}}"#, FaultCode::InvalidRequest),
        (r#"{"page":{"id":1,"id":2}}"#, FaultCode::InvalidRequest),
    ] {
        let fault = connect("page_updated", body.as_bytes()).unwrap_err();
        assert_eq!(fault.code, code, "{:.60}", body);
    }
    assert_eq!(connect("page_updated", b"\xff\xfe").unwrap_err().code, FaultCode::MalformedJson);
}
