//! The Lambdas of this tree as processes, between a stand-in of the Lambda Runtime API and one of an event source mapping.
//!
//! | file | holds |
//! | --- | --- |
//! | `runtime_api` | the four calls of the Runtime API; what AWS would never answer, too |
//! | `mapping` | receives 10, invokes, deletes all but `batchItemFailures` |

mod mapping;
mod runtime_api;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use super::process::{Captured, Process, Recipe};
use super::{eventually, hookcache, repository};

pub use mapping::{Mapping, record};
pub use runtime_api::{Outcome, RuntimeApi, Spoiled};

/// What a function may take, as long as a test doesn't say otherwise: far more than any needs.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(120);

/// One execution environment: a process and its Runtime API.
pub struct Lambda {
    api: RuntimeApi,
    process: Process,
    command: Vec<OsString>,
    env: Vec<(String, OsString)>,
}

impl Lambda {
    /// The Lambda of this very tree. Waits for nothing: [`Lambda::until_idle`] does.
    pub async fn start(env: &[(&str, impl AsRef<str>)]) -> Self {
        Self::start_program(&[Self::program().as_os_str()], env).await
    }

    /// The function that receives webhooks.
    pub async fn start_webhooks(env: &[(&str, impl AsRef<str>)]) -> Self {
        Self::start_program(&[Self::program().with_file_name("hookcache-webhooks").as_os_str()], env).await
    }

    /// Where the consumer is built; the function of webhooks lies beside it.
    pub fn program() -> PathBuf {
        static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
        PROGRAM.get_or_init(build).clone()
    }

    /// Any program that speaks the Runtime API, and its arguments.
    pub async fn start_program(command: &[&OsStr], env: &[(&str, impl AsRef<str>)]) -> Self {
        let api = RuntimeApi::start().await;
        let address = api.address();
        let of_lambda = [
            ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", "hookcache"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ];
        let env = of_lambda.into_iter().chain(env.iter().map(|(name, value)| (*name, value.as_ref())));
        let env: Vec<(String, OsString)> = env.map(|(name, value)| (name.to_owned(), value.into())).collect();
        let command = command.iter().map(Into::into).collect::<Vec<_>>();
        Self { process: spawn(&command, &env), api, command, env }
    }

    /// Waits until it asks for an invocation: it has started, or is done with the last one.
    pub async fn until_idle(&self) {
        eventually("the function asks for its next invocation", || async { self.api.is_polled().then_some(()) }).await;
    }

    pub async fn invoke(&self, records: &[Value]) -> Outcome {
        self.invoke_with(&json!({ "Records": records })).await
    }

    /// With an event of any form.
    pub async fn invoke_with(&self, event: &Value) -> Outcome {
        self.api.invoke(event, FUNCTION_TIMEOUT).await
    }

    /// With a deadline of the test's own. A function that is not done by then is killed, and a new one started, as
    /// Lambda does.
    pub async fn invoke_within(&mut self, records: &[Value], timeout: Duration) -> Outcome {
        let outcome = self.api.invoke(&json!({ "Records": records }), timeout).await;
        if matches!(outcome, Outcome::TimedOut) {
            self.start_again().await;
        }
        outcome
    }

    /// Answers its question for the next invocation in a way that AWS never would, and waits until it goes on, or has
    /// ended. Tells whether it goes on.
    pub async fn survives(&mut self, spoiled: Spoiled) -> bool {
        self.until_idle().await;
        self.api.spoil(spoiled).await;
        let this = Mutex::new(self);
        eventually("it goes on, or ends", || async {
            let this = &mut **this.lock().expect("one task");
            let ended = this.process.has_ended();
            (ended || this.api.is_polled()).then_some(!ended)
        })
        .await
    }

    /// SIGKILL, whatever it does. Its invocation ends as one whose time is over.
    pub fn kill(&self) {
        self.process.signal("KILL");
        self.api.forget();
    }

    /// Kills what runs, and starts a new process.
    pub async fn start_again(&mut self) {
        self.process.kill9();
        self.api.forget();
        eventually("the end of its connections", || async { (!self.api.is_polled()).then_some(()) }).await;
        self.process = spawn(&self.command, &self.env);
    }

    /// Freezes it, as Lambda does between invocations: it asks for the next one, and nothing of it runs.
    pub async fn freeze(&self) {
        self.until_idle().await;
        self.process.signal("STOP");
    }

    pub fn thaw(&self) {
        self.process.signal("CONT");
    }

    pub async fn until_exit(&mut self) -> ExitStatus {
        self.process.until_exit().await
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn captured(&self) -> Captured {
        self.process.captured()
    }

    /// Its log lines with this message, once there are so many: they are read a moment after they were written.
    pub async fn logged(&self, message: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} lines of log: {message}"), || async {
            let log = self.captured().stderr;
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let found: Vec<Value> = lines.filter(|line| line["message"] == message).collect();
            (found.len() >= count).then_some(found)
        })
        .await
    }
}

fn spawn(command: &[OsString], env: &[(String, OsString)]) -> Process {
    let (program, args) = command.split_first().expect("it names a program");
    // It listens nowhere.
    let (port, probe, ready) = (0, "", [].as_slice());
    Process::spawn(Recipe { program: program.into(), args: args.to_vec(), env: env.to_vec(), port, probe, ready })
}

/// Cargo builds both functions beside the program, unless it has done so already. It is asked in the words of `make unit`: in others
/// it would build once more what both share.
fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["test", "--locked", "--workspace", "--test", "binary", "--no-run"];
    let output = Command::new(cargo).args(args).current_dir(repository()).output().expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Path::new(hookcache::PROGRAM).with_file_name("hookcache-lambda")
}
