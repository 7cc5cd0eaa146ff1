//! Experiments in a row: harder and harder while the hypothesis holds, by the clock, or at random.
//!
//! What decides is pure: time comes from a [`Clock`], experiments are played by a [`Player`]. Each experiment is a process of its own, which
//! holds the lock of one at a time, plays its own rollbacks and ends its own faults. A signal that ends the suite is handed on to it, and its
//! end awaited; if the suite is killed, the kernel tells it.

mod clock;
mod ending;
pub mod gameday;
pub mod monkey;
mod player;
pub mod schedule;

use std::path::{Path, PathBuf};

use jiff::Zoned;
use serde_json::Value;

pub use clock::{Clock, SystemClock};
pub use ending::Ending;
pub use player::{Outcome, Played, Player, Program, Runner, Values};

use crate::{Experiment, Invalid};

/// What happens, for whoever looks on.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A step of a gameday begins.
    Step {
        /// Counted from 1.
        number: usize,
        /// How many there are.
        of: usize,
        /// What it is called.
        name: &'a str,
    },
    /// When the next round of a schedule is due.
    Next(&'a Zoned),
    /// A look at which the monkey acts, counted from 1.
    Look(u64),
    /// An experiment begins.
    Begins(&'a Path),
    /// It has ended.
    Ended(&'a Played),
}

/// Why a suite cannot be begun or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The gameday's file.
    #[error("{0}")]
    File(String),
    /// The times of a schedule.
    #[error("`{pattern}` is no cron expression: {why}")]
    Cron {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// The business hours.
    #[error("{0}")]
    Hours(String),
    /// An experiment that cannot be played.
    #[error("{0}")]
    Experiment(#[from] Invalid),
    /// A value that the experiment has no key for.
    #[error("{experiment}: its configuration has no key `{key}`; {known}")]
    Unknown {
        /// Its file.
        experiment: String,
        /// What was given a value.
        key: String,
        /// The keys it has.
        known: String,
    },
    /// There is nothing to play.
    #[error("there is no experiment in {0}")]
    Empty(String),
    /// The runner could not be started.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
}

impl SuiteError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Whether an experiment can be played with values for these keys; what only Chaos Toolkit can tell is left to it.
///
/// # Errors
/// All that is wrong with the experiment, or the first key that its configuration lacks.
pub fn check<'a>(
    experiment: &Path,
    keys: impl IntoIterator<Item = &'a str>,
    program: &Program,
) -> Result<(), SuiteError> {
    let read = Experiment::read(experiment)?;
    if matches!(program, Program::Own(_)) {
        read.check()?;
    }
    let has = read.said.get("configuration").and_then(Value::as_object);
    let known: Vec<_> = has.into_iter().flat_map(|has| has.keys()).collect();
    match keys
        .into_iter()
        .find(|key| known.iter().all(|has| has != key))
    {
        None => Ok(()),
        Some(key) => Err(SuiteError::Unknown {
            experiment: experiment.display().to_string(),
            key: key.to_owned(),
            known: match known.is_empty() {
                true => "it has none".to_owned(),
                false => format!(
                    "it has {}",
                    known
                        .iter()
                        .map(|key| key.as_str())
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            },
        }),
    }
}

/// Experiments among files and folders: `.json`, `.yaml` and `.yml`, folders with all below them, by name. Of a folder, files without a
/// method are left out: they are something else.
///
/// # Errors
/// When a folder cannot be read, or there is none.
pub fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, SuiteError> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            below(path, &mut found)?;
        } else {
            found.push(path.clone());
        }
    }
    if found.is_empty() {
        let said: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return Err(SuiteError::Empty(said.join(", ")));
    }
    Ok(found)
}

fn below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), SuiteError> {
    let read = || SuiteError::io(format!("reading {}", folder.display()));
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read())? {
        entries.push(entry.map_err(read())?.path());
    }
    entries.sort();
    for path in entries {
        let is_experiment = |path: &Path| {
            path.extension()
                .is_some_and(|end| end == "json" || end == "yaml" || end == "yml")
        };
        if path.is_dir() {
            below(&path, found)?;
        } else if is_experiment(&path)
            && Experiment::read(&path).map_or(true, |read| read.said.contains_key("method"))
        {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
