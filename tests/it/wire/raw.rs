//! A client that says whatever a test wants, byte by byte.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A socket that speaks the protocol, or something like it.
pub(crate) struct Raw(pub(crate) TcpStream);

/// A message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) kind: char,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A field of an error or notice.
    pub(crate) fn field(&self, code: char) -> String {
        let found = self.body.split(|byte| *byte == 0).find(|part| part.first() == Some(&(code as u8)));
        found.map(|part| String::from_utf8_lossy(&part[1..]).into_owned()).unwrap_or_default()
    }
}

impl Raw {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Connected and ready for queries, as a user that is trusted.
    pub(crate) async fn ready(address: SocketAddr) -> Self {
        let mut raw = Self::open(address).await;
        raw.startup(&[("user", "ann"), ("database", "portrait")]).await;
        assert_eq!(raw.until('Z').await.last().unwrap().body, b"I");
        raw
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// A packet with its length and no type.
    pub(crate) async fn packet(&mut self, body: &[u8]) {
        let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        self.send(&bytes).await;
    }

    pub(crate) async fn startup(&mut self, parameters: &[(&str, &str)]) {
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for (name, value) in parameters {
            body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        body.push(0);
        self.packet(&body).await;
    }

    pub(crate) async fn query(&mut self, sql: &str) {
        self.send(&message('Q', format!("{sql}\0").as_bytes())).await;
    }

    /// The next message; `None` when the server closed.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        let mut head = [0; 5];
        tokio::time::timeout(Duration::from_secs(60), self.0.read_exact(&mut head)).await.expect("the server answers").ok()?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        self.0.read_exact(&mut body).await.ok()?;
        Some(Answer { kind: head[0] as char, body })
    }

    /// Messages up to one of `kind`, or up to the end.
    pub(crate) async fn until(&mut self, kind: char) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(answer) = self.next().await {
            let last = answer.kind == kind;
            answers.push(answer);
            if last {
                break;
            }
        }
        answers
    }

    /// Whether the server closes without another word.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.next().await.is_none()
    }
}

/// The types of messages, as one word.
pub(crate) fn kinds(answers: &[Answer]) -> String {
    answers.iter().map(|answer| answer.kind).collect()
}

/// A message with its type and length.
pub(crate) fn message(kind: char, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind as u8];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Parse of an unnamed statement without declared types.
pub(crate) fn parse(sql: &str) -> Vec<u8> {
    message('P', format!("\0{sql}\0\0\0").as_bytes())
}

/// Bind of the unnamed portal to the unnamed statement: no parameters, text results.
pub(crate) fn bind() -> Vec<u8> {
    message('B', b"\0\0\0\0\0\0\0\0")
}

/// Execute of the unnamed portal.
pub(crate) fn execute(max_rows: i32) -> Vec<u8> {
    let mut body = vec![0];
    body.extend_from_slice(&max_rows.to_be_bytes());
    message('E', &body)
}

pub(crate) fn sync() -> Vec<u8> {
    message('S', b"")
}
