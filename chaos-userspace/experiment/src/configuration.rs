//! `configuration` and `secrets`: literals, the environment, files and options that override.

use std::path::Path;

use serde_json::{Map, Value};

use super::model::{self, Activity, Experiment, Problem, join};
use super::providers::{self, Failure, Hosts};
use super::python_like;
use super::stop::Stop;
use super::substitute::Names;

/// What the command line says instead of the file: `--var` and `--var-file`.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Of declared keys of the configuration.
    pub configuration: Map<String, Value>,
    /// Of declared secrets.
    pub secrets: Map<String, Value>,
    /// Variables for the environment, from `.env` files.
    pub environment: Vec<(String, String)>,
}

impl Overrides {
    /// Reads a file: JSON or YAML with `configuration` and `secrets`, or `NAME=VALUE` lines for the
    /// environment. What it says counts more than files before.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(&mut self, file: &Path) -> Result<(), model::Invalid> {
        let wrong = |problem| model::Invalid::one(file, problem);
        let text = std::fs::read_to_string(file)
            .map_err(|error| wrong(Problem::new("", format!("it cannot be read: {error}"))))?;
        let extension = file.extension().and_then(|name| name.to_str());
        let said = match extension {
            Some("json") => model::json(&text).map_err(wrong)?.0,
            Some("yaml" | "yml") => model::yaml(&text).map_err(wrong)?.0,
            _ => return self.environment(&text).map_err(wrong),
        };
        for (key, into) in [
            ("configuration", &mut self.configuration),
            ("secrets", &mut self.secrets),
        ] {
            match said.get(key) {
                None => {}
                Some(Value::Object(table)) => into.extend(table.clone()),
                Some(other) => {
                    return Err(wrong(Problem::new(
                        key,
                        format!("expected a table, not {other}"),
                    )));
                }
            }
        }
        Ok(())
    }

    fn environment(&mut self, text: &str) -> Result<(), Problem> {
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once('=').ok_or_else(|| {
                let mut problem = Problem::new("", format!("expected NAME=VALUE, not `{line}`"));
                problem.position = Some((i + 1, 1));
                problem
            })?;
            self.environment.push((name.to_owned(), value.to_owned()));
        }
        Ok(())
    }
}

/// `KEY[:TYPE]=VALUE` of `--var`.
///
/// # Errors
///
/// What was expected.
pub fn variable(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("expected KEY=VALUE or KEY:TYPE=VALUE")?;
    match key.rsplit_once(':') {
        None => Ok((key.to_owned(), value.into())),
        Some((key, kind)) => Ok((key.to_owned(), convert(Some(kind), &value.into())?)),
    }
}

/// A value as a type of `--var` and `env_var_type`.
fn convert(kind: Option<&str>, value: &Value) -> Result<Value, String> {
    let text = python_like::str(value);
    let wrong = |expected: &str| format!("expected {expected}, not `{text}`");
    match kind {
        None | Some("str" | "string" | "bytes") => Ok(value.clone()),
        Some("int" | "integer") => match value {
            Value::Number(number) if number.is_f64() => {
                // Python's int() cuts the fraction off; what is too large for it stays at the edge.
                #[expect(clippy::cast_possible_truncation, reason = "int() truncates")]
                let whole = number.as_f64().unwrap_or_default() as i64;
                Ok(whole.into())
            }
            _ => {
                let number = text.trim().replace('_', "");
                number
                    .parse::<i64>()
                    .map(Into::into)
                    .map_err(|_| wrong("an integer"))
            }
        },
        Some("float" | "number") => text
            .trim()
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Value::Number)
            .ok_or_else(|| wrong("a number")),
        Some("bool") => match value {
            Value::Bool(_) => Ok(value.clone()),
            _ => Ok((!matches!(text.to_lowercase().as_str(), "false" | "0" | "no")).into()),
        },
        Some("json") => match value {
            Value::String(text) if !text.is_empty() => {
                serde_json::from_str(text).map_err(|error| format!("expected JSON: {error}"))
            }
            other => Ok(other.clone()),
        },
        Some(other) => Err(format!(
            "no type is called `{other}`; expected str, int, float, bool, bytes or json"
        )),
    }
}

/// A variable of the environment as `{type: env, key, default?, env_var_type?}` describes it.
fn from_environment(table: &Map<String, Value>) -> Result<Value, String> {
    let key = table.get("key").and_then(Value::as_str);
    let key = key.ok_or("a value of type env has the key of a variable")?;
    let value = match (std::env::var(key), table.get("default")) {
        (Ok(value), _) => value.into(),
        (Err(_), Some(default)) => default.clone(),
        (Err(_), None) => {
            return Err(format!(
                "the environment has no variable {key}, and there is no default"
            ));
        }
    };
    let kind = table.get("env_var_type").and_then(Value::as_str);
    convert(kind, &value)
}

/// What is not a probe of the configuration.
fn configuration(
    said: Option<&Value>,
    overrides: &Map<String, Value>,
    wrong: &mut dyn FnMut(&str, String),
) -> Map<String, Value> {
    let mut resolved = Map::new();
    for (key, value) in said.and_then(Value::as_object).into_iter().flatten() {
        let value = overrides.get(key).unwrap_or(value);
        let value = match value {
            Value::Object(table) if table.get("type").is_some_and(|kind| kind == "env") => {
                match from_environment(table) {
                    Ok(value) => value,
                    Err(text) => {
                        wrong(key, text);
                        continue;
                    }
                }
            }
            other => other.clone(),
        };
        resolved.insert(key.clone(), value);
    }
    resolved
}

/// Secrets may be nested at will.
fn secrets(
    said: &Map<String, Value>,
    overrides: &Map<String, Value>,
    field: &str,
    wrong: &mut dyn FnMut(&str, String),
) -> Map<String, Value> {
    let mut resolved = Map::new();
    for (key, value) in said {
        let field = join(field, key);
        let value = match (value, overrides.get(key)) {
            (Value::Object(_), Some(instead)) if !instead.is_null() => instead.clone(),
            (Value::Object(table), _) => match table.get("type").and_then(Value::as_str) {
                Some("env") => {
                    let mut table = table.clone();
                    table.shift_remove("default");
                    table.shift_remove("env_var_type");
                    match from_environment(&table) {
                        Ok(value) => value,
                        Err(text) => {
                            wrong(&field, text.replace(", and there is no default", ""));
                            continue;
                        }
                    }
                }
                Some("vault") => {
                    wrong(
                        &field,
                        "secrets of a Vault are not supported; expected a literal or type env"
                            .to_owned(),
                    );
                    continue;
                }
                _ => secrets(table, &Map::new(), &field, wrong).into(),
            },
            (other, _) => other.clone(),
        };
        resolved.insert(key.clone(), value);
    }
    resolved
}

/// Checks both.
pub(crate) fn check(said: &Map<String, Value>, problems: &mut Vec<Problem>) {
    for key in ["configuration", "secrets"] {
        if let Some(other) = said.get(key).filter(|table| !table.is_object()) {
            problems.push(Problem::new(key, format!("expected a table, not {other}")));
        }
    }
    let mut wrong = |field: &str, text| {
        problems.push(Problem::new(join("configuration", field), text));
    };
    configuration(said.get("configuration"), &Map::new(), &mut wrong);
    let Some(groups) = said.get("secrets").and_then(Value::as_object) else {
        return;
    };
    for (name, group) in groups.iter().filter(|(_, group)| !group.is_object()) {
        problems.push(Problem::new(
            join("secrets", name),
            format!(
                "expected a table of secrets, not {}",
                if group.is_string() { "a text" } else { "this" }
            ),
        ));
    }
    let mut wrong = |field: &str, text| problems.push(Problem::new(field, text));
    secrets(groups, &Map::new(), "secrets", &mut wrong);
}

/// Resolves both; a probe of the configuration is asked, and left out if it fails.
///
/// # Errors
///
/// What cannot be resolved.
pub fn load(
    experiment: &Experiment,
    overrides: &Overrides,
    hosts: &Hosts,
    stop: &Stop,
) -> Result<Names, model::Invalid> {
    let mut problems = Vec::new();
    let mut wrong = |field: &str, text: String| {
        problems.push(Problem::new(field, text).located(&experiment.positions));
    };
    let mut in_configuration =
        |field: &str, text: String| wrong(&join("configuration", field), text);
    let said = &experiment.said;
    let resolved = configuration(
        said.get("configuration"),
        &overrides.configuration,
        &mut in_configuration,
    );
    let none = Map::new();
    let groups = said
        .get("secrets")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    let secrets = secrets(groups, &overrides.secrets, "secrets", &mut wrong);
    if !problems.is_empty() {
        return Err(model::Invalid {
            file: experiment.file.display().to_string(),
            problems,
        });
    }
    let mut names = Names {
        configuration: Map::new(),
        secrets,
    };
    for (key, value) in resolved {
        let probe = match &value {
            Value::Object(table) if table.get("type").is_some_and(|kind| kind == "probe") => {
                Activity::new(table.clone())
            }
            _ => {
                names.configuration.insert(key, value);
                continue;
            }
        };
        if let Ok(value) = ask(&probe, &names, hosts, stop) {
            names.configuration.insert(key, value);
        }
    }
    Ok(names)
}

/// The value that a probe of the configuration gives.
fn ask(probe: &Activity, names: &Names, hosts: &Hosts, stop: &Stop) -> Result<Value, Failure> {
    let output = providers::run(probe, names, hosts, stop)?;
    match probe.provider_type() {
        "process" if output["status"] == 0 => {
            Ok(output["stdout"].as_str().unwrap_or_default().trim().into())
        }
        "process" => Err(Failure::Failed(
            "it exited with a status other than 0".to_owned(),
        )),
        "http" => Ok(output["body"].clone()),
        _ => Ok(output),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_have_types() {
        for (text, key, value) in [
            ("a=b=c", "a", json!("b=c")),
            ("a:int= 1_000", "a", json!(1000)),
            ("a:float=1e3", "a", json!(1000.0)),
            ("a:bool=No", "a", json!(false)),
            ("a:json=[1]", "a", json!([1])),
            ("a:b:str=x", "a:b", json!("x")),
        ] {
            assert_eq!(variable(text), Ok((key.to_owned(), value)), "{text}");
        }
        for text in ["a", "a:int=x", "a:float=x", "a:json={", "a:what=1"] {
            assert!(variable(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let said = json!({
            "configuration": {
                "a": {"type": "env", "key": "MURPHY_NOT_SET"},
                "b": {"type": "env", "key": "MURPHY_NOT_SET", "default": "5", "env_var_type": "int"}
            },
            "secrets": {"g": {"s": {"type": "env", "key": "MURPHY_NOT_SET"}}, "x": "text"}
        });
        let mut problems = Vec::new();
        check(said.as_object().unwrap(), &mut problems);
        let fields: Vec<_> = problems
            .iter()
            .map(|problem| problem.field.as_str())
            .collect();
        assert_eq!(fields, ["configuration.a", "secrets.x", "secrets.g.s"]);
    }
}
