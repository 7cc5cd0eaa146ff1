//! Experiments in a row: harder and harder while the hypothesis holds, by the clock, or at random.
//!
//! What decides is pure: time comes from a [`Clock`], experiments are played by a [`Player`]. Each experiment is a process of its own, which
//! holds the lock of one at a time, plays its own rollbacks and ends its own faults.

pub mod gameday;
pub mod monkey;
mod player;
pub mod schedule;

use std::path::Path;
use std::time::Duration;

use jiff::Zoned;

pub use player::{Outcome, Player, Runner};

/// The time, and waiting for it.
pub trait Clock {
    /// What time it is, where this machine is.
    fn now(&self) -> Zoned;
    /// Waits.
    fn sleep(&self, time: Duration);
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Zoned {
        Zoned::now()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
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

/// Experiments among files and folders: `.json`, `.yaml` and `.yml`, folders with all below them, by name.
///
/// # Errors
/// When a folder cannot be read, or there is none.
pub fn find(paths: &[std::path::PathBuf]) -> Result<Vec<std::path::PathBuf>, SuiteError> {
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

fn below(folder: &Path, found: &mut Vec<std::path::PathBuf>) -> Result<(), SuiteError> {
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
        } else if is_experiment(&path) {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
