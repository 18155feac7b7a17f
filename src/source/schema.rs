//! The JSON Schemas of the set and the delete request.
//!
//! The files in `config/schemas/` keep to the keywords that draft 4 and draft 2020-12 share, so that API Gateway and
//! the OpenAPI description can use the same text; here they mean what 2020-12 says. They are compiled once, offline, with a regex engine of linear time.
//!
//! What is checked is the request's outer members, with `null` in the payload's place: a payload is never copied into
//! a tree of values. A fault's text is the `description` that stands beside the broken rule, so it says what is
//! allowed and never what was sent.
//!
//! Where the schema and the typed parse differ, by design: only the typed parse knows the payload's depth, characters
//! that XML can't carry, and whether a well-formed date exists and lies after 1969. Only the schema insists on `T` or
//! a space between date and time.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::envelope::limits::{FAULTS_MAX, KEYS_PER_REQUEST_MAX};
use crate::envelope::{Fault, FaultCode, first_items};

const SET: &str = include_str!("../../config/schemas/set.json");
const DELETE: &str = include_str!("../../config/schemas/delete.json");

/// The member whose value is never looked at.
const PAYLOAD: &str = "data";
/// Members that one request may have at most, known or not: it bounds the work on a hostile one.
const MEMBERS_MAX: usize = 64;
/// Longest name of an unknown member that is named back to the caller, in bytes.
const NAME_SHOWN_BYTES_MAX: usize = 64;

/// The schema of a set request that names at most `keys_max` webhook keys, as other parts may publish it.
pub fn set_text(keys_max: usize) -> Value {
    with_keys_max(SET, keys_max)
}

/// The same of a delete request.
pub fn delete_text(keys_max: usize) -> Value {
    with_keys_max(DELETE, keys_max)
}

fn with_keys_max(text: &str, keys_max: usize) -> Value {
    let mut text: Value = serde_json::from_str(text).expect("a schema of ours, which a test reads");
    let keys = &mut text["properties"]["webhookKeys"];
    keys["maxItems"] = keys_max.into();
    if keys_max != KEYS_PER_REQUEST_MAX {
        keys["description"] = format!("an array of 1 to {keys_max} webhook keys, each once").into();
    }
    text
}

/// One compiled schema.
pub struct Schema {
    text: Value,
    validator: Validator,
    keys_max: usize,
}

impl Schema {
    pub fn set(keys_max: usize) -> Self {
        Self::compile(set_text(keys_max), keys_max)
    }

    pub fn delete(keys_max: usize) -> Self {
        Self::compile(delete_text(keys_max), keys_max)
    }

    fn compile(text: Value, keys_max: usize) -> Self {
        let options = jsonschema::options().with_draft(Draft::Draft202012).offline();
        let options = options.with_pattern_options(PatternOptions::regex()).should_validate_formats(false);
        let validator = options.build(&text).expect("a schema of ours, which a test compiles");
        Self { text, validator, keys_max }
    }

    /// All faults of a request, at most [`FAULTS_MAX`].
    pub fn check(&self, text: &str) -> Result<(), Vec<Fault>> {
        let instance = self.outer_members(text)?;
        if self.validator.is_valid(&instance) {
            return Ok(());
        }
        let faults = self.validator.iter_errors(&instance).flat_map(|error| self.faults_of(&error, &instance));
        Err(faults.take(FAULTS_MAX).collect())
    }

    /// The request as a value, without its payload, and without what an array has too many of.
    pub(super) fn outer_members(&self, text: &str) -> Result<Value, Vec<Fault>> {
        if !text.trim_start().starts_with('{') {
            let well_formed: Result<&RawValue, _> = serde_json::from_str(text);
            return well_formed.map(|_| Value::Null).map_err(|error| vec![malformed(&error)]);
        }
        let members: Members<'_> = serde_json::from_str(text).map_err(|error| vec![malformed(&error)])?;
        let mut object = Map::new();
        let mut faults = Vec::new();
        for (name, raw) in members.0 {
            let pointer = shown_pointer(&name);
            if object.contains_key(name.as_ref()) {
                faults.push(invalid(pointer, "must stand once"));
                continue;
            }
            let known = self.text["properties"].get(name.as_ref()).is_some();
            let value = if known && name != PAYLOAD { self.value_of(raw) } else { Some(Value::Null) };
            match value {
                Some(value) => drop(object.insert(name.into_owned(), value)),
                // JSON, but of no value: a number out of range, half a surrogate pair, too deep.
                None => {
                    faults.push(invalid(pointer, self.rule_at(&format!("/properties/{name}/type"))));
                    object.insert(name.into_owned(), Value::Null);
                }
            }
        }
        if faults.is_empty() {
            return Ok(Value::Object(object));
        }
        faults.truncate(FAULTS_MAX);
        Err(faults)
    }

    /// A member as a value. Of an array no more items are kept than show that it has too many: a million wrong ones
    /// would cost a hundred times the memory of the request, each with a fault of its own.
    fn value_of(&self, raw: &RawValue) -> Option<Value> {
        if !raw.get().starts_with('[') {
            return serde_json::from_str(raw.get()).ok();
        }
        first_items(raw.get(), self.keys_max).ok().map(Value::Array)
    }

    fn faults_of(&self, error: &ValidationError<'_>, instance: &Value) -> Vec<Fault> {
        let at = error.instance_path().as_str();
        match error.kind() {
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                vec![invalid(format!("{at}/{name}"), "is missing")]
            }
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                unexpected.iter().map(|name| invalid(shown_pointer(name), "is no member of this request")).collect()
            }
            ValidationErrorKind::UniqueItems => {
                let index = instance.pointer(at).and_then(first_duplicate);
                vec![invalid(index.map_or(at.to_owned(), |i| format!("{at}/{i}")), "must name each key once")]
            }
            ValidationErrorKind::OneOfNotValid { .. } | ValidationErrorKind::OneOfMultipleValid { .. } => {
                let missing = if instance.get("eventId").is_some() { "/eventTime" } else { "/eventId" };
                let detail = "eventId and eventTime go together: only both make a retry harmless";
                vec![Fault::new(FaultCode::EventTimeRequired, missing, detail)]
            }
            _ => vec![invalid(at, self.rule_at(error.schema_path().as_str()))],
        }
    }

    /// What the schema says beside the keyword that `path` names.
    fn rule_at(&self, path: &str) -> String {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let rule = self.text.pointer(parent).and_then(|schema| schema.get("description")).and_then(Value::as_str);
        format!("must be {}", rule.unwrap_or("as the schema of this request says"))
    }
}

fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Fault {
    Fault::new(FaultCode::InvalidRequest, pointer, detail)
}

fn malformed(error: &serde_json::Error) -> Fault {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Data => {
            invalid("", format!("more than {MEMBERS_MAX} members, or a member's name is no text, at line {line}"))
        }
        _ => Fault::new(FaultCode::MalformedJson, "", format!("not JSON at line {line}, column {column}")),
    }
}

/// The pointer of a member that the caller named; of the whole where the name is too long to send back.
fn shown_pointer(name: &str) -> String {
    if name.len() > NAME_SHOWN_BYTES_MAX {
        return String::new();
    }
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The first value that stands a second time, compared by its JSON text.
fn first_duplicate(values: &Value) -> Option<usize> {
    let mut seen = HashSet::new();
    values.as_array()?.iter().position(|value| !seen.insert(value.to_string()))
}

/// An object's members as they stand, duplicates included, values unread.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, raw)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            if members.len() == MEMBERS_MAX {
                return Err(serde::de::Error::custom("too many members"));
            }
            members.push((name.0, raw));
        }
        Ok(Members(members))
    }
}

/// A name that borrows where it can.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
