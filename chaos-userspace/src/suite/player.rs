//! Playing one experiment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SuiteError;
use crate::report::{self, Verdict};

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

/// Plays experiments.
pub trait Player {
    /// Plays one, with values for its configuration.
    ///
    /// # Errors
    /// When nothing could be started.
    fn play(&mut self, experiment: &Path, vars: &[(String, String)])
    -> Result<Outcome, SuiteError>;
}

/// Plays each as a process: `PROGRAM… run --journal-path JOURNAL --var K=V… EXPERIMENT`.
#[derive(Debug)]
pub struct Runner {
    program: Vec<OsString>,
    journals: PathBuf,
    played: usize,
}

impl Runner {
    /// With a program, such as `murphy experiment` or `chaos`; journals go into a folder, which is made.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(program: Vec<OsString>, journals: PathBuf) -> Result<Self, SuiteError> {
        std::fs::create_dir_all(&journals)
            .map_err(SuiteError::io(format!("making {}", journals.display())))?;
        Ok(Self {
            program,
            journals,
            played: 0,
        })
    }
}

/// Exit status of a runner that found another at work.
const LOCKED: i32 = 75;

impl Player for Runner {
    fn play(
        &mut self,
        experiment: &Path,
        vars: &[(String, String)],
    ) -> Result<Outcome, SuiteError> {
        self.played += 1;
        let stem = experiment.file_stem().unwrap_or_default().to_string_lossy();
        let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S");
        let journal = self
            .journals
            .join(format!("{stamp}-{:03}-{stem}.json", self.played));
        let Some((program, words)) = self.program.split_first() else {
            return Err(SuiteError::File("no runner is named".to_owned()));
        };
        let mut command = Command::new(program);
        command
            .args(words)
            .arg("run")
            .arg("--journal-path")
            .arg(&journal);
        for (key, value) in vars {
            command.arg("--var").arg(format!("{key}={value}"));
        }
        let status = command.arg(experiment).status();
        let status = status.map_err(SuiteError::io(format!("starting {}", program.display())))?;
        if status.code() == Some(LOCKED) {
            return Ok(Outcome::Locked);
        }
        let refused = Outcome::Refused(status.code().unwrap_or(-1));
        // The exit status does not tell a hypothesis that held from one that was missed before anything was done.
        let told = std::fs::read_to_string(&journal)
            .ok()
            .and_then(|text| report::read(&text).ok());
        Ok(told.map_or(refused, |story| match story.verdict {
            Verdict::Held => Outcome::Held,
            other => Outcome::Missed(other),
        }))
    }
}
