//! Playing one experiment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use serde_json::{Value, json};

use super::ending::Woken;
use super::{Ending, SuiteError};
use crate::report::{self, Verdict};
use murphy_sys::process::Process;

/// What became of an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried through, and its hypothesis held.
    Held,
    /// It was not, or did not hold.
    Missed(Verdict),
    /// Another experiment was under way.
    Locked,
    /// It could not be begun; the runner's exit status.
    Refused(i32),
}

impl Outcome {
    /// Whether a hypothesis did not hold, or could not be asked; what was left out is neither.
    pub(super) fn counts_as_missed(self) -> bool {
        !matches!(self, Self::Held | Self::Locked)
    }

    /// For programs: a verdict as reports have it, or `locked`, `refused`.
    pub fn json(self) -> Value {
        match self {
            Self::Held => json!(Verdict::Held),
            Self::Missed(verdict) => json!(verdict),
            Self::Locked => json!("locked"),
            Self::Refused(_) => json!("refused"),
        }
    }

    /// For people.
    pub fn words(self) -> String {
        match self {
            Self::Held => Verdict::Held.words().to_owned(),
            Self::Missed(verdict) => verdict.words().to_owned(),
            Self::Locked => "left out: another experiment is under way".to_owned(),
            Self::Refused(status) => format!("could not be begun (exit status {status})"),
        }
    }
}

/// An experiment that was played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Played {
    /// What became of it.
    pub outcome: Outcome,
    /// Where its journal is, if it wrote one.
    pub journal: Option<PathBuf>,
}

/// Plays experiments.
pub trait Player {
    /// Plays one, with values for its configuration.
    ///
    /// # Errors
    /// When nothing could be started.
    fn play(&mut self, experiment: &Path, values: &Values) -> Result<Played, SuiteError>;
}

/// Values for an experiment's configuration.
pub type Values = BTreeMap<String, Value>;

/// Who plays an experiment.
#[derive(Clone, Debug)]
pub enum Program {
    /// This program: `PROGRAM experiment run …`.
    Own(OsString),
    /// Chaos Toolkit's, or one that is called like it: `PROGRAM run …`.
    Chaos(OsString),
}

/// Plays each as a process: `… run --journal-path JOURNAL --var K=V… EXPERIMENT`.
#[derive(Debug)]
pub struct Runner {
    program: Program,
    journals: PathBuf,
    ending: Rc<Ending>,
    quiet: bool,
    played: usize,
}

impl Runner {
    /// With a program; journals go into a folder, which is made. `quiet` keeps what the program says of its own off standard output.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(
        program: Program,
        journals: PathBuf,
        ending: Rc<Ending>,
        quiet: bool,
    ) -> Result<Self, SuiteError> {
        std::fs::create_dir_all(&journals)
            .map_err(SuiteError::io(format!("making {}", journals.display())))?;
        Ok(Self {
            program,
            journals,
            ending,
            quiet,
            played: 0,
        })
    }

    /// The program, so that it ends with this one, and in a group of its own: what the terminal sends to all, Ctrl-C, is handed on here.
    fn command(&self) -> Command {
        let (mut command, last) = match &self.program {
            Program::Own(path) => {
                let mut command = Command::new(path);
                command.arg("experiment");
                // It is stopped with its rollbacks.
                (command, Signal::HUP)
            }
            Program::Chaos(path) => (Command::new(path), Signal::TERM),
        };
        let (before, parent) = (self.ending.before(), getpid());
        let join = move || {
            set_parent_process_death_signal(Some(last))?;
            // It may have been too late for that.
            if getppid() != Some(parent) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(before.thread_set_mask()?)
        };
        command.stdin(Stdio::null()).process_group(0);
        if self.quiet {
            command.stdout(Stdio::null());
        }
        // SAFETY: the closure makes system calls only.
        unsafe { command.pre_exec(join) };
        command
    }

    /// Waits for its end. The first signal asks for it, with rollbacks where the program knows how; another does not wait for these.
    fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let ended = Process::child(child)?;
        let mut next = match self.program {
            Program::Own(_) => Signal::HUP,
            Program::Chaos(_) => Signal::TERM,
        };
        while self.ending.wait(Some(ended.as_fd()), None) != Woken::Ready {
            // It may have ended meanwhile.
            let _ = ended.signal(next);
            next = Signal::TERM;
        }
        child.wait()
    }
}

/// Exit status of a runner that found another at work.
const LOCKED: i32 = 75;

impl Player for Runner {
    fn play(&mut self, experiment: &Path, values: &Values) -> Result<Played, SuiteError> {
        self.played += 1;
        let stem = experiment.file_stem().unwrap_or_default().to_string_lossy();
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S");
        let journal = self
            .journals
            .join(format!("{stamp}-{:03}-{stem}.json", self.played));
        let mut command = self.command();
        command.arg("run").arg("--journal-path").arg(&journal);
        for (key, value) in values {
            command.arg("--var").arg(variable(key, value));
        }
        let starting = || {
            let program = command.get_program().display();
            SuiteError::io(format!("starting {program}"))
        };
        let starting = starting();
        let mut child = command.arg(experiment).spawn().map_err(starting)?;
        let status = self.wait(&mut child);
        let status = status.map_err(SuiteError::io("waiting for an experiment"))?;
        // The exit status does not tell a hypothesis that held from one that was missed before anything was done.
        let told = std::fs::read_to_string(&journal)
            .ok()
            .and_then(|text| report::read(&text).ok());
        let outcome = match told.map(|story| story.verdict) {
            _ if status.code() == Some(LOCKED) => Outcome::Locked,
            None => Outcome::Refused(
                status
                    .code()
                    .or_else(|| status.signal().map(|signal| 128 + signal))
                    .unwrap_or(-1),
            ),
            Some(Verdict::Held) => Outcome::Held,
            Some(other) => Outcome::Missed(other),
        };
        Ok(Played {
            outcome,
            journal: Some(journal).filter(|journal| journal.is_file()),
        })
    }
}

/// A value as `--var` takes it, with its type.
fn variable(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) if key.contains(':') => format!("{key}:str={text}"),
        Value::String(text) => format!("{key}={text}"),
        Value::Number(number) if number.is_f64() => format!("{key}:float={number}"),
        Value::Number(number) => format!("{key}:int={number}"),
        Value::Bool(value) => format!("{key}:bool={value}"),
        other => format!("{key}:json={other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration;

    #[test]
    fn a_value_is_read_as_it_was_said() {
        for value in [
            json!("10%"),
            json!(5),
            json!(0.5),
            json!(true),
            json!(["a", 1]),
            json!("a=b"),
        ] {
            for key in ["share", "a:b"] {
                let read = configuration::variable(&variable(key, &value)).unwrap();
                assert_eq!(read, (key.to_owned(), value.clone()));
            }
        }
    }
}
