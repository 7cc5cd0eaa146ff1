//! A probe or an action.

use serde_json::{Map, Value};

use crate::python_like;

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
