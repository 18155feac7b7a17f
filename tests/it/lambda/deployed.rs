//! The consumer as it is deployed: out of the zip, built as AWS gets it.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::{FUNCTION_TIMEOUT, Store, set, until_deleted};
use crate::support::lambda::Mapping;
use crate::support::sqs::client;
use crate::support::stack::Stack;
use crate::support::{Lambda, TempDir, repository};

/// Of a zip, in bytes.
const ZIP_MAX: u64 = 5_000_000;

/// Prints each file of a zip with its mode, and unpacks it.
const UNZIP: &str = "
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as archive:
    for entry in archive.infolist():
        print(entry.filename, oct(entry.external_attr >> 16))
    archive.extractall(sys.argv[2])
";

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn long_the_zips_are_small_and_the_program_in_that_of_the_consumer_does_its_work() {
    succeeds(&mut Command::new(repository().join("lambda/build")));
    let (built, folder) = (repository().join("target/lambda"), TempDir::new().expect("a temporary folder"));
    for zip in ["webhooks.zip", "bootstrap.zip"] {
        let zip = built.join(zip);
        let bytes = std::fs::metadata(&zip).expect("it is built").len();
        assert!(bytes < ZIP_MAX, "{}: {bytes} bytes", zip.display());
        let files = succeeds(Command::new("python3").args(["-c", UNZIP]).arg(&zip).arg(folder.path()));
        assert_eq!(files, "bootstrap 0o755\n", "{}", zip.display());
    }
    // The last that was unpacked is the consumer's. Python keeps no modes.
    let program = folder.path().join("bootstrap");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("it is ours");

    let stack = Stack::start().await;
    let mut lambda = Lambda::start_program(&[program.as_os_str()], &stack.function_environment()).await;
    let mapping = Mapping::new(client(&stack.sqs.endpoint_url()), &stack.queues.queue_url, FUNCTION_TIMEOUT);
    let keys: Vec<String> = (0..9).map(|i| format!("k{i}")).collect();
    for key in &keys {
        stack.put(&set("up", "acme", key)).await;
    }
    stack.put("not ours").await;
    until_deleted(&mapping, &mut lambda, 10).await;
    let store = Store::new(&stack.redis);
    for key in &keys {
        assert!(store.get(key).await.is_some(), "{key}");
    }
    let letters = stack.take_dead(1).await;
    assert_eq!((letters[0].reason(), &*letters[0].body), ("not-decodable", "not ours"));
    lambda.logged("stored", 9).await;
}
