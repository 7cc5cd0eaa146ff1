//! What an injection has to undo: its cleanups, and last of all its record.

use std::fmt;
use std::fs::File;
use std::io;

use serde::{Deserialize, Serialize};

use murphy_state::Removal;
use murphy_state::cleanup::{Cleanup, Outcome};

/// An entry of the journal that a session and its guardian share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Undo {
    /// Kernel state that outlives its maker.
    Cleanup(Cleanup),
    /// The injection's record. The first to be journalled, and so the last to be undone, if all
    /// others were.
    Record(Removal),
}

impl Undo {
    /// Undoes it. Takes at most about two seconds; an ifb as long as it is to be waited for.
    ///
    /// # Errors
    ///
    /// As [`Cleanup::undo`]; for a record, that it cannot be read or removed.
    pub fn undo(&self) -> io::Result<Outcome> {
        match self {
            Self::Cleanup(cleanup) => cleanup.undo(),
            Self::Record(record) => record.remove().map(Outcome::done_if),
        }
    }

    /// Opens the network namespace in which to undo it, if that is not the caller's.
    pub(crate) fn namespace(&self) -> io::Result<Option<File>> {
        match self {
            Self::Cleanup(cleanup) => cleanup.namespace(),
            Self::Record(_) => Ok(None),
        }
    }

    /// Undoes it in its network namespace, opened before.
    pub(crate) fn undo_in(&self, namespace: Option<&File>) -> io::Result<Outcome> {
        match self {
            Self::Cleanup(cleanup) => cleanup.undo_in(namespace),
            Self::Record(record) => record.remove().map(Outcome::done_if),
        }
    }
}

impl Undo {
    /// Whether it removes the note of all others, which has to stay while one of them could not be
    /// undone.
    pub(super) fn is_record(&self) -> bool {
        matches!(self, Self::Record(_))
    }
}

impl From<Cleanup> for Undo {
    fn from(cleanup: Cleanup) -> Self {
        Self::Cleanup(cleanup)
    }
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cleanup(cleanup) => cleanup.fmt(f),
            Self::Record(record) => write!(f, "record {}", record.id),
        }
    }
}
