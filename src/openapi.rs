//! The contract as a program reads it: one OpenAPI 3.1 document per plane, and the page that shows it to people.
//!
//! The documents are files in `config/openapi/`, compiled in. What they share stands in `common.json`, and the bodies of
//! set and delete stand in `config/schemas/` alone: a `$ref` to a file is replaced by what it points to, at start, so
//! the document that is served is whole and checks requests by the very schema that the server uses, a lowered
//! `limits.keys_per_request_max` included. It never reads a file, and holds nothing that needs a token.
//!
//! Limits: files refer to files at most [`DEPTH_MAX`] deep.

use serde_json::Value;

use crate::source::schema;

/// Where every listener serves its document, and the page.
pub const DOCUMENT_PATH: &str = "/openapi.json";
pub const PAGE_PATH: &str = "/docs";
/// The page: it shows the document of the listener that served it, and needs nothing else.
pub const PAGE: &str = include_str!("../docs/api.html");
/// The page runs and looks as it was compiled in, and reads its own server alone. A test holds the hashes to the page.
pub const PAGE_POLICY: &str = "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; script-src 'sha256-5rfxMbNjUewPcNu8DA1tqjoY6UWbmm0HSdmiQHB7RXU='; style-src 'sha256-6MBv9Ge35LE+Zl26+7A7pU9utF2/bhRryTmqFt2cvGw='";

const DATA: &str = include_str!("../config/openapi/data.json");
const CONTROL: &str = include_str!("../config/openapi/control.json");
const COMMON: &str = include_str!("../config/openapi/common.json");

/// Beyond this a file refers to itself.
const DEPTH_MAX: usize = 64;

/// The data plane's document. `keys_max` is the most webhook keys that one set or delete may name.
pub fn data(keys_max: usize) -> Value {
    Files::new(keys_max).whole(&parsed(DATA), 0)
}

/// The control plane's document.
pub fn control() -> Value {
    Files::new(crate::envelope::limits::KEYS_PER_REQUEST_MAX).whole(&parsed(CONTROL), 0)
}

/// What a document may point to, beside itself.
struct Files([(&'static str, Value); 3]);

impl Files {
    fn new(keys_max: usize) -> Self {
        Self([
            ("common.json", parsed(COMMON)),
            ("../schemas/set.json", schema::set_text(keys_max)),
            ("../schemas/delete.json", schema::delete_text(keys_max)),
        ])
    }

    /// The value with each reference to a file replaced by what it points to.
    fn whole(&self, value: &Value, depth: usize) -> Value {
        assert!(depth < DEPTH_MAX, "a file of ours refers to itself, which a test would have seen");
        match value {
            Value::Object(members) => match members.get("$ref").and_then(Value::as_str).and_then(|to| self.find(to)) {
                Some(found) => self.whole(found, depth + 1),
                None => members.iter().map(|(name, value)| (name.clone(), self.whole(value, depth + 1))).collect(),
            },
            Value::Array(values) => values.iter().map(|value| self.whole(value, depth + 1)).collect(),
            plain => plain.clone(),
        }
    }

    fn find(&self, reference: &str) -> Option<&Value> {
        let (file, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        self.0.iter().find(|(name, _)| *name == file)?.1.pointer(pointer)
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("a document of ours, which a test reads")
}

#[cfg(test)]
mod tests;
