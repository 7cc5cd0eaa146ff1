//! What is written down of an injection.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cleanup::Cleanup;
use murphy_sys::owner::Owner;

/// The format's number; records of another one are shown and never acted on.
pub(super) const VERSION: u32 = 1;

/// An active injection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The format's number.
    pub version: u32,
    /// The name by which it is stopped.
    pub id: String,
    /// murphy's command: `run`, `inject`.
    pub command: String,
    /// The injector.
    pub owner: Owner,
    /// Its guardian, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardian: Option<Owner>,
    /// Real user id of who started it.
    pub uid: u32,
    /// Who called sudo(8), if that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_uid: Option<u32>,
    /// The command line. Its file has the first word only: others may read that, and arguments may be
    /// confidential. The control socket tells all of it to those who may ask.
    pub argv: Vec<String>,
    /// The faults as expressions.
    pub faults: Vec<String>,
    /// Whom they hit, in words.
    pub targets: Vec<String>,
    /// Why, as `--reason` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seed of the random decisions.
    pub seed: u64,
    /// When it was started, by the wall clock.
    pub started: String,
    /// The same by the boot clock in ns.
    pub started_boot_ns: u64,
    /// How long it injects once armed, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_s: Option<f64>,
    /// The lease's length in seconds.
    pub lease_s: f64,
    /// What no descriptor owns, in the order in which it was made.
    pub journal: Vec<Journalled>,
}

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journalled {
    /// How it is undone.
    pub undo: Cleanup,
    /// The inode of its network namespace, by which that is found when the path is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u64>,
}

impl Record {
    /// Whose it is and what it does, in a line.
    pub fn summary(&self) -> String {
        let user = match self.sudo_uid {
            Some(id) => format!("user {id} by sudo"),
            None => format!("user {}", self.uid),
        };
        format!(
            "{} of {} against {}, since {}, process {} of {user}",
            self.command,
            self.faults.join(" "),
            self.targets.join(", "),
            self.started,
            self.owner.pid,
        )
    }

    /// What everybody may know of it: command lines without their arguments.
    pub(super) fn for_everybody(&self) -> Self {
        let mut record = self.clone();
        record.argv.truncate(1);
        for target in &mut record.targets {
            if let Some(command) = target.strip_prefix("command ")
                && let Some((program, _)) = command.split_once(' ')
            {
                *target = format!("command {program}");
            }
        }
        record
    }

    /// What is left of its time at most; it counts from arming, which may have been later.
    pub fn left(&self, boot_ns: u64) -> Option<Duration> {
        let limit = Duration::try_from_secs_f64(self.limit_s?).ok()?;
        let since = Duration::from_nanos(boot_ns.saturating_sub(self.started_boot_ns));
        Some(limit.saturating_sub(since))
    }
}

/// Whether a word can name an injection: it is a file name, and words for a shell.
pub fn name_is_valid(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        // The other file in the folder.
        && name != "panic"
}

#[cfg(test)]
mod tests {
    use super::{Owner, Record, VERSION, name_is_valid};

    #[test]
    fn arguments_are_not_for_everybody() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let record = Record {
            version: VERSION,
            id: "a".to_owned(),
            command: "run".to_owned(),
            owner: Owner::this(),
            guardian: None,
            uid: 0,
            sudo_uid: None,
            argv: words(&["murphy", "run", "--", "psql", "password=hunter2"]),
            faults: words(&["connect:error=EPERM"]),
            targets: words(&["command psql password=hunter2", "uid:5"]),
            reason: None,
            seed: 1,
            started: String::new(),
            started_boot_ns: 0,
            limit_s: None,
            lease_s: 2.0,
            journal: Vec::new(),
        };
        let known = record.for_everybody();
        assert_eq!(known.argv, words(&["murphy"]));
        assert_eq!(known.targets, words(&["command psql", "uid:5"]));
        assert_eq!(known.faults, record.faults);
    }

    #[test]
    fn names() {
        for good in ["a", "3f2a9c", "redis-down.1", "A_b", &"x".repeat(64)] {
            assert!(name_is_valid(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "-a",
            "a/b",
            "a b",
            "ä",
            "panic",
            &"x".repeat(65),
        ] {
            assert!(!name_is_valid(bad), "{bad}");
        }
    }
}
