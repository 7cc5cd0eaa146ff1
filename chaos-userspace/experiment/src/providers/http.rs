//! `http`: a request, and what came back.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Map, Value, json};
use ureq::http::{HeaderMap, HeaderValue, Request};
use ureq::{Agent, Timeout};

use super::{Call, Failure, seconds};
use crate::model::{Problem, join};
use crate::python_like;
use crate::stop::Stop;
use crate::tls;

/// How often a request under way looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);
/// Longer bodies are cut off by an error: a journal is no archive.
const LONGEST_BODY: u64 = 64 << 20;

/// Sends the request and reads the whole answer.
pub(super) fn run(call: &Call<'_>) -> Result<Value, Failure> {
    let method = call.provider.get("method").and_then(Value::as_str);
    let method = method.unwrap_or("GET").to_uppercase();
    let url = call.field("url").as_ref().map(python_like::str);
    let url = url.ok_or_else(|| Failure::Broken("a HTTP activity has a url".to_owned()))?;
    let headers = call.field("headers");
    let flag = |name: &str, default| {
        let value = call.provider.get(name).and_then(Value::as_bool);
        value.unwrap_or(default)
    };
    let retries = call.provider.get("max_retries").and_then(Value::as_u64);
    let mut agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(30)
        .allow_non_standard_methods(true)
        .user_agent(concat!("murphy/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls::config(flag("verify_tls", true)));
    match call.field("timeout") {
        None | Some(Value::Null) => {}
        Some(Value::Array(both)) => {
            if let [connect, read] = both.as_slice() {
                agent = agent
                    .timeout_connect(Some(seconds(connect, "timeout")?))
                    .timeout_recv_response(Some(seconds(read, "timeout")?))
                    .timeout_per_read(Some(seconds(read, "timeout")?));
            }
        }
        Some(one) => {
            let time = Some(seconds(&one, "timeout")?);
            agent = agent
                .timeout_connect(time)
                .timeout_recv_response(time)
                .timeout_per_read(time);
        }
    }
    let request = request(&method, &url, headers.as_ref(), call.arguments())?;
    let agent = agent.build().new_agent();
    let work = move || send(&agent, &request, retries.unwrap_or(0));
    interruptible(call.stop, work)?.map_err(|error| match error {
        Sent::Ureq(error) => failure(&url, &error),
        Sent::Body(text) => Failure::Broken(text),
    })
}

/// A request whose body is sent as often as it takes.
struct Prepared {
    head: Request<()>,
    body: Option<Vec<u8>>,
}

enum Sent {
    Ureq(ureq::Error),
    Body(String),
}

/// The request as Chaos Toolkit makes it: arguments are the query of a GET, JSON if the content type is
/// exactly that, else a form.
fn request(
    method: &str,
    url: &str,
    headers: Option<&Value>,
    arguments: Option<Value>,
) -> Result<Prepared, Failure> {
    let broken = |error: ureq::http::Error| Failure::Broken(format!("{url}: {error}"));
    let arguments = arguments.filter(python_like::truthy);
    let headers = headers.and_then(Value::as_object);
    let content_type = headers.and_then(|headers| headers.get("Content-Type"));
    let is_json = content_type.and_then(Value::as_str) == Some("application/json");
    let mut url = url.to_owned();
    let mut body = None;
    let mut form = false;
    match arguments {
        None => {}
        Some(arguments) if method == "GET" => {
            let query = match &arguments {
                Value::String(text) => text.clone(),
                other => encoded(other),
            };
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&query);
        }
        Some(arguments) if is_json => body = Some(arguments.to_string().into_bytes()),
        Some(Value::String(text)) => body = Some(text.into_bytes()),
        Some(arguments) => {
            form = true;
            body = Some(encoded(&arguments).into_bytes());
        }
    }
    let mut head = Request::builder().method(method).uri(&url);
    for (name, value) in headers
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null())
    {
        head = head.header(name, python_like::str(value));
    }
    if form && content_type.is_none() {
        head = head.header("Content-Type", "application/x-www-form-urlencoded");
    }
    Ok(Prepared {
        head: head.body(()).map_err(broken)?,
        body,
    })
}

/// A table as `application/x-www-form-urlencoded`: null is left out, a list is its items by turns.
fn encoded(arguments: &Value) -> String {
    let mut words = Vec::new();
    for (key, value) in arguments.as_object().into_iter().flatten() {
        let values = match value {
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values.iter().filter(|value| !value.is_null()) {
            words.push(format!("{}={}", plus(key), plus(&python_like::str(value))));
        }
    }
    words.join("&")
}

/// Percent-encodes as Python's `quote_plus`.
fn plus(text: &str) -> String {
    let mut done = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => done.push('+'),
            b'_' | b'.' | b'-' | b'~' => done.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => done.push(byte.into()),
            byte => done.push_str(&format!("%{byte:02X}")),
        }
    }
    done
}

/// Sends it, again after a failed connect as often as asked, and reads the answer.
fn send(agent: &Agent, prepared: &Prepared, retries: u64) -> Result<Value, Sent> {
    let mut tries = 0;
    let mut response = loop {
        let head = prepared.head.clone();
        let sent = match &prepared.body {
            Some(body) => {
                let (parts, ()) = head.into_parts();
                agent.run(Request::from_parts(parts, body.as_slice()))
            }
            None => agent.run(head),
        };
        match sent {
            Err(_) if tries < retries => tries += 1,
            other => break other.map_err(Sent::Ureq)?,
        }
    };
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let bytes = response
        .body_mut()
        .with_config()
        .limit(LONGEST_BODY)
        .read_to_vec()
        .map_err(Sent::Ureq)?;
    let content_type = headers.get("content-type").map(HeaderValue::as_bytes);
    let body = match content_type {
        Some(b"application/json") => serde_json::from_slice(&bytes)
            .map_err(|error| Sent::Body(format!("the body is said to be JSON, but: {error}")))?,
        other => Value::String(text(&bytes, other.unwrap_or_default())),
    };
    Ok(json!({"status": status, "headers": shown(&headers), "body": body}))
}

/// Headers as a table. The library keeps names in small letters; most servers and all journals of Chaos
/// Toolkit write `Content-Type`.
fn shown(headers: &HeaderMap) -> Map<String, Value> {
    let mut table = Map::new();
    for (name, value) in headers {
        let words: Vec<_> = name
            .as_str()
            .split('-')
            .map(|word| {
                let (first, rest) = word.split_at(word.len().min(1));
                format!("{}{rest}", first.to_uppercase())
            })
            .collect();
        let name = match name.as_str() {
            "etag" => "ETag".to_owned(),
            "www-authenticate" => "WWW-Authenticate".to_owned(),
            _ => words.join("-"),
        };
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        match table.get_mut(&name) {
            Some(Value::String(before)) => {
                before.push_str(", ");
                before.push_str(&value);
            }
            _ => {
                table.insert(name, value.into());
            }
        }
    }
    table
}

/// The text of a body: UTF-8 where it is, else one byte a letter, which is what HTTP meant at first.
fn text(bytes: &[u8], content_type: &[u8]) -> String {
    let content_type = String::from_utf8_lossy(content_type).to_lowercase();
    let latin = content_type.contains("text") && !content_type.contains("charset")
        || content_type.contains("iso-8859-1");
    match latin {
        true => bytes.iter().map(|byte| char::from(*byte)).collect(),
        false => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn failure(url: &str, error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
            Failure::Failed(format!("failed to connect to {url}: timed out"))
        }
        ureq::Error::Timeout(_) => Failure::Failed("activity took too long to complete".to_owned()),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            Failure::Broken(format!("{url} is no URL: {error}"))
        }
        other => Failure::Failed(format!("failed to connect to {url}: {other}")),
    }
}

/// Does blocking work on a thread of its own, which is left alone when the experiment is to stop.
pub(super) fn interruptible<T: Send + 'static>(
    stop: &Stop,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let (give, take) = channel();
    std::thread::Builder::new()
        .name("request".to_owned())
        .spawn(move || {
            // Nobody listens any more once the experiment has stopped.
            let _ = give.send(work());
        })
        .map_err(|error| Failure::Broken(format!("starting a thread: {error}")))?;
    loop {
        match take.recv_timeout(LOOK) {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(reason) = stop.reason() {
                    return Err(Failure::Stopped(reason));
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Broken("the request's thread ended".to_owned()));
            }
        }
    }
}

/// What a GET gives, if that is JSON.
pub(super) fn get(url: &str, arguments: &Value, patience: Duration) -> Result<Value, String> {
    let failed = |failure: Failure| failure.to_string();
    let prepared = request("GET", url, None, Some(arguments.clone())).map_err(failed)?;
    let agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(patience))
        .tls_config(tls::config(true))
        .build()
        .new_agent();
    match send(&agent, &prepared, 0) {
        Ok(mut answer) => match answer["body"].take() {
            Value::String(text) => serde_json::from_str(&text).map_err(|error| error.to_string()),
            json => Ok(json),
        },
        Err(Sent::Ureq(error)) => Err(error.to_string()),
        Err(Sent::Body(text)) => Err(text),
    }
}

/// Checks the provider's table.
pub(super) fn check(provider: &Map<String, Value>, field: &str, problems: &mut Vec<Problem>) {
    let mut wrong = |key: &str, text: String| problems.push(Problem::new(join(field, key), text));
    if !provider.get("url").is_some_and(python_like::truthy) {
        wrong("url", "a HTTP activity has a url".to_owned());
    }
    if let Some(headers) = provider.get("headers")
        && python_like::truthy(headers)
        && !headers.is_object()
    {
        wrong(
            "headers",
            format!("expected a table of names and values, not {headers}"),
        );
    }
}
