//! What `OTEL_…` variables say.

use std::time::Duration;

use serde_json::{Map, Value};

/// Where spans go, and what goes with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The whole URL.
    pub(super) endpoint: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) timeout: Duration,
    /// What is said of murphy itself.
    pub(super) resource: Map<String, Value>,
    /// `TRACEPARENT`: the trace and span that this is a part of (W3C Trace Context).
    pub(super) parent: Option<(String, String)>,
}

/// A variable that cannot be followed.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{variable}={value}: {remedy}")]
pub struct SettingsError {
    variable: &'static str,
    value: String,
    remedy: &'static str,
}

/// The specification's default.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Settings {
    /// Of this process's environment; `None`: no spans are wanted.
    ///
    /// # Errors
    ///
    /// A variable says what murphy cannot do.
    pub fn from_env() -> Result<Option<Self>, SettingsError> {
        Self::of(|name| std::env::var(name).ok())
    }

    /// Of any environment. A variable that is empty counts as not set, as the specification wants.
    pub(super) fn of(
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Option<Self>, SettingsError> {
        let get = |name| variable(name).filter(|value| !value.is_empty());
        let is = |name, word: &str| get(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let whole = get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let base = get("OTEL_EXPORTER_OTLP_ENDPOINT");
        let base = base.map(|base| format!("{}/v1/traces", base.trim_end_matches('/')));
        let Some(endpoint) = whole.or(base) else {
            return Ok(None);
        };
        // The signal's own variable comes before the general one.
        let either = |own, general| match get(own) {
            Some(value) => Some((own, value)),
            None => get(general).map(|value| (general, value)),
        };
        let protocol = either(
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        );
        if let Some((variable, value)) = protocol
            && value != "http/json"
        {
            return Err(SettingsError {
                variable,
                value,
                remedy: "murphy speaks http/json, which collectors take at port 4318",
            });
        }
        let timeout = match either(
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
        ) {
            None => TIMEOUT,
            Some((variable, value)) => match value.parse() {
                Ok(millis) => Duration::from_millis(millis),
                Err(_) => {
                    return Err(SettingsError {
                        variable,
                        value,
                        remedy: "a whole number of milliseconds",
                    });
                }
            },
        };
        let headers = either(
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "OTEL_EXPORTER_OTLP_HEADERS",
        );
        let mut resource = Map::new();
        resource.insert("service.name".to_owned(), "murphy".into());
        let said = get("OTEL_RESOURCE_ATTRIBUTES");
        resource.extend(pairs(said.as_deref()).map(|(name, value)| (name, value.into())));
        if let Some(name) = get("OTEL_SERVICE_NAME") {
            resource.insert("service.name".to_owned(), name.into());
        }
        Ok(Some(Self {
            endpoint,
            headers: pairs(headers.map(|(_, value)| value).as_deref()).collect(),
            timeout,
            resource,
            parent: get("TRACEPARENT").and_then(|text| parent(&text)),
        }))
    }
}

/// `KEY=VALUE,…`, as of W3C Baggage: values are percent-encoded. What is no pair is passed over, as the specification wants.
fn pairs(text: Option<&str>) -> impl Iterator<Item = (String, String)> {
    let pairs = text.unwrap_or_default().split(',');
    pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim();
        (!name.is_empty()).then(|| (name.to_owned(), decoded(value.trim())))
    })
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut done = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = bytes.get(at + 1..at + 3);
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                done.push(code);
                at += 3;
            }
            _ => {
                done.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&done).into_owned()
}

/// `00-TRACE-SPAN-FLAGS`; anything else, or ids of zeros, is as if it were not there.
fn parent(text: &str) -> Option<(String, String)> {
    let mut parts = text.split('-');
    let (_, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let is_id = |text: &str, length| {
        text.len() == length
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            && text.bytes().any(|byte| byte != b'0')
    };
    (is_id(trace, 32) && is_id(span, 16)).then(|| (trace.to_owned(), span.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&'static str, &str)]) -> Result<Option<Settings>, SettingsError> {
        Settings::of(|name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_is_sent_unless_it_is_said_where() {
        for variables in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "x")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
                ("OTEL_SDK_DISABLED", "True"),
            ],
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
                ("OTEL_TRACES_EXPORTER", "none"),
            ],
        ] {
            assert_eq!(of(variables), Ok(None), "{variables:?}");
        }
    }

    #[test]
    fn the_signals_own_endpoint_is_taken_as_it_is() {
        let both = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://d/in"),
        ];
        let endpoint = |variables| of(variables).unwrap().unwrap().endpoint;
        assert_eq!(endpoint(&both[..1]), "http://c:4318/v1/traces");
        assert_eq!(endpoint(&both), "http://d/in");
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c");
        let grpc = of(&[base, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err();
        assert!(
            grpc.to_string()
                .contains("OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
            "{grpc}"
        );
        let late = of(&[base, ("OTEL_EXPORTER_OTLP_TIMEOUT", "1s")]).unwrap_err();
        assert!(late.to_string().contains("milliseconds"), "{late}");
    }

    #[test]
    fn pairs_are_percent_encoded() {
        let said: Vec<_> = pairs(Some("a=b%3Dc , d = e%2 ,,=x")).collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(said, [pair("a", "b=c"), pair("d", "e%2")]);
    }

    #[test]
    fn parents_are_those_of_trace_context() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let text = format!("00-{trace}-b7ad6b7169203331-01");
        assert_eq!(
            parent(&text),
            Some((trace.to_owned(), "b7ad6b7169203331".to_owned()))
        );
        for not in [
            "",
            "00-1-2-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            assert_eq!(parent(not), None, "{not}");
        }
    }
}
