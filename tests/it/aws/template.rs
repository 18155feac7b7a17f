//! What `config/aws/template.yaml` must say. cfn-lint (`make manifests`) knows AWS's own rules; these are ours.

pub mod stack;

use std::collections::BTreeSet;

use aws_sdk_sqs::types::QueueAttributeName;
use hookcache::buffer::sqs::Action;
use hookcache::config::{BufferOptions, Config, Role, Sources, load};
use hookcache::registry::{Key, Options};
use serde_json::{Value, json};

use self::stack::{
    ATTRIBUTES, EXISTING, PAGE_LINKS, RECEIVE, Template, WEBHOOKS, actions, allowed, configured, container, function,
    property, roles_of, text,
};
use crate::support::cloudformation;
use crate::support::hookcache::run;
use crate::support::sqs::client;
use crate::support::{Ministack, repository};

/// For how long a get may be held, in seconds: `Prefer: wait`.
const HELD_MAX_S: u64 = 60;

#[test]
fn parameters_that_contradict_each_other_are_refused_with_what_to_change() {
    let template = Template::read();
    let fine: [&[(&str, &str)]; 7] = [
        &[],
        &[("Auth", "lambda-authorizer"), ("AuthorizerFunctionArn", "arn:aws:lambda:f")],
        &EXISTING,
        &PAGE_LINKS,
        &WEBHOOKS,
        &[("BatchSize", "1000"), ("BatchWindowSeconds", "5")],
        &[("Acknowledge", "replicas(1)")],
    ];
    for given in fine {
        assert_eq!(template.contradictions(given), Vec::<String>::new(), "{given:?}");
    }
    let refused: [(&[(&str, &str)], &str); 13] = [
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
        (&[WEBHOOKS[3]], "WebhooksApi is yes, but PageLinks is no"),
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
        let variables = function(&resources, "Function");
        assert_eq!(variables["HOOKCACHE_STORE__ACKNOWLEDGE"], acknowledge);
        let consumer = configured(variables, vec![]);
        assert!(consumer.grants().callers.unwrap().contains_key("arn:aws:sts::111122223333:assumed-role/upstream/*"));

        let (variables, command) = container(&resources, "GetTask");
        let get = configured(variables.clone(), vec![("roles", roles_of(&command))]);
        assert_eq!(get.roles.iter().collect::<Vec<_>>(), [Role::Get, Role::Admin]);
        // The role admin writes, too.
        assert_eq!(variables["HOOKCACHE_STORE__ACKNOWLEDGE"], acknowledge);
        // The targets of the load balancer. A task that is killed while the store is down mends nothing.
        for (targets, port) in [("GetTargets", get.listen.port()), ("ControlTargets", get.admin_listen.port())] {
            assert_eq!(*property(&resources, &format!("{targets}.Port")), port);
            assert_eq!(*property(&resources, &format!("{targets}.HealthCheckPath")), "/healthz");
        }
        let attribute = &property(&resources, "LoadBalancer.LoadBalancerAttributes")[0];
        assert_eq!(attribute["Key"], "idle_timeout.timeout_seconds");
        let balancers_s: u64 = text(&attribute["Value"]).parse().unwrap();
        assert!(balancers_s > HELD_MAX_S, "a get that is held is cut off");
        assert!(
            get.http.idle_timeout.as_secs() > balancers_s,
            "a connection is to be closed by the load balancer first"
        );
        let stop = &property(&resources, "GetTask.ContainerDefinitions")[0]["StopTimeout"];
        assert!(stop.as_u64().unwrap() >= 2 * get.http.drain_deadline.as_secs() + 13, "{stop}");
    }
}

#[test]
fn the_programs_take_the_configuration_of_page_links_that_the_template_gives_them() {
    let resources = Template::read().resources(&WEBHOOKS);
    let (variables, command) = container(&resources, "PagesTask");
    let roles = roles_of(&command);
    assert_eq!(roles, "set,pages,reindex");
    assert_eq!(*property(&resources, "HooksTargets.HealthCheckPath"), "/healthz");
    let pages = configured(variables, vec![("roles", roles)]);
    let (variables, command) = container(&resources, "GetTask");
    let admin = configured(variables, vec![("roles", roles_of(&command))]);
    let webhooks = configured(function(&resources, "WebhooksFunction"), vec![]);
    // All of them mean the same registry and the same queue.
    let means = |config: Config| {
        let page_links = config.page_links.expect("they are on");
        let Options::Postgres { url, key: Key::Text(key) } = page_links.registry else { panic!("not to be shared") };
        let BufferOptions::Sqs(queue) = page_links.queue else { panic!("not to be shared") };
        (url, key, queue.queue_url, queue.dead_letter_url)
    };
    let meant = means(pages);
    assert_eq!((means(admin), means(webhooks)), (meant.clone(), meant));
}

#[test]
fn every_variable_of_ours_in_the_template_is_a_key_of_the_configuration() {
    let settings = load(&Sources::default()).expect("the defaults").settings;
    let keys: BTreeSet<&str> = settings.iter().map(|setting| setting.key.as_str()).collect();
    let text = std::fs::read_to_string(repository().join("config/aws/template.yaml")).expect("the template");
    let variables: BTreeSet<&str> = text
        .match_indices("HOOKCACHE_")
        .map(|(at, _)| text[at..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default())
        .collect();
    for variable in &variables {
        let key = variable["HOOKCACHE_".len()..].replace("__", ".").to_lowercase();
        let known = keys.contains(key.as_str()) || *variable == "HOOKCACHE_CONFIG_TEXT";
        assert!(known || *variable == "HOOKCACHE_ADMIN_URL", "{variable} is nothing that hookcache reads");
    }
    assert!(variables.contains("HOOKCACHE_CONFLUENCE__ENABLED") && variables.len() > 10, "{variables:?}");
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
    let resources = template.resources(&WEBHOOKS);
    let webhooks = &actions(pages, &[send, ATTRIBUTES]) | &actions(pages_dead, &[ATTRIBUTES]);
    assert_eq!(allowed(&resources, "WebhooksRole"), webhooks);
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
            // What waits outlives its stack; what a failed creation leaves would be in the way of the next.
            let kept = if given.is_empty() { "RetainExceptOnCreate" } else { "Delete" };
            assert_eq!(resources[queue]["DeletionPolicy"], kept, "{queue}");
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
    let makes_it = ["out=$root/target/lambda\n", "build hookcache-lambda bootstrap.zip "];
    assert!(makes_it.iter().all(|line| build.contains(line)), "{build}");
    assert_eq!(*property(&resources, "Function.Architectures"), json!(["arm64"]));
    assert_eq!(*property(&resources, "GetTask.RuntimePlatform.CpuArchitecture"), "ARM64");
    // Both in the subnets, with a way to SQS.
    assert_eq!(*property(&resources, "Function.VpcConfig.SubnetIds"), "subnet-1,subnet-2");
    assert_eq!(*property(&resources, "Endpoint.ServiceName"), "com.amazonaws.eu-west-1.sqs");
    // Its private DNS leads all of the VPC to it, so that all of the VPC is let in.
    assert_eq!(*property(&resources, "Endpoint.PrivateDnsEnabled"), true);
    let ingress = &property(&resources, "EndpointGroup.SecurityGroupIngress")[0];
    assert_eq!((&ingress["CidrIp"], &ingress["FromPort"]), (&json!("0.0.0.0/0"), &json!(443)));
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
fn webhooks_have_an_api_of_their_own_where_it_is_asked_for() {
    let template = Template::read();
    let of_webhooks = |given: &[(&str, &str)]| {
        let resources = template.resources(given);
        resources.as_object().unwrap().keys().filter(|name| name.starts_with("Webhooks")).count()
    };
    assert_eq!((of_webhooks(&[]), of_webhooks(&PAGE_LINKS)), (0, 0));
    let resources = template.resources(&WEBHOOKS);
    assert_eq!(*property(&resources, "WebhooksRoute.RouteKey"), "ANY /v1/hooks/{proxy+}");
    assert_eq!(*property(&resources, "WebhooksRoute.Target"), "integrations/${WebhooksIntegration}");
    assert_eq!(*property(&resources, "WebhooksIntegration.PayloadFormatVersion"), "2.0");
    assert_eq!(*property(&resources, "WebhooksIntegration.IntegrationUri"), "${WebhooksFunction.Arn}");
    assert_eq!(*property(&resources, "WebhooksPermission.FunctionName"), "${WebhooksFunction}");
    // The stage that adds nothing to a path, and answers before the API gives up on the function.
    assert_eq!(*property(&resources, "WebhooksStage.StageName"), "$default");
    assert!(property(&resources, "WebhooksFunction.Timeout").as_u64().unwrap() < 30);
    assert_eq!(*property(&resources, "WebhooksFunction.Code"), "../../target/lambda/webhooks.zip");
    let build = std::fs::read_to_string(repository().join("lambda/build")).expect("what makes the zip");
    assert!(build.contains("build hookcache-webhooks webhooks.zip "), "{build}");
    let variables = property(&resources, "WebhooksFunction.Environment.Variables").as_object().unwrap();
    assert!(!variables.contains_key("HOOKCACHE_STORE__URL"), "it has no business with the store");
}

#[test]
fn an_operator_is_woken_for_dead_letters_age_errors_and_throttles() {
    let template = Template::read();
    let topic = [("AlarmTopicArn", "arn:aws:sns:t")];
    let (always, of_webhooks) = (
        [
            ("AWS/SQS", "ApproximateNumberOfMessagesVisible", 1),
            ("AWS/SQS", "ApproximateAgeOfOldestMessage", 1),
            ("AWS/Lambda", "Errors", 1),
            ("AWS/Lambda", "Throttles", 1),
            ("AWS/ApiGateway", "5XXError", 1),
            ("AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", 1),
            ("AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", 1),
        ],
        [
            ("AWS/SQS", "ApproximateNumberOfMessagesVisible", 2),
            ("AWS/SQS", "ApproximateAgeOfOldestMessage", 2),
            ("AWS/Lambda", "Errors", 2),
            ("AWS/Lambda", "Throttles", 2),
            ("AWS/ApiGateway", "5xx", 1),
        ],
    );
    for (with_topic, given, wanted) in
        [(false, &[][..], &always[..]), (true, &topic, &always), (false, &WEBHOOKS, &of_webhooks)]
    {
        let resources = template.resources(given);
        let alarms: Vec<&Value> = resources
            .as_object()
            .unwrap()
            .values()
            .filter(|resource| resource["Type"] == "AWS::CloudWatch::Alarm")
            .map(|alarm| &alarm["Properties"])
            .collect();
        assert!(alarms.iter().all(|alarm| alarm.get("AlarmActions").is_some() == with_topic));
        for (namespace, metric, count) in wanted {
            let of_metric = alarms.iter().filter(|of| of["Namespace"] == *namespace && of["MetricName"] == *metric);
            let watched: BTreeSet<String> = of_metric.map(|alarm| alarm["Dimensions"].to_string()).collect();
            assert_eq!(watched.len(), *count, "{namespace} {metric}: {watched:?}");
        }
    }
    let outputs: Vec<&String> = template.0["Outputs"].as_object().unwrap().keys().collect();
    let wanted = ["ApiUrl", "GetUrl", "ControlUrl", "WebhooksUrl", "UsagePlanId"];
    assert!(wanted.iter().all(|name| outputs.iter().any(|output| output == name)));
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
