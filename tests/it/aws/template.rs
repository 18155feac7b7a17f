//! What `config/aws/template.yaml` must say. cfn-lint (`make manifests`) knows AWS's own rules; these are ours.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_sqs::types::QueueAttributeName;
use hookcache::buffer::sqs::Action;
use hookcache::config::{Config, Role, Sources, load};
use serde_json::{Value, json};

use crate::support::cloudformation::{self, Stack};
use crate::support::hookcache::run;
use crate::support::sqs::client;
use crate::support::{Ministack, repository};

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
const EXISTING: [(&str, &str); 2] = [("Store", "existing"), ("StoreUrlSecretArn", "arn:aws:secretsmanager:s")];
const PAGE_LINKS: [(&str, &str); 3] = [
    ("PageLinks", "yes"),
    ("RegistryUrlSecretArn", "arn:aws:secretsmanager:u"),
    ("RegistryKeySecretArn", "arn:aws:secretsmanager:k"),
];

struct Template(Value);

impl Template {
    fn read() -> Self {
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
    fn contradictions(&self, given: &[(&str, &str)]) -> Vec<String> {
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
    fn resources(&self, given: &[(&str, &str)]) -> Value {
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
fn text(value: &Value) -> String {
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

fn property<'a>(resources: &'a Value, path: &str) -> &'a Value {
    let (resource, property) = path.split_once('.').expect("a resource and a property");
    let pointer = format!("/{resource}/Properties/{}", property.replace('.', "/"));
    resources.pointer(&pointer).unwrap_or_else(|| panic!("there is no {path}"))
}

/// What a role may do: queue and action.
fn allowed(resources: &Value, role: &str) -> BTreeSet<(String, String)> {
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

fn actions(queue: &str, actions: &[&str]) -> BTreeSet<(String, String)> {
    actions.iter().map(|action| (queue.to_owned(), (*action).to_owned())).collect()
}

const ATTRIBUTES: &str = "sqs:GetQueueAttributes";
const RECEIVE: &str = "sqs:ReceiveMessage";

/// Variables and the command of a container.
fn container(resources: &Value, task: &str) -> (BTreeMap<String, String>, Vec<String>) {
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

/// The texts of secrets, which no template knows.
fn stand_in_of_secret(variable: &str) -> String {
    match variable {
        "HOOKCACHE_STORE__URL" => "rediss://:password@cache:6379".to_owned(),
        "HOOKCACHE_REGISTRY__URL" => "postgres://user:password@database/hookcache".to_owned(),
        other => panic!("what is in {other}?"),
    }
}

/// Reads the configuration as the program in that environment would.
fn configured(variables: BTreeMap<String, String>, flags: Vec<(&'static str, String)>) -> Config {
    let sources = Sources { file: None, environment: variables.into_iter().collect(), flags };
    load(&sources).unwrap_or_else(|error| panic!("{error}")).config
}

fn roles_of(command: &[String]) -> String {
    assert_eq!(command[..2], ["serve", "--roles"]);
    command[2].clone()
}

/// Does this program know page links?
fn knows_page_links() -> bool {
    let settings = load(&Sources::default()).expect("the defaults").settings;
    settings.iter().any(|setting| setting.key == "confluence.enabled")
}

#[test]
fn parameters_that_contradict_each_other_are_refused_with_what_to_change() {
    let template = Template::read();
    let fine: [&[(&str, &str)]; 6] = [
        &[],
        &[("Auth", "lambda-authorizer"), ("AuthorizerFunctionArn", "arn:aws:lambda:f")],
        &EXISTING,
        &PAGE_LINKS,
        &[("BatchSize", "1000"), ("BatchWindowSeconds", "5")],
        &[("Acknowledge", "replicas(1)")],
    ];
    for given in fine {
        assert_eq!(template.contradictions(given), Vec::<String>::new(), "{given:?}");
    }
    let refused: [(&[(&str, &str)], &str); 12] = [
        (&[("Auth", "lambda-authorizer")], "AuthorizerFunctionArn must name"),
        (&[("AuthorizerFunctionArn", "arn:aws:lambda:f")], "but Auth is iam"),
        (&[("Store", "existing")], "StoreUrlSecretArn must name"),
        (&[EXISTING[1]], "but Store is new"),
        (&[("Acknowledge", "replicas(1)"), ("CacheReplicas", "0")], "CacheReplicas is 0"),
        (&[("BatchSize", "100")], "BatchWindowSeconds"),
        (&[("BatchSize", "10000")], "BatchWindowSeconds"),
        (&[PAGE_LINKS[0]], "RegistryUrlSecretArn and RegistryKeySecretArn must"),
        (&[PAGE_LINKS[0], PAGE_LINKS[1]], "RegistryUrlSecretArn and RegistryKeySecretArn must"),
        (&[PAGE_LINKS[0], PAGE_LINKS[2]], "RegistryUrlSecretArn and RegistryKeySecretArn must"),
        (&[PAGE_LINKS[1]], "but PageLinks is no"),
        (&[PAGE_LINKS[2]], "but PageLinks is no"),
    ];
    let rules = template.0["Rules"].as_object().unwrap().len();
    let mut told = BTreeSet::new();
    for (given, reason) in refused {
        let contradictions = template.contradictions(given);
        assert_eq!(contradictions.len(), 1, "{given:?}: {contradictions:?}");
        assert!(contradictions[0].contains(reason), "{given:?}: {contradictions:?}");
        told.extend(contradictions);
    }
    assert_eq!(told.len(), rules, "each rule refuses something");
}

#[test]
fn the_programs_take_the_configuration_that_the_template_gives_them() {
    let template = Template::read();
    for (given, acknowledge) in
        [(&[][..], "memory"), (&[("Acknowledge", "replicas(1)")], "replicas(1)"), (&EXISTING, "memory")]
    {
        let resources = template.resources(given);
        let variables = property(&resources, "Function.Environment.Variables").as_object().unwrap();
        let mut variables: BTreeMap<String, String> =
            variables.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let url = variables.insert("HOOKCACHE_STORE__URL".into(), stand_in_of_secret("HOOKCACHE_STORE__URL"));
        assert!(url.is_some_and(|url| url.starts_with("{{resolve:secretsmanager:")), "no password in the template");
        assert_eq!(variables["HOOKCACHE_STORE__ACKNOWLEDGE"], acknowledge);
        let function = configured(variables, vec![]);
        assert!(function.grants().callers.unwrap().contains_key("arn:aws:sts::111122223333:assumed-role/upstream/*"));

        let (variables, command) = container(&resources, "GetTask");
        let get = configured(variables, vec![("roles", roles_of(&command))]);
        assert_eq!(get.roles.iter().collect::<Vec<_>>(), [Role::Get, Role::Admin]);
        // The targets of the load balancer.
        for (targets, port) in [("GetTargets", get.listen.port()), ("ControlTargets", get.admin_listen.port())] {
            assert_eq!(*property(&resources, &format!("{targets}.Port")), port);
            assert_eq!(*property(&resources, &format!("{targets}.HealthCheckPath")), "/readyz");
        }
        let longer_than_a_balancers = get.http.idle_timeout.as_secs() > 60;
        assert!(longer_than_a_balancers, "a connection is closed by the load balancer first");
        let stop = &property(&resources, "GetTask.ContainerDefinitions")[0]["StopTimeout"];
        assert!(stop.as_u64().unwrap() >= 2 * get.http.drain_deadline.as_secs() + 13, "{stop}");
    }
    if knows_page_links() {
        let resources = template.resources(&PAGE_LINKS);
        let (variables, command) = container(&resources, "PagesTask");
        let roles = roles_of(&command);
        assert_eq!(roles, "set,pages,reindex");
        configured(variables, vec![("roles", roles)]);
        let (variables, command) = container(&resources, "GetTask");
        configured(variables, vec![("roles", roles_of(&command))]);
    }
}

#[test]
fn each_role_may_do_what_its_code_calls_and_nothing_else() {
    let (send, delete, hide) = (Action::Send.permission(), Action::Delete.permission(), Action::Hide.permission());
    let template = Template::read();
    let resources = template.resources(&[]);
    let (queue, dead) = ("hooks-webhooks", "hooks-webhooks-dead");
    assert_eq!(allowed(&resources, "ApiRole"), actions(queue, &[send]));
    // Lambda's mapping takes and deletes; the code buries.
    let mapping = actions(queue, &[RECEIVE, delete, ATTRIBUTES]);
    assert_eq!(allowed(&resources, "FunctionRole"), &mapping | &actions(dead, &[send]));
    // Each process asks for the attributes of its queues when it starts.
    let admin = &actions(queue, &[send, ATTRIBUTES]) | &actions(dead, &[RECEIVE, delete, hide, ATTRIBUTES]);
    assert_eq!(allowed(&resources, "GetRole"), admin);

    let resources = template.resources(&PAGE_LINKS);
    let (pages, pages_dead) = ("hooks-pages", "hooks-pages-dead");
    let of_pages = &actions(pages, &[send, ATTRIBUTES]) | &actions(pages_dead, &[RECEIVE, delete, hide, ATTRIBUTES]);
    assert_eq!(allowed(&resources, "GetRole"), &admin | &of_pages);
    let puts = &actions(queue, &[send, ATTRIBUTES]) | &actions(dead, &[ATTRIBUTES]);
    let works = &actions(pages, &[send, RECEIVE, delete, hide, ATTRIBUTES]) | &actions(pages_dead, &[send, ATTRIBUTES]);
    assert_eq!(allowed(&resources, "PagesRole"), &puts | &works);
    // Nobody is allowed all of a queue, or all queues.
    for resource in resources.as_object().unwrap().values().filter(|resource| resource["Type"] == "AWS::IAM::Role") {
        let policies = resource["Properties"]["Policies"].to_string();
        assert!(!policies.contains('*'), "{policies}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queues_are_as_the_program_itself_would_make_them() {
    let sqs = Ministack::start().await;
    let endpoint = sqs.endpoint_url();
    for (given, queue) in [(&[][..], "Queue"), (&PAGE_LINKS, "PagesQueue")] {
        let resources = Template::read().resources(given);
        let dead = queue.replace("Queue", "") + "DeadLetters";
        let mut names = Vec::new();
        // An emulator has an account and a region of its own.
        let here = |value: String| value.replace("eu-west-1:111122223333", "us-east-1:000000000000");
        for queue in [dead.as_str(), queue] {
            let properties = resources[queue]["Properties"].as_object().unwrap();
            let name = text(&properties["QueueName"]);
            let mut create = client(&endpoint).create_queue().queue_name(&name);
            for (attribute, value) in properties.iter().filter(|(attribute, _)| *attribute != "QueueName") {
                create = create.attributes(QueueAttributeName::from(attribute.as_str()), here(text(value)));
            }
            create.send().await.expect("a queue");
            names.push(name);
        }
        let args = [
            "queues",
            "create",
            "--dry-run",
            "--endpoint-url",
            &endpoint,
            "--queue",
            &names[1],
            "--dead-letter-queue",
            &names[0],
        ];
        let output = run(&args, &[("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let wanted = format!("{}: as it should be\n{}: as it should be\n", names[0], names[1]);
        assert!(said.starts_with(&wanted), "{said}");
    }
    let resources = Template::read().resources(&PAGE_LINKS);
    for (policy, queues) in [("TlsOnly", ["webhooks", "webhooks-dead"]), ("PagesTlsOnly", ["pages", "pages-dead"])] {
        let statement = &property(&resources, &format!("{policy}.PolicyDocument.Statement"))[0];
        assert_eq!(statement["Effect"], "Deny");
        assert_eq!(statement["Condition"], json!({"Bool": {"aws:SecureTransport": "false"}}));
        let arns = queues.map(|queue| format!("arn:aws:sqs:eu-west-1:111122223333:hooks-{queue}"));
        assert_eq!(statement["Resource"], json!(arns));
    }
}

#[test]
fn the_function_is_fed_as_its_code_expects() {
    let template = Template::read();
    let resources = template.resources(&[]);
    let number = |path: &str| property(&resources, path).as_u64().unwrap_or_else(|| panic!("{path}"));
    let window_max = template.0["Parameters"]["BatchWindowSeconds"]["MaxValue"].as_u64().unwrap();
    assert!(number("Queue.VisibilityTimeout") >= 6 * number("Function.Timeout") + window_max);
    assert_eq!(number("Queue.RedrivePolicy.maxReceiveCount"), 1_000);
    assert_eq!(*property(&resources, "FunctionMapping.FunctionResponseTypes"), json!(["ReportBatchItemFailures"]));
    assert_eq!(text(property(&resources, "FunctionMapping.ScalingConfig.MaximumConcurrency")), "10");
    assert_eq!(
        *property(&resources, "FunctionMapping.EventSourceArn"),
        "arn:aws:sqs:eu-west-1:111122223333:hooks-webhooks"
    );
    assert_eq!(*property(&resources, "Function.Runtime"), "provided.al2023");
    let build = std::fs::read_to_string(repository().join("lambda/build")).expect("what makes the zip");
    assert_eq!(*property(&resources, "Function.Code"), "../../target/lambda/bootstrap.zip");
    assert!(build.contains("out=$root/target/lambda\n") && build.contains("$out/bootstrap.zip"), "{build}");
    assert_eq!(*property(&resources, "Function.Architectures"), json!(["arm64"]));
    assert_eq!(*property(&resources, "GetTask.RuntimePlatform.CpuArchitecture"), "ARM64");
    // Both in the subnets, with a way to SQS.
    assert_eq!(*property(&resources, "Function.VpcConfig.SubnetIds"), "subnet-1,subnet-2");
    assert_eq!(*property(&resources, "Endpoint.ServiceName"), "com.amazonaws.eu-west-1.sqs");
    assert!(template.resources(&[("SqsEndpoint", "existing")]).get("Endpoint").is_none());
    // A Redis that is there is all that there is.
    let existing = template.resources(&EXISTING);
    assert!(existing.as_object().unwrap().keys().all(|name| !name.starts_with("Cache")), "{existing}");
    assert_eq!(*property(&resources, "CacheParameters.Properties.maxmemory-policy"), "noeviction");
    assert_eq!(*property(&resources, "LoadBalancer.Scheme"), "internal");
    for (resource, encrypted) in
        [("Cache", "AtRestEncryptionEnabled"), ("Cache", "TransitEncryptionEnabled"), ("Queue", "SqsManagedSseEnabled")]
    {
        assert_eq!(*property(&resources, &format!("{resource}.{encrypted}")), true);
    }
}

#[test]
fn an_operator_is_woken_for_dead_letters_age_errors_and_throttles() {
    let template = Template::read();
    let topic = [("AlarmTopicArn", "arn:aws:sns:t")];
    for (with_topic, given) in [(false, &[][..]), (true, &topic)] {
        let resources = template.resources(given);
        let mut watched = BTreeSet::new();
        for resource in resources.as_object().unwrap().values() {
            if resource["Type"] == "AWS::CloudWatch::Alarm" {
                let properties = &resource["Properties"];
                watched.insert(format!("{}/{}", text(&properties["Namespace"]), text(&properties["MetricName"])));
                assert_eq!(properties.get("AlarmActions").is_some(), with_topic);
            }
        }
        for wanted in [
            "AWS/SQS/ApproximateNumberOfMessagesVisible",
            "AWS/SQS/ApproximateAgeOfOldestMessage",
            "AWS/Lambda/Errors",
            "AWS/Lambda/Throttles",
            "AWS/ApiGateway/5XXError",
            "AWS/ApplicationELB/HTTPCode_Target_5XX_Count",
        ] {
            assert!(watched.contains(wanted), "{wanted} is not watched");
        }
    }
    let outputs: Vec<&String> = template.0["Outputs"].as_object().unwrap().keys().collect();
    assert!(["ApiUrl", "GetUrl", "ControlUrl"].iter().all(|name| outputs.iter().any(|output| output == name)));
}

#[test]
fn nothing_that_the_api_is_made_of_is_missing_in_the_template() {
    let template = Template::read();
    let mut names = BTreeSet::new();
    collect(&cloudformation::read("openapi.yaml"), &mut names);
    for name in names.iter().filter(|name| !name.starts_with("AWS::")) {
        let known = ["Parameters", "Resources", "Conditions"].iter().any(|part| template.0[part].get(name).is_some());
        assert!(known, "openapi.yaml names {name}, which the template doesn't have");
    }
    assert!(names.contains("Queue") && names.contains("UsesAuthorizer"), "{names:?}");
}

/// Names of parameters, resources and conditions that a value refers to.
fn collect(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        Value::Object(members) => {
            for (name, of) in members {
                match (name.as_str(), of) {
                    ("Ref", Value::String(name)) => drop(names.insert(name.clone())),
                    ("Fn::GetAtt" | "Fn::If", Value::Array(parts)) => drop(names.insert(text(&parts[0]))),
                    ("Fn::Sub", Value::String(text)) => {
                        let named = text.split("${").skip(1).filter_map(|part| part.split_once('}'));
                        names.extend(named.map(|(name, _)| name.split('.').next().unwrap_or_default().to_owned()));
                    }
                    _ => {}
                }
                collect(of, names);
            }
        }
        _ => {}
    }
}
