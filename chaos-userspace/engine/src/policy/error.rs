//! What a policy says no with.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

/// How every refusal by a policy begins; the daemon tells it from others by this.
pub const NOT_ALLOWED: &str = "not allowed here: ";

/// How every [`PolicyError`] begins.
pub const NO_POLICY: &str = "the policy ";

/// Why a policy cannot be asked. Nothing is injected then.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("the policy {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody but root could have written it.
    #[error("the policy {path} is not to be trusted: {why}")]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It says what means nothing.
    #[error("the policy {path} is not understood:\n{message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What, and where.
        message: String,
        /// What would be right.
        remedy: Option<String>,
    },
}

impl PolicyError {
    /// What its user can do about it.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Read { path, .. } => Some(format!(
                "make {} a regular file of UTF-8 text that murphy can read",
                path.display()
            )),
            Self::Untrusted { path, .. } => Some(format!(
                "chown root {path} && chmod go-w {path}",
                path = path.display()
            )),
            Self::Syntax {
                remedy: Some(remedy),
                ..
            } => Some(remedy.clone()),
            Self::Syntax { .. } => Some("docs/policy.md lists all keys and values".to_owned()),
        }
    }
}

/// A rule of a policy, and what was asked against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The rule: file, line and words; or what murphy itself never does.
    pub rule: String,
    /// What was asked.
    pub asked: String,
    /// What would be allowed.
    pub remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, but {}", self.rule, self.asked)
    }
}
