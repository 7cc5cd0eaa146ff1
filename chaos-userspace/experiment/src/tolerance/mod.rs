//! Tolerances: what a probe may give. Each kind has a file that checks how it is written and judges a value.

mod jsonpath;
mod list;
mod range;
mod regex;
mod scalar;

use serde_json::{Map, Value};

use super::model::{Problem, join};
use super::providers::check_activity;
use super::python_like;
use super::substitute::Names;

/// Runs the probe of a tolerance of type `probe`; `None` if it failed.
pub type Ask<'a> = &'a dyn Fn(&Map<String, Value>) -> Option<Value>;

/// Whether a value is within a tolerance.
///
/// # Errors
///
/// The two do not go together: what Chaos Toolkit would die of.
pub fn within(
    tolerance: &Value,
    value: &Value,
    names: &Names,
    ask: Ask<'_>,
) -> Result<bool, String> {
    let substituted;
    let tolerance = match tolerance {
        Value::String(text) => {
            substituted = names.text(text);
            &substituted
        }
        other => other,
    };
    match tolerance {
        Value::Bool(_) | Value::String(_) => Ok(python_like::equal(tolerance, value)),
        Value::Number(number) if !number.is_f64() => Ok(scalar::within(tolerance, value)),
        Value::Array(items) => list::within(items, value),
        Value::Object(table) => match kind(table) {
            "regex" => regex::within(table, value, names),
            "jsonpath" => jsonpath::within(table, value, names),
            "range" => range::within(table, value),
            "probe" => probe(table, value, ask),
            other => Err(format!("no tolerance is of type `{other}`")),
        },
        // A float, null: nothing is within.
        _ => Ok(false),
    }
}

fn kind(table: &Map<String, Value>) -> &str {
    table
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Asks another probe, which gets the value as its argument `value`.
fn probe(table: &Map<String, Value>, value: &Value, ask: Ask<'_>) -> Result<bool, String> {
    let mut probe = table.clone();
    let arguments = probe
        .get_mut("provider")
        .and_then(|provider| provider.get_mut("arguments"))
        .and_then(Value::as_object_mut)
        .ok_or(
            "a tolerance of type probe needs a table `arguments`, which the value is put into",
        )?;
    arguments.insert("value".to_owned(), value.clone());
    Ok(ask(&probe).is_some_and(|answer| python_like::truthy(&answer)))
}

/// What `target` names in a value, or the value itself.
///
/// # Errors
///
/// There is a target, and the value has no fields.
fn target<'a>(table: &Map<String, Value>, value: &'a Value) -> Result<&'a Value, String> {
    match table.get("target").and_then(Value::as_str) {
        None | Some("") => Ok(value),
        Some(name) => match value {
            Value::Object(fields) => Ok(fields.get(name).unwrap_or(value)),
            _ => Err(format!("the value has no field `{name}`: it is {value}")),
        },
    }
}

/// Checks how a tolerance is written.
pub fn check(tolerance: &Value, field: &str, problems: &mut Vec<Problem>) {
    let text = match tolerance {
        Value::Bool(_) | Value::String(_) | Value::Array(_) => return,
        Value::Number(number) if !number.is_f64() => return,
        Value::Number(number) => format!(
            "a number with a fraction is met by luck alone; expected a range: {{\"type\": \"range\", \"range\": [{number}, {number}]}}"
        ),
        Value::Null => {
            "expected true or false, an integer, a text, a list, or a table with a type".to_owned()
        }
        Value::Object(table) => match kind(table) {
            "regex" => return regex::check(table, field, problems),
            "jsonpath" => return jsonpath::check(table, field, problems),
            "range" => return range::check(table, field, problems),
            "probe" => return check_activity(tolerance, field, problems),
            other => {
                let said = match other {
                    "" => "a tolerance that is a table has a type".to_owned(),
                    other => format!("no tolerance is of type `{other}`"),
                };
                problems.push(Problem::new(
                    join(field, "type"),
                    format!("{said}; expected regex, jsonpath, range or probe"),
                ));
                return;
            }
        },
    };
    problems.push(Problem::new(field, text));
}

#[cfg(test)]
mod tests;
