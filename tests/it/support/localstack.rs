//! LocalStack's API Gateway, with `config/aws/openapi.yaml` imported, and its SQS behind it.
//!
//! It checks no signature and names no caller, so a stage variable stands in for the ARN.

use std::ffi::OsString;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::cloudformation::{self, Stack};
use super::process::{Process, Recipe};
use super::sqs::{Emulator, RECEIVES_MAX, client, create_queues};
use super::{Queues, TempDir, eventually_within, free_port, http_send, repository, tool};

const PROBE: &str = "GET /_localstack/health HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
const AUTHORIZATION: &str =
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/apigateway/aws4_request, SignedHeaders=host, Signature=none";
const STAGE: &str = "live";
const START_DEADLINE: Duration = Duration::from_secs(180);
pub const QUEUE: &str = "webhooks";
/// Who calls, unless a test says something else.
pub const CALLER: &str = "arn:aws:sts::000000000000:assumed-role/upstream/i-0abc";

pub struct LocalStack {
    process: Process,
    queues: Queues,
    api_id: String,
    _folder: TempDir,
}

impl LocalStack {
    /// Installs it where it is missing, which takes a while.
    pub async fn start() -> Self {
        let install = repository().join("tests/tools/install-localstack");
        // Whoever starts others at the same time goes on looking after them.
        let installed = Command::new(&install).status().await.expect("bash");
        assert!(installed.success(), "{} failed", install.display());
        let (port, folder) = (free_port(), TempDir::new().expect("a temporary folder"));
        let env = [
            ("GATEWAY_LISTEN", format!("127.0.0.1:{port}")),
            ("LOCALSTACK_VOLUME_DIR", folder.path().display().to_string()),
            ("SERVICES", "apigateway,sqs,iam,sts".to_owned()),
            ("STRICT_SERVICE_LOADING", "1".to_owned()),
            // It asks nobody on the internet for anything.
            ("DISABLE_EVENTS", "1".to_owned()),
            ("SKIP_SSL_CERT_DOWNLOAD", "1".to_owned()),
            ("DNS_ADDRESS", "0".to_owned()),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), OsString::from(value))).to_vec();
        let args = ["-m", "localstack.runtime.main"].map(Into::into).to_vec();
        let program = tool("localstack/bin/python");
        let process = Process::spawn(Recipe { program, args, env, port, probe: PROBE, ready: &["HTTP/1.1 200"] });
        let endpoint_url = format!("http://127.0.0.1:{port}");
        // It starts slowly, and much more so beside others.
        eventually_within(START_DEADLINE, "LocalStack listens", || async {
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        let process = process.until_ready().await;
        let queues = create_queues(&client(&endpoint_url), QUEUE, RECEIVES_MAX).await;
        let document = api().to_string().replace("$context.identity.userArn", "$stageVariables.userArn");
        let imported = call(&endpoint_url, "/restapis?mode=import&failonwarnings=true", document).await;
        let api_id = imported["id"].as_str().unwrap_or_else(|| panic!("{imported}")).to_owned();
        let deployment = json!({"stageName": STAGE, "variables": {"userArn": CALLER}});
        call(&endpoint_url, &format!("/restapis/{api_id}/deployments"), deployment.to_string()).await;
        Self { process, queues, api_id, _folder: folder }
    }

    pub fn endpoint_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.process.port())
    }

    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Before `/v1/set`: what the output ApiUrl of the stack is.
    pub fn url(&self) -> String {
        format!("{}/_aws/execute-api/{}/{STAGE}", self.endpoint_url(), self.api_id)
    }
}

impl Emulator for LocalStack {
    fn endpoint_url(&self) -> String {
        Self::endpoint_url(self)
    }
}

/// The document as CloudFormation would hand it to API Gateway: calls are signed, and need no API key.
pub fn api() -> Value {
    let values = [
        ("AWS::Partition", "aws"),
        ("AWS::Region", "us-east-1"),
        ("AWS::AccountId", "000000000000"),
        ("AWS::StackName", "hookcache"),
        ("Queue.QueueName", QUEUE),
        ("ApiRole.Arn", "arn:aws:iam::000000000000:role/api"),
    ];
    let values = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let conditions = ["UsesAuthorizer", "NeedsApiKey"].map(|name| (name.to_owned(), false)).into();
    Stack { values, conditions }.resolve(&cloudformation::read("openapi.yaml"))
}

async fn call(endpoint_url: &str, path: &str, body: String) -> Value {
    let headers = [("authorization", AUTHORIZATION), ("content-type", "application/json")];
    let reply = http_send(Method::POST, &format!("{endpoint_url}{path}"), &headers, body).await;
    assert!(reply.status.is_success(), "{path}: {}", reply.text());
    reply.json()
}
