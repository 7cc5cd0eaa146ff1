//! Lowers soft resource limits of the targets while a condition holds (`prlimit(2)`, Linux 2.6.36).
//!
//! It needs `CAP_SYS_RESOURCE` for processes of other users, and nothing for the caller's own. Each
//! limit is journalled before it is lowered. The guardian gives it back when the lease lapses, when the
//! condition's time is over, and when murphy dies. If guardian and murphy die, `murphy recover` does.

use std::collections::BTreeMap;
use std::io;

use super::{Context, Mechanism, MechanismError, Result};
use crate::cleanup::{Cleanup, Outcome};
use crate::faults::{Level, Limit};
use crate::plan::Condition;
use crate::results::{ConditionReport, Report};
use crate::sys::clock::boot_ns;
use crate::sys::owner::Owner;
use crate::sys::process::{Identity, Resource};
use crate::sys::stat;

/// ns of a clock tick, in which the kernel says when processes began (`USER_HZ` is 100).
const TICK_NS: u64 = 10_000_000;

/// The mechanism.
#[derive(Default)]
pub(super) struct Limits {
    /// Boot time in ns since which the conditions are armed; 0: they are not.
    armed_at: u64,
    /// Boot time in ns until which the lease lasts that was given last.
    lease_ns: u64,
    /// What is in force, by condition, of which process.
    held: BTreeMap<(usize, Identity), Cleanup>,
    /// What was counted of each condition.
    counts: Vec<Counts>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    /// How many processes' limits were lowered.
    applied: u64,
    /// How many could not be.
    failed: u64,
    /// Since when, by boot time in ns, it holds for some process.
    since: Option<u64>,
    /// How long it held before.
    held_ns: u64,
}

impl Mechanism for Limits {
    fn arm(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if cx.plan.conditions.is_empty() {
            return Ok(());
        }
        self.counts = vec![Counts::default(); cx.plan.conditions.len()];
        self.armed_at = boot_ns();
        self.lease_ns = self.armed_at.saturating_add(cx.lease_ns());
        // Before the first entry: without a lease the guardian would not bound it.
        cx.journal.renew(self.lease_ns)?;
        // An injection that cannot do what it was asked for does not begin.
        match self.update(cx)? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn start(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.arm(cx)
    }

    fn renew(&mut self, cx: &mut Context<'_>, until_ns: u64) -> Result<()> {
        if self.armed_at == 0 {
            return Ok(());
        }
        let lapsed = boot_ns() > self.lease_ns;
        self.lease_ns = until_ns;
        cx.journal.renew(until_ns)?;
        if lapsed {
            // murphy was stopped, and the guardian has given everything back. It is lowered again
            // when targets are followed.
            self.forget_restored(cx);
        }
        Ok(())
    }

    fn follow(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.armed_at != 0 {
            // Warned of, and counted: what is in force stays.
            self.update(cx)?;
        }
        Ok(())
    }

    fn next_change(&self, cx: &Context<'_>) -> Option<u64> {
        if self.armed_at == 0 {
            return None;
        }
        let elapsed = boot_ns().saturating_sub(self.armed_at);
        let phases = cx.plan.conditions.iter().map(|one| one.phase(elapsed));
        let next = phases.filter_map(|phase| phase.next_ns).min()?;
        Some(self.armed_at.saturating_add(next))
    }

    /// The journal is reverted next, and has all that is in force.
    fn disarm(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.armed_at == 0 {
            return Ok(());
        }
        for condition in 0..cx.plan.conditions.len() {
            self.rest(condition);
        }
        self.held.clear();
        Ok(())
    }

    fn report(&mut self, cx: &mut Context<'_>, report: &mut Report) -> Result<()> {
        for (number, condition) in cx.plan.conditions.iter().enumerate() {
            let counts = self.counts.get(number).copied().unwrap_or_default();
            let now = counts
                .since
                .map_or(0, |since| boot_ns().saturating_sub(since));
            let held = self.held.keys().filter(|(of, _)| *of == number);
            report.conditions.push(ConditionReport {
                condition: condition.fault.to_string(),
                applied: counts.applied,
                in_force: held.count() as u64,
                seconds: counts.held_ns.saturating_add(now) as f64 / 1e9,
                failed: counts.failed,
            });
        }
        if report.armed_at_ns == 0 {
            report.arm_at(self.armed_at);
        }
        Ok(())
    }

    fn lease_until(&mut self, _: &mut Context<'_>) -> Option<u64> {
        (self.armed_at != 0).then_some(self.lease_ns)
    }
}

impl Limits {
    /// Has each condition hold, or not, as its triggers say now. Returns the first error that kept a
    /// limit from being lowered.
    fn update(&mut self, cx: &mut Context<'_>) -> Result<Option<MechanismError>> {
        let elapsed = boot_ns().saturating_sub(self.armed_at);
        let plan = cx.plan;
        let mut failed = None;
        // One that has ended has no limits.
        self.held
            .retain(|(_, process), _| stat::still_runs(*process));
        for (number, condition) in plan.conditions.iter().enumerate() {
            let Some(limit) = condition.limit() else {
                continue;
            };
            if !condition.phase(elapsed).holds {
                self.give_back(cx, number);
                continue;
            }
            for (process, classes) in (cx.members)() {
                if classes >> condition.class & 1 == 0
                    || self.held.keys().any(|(_, held)| *held == process)
                {
                    continue;
                }
                if let Err(error) = self.lower(cx, number, condition, limit, process)? {
                    let warning = format!(
                        "`{}` does not hold for process {}: {error}",
                        condition.fault, process.id
                    );
                    cx.notices.warn(warning);
                    failed = failed.or(Some(error));
                }
            }
        }
        Ok(failed)
    }

    /// Lowers a limit of a process. The outer error is the journal's.
    fn lower(
        &mut self,
        cx: &mut Context<'_>,
        number: usize,
        condition: &Condition,
        limit: Limit,
        identity: Identity,
    ) -> Result<std::result::Result<(), MechanismError>> {
        let Limit::Nofile(level) = limit;
        let resource = Resource::NoFile;
        let looked = || -> io::Result<_> {
            let process = identity.process()?;
            let (was, _) = process.limits(resource)?;
            let set = match level {
                Level::Number(number) => number,
                Level::Used => lowest_free(&process.folder()?.list("fd")?),
            };
            Ok((process, was, set))
        };
        let Some(counts) = self.counts.get_mut(number) else {
            return Ok(Ok(()));
        };
        let failed = |error: io::Error| MechanismError::Io {
            doing: "lowering a resource limit (of processes of other users it takes \
                    CAP_SYS_RESOURCE and CAP_SYS_PTRACE)",
            source: error,
        };
        let (process, was, set) = match looked() {
            Ok(found) => found,
            // It ended meanwhile.
            Err(_) if !stat::still_runs(identity) => return Ok(Ok(())),
            Err(error) => {
                counts.failed += 1;
                return Ok(Err(failed(error)));
            }
        };
        if set >= was {
            // It holds already, and is not ours to give back.
            return Ok(Ok(()));
        }
        let Some(owner) = Owner::of(identity.id).filter(|owner| owner.start == identity.start)
        else {
            return Ok(Ok(()));
        };
        let now = boot_ns();
        let elapsed = now.saturating_sub(self.armed_at);
        let end = condition.phase(elapsed).next_ns;
        let cleanup = Cleanup::Limit {
            process: owner,
            resource,
            set,
            was,
            since: now / TICK_NS,
            until_ns: end.map(|end| self.armed_at.saturating_add(end)),
        };
        cx.journal.journal(cleanup.clone())?;
        match process.replace_soft_limit(resource, was, set) {
            Ok(true) => {
                counts.applied += 1;
                counts.since.get_or_insert(now);
                self.held.insert((number, identity), cleanup);
                Ok(Ok(()))
            }
            // It was changed at this moment; the next look finds the new one.
            Ok(false) => {
                cx.journal.forget(&cleanup);
                Ok(Ok(()))
            }
            Err(error) => {
                cx.journal.forget(&cleanup);
                match stat::still_runs(identity) {
                    false => Ok(Ok(())),
                    true => {
                        counts.failed += 1;
                        Ok(Err(failed(error)))
                    }
                }
            }
        }
    }

    /// Gives all processes of a condition their limits back.
    fn give_back(&mut self, cx: &mut Context<'_>, number: usize) {
        let ours: Vec<_> = self
            .held
            .extract_if(.., |(of, _), _| *of == number)
            .map(|(_, cleanup)| cleanup)
            .collect();
        for cleanup in ours {
            match cleanup.undo() {
                Ok(Outcome::Done | Outcome::NothingToDo) => cx.journal.forget(&cleanup),
                Ok(Outcome::Changed) => {
                    cx.notices.warn(format!(
                        "{cleanup}: another program has changed it since; it stays as it is"
                    ));
                    cx.journal.forget(&cleanup);
                }
                // It stays in the journal, and is tried again at the end.
                Err(error) => cx
                    .notices
                    .warn(format!("{cleanup} cannot be given back: {error}")),
            }
        }
        self.rest(number);
    }

    /// A condition holds for no process any more.
    fn rest(&mut self, number: usize) {
        if let Some(counts) = self.counts.get_mut(number)
            && let Some(since) = counts.since.take()
        {
            counts.held_ns = counts
                .held_ns
                .saturating_add(boot_ns().saturating_sub(since));
        }
    }

    /// Forgets what the guardian has given back, so that it is lowered again.
    fn forget_restored(&mut self, cx: &mut Context<'_>) {
        let held = std::mem::take(&mut self.held);
        for (key, cleanup) in held {
            let is_restored = match &cleanup {
                Cleanup::Limit { resource, set, .. } => {
                    let limits = key.1.process().and_then(|one| one.limits(*resource));
                    limits.is_ok_and(|(soft, _)| soft != *set)
                }
                _ => false,
            };
            if is_restored {
                cx.journal.forget(&cleanup);
            } else {
                self.held.insert(key, cleanup);
            }
        }
    }
}

/// The lowest number that no descriptor has: the next one gets it.
fn lowest_free(descriptors: &[String]) -> u64 {
    let mut used: Vec<u64> = descriptors
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    used.sort_unstable();
    let taken = (0..)
        .zip(&used)
        .take_while(|(number, used)| number == *used);
    taken.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_descriptor_fills_the_first_hole() {
        let of = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            lowest_free(&names)
        };
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&["0", "1", "2"]), 3);
        assert_eq!(of(&["10", "0", "2", "1", "4"]), 3);
        assert_eq!(of(&["1"]), 0);
    }
}
