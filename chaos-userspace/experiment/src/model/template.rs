//! A second spelling of experiments (ZTOQ's template): `name`, `hypothesis`, `steady_state`, `rollback`.

use serde_json::{Map, Value};

use crate::python_like;

/// Turns the second spelling into the first. Keys that are said in the first already are left alone.
pub(super) fn translate(said: &mut Map<String, Value>) {
    let is_template = said.contains_key("steady_state")
        || (said.contains_key("name") && !said.contains_key("title"));
    if !is_template {
        return;
    }
    rename(said, "name", "title");
    rename(said, "rollback", "rollbacks");
    let expected = said.shift_remove("hypothesis");
    if let Some(Value::Object(mut state)) = said.shift_remove("steady_state") {
        // What is expected to happen is the hypothesis; what is measured is its probes.
        if let Some(expected) = &expected {
            for key in ["title", "description"] {
                if let Some(text) = expected.get(key) {
                    state.insert(key.to_owned(), text.clone());
                }
            }
        }
        said.entry("steady-state-hypothesis")
            .or_insert(state.into());
    } else if let Some(expected) = expected {
        said.entry("steady-state-hypothesis").or_insert(expected);
    }
    let hypothesis = said.get_mut("steady-state-hypothesis");
    for probe in list(hypothesis.and_then(|table| table.get_mut("probes"))) {
        lift(probe, "probe");
        let missing = probe.get("tolerance").is_none();
        if let Some(fields) = probe.as_object_mut().filter(|_| missing) {
            // An answer, or an exit status, that means success.
            let http = fields.get("provider").is_some_and(|p| p["type"] == "http");
            fields.insert("tolerance".to_owned(), if http { 200 } else { 0 }.into());
        }
    }
    for key in ["method", "rollbacks"] {
        for activity in list(said.get_mut(key)) {
            lift(activity, "action");
        }
    }
}

fn rename(said: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = said.shift_remove(from) {
        said.entry(to).or_insert(value);
    }
}

fn list(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value.and_then(Value::as_array_mut).into_iter().flatten()
}

/// `{name, type: http, url: …}` is a probe whose provider is of that type; `provider: NAME` with its fields
/// beside it likewise.
fn lift(activity: &mut Value, kind: &str) {
    let Some(fields) = activity.as_object_mut() else {
        return;
    };
    let said_type = fields
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let plain = !matches!(said_type, "probe" | "action") && python_like::truthy(&said_type.into());
    let named = fields.get("provider").and_then(Value::as_str);
    let Some(provider_type) = named
        .map(str::to_owned)
        .or(plain.then(|| said_type.to_owned()))
    else {
        return;
    };
    let own = [
        "name",
        "tolerance",
        "background",
        "pauses",
        "controls",
        "dry",
        "type",
        "provider",
    ];
    let mut provider = Map::new();
    provider.insert("type".to_owned(), provider_type.into());
    let others: Vec<String> = fields
        .keys()
        .filter(|key| !own.contains(&key.as_str()))
        .cloned()
        .collect();
    for key in others {
        if let Some(value) = fields.shift_remove(&key) {
            provider.insert(key, value);
        }
    }
    if plain || !fields.contains_key("type") {
        fields.insert("type".to_owned(), kind.into());
    }
    fields.insert("provider".to_owned(), provider.into());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_second_spelling() {
        let mut said = json!({
            "name": "Experiment", "description": "d",
            "hypothesis": {"title": "it holds", "description": "more"},
            "steady_state": {"title": "normal", "probes": [{"name": "api", "type": "http", "url": "http://a"}]},
            "method": [{"type": "action", "name": "hit", "provider": "process", "path": "true"}],
            "rollback": [{"type": "action", "name": "undo", "provider": "process", "path": "true"}]
        });
        translate(said.as_object_mut().unwrap());
        assert_eq!(
            said,
            json!({
                "title": "Experiment", "description": "d",
                "steady-state-hypothesis": {"title": "it holds", "description": "more", "probes": [
                    {"name": "api", "type": "probe", "provider": {"type": "http", "url": "http://a"}, "tolerance": 200}
                ]},
                "method": [{"type": "action", "name": "hit", "provider": {"type": "process", "path": "true"}}],
                "rollbacks": [{"type": "action", "name": "undo", "provider": {"type": "process", "path": "true"}}]
            })
        );
    }

    #[test]
    fn the_first_is_left_alone() {
        let said = json!({"title": "t", "hypothesis": 1, "rollback": 2});
        let mut same = said.clone();
        translate(same.as_object_mut().unwrap());
        assert_eq!(same, said);
    }
}
