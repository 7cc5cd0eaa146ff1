//! `range`: a number between two, both included.

use serde_json::{Map, Value};

use super::target;
use crate::model::{Problem, join};

/// Whether the value, or the number it is the text of, lies between the bounds.
pub(super) fn within(table: &Map<String, Value>, value: &Value) -> Result<bool, String> {
    let number = match target(table, value)? {
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Number(number) => number.as_f64(),
        other => {
            return Err(format!(
                "a range wants a number or the text of one, not {other}"
            ));
        }
    };
    let bounds = bounds(table).ok_or("a range has two numbers")?;
    Ok(number.is_some_and(|number: f64| bounds.0 <= number && number <= bounds.1))
}

fn bounds(table: &Map<String, Value>) -> Option<(f64, f64)> {
    match table.get("range")?.as_array()?.as_slice() {
        [low, high] => Some((low.as_f64()?, high.as_f64()?)),
        _ => None,
    }
}

/// Checks that there are two numbers.
pub(super) fn check(table: &Map<String, Value>, field: &str, problems: &mut Vec<Problem>) {
    if bounds(table).is_none() {
        let said = table.get("range").unwrap_or(&Value::Null);
        problems.push(Problem::new(
            join(field, "range"),
            format!("expected a lower and an upper bound, [LOW, HIGH], not {said}"),
        ));
    }
}
