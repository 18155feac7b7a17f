//! The one Redis that all subjects ask, and values in it as the peers lay them out.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::process::{Process, free_port, listens};

pub fn start(folder: &Path) -> Process {
    let (port, mut command) = (free_port(), Command::new("redis-server"));
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    Process::start(command, port, &folder.join("redis.log"), listens)
}

/// One SET for each key.
pub fn set_all(port: u16, keys: impl Iterator<Item = String>, value: &str) {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("Redis listens");
    let mut replies = BufReader::new(stream.try_clone().expect("a second handle")).lines();
    let mut stream = stream;
    let keys: Vec<String> = keys.collect();
    for chunk in keys.chunks(100) {
        let command =
            |key: &String| format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n", key.len(), value.len());
        let commands: String = chunk.iter().map(command).collect();
        stream.write_all(commands.as_bytes()).expect("Redis takes it");
        for _ in chunk {
            assert_eq!(replies.next().expect("a reply").expect("a line"), "+OK");
        }
    }
}
