//! Spans for OpenTelemetry: experiments with their activities, and the windows in which faults were in force.
//!
//! Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set. The spans are sent when all is over
//! and reverted, in one request: OTLP over HTTP, encoded as JSON (OTLP specification 1.x, "JSON Protobuf Encoding"), which every
//! collector takes at `/v1/traces`. What the variables mean is OpenTelemetry's own ("OpenTelemetry Environment Variable
//! Specification", "OpenTelemetry Protocol Exporter").

mod journal;
mod settings;
mod span;

use std::time::Duration;

use serde_json::json;
use ureq::Agent;

pub use journal::of_journal;
pub use settings::{Settings, SettingsError};
pub use span::{Context, Span};

use crate::tls;

/// Spans that nobody got. What they tell of has happened all the same.
#[derive(Debug, thiserror::Error)]
#[error("the spans were not sent to {to}: {why}")]
pub struct ExportError {
    to: String,
    why: String,
}

/// Sends spans of one trace.
///
/// # Errors
///
/// Nobody took them, within the time that the settings give.
pub fn export(settings: &Settings, spans: &[Span]) -> Result<(), ExportError> {
    let failed = |why: String| ExportError {
        to: settings.endpoint.clone(),
        why,
    };
    let body = json!({ "resourceSpans": [{
        "resource": { "attributes": span::attributes(&settings.resource) },
        "scopeSpans": [{
            "scope": { "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") },
            "spans": spans.iter().map(Span::json).collect::<Vec<_>>(),
        }],
    }] });
    let mut request = agent(settings.timeout)
        .post(&settings.endpoint)
        .header("Content-Type", "application/json");
    for (name, value) in &settings.headers {
        request = request.header(name, value);
    }
    request
        .send(body.to_string())
        .map_err(|error| failed(error.to_string()))?;
    Ok(())
}

fn agent(timeout: Duration) -> Agent {
    Agent::config_builder()
        .timeout_global(Some(timeout))
        .tls_config(tls::config(true))
        .build()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;

    /// Takes one request and gives its head and body.
    fn collector(listener: &TcpListener) -> (String, Value) {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line == "\r\n" {
                break;
            }
            let lower = line.to_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&lower);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            .unwrap();
        (head, serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn a_collector_gets_the_spans() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || collector(&listener));
        let settings = Settings::of(|name| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
            "OTEL_EXPORTER_OTLP_HEADERS" => Some("api-key=a%20b".to_owned()),
            "OTEL_RESOURCE_ATTRIBUTES" => Some("deployment.environment.name=ci".to_owned()),
            _ => None,
        });
        let settings = settings.unwrap().unwrap();
        let mut context = Context::new(None, 7);
        let mut root = context.span("murphy inject", 5, 9);
        root.attribute("murphy.fault", "write:error=EIO");
        let child = context.child(&root, "window", 6, 8);
        export(&settings, &[root, child]).unwrap();
        let (head, body) = served.join().unwrap();
        assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
        assert!(head.contains("api-key: a b"), "{head}");
        let resource = &body["resourceSpans"][0];
        let spans = &resource["scopeSpans"][0]["spans"];
        assert_eq!(spans[0]["name"], "murphy inject");
        assert_eq!(spans[0]["endTimeUnixNano"], "9");
        assert_eq!(spans[1]["parentSpanId"], spans[0]["spanId"]);
        assert_eq!(spans[1]["traceId"], spans[0]["traceId"]);
        let said = resource["resource"]["attributes"].to_string();
        assert!(said.contains("deployment.environment.name"), "{said}");
    }

    #[test]
    fn a_collector_that_is_not_there_is_named() {
        let settings = Settings::of(|name| {
            let set = name == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
            set.then(|| "http://127.0.0.1:1/x".to_owned())
        });
        let error = export(&settings.unwrap().unwrap(), &[]).unwrap_err();
        assert!(
            error.to_string().contains("http://127.0.0.1:1/x"),
            "{error}"
        );
    }
}
