//! This machine and this user, as far as mechanisms look at them before anything is made. Asked of
//! the kernel, never of its version.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use super::{Declaration, Unavailable, all};
use murphy_fault::Family;
use murphy_fault::plan::{Backend, Hook, Machine};
use murphy_kernel::{privileges, probe};
use murphy_sys::cgroup2::Cgroup2;
use murphy_sys::host;

/// This machine and this user. What was looked at is remembered.
#[derive(Debug, Default)]
pub struct Here {
    general: OnceCell<bool>,
    lsm: OnceCell<bool>,
}

impl Here {
    /// Whether programs of a mechanism work at some hooks of its own, as far as looking tells.
    ///
    /// # Errors
    ///
    /// They are known not to.
    pub(crate) fn has_programs(
        &self,
        of: &Declaration,
        hooks: &BTreeSet<Hook>,
    ) -> Result<(), Unavailable> {
        if !self.loads_programs() {
            return Err(Unavailable {
                reason: "this kernel or user cannot".to_owned(),
                remedy: Some("sudo murphy doctor says what is missing"),
            });
        }
        let has = |hook: &Hook| serves(*hook) && (hook.family() != Family::Lsm || self.has_lsm());
        match hooks.iter().all(has) {
            true => Ok(()),
            false => Err(Unavailable::new(of.lacks)),
        }
    }

    /// What programs of every kind need.
    fn loads_programs(&self) -> bool {
        *self.general.get_or_init(|| {
            privileges::missing().is_empty()
                && Cgroup2::find().is_ok_and(|found| found.is_some())
                && probe::private_bpffs().is_ok()
                && serves(Hook::Exec)
        })
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
    /// Every mechanism that takes part works.
    fn has(&self, backend: Backend, hooks: &BTreeSet<Hook>) -> Result<(), String> {
        for mechanism in all() {
            let of = mechanism.declaration();
            let own: BTreeSet<_> = hooks
                .iter()
                .copied()
                .filter(|one| (of.owns)(*one))
                .collect();
            if of.backend == Some(backend) || !own.is_empty() {
                let works = mechanism.probe(self, &own);
                works.map_err(|unavailable| unavailable.to_string())?;
            }
        }
        Ok(())
    }
}

/// Whether nothing that a hook relies on is known to be missing.
fn serves(hook: Hook) -> bool {
    let needs = probe::needs(hook, true);
    needs.iter().all(|need| need.here != Some(false))
}
