//! An experiment's progress, and what it came to: bars for people, JSON lines for machines.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::args::RunArgs;
use crate::failure::Failure;
use crate::output::tell;
use murphy_experiment::journal::timestamp;
use murphy_experiment::progress::{Event, Observer, Silent};
use murphy_experiment::runner::Finished;
use murphy_sys::printable;

/// A line on standard output. Whoever closed it does not want to read it.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{}", printable::lines(text)) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Failure::io("writing to standard output")),
    }
}

/// A value as a line of JSON.
pub(super) fn json_line(value: &Value) -> Result<(), Failure> {
    line(&printable::json(&value.to_string()))
}

/// Whoever shows the progress.
pub(super) fn observer(quiet: bool, title: &str) -> Box<dyn Observer> {
    if quiet {
        Box::new(Silent)
    } else if io::stderr().is_terminal() {
        Box::new(Terminal::new())
    } else {
        Box::new(Lines::new(title))
    }
}

/// What it came to.
pub(super) fn finished(
    args: &RunArgs,
    finished: &Finished,
    journal: &Path,
    strictly: &[String],
) -> Result<(), Failure> {
    if args.json {
        return json_line(&json!({
            "title": finished.journal["experiment"]["title"],
            "status": finished.status.word(),
            "deviated": finished.deviated,
            "strict": strictly,
            "journal": journal.display().to_string(),
            "murphy": finished.journal["murphy"],
        }));
    }
    for wrong in strictly {
        tell(&format!("murphy: --strict: {wrong}"));
    }
    if args.quiet {
        return Ok(());
    }
    let verdict = match finished.deviated {
        true => "the steady state deviated: a weakness was found",
        false => finished.status.word(),
    };
    let verdict = format!(
        "{}: {verdict} ({})",
        finished.journal["experiment"]["title"]
            .as_str()
            .unwrap_or_default(),
        journal.display()
    );
    line(&printable::line(&verdict))
}

/// A spinner with what goes on, and lines for what happened.
struct Terminal(ProgressBar);

impl Terminal {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {prefix}: {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }
}

/// A bar that shows what experiments say as text.
struct Bar<'a>(&'a ProgressBar);

impl Bar<'_> {
    fn println(&self, text: impl AsRef<str>) {
        self.0.println(printable::line(text.as_ref()));
    }

    fn set_message(&self, text: &str) {
        self.0.set_message(printable::line(text).into_owned());
    }
}

impl Observer for Terminal {
    fn tell(&self, event: &Event<'_>) {
        let bar = Bar(&self.0);
        match event {
            Event::Started { title } => bar.println(format!("experiment: {title}")),
            Event::Phase(phase) => {
                bar.0.set_prefix(phase.word());
                bar.set_message("");
            }
            Event::Activity { name, background } => {
                bar.set_message(name);
                if *background {
                    bar.println(format!("  … {name} (in the background)"));
                }
            }
            Event::Done {
                name,
                failed,
                tolerance_met,
            } => bar.println(match (failed, tolerance_met) {
                (Some(text), _) => format!("  ✗ {name}: {text}"),
                (None, Some(false)) => format!("  ✗ {name}: out of tolerance"),
                (None, _) => format!("  ✓ {name}"),
            }),
            Event::Counters(reports) => {
                let injected: u64 = reports
                    .iter()
                    .flat_map(|report| report["faults"].as_array().into_iter().flatten())
                    .filter_map(|fault| fault["injected"].as_u64())
                    .sum();
                if !reports.is_empty() {
                    bar.set_message(&format!("{injected} injected"));
                }
            }
            Event::Notice(text) => bar.println(format!("  ! {text}")),
            Event::Safety { limit, text } => bar.println(format!("  ! {limit}: {text}")),
            Event::Ended { .. } => bar.0.finish_and_clear(),
        }
    }
}

/// JSON lines with the fields of structured logs of chaos suites.
struct Lines {
    title: String,
    phase: Mutex<&'static str>,
}

impl Lines {
    fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            phase: Mutex::new("preparation"),
        }
    }

    fn write(&self, level: &str, operation: &str, more: Value) {
        let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fields = Map::new();
        for (key, value) in [
            ("timestamp", timestamp(SystemTime::now())),
            ("level", level.to_owned()),
            ("component", "murphy.experiment".to_owned()),
            ("operation", operation.to_owned()),
            ("chaos_experiment", self.title.clone()),
            ("experiment_phase", phase.to_owned()),
        ] {
            fields.insert(key.to_owned(), value.into());
        }
        if let Value::Object(more) = more {
            fields.extend(more);
        }
        tell(&printable::json(&Value::Object(fields).to_string()));
    }
}

impl Observer for Lines {
    fn tell(&self, event: &Event<'_>) {
        match event {
            Event::Started { .. } => self.write("INFO", "chaos_experiment_started", json!({})),
            Event::Phase(phase) => {
                *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase.word();
                self.write("INFO", "phase", json!({}));
            }
            Event::Activity { name, background } => self.write(
                "INFO",
                "activity_started",
                json!({"activity": name, "background": background}),
            ),
            Event::Done {
                name,
                failed,
                tolerance_met,
            } => {
                let mut more = json!({"activity": name});
                let mut level = "INFO";
                if let Some(met) = tolerance_met {
                    more["tolerance_met"] = (*met).into();
                    level = if *met { level } else { "WARNING" };
                }
                if let Some(text) = failed {
                    level = "ERROR";
                    more["error_type"] = "ActivityFailed".into();
                    more["error_message"] = (*text).into();
                }
                self.write(level, "activity_completed", more);
            }
            Event::Counters(reports) => {
                for fault in reports
                    .iter()
                    .flat_map(|report| report["faults"].as_array().into_iter().flatten())
                {
                    self.write("INFO", "chaos_fault_injected", json!({"fault": fault}));
                }
            }
            Event::Notice(text) => self.write("WARNING", "notice", json!({"error_message": text})),
            Event::Safety { limit, text } => self.write(
                "ERROR",
                &format!("chaos_safety_{limit}"),
                json!({"error_type": "SafetyLimit", "error_message": text}),
            ),
            Event::Ended {
                status, deviated, ..
            } => self.write(
                "INFO",
                "chaos_experiment_completed",
                json!({"status": status, "deviated": deviated}),
            ),
        }
    }
}
