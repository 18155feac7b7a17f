//! Page links on their way through the function, which is configured as the stack configures it.

use std::collections::BTreeMap;

use hookcache::envelope::wire::Kind;

use super::{FUNCTION_TIMEOUT, Store, until_deleted, wire_form};
use crate::aws::template::stack::{PAGE_LINKS, Template, function};
use crate::support::Lambda;
use crate::support::lambda::Mapping;
use crate::support::sqs::client;
use crate::support::stack::Stack;

fn set(by: &str, key: &str) -> String {
    let request =
        format!(r#"{{"accountId":"acme","flowId":"page-links","webhookKeys":["{key}"],"data":{{"by":"{by}"}}}}"#);
    wire_form(by, Kind::Set, &request)
}

/// The variables of the stack's function. Only where the store and the queues lie is the test's own.
fn variables_of_the_stack(stack: &Stack) -> BTreeMap<String, String> {
    let mut variables = function(&Template::read().resources(&PAGE_LINKS), "Function");
    variables.extend(stack.function_environment().into_iter().map(|(name, value)| (name.to_owned(), value)));
    variables.insert("HOOKCACHE_BUFFER__REGION".to_owned(), "us-east-1".to_owned());
    variables
}

#[tokio::test]
async fn page_links_are_stored_for_ever_and_a_caller_of_the_api_can_not_set_their_keys() {
    let stack = Stack::start().await;
    let variables = variables_of_the_stack(&stack);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut lambda = Lambda::start(&variables).await;
    let mapping = Mapping::new(client(&stack.sqs.endpoint_url()), &stack.queues.queue_url, FUNCTION_TIMEOUT);

    let caller = "arn:aws:sts::111122223333:assumed-role/upstream/session-1";
    let forged = set(caller, "confluence:s:page:2");
    for body in [&set("source:confluence", "confluence:s:page:1"), &forged, &set(caller, "theirs")] {
        stack.put(body).await;
    }
    until_deleted(&mapping, &mut lambda, 3).await;

    let store = Store::new(&stack.redis);
    let links = store.get("confluence:s:page:1").await.expect("page links");
    assert_eq!((&*links.payload, links.expires_at_ms), (br#"{"by":"source:confluence"}"#.as_slice(), None));
    assert!(store.get("confluence:s:page:2").await.is_none() && store.get("theirs").await.is_some());
    let letters = stack.take_dead(1).await;
    assert_eq!((letters[0].reason(), &letters[0].body), ("forbidden-account", &forged));
    assert!(letters[0].detail().contains("reserved to another"), "{}", letters[0].detail());
}
