//! What can be wrong with an activity, whichever provider it has.

use serde_json::Value;

use crate::model::{Problem, join};
use crate::python_like;

/// Checks an activity.
pub fn check(activity: &Value, field: &str, problems: &mut Vec<Problem>) {
    let Some(fields) = activity.as_object().filter(|fields| !fields.is_empty()) else {
        problems.push(Problem::new(
            field,
            "an activity is a table with a type, a name and a provider",
        ));
        return;
    };
    let mut wrong = |key: &str, text: String| problems.push(Problem::new(join(field, key), text));
    if let Some(name) = fields.get("ref").filter(|name| !name.is_null()) {
        if name.as_str().is_none_or(str::is_empty) {
            wrong(
                "ref",
                format!("expected the name of an activity, not {name}"),
            );
        }
        return;
    }
    match fields.get("type") {
        Some(Value::String(kind)) if kind == "probe" || kind == "action" => {}
        Some(other) => wrong("type", format!("expected `probe` or `action`, not {other}")),
        None => wrong("type", "an activity is a `probe` or an `action`".to_owned()),
    }
    if !fields.get("name").is_some_and(python_like::truthy) {
        wrong("name", "an activity has a name".to_owned());
    }
    if let Some(timeout) = fields.get("timeout")
        && !matches!(timeout, Value::Null | Value::Number(_) | Value::Bool(_))
    {
        wrong(
            "timeout",
            format!("expected a number of seconds, not {timeout}"),
        );
    }
    if let Some(background) = fields.get("background")
        && !background.is_boolean()
    {
        wrong(
            "background",
            format!("expected true or false, not {background}"),
        );
    }
    match fields.get("pauses") {
        None | Some(Value::Null) => {}
        Some(Value::Object(pauses)) => {
            for key in ["before", "after"] {
                if let Some(Value::String(text)) = pauses.get(key)
                    && !(text.starts_with("${") && text.ends_with('}'))
                {
                    wrong(
                        &format!("pauses.{key}"),
                        format!(
                            "expected a number of seconds or a name like ${{pause}}, not {text:?}"
                        ),
                    );
                }
            }
        }
        Some(other) => wrong(
            "pauses",
            format!("expected a table with before and after, not {other}"),
        ),
    }
    match fields.get("provider") {
        Some(Value::Object(provider)) if !provider.is_empty() => {
            super::check(provider, &join(field, "provider"), problems);
        }
        _ => wrong(
            "provider",
            "an activity has a provider: a table with a type".to_owned(),
        ),
    }
}
