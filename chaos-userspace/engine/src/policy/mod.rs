//! What may be injected on this machine: `/etc/murphy/policy.toml`, and files that narrow it.
//!
//! Every policy is asked, and each may refuse: another file can never allow what the machine's forbids.
//!
//! Architecture invariant: a policy decides about values ([`Asked`]). Of the machine it looks at its own file, the labels, and
//! where the paths lead that a policy and a fault name; it changes nothing.

#![deny(clippy::wildcard_enum_match_arm)]

mod check;
mod error;
mod file;
mod label;
mod overlap;
mod pattern;
mod place;

use std::path::{Path, PathBuf};

pub use check::{Asked, Command};
pub use error::{NO_POLICY, NOT_ALLOWED};
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
    /// Labels that are there and cannot be understood.
    unreadable: Vec<Refusal>,
}

/// One file.
#[derive(Debug)]
struct Policy {
    path: PathBuf,
    text: String,
    rules: File,
    /// Whether it is the machine's own.
    machine: bool,
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
        let named = policies
            .iter()
            .filter_map(|policy| policy.rules.environment.file.as_ref());
        let named: Vec<&Path> = named.map(|file| file.get_ref().0.as_path()).collect();
        let (labels, unreadable) = label::labels(&named);
        Ok(Self {
            policies,
            labels,
            unreadable,
        })
    }

    /// Everything that is refused, by every policy.
    pub fn refusals(&self, asked: &Asked<'_>) -> Vec<Refusal> {
        let mut refusals = self.unreadable.clone();
        refusals.extend(label::production(&self.labels, &self.policies));
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
            .map(|to| to.get_ref().0.as_str())
            .collect()
    }

    /// The files that were read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.policies.iter().map(|policy| policy.path.as_path())
    }
}
