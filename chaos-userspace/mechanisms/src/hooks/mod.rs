//! Kernel programs that decide at the operation itself: cgroup hooks, LSM hooks, tracepoints, and
//! classifiers on interfaces. It arms and disarms the programs of all mechanisms, and reads their
//! counters.
//!
//! Everything it makes ends with its programs' descriptors, but for classifiers on kernels without
//! tcx (before Linux 6.6): their filters are journalled.

mod classifiers;

use std::collections::BTreeSet;
use std::path::PathBuf;

use chaos_common::control;
use chaos_common::lsm;

use super::{
    Asked, Bench, Command, Context, Declaration, Exercise, MatrixRow, Mechanism, Offer, Offered,
    Result, Site,
};
use murphy_fault::plan::{Attach, Backend, Hook, Target};
use murphy_fault::{Fault, Property};
use murphy_kernel::{Place, entry_point};
use murphy_state::cleanup::Leftover;
use murphy_state::results::{FaultReport, Report};
use murphy_sys::clock::boot_ns;

static DECLARATION: Declaration = Declaration {
    backend: Some(Backend::Bpf),
    summary: "run and inject, by root; packets, and calls that have a hook",
    owns: is_own,
    // Of classifiers on kernels without tcx, and of `run`.
    leaves: &[Leftover::Cgroup, Leftover::TcFilter],
    rows: &[
        MatrixRow::of("`connect`", &[Hook::Connect]),
        MatrixRow {
            ways: &[("tcx", "6.6"), ("a clsact filter", "4.5")],
            ..MatrixRow::of("`egress`", &[Hook::Egress])
        },
        MatrixRow::of("`ingress`", &[Hook::Ingress]),
        MatrixRow::of(
            "`dns`, `http`, `egress:reset`, `egress:unreachable`",
            &[Hook::Dns, Hook::Http, Hook::Reset, Hook::Unreachable],
        ),
        MatrixRow::of(
            "`open`, `read_write`, `path`, `metadata`, `file`, `memory`, `process`, `socket`, `ipc`, `system`",
            &[Hook::Lsm(lsm::Place::FileOpen)],
        ),
        MatrixRow::of(
            "arming by exec, by the entry point",
            &[Hook::Exec, Hook::Entry],
        ),
        MatrixRow::of("counting what callers saw (`--observe`)", &[Hook::Observe]),
    ],
    exercises: &[
        Exercise {
            faults: &[
                "connect:error=EPERM:port=1:dst=192.0.2.0/24:connlimit=3",
                "net:loss=1%:port=1:sport=1:dst=[2001:db8::]/32:src=[2001:db8::]/32:proto=17",
                "dns:rcode=REFUSED:name=*.example.com:port=1",
                "http:status=500:path=/api/*:port=1:dst=[2001:db8::]/32",
                "egress:reset:port=1",
                "egress:unreachable=net:port=1",
            ],
            backend: Backend::Bpf,
            observe: true,
            command: Command::Run,
        },
        Exercise {
            faults: &[
                "read,write:error=EIO:on=blk",
                "openat,access:error=EIO:on=blk",
                "kill:error=EIO:p=1ppm",
                "openat,rename:error=EIO:path=/proc/sys/**",
            ],
            backend: Backend::Bpf,
            observe: true,
            command: Command::Run,
        },
    ],
    ..Declaration::new("hooks", "kernels.md", "connect")
};

/// The mechanism.
#[derive(Default)]
pub(super) struct Hooks {
    /// Interfaces that have a classifier: which, network namespace and number.
    classified: BTreeSet<(Hook, Option<PathBuf>, u32)>,
    /// Boot time in ns since which the faults are armed; 0: they are not known to be.
    armed_at: u64,
}

/// Whether a hook decides at the operation itself, arms, follows or counts.
fn is_own(hook: Hook) -> bool {
    match hook {
        Hook::Connect
        | Hook::Socket
        | Hook::Accept
        | Hook::Release
        | Hook::Egress
        | Hook::Ingress
        | Hook::Dns
        | Hook::Http
        | Hook::Reset
        | Hook::Unreachable
        | Hook::Exec
        | Hook::Follow
        | Hook::Entry
        | Hook::Observe
        | Hook::Lsm(_)
        | Hook::Begin(_) => true,
        Hook::EgressNetem
        | Hook::IngressNetem
        | Hook::Edt
        | Hook::Sleep(_)
        | Hook::Override(_)
        | Hook::Spin(_)
        | Hook::Uprobe(_) => false,
    }
}

/// The hooks of each of a fault's operations, its own first.
fn hooks_of(fault: &Fault) -> Vec<Vec<Hook>> {
    let needed = |&op| Hook::needed(op, &fault.effect).to_vec();
    let sleeper = |&op| Hook::sleeper(op, &fault.effect).map(|hook| vec![hook]);
    let counts = fault.filter.connlimit.map(|_| vec![Hook::Release]);
    let sleepers = fault.ops.iter().filter_map(sleeper);
    let needed = fault.ops.iter().map(needed);
    needed.chain(sleepers).chain(counts).collect()
}

impl Mechanism for Hooks {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    /// For all that the backend does: the hooks of other mechanisms among them.
    fn offer(&self, asked: &Asked<'_>) -> Option<Offer> {
        let by = match asked {
            Asked::Fault(fault) if fault.is_condition() => return None,
            Asked::Fault(fault) => match Backend::Bpf.refusal(fault, &Target::Command) {
                Some(refusal) => Offered::Nothing(refusal),
                None => Offered::Programs(hooks_of(fault)),
            },
            Asked::Registry(row) if row.has.contains(&Property::Condition) => return None,
            Asked::Registry(row) if row.family.is_none() => {
                Offered::Nothing("an LSM hook".to_owned())
            }
            Asked::Registry(row) => {
                let first = row.ops.iter().take(1);
                Offered::Programs(first.map(|&op| Hook::of(op).to_vec()).collect())
            }
            Asked::Own(row) => {
                let hooks = row.hooks.iter().map(|hooks| hooks.to_vec());
                Offered::Programs(hooks.collect())
            }
        };
        Offer::for_both(by)
    }

    fn try_hook(&mut self, bench: &mut Bench<'_>, hook: Hook) -> std::result::Result<(), String> {
        match hook.spec().attach {
            Attach::Everywhere => bench.attach_everywhere(hook),
            Attach::Cgroup => {
                let place = Place::Cgroup(bench.cgroup.clone()?);
                let attached = bench.kernel.attach(hook, place);
                attached.map_err(|error| error.to_string())
            }
            Attach::EntryPoint => {
                let file = std::env::current_exe().map_err(|error| error.to_string())?;
                let offset = entry_point(&file).map_err(|error| error.to_string())?;
                let place = Place::Code {
                    file: &file,
                    offset,
                    cookie: None,
                };
                let attached = bench.kernel.attach(hook, place);
                attached.map_err(|error| error.to_string())
            }
            Attach::Interfaces => classifiers::try_hook(bench, hook),
            Attach::Netem | Attach::Ifb | Attach::Code => {
                Err("another mechanism attaches it".to_owned())
            }
        }
    }

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
