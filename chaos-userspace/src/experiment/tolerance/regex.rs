//! `regex`: a text that a pattern is found in.

use fancy_regex::Regex;
use serde_json::{Map, Value};

use super::target;
use crate::experiment::model::{Problem, join};
use crate::experiment::python_like;
use crate::experiment::substitute::Names;

/// Whether the pattern is found anywhere in the text.
pub(super) fn within(
    table: &Map<String, Value>,
    value: &Value,
    names: &Names,
) -> Result<bool, String> {
    let pattern = table.get("pattern").and_then(Value::as_str);
    let pattern = names.text(pattern.ok_or("a regex has a pattern")?);
    let pattern = Regex::new(&python_like::str(&pattern)).map_err(|error| error.to_string())?;
    match target(table, value)? {
        Value::String(text) => pattern.is_match(text).map_err(|error| error.to_string()),
        other => Err(format!(
            "a regex wants a text, not {other}: name one of its fields as `target`"
        )),
    }
}

/// Checks that there is a pattern and that it is one.
pub(super) fn check(table: &Map<String, Value>, field: &str, problems: &mut Vec<Problem>) {
    let text = match table.get("pattern") {
        Some(Value::String(pattern)) => match Regex::new(pattern) {
            Ok(_) => return,
            Err(error) => format!("`{pattern}` is no regular expression: {error}"),
        },
        Some(other) => format!("expected a regular expression, not {other}"),
        None => "a regex tolerance has a pattern".to_owned(),
    };
    problems.push(Problem::new(join(field, "pattern"), text));
}
