//! What this machine has, as far as the choice of a backend depends on it. Asked of the kernel, never of its version.

#![deny(clippy::wildcard_enum_match_arm)]

use std::cell::OnceCell;
use std::collections::BTreeSet;

use super::processes::initial_namespace;
use murphy_fault::Family;
use murphy_fault::plan::{Hook, Machine};
use murphy_kernel::{privileges, probe};
use murphy_mechanisms::seccomp;
use murphy_sys::cgroup2::Cgroup2;
use murphy_sys::host;

/// This machine and this user.
#[derive(Debug, Default)]
pub struct Here {
    general: OnceCell<bool>,
    lsm: OnceCell<bool>,
}

impl Here {
    /// What programs of every kind need.
    fn loads_programs(&self) -> bool {
        *self.general.get_or_init(|| {
            privileges::missing().is_empty()
                && Cgroup2::find().is_ok_and(|found| found.is_some())
                && probe::private_bpffs().is_ok()
                && serves(Hook::Exec)
        })
    }

    /// Whether programs at hooks on calls can be had; `otherwise` says what a kernel lacks that has them not.
    fn has_probes<'h>(
        &self,
        hooks: impl IntoIterator<Item = &'h Hook>,
        otherwise: &str,
    ) -> Result<(), String> {
        if !self.loads_programs() {
            return Err("this kernel or user cannot".to_owned());
        }
        match hooks.into_iter().all(|&hook| serves(hook)) {
            true => Ok(()),
            false => Err(otherwise.to_owned()),
        }
    }

    /// Whether LSM programs load, and run.
    fn has_lsm(&self) -> bool {
        *self.lsm.get_or_init(|| {
            let listed = |list: String| list.split(',').any(|module| module.trim() == "bpf");
            probe::lsm_refusal().is_none() && host::security_modules().is_none_or(listed)
        })
    }
}

impl Machine for Here {
    fn has(&self, hooks: &BTreeSet<Hook>) -> bool {
        // The process that threads wait for is found by its id.
        let sleeps = hooks.iter().any(|hook| matches!(hook, Hook::Sleep(_)));
        self.loads_programs()
            && (!sleeps || initial_namespace().is_ok())
            && hooks
                .iter()
                .all(|&hook| serves(hook) && (hook.family() != Family::Lsm || self.has_lsm()))
    }

    fn overrides(&self, hooks: &BTreeSet<Hook>) -> Result<(), String> {
        self.has_probes(hooks, "this kernel has no CONFIG_BPF_KPROBE_OVERRIDE")
    }

    fn writes_registers(&self) -> Result<(), String> {
        self.has_probes(
            [&Hook::UPROBE],
            "this kernel's uprobes may not write registers",
        )
    }

    fn spins(&self) -> Result<(), String> {
        self.has_probes(
            [&Hook::SPIN],
            "this kernel has no kprobes, or none that loop (Linux 5.17)",
        )
    }

    fn supervises(&self) -> Result<(), String> {
        seccomp::available()
    }
}

/// Whether nothing that a hook relies on is known to be missing.
fn serves(hook: Hook) -> bool {
    let needs = probe::needs(hook, true);
    needs.iter().all(|need| need.here != Some(false))
}
