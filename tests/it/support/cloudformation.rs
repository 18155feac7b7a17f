//! Reads the YAML of `config/aws/`, and resolves in it what CloudFormation would.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Map, Value};

use super::{repository, tool};

/// A file of `config/aws/` as JSON, with intrinsic functions in their long form.
pub fn read(file: &str) -> Value {
    let path = repository().join("config/aws").join(file);
    let mut command = Command::new(tool("venv/bin/python"));
    let output = command.arg(repository().join("tests/tools/yaml-to-json")).arg(path).output().expect("python starts");
    assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// What is known when a stack is made.
#[derive(Debug, Clone, Default)]
pub struct Stack {
    /// Parameters, pseudo parameters, and `Resource.Attribute`.
    pub values: BTreeMap<String, String>,
    pub conditions: BTreeMap<String, bool>,
}

impl Stack {
    /// Resolves `Ref`, `Fn::Sub`, `Fn::GetAtt` and `Fn::If`; a name that is not known stays as it is written.
    pub fn resolve(&self, value: &Value) -> Value {
        self.resolved(value).unwrap_or(Value::Null)
    }

    /// `None` for `AWS::NoValue`.
    fn resolved(&self, value: &Value) -> Option<Value> {
        let object = match value {
            Value::Array(items) => return Some(items.iter().filter_map(|item| self.resolved(item)).collect()),
            Value::Object(object) => object,
            plain => return Some(plain.clone()),
        };
        match object.iter().next().filter(|_| object.len() == 1).map(|(name, of)| (name.as_str(), of)) {
            Some(("Ref", name)) if name == "AWS::NoValue" => None,
            Some(("Ref", name)) => Some(self.value(name.as_str().expect("a name")).into()),
            Some(("Fn::GetAtt", path)) => Some(self.value(&dotted(path)).into()),
            Some(("Fn::Sub", Value::String(text))) => Some(self.substitute(text).into()),
            Some(("Fn::If", of)) => {
                let condition = of[0].as_str().expect("a condition's name");
                let holds = self.conditions.get(condition).unwrap_or_else(|| panic!("is {condition} so?"));
                self.resolved(if *holds { &of[1] } else { &of[2] })
            }
            _ => {
                let members = object.iter().filter_map(|(name, value)| Some((name.clone(), self.resolved(value)?)));
                Some(Value::Object(members.collect::<Map<_, _>>()))
            }
        }
    }

    fn value(&self, name: &str) -> String {
        self.values.get(name).cloned().unwrap_or_else(|| format!("${{{name}}}"))
    }

    fn substitute(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
    }
}

/// `Resource.Attribute`, from `["Resource", "Attribute"]`.
fn dotted(path: &Value) -> String {
    let parts = path.as_array().expect("a resource and an attribute").iter();
    parts.map(|part| part.as_str().expect("a name")).collect::<Vec<_>>().join(".")
}

#[test]
fn short_tags_and_conditions_are_resolved_as_cloudformation_does() {
    let value = serde_json::json!({
        "a": {"Fn::Sub": "x-${Name}-${Other}"}, "b": {"Ref": "Name"}, "c": {"Fn::GetAtt": ["Q", "Arn"]},
        "d": {"Fn::If": ["Yes", {"Ref": "AWS::NoValue"}, 1]}, "e": [{"Fn::If": ["No", 1, 2]}],
    });
    let values = BTreeMap::from([("Name".to_owned(), "n".to_owned()), ("Q.Arn".to_owned(), "arn:q".to_owned())]);
    let stack = Stack { values, conditions: BTreeMap::from([("Yes".to_owned(), true), ("No".to_owned(), false)]) };
    let want = serde_json::json!({"a": "x-n-${Other}", "b": "n", "c": "arn:q", "e": [2]});
    assert_eq!(stack.resolve(&value), want);
}
