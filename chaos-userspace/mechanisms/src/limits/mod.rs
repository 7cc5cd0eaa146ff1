//! Lowers soft resource limits of the targets while a condition holds (`prlimit(2)`, Linux 2.6.36).
//!
//! It needs `CAP_SYS_RESOURCE` for processes of other users, and nothing for the caller's own. Each
//! limit is journalled before it is lowered. The guardian gives it back when the lease lapses, when the
//! condition's time is over, and when murphy dies. If guardian and murphy die, `murphy recover` does.

mod heirs;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::{
    Asked, Context, Declaration, Here, MatrixRow, Mechanism, MechanismError, Offer, Offered,
    Result, Unavailable,
};
use murphy_fault::plan::{Condition, Hook, Interface, Plan, interface};
use murphy_fault::{Effect, Level, Limit, Property};
use murphy_state::StateDir;
use murphy_state::cleanup::{self, Cleanup, Leftover, Outcome};
use murphy_state::results::{ConditionReport, Report};
use murphy_sys::clock::boot_ns;
use murphy_sys::owner::Owner;
use murphy_sys::process::{Identity, Process, Resource};

/// ns of a clock tick, in which the kernel says when processes began (`USER_HZ` is 100).
const TICK_NS: u64 = 10_000_000;

/// What a limit was set to, and what it was before.
type Change = (u64, u64);

const NEEDS: &[Interface] = &[interface("prlimit(2)", "2.6.36")];

static DECLARATION: Declaration = Declaration {
    needs: NEEDS,
    leaves: &[Leftover::Limit],
    rows: &[MatrixRow {
        needs: NEEDS,
        ..MatrixRow::of("`limit` (`run`, `inject`), by `prlimit(2)`", &[])
    }],
    ..Declaration::new("limits", "conditions/limit.md", "limit")
};

/// The mechanism.
#[derive(Default)]
pub(super) struct Limits {
    /// Boot time in ns since which the conditions are armed; 0: they are not.
    armed_at: u64,
    /// Boot time in ns until which the lease lasts that was given last.
    lease_ns: u64,
    /// Boot time in ns until which the guardian may still be giving back what the lease before this
    /// one bounded.
    doubtful_ns: u64,
    /// What is in force, of which process.
    held: BTreeMap<Identity, Held>,
    /// What was counted of each condition.
    counts: Vec<Counts>,
    /// The changes that processes of `run` may have inherited from one that has ended.
    changes: BTreeSet<Change>,
}

/// A limit that is lowered.
struct Held {
    /// By which condition.
    condition: usize,
    cleanup: Cleanup,
    /// Another program has changed it since: it stays so, and the condition holds for it no more.
    is_changed: bool,
}

#[derive(Default)]
struct Counts {
    /// Processes whose limits were lowered.
    applied: BTreeSet<Identity>,
    /// Processes whose limits could not be lowered.
    failed: BTreeSet<Identity>,
    /// Since when, by boot time in ns, it holds for some process.
    since: Option<u64>,
    /// How long it held before.
    held_ns: u64,
}

impl Counts {
    /// It holds for no process any more, from that boot time in ns on.
    fn rest(&mut self, from_ns: u64) {
        if let Some(since) = self.since.take() {
            self.held_ns = self.held_ns.saturating_add(from_ns.saturating_sub(since));
        }
    }
}

impl Mechanism for Limits {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    /// Sets a limit of this process to what it is.
    fn probe(&self, _: &Here, _: &BTreeSet<Hook>) -> std::result::Result<(), Unavailable> {
        let tried = || {
            let this = Process::this()?;
            let (soft, _) = this.limits(Resource::NoFile)?;
            this.replace_soft_limit(Resource::NoFile, soft, soft)
        };
        tried().map(drop).map_err(|error: io::Error| Unavailable {
            reason: format!("prlimit(2): {error}"),
            remedy: Some("a container or seccomp profile that allows prlimit64"),
        })
    }

    fn offer(&self, asked: &Asked<'_>) -> Option<Offer> {
        let is_own = match asked {
            Asked::Fault(fault) => matches!(fault.effect, Effect::Limit(_)),
            Asked::Registry(row) => row.has.contains(&Property::Limits),
            Asked::Own(_) => false,
        };
        is_own.then(|| Offer::for_both(Offered::Itself("prlimit")))?
    }

    /// The kernel shows limits to those alone that may change them.
    fn rehearse(&self, plan: &Plan, members: &[(Identity, u64)]) -> Result<()> {
        let others = match plan.conditions.is_empty() {
            true => BTreeSet::new(),
            false => held_by_others(),
        };
        for condition in &plan.conditions {
            let members = members.iter();
            for (process, _) in members.filter(|(_, classes)| classes >> condition.class & 1 != 0) {
                let looked = match others.contains(process) {
                    true => Err(held_elsewhere()),
                    false => setting(condition, *process).map(drop),
                };
                match looked {
                    Err(source) if process.lives() => return Err(not_lowered(source)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn arm(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if cx.plan.conditions.is_empty() {
            return Ok(());
        }
        self.counts
            .resize_with(cx.plan.conditions.len(), Counts::default);
        self.armed_at = boot_ns();
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
        let before = std::mem::replace(&mut self.lease_ns, until_ns);
        cx.journal.renew(until_ns)?;
        if boot_ns() > before {
            // murphy was stopped, and the guardian gives everything back. It is lowered again when
            // targets are followed.
            self.doubtful_ns = until_ns;
            for counts in &mut self.counts {
                counts.rest(before);
            }
        }
        Ok(())
    }

    fn follow(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.armed_at != 0 {
            self.look_at_held(cx);
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

    /// The journal is reverted next. It has all that is in force, and now also what children have
    /// inherited that were forked since the last look.
    fn disarm(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.armed_at == 0 {
            return Ok(());
        }
        let adopted = self.adopt_heirs(cx);
        self.warn_of_orphans(cx);
        let now = boot_ns();
        for counts in &mut self.counts {
            counts.rest(now);
        }
        self.held.clear();
        adopted
    }

    fn report(&mut self, cx: &mut Context<'_>, report: &mut Report) -> Result<()> {
        let none = Counts::default();
        for (number, condition) in cx.plan.conditions.iter().enumerate() {
            let counts = self.counts.get(number).unwrap_or(&none);
            let now = counts
                .since
                .map_or(0, |since| boot_ns().saturating_sub(since));
            let held = self.in_force(number);
            report.conditions.push(ConditionReport {
                condition: condition.fault.to_string(),
                applied: counts.applied.len() as u64,
                in_force: held.count() as u64,
                seconds: counts.held_ns.saturating_add(now) as f64 / 1e9,
                failed: counts.failed.len() as u64,
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
        self.drop_ended(cx);
        let plan = cx.plan;
        let mut failed = None;
        let mut elsewhere = None;
        // First: what a target has inherited is not to be taken for its own.
        self.adopt_heirs(cx)?;
        for (number, condition) in plan.conditions.iter().enumerate() {
            let elapsed = boot_ns().saturating_sub(self.armed_at);
            if !condition.phase(elapsed).holds {
                self.give_back(cx, number);
                continue;
            }
            for (process, classes) in (cx.members)() {
                if classes >> condition.class & 1 == 0 || self.held.contains_key(&process) {
                    continue;
                }
                let others = elsewhere.get_or_insert_with(held_by_others);
                let lowered = match others.contains(&process) {
                    true => Err(held_elsewhere()),
                    false => self.lower(cx, number, condition, process)?,
                };
                if let Err(source) = lowered {
                    if let Some(counts) = self.counts.get_mut(number) {
                        counts.failed.insert(process);
                    }
                    let error = not_lowered(source);
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

    /// Gives the guardian another lease if that which it has may end before a step is done.
    fn keep_lease(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let (now, lease) = (boot_ns(), cx.lease_ns());
        if now.saturating_add(lease / 2) > self.lease_ns {
            self.lease_ns = now.saturating_add(lease);
            cx.journal.renew(self.lease_ns)?;
        }
        Ok(())
    }

    /// Lowers a limit of a process. The outer error is the journal's.
    fn lower(
        &mut self,
        cx: &mut Context<'_>,
        number: usize,
        condition: &Condition,
        identity: Identity,
    ) -> Result<io::Result<()>> {
        let (process, was, set) = match setting(condition, identity) {
            Ok(found) => found,
            // It ended meanwhile.
            Err(_) if !identity.lives() => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        if let Some(change) = self.inherited_in_run(cx, identity, was) {
            let since = self.armed_at / TICK_NS;
            return self.adopt(cx, number, identity, change, since).map(Ok);
        }
        if set >= was {
            // It holds already, and is not ours to give back.
            return Ok(Ok(()));
        }
        let since = boot_ns() / TICK_NS;
        let Some(cleanup) = self.cleanup(cx, number, identity, (set, was), since) else {
            return Ok(Ok(()));
        };
        self.keep_lease(cx)?;
        cx.journal.journal(cleanup.clone())?;
        let lowered = process.replace_soft_limit(Resource::NoFile, was, set);
        if !matches!(lowered, Ok(true)) {
            // It was changed at this moment, and the next look finds the new one; or it has ended.
            cx.journal.forget(std::slice::from_ref(&cleanup));
            return Ok(match lowered {
                Err(error) if identity.lives() => Err(error),
                _ => Ok(()),
            });
        }
        let now = boot_ns();
        if now > self.lease_ns || cleanup.until_ns().is_some_and(|until| now > until) {
            // murphy was stopped in between: the guardian has looked already, and found nothing to
            // do.
            let given_back = cleanup.undo().map(drop);
            cx.journal.forget(std::slice::from_ref(&cleanup));
            return Ok(given_back);
        }
        self.changes.insert((set, was));
        self.hold(number, identity, cleanup);
        Ok(Ok(()))
    }

    /// How a change is undone; `None` if the process has ended or nothing has to be.
    fn cleanup(
        &self,
        cx: &Context<'_>,
        number: usize,
        identity: Identity,
        (set, was): Change,
        since: u64,
    ) -> Option<Cleanup> {
        let process = Owner::of(identity.id).filter(|owner| owner.start == identity.start)?;
        let now = boot_ns();
        let condition = cx.plan.conditions.get(number)?;
        let end = condition.phase(now.saturating_sub(self.armed_at)).next_ns;
        Some(Cleanup::Limit {
            process,
            resource: Resource::NoFile,
            set,
            was,
            since,
            until_ns: end.map(|end| self.armed_at.saturating_add(end)),
        })
    }

    fn hold(&mut self, condition: usize, identity: Identity, cleanup: Cleanup) {
        if let Some(counts) = self.counts.get_mut(condition) {
            counts.applied.insert(identity);
            counts.since.get_or_insert_with(boot_ns);
        }
        let is_changed = false;
        self.held.insert(
            identity,
            Held {
                condition,
                cleanup,
                is_changed,
            },
        );
    }

    /// Forgets processes that have ended: they have no limits any more.
    fn drop_ended(&mut self, cx: &mut Context<'_>) {
        let ended = self.held.extract_if(.., |one, _| !one.lives());
        let ended: Vec<_> = ended.map(|(_, held)| held.cleanup).collect();
        if !ended.is_empty() {
            cx.journal.forget(&ended);
        }
        self.rest_idle();
    }

    /// Conditions that hold for no process rest.
    fn rest_idle(&mut self) {
        let now = boot_ns();
        for (number, counts) in self.counts.iter_mut().enumerate() {
            let mut held = self.held.values();
            let is_own = |held: &Held| held.condition == number && !held.is_changed;
            if !held.any(is_own) {
                counts.rest(now);
            }
        }
    }

    /// Gives all processes of a condition their limits back.
    fn give_back(&mut self, cx: &mut Context<'_>, number: usize) {
        let ours = self.held.extract_if(.., |_, held| held.condition == number);
        let ours: Vec<_> = ours.map(|(_, held)| held.cleanup).collect();
        let outcomes = cleanup::undo_all(&ours);
        let mut undone = Vec::new();
        for (cleanup, outcome) in ours.into_iter().zip(outcomes) {
            match outcome {
                Ok(Outcome::Done | Outcome::NothingToDo) => undone.push(cleanup),
                Ok(Outcome::Changed) => {
                    cx.notices.warn(format!(
                        "{cleanup}: another program has changed it since; it stays as it is"
                    ));
                    undone.push(cleanup);
                }
                // It stays in the journal, and is tried again at the end.
                Err(error) => cx
                    .notices
                    .warn(format!("{cleanup} cannot be given back: {error}")),
            }
        }
        if !undone.is_empty() {
            cx.journal.forget(&undone);
        }
        self.rest_idle();
    }

    /// For how many processes a condition is in force.
    fn in_force(&self, number: usize) -> impl Iterator<Item = &Held> {
        let held = self.held.values();
        held.filter(move |held| held.condition == number && !held.is_changed)
    }

    /// Looks whether limits are still what they were set to. What the guardian has given back is
    /// forgotten, and so lowered again. What another program has changed stays as it is.
    fn look_at_held(&mut self, cx: &mut Context<'_>) {
        let is_doubtful = boot_ns() < self.doubtful_ns;
        let mut restored = Vec::new();
        for (&identity, held) in &mut self.held {
            let Cleanup::Limit {
                resource, set, was, ..
            } = &held.cleanup
            else {
                continue;
            };
            let limits = identity.process().and_then(|one| one.limits(*resource));
            match limits {
                Ok((soft, _)) if soft == *set => {}
                Ok((soft, _)) if soft == *was && is_doubtful => restored.push(identity),
                Ok(_) => held.is_changed = true,
                // It has ended, or is another user's by now: what it has cannot be seen.
                Err(_) => {}
            }
        }
        let restored = restored.iter().filter_map(|one| self.held.remove(one));
        let restored: Vec<_> = restored.map(|held| held.cleanup).collect();
        if !restored.is_empty() {
            cx.journal.forget(&restored);
        }
        self.rest_idle();
    }
}

/// What a condition sets the limit of a process to, and what it is before.
fn setting(condition: &Condition, identity: Identity) -> io::Result<(Process, u64, u64)> {
    let process = identity.process()?;
    let (was, _) = process.limits(Resource::NoFile)?;
    let set = match condition.limit {
        Limit::Nofile(Level::Number(number)) => number,
        Limit::Nofile(Level::Used) => lowest_free(&process.folder()?.list("fd")?),
    };
    Ok((process, was, set))
}

fn held_elsewhere() -> io::Error {
    let reason = "another injection holds it; `murphy stop` ends that one";
    io::Error::new(io::ErrorKind::ResourceBusy, reason)
}

fn not_lowered(source: io::Error) -> MechanismError {
    let doing = if source.kind() == io::ErrorKind::PermissionDenied {
        "lowering a resource limit (of processes of other users it takes CAP_SYS_RESOURCE and \
         CAP_SYS_PTRACE)"
    } else {
        "lowering a resource limit"
    };
    MechanismError::Io { doing, source }
}

/// The processes whose limits are lowered by any injection that is noted on this machine. Of this one
/// they are held, and so not asked for.
fn held_by_others() -> BTreeSet<Identity> {
    let mut found = BTreeSet::new();
    for dir in StateDir::trusted() {
        for record in dir.list().records {
            for entry in record.journal {
                if let Cleanup::Limit { process, .. } = entry.undo {
                    found.insert(Identity {
                        id: process.pid,
                        start: process.start,
                    });
                }
            }
        }
    }
    found
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
