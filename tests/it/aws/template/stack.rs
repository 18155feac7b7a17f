//! The template as CloudFormation reads it, with the parameters of a test.

use std::collections::{BTreeMap, BTreeSet};

use hookcache::config::{Config, Sources, load};
use serde_json::{Value, json};

use crate::support::cloudformation::{self, Stack};

/// What an operator must say.
const NEEDED: [(&str, &str); 5] = [
    ("VpcId", "vpc-1"),
    ("SubnetIds", "subnet-1,subnet-2"),
    ("ClientCidr", "10.0.0.0/8"),
    ("Image", "example.com/hookcache:1"),
    // As the text of the parameter that it names.
    ("Config", CONFIG),
];
const CONFIG: &str = "[[auth.tokens]]\nname = \"down\"\nhash = \"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\nscopes = [\"get\"]\n[[auth.callers]]\nname = \"arn:aws:sts::111122223333:assumed-role/upstream/*\"\naccounts = [\"acme\"]\n";
pub const EXISTING: [(&str, &str); 2] = [("Store", "existing"), ("StoreUrlSecretArn", "arn:aws:secretsmanager:s")];
pub const PAGE_LINKS: [(&str, &str); 3] = [
    ("PageLinks", "yes"),
    ("RegistryUrlSecretArn", "arn:aws:secretsmanager:u"),
    ("RegistryKeySecretArn", "arn:aws:secretsmanager:k"),
];
/// The same, with an API for Confluence's webhooks.
pub const WEBHOOKS: [(&str, &str); 4] = [PAGE_LINKS[0], PAGE_LINKS[1], PAGE_LINKS[2], ("WebhooksApi", "yes")];

pub struct Template(pub Value);

impl Template {
    pub fn read() -> Self {
        Self(cloudformation::read("template.yaml"))
    }

    /// All parameters: what is needed, what is given, and the defaults.
    fn parameters(&self, given: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut parameters = BTreeMap::new();
        for (name, parameter) in self.0["Parameters"].as_object().expect("parameters") {
            let given = NEEDED.iter().chain(given).rev().find(|(given, _)| given == name);
            let value = given.map(|(_, value)| json!(value)).or_else(|| parameter.get("Default").cloned());
            let value = value.unwrap_or_else(|| panic!("{name} is needed"));
            if let Some(allowed) = parameter["AllowedValues"].as_array() {
                assert!(allowed.iter().any(|allowed| text(allowed) == text(&value)), "{name} can't be {value}");
            }
            parameters.insert(name.clone(), text(&value));
        }
        assert!(given.iter().all(|(name, _)| parameters.contains_key(*name)), "{given:?}");
        parameters
    }

    /// What CloudFormation says of contradictory parameters.
    pub fn contradictions(&self, given: &[(&str, &str)]) -> Vec<String> {
        let parameters = self.parameters(given);
        let mut told = Vec::new();
        for rule in self.0["Rules"].as_object().expect("rules").values() {
            if !holds(&rule["RuleCondition"], &parameters) {
                continue;
            }
            for assertion in rule["Assertions"].as_array().expect("assertions") {
                if !holds(&assertion["Assert"], &parameters) {
                    told.push(text(&assertion["AssertDescription"]));
                }
            }
        }
        told
    }

    /// The resources of a stack with these parameters, resolved.
    pub fn resources(&self, given: &[(&str, &str)]) -> Value {
        assert_eq!(self.contradictions(given), Vec::<String>::new());
        let mut values = self.parameters(given);
        let conditions = self.0["Conditions"].as_object().expect("conditions").iter();
        let conditions = conditions.map(|(name, condition)| (name.clone(), holds(condition, &values))).collect();
        let pseudo =
            [("Region", "eu-west-1"), ("AccountId", "111122223333"), ("Partition", "aws"), ("StackName", "hooks")];
        values.extend(pseudo.map(|(name, value)| (format!("AWS::{name}"), value.to_owned())));
        // What a Ref or an attribute of a queue is, in the form that hookcache will see.
        for (queue, name) in [
            ("Queue", "webhooks"),
            ("DeadLetters", "webhooks-dead"),
            ("PagesQueue", "pages"),
            ("PagesDeadLetters", "pages-dead"),
        ] {
            values.insert(queue.to_owned(), format!("https://sqs.eu-west-1.amazonaws.com/111122223333/hooks-{name}"));
            values.insert(format!("{queue}.Arn"), format!("arn:aws:sqs:eu-west-1:111122223333:hooks-{name}"));
        }
        let stack = Stack { values, conditions };
        let made = |(name, resource): (&String, &Value)| {
            let made = resource["Condition"].as_str().is_none_or(|condition| stack.conditions[condition]);
            made.then(|| (name.clone(), stack.resolve(resource)))
        };
        self.0["Resources"].as_object().expect("resources").iter().filter_map(made).collect()
    }
}

/// A value as CloudFormation compares it.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A condition over parameters.
fn holds(condition: &Value, parameters: &BTreeMap<String, String>) -> bool {
    let (function, of) = condition.as_object().and_then(|one| one.iter().next()).expect("a function");
    let operand = |value: &Value| match value["Ref"].as_str() {
        Some(name) => parameters.get(name).unwrap_or_else(|| panic!("no parameter {name}")).clone(),
        None => text(value),
    };
    let operands = of.as_array().expect("operands");
    match function.as_str() {
        "Fn::Equals" => operand(&operands[0]) == operand(&operands[1]),
        "Fn::Not" => !holds(&operands[0], parameters),
        "Fn::And" => operands.iter().all(|of| holds(of, parameters)),
        "Fn::Or" => operands.iter().any(|of| holds(of, parameters)),
        other => panic!("what is {other}?"),
    }
}

pub fn property<'a>(resources: &'a Value, path: &str) -> &'a Value {
    let (resource, property) = path.split_once('.').expect("a resource and a property");
    let pointer = format!("/{resource}/Properties/{}", property.replace('.', "/"));
    resources.pointer(&pointer).unwrap_or_else(|| panic!("there is no {path}"))
}

/// What a role may do: queue and action.
pub fn allowed(resources: &Value, role: &str) -> BTreeSet<(String, String)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let mut allowed = BTreeSet::new();
    for policy in list(property(resources, &format!("{role}.Policies"))) {
        for statement in list(&policy["PolicyDocument"]["Statement"]) {
            assert_eq!(statement["Effect"], "Allow", "{role}");
            for resource in list(&statement["Resource"]) {
                let queue = text(&resource).rsplit(':').next().expect("a part").to_owned();
                allowed.extend(list(&statement["Action"]).iter().map(|action| (queue.clone(), text(action))));
            }
        }
    }
    allowed
}

pub fn actions(queue: &str, actions: &[&str]) -> BTreeSet<(String, String)> {
    actions.iter().map(|action| (queue.to_owned(), (*action).to_owned())).collect()
}

pub const ATTRIBUTES: &str = "sqs:GetQueueAttributes";
pub const RECEIVE: &str = "sqs:ReceiveMessage";

/// Variables and the command of a container.
pub fn container(resources: &Value, task: &str) -> (BTreeMap<String, String>, Vec<String>) {
    let containers = property(resources, &format!("{task}.ContainerDefinitions")).as_array().expect("containers");
    let one = containers.iter().find(|one| one["Name"] == "hookcache").expect("ours");
    let mut variables = BTreeMap::new();
    for variable in one["Environment"].as_array().expect("variables") {
        variables.insert(text(&variable["Name"]), text(&variable["Value"]));
    }
    for secret in one["Secrets"].as_array().expect("secrets") {
        variables.insert(text(&secret["Name"]), stand_in_of_secret(&text(&secret["Name"])));
    }
    (variables, one["Command"].as_array().expect("a command").iter().map(text).collect())
}

/// Variables of a function. What is to be a secret must come from one.
pub fn function(resources: &Value, function: &str) -> BTreeMap<String, String> {
    let variables = property(resources, &format!("{function}.Environment.Variables")).as_object().expect("variables");
    let told = |(name, value): (&String, &Value)| {
        let (value, is_secret) = (text(value), SECRETS.contains(&name.as_str()));
        assert_eq!(value.starts_with("{{resolve:secretsmanager:"), is_secret, "{name}: {value}");
        (name.clone(), if is_secret { stand_in_of_secret(name) } else { value })
    };
    variables.iter().map(told).collect()
}

/// What may stand in no template.
const SECRETS: [&str; 3] = ["HOOKCACHE_STORE__URL", "HOOKCACHE_REGISTRY__URL", "HOOKCACHE_REGISTRY__KEY"];

/// The texts of secrets, which no template knows.
pub fn stand_in_of_secret(variable: &str) -> String {
    match variable {
        "HOOKCACHE_STORE__URL" => "rediss://:password@cache:6379".to_owned(),
        "HOOKCACHE_REGISTRY__URL" => "postgres://user:password@database/hookcache".to_owned(),
        "HOOKCACHE_REGISTRY__KEY" => "5e".repeat(32),
        other => panic!("what is in {other}?"),
    }
}

/// Reads the configuration as the program in that environment would.
pub fn configured(variables: BTreeMap<String, String>, flags: Vec<(&'static str, String)>) -> Config {
    let sources = Sources { file: None, environment: variables.into_iter().collect(), flags };
    load(&sources).unwrap_or_else(|error| panic!("{error}")).config
}

pub fn roles_of(command: &[String]) -> String {
    assert_eq!(command[..2], ["serve", "--roles"]);
    command[2].clone()
}
