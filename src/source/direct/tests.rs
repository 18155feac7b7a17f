use super::*;

const NOW: u64 = 1_767_225_600_000;

fn stamp() -> Stamp {
    Stamp { id: "018f0000-0000-7000-8000-000000000001".into(), at_ms: NOW }
}

fn set(text: &str) -> Result<Accepted, Rejection> {
    Direct::new(KEYS_PER_REQUEST_MAX).set(text, &stamp(), "up")
}

fn faults(text: &str) -> Vec<(FaultCode, String)> {
    match set(text) {
        Err(Rejection::Faults(faults)) => faults.into_iter().map(|fault| (fault.code, fault.pointer)).collect(),
        other => panic!("{other:?}"),
    }
}

fn with(members: &str) -> String {
    format!(r#"{{"accountId":"a","flowId":"f","webhookKeys":["k"],"data":1{members}}}"#)
}

#[test]
fn an_accepted_request_lies_in_the_wire_form_byte_for_byte() {
    for data in ["1e400", r#""\ud800""#, "{ \"b\":1.0,\n\"a\":[]}"] {
        let text = with("").replace("\"data\":1", &format!("\"data\": {data}"));
        let accepted = set(&text).unwrap();
        let body = std::str::from_utf8(&accepted.wire.body).unwrap();
        assert!(body.ends_with(&format!("\"set\":{text}}}")), "{body}");
        assert_eq!((accepted.account().as_str(), accepted.keys.len()), ("a", 1));
    }
}

#[test]
fn a_million_wrong_keys_cost_no_more_than_one_too_many() {
    let body = |count: usize| with("").replace(r#"["k"]"#, &format!("[{}]", vec!["1"; count].join(",")));
    let (most, far_more) = (faults(&body(KEYS_PER_REQUEST_MAX + 1)), faults(&body(500_000)));
    assert_eq!((most.len(), &most[0].1), (20, &"/webhookKeys".to_owned()));
    assert_eq!(far_more, most);
    let schema = Schema::set(KEYS_PER_REQUEST_MAX);
    let value = schema.outer_members(&body(500_000)).unwrap();
    assert_eq!(value["webhookKeys"].as_array().unwrap().len(), KEYS_PER_REQUEST_MAX + 1);
}

#[test]
fn each_fault_is_named_by_its_pointer() {
    use FaultCode::*;
    for (text, want) in [
        (
            "{}",
            vec![
                (InvalidRequest, "/accountId"),
                (InvalidRequest, "/flowId"),
                (InvalidRequest, "/webhookKeys"),
                (InvalidRequest, "/data"),
            ],
        ),
        ("[]", vec![(InvalidRequest, "")]),
        ("null", vec![(InvalidRequest, "")]),
        ("{", vec![(MalformedJson, "")]),
        ("nul", vec![(MalformedJson, "")]),
        (
            &with(r#","ttlSeconds":"60","at":0,"a/b":1"#),
            vec![(InvalidRequest, "/at"), (InvalidRequest, "/a~1b"), (InvalidRequest, "/ttlSeconds")],
        ),
        (&with(r#","ttlSeconds":1e400"#), vec![(InvalidRequest, "/ttlSeconds")]),
        (&with(r#","eventId":"\ud800""#), vec![(InvalidRequest, "/eventId")]),
        (&with(r#","eventId":"e""#), vec![(EventTimeRequired, "/eventTime")]),
        (&with(r#","eventTime":"2026-01-01T00:00:00Z""#), vec![(EventTimeRequired, "/eventId")]),
        (&with(r#","eventId":"e","eventTime":"2026-02-30T00:00:00Z""#), vec![(InvalidRequest, "/eventTime")]),
        (&with(r#","eventId":"e","eventTime":"2999-01-01T00:00:00Z""#), vec![(InvalidRequest, "/eventTime")]),
        (&with(r#","data":2"#), vec![(InvalidRequest, "/data")]),
        (&with(r#","d\u0061ta":2"#), vec![(InvalidRequest, "/data")]),
        (
            &with("").replace(r#"["k"]"#, r#"["k","","x","k",7,"\u0000"]"#),
            vec![
                (InvalidRequest, "/webhookKeys/1"),
                (InvalidRequest, "/webhookKeys/3"),
                (InvalidRequest, "/webhookKeys/4"),
                (InvalidRequest, "/webhookKeys/5"),
            ],
        ),
    ] {
        let mut want: Vec<_> = want.into_iter().map(|(code, pointer)| (code, pointer.to_owned())).collect();
        let mut found = faults(text);
        want.sort_by(|a, b| a.1.cmp(&b.1));
        found.sort_by(|a, b| a.1.cmp(&b.1));
        assert_eq!(found, want, "{text}");
    }
}

#[test]
fn at_most_twenty_faults_are_named_and_none_echoes_a_value() {
    let keys = (0..50).map(|i| format!("\"secret\\u0000{i}\"")).collect::<Vec<_>>().join(",");
    let text = with(r#","ttlSeconds":"secret","eventId":["secret"]"#).replace("\"k\"", &keys);
    let Err(Rejection::Faults(faults)) = set(&text) else { panic!("accepted") };
    assert_eq!(faults.len(), crate::envelope::limits::FAULTS_MAX);
    assert!(faults.iter().all(|fault| !fault.detail.contains("secret")), "{faults:?}");
}

#[test]
fn what_is_too_large_is_told_with_limit_and_size() {
    let data = format!("\"{}\"", "x".repeat(WIRE_BYTES_MAX));
    let text = with("").replace("\"data\":1", &format!("\"data\":{data}"));
    let Err(Rejection::TooLarge { limit, size }) = set(&text) else { panic!("accepted") };
    assert!(limit == WIRE_BYTES_MAX && size > limit);
    // The request alone fits, its wire form does not.
    let fits = text.replacen(&"x".repeat(text.len() - WIRE_BYTES_MAX), "", 1);
    assert_eq!(fits.len(), WIRE_BYTES_MAX);
    assert!(matches!(set(&fits), Err(Rejection::TooLarge { .. })));

    let keys = (0..1_000).map(|i| format!("\"{i}\"")).collect::<Vec<_>>().join(",");
    let data = format!("\"{}\"", "x".repeat(70_000));
    let text = with("").replace("\"k\"", &keys).replace("\"data\":1", &format!("\"data\":{data}"));
    assert!(matches!(set(&text), Err(Rejection::FanOut { limit: FAN_OUT_BYTES_MAX, size: 70_002_000 })));
}

#[test]
fn the_setting_of_keys_per_request_is_kept() {
    let two = with("").replace("\"k\"", "\"k\",\"l\"");
    assert!(Direct::new(2).set(&two, &stamp(), "up").is_ok());
    assert!(
        matches!(Direct::new(1).set(&two, &stamp(), "up"), Err(Rejection::Faults(f)) if f[0].pointer == "/webhookKeys")
    );
}

#[test]
fn an_array_is_cut_into_its_elements_as_they_stand() {
    assert!(elements(" {}").is_none());
    assert_eq!(elements(" [ {\"a\": 1} ,2]").unwrap().unwrap(), ["{\"a\": 1}", "2"]);
    for bad in ["[", "[]", "[1,]", "[1]x"] {
        assert!(elements(bad).unwrap().is_err(), "{bad}");
    }
    assert!(elements(&format!("[{}1]", "1,".repeat(100))).unwrap().is_err());
    assert!(elements(&format!("[{}{}]", "[".repeat(10_000), "]".repeat(10_000))).unwrap().is_ok());
}

/// A value for a member, legal or nearly so.
fn some_value(rng: &mut fastrand::Rng) -> String {
    let values = [
        "\"a\"",
        "\"\"",
        "\"a b\"",
        "\"a/b\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\u{80}\"",
        "\"\u{1F980}\"",
        "1",
        "0",
        "-1",
        "-0",
        "60.0",
        "6e1",
        "1e400",
        "3153600000",
        "3153600001",
        "18446744073709551616",
        "null",
        "true",
        "[]",
        "{}",
        "[\"k\"]",
        "[\"k\",\"k\"]",
        "[\"k\",\"\\u006b\"]",
        "[\"k\",1]",
        "[\"\\uffff\"]",
        "[\"\u{7f}\"]",
        "[\"a\\n\"]",
        "\"2026-01-01T00:00:00Z\"",
        "\"2026-01-01t00:00:00.123456789012z\"",
        "\"2026-01-01 00:00:00+01:00\"",
        "\"2026-01-01T00:00:00\"",
        "\"2026-01-01T00:00:00.Z\"",
        "\"2026-01-01T00:00:00Z\\n\"",
        "\"2026-1-01T00:00:00Z\"",
    ];
    let long = |n: usize| format!("\"{}\"", "x".repeat(n));
    match rng.usize(0..values.len() + 6) {
        i if i < values.len() => values[i].to_owned(),
        i => match i - values.len() {
            0 => long(128),
            1 => long(129),
            2 => format!("[{}]", long(512)),
            3 => format!("[{}]", long(513)),
            4 => format!("[{}\"x\"]", (0..999).map(|i| format!("\"{i}\",")).collect::<String>()),
            _ => format!("[{}\"x\"]", (0..1_000).map(|i| format!("\"{i}\",")).collect::<String>()),
        },
    }
}

/// The closed list of what only the typed parse refuses (the other way round there is one, the date's separator).
fn only_typed_refuses(fault: &Fault) -> bool {
    matches!(fault.code, FaultCode::TooDeep | FaultCode::IllegalCharacter)
        || (fault.pointer == "/eventTime" && fault.detail.contains("RFC 3339"))
}

#[test]
fn the_schema_and_the_typed_parse_accept_the_same_requests() {
    let mut rng = fastrand::Rng::with_seed(0x5eed);
    let (set, delete) = (Schema::set(KEYS_PER_REQUEST_MAX), Schema::delete(KEYS_PER_REQUEST_MAX));
    let good = [
        ("accountId", "\"a\""),
        ("flowId", "\"f\""),
        ("webhookKeys", "[\"k\"]"),
        ("data", "{\"x\":[1]}"),
        ("eventId", "\"e\""),
        ("eventTime", "\"2026-01-01T00:00:00Z\""),
        ("ttlSeconds", "60"),
        ("extra", "1"),
    ];
    let (mut accepted, rounds) = (0, 20_000);
    for _ in 0..rounds {
        let mut members = Vec::new();
        for (i, (name, value)) in good.iter().enumerate() {
            let present = if i < 4 {
                rng.u8(0..30) > 0
            } else if i < 7 {
                rng.bool()
            } else {
                rng.u8(0..20) == 0
            };
            let value = if rng.u8(0..6) == 0 { some_value(&mut rng) } else { (*value).to_owned() };
            if present {
                members.push(format!("\"{name}\":{value}"));
            }
        }
        if rng.u8(0..20) == 0 && !members.is_empty() {
            members.push(members[rng.usize(0..members.len())].clone());
        }
        rng.shuffle(&mut members);
        let text = format!("{{{}}}", members.join(","));
        let by_schema = (set.check(&text).is_ok(), delete.check(&text).is_ok());
        let typed = SetRequest::parse(&text);
        let typed_delete = DeleteRequest::parse(&text);
        for (by_schema, typed) in [(by_schema.0, typed.map(drop)), (by_schema.1, typed_delete.map(drop))] {
            let refused = typed.as_ref().err();
            assert!(
                !by_schema || refused.is_none_or(only_typed_refuses),
                "only the typed parse refuses {text}: {refused:?}"
            );
            assert!(by_schema || refused.is_some(), "only the schema refuses {text}");
        }
        accepted += u32::from(by_schema.0);
    }
    assert!(accepted > rounds / 20 && accepted < rounds / 2, "{accepted} of {rounds}: both answers must be frequent");
}
