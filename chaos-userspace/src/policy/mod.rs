//! What may be injected on this machine: `/etc/murphy/policy.toml`, and files that narrow it.
//!
//! Every policy is asked, and each may refuse: another file can never allow what the machine's forbids.
//!
//! Architecture invariant: a policy decides about values ([`Asked`]); it looks at nothing but its own file and
//! the machine's label.

mod check;
mod error;
mod file;
mod label;
mod pattern;

use std::path::{Path, PathBuf};

pub use check::{Asked, Command};
pub use error::{PolicyError, Refusal};
pub use label::Label;
pub use pattern::Pattern;

use file::File;

/// The machine's policy.
pub const PATH: &str = "/etc/murphy/policy.toml";

/// The policies that hold: the machine's, if it has one, and those of the command line.
#[derive(Debug, Default)]
pub struct Policies {
    policies: Vec<Policy>,
    labels: Vec<Label>,
}

/// One file.
#[derive(Debug)]
struct Policy {
    path: PathBuf,
    text: String,
    rules: File,
}

impl Policies {
    /// Reads the machine's policy and these files.
    ///
    /// # Errors
    ///
    /// A file cannot be read or trusted, or says what means nothing.
    pub fn load(more: &[PathBuf]) -> Result<Self, PolicyError> {
        let mut policies = Vec::new();
        if let Some(machine) = Policy::read(Path::new(PATH), true)? {
            policies.push(machine);
        }
        for path in more {
            policies.extend(Policy::read(path, false)?);
        }
        let file = policies
            .iter()
            .find_map(|policy| policy.rules.environment.file.as_ref());
        Ok(Self {
            labels: label::labels(file.map(|file| file.get_ref().as_path())),
            policies,
        })
    }

    /// Everything that is refused, by every policy.
    pub fn refusals(&self, asked: &Asked<'_>) -> Vec<Refusal> {
        let mut refusals = label::production(&self.labels, &self.policies);
        for policy in &self.policies {
            refusals.extend(policy.refusals(asked, &self.labels));
        }
        refusals.extend(check::own_paths(asked));
        refusals
    }

    /// Where the machine wants to have it noted who does what.
    pub fn audit(&self) -> Vec<&str> {
        self.policies
            .iter()
            .filter_map(|policy| policy.rules.audit.to.as_ref())
            .map(|to| to.get_ref().as_str())
            .collect()
    }

    /// The files that were read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.policies.iter().map(|policy| policy.path.as_path())
    }
}
