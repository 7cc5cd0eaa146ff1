//! `limit`: a resource limit that holds while the fault is in force.
//!
//! A condition: nothing happens to one operation. The soft limit of each target is lowered, and what
//! the kernel refuses then is its own doing.

use serde::{Deserialize, Serialize};

use super::model::Op;
use super::registry::{FaultKind, Property};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "limit",
    family: None,
    ops: &[Op::Limit],
    has: &[Property::Condition, Property::Limits],
    filters: &[],
    summary: "The target's soft resource limits are lowered: no new descriptors",
    metric: "processes whose limit was lowered",
    examples: &["limit:nofile=used", "limit:nofile=64:pulse=5s/25s"],
};

/// Which limit, and what it is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// `RLIMIT_NOFILE`: new descriptors have numbers below it (`getrlimit(2)`).
    Nofile(Level),
}

/// What a limit is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Said", into = "Said")]
pub enum Level {
    /// What the process uses at that moment: it gets no more of it.
    Used,
    /// This much.
    Number(u64),
}

/// [`Level`] as serde spells it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Said {
    Number(u64),
    Word(String),
}

/// The word for [`Level::Used`].
pub(super) const USED: &str = "used";

impl TryFrom<Said> for Level {
    type Error = String;

    fn try_from(said: Said) -> Result<Self, String> {
        match said {
            Said::Number(number) => Ok(Self::Number(number)),
            Said::Word(word) if word == USED => Ok(Self::Used),
            Said::Word(word) => Err(format!("expected a number or `{USED}`, not {word:?}")),
        }
    }
}

impl From<Level> for Said {
    fn from(level: Level) -> Self {
        match level {
            Level::Used => Self::Word(USED.to_owned()),
            Level::Number(number) => Self::Number(number),
        }
    }
}
