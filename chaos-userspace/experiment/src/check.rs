//! Everything that can be wrong with an experiment, found at once.

use serde_json::{Map, Value};

use super::model::{Experiment, Invalid, Problem, join};
use super::providers::check_activity;
use super::{configuration, providers, python_like, sample, tolerance};

impl Experiment {
    /// Every mistake at once.
    ///
    /// # Errors
    ///
    /// All that is wrong, in the order of the file.
    pub fn check(&self) -> Result<(), Invalid> {
        let mut problems = experiment(&self.said);
        sample::plan(self, &mut problems);
        providers::python::modules(self, &mut problems);
        for problem in &mut problems {
            *problem = problem.clone().located(&self.positions);
        }
        problems.sort_by_key(|problem| problem.position);
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Invalid {
                file: self.file.display().to_string(),
                problems,
            }),
        }
    }
}

/// All mistakes.
fn experiment(said: &Map<String, Value>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let found = &mut problems;
    for key in ["title", "description"] {
        if !said.get(key).is_some_and(python_like::truthy) {
            found.push(Problem::new(key, format!("an experiment has a {key}")));
        }
    }
    tags(said, found);
    extensions(said, found);
    configuration::check(said, found);
    hypothesis(said, found);
    match said.get("method") {
        Some(Value::Array(_)) => {}
        None | Some(Value::Null) => found.push(Problem::new(
            "method",
            "an experiment has a method: a list of activities, which may be empty",
        )),
        Some(other) => found.push(Problem::new(
            "method",
            format!("expected a list of activities, not {}", kind(other)),
        )),
    }
    let names = names(said);
    for (i, one) in items(said.get("method")).enumerate() {
        let field = format!("method[{i}]");
        check_activity(one, &field, found);
        if let Some(name) = one.get("ref").and_then(Value::as_str)
            && !name.is_empty()
            && !names.contains(&name)
        {
            found.push(Problem::new(
                join(&field, "ref"),
                format!("no activity of the method or the hypothesis is called `{name}`"),
            ));
        }
    }
    for (i, one) in items(said.get("rollbacks")).enumerate() {
        check_activity(one, &format!("rollbacks[{i}]"), found);
    }
    if let Some(other) = said.get("rollbacks").filter(|list| !list.is_array()) {
        found.push(Problem::new(
            "rollbacks",
            format!("expected a list of activities, not {}", kind(other)),
        ));
    }
    runtime(said, found);
    controls(said, found);
    problems
}

/// What a value is, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

fn items(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

/// What a `ref` can name.
fn names(said: &Map<String, Value>) -> Vec<&str> {
    let probes = said
        .get("steady-state-hypothesis")
        .and_then(|table| table.get("probes"));
    items(said.get("method"))
        .chain(items(probes))
        .filter_map(|one| one.get("name")?.as_str())
        .collect()
}

fn tags(said: &Map<String, Value>, found: &mut Vec<Problem>) {
    for (i, tag) in items(said.get("tags")).enumerate() {
        if tag.as_str().is_none_or(str::is_empty) {
            found.push(Problem::new(
                format!("tags[{i}]"),
                format!("a tag is a text that is not empty, not {tag}"),
            ));
        }
    }
}

fn extensions(said: &Map<String, Value>, found: &mut Vec<Problem>) {
    for (i, extension) in items(said.get("extensions")).enumerate() {
        let name = extension.get("name").and_then(Value::as_str);
        if name.is_none_or(|name| name.trim().is_empty()) {
            found.push(Problem::new(
                format!("extensions[{i}].name"),
                "an extension has a name",
            ));
        }
    }
}

fn hypothesis(said: &Map<String, Value>, found: &mut Vec<Problem>) {
    const FIELD: &str = "steady-state-hypothesis";
    let table = match said.get(FIELD) {
        None | Some(Value::Null) => return,
        Some(Value::Object(table)) => table,
        Some(other) => {
            found.push(Problem::new(
                FIELD,
                format!(
                    "expected a table with a title and probes, not {}",
                    kind(other)
                ),
            ));
            return;
        }
    };
    if !table.get("title").is_some_and(python_like::truthy) {
        found.push(Problem::new(
            join(FIELD, "title"),
            "a hypothesis has a title",
        ));
    }
    for (i, probe) in items(table.get("probes")).enumerate() {
        let field = format!("{FIELD}.probes[{i}]");
        check_activity(probe, &field, found);
        match probe.get("tolerance") {
            Some(said) => tolerance::check(said, &join(&field, "tolerance"), found),
            None => found.push(Problem::new(
                join(&field, "tolerance"),
                "a probe of the hypothesis has a tolerance: what it must give",
            )),
        }
    }
}

fn runtime(said: &Map<String, Value>, found: &mut Vec<Problem>) {
    for (part, words) in [
        ("rollbacks", &super::strategy::ROLLBACKS[..]),
        ("hypothesis", &super::strategy::HYPOTHESES[..]),
    ] {
        let strategy = said
            .get("runtime")
            .and_then(|runtime| runtime.get(part)?.get("strategy"));
        if let Some(strategy) = strategy
            && !strategy.as_str().is_some_and(|word| words.contains(&word))
        {
            found.push(Problem::new(
                format!("runtime.{part}.strategy"),
                format!("expected one of {}, not {strategy}", words.join(", ")),
            ));
        }
    }
}

fn controls(said: &Map<String, Value>, found: &mut Vec<Problem>) {
    let mut lists = vec![("controls".to_owned(), said.get("controls"))];
    let hypothesis = said.get("steady-state-hypothesis");
    lists.push((
        "steady-state-hypothesis.controls".to_owned(),
        hypothesis.and_then(|table| table.get("controls")),
    ));
    for (field, list) in [
        (
            "steady-state-hypothesis.probes",
            hypothesis.and_then(|table| table.get("probes")),
        ),
        ("method", said.get("method")),
        ("rollbacks", said.get("rollbacks")),
    ] {
        for (i, one) in items(list).enumerate() {
            lists.push((format!("{field}[{i}].controls"), one.get("controls")));
        }
    }
    for (field, list) in lists {
        for (i, control) in items(list).enumerate() {
            let field = format!("{field}[{i}]");
            for key in ["name", "provider"] {
                if control.get(key).is_none() {
                    found.push(Problem::new(
                        join(&field, key),
                        format!("a control has a {key}"),
                    ));
                }
            }
            match control.get("scope") {
                None | Some(Value::Null) => {}
                Some(Value::String(scope))
                    if scope.is_empty() || scope == "before" || scope == "after" => {}
                Some(other) => found.push(Problem::new(
                    join(&field, "scope"),
                    format!("expected `before` or `after`, not {other}"),
                )),
            }
            let provider = control.get("provider");
            if provider.is_some_and(|provider| {
                provider["type"] == "python" && !python_like::truthy(&provider["module"])
            }) {
                found.push(Problem::new(
                    join(&field, "provider.module"),
                    "a Python control has a module",
                ));
            }
        }
    }
}
