//! Whom a plan hits among what runs already.

use std::fmt;
use std::path::PathBuf;

use chaos_common::dims;
use serde::Serialize;

/// One way to name processes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// Every process that is not exempt.
    All,
    /// A process and all its descendants; the id as this process sees it.
    Pid(u32),
    /// A cgroup with those below it: absolute, or below the cgroup2 mount.
    Cgroup(PathBuf),
    /// A real user id.
    Uid(u32),
    /// The name of a process, exactly; longer ones are cut as the kernel cuts them.
    Comm(String),
    /// The file that is executed.
    Exe(PathBuf),
    /// A container, by its id, the beginning of its id, or its name.
    Container(String),
    /// A systemd unit.
    Unit(String),
}

impl Selector {
    /// The dimensions it may be looked up in.
    const fn dimensions(&self) -> u64 {
        match self {
            Self::All => dims::ALL,
            Self::Pid(_) => dims::PIDS,
            Self::Cgroup(_) => dims::CGROUPS,
            Self::Uid(_) => dims::UIDS,
            Self::Comm(_) => dims::COMMS,
            Self::Exe(_) => dims::PIDS | dims::EXES,
            // By the processes in it where it has no cgroup of the second version.
            Self::Container(_) | Self::Unit(_) => dims::CGROUPS | dims::PIDS,
        }
    }

    /// Whether who comes later is hit without being looked for, so that having no
    /// process at the moment is no end.
    pub const fn is_standing(&self) -> bool {
        matches!(
            self,
            Self::All | Self::Uid(_) | Self::Comm(_) | Self::Exe(_)
        )
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("every process"),
            Self::Pid(pid) => write!(f, "process {pid}"),
            Self::Cgroup(path) => write!(f, "cgroup {}", path.display()),
            Self::Uid(id) => write!(f, "user {id}"),
            Self::Comm(name) => write!(f, "processes called {name}"),
            Self::Exe(path) => write!(f, "executable {}", path.display()),
            Self::Container(name) => write!(f, "container {name}"),
            Self::Unit(name) => write!(f, "unit {name}"),
        }
    }
}

/// A set of processes: the union of some without the union of others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Who {
    /// Who is hit.
    pub hit: Vec<Selector>,
    /// Who of them is spared.
    pub spare: Vec<Selector>,
    /// Whether [`EXEMPT`] holds too.
    pub exempt: bool,
}

impl Who {
    /// The dimensions in use.
    pub fn dimensions(&self) -> u64 {
        let named = self.hit.iter().chain(&self.spare);
        let dimensions = named.fold(0, |all, selector| all | selector.dimensions());
        if self.exempt {
            dimensions | dims::SPARED_COMMS
        } else {
            dimensions
        }
    }
}

/// Names of processes that are spared by default: those that let you in, and those
/// that hold containers. Cut to 15 characters, as the kernel does.
pub const EXEMPT: [&str; 25] = [
    "sshd",
    "sshd-session",
    "sshd-auth",
    "dockerd",
    "containerd",
    "containerd-shim",
    "crio",
    "conmon",
    "conmonrs",
    "podman",
    "runc",
    "runc:[0:PARENT]",
    "runc:[1:CHILD]",
    "runc:[2:INIT]",
    "crun",
    "youki",
    "kubelet",
    "systemd",
    "systemd-journal",
    "systemd-logind",
    "systemd-udevd",
    "systemd-network",
    "systemd-resolve",
    "dbus-daemon",
    "dbus-broker",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exempt_names_are_as_long_as_names_can_be() {
        assert!(EXEMPT.iter().all(|name| name.len() <= 15));
    }

    #[test]
    fn only_the_dimensions_in_use() {
        let who = Who {
            hit: vec![Selector::Uid(1)],
            spare: vec![Selector::Comm("x".into())],
            exempt: false,
        };
        assert_eq!(who.dimensions(), dims::UIDS | dims::COMMS);
    }
}
