//! The spans of an injection and of experiments, sent when all is over.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::failure::Failure;
use super::output::tell;
use murphy_experiment::telemetry::{Context, Settings, Span, export, of_journal};
use murphy_state::Record;
use murphy_state::results::Report;

/// An injection that is to be told of.
pub(super) struct Spans {
    settings: Settings,
    context: Context,
    started: u64,
    root: Span,
    windows: Vec<Span>,
}

impl Spans {
    /// Of an injection that is about to begin; `None` where nobody wants to know.
    pub(super) fn begin(record: &Record) -> Option<Self> {
        let settings = settings()?;
        let mut context = Context::new(Some(&settings), ids());
        let started = now();
        let mut root = context.span(format!("murphy {}", record.command), started, started);
        root.attribute("murphy.id", record.id.as_str());
        root.attribute("murphy.targets", record.targets.clone());
        root.attribute("murphy.reason", record.reason.clone());
        root.attribute("murphy.seed", record.seed.to_string());
        Some(Self {
            settings,
            context,
            started,
            root,
            windows: Vec::new(),
        })
    }

    /// Notes how it ended, and when which fault was in force.
    pub(super) fn ended(&mut self, ended: &str, report: &Report) {
        let now = now();
        self.root.ends(now);
        self.root.attribute("murphy.ended", ended);
        if !report.armed {
            return;
        }
        let since = Duration::try_from_secs_f64(report.seconds).unwrap_or_default();
        let since = now.saturating_sub(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        for fault in &report.faults {
            let name = format!("fault {}", fault.fault);
            let armed = since.max(self.started);
            let mut window = self.context.child(&self.root, name, armed, now);
            window.attribute("murphy.fault", fault.fault.as_str());
            window.attribute("murphy.fault.matched", fault.matched);
            window.attribute("murphy.fault.injected", fault.injected);
            window.attribute("murphy.fault.suppressed", fault.suppressed.total());
            window.attribute("murphy.fault.expired", fault.expired);
            window.attribute("murphy.fault.failed", fault.failed);
            if let Some(observed) = fault.observed {
                window.attribute("murphy.fault.observed", observed);
            }
            self.windows.push(window);
        }
    }

    /// Notes that it failed.
    pub(super) fn failed(&mut self, failure: &Failure) {
        self.root.ends(now());
        self.root.failed(failure.to_string());
    }

    /// Sends what was noted.
    pub(super) fn send(self) {
        let mut spans = vec![self.root];
        spans.extend(self.windows);
        sent(&self.settings, &spans);
    }
}

/// Sends the spans of an experiment that is over, of its journal.
pub(super) fn of_experiment(journal: &Value) {
    if let Some(settings) = settings() {
        let spans = of_journal(&mut Context::new(Some(&settings), ids()), journal);
        sent(&settings, &spans);
    }
}

fn settings() -> Option<Settings> {
    // The variables may be meant for a command that murphy only starts: nothing is refused for their sake.
    let read = Settings::from_env();
    read.unwrap_or_else(|error| {
        tell(&format!("murphy: no spans are sent: {error}"));
        None
    })
}

fn sent(settings: &Settings, spans: &[Span]) {
    if let Err(error) = export(settings, spans) {
        tell(&format!("murphy: {error}"));
    }
}

/// A seed of ids that nobody else has.
fn ids() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => now(),
    }
}

/// ns since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
