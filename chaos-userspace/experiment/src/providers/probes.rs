//! Probes of murphy's own. What they give has the form of a process's: `status` 0 or 1, `stdout`, `stderr`; so a
//! tolerance of 0 means the same here and in an exported file, where each is a call of `murphy experiment probe`.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Call, Failure, http, process, seconds};
use crate::model::{Problem, join};
use crate::python_like;

/// Their types, with the fields each needs.
const KINDS: [(&str, &[&str]); 5] = [
    ("tcp", &["port"]),
    ("file", &["path"]),
    ("prometheus", &["url", "query"]),
    ("redis", &[]),
    ("postgres", &[]),
];
/// Longer files are read so far.
const LONGEST_FILE: u64 = 1 << 20;
/// How long an answer may take unless `timeout` says otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a type of provider is one of these.
pub(crate) fn is_kind(name: &str) -> bool {
    KINDS.iter().any(|(kind, _)| *kind == name)
}

/// Checks the provider's table.
pub(super) fn check(
    kind: &str,
    provider: &Map<String, Value>,
    field: &str,
    problems: &mut Vec<Problem>,
) {
    let needed = KINDS
        .iter()
        .find(|(name, _)| *name == kind)
        .map_or(&[][..], |(_, needed)| needed);
    for key in needed {
        if !provider.get(*key).is_some_and(python_like::truthy) {
            problems.push(Problem::new(
                join(field, key),
                format!("a {kind} probe has a {key}"),
            ));
        }
    }
}

/// Asks.
pub(super) fn run(kind: &str, call: &Call<'_>) -> Result<Value, Failure> {
    let said = call.names.substitute(&Value::Object(call.provider.clone()));
    let patience = match said.get("timeout").filter(|time| !time.is_null()) {
        Some(time) => seconds(time, "timeout")?,
        None => PATIENCE,
    };
    if kind == "postgres" {
        return postgres(&said, patience, call);
    }
    let kind = kind.to_owned();
    let ask = move || match kind.as_str() {
        "tcp" => tcp(&said, patience).map(drop).map(|()| String::new()),
        "file" => file(&said),
        "redis" => redis(&said, patience),
        _ => prometheus(&said, patience),
    };
    Ok(match http::interruptible(call.stop, ask)? {
        Ok(stdout) => json!({"status": 0, "stdout": stdout, "stderr": ""}),
        Err(error) => json!({"status": 1, "stdout": "", "stderr": error.to_string()}),
    })
}

fn text(said: &Value, key: &str, default: &str) -> String {
    match &said[key] {
        Value::Null => default.to_owned(),
        other => python_like::str(other),
    }
}

fn connect(host: &str, port: &str, patience: Duration) -> io::Result<TcpStream> {
    let port = port.parse::<u16>().map_err(io::Error::other)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `{type: tcp, host, port}`: somebody accepts connections.
fn tcp(said: &Value, patience: Duration) -> io::Result<TcpStream> {
    connect(
        &text(said, "host", "127.0.0.1"),
        &text(said, "port", ""),
        patience,
    )
}

/// `{type: file, path, contains?}`: its contents.
fn file(said: &Value) -> io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(text(said, "path", ""))?
        .take(LONGEST_FILE)
        .read_to_end(&mut bytes)?;
    let contents = String::from_utf8_lossy(&bytes).into_owned();
    match said["contains"].as_str() {
        Some(part) if !contents.contains(part) => Err(io::Error::other(format!(
            "the file does not contain {part:?}"
        ))),
        _ => Ok(contents),
    }
}

/// `{type: redis, host, port, password?}`: it answers PING.
fn redis(said: &Value, patience: Duration) -> io::Result<String> {
    let mut stream = connect(
        &text(said, "host", "127.0.0.1"),
        &text(said, "port", "6379"),
        patience,
    )?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut ask = |words: &[&str]| -> io::Result<String> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(request.as_bytes())?;
        let mut line = String::new();
        answers.read_line(&mut line)?;
        match line.trim_end().strip_prefix('+') {
            Some(good) => Ok(good.to_owned()),
            None => Err(io::Error::other(format!(
                "redis says {:?}",
                line.trim_end()
            ))),
        }
    };
    if let Some(password) = said["password"].as_str() {
        ask(&["AUTH", password])?;
    }
    ask(&["PING"])
}

/// `{type: prometheus, url, query}`: the first value that a query gives.
fn prometheus(said: &Value, patience: Duration) -> io::Result<String> {
    let url = format!(
        "{}/api/v1/query",
        text(said, "url", "").trim_end_matches('/')
    );
    let answer =
        http::get(&url, &json!({"query": said["query"]}), patience).map_err(io::Error::other)?;
    let result = &answer["data"]["result"];
    let value = match answer["data"]["resultType"].as_str() {
        Some("scalar" | "string") => &result[1],
        _ => &result[0]["value"][1],
    };
    match value.as_str() {
        Some(value) => Ok(value.to_owned()),
        None => Err(io::Error::other(match answer["error"].as_str() {
            Some(error) => format!("Prometheus says: {error}"),
            None => "the query gives nothing".to_owned(),
        })),
    }
}

/// `{type: postgres, host, port, user, database, password?, query}`: what psql gives for a query, `select 1` unless said
/// otherwise. psql knows every way to log in.
fn postgres(said: &Value, patience: Duration, call: &Call<'_>) -> Result<Value, Failure> {
    let Some(psql) = process::which("psql") else {
        return Err(Failure::Failed(
            "psql is not on PATH: install PostgreSQL's client".to_owned(),
        ));
    };
    let mut command = Command::new(psql);
    command
        .args(["-X", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-c"])
        .arg(text(said, "query", "select 1"))
        .env("PGCONNECT_TIMEOUT", patience.as_secs().max(2).to_string());
    for (key, variable) in [
        ("host", "PGHOST"),
        ("port", "PGPORT"),
        ("user", "PGUSER"),
        ("database", "PGDATABASE"),
        ("password", "PGPASSWORD"),
    ] {
        if !said[key].is_null() {
            command.env(variable, text(said, key, ""));
        }
    }
    match process::output(command, Some(patience), call.stop) {
        Ok((status, stdout, stderr)) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
            Ok(json!({
                "status": i32::from(!status.success()), "stdout": text(&stdout), "stderr": text(&stderr),
            }))
        }
        Err(Failure::Failed(late)) => Ok(json!({"status": 1, "stdout": "", "stderr": late})),
        Err(other) => Err(other),
    }
}
