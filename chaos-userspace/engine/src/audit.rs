//! Who did what to whom, when and why, and how it ended: a JSON line each, to files and the journal.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::Survey;
use murphy_state::Record;
use murphy_state::results::Report;

/// Where journald listens (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Why it cannot be noted. Nothing is injected then.
#[derive(Debug, thiserror::Error)]
#[error("the audit log {to} cannot be written: {source}")]
pub struct AuditError {
    to: String,
    source: io::Error,
}

/// Everything that wants to be told.
#[derive(Debug, Default)]
pub struct Audit {
    sinks: Vec<Sink>,
}

#[derive(Debug)]
enum Sink {
    File { path: PathBuf, file: File },
    Journal(UnixDatagram),
}

/// What happened, in the words of the log's readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// An injection is about to begin.
    ChaosExperimentStarted,
    /// It has ended.
    ChaosExperimentCompleted,
    /// A policy has refused one.
    ChaosSafetyRefused,
    /// `murphy panic`.
    ChaosSafetyPanic,
    /// `murphy resume`.
    ChaosSafetyResumed,
}

impl Audit {
    /// Opens every place: `journald`, or the path of a file, which is appended to.
    ///
    /// # Errors
    ///
    /// One of them cannot be written.
    pub fn open<'a>(places: impl IntoIterator<Item = &'a str>) -> Result<Self, AuditError> {
        let places: BTreeSet<&str> = places.into_iter().collect();
        let sinks = places.into_iter().map(|place| {
            let sink = match place {
                "journald" => journal(Path::new(JOURNAL)),
                path => file(Path::new(path)),
            };
            sink.map_err(|source| AuditError {
                to: place.to_owned(),
                source,
            })
        });
        Ok(Self {
            sinks: sinks.collect::<Result<_, _>>()?,
        })
    }

    /// Whether nobody wants to be told.
    pub fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Tells everybody.
    ///
    /// # Errors
    ///
    /// The first that could not be told; the others are.
    pub fn tell(&mut self, operation: Operation, details: &Value) -> Result<(), AuditError> {
        let mut line = json!({
            "timestamp": jiff::Timestamp::now().to_string(),
            "level": match operation {
                _ if !details["error_message"].is_null() => "error",
                Operation::ChaosSafetyRefused | Operation::ChaosSafetyPanic => "warning",
                _ => "info",
            },
            "component": "murphy",
            "operation": operation,
        });
        if let (Some(line), Some(details)) = (line.as_object_mut(), details.as_object()) {
            line.extend(details.clone());
        }
        let line = line.to_string();
        let mut failed = None;
        for sink in &mut self.sinks {
            if let Err(error) = sink.write(&line) {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn file(path: &Path) -> io::Result<Sink> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        // Command lines may hold what is not everybody's.
        .mode(0o640)
        .open(path)?;
    Ok(Sink::File {
        path: path.to_owned(),
        file,
    })
}

fn journal(path: &Path) -> io::Result<Sink> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(Sink::Journal(socket))
}

impl Sink {
    fn write(&mut self, line: &str) -> Result<(), AuditError> {
        let (to, written) = match self {
            Self::File { path, file } => (
                path.display().to_string(),
                // One write, so that lines of several murphies stay whole.
                file.write_all(format!("{line}\n").as_bytes()),
            ),
            Self::Journal(socket) => ("journald".to_owned(), socket.send(&entry(line)).map(|_| ())),
        };
        written.map_err(|source| AuditError { to, source })
    }
}

/// An entry of the journal: the line as its message, which holds no newline.
fn entry(line: &str) -> Vec<u8> {
    format!("MESSAGE={line}\nPRIORITY=5\nSYSLOG_IDENTIFIER=murphy\n").into_bytes()
}

/// Who wants to do what, and how many it concerns.
pub fn subject(record: &Record, survey: &Survey) -> Value {
    let users: BTreeSet<_> = survey
        .hit
        .iter()
        .filter_map(|process| process.uid)
        .collect();
    let services: BTreeSet<_> = survey
        .hit
        .iter()
        .flat_map(|process| process.units.iter().chain(&process.container))
        .filter(|name| !name.ends_with(".slice"))
        .collect();
    json!({
        "chaos_experiment": record.id,
        "blast_radius": {
            "affected_users": users.len(),
            "affected_services": services.len(),
            "affected_processes": survey.hit.len(),
        },
        "uid": record.uid,
        "sudo_uid": record.sudo_uid,
        "argv": record.argv,
        "faults": record.faults,
        "targets": record.targets,
        "reason": record.reason,
        "seed": record.seed,
    })
}

/// How it ended.
pub fn result(ended: &str, report: &Report) -> Value {
    json!({ "ended": ended, "report": report })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let place = path.to_str().unwrap();
        for reason in ["one", "two\nlines"] {
            let mut audit = Audit::open([place, place]).unwrap();
            let details = json!({ "reason": reason });
            audit
                .tell(Operation::ChaosExperimentStarted, &details)
                .unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["operation"], "chaos_experiment_started");
        assert_eq!(lines[1]["reason"], "two\nlines");
    }

    #[test]
    fn the_journal_gets_an_entry() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let mut audit = Audit {
            sinks: vec![journal(&path).unwrap()],
        };
        audit
            .tell(Operation::ChaosSafetyPanic, &json!({ "reason": "a\nb" }))
            .unwrap();
        let mut buffer = [0; 1024];
        let length = journald.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("MESSAGE={") && lines[0].contains("chaos_safety_panic"));
        assert_eq!(lines[1..], ["PRIORITY=5", "SYSLOG_IDENTIFIER=murphy"]);
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let error = Audit::open(["/nowhere/at/all"]).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
