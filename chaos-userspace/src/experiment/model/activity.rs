//! A probe or an action.

use serde_json::{Map, Value};

use super::{Problem, join};
use crate::experiment::{providers, python_like};

/// What an activity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It asks.
    Probe,
    /// It does something.
    Action,
}

/// An activity, as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Activity(Map<String, Value>);

impl Activity {
    /// An activity of these fields.
    pub fn new(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    /// All fields.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("name")
    }

    /// Whether it is a probe or an action; what is neither is an action.
    pub fn kind(&self) -> Kind {
        match self.text("type") {
            "probe" => Kind::Probe,
            _ => Kind::Action,
        }
    }

    /// Another activity's name that it stands for.
    pub fn reference(&self) -> Option<&str> {
        Some(self.text("ref")).filter(|name| !name.is_empty())
    }

    /// What carries it out.
    pub fn provider(&self) -> Option<&Map<String, Value>> {
        self.0.get("provider")?.as_object()
    }

    /// The provider's type.
    pub fn provider_type(&self) -> &str {
        let name = self.provider().and_then(|provider| provider.get("type"));
        name.and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether the next activity does not wait for it.
    pub fn background(&self) -> bool {
        self.0.get("background").is_some_and(python_like::truthy)
    }

    /// What its result must be within.
    pub fn tolerance(&self) -> Option<&Value> {
        self.0.get("tolerance")
    }
}

/// Checks an activity.
pub(crate) fn check(activity: &Value, field: &str, problems: &mut Vec<Problem>) {
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
            providers::check(provider, &join(field, "provider"), problems);
        }
        _ => wrong(
            "provider",
            "an activity has a provider: a table with a type".to_owned(),
        ),
    }
}
