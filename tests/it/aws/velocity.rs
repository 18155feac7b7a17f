//! Mapping templates by Apache Velocity, in a Java process (`tests/tools/MappingTemplate.java`).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;

use crate::support::repository;

const JARS: [&str; 9] = [
    "velocity",
    "commons-lang",
    "commons-collections3",
    "json-path",
    "json-smart",
    "accessors-smart",
    "asm",
    "slf4j-api",
    "slf4j-nop",
];
const JARS_FOLDER: &str = "/usr/share/java";

/// Killed on drop.
pub struct Velocity {
    child: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

/// What a template made.
#[derive(Debug)]
pub struct Rendered {
    pub text: String,
    /// `$context.responseOverride`.
    pub response_override: Value,
}

impl Velocity {
    pub fn start() -> Self {
        let jars = JARS.map(|jar| format!("{JARS_FOLDER}/{jar}.jar"));
        for jar in &jars {
            assert!(std::path::Path::new(jar).exists(), "{jar} is missing: run `make tools`");
        }
        let mut command = Command::new("java");
        // A short life: compiled quickly rather than well.
        command
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", &jars.join(":")])
            .arg(repository().join("tests/tools/MappingTemplate.java"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("java: run `make tools`");
        let (stdin, stdout) = (child.stdin.take().expect("it is piped"), child.stdout.take().expect("it is piped"));
        Self { child, pipes: Mutex::new((stdin, BufReader::new(stdout))) }
    }

    /// `body` is `$input.body`. The error is what Velocity, or a method that the template calls, says.
    pub fn render(&self, template: &str, body: &str, context: &Value) -> Result<Rendered, String> {
        let mut pipes = self.pipes.lock().expect("no holder panics");
        let job = [template, body, &context.to_string()].map(hex).join(" ");
        writeln!(pipes.0, "{job}").and_then(|()| pipes.0.flush()).expect("java reads");
        let mut line = String::new();
        pipes.1.read_line(&mut line).expect("java answers");
        let (text, rest) = line.trim_end().split_once(' ').unwrap_or_else(|| panic!("java answered {line:?}"));
        if text == "!" {
            return Err(text_of_hex(rest));
        }
        let response_override = serde_json::from_str(&text_of_hex(rest)).expect("JSON");
        Ok(Rendered { text: text_of_hex(text), response_override })
    }
}

impl Drop for Velocity {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex(text: &str) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).expect("below 16");
    text.bytes().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn text_of_hex(hex: &str) -> String {
    let value = |digit: u8| char::from(digit).to_digit(16).expect("hexadecimal") as u8;
    let bytes = hex.as_bytes().chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1]));
    String::from_utf8(bytes.collect()).expect("UTF-8")
}

#[test]
fn hexadecimal_reads_back_what_it_wrote() {
    for text in ["", "f", "é\u{1F980}\0"] {
        assert_eq!(text_of_hex(&hex(text)), text);
    }
    assert_eq!(hex("é"), "c3a9");
}
