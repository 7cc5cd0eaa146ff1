//! Outcomes of tests, however they were run, and how they are collected.

use serde_json::{Value, json};

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One test in one environment.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// `host`, or a kernel's name.
    pub(crate) environment: String,
    /// `FILE: NAME`, or `check: NAME`.
    pub(crate) test: String,
    pub(crate) outcome: Outcome,
    /// Why it failed or was skipped.
    pub(crate) text: String,
    pub(crate) seconds: f64,
    /// How it failed before it was tried once more.
    pub(crate) at_first: Option<String>,
}

impl Record {
    pub(crate) fn new(
        environment: &str,
        test: impl Into<String>,
        outcome: Outcome,
        text: impl Into<String>,
    ) -> Self {
        Self {
            environment: environment.to_owned(),
            test: test.into(),
            outcome,
            text: text.into(),
            seconds: 0.0,
            at_first: None,
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "environment": self.environment, "test": self.test, "outcome": self.outcome.word(),
            "text": self.text, "seconds": self.seconds, "at_first": self.at_first,
        })
    }
}

/// How much of a failure's text is shown when it happens.
const SHOWN_AT_ONCE: usize = 600;

/// Follows the events of one environment (see the harness, `tests/src/case.rs`).
#[derive(Debug)]
pub(crate) struct Collector {
    environment: String,
    pub(crate) records: Vec<Record>,
    /// A test that has begun and not ended.
    running: Option<String>,
    /// How that one failed already.
    at_first: Option<String>,
}

impl Collector {
    pub(crate) fn new(environment: &str) -> Self {
        Self {
            environment: environment.to_owned(),
            records: Vec::new(),
            running: None,
            at_first: None,
        }
    }

    /// Takes one line of events; what is none is ignored.
    pub(crate) fn line(&mut self, line: &str) {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            return;
        };
        if event["event"] == "note" {
            let (file, text) = (event["file"].as_str(), event["text"].as_str());
            let (file, text) = (file.unwrap_or_default(), text.unwrap_or_default());
            eprintln!("   note     {} {file}: {text}", self.environment);
            return;
        }
        let (Some(file), Some(test)) = (event["file"].as_str(), event["test"].as_str()) else {
            return;
        };
        let test = format!("{file}: {test}");
        if event["event"] == "start" {
            self.running = Some(test);
            return;
        }
        let text = event["text"].as_str().unwrap_or_default();
        if event["event"] == "again" {
            self.shout("again", &test, text);
            self.at_first = Some(text.to_owned());
            return;
        }
        self.running = None;
        let outcome = match event["outcome"].as_str() {
            Some("passed") => Outcome::Passed,
            Some("skipped") => Outcome::Skipped,
            _ => Outcome::Failed,
        };
        if outcome == Outcome::Failed {
            self.shout("FAILED", &test, text);
        }
        let mut record = Record::new(&self.environment, test, outcome, text);
        record.seconds = event["seconds"].as_f64().unwrap_or_default();
        record.at_first = self.at_first.take();
        self.records.push(record);
    }

    /// Tells of a failure when it happens: the table with all that is said of it comes at the end, where a log may be cut.
    fn shout(&self, word: &str, test: &str, text: &str) {
        let text: String = text.chars().take(SHOWN_AT_ONCE).collect();
        eprintln!(
            "   {word:<8} {} {test}: {}",
            self.environment,
            text.replace('\n', " | ")
        );
    }

    /// The environment is gone: whatever of `expected` has no outcome has failed.
    pub(crate) fn close(&mut self, expected: &[String], why: &str) {
        let running = self.running.take();
        for test in expected {
            if self.records.iter().any(|r| r.test == *test) {
                continue;
            }
            let text = if running.as_ref() == Some(test) {
                format!("{why} (during this test)")
            } else {
                format!("{why} (before this test ran)")
            };
            self.records
                .push(Record::new(&self.environment, test, Outcome::Failed, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_kernel_fails_what_it_had_not_finished() {
        let mut c = Collector::new("sid");
        c.line(r#"{"event":"start","file":"a","test":"x"}"#);
        c.line(r#"{"event":"end","file":"a","test":"x","outcome":"skipped","text":"no","seconds":0.1}"#);
        c.line(r#"{"event":"start","file":"a","test":"y"}"#);
        c.line("noise");
        c.line(r#"{"event":"again","file":"a","test":"y","text":"late"}"#);
        c.close(&["a: x".into(), "a: y".into(), "a: z".into()], "panic");
        let got: Vec<_> = c
            .records
            .iter()
            .map(|r| (r.outcome, r.text.as_str()))
            .collect();
        assert_eq!(
            got,
            [
                (Outcome::Skipped, "no"),
                (Outcome::Failed, "panic (during this test)"),
                (Outcome::Failed, "panic (before this test ran)"),
            ]
        );
    }

    #[test]
    fn a_second_try_is_remembered_with_its_test() {
        let mut c = Collector::new("sid");
        c.line(r#"{"event":"start","file":"a","test":"x"}"#);
        c.line(r#"{"event":"again","file":"a","test":"x","text":"late"}"#);
        c.line(r#"{"event":"end","file":"a","test":"x","outcome":"passed","seconds":0.1}"#);
        c.line(r#"{"event":"end","file":"a","test":"y","outcome":"passed","seconds":0.1}"#);
        let got: Vec<_> = c.records.iter().map(|r| r.at_first.as_deref()).collect();
        assert_eq!(got, [Some("late"), None]);
    }
}
