//! `regex`: a text that a pattern is found in.

use fancy_regex::Regex;
use serde_json::{Map, Value};

use super::target;
use crate::model::{Problem, join};
use crate::python_like;
use crate::substitute::Names;

/// Whether the pattern is found anywhere in the text.
pub(super) fn within(
    table: &Map<String, Value>,
    value: &Value,
    names: &Names,
) -> Result<bool, String> {
    let pattern = table.get("pattern").and_then(Value::as_str);
    let pattern = names.text(pattern.ok_or("a regex has a pattern")?);
    let pattern = compile(&python_like::str(&pattern))?;
    match target(table, value)? {
        Value::String(text) => pattern.is_match(text).map_err(|error| error.to_string()),
        other => Err(format!(
            "a regex wants a text, not {other}: name one of its fields as `target`"
        )),
    }
}

/// A pattern as Python means it: `$` matches also before a newline that ends the text, `\\Z` only at the end.
fn compile(pattern: &str) -> Result<Regex, String> {
    let mut translated = String::with_capacity(pattern.len());
    let multiline = pattern.starts_with("(?") && {
        let flags = pattern[2..].split([')', ':']).next().unwrap_or_default();
        flags.contains('m')
    };
    let (mut escaped, mut in_class) = (false, false);
    for letter in pattern.chars() {
        match letter {
            'Z' if escaped && !in_class => translated.push('z'),
            '$' if !escaped && !in_class && !multiline => translated.push_str("(?=\\n?\\z)"),
            other => translated.push(other),
        }
        match letter {
            '[' if !escaped => in_class = true,
            ']' if !escaped => in_class = false,
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
    }
    Regex::new(&translated).map_err(|error| error.to_string())
}

/// Checks that there is a pattern and that it is one.
pub(super) fn check(table: &Map<String, Value>, field: &str, problems: &mut Vec<Problem>) {
    let text = match table.get("pattern") {
        Some(Value::String(pattern)) => match compile(pattern) {
            Ok(_) => return,
            Err(error) => format!("`{pattern}` is no regular expression: {error}"),
        },
        Some(other) => format!("expected a regular expression, not {other}"),
        None => "a regex tolerance has a pattern".to_owned(),
    };
    problems.push(Problem::new(join(field, "pattern"), text));
}
