//! What goes through both doors. Each input has keys of its own: `KEY` stands for its name.

use hookcache::envelope::limits::{FAN_OUT_BYTES_MAX, KEYS_PER_REQUEST_MAX, TTL_SECONDS_MAX, WIRE_BYTES_MAX};
use serde_json::Value;

/// One request.
pub struct Input {
    pub name: String,
    /// `set` or `delete`.
    pub call: &'static str,
    pub content_type: Option<&'static str>,
    pub body: Vec<u8>,
    /// The keys that it would write, were it taken.
    pub keys: Vec<String>,
}

/// The account that the callers may set; another is `stranger`.
pub const ACCOUNT: &str = "acme";
/// Every character that an account may have, and as many as it may have.
pub const LONG_ACCOUNT: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz012345678";
pub const RESERVED_PREFIX: &str = "vip/";

const SET: &str = r#"{"accountId":"acme","flowId":"f","webhookKeys":["KEY"],"data":1}"#;
const DELETE: &str = r#"{"accountId":"acme","webhookKeys":["KEY"],"eventId":"d","eventTime":"2025-01-02T00:00:00Z"}"#;
/// Lies before [`DELETE`]. It never expires while a test runs.
const BEFORE_A_DELETE: &str = r#"{"accountId":"acme","flowId":"f","webhookKeys":["KEY"],"data":"to be deleted","eventId":"s","eventTime":"2025-01-01T00:00:00Z","ttlSeconds":3153600000}"#;

/// Payloads that are taken.
const PAYLOADS: &[(&str, &str)] = &[
    ("an object", r#"{"links":["https://example.com/"],"score":1.5}"#),
    ("an empty object", "{}"),
    ("an empty array", "[]"),
    ("an empty string", r#""""#),
    ("a string", r#""hello""#),
    ("null", "null"),
    ("true", "true"),
    ("false", "false"),
    ("a number", "7"),
    ("a number that keeps its zero", "1.0"),
    ("a number beyond every float", "1e400"),
    ("a number below every float", "-1E-400"),
    ("minus zero", "-0"),
    ("digits that no float holds", "0.1000000000000000055511151231257827"),
    ("an integer that no machine word holds", "123456789012345678901234567890"),
    ("blanks inside", "{ \"b\" :\t1 ,\r\n \"a\" : [ ] }"),
    ("members of the same name", r#"{"a":1,"a":2,"":3}"#),
    ("nested JSON", r#"{"a":[{"b":[[[{"c":{}}]]]}],"d":"{\"e\":[1.0]}"}"#),
    ("unicode as it is", "\"é \u{6f22}\u{5b57} \u{1F980} e\u{301} \u{5e9}\u{5dc}\u{200f} \u{10FFFF}\""),
    ("unicode as escapes", r#""\u00e9 \u6f22 \ud83e\udd80 \u0000 \uffff \u2028""#),
    ("half a surrogate pair", r#""\ud800 \udfff""#),
    ("characters that some take for line ends", "\"\u{85} \u{2028} \u{2029} \u{FEFF} \u{7f}\""),
    ("double quotes", r#""say \"hello\" \\\" \"""#),
    ("single quotes", r#""it's 'quoted' \\' ''""#),
    ("backslashes", r#""C:\\new\\table \\\\ \/ /""#),
    ("every escape", r#""\b\f\n\r\t\"\\\/""#),
    ("ampersands and equals signs", r#""a=1&b=2&&=&amp;""#),
    ("plus signs", r#""1+1 = 2 ++""#),
    ("percent signs", r#""100% %41 %zz %25 %""#),
    ("what a query uses", r#""?a#b;c,d:e@f!g$h(i)j*k~l[m]n|o^p`q""#),
    ("another form", r#""&Action=DeleteQueue&MessageBody=x&QueueUrl=y""#),
    ("XML", r#""<a b='c'>&lt;]]><!-- --></a>""#),
    ("references of the template language", r#""$input.body ${context.identity.userArn} $!util $x""#),
    ("directives of the template language", r##""#set($by = 1) #if(true) #end #stop ## #* *# #[[ ]]#""##),
    ("methods of the template language", r#""$util.urlEncode('x') $by.getClass().forName('java.lang.Runtime')""#),
    ("the rest of an envelope", r#""}},\"at\":0,\"by\":\"root\",\"x\":{\"""#),
    ("an envelope", r#"{"v":1,"id":"x","at":0,"by":"root","set":{"accountId":"other"}}"#),
];

/// What is written in place of a part of [`SET`], and taken.
const TAKEN: &[(&str, &str, &str)] = &[
    ("members in another order", SET, r#"{"data":1,"webhookKeys":["KEY"],"flowId":"f","accountId":"acme"}"#),
    (
        "blanks around",
        SET,
        "\r\n\t {\"accountId\" : \"acme\" , \"flowId\":\"f\",\"webhookKeys\":[ \"KEY\" ],\"data\": 1 }\n\n",
    ),
    ("names as escapes", r#""accountId":"acme""#, r#""\u0061ccountId":"\u0061cme""#),
    ("a flow of every character", r#""f""#, r#""AZaz09._:@-""#),
    ("an account of every character", r#""acme""#, r#""LONG_ACCOUNT""#),
    (
        "keys of odd characters",
        r#"["KEY"]"#,
        r#"["KEY","a/b KEY","%2F KEY","?q=1&x=+ KEY","it's \"KEY\"","ключ KEY \ud83e\udd80"]"#,
    ),
    ("a time to live", r#""data""#, r#""ttlSeconds":60,"data""#),
    ("a time to live with a zero", r#""data""#, r#""ttlSeconds":60.0,"data""#),
    ("a time to live with an exponent", r#""data""#, r#""ttlSeconds":6e1,"data""#),
    ("the longest time to live", r#""data""#, r#""ttlSeconds":3153600000,"data""#),
    ("an event", r#""data""#, r#""eventId":"e","eventTime":"2025-01-01T00:00:00Z","ttlSeconds":3153600000,"data""#),
    (
        "an event with an offset",
        r#""data""#,
        r#""eventId":"é '\"& \\","eventTime":"2025-01-01T01:00:00.1239+01:00","ttlSeconds":3153600000,"data""#,
    ),
    (
        "an event in small letters",
        r#""data""#,
        r#""eventId":"e","eventTime":"2025-01-01t00:00:00.5z","ttlSeconds":3153600000,"data""#,
    ),
    (
        "an event with a blank",
        r#""data""#,
        r#""eventId":"e","eventTime":"2025-01-01 00:00:00-00:00","ttlSeconds":3153600000,"data""#,
    ),
    (
        "an event that has expired",
        r#""data""#,
        r#""eventId":"e","eventTime":"2025-01-01T00:00:00Z","ttlSeconds":1,"data""#,
    ),
];

/// What is written in place of a part of [`SET`], and refused.
const REFUSED: &[(&str, &str, &str)] = &[
    ("nothing", SET, ""),
    ("no JSON", SET, "hello"),
    ("half of it", r#","data":1}"#, ""),
    ("more after it", r#"1}"#, "1} x"),
    ("a second object", r#"1}"#, "1}{}"),
    ("a comma too many", r#"1}"#, "1,}"),
    ("a comment", r#"1}"#, "1/**/}"),
    ("NaN", r#"1}"#, "NaN}"),
    ("a byte order mark", r#"{"accountId""#, "\u{FEFF}{\"accountId\""),
    ("null in its place", SET, "null"),
    ("a number in its place", SET, "1"),
    ("a string in its place", SET, r#""{}""#),
    ("an empty array in its place", SET, "[]"),
    ("an empty object in its place", SET, "{}"),
    ("a forged arrival", r#"1}"#, r#"1},"at":0"#),
    ("a forged id", r#"1}"#, r#"1},"id":"forged""#),
    ("a forged caller", r#"1}"#, r#"1},"by":"root""#),
    ("a forged order", r#"1}"#, r#"1},"order":9"#),
    ("a forged arrival as an escape", r#"1}"#, r#"1},"\u0061t":0"#),
    ("a forged envelope that is whole", r#"1}"#, r#"1},"at":0,"x":{}"#),
    ("a second set", r#"1}"#, r#"1},"set":{"accountId":"stranger"}"#),
    ("a delete beside it", r#"1}"#, r#"1},"delete":{"accountId":"acme","webhookKeys":["KEY"]}"#),
    ("no account", r#""accountId":"acme","#, ""),
    ("no flow", r#""flowId":"f","#, ""),
    ("no keys", r#""webhookKeys":["KEY"],"#, ""),
    ("no payload", r#","data":1"#, ""),
    ("an unknown member", r#""data""#, r#""extra":1,"data""#),
    ("a member in another case", r#""flowId""#, r#""flowid""#),
    ("an account twice", r#""flowId""#, r#""accountId":"acme","flowId""#),
    ("a payload twice", r#""data":1"#, r#""data":1,"data":2"#),
    ("a payload twice as an escape", r#""data":1"#, r#""data":1,"d\u0061ta":2"#),
    ("an empty account", r#""acme""#, r#""""#),
    ("an account with a blank", r#""acme""#, r#""ac me""#),
    ("an account with a line end", r#""acme""#, r#""acme\n""#),
    ("an account of other letters", r#""acme""#, r#""äcme""#),
    ("an account that adds a parameter", r#""acme""#, r#""acme&MessageBody=x""#),
    ("a number as account", r#""acme""#, "1"),
    ("null as account", r#""acme""#, "null"),
    ("a list as account", r#""acme""#, r#"["acme"]"#),
    ("an account of others", r#""acme""#, r#""stranger""#),
    ("a flow with a slash", r#""f""#, r#""a/b""#),
    ("null as flow", r#""f""#, "null"),
    ("an empty list of keys", r#"["KEY"]"#, "[]"),
    ("a key twice", r#"["KEY"]"#, r#"["KEY","KEY"]"#),
    ("an empty key", r#"["KEY"]"#, r#"["KEY",""]"#),
    ("a key with a control character", r#"["KEY"]"#, r#"["KEY","a\u0001"]"#),
    ("a key with a late control character", r#"["KEY"]"#, r#"["KEY","a\u0085"]"#),
    ("a key with a noncharacter", r#"["KEY"]"#, r#"["KEY","a\uffff"]"#),
    ("a key with half a surrogate pair", r#"["KEY"]"#, r#"["KEY","\ud800"]"#),
    ("a number as key", r#"["KEY"]"#, r#"["KEY",1]"#),
    ("a text as keys", r#"["KEY"]"#, r#""KEY""#),
    ("a reserved key", r#"["KEY"]"#, r#"["KEY","vip/KEY"]"#),
    ("an event id alone", r#""data""#, r#""eventId":"e","data""#),
    ("an event time alone", r#""data""#, r#""eventTime":"2025-01-01T00:00:00Z","data""#),
    ("an empty event id", r#""data""#, r#""eventId":"","eventTime":"2025-01-01T00:00:00Z","data""#),
    ("null as event", r#""data""#, r#""eventId":null,"eventTime":null,"data""#),
    ("an event of no date", r#""data""#, r#""eventId":"e","eventTime":"yesterday","data""#),
    ("an event without an offset", r#""data""#, r#""eventId":"e","eventTime":"2025-01-01T00:00:00","data""#),
    ("an event of a day that is not", r#""data""#, r#""eventId":"e","eventTime":"2025-02-30T00:00:00Z","data""#),
    ("an event before 1970", r#""data""#, r#""eventId":"e","eventTime":"1969-12-31T23:59:59Z","data""#),
    ("an event to come", r#""data""#, r#""eventId":"e","eventTime":"2999-01-01T00:00:00Z","data""#),
    ("a number as event time", r#""data""#, r#""eventId":"e","eventTime":1767225600,"data""#),
    ("no time to live", r#""data""#, r#""ttlSeconds":0,"data""#),
    ("a negative time to live", r#""data""#, r#""ttlSeconds":-1,"data""#),
    ("half a second to live", r#""data""#, r#""ttlSeconds":0.5,"data""#),
    ("a time to live beyond the longest", r#""data""#, r#""ttlSeconds":3153600001,"data""#),
    ("a time to live beyond every integer", r#""data""#, r#""ttlSeconds":1e30,"data""#),
    ("a text as time to live", r#""data""#, r#""ttlSeconds":"60","data""#),
    ("null as time to live", r#""data""#, r#""ttlSeconds":null,"data""#),
    ("a character that XML can't carry", r#""data":1"#, "\"data\":\"\u{FFFE}\""),
    ("a control character as it is", r#""data":1"#, "\"data\":\"\u{1}\""),
];

/// In place of a part of [`DELETE`]: taken, and refused.
const DELETES_TAKEN: &[(&str, &str, &str)] = &[
    ("a delete", DELETE, DELETE),
    ("a delete without an event", r#","eventId":"d","eventTime":"2025-01-02T00:00:00Z""#, ""),
    ("a delete that comes too late", "2025-01-02", "2024-12-31"),
];
const DELETES_REFUSED: &[(&str, &str, &str)] = &[
    ("a delete without keys", r#"["KEY"]"#, "[]"),
    ("a delete with a flow", r#""webhookKeys""#, r#""flowId":"f","webhookKeys""#),
    ("a delete with a payload", r#""webhookKeys""#, r#""data":1,"webhookKeys""#),
    ("a delete of others", r#""acme""#, r#""stranger""#),
    ("a delete with a forged caller", r#"Z"}"#, r#"Z"},"by":"root""#),
    ("an array of deletes", DELETE, "[DELETE]"),
];

/// Content types with [`SET`]; `None` sends none.
const CONTENT_TYPES: &[(&str, Option<&str>)] = &[
    ("text/plain", Some("text/plain")),
    ("a form", Some("application/x-www-form-urlencoded")),
    ("problem JSON", Some("application/problem+json")),
    ("latin1", Some("application/json; charset=iso-8859-1")),
    ("UTF-8 by name", Some("application/json; charset=utf-8")),
    ("no content type", None),
];

const JSON: Option<&str> = Some("application/json");

impl Input {
    fn new(name: &str, call: &'static str, body: &str) -> Self {
        let body = body.replace("LONG_ACCOUNT", LONG_ACCOUNT).replace("DELETE", DELETE).replace("KEY", name);
        Self { name: name.to_owned(), call, content_type: JSON, keys: keys_of(&body, name), body: body.into_bytes() }
    }

    fn edited(call: &'static str, whole: &str, (name, from, to): &(&str, &str, &str)) -> Self {
        assert!(whole.contains(from), "{name}: there is no {from} in {whole}");
        Self::new(name, call, &whole.replacen(from, to, 1))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Those of the body where it says so in plain JSON; the input's name in any case.
fn keys_of(body: &str, name: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let named = body["webhookKeys"].as_array().into_iter().flatten().filter_map(Value::as_str);
    // A name that is no key can't be asked for.
    let mut keys: Vec<String> = named.filter(|key| !key.is_empty()).map(str::to_owned).collect();
    keys.push(name.to_owned());
    keys.sort();
    keys.dedup();
    keys
}

/// All sets, and for each delete a set that comes before it.
pub fn sets() -> Vec<Input> {
    let payload = |(name, data): &(&str, &str)| Input::new(name, "set", &SET.replace(":1}", &format!(":{data}}}")));
    let mut inputs: Vec<Input> = PAYLOADS.iter().map(payload).collect();
    inputs.extend(TAKEN.iter().chain(REFUSED).map(|edit| Input::edited("set", SET, edit)));
    inputs.extend(CONTENT_TYPES.iter().map(|(name, content_type)| {
        let input = Input::new(name, "set", SET);
        Input { content_type: *content_type, ..input }
    }));
    inputs.extend(made());
    let before = |(name, ..): &(&str, &str, &str)| Input::new(name, "set", BEFORE_A_DELETE);
    inputs.extend(DELETES_TAKEN.iter().chain(DELETES_REFUSED).map(before));
    inputs
}

pub fn deletes() -> Vec<Input> {
    DELETES_TAKEN.iter().chain(DELETES_REFUSED).map(|edit| Input::edited("delete", DELETE, edit)).collect()
}

/// What is too long to be written out.
fn made() -> Vec<Input> {
    let set = |name: &str, data: &str| Input::new(name, "set", &SET.replace(":1}", &format!(":{data}}}")));
    let with_keys = |name: &str, count: usize, data: &str| {
        let keys: Vec<String> = (0..count).map(|i| format!("{name} {i}")).collect();
        let keys = serde_json::to_string(&keys).expect("texts");
        let body = SET.replace(r#"["KEY"]"#, &keys).replace(":1}", &format!(":{data}}}"));
        // Three of them stand for all.
        let keys = [0, 1, count - 1].map(|i| format!("{name} {i}")).to_vec();
        Input { keys, ..Input::new(name, "set", &body) }
    };
    let text = |of: &str, bytes: usize| format!("\"{}\"", of.repeat(bytes / of.len()));
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let mut inputs = vec![
        set("900 KB of letters", &text("x", 900_000)),
        set("900 KB of what grows in a form", &text("\u{1F980}&", 900_000)),
        set("900 KB of backslashes", &text("\\\\", 900_000)),
        set("an event of more than SQS takes", &text("x", 1 << 20)),
        set("an event of more than a wire form takes", &text("x", WIRE_BYTES_MAX)),
        set("nested as deep as may be", &nested(100)),
        set("nested too deep", &nested(101)),
        set("nested far too deep", &nested(100_000)),
        with_keys("as many keys as may be", KEYS_PER_REQUEST_MAX, "1"),
        with_keys("too many keys", KEYS_PER_REQUEST_MAX + 1, "1"),
        with_keys("a payload times its keys", 1_000, &text("x", FAN_OUT_BYTES_MAX / 1_000 + 1)),
        Input::edited("set", SET, &("a long key", "KEY", &format!("KEY{}", "k".repeat(512 - 10)))),
        Input::edited("set", SET, &("a key too long", "KEY", &format!("KEY{}", "k".repeat(512)))),
        Input::edited("set", SET, &("an account too long", "acme", &"a".repeat(129))),
        Input::edited("set", SET, &("a flow too long", r#""f""#, &format!("\"{}\"", "f".repeat(129)))),
        Input::edited(
            "set",
            SET,
            &(
                "an event id too long",
                r#""data""#,
                &format!(r#""eventId":"{}","eventTime":"2025-01-01T00:00:00Z","data""#, "e".repeat(129)),
            ),
        ),
        Input::edited("set", SET, &("an array of sets", SET, &format!("[{SET}]"))),
    ];
    let not_utf8 = Input::new("bytes that are not UTF-8", "set", &SET.replace(":1}", ":\"?\"}"));
    let body = not_utf8.body.iter().map(|&byte| if byte == b'?' { 0xff } else { byte }).collect();
    inputs.push(Input { body, ..not_utf8 });
    inputs
}

#[test]
fn every_input_has_a_name_of_its_own() {
    for inputs in [sets(), deletes()] {
        let mut names: Vec<_> = inputs.iter().map(|input| &input.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
    assert_eq!(LONG_ACCOUNT.len(), 128);
    assert!(sets().iter().any(|input| input.text().contains(&TTL_SECONDS_MAX.to_string())));
}
