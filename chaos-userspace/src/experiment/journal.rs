//! The journal: Chaos Toolkit's keys, exactly, and one of our own, `murphy`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::substitute::Names;

/// The version of chaostoolkit-lib whose format this is.
const CHAOSLIB_VERSION: &str = "1.44.0";
/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";
/// Shorter secrets are replaced only where they are a whole text: they are in every other word.
const SHORT: usize = 4;

/// How an experiment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All was done that was to be done.
    Completed,
    /// A probe of the hypothesis failed, or the hypothesis failed fast.
    Failed,
    /// It could not go on, or a safety limit was crossed.
    Aborted,
    /// Somebody stopped it.
    Interrupted,
}

impl Status {
    /// The journal's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether the method goes no further.
    pub fn ends_method(self) -> bool {
        self != Self::Completed
    }
}

/// Entries of activities, in the order in which they began.
#[derive(Debug, Default)]
pub struct Runs(Mutex<Vec<Map<String, Value>>>);

impl Runs {
    fn lock(&self) -> MutexGuard<'_, Vec<Map<String, Value>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry; gives its place.
    pub fn begin(&self, entry: Map<String, Value>) -> usize {
        let mut runs = self.lock();
        runs.push(entry);
        runs.len() - 1
    }

    /// Adds to an entry.
    pub fn extend(&self, at: usize, fields: Map<String, Value>) {
        if let Some(entry) = self.lock().get_mut(at) {
            entry.extend(fields);
        }
    }

    /// An entry as it is now.
    pub fn get(&self, at: usize) -> Map<String, Value> {
        self.lock().get(at).cloned().unwrap_or_default()
    }

    /// All entries as they are now.
    pub fn all(&self) -> Value {
        self.lock().iter().cloned().map(Value::Object).collect()
    }
}

/// A moment as Python's `isoformat()` in UTC.
pub fn timestamp(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .unwrap_or_default()
        .strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00")
        .to_string()
}

/// The journal of an experiment that has just begun.
pub fn begin(experiment: &Map<String, Value>, started: SystemTime) -> Map<String, Value> {
    let system = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let platform = format!(
        "{}-{}-{}",
        text(system.sysname()),
        text(system.release()),
        text(system.machine())
    );
    let journal = json!({
        "chaoslib-version": CHAOSLIB_VERSION,
        "platform": platform,
        "node": text(system.nodename()),
        "experiment": experiment,
        "start": timestamp(started),
        "status": null,
        "deviated": false,
        "steady_states": {"before": null, "after": null, "during": []},
        "run": [],
        "rollbacks": [],
    });
    match journal {
        Value::Object(journal) => journal,
        _ => Map::new(),
    }
}

/// Takes all secrets out of a value, wherever they stand.
pub fn redact(value: &mut Value, names: &Names) {
    let mut secrets = Vec::new();
    for group in names.secrets.values() {
        texts(group, &mut secrets);
    }
    // A secret that contains another goes first.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    if !secrets.is_empty() {
        replace(value, &secrets);
    }
}

fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) if !text.is_empty() => into.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(map) => map.values().for_each(|value| texts(value, into)),
        _ => {}
    }
}

fn replace(value: &mut Value, secrets: &[String]) {
    match value {
        Value::String(text) => {
            for secret in secrets {
                if text == secret {
                    REDACTED.clone_into(text);
                } else if secret.len() >= SHORT && text.contains(secret.as_str()) {
                    *text = text.replace(secret.as_str(), REDACTED);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, secrets)),
        Value::Object(map) => map.values_mut().for_each(|value| replace(value, secrets)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go() {
        let names = Names {
            configuration: Map::new(),
            secrets: json!({"db": {"password": "hunter22", "short": "ab"}})
                .as_object()
                .cloned()
                .unwrap(),
        };
        let mut value = json!({"a": ["psql hunter22@db", "cab", "ab"], "b": 1});
        redact(&mut value, &names);
        assert_eq!(
            value,
            json!({"a": ["psql [redacted]@db", "cab", "[redacted]"], "b": 1})
        );
    }

    #[test]
    fn moments() {
        assert_eq!(
            timestamp(SystemTime::UNIX_EPOCH),
            "1970-01-01T00:00:00.000000+00:00"
        );
    }
}
