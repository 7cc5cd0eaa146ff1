//! Experiments for `chaos run`: what is murphy's own becomes calls of murphy's command.

use serde_json::{Map, Value, json};

use super::model::Experiment;
use super::providers::{murphy, probes};

/// The experiment with providers of type `process` alone, where it had murphy's.
pub fn export(experiment: &Experiment) -> Value {
    let mut said = experiment.said.clone();
    let mut stops = Vec::new();
    if let Some(hypothesis) = said.get_mut("steady-state-hypothesis") {
        lower(hypothesis.get_mut("probes"), &mut stops);
    }
    lower(said.get_mut("method"), &mut stops);
    lower(said.get_mut("rollbacks"), &mut stops);
    // What was injected last is ended first, and all of it before the file's own rollbacks.
    stops.reverse();
    if !stops.is_empty() {
        if let Some(Value::Array(own)) = said.get("rollbacks") {
            stops.extend(own.clone());
        }
        said.insert("rollbacks".to_owned(), stops.into());
    }
    said.into()
}

fn lower(activities: Option<&mut Value>, stops: &mut Vec<Value>) {
    for activity in activities
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let name = activity["name"].as_str().unwrap_or("fault").to_owned();
        let Some(Value::Object(provider)) = activity.get_mut("provider") else {
            continue;
        };
        let kind = provider
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if kind == "murphy" {
            let id = id(&name, stops.len());
            let mut words = murphy::inject(provider);
            words.extend(["--detach", "--name", &id].map(str::to_owned));
            *provider = process(words);
            stops.push(json!({
                "type": "action", "name": format!("end {name}"), "provider": process(vec!["stop".to_owned(), id]),
            }));
        } else if probes::is_kind(kind) {
            let probe = Value::Object(provider.clone()).to_string();
            *provider = process(vec!["experiment".to_owned(), "probe".to_owned(), probe]);
        }
    }
}

fn process(arguments: Vec<String>) -> Map<String, Value> {
    let mut provider = Map::new();
    provider.insert("type".to_owned(), "process".into());
    provider.insert("path".to_owned(), "murphy".into());
    provider.insert("arguments".to_owned(), arguments.into());
    provider
}

/// A name for an injection: the activity's, in letters, digits and dashes.
fn id(name: &str, number: usize) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(letter).take(40).collect();
    format!("{}-{}", name.trim_matches('-'), number + 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn faults_become_calls() {
        let said = json!({
            "title": "t", "description": "d",
            "steady-state-hypothesis": {"title": "h", "probes": [
                {"type": "probe", "name": "up", "tolerance": 0, "provider": {"type": "tcp", "port": 80}}]},
            "method": [{"type": "action", "name": "No Redis!", "provider": {
                "type": "murphy", "faults": ["connect:error=ECONNREFUSED:port=6379"],
                "target": {"unit": ["shop", "!cart"]}, "for": 60}}],
            "rollbacks": [{"type": "action", "name": "own", "provider": {"type": "process", "path": "true"}}]
        });
        let experiment = Experiment::new(Path::new("x.json"), said, Default::default()).unwrap();
        let got = export(&experiment);
        assert_eq!(
            got["method"][0]["provider"]["arguments"],
            json!([
                "inject",
                "--fault",
                "connect:error=ECONNREFUSED:port=6379",
                "--unit",
                "shop",
                "--unit",
                "!cart",
                "--for",
                "60s",
                "--detach",
                "--name",
                "no-redis-1"
            ])
        );
        assert_eq!(
            got["rollbacks"][0]["provider"]["arguments"],
            json!(["stop", "no-redis-1"])
        );
        assert_eq!(got["rollbacks"][1]["name"], "own");
        assert_eq!(
            got["steady-state-hypothesis"]["probes"][0]["provider"]["arguments"][1],
            "probe"
        );
    }
}
