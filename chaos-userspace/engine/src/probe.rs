//! Tries every hook on this kernel: loads its programs, attaches them where they harm nobody, lets something happen to a child
//! of ours, and takes it all away again.
//!
//! What is attached everywhere has no target but that child. Links go with their descriptors, the network namespace with its
//! thread; the scratch cgroup is journalled with the guardian, as that of `run` is.

#![deny(clippy::wildcard_enum_match_arm)]

mod machine;
mod netns;
mod scratch;
mod service;
mod victim;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chaos_common::control;
use chaos_common::lsm::Place;
use serde::Serialize;

use super::{EngineError, boot_ns};
use murphy_fault::Family;
use murphy_fault::plan::{Hook, Options, Plan, Target};
use murphy_kernel::Kernel;
use murphy_kernel::listen::Listen;
use murphy_kernel::probe::{self, Need};
use murphy_mechanisms::{self as mechanisms, Bench};
use murphy_sys::host;

use scratch::Scratch;

pub use machine::{Capabilities, Cgroup, Machine};
pub use service::Service;

/// Injections into the victim go on for this long at most; it takes a millisecond, under emulation a hundred.
const LEASE: Duration = Duration::from_secs(5);

/// How a hook was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its programs ran, and a child of ours felt it.
    Ran,
    /// Its programs could be loaded and attached.
    Attached,
    /// It does not work.
    Refused,
    /// It could not be tried.
    NotTried,
}

/// What came of trying a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookReport {
    /// Which.
    pub hook: Hook,
    /// The kernel's names of the places its programs are attached to.
    pub places: Vec<&'static str>,
    /// How far it came.
    pub state: State,
    /// Ways to attach it that work, where there are several: `tcx`, `clsact`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<&'static str>,
    /// Why not.
    pub reason: Option<String>,
    /// What it relies on.
    pub needs: Vec<Need>,
}

impl HookReport {
    fn new(hook: Hook, trying: bool) -> Self {
        Self {
            hook,
            places: hook.programs().iter().map(|&(_, place)| place).collect(),
            state: State::NotTried,
            by: Vec::new(),
            reason: None,
            needs: probe::needs(hook, trying),
        }
    }

    /// Whether faults can rely on it.
    pub const fn works(&self) -> bool {
        matches!(self.state, State::Ran | State::Attached)
    }

    fn settle(&mut self, result: Result<State, String>) {
        (self.state, self.reason) = match result {
            Ok(state) => (state, None),
            Err(reason) => {
                probe::learn(&mut self.needs, &reason);
                (State::Refused, Some(reason))
            }
        };
    }
}

/// Everything that was found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// The machine.
    pub machine: Machine,
    /// Each hook that was asked for.
    pub hooks: Vec<HookReport>,
}

/// Tries hooks. Without the privileges to, says what it can.
///
/// To be called while the program has one thread, as [`Guardian::start`](super::guardian::Guardian::start) is.
///
/// # Errors
///
/// Something went wrong that says nothing about this kernel.
pub fn examine(hooks: &BTreeSet<Hook>) -> Result<Findings, EngineError> {
    let machine = Machine::look();
    let trying = machine.privileged();
    let mut reports: Vec<_> = hooks
        .iter()
        .map(|&hook| HookReport::new(hook, trying))
        .collect();
    if trying {
        let scratch = Scratch::make()?;
        // Tracepoints first: they find out how deep the scratch cgroup lies.
        let mut families: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for report in &mut reports {
            let family = report.hook.family();
            families
                .entry((family != Family::Trace, family))
                .or_default()
                .push(report);
        }
        let mut level = None;
        for ((_, family), reports) in families {
            if family == Family::Net {
                netns::inside(|netns| try_family(reports, &scratch, netns, &mut level))
                    .map_err(EngineError::io("entering a network namespace"))?;
            } else {
                try_family(reports, &scratch, Ok(()), &mut level);
            }
        }
    }
    Ok(Findings {
        machine,
        hooks: reports,
    })
}

/// Tries the hooks of one object. `level` is the scratch cgroup's depth, once it is known.
fn try_family(
    mut reports: Vec<&mut HookReport>,
    scratch: &Result<Scratch, String>,
    netns: std::io::Result<()>,
    level: &mut Option<u64>,
) {
    let hooks: BTreeSet<_> = reports.iter().map(|report| report.hook).collect();
    let all = |reports: &mut Vec<&mut HookReport>, reason: &str| {
        for report in reports {
            report.settle(Err(reason.to_owned()));
        }
    };
    let lsm = hooks.iter().any(|hook| hook.family() == Family::Lsm);
    if lsm && let Some(error) = probe::lsm_refusal() {
        let lockdown = host::lockdown().filter(|state| state != "none");
        let lockdown = lockdown.map_or_else(String::new, |state| {
            format!("; the kernel is locked down ({state})")
        });
        let reason = format!("no LSM program may be loaded: {error}{lockdown}");
        return all(&mut reports, &reason);
    }
    let (plan, canaries) = match plan(hooks) {
        Ok(plan) => plan,
        Err(reason) => return all(&mut reports, &reason),
    };
    let mut kernel = match Kernel::prepare(&plan, Listen::Nothing, false) {
        Ok(kernel) => kernel,
        Err(error) => return all(&mut reports, &error.to_string()),
    };
    let netns = netns.map_err(|error| format!("no network namespace to try it in: {error}"));
    for report in &mut reports {
        let attached = attach(&mut kernel, report, scratch, &netns);
        report.settle(attached.map(|()| State::Attached));
    }
    let Ok(scratch) = scratch else { return };
    if reports.iter().any(|report| report.works()) {
        let ran = if canaries.is_empty() {
            arm_by_victim(&mut kernel, &plan, scratch, &mut reports, level)
        } else {
            inject_into_victim(&mut kernel, &plan, scratch, &mut reports, &canaries, *level)
        };
        if let Err(error) = ran {
            let reason = format!("attached, but could not be tried: {error}");
            for report in reports.iter_mut().filter(|report| report.works()) {
                (report.state, report.reason) = (State::NotTried, Some(reason.clone()));
            }
        }
    }
}

/// A fault that the victim meets if the hook works.
const fn canary(hook: Hook) -> Option<&'static str> {
    hook.spec().canary
}

/// A plan of these hooks, and the hook of each of its rules.
fn plan(hooks: BTreeSet<Hook>) -> Result<(Plan, Vec<Hook>), String> {
    let canaries: Vec<_> = hooks
        .iter()
        .copied()
        .filter(|&hook| canary(hook).is_some())
        .collect();
    let mut expressions: Vec<_> = canaries.iter().copied().filter_map(canary).collect();
    if expressions.is_empty() {
        // No rule without an operation; whose program is not loaded is never asked.
        expressions.extend(canary(Hook::Connect));
    }
    let faults = expressions
        .into_iter()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|error: murphy_fault::ParseError| error.to_string())?;
    let mut plan = Plan::new(faults, Target::Command, &Options::default())
        .map_err(|error| error.to_string())?;
    plan.hooks = hooks;
    Ok((plan, canaries))
}

/// Loads a hook's programs, and has its mechanism attach them.
fn attach(
    kernel: &mut Kernel,
    report: &mut HookReport,
    scratch: &Result<Scratch, String>,
    netns: &Result<(), String>,
) -> Result<(), String> {
    let hook = report.hook;
    let loaded = kernel.load_programs(hook);
    loaded.map_err(|error| error.to_string())?;
    let Some(mut mechanism) = mechanisms::owner(hook) else {
        return Err("no mechanism attaches it".to_owned());
    };
    let cgroup = scratch.as_ref().map(|scratch| &scratch.directory);
    let mut bench = Bench {
        kernel,
        cgroup: cgroup.map_err(Clone::clone),
        network: netns.clone(),
        by: Vec::new(),
    };
    let attached = mechanism.try_hook(&mut bench, hook);
    report.by = bench.by;
    attached
}

/// Points the rules at the scratch cgroup.
fn aim(kernel: &mut Kernel, plan: &Plan, scratch: &Scratch) -> Result<(), EngineError> {
    kernel.set_control(control::RUN_CGROUP, scratch.cgroup.id()?)?;
    kernel.set_control(control::RUN_MASK, plan.masks.rules)?;
    let lease = u64::try_from(LEASE.as_nanos()).unwrap_or(u64::MAX / 2);
    Ok(kernel.lease_until(boot_ns() + lease)?)
}

/// Lets a victim arm the rules by executing something.
fn arm_by_victim(
    kernel: &mut Kernel,
    plan: &Plan,
    scratch: &Scratch,
    reports: &mut [&mut HookReport],
    level: &mut Option<u64>,
) -> Result<(), EngineError> {
    let by = |hook| {
        let all = [
            (Hook::Exec, control::ARM_BY_EXEC),
            (Hook::Entry, control::ARM_BY_ENTRY),
        ];
        let mut by = all.into_iter().filter(|(known, _)| *known == hook);
        by.next().map(|(_, by)| by)
    };
    for report in reports.iter_mut().filter(|report| report.works()) {
        let Some(by) = by(report.hook) else { continue };
        aim(kernel, plan, scratch)?;
        kernel.set_control(control::ARM_BY, by)?;
        victim::executed(&scratch.procs).map_err(EngineError::io("executing a child"))?;
        let armed = kernel.control(control::ARMED_AT)? != 0;
        if armed {
            *level = Some(kernel.control(control::RUN_CGROUP_LEVEL)?);
        }
        report.settle(ran(armed));
    }
    Ok(())
}

/// Injects into a victim, and asks both it and the kernel whether it happened.
fn inject_into_victim(
    kernel: &mut Kernel,
    plan: &Plan,
    scratch: &Scratch,
    reports: &mut [&mut HookReport],
    canaries: &[Hook],
    level: Option<u64>,
) -> Result<(), EngineError> {
    aim(kernel, plan, scratch)?;
    kernel.set_control(control::RUN_CGROUP_LEVEL, level.unwrap_or(scratch.level))?;
    kernel.set_control(control::ARMED_AT, boot_ns())?;
    let felt = victim::forked(&scratch.procs).map_err(EngineError::io("starting a child"))?;
    kernel.lease_until(0)?;
    for (rule, hook) in (0..).zip(canaries) {
        let counted = kernel.counters(rule)?.injected > 0;
        let by_hook = [
            (Hook::Connect, felt.connect),
            (Hook::Lsm(Place::FileOpen), felt.open),
            (Hook::Lsm(Place::FilePermission), felt.read),
            (Hook::OVERRIDE, felt.sync),
            (Hook::UPROBE, felt.sync_in_code),
        ];
        let mut by_hook = by_hook.iter();
        // Packets are counted, and felt by nothing that the victim does.
        let felt = by_hook.all(|(known, felt)| known != hook || *felt);
        let mut of_hook = reports.iter_mut().filter(|report| report.hook == *hook);
        if let Some(report) = of_hook.find(|report| report.works()) {
            report.settle(ran(counted && felt));
        }
    }
    // Without the owner that this hook notes, no packet would have had a rule.
    let ran_packets = reports.iter().any(|report| {
        matches!(report.hook, Hook::Egress | Hook::Ingress) && report.state == State::Ran
    });
    for report in reports {
        if ran_packets && report.hook == Hook::Socket && report.works() {
            report.state = State::Ran;
        }
    }
    Ok(())
}

fn ran(it_did: bool) -> Result<State, String> {
    if it_did {
        Ok(State::Ran)
    } else {
        Err("it can be attached, but has no effect on a child of ours".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_makes_a_plan_with_its_hooks_and_no_other() {
        for hook in Hook::all() {
            let (plan, canaries) = plan(BTreeSet::from([hook])).unwrap();
            assert_eq!(plan.hooks, BTreeSet::from([hook]));
            assert_eq!(canaries.len(), usize::from(canary(hook).is_some()));
        }
    }

    #[test]
    fn canaries_inject_what_the_victim_looks_for() {
        let expressions = Hook::all().filter_map(canary);
        for expression in expressions.filter(|text| text.contains("error=")) {
            assert!(expression.ends_with("EXFULL"), "{expression}");
        }
    }
}
