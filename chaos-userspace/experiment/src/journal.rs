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

/// The secrets of an experiment, as they may stand in texts, and as numbers.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// The longest first: a secret that contains another goes before it.
    texts: Vec<String>,
    numbers: Vec<serde_json::Number>,
}

impl Secrets {
    /// Those that are known by now.
    pub fn of(names: &Names) -> Self {
        let mut secrets = Self::default();
        for group in names.secrets.values() {
            secrets.add(group);
        }
        secrets
            .texts
            .sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.texts.dedup();
        secrets
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.add_text(text),
            Value::Number(number) => {
                let text = number.to_string();
                if text.len() >= SHORT {
                    self.numbers.push(number.clone());
                }
                self.texts.push(text);
            }
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(map) => map.values().for_each(|value| self.add(value)),
            Value::Bool(_) | Value::Null => {}
        }
    }

    /// A text, and what becomes of it in JSON, also in JSON that is a text in JSON.
    fn add_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.texts.push(text.to_owned());
        for escape in [escaped, escaped_to_ascii] {
            let once = escape(text);
            if once != text {
                self.texts.push(escape(&once));
                self.texts.push(once);
            }
        }
        // A number that came as a text may be printed as one.
        if text.len() >= SHORT
            && let Ok(number) = text.parse::<serde_json::Number>()
        {
            self.numbers.push(number);
        }
    }

    /// A text without them.
    pub fn out_of(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.texts {
            if text == *secret {
                REDACTED.clone_into(&mut text);
            } else if secret.len() >= SHORT && text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), REDACTED);
            }
        }
        text
    }

    /// Takes them out of a value, wherever they stand.
    pub fn redact(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.out_of(text),
            Value::Number(number) if self.numbers.contains(number) => *value = REDACTED.into(),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact(item)),
            Value::Object(map) => {
                for (key, mut value) in std::mem::take(map) {
                    self.redact(&mut value);
                    let is_in_it =
                        |secret: &String| secret.len() >= SHORT && key.contains(secret.as_str());
                    let key = if self.texts.iter().any(is_in_it) {
                        self.out_of(&key)
                    } else {
                        key
                    };
                    map.insert(key, value);
                }
            }
            Value::Number(_) | Value::Bool(_) | Value::Null => {}
        }
    }
}

/// How a text stands between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted
        .get(1..quoted.len().saturating_sub(1))
        .unwrap_or_default()
        .to_owned()
}

/// The same by writers that keep to ASCII, as Python's.
fn escaped_to_ascii(text: &str) -> String {
    let mut ascii = String::new();
    for c in escaped(text).chars() {
        if c.is_ascii() {
            ascii.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            ascii.push_str(&format!("\\u{unit:04x}"));
        }
    }
    ascii
}

/// Takes all secrets out of a journal, wherever they stand.
pub fn redact(journal: &mut Value, names: &Names) {
    Secrets::of(names).redact(journal);
    // Literals that are too short to be looked for elsewhere.
    if let Some(groups) = journal.pointer_mut("/experiment/secrets") {
        redact_numbers(groups);
    }
}

fn redact_numbers(value: &mut Value) {
    match value {
        Value::Number(_) => *value = REDACTED.into(),
        Value::Array(items) => items.iter_mut().for_each(redact_numbers),
        Value::Object(map) => map.values_mut().for_each(redact_numbers),
        Value::String(_) | Value::Bool(_) | Value::Null => {}
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
    fn secrets_go_in_every_form() {
        let names = Names {
            configuration: Map::new(),
            secrets: json!({"db": {"pin": 98_765, "text": "p\"ä\\w", "digits": "13579", "n": 7}})
                .as_object()
                .cloned()
                .unwrap(),
        };
        let mut value = json!({
            "experiment": {"secrets": {"db": {"pin": 98_765, "n": 7}}},
            "number": 98_765, "in text": "pin=98765;", "digits": 13_579, "seven": 7,
            "json": "{\"x\": \"p\\\"ä\\\\w\"}",
            "python": "{\"x\": \"p\\\"\\u00e4\\\\w\"}",
            "key 98765": true,
        });
        redact(&mut value, &names);
        assert_eq!(
            value,
            json!({
                "experiment": {"secrets": {"db": {"pin": REDACTED, "n": REDACTED}}},
                "number": REDACTED, "in text": "pin=[redacted];", "digits": REDACTED, "seven": 7,
                "json": "{\"x\": \"[redacted]\"}",
                "python": "{\"x\": \"[redacted]\"}",
                "key [redacted]": true,
            })
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
