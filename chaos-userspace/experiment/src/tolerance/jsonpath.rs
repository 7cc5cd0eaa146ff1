//! `jsonpath`: what a path finds in a value.

use serde_json::{Map, Value};

use super::target;
use crate::jsonpath2::Path;
use crate::model::{Problem, join};
use crate::python_like::{self, equal};
use crate::substitute::Names;

/// Whether the path finds what is expected, as often as is expected, or anything.
pub(super) fn within(
    table: &Map<String, Value>,
    value: &Value,
    names: &Names,
) -> Result<bool, String> {
    let path = table.get("path").and_then(Value::as_str);
    let path = names.text(path.ok_or("a jsonpath has a path")?);
    let path: Path = python_like::str(&path).parse()?;
    let value = target(table, value)?;
    let parsed = value
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok());
    let found = path.find(parsed.as_ref().unwrap_or(value));
    if let Some(expect) = table.get("expect") {
        let expect = match python_like::truthy(expect) {
            true => names.substitute(expect),
            false => expect.clone(),
        };
        let expect = match &expect {
            Value::Array(several) => several.as_slice(),
            one => std::slice::from_ref(one),
        };
        return Ok(
            found.len() == expect.len() && found.iter().zip(expect).all(|(a, b)| equal(a, b))
        );
    }
    match table.get("count") {
        Some(count) if !count.is_null() => Ok(equal(count, &found.len().into())),
        _ => Ok(!found.is_empty()),
    }
}

/// Checks that there is a path and that it is one.
pub(super) fn check(table: &Map<String, Value>, field: &str, problems: &mut Vec<Problem>) {
    let text = match table.get("path") {
        Some(Value::String(path)) => match path.trim().parse::<Path>() {
            Ok(_) => return,
            Err(error) => error,
        },
        Some(other) => format!("expected a JSON path, not {other}"),
        None => "a jsonpath tolerance has a path".to_owned(),
    };
    problems.push(Problem::new(join(field, "path"), text));
}
