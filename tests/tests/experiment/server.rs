//! A web server for probes: what it answers is in the path.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

/// Its address, `http://127.0.0.1:PORT`; it is started with the first question.
pub(crate) fn url() -> Result<&'static str> {
    static URL: OnceLock<String> = OnceLock::new();
    if let Some(url) = URL.get() {
        return Ok(url);
    }
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let url = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || drop(answer(stream)));
        }
    });
    Ok(URL.get_or_init(|| url))
}

fn answer(mut stream: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let (mut length, mut kind, mut extra) = (0, String::new(), String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.trim().parse()?,
            "content-type" => value.trim().clone_into(&mut kind),
            "x-extra" => value.trim().clone_into(&mut extra),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = target.split('?').next().unwrap_or_default();
    let (mut status, mut content, mut more) = (200, "text/plain; charset=utf-8", String::new());
    let text = match path {
        "/json" => {
            content = "application/json";
            json!({"status": "ok", "items": [{"n": 1}, {"n": 2}, {"n": 3}]}).to_string()
        }
        "/json-charset" => {
            content = "application/json; charset=utf-8";
            "{\"n\": 1}".to_owned()
        }
        "/not-json" => {
            content = "application/json";
            "{".to_owned()
        }
        "/echo" => {
            content = "application/json";
            let text = String::from_utf8_lossy(&body);
            let json = serde_json::from_str::<Value>(&text).ok();
            let body = json.filter(Value::is_object).unwrap_or_else(|| text.into());
            json!({"method": method, "target": target, "body": body, "type": kind, "extra": extra})
                .to_string()
        }
        "/latin" => {
            content = "text/plain";
            "caf\u{e9}".to_owned()
        }
        "/slow" => {
            thread::sleep(Duration::from_secs(2));
            "late".to_owned()
        }
        "/redirect" => {
            status = 302;
            more = "Location: /json\r\n".to_owned();
            String::new()
        }
        path => {
            status = path
                .strip_prefix("/status/")
                .and_then(|s| s.parse().ok())
                .unwrap_or(404);
            format!("status {status}")
        }
    };
    write!(
        stream,
        "HTTP/1.1 {status} Said\r\nContent-Type: {content}\r\nContent-Length: {}\r\nX-Case: a b\r\n{more}Connection: close\r\n\r\n{text}",
        text.len()
    )?;
    Ok(())
}
