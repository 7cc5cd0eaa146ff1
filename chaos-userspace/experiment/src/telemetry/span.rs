//! Spans, as OTLP's JSON has them.

use chaos_common::decide::mix;
use serde_json::{Map, Value, json};

use super::settings::Settings;

/// A trace of which spans are made: their ids, and what they are a part of.
#[derive(Clone, Debug)]
pub struct Context {
    trace: String,
    parent: Option<String>,
    seed: u64,
    made: u64,
}

/// Something that took a time.
#[derive(Clone, Debug)]
pub struct Span {
    trace: String,
    id: String,
    parent: Option<String>,
    name: String,
    /// ns since 1970.
    start: u64,
    end: u64,
    attributes: Map<String, Value>,
    /// Why it failed.
    error: Option<String>,
}

impl Context {
    /// Continues the trace that `settings` name, or begins one. `seed` makes the ids.
    pub fn new(settings: Option<&Settings>, seed: u64) -> Self {
        let parent = settings.and_then(|settings| settings.parent.clone());
        let (trace, parent) = match parent {
            Some((trace, span)) => (trace, Some(span)),
            None => (
                format!("{:016x}{:016x}", mix(seed, 1).max(1), mix(seed, 2)),
                None,
            ),
        };
        Self {
            trace,
            parent,
            seed,
            made: 2,
        }
    }

    /// A span of the trace; times are ns since 1970.
    pub fn span(&mut self, name: impl Into<String>, start: u64, end: u64) -> Span {
        self.made += 1;
        Span {
            trace: self.trace.clone(),
            // All zeros is no id.
            id: format!("{:016x}", mix(self.seed, self.made).max(1)),
            parent: self.parent.clone(),
            name: name.into(),
            start,
            end: end.max(start),
            attributes: Map::new(),
            error: None,
        }
    }

    /// A span within another.
    pub fn child(&mut self, of: &Span, name: impl Into<String>, start: u64, end: u64) -> Span {
        let mut span = self.span(name, start, end);
        span.parent = Some(of.id.clone());
        span
    }
}

impl Span {
    /// Says something of it; null says nothing.
    pub fn attribute(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        if !value.is_null() {
            self.attributes.insert(name.to_owned(), value);
        }
    }

    /// Says when it ended, if not when it began.
    pub fn ends(&mut self, end: u64) {
        self.end = end.max(self.start);
    }

    /// Says that it failed, and why.
    pub fn failed(&mut self, why: impl Into<String>) {
        self.error = Some(why.into());
    }

    pub(super) fn json(&self) -> Value {
        let mut span = json!({
            "traceId": self.trace,
            "spanId": self.id,
            "name": self.name,
            // SPAN_KIND_INTERNAL
            "kind": 1,
            // 64-bit numbers are text in JSON.
            "startTimeUnixNano": self.start.to_string(),
            "endTimeUnixNano": self.end.to_string(),
            "attributes": attributes(&self.attributes),
            // STATUS_CODE_OK, STATUS_CODE_ERROR
            "status": match &self.error {
                None => json!({ "code": 1 }),
                Some(why) => json!({ "code": 2, "message": why }),
            },
        });
        if let Some(parent) = &self.parent {
            span["parentSpanId"] = parent.as_str().into();
        }
        span
    }
}

/// Attributes as `KeyValue`s.
pub(super) fn attributes(attributes: &Map<String, Value>) -> Value {
    let pair = |(name, value): (&String, &Value)| json!({ "key": name, "value": any(value) });
    attributes.iter().map(pair).collect()
}

/// An `AnyValue`.
fn any(value: &Value) -> Value {
    match value {
        Value::Bool(value) => json!({ "boolValue": value }),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => json!({ "intValue": whole.to_string() }),
            None => json!({ "doubleValue": number.as_f64() }),
        },
        Value::String(text) => json!({ "stringValue": text }),
        Value::Array(items) => {
            json!({ "arrayValue": { "values": items.iter().map(any).collect::<Vec<_>>() } })
        }
        other => json!({ "stringValue": other.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal_and_differ() {
        let mut context = Context::new(None, 3);
        let (one, two) = (context.span("a", 1, 2), context.span("b", 3, 1));
        assert_eq!((one.trace.len(), one.id.len()), (32, 16));
        assert_eq!(one.trace, two.trace);
        assert_ne!(one.id, two.id);
        // A clock that was set back makes no span of negative length.
        assert_eq!(two.json()["endTimeUnixNano"], "3");
    }

    #[test]
    fn values_have_their_types() {
        let mut span = Context::new(None, 3).span("a", 1, 2);
        span.attribute("b", true);
        span.attribute("i", 5);
        span.attribute("f", 0.5);
        span.attribute("n", Value::Null);
        span.attribute("l", json!(["x"]));
        span.failed("why");
        let json = span.json();
        let expected = json!([
            { "key": "b", "value": { "boolValue": true } },
            { "key": "f", "value": { "doubleValue": 0.5 } },
            { "key": "i", "value": { "intValue": "5" } },
            { "key": "l", "value": { "arrayValue": { "values": [{ "stringValue": "x" }] } } },
        ]);
        let mut got = json["attributes"].as_array().cloned().unwrap_or_default();
        got.sort_by_key(|pair| pair["key"].to_string());
        assert_eq!(Value::from(got), expected);
        assert_eq!(json["status"], json!({ "code": 2, "message": "why" }));
    }
}
