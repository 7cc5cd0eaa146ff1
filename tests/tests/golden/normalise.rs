//! Replaces what differs from run to run and from machine to machine.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Keys whose values differ. A number becomes `<number>`, a text `<text>`; lists and objects keep
/// their shape.
const VARYING: [&str; 34] = [
    "argv",
    "armed_at_ns",
    "boot",
    "cgroup",
    "comm",
    "duration",
    "elapsed_ns",
    "end",
    "exe",
    "guardian",
    "id",
    "lease_left_s",
    "left_s",
    "missed",
    "node",
    "of",
    "owner",
    "pid",
    "platform",
    "processes",
    "rollback_seconds",
    "seconds",
    "share_percent",
    "start",
    "started",
    "started_boot_ns",
    "started_ns",
    "started_unix",
    "targets",
    "tid",
    "time_ns",
    "uid",
    "undone",
    "version",
];

/// A JSON document without what varies, a line for each value. Texts that name a place or a number of
/// this run are replaced by `words`.
pub(crate) fn document(value: &Value, words: &[(&str, &str)]) -> String {
    let mut value = value.clone();
    normalise(&mut value, false, words);
    format!("{value:#}\n")
}

fn normalise(value: &mut Value, varies: bool, words: &[(&str, &str)]) {
    match value {
        Value::Number(_) if varies => *value = "<number>".into(),
        Value::String(_) if varies => *value = "<text>".into(),
        Value::String(text) => {
            for (from, to) in words {
                *text = text.replace(from, to);
            }
        }
        Value::Array(entries) => {
            for entry in entries {
                normalise(entry, varies, words);
            }
        }
        Value::Object(fields) => {
            for (key, entry) in fields {
                normalise(entry, varies || VARYING.contains(&key.as_str()), words);
            }
        }
        _ => {}
    }
}

/// The shape of a document: every value by its type, all entries of a list as one.
pub(crate) fn shape(value: &Value) -> String {
    format!("{:#}\n", outline(std::slice::from_ref(value)))
}

fn outline(values: &[Value]) -> Value {
    let objects: Vec<&Map<String, Value>> = values.iter().filter_map(Value::as_object).collect();
    let arrays: Vec<&Vec<Value>> = values.iter().filter_map(Value::as_array).collect();
    if !objects.is_empty() {
        let mut fields: BTreeMap<&String, Vec<Value>> = BTreeMap::new();
        for (key, value) in objects.into_iter().flatten() {
            fields.entry(key).or_default().push(value.clone());
        }
        let fields = fields.into_iter();
        return fields
            .map(|(key, values)| (key.clone(), outline(&values)))
            .collect::<Map<_, _>>()
            .into();
    }
    if !arrays.is_empty() {
        let entries: Vec<Value> = arrays.into_iter().flatten().cloned().collect();
        // What is empty on one machine holds texts on another.
        return if entries.iter().any(Value::is_object) {
            vec![outline(&entries)].into()
        } else {
            "<list>".into()
        };
    }
    // What is null on one machine is a text on another.
    match values.iter().find(|value| !value.is_null()) {
        Some(Value::Bool(_)) => "<bool>".into(),
        Some(Value::Number(_)) => "<number>".into(),
        _ => "<text>".into(),
    }
}
