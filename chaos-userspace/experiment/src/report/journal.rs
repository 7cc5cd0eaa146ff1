//! A journal as it is read: the Chaos Toolkit's, with murphy's key or without. What is missing is nothing, never an error.

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A whole journal.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Journal {
    /// The experiment as it was run.
    #[serde(deserialize_with = "lenient")]
    pub experiment: Map<String, Value>,
    /// Where it ran.
    #[serde(deserialize_with = "lenient")]
    pub node: String,
    /// What it ran on.
    #[serde(deserialize_with = "lenient")]
    pub platform: String,
    /// `completed`, `failed`, `aborted` or `interrupted`.
    #[serde(deserialize_with = "lenient")]
    pub status: String,
    /// Whether the hypothesis was missed.
    #[serde(deserialize_with = "lenient")]
    pub deviated: bool,
    /// When it began.
    #[serde(deserialize_with = "moment")]
    pub start: Option<Timestamp>,
    /// When it ended.
    #[serde(deserialize_with = "moment")]
    pub end: Option<Timestamp>,
    /// Seconds.
    #[serde(deserialize_with = "lenient")]
    pub duration: f64,
    /// The hypothesis, before, after and while it went on.
    #[serde(deserialize_with = "lenient")]
    pub steady_states: SteadyStates,
    /// The method.
    #[serde(deserialize_with = "lenient")]
    pub run: Vec<Entry>,
    /// The rollbacks.
    #[serde(deserialize_with = "lenient")]
    pub rollbacks: Vec<Entry>,
    /// What murphy adds.
    #[serde(deserialize_with = "lenient")]
    pub murphy: Map<String, Value>,
}

/// Checks of the hypothesis.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SteadyStates {
    /// Before the method.
    pub before: Option<SteadyState>,
    /// After the method.
    pub after: Option<SteadyState>,
    /// During the method.
    #[serde(deserialize_with = "lenient")]
    pub during: Vec<SteadyState>,
}

/// One check.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SteadyState {
    /// Whether all probes were within their tolerances.
    #[serde(deserialize_with = "lenient")]
    pub steady_state_met: bool,
    /// Up to the first that was not.
    #[serde(deserialize_with = "lenient")]
    pub probes: Vec<Entry>,
}

/// An activity that was carried out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// The activity as the experiment has it.
    pub activity: Value,
    /// What it gave.
    pub output: Value,
    /// `succeeded`, `failed`, …
    #[serde(deserialize_with = "lenient")]
    pub status: String,
    /// Python's traceback, line by line, or a text.
    pub exception: Value,
    /// When it began.
    #[serde(deserialize_with = "moment")]
    pub start: Option<Timestamp>,
    /// When it ended.
    #[serde(deserialize_with = "moment")]
    pub end: Option<Timestamp>,
    /// Seconds.
    #[serde(deserialize_with = "lenient")]
    pub duration: f64,
    /// Of a probe of the hypothesis: whether its value was within the tolerance.
    #[serde(deserialize_with = "lenient")]
    pub tolerance_met: Option<bool>,
    /// murphy's counters, where its own provider put them.
    pub murphy: Value,
}

impl Entry {
    /// The activity's name.
    pub fn name(&self) -> &str {
        self.activity["name"].as_str().unwrap_or("?")
    }

    /// `action` or `probe`.
    pub fn kind(&self) -> &str {
        self.activity["type"].as_str().unwrap_or("?")
    }

    /// The exit status of a process.
    pub fn exit(&self) -> Option<i64> {
        match self.activity["provider"]["type"].as_str() {
            Some("process" | "murphy") => self.output["status"].as_i64(),
            _ => None,
        }
    }

    /// The words of the murphy command that it is: `["inject", "-e", …]`.
    pub fn murphy_words(&self) -> Option<Vec<String>> {
        let provider = &self.activity["provider"];
        let path = provider["path"].as_str()?;
        if path.rsplit('/').next() != Some("murphy") {
            return None;
        }
        match &provider["arguments"] {
            Value::Array(words) => Some(
                words
                    .iter()
                    .map(|word| {
                        word.as_str()
                            .map_or_else(|| word.to_string(), str::to_owned)
                    })
                    .collect(),
            ),
            Value::String(line) => Some(line.split_whitespace().map(str::to_owned).collect()),
            _ => None,
        }
    }

    /// Whether it puts faults in place.
    pub fn injects(&self) -> bool {
        self.activity["provider"]["type"] == "murphy" && self.kind() == "action"
            || self
                .murphy_words()
                .is_some_and(|words| words.first().is_some_and(|w| w == "inject"))
    }

    /// What went wrong, in a line.
    pub fn trouble(&self) -> Option<String> {
        let last = |text: &str| {
            text.lines()
                .rev()
                .map(str::trim)
                .find(|l| !l.is_empty())
                .map(str::to_owned)
        };
        match &self.exception {
            Value::Array(lines) => lines.iter().rev().filter_map(Value::as_str).find_map(last),
            Value::String(text) => last(text),
            _ => None,
        }
    }
}

/// A value of another shape is as good as none.
fn lenient<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned + Default>(
    from: D,
) -> Result<T, D::Error> {
    let value = Value::deserialize(from)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

fn moment<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<String>::deserialize(from)?
        .as_deref()
        .and_then(timestamp))
}

/// ISO 8601; without an offset, as older versions of the Chaos Toolkit wrote it, UTC.
pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })
}
