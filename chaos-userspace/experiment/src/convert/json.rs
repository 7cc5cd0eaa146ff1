//! Toxiproxy's JSON: its configuration, `GET /proxies`, lists of toxics; and the maps of named presets that are passed off as one.

use serde_json::{Map, Value};

use super::toxic::{self, Toxic};
use super::{Conversion, ConvertError, Mistake, Upstream};

/// Whether a block of a document is one of the shapes read here.
pub(super) fn is_known(value: &Value) -> bool {
    let known = |value: &Value| is_proxy(value) || is_toxic(value);
    match value {
        Value::Array(items) => !items.is_empty() && items.iter().all(known),
        Value::Object(map) => !map.is_empty() && (known(value) || map.values().all(known)),
        _ => false,
    }
}

fn is_proxy(value: &Value) -> bool {
    value.get("upstream").is_some_and(Value::is_string) && value.get("type").is_none()
}

fn is_toxic(value: &Value) -> bool {
    value
        .get("type")
        .and_then(Value::as_str)
        .is_some_and(|kind| {
            value.get("attributes").is_some()
                || value.get("toxicity").is_some()
                || toxic::KINDS.contains(&kind)
        })
}

/// Reads one value of a known shape.
pub(super) fn read(
    value: &Value,
    default: Option<&Upstream>,
    done: &mut Conversion,
) -> Result<(), ConvertError> {
    if !is_known(value) {
        let shown: String = value.to_string().chars().take(60).collect();
        return Err(ConvertError::Shape(shown));
    }
    match value {
        Value::Array(items) => {
            for item in items {
                one(None, item, default, done);
            }
        }
        Value::Object(map) if is_proxy(value) || is_toxic(value) => {
            one(None, &Value::Object(map.clone()), default, done);
        }
        Value::Object(map) => presets(map, default, done),
        _ => {}
    }
    Ok(())
}

/// Name → toxic is nothing that Toxiproxy reads; name → proxy is what `GET /proxies` gives.
fn presets(map: &Map<String, Value>, default: Option<&Upstream>, done: &mut Conversion) {
    if let Some((name, first)) = map.iter().find(|(_, value)| is_toxic(value)) {
        let kind = first.get("type").and_then(Value::as_str).unwrap_or("…");
        done.mistakes.push(Mistake {
            line: None,
            said: format!("{{\"{name}\": {{\"type\": \"{kind}\", …}}}}"),
            wrong: "a map of names to toxics is no Toxiproxy file; it is read as named presets here".to_owned(),
            right: "Toxiproxy reads [{\"name\", \"listen\", \"upstream\", \"enabled\"}]; toxics are added by POST \
                    /proxies/NAME/toxics"
                .to_owned(),
        });
    }
    for (name, value) in map {
        one(Some(name), value, default, done);
    }
}

fn one(name: Option<&str>, value: &Value, default: Option<&Upstream>, done: &mut Conversion) {
    let said = value.get("name").and_then(Value::as_str).or(name);
    if !is_proxy(value) {
        if let Some(toxic) = toxic(said, value, default.cloned()) {
            toxic.convert(done);
        }
        return;
    }
    let name = said.unwrap_or("proxy");
    let address = value.get("upstream").and_then(Value::as_str).unwrap_or("");
    let service: Upstream = match address.parse() {
        Ok(service) => service,
        Err(wrong) => {
            done.mistakes.push(Mistake {
                line: None,
                said: format!("{name}: upstream {address}"),
                wrong,
                right: "HOST:PORT of the service itself".to_owned(),
            });
            return;
        }
    };
    let enabled = value.get("enabled").and_then(Value::as_bool);
    if enabled == Some(false) {
        done.faults.push(toxic::disabled(name, &service, None));
    }
    let toxics = value.get("toxics").and_then(Value::as_array);
    let toxics = toxics.map_or(&[][..], Vec::as_slice);
    for value in toxics {
        let given = value.get("name").and_then(Value::as_str);
        let kind = value.get("type").and_then(Value::as_str).unwrap_or("toxic");
        let full = given.map_or_else(|| format!("{name}_{kind}"), str::to_owned);
        if let Some(toxic) = toxic(Some(&full), value, Some(service.clone())) {
            toxic.convert(done);
        }
    }
    if toxics.is_empty() && enabled != Some(false) {
        done.without_equivalent.push(super::Missing {
            name: name.to_owned(),
            line: None,
            why: format!("a proxy without toxics does nothing but stand between; murphy hits connections to {address} themselves"),
            nearest: "point the program at the service, not at the proxy".to_owned(),
        });
    }
}

fn toxic(name: Option<&str>, value: &Value, service: Option<Upstream>) -> Option<Toxic> {
    let kind = value.get("type").and_then(Value::as_str)?;
    let attributes = value.get("attributes").and_then(Value::as_object);
    Some(Toxic {
        name: name.map_or_else(|| kind.to_owned(), str::to_owned),
        kind: kind.to_owned(),
        upstream: value.get("stream").and_then(Value::as_str) == Some("upstream"),
        toxicity: value.get("toxicity").and_then(Value::as_f64),
        attributes: attributes.cloned().unwrap_or_default(),
        service,
        line: None,
        comment: String::new(),
    })
}
