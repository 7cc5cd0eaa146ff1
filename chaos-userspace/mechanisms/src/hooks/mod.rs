//! Kernel programs that decide at the operation itself: cgroup hooks, LSM hooks, tracepoints, and
//! classifiers on interfaces. It arms and disarms the programs of all mechanisms, and reads their
//! counters.
//!
//! Everything it makes ends with its programs' descriptors, but for classifiers on kernels without
//! tcx (before Linux 6.6): their filters are journalled.

#![deny(clippy::wildcard_enum_match_arm)]

mod classifiers;

use std::collections::BTreeSet;
use std::path::PathBuf;

use chaos_common::control;

use super::{Context, Mechanism, Result, Site};
use murphy_fault::plan::{Attach, Backend, Hook};
use murphy_kernel::Place;
use murphy_state::results::{FaultReport, Report};
use murphy_sys::clock::boot_ns;

/// The mechanism.
#[derive(Default)]
pub(super) struct Hooks {
    /// Interfaces that have a classifier: which, network namespace and number.
    classified: BTreeSet<(Hook, Option<PathBuf>, u32)>,
    /// Boot time in ns since which the faults are armed; 0: they are not known to be.
    armed_at: u64,
}

/// Whether a hook that runs for every task of the machine is no other mechanism's.
fn is_own(hook: Hook) -> bool {
    !matches!(hook, Hook::Sleep(_) | Hook::Override(_) | Hook::Spin(_))
}

impl Mechanism for Hooks {
    fn attach(&mut self, cx: &mut Context<'_>, site: &Site<'_>) -> Result<()> {
        let (cgroup, entry, hooks) = match *site {
            Site::Machine {
                cgroup,
                entry,
                hooks,
            } => (cgroup, entry, hooks),
            Site::Network(netns) => return self.classify(cx, netns),
        };
        for &hook in hooks {
            match hook.spec().attach {
                Attach::Cgroup => cx.kernel()?.attach(hook, Place::Cgroup(cgroup))?,
                Attach::Everywhere if is_own(hook) => {
                    cx.kernel()?.attach(hook, Place::Everywhere)?;
                }
                Attach::EntryPoint => {
                    if let Some((file, offset)) = entry {
                        let place = Place::Code {
                            file,
                            offset,
                            cookie: None,
                        };
                        cx.kernel()?.attach(hook, place)?;
                    }
                }
                // Another mechanism's, or attached interface by interface.
                Attach::Everywhere
                | Attach::Interfaces
                | Attach::Netem
                | Attach::Ifb
                | Attach::Code => {}
            }
        }
        Ok(())
    }

    fn arm(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let (now, lease) = (boot_ns(), cx.lease_ns());
        let Some(kernel) = cx.kernel.as_deref_mut() else {
            return Ok(());
        };
        // What other mechanisms did before may have taken longer than the lease.
        kernel.lease_until(now.saturating_add(lease))?;
        kernel.set_control(control::ARMED_AT, now)?;
        Ok(())
    }

    fn renew(&mut self, cx: &mut Context<'_>, until_ns: u64) -> Result<()> {
        if let Some(kernel) = cx.kernel.as_deref_mut() {
            kernel.lease_until(until_ns)?;
        }
        Ok(())
    }

    fn disarm(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let Some(kernel) = cx.kernel.as_deref_mut() else {
            return Ok(());
        };
        // What has not armed yet must not do so any more.
        kernel.set_control(control::ARM_BY, 0)?;
        let armed_at = kernel.control(control::ARMED_AT)?;
        kernel.set_control(control::ARMED_AT, 0)?;
        self.armed_at = armed_at;
        Ok(())
    }

    fn revert(&mut self, cx: &mut Context<'_>) {
        if let Some(kernel) = cx.kernel.as_deref_mut() {
            kernel.detach();
        }
    }

    fn report(&mut self, cx: &mut Context<'_>, report: &mut Report) -> Result<()> {
        let observes = cx.plan.observes();
        if let Some(kernel) = cx.kernel.as_deref_mut() {
            let rules = cx.plan.rules.iter().zip(&mut report.faults);
            for (rule, fault) in rules.filter(|(rule, _)| rule.backend != Backend::Seccomp) {
                let counters = kernel.counters(rule.wire.slot)?;
                *fault = FaultReport::of_rule(rule, &counters, observes);
            }
            let armed_at = kernel.control(control::ARMED_AT)?;
            if armed_at != 0 {
                self.armed_at = armed_at;
            }
            if let Some(lost) = &mut report.events_lost {
                *lost += kernel.control(control::EVENTS_LOST)?;
            }
            let missed = kernel.missed();
            report.missed = missed.asked;
            report.unseen = missed.observing.filter(|_| observes);
        }
        report.arm_at(self.armed_at);
        Ok(())
    }

    fn lease_until(&mut self, cx: &mut Context<'_>) -> Option<u64> {
        cx.kernel.as_deref_mut()?.control(control::LEASE_UNTIL).ok()
    }
}
