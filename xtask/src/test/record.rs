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
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "environment": self.environment, "test": self.test, "outcome": self.outcome.word(),
            "text": self.text, "seconds": self.seconds,
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
}

impl Collector {
    pub(crate) fn new(environment: &str) -> Self {
        Self {
            environment: environment.to_owned(),
            records: Vec::new(),
            running: None,
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
        self.running = None;
        let outcome = match event["outcome"].as_str() {
            Some("passed") => Outcome::Passed,
            Some("skipped") => Outcome::Skipped,
            _ => Outcome::Failed,
        };
        let text = event["text"].as_str().unwrap_or_default();
        let mut record = Record::new(&self.environment, test, outcome, text);
        record.seconds = event["seconds"].as_f64().unwrap_or_default();
        if outcome == Outcome::Failed {
            // The table with all that is said of it comes at the end, where a log may be cut.
            let text: String = text.chars().take(SHOWN_AT_ONCE).collect();
            let (environment, test) = (&self.environment, &record.test);
            eprintln!(
                "   FAILED   {environment} {test}: {}",
                text.replace('\n', " | ")
            );
        }
        self.records.push(record);
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
}
