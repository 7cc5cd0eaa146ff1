//! A converted fault as an experiment of the Chaos Toolkit, in the form that `chaos run` and `murphy experiment run` both take.

use serde_json::{Value, json};

use super::Converted;

/// The experiment: the application is healthy, the fault is injected, it still is, the fault is taken back.
///
/// Whom to hit and how to ask for health are its `configuration`: the text converted did not know them.
pub fn experiment(item: &Converted) -> Value {
    let name = id(&item.name);
    let mut inject = vec!["inject".to_owned()];
    for fault in &item.faults {
        inject.extend(["-e".to_owned(), fault.clone()]);
    }
    let rest = [
        "${target}",
        "--for",
        "${fault_for}",
        "--detach",
        "--json",
        "--name",
    ];
    inject.extend(rest.map(str::to_owned));
    inject.push(name.clone());
    let mut description = format!("{}.", capital(&item.what));
    for difference in &item.differences {
        description += &format!(" {}.", capital(difference));
    }
    json!({
        "title": format!("{}: the application bears it", item.name),
        "description": description,
        "tags": ["murphy", "converted"],
        "configuration": {
            "target": { "type": "env", "key": "MURPHY_TARGET", "default": "--comm=app" },
            "fault_for": { "type": "env", "key": "MURPHY_FOR", "default": "60s" },
            "app_url": { "type": "env", "key": "APP_URL", "default": "http://127.0.0.1:8000/health" },
        },
        "steady-state-hypothesis": {
            "title": "the application answers",
            "probes": [{
                "type": "probe",
                "name": "app-answers",
                "tolerance": 200,
                "provider": { "type": "http", "url": "${app_url}", "timeout": 10 },
            }],
        },
        "method": [
            {
                "type": "action",
                "name": format!("inject-{name}"),
                "provider": { "type": "process", "path": "murphy", "arguments": inject, "timeout": 60 },
                "pauses": { "after": 5 },
            },
            {
                "type": "probe",
                "name": "fault-is-active",
                "tolerance": 0,
                "provider": {
                    "type": "process", "path": "murphy", "arguments": ["status", "--id", name, "--json"], "timeout": 30,
                },
            },
        ],
        "rollbacks": [{
            "type": "action",
            "name": format!("stop-{name}"),
            "provider": { "type": "process", "path": "murphy", "arguments": ["stop", name], "timeout": 60 },
        }],
    })
}

/// The name as an injection's and a file's: lower case, digits and hyphens.
pub fn id(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() => c.to_ascii_lowercase(),
            _ => '-',
        })
        .collect();
    match plain.trim_matches('-') {
        "" => "fault".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}
