//! A client of `murphy serve`: HTTP/1.1 over a Unix socket or TCP, one request a connection.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its media type, without parameters.
    pub media: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// Emulated kernels are slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks at a Unix socket.
pub fn ask(socket: &Path, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, method, path, "", body)
}

/// Asks over TCP, with header lines that end in CR LF each.
pub fn ask_tcp(address: &str, method: &str, path: &str, headers: &str) -> Result<Answer> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, method, path, headers, b"")
}

fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Result<Answer> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: murphy\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    // A server that refuses a body unread may have closed already: its answer counts.
    let _ = stream.write_all(body);
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.with_context(|| format!("no status: {line:?}"))?;
    let (mut media, mut chunked, mut length) = (String::new(), false, u64::MAX);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name {
            "content-type" => media = value.split(';').next().unwrap_or_default().to_owned(),
            "transfer-encoding" => chunked = value == "chunked",
            "content-length" => length = value.parse()?,
            _ => {}
        }
    }
    let mut body = String::new();
    // And no further: behind it comes the reset of a server that closes with a body unread.
    reader.take(length).read_to_string(&mut body)?;
    anyhow::ensure!(!chunked, "a stream, read to its end: {body}");
    Ok(Answer {
        status,
        media,
        body,
    })
}
