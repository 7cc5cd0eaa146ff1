//! The machine as it is found, before anything is tried.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use murphy_kernel::{btf, privileges, probe};
use murphy_sys::cgroup2::Cgroup2;
use murphy_sys::host;

/// What there is to know of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// What this program was built for.
    pub architecture: &'static str,
    /// `none`, `integrity` or `confidentiality`; `None` where the kernel has no lockdown or it cannot be read.
    pub lockdown: Option<String>,
    /// Active security modules; `None` where it cannot be read.
    pub security_modules: Option<Vec<String>>,
    /// This process's privileges.
    pub capabilities: Capabilities,
    /// The cgroup2 hierarchy; `None` where none is mounted.
    pub cgroup2: Option<Cgroup>,
    /// Whether the kernel's type information can be read.
    pub btf: bool,
    /// Why a private bpffs cannot be mounted; `None` if it can.
    pub bpffs_refused: Option<String>,
    /// Why no command can be supervised; `None` if one can.
    pub seccomp_refused: Option<String>,
}

/// Privileges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// The effective ones, as `/proc/self/status` has them.
    pub effective: Option<String>,
    /// What murphy needs and this process lacks.
    pub missing: Vec<String>,
}

/// A cgroup2 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cgroup {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The directory of this process's cgroup.
    pub own: PathBuf,
    /// Controllers of cgroup v1 are mounted beside it.
    pub hybrid: bool,
}

impl Machine {
    /// Looks.
    pub fn look() -> Self {
        Self {
            kernel: host::release(),
            architecture: std::env::consts::ARCH,
            lockdown: host::lockdown(),
            security_modules: host::security_modules()
                .map(|list| list.split(',').map(str::to_owned).collect()),
            capabilities: Capabilities {
                effective: effective(),
                missing: privileges::missing(),
            },
            cgroup2: Cgroup2::find().ok().flatten().map(|cgroup2| Cgroup {
                mount: cgroup2.mount,
                // Without the slash that joining with nothing leaves.
                own: cgroup2.own.components().collect(),
                hybrid: hybrid(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
            }),
            btf: fs::File::open(Path::new(btf::VMLINUX)).is_ok(),
            bpffs_refused: probe::private_bpffs().err().map(|error| error.to_string()),
            seccomp_refused: murphy_mechanisms::seccomp::available().err(),
        }
    }

    /// Whether kernel programs can be tried at all.
    pub fn privileged(&self) -> bool {
        self.capabilities.missing.is_empty()
    }

    /// The lockdown state, if it keeps anything from being done.
    pub fn locked_down(&self) -> Option<&str> {
        self.lockdown.as_deref().filter(|state| *state != "none")
    }
}

fn effective() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    Some(line.trim().to_owned())
}

/// From the text of `/proc/self/mountinfo` (proc(5)): the type follows the separator.
fn hybrid(mounts: &str) -> bool {
    mounts
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .any(|(_, right)| right.split(' ').next() == Some("cgroup"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v1_controller_makes_it_hybrid() {
        let v2 = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert!(!hybrid(v2));
        assert!(hybrid(&format!(
            "{v2}32 31 0:29 / /c rw - cgroup cgroup rw,cpu\n"
        )));
    }
}
