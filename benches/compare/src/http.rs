//! HTTP for setting the stage: one connection, one call after the other.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

pub struct Client {
    stream: BufReader<TcpStream>,
    authorization: String,
}

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Client {
    pub fn connect(port: u16, authorization: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), authorization: authorization.to_owned() })
    }

    pub fn get(&mut self, path: &str) -> std::io::Result<Answer> {
        self.send(&get_bytes(path, &self.authorization))?;
        read(&mut self.stream)
    }

    pub fn post(&mut self, path: &str, json: &str) -> std::io::Result<Answer> {
        let (authorization, length) = (&self.authorization, json.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {authorization}\r\nContent-Type: \
             application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        self.send(&[head.as_bytes(), json.as_bytes()].concat())?;
        read(&mut self.stream)
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }
}

/// Does a server answer a get with success?
pub fn answers(port: u16, path: &str, authorization: &str) -> bool {
    let asked = Client::connect(port, authorization).and_then(|mut client| client.get(path));
    asked.is_ok_and(|answer| answer.status == 200)
}

pub fn get_bytes(path: &str, authorization: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {authorization}\r\n\r\n").into_bytes()
}

/// Reads an answer, whose body has a Content-Length, as those of all subjects have.
pub fn read(stream: &mut impl BufRead) -> std::io::Result<Answer> {
    let (mut status, mut length, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap_or(0),
            Some(_) => {}
            None if status == 0 => status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0),
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Answer { status, body })
}
