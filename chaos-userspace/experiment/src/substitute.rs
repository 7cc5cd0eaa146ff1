//! Python's `string.Template`, with the type kept where a value is nothing but `${name}`.

use serde_json::{Map, Value};

use super::python_like;

/// What names mean: the configuration first, then the groups of secrets in their order.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// `configuration`, resolved.
    pub configuration: Map<String, Value>,
    /// `secrets`, resolved: groups of names.
    pub secrets: Map<String, Value>,
}

impl Names {
    /// Whether there is nothing that could be put in.
    pub fn is_empty(&self) -> bool {
        self.configuration.is_empty() && self.secrets.is_empty()
    }

    /// The value of a name.
    fn get(&self, name: &str) -> Option<&Value> {
        self.configuration.get(name).or_else(|| {
            self.secrets
                .values()
                .find_map(|group| group.as_object()?.get(name))
        })
    }

    /// Puts values in, at any depth of lists and tables. Names nobody knows are left as they are.
    pub fn substitute(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter().map(|item| self.substitute(item)).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| (key.clone(), self.substitute(value)))
                .collect::<Map<_, _>>()
                .into(),
            other => other.clone(),
        }
    }

    /// Puts values into a text; what comes out of `${name}` alone has the type of the value.
    pub fn text(&self, text: &str) -> Value {
        if let Some(name) = whole(text)
            && let Some(value) = self.get(name)
        {
            return value.clone();
        }
        let mut rest = text;
        let mut done = String::with_capacity(text.len());
        while let Some(at) = rest.find('$') {
            done.push_str(&rest[..at]);
            rest = &rest[at..];
            let (taken, name) = placeholder(rest);
            match name {
                Some("$") => done.push('$'),
                Some(name) => match self.get(name) {
                    Some(value) => done.push_str(&python_like::str(value)),
                    None => done.push_str(&rest[..taken]),
                },
                None => done.push_str(&rest[..taken]),
            }
            rest = &rest[taken..];
        }
        done.push_str(rest);
        Value::String(done)
    }
}

/// `name` of a text that is `${name}` and nothing else.
fn whole(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    (identifier(name) == name.len() && !name.is_empty()).then_some(name)
}

/// How long the identifier at the beginning of a text is.
fn identifier(text: &str) -> usize {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    match starts {
        true => text
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(text.len()),
        false => 0,
    }
}

/// A text begins with `$`: how much of it is the placeholder, and its name (`$` for `$$`).
fn placeholder(text: &str) -> (usize, Option<&str>) {
    let after = &text[1..];
    if after.starts_with('$') {
        return (2, Some("$"));
    }
    if let Some(braced) = after.strip_prefix('{') {
        let length = identifier(braced);
        if length > 0 && braced[length..].starts_with('}') {
            return (length + 3, Some(&braced[..length]));
        }
        return (1, None);
    }
    match identifier(after) {
        0 => (1, None),
        length => (length + 1, Some(&after[..length])),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names() -> Names {
        let map = |value: Value| value.as_object().cloned().unwrap();
        Names {
            configuration: map(json!({"n": 5, "name": "Ada", "list": [1, "x"], "flag": true})),
            secrets: map(json!({"db": {"name": "hidden", "password": "pw"}})),
        }
    }

    #[test]
    fn rows() {
        for (text, expected) in [
            ("${n}", json!(5)),
            ("$n", json!("5")),
            ("${list}", json!([1, "x"])),
            ("a ${list}", json!("a [1, 'x']")),
            ("${flag}!", json!("True!")),
            ("$name", json!("Ada")),
            ("${password}", json!("pw")),
            ("$$n", json!("$n")),
            ("$", json!("$")),
            ("${}", json!("${}")),
            ("${missing} $missing ${n", json!("${missing} $missing ${n")),
            ("$n$n", json!("55")),
            ("$1 ${n-1}", json!("$1 ${n-1}")),
            ("é$n", json!("é5")),
        ] {
            assert_eq!(names().text(text), expected, "{text}");
        }
    }

    #[test]
    fn at_any_depth() {
        let value = json!({"a": ["${n}", {"b": "x$n"}], "c": 1});
        assert_eq!(
            names().substitute(&value),
            json!({"a": [5, {"b": "x5"}], "c": 1})
        );
    }
}
