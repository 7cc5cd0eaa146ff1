//! Limits that children have inherited: they are held like those of their parents, and so restored
//! even if the parents have ended by then.

use std::collections::BTreeMap;
use std::io;

use super::{Change, Limits, TICK_NS};
use crate::{Context, Result};
use murphy_fault::plan::Target;
use murphy_state::cleanup::Cleanup;
use murphy_sys::process::{Identity, Resource};
use murphy_sys::stat::{self, Stat};

impl Limits {
    /// Holds what descendants of held processes have inherited.
    pub(super) fn adopt_heirs(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let all = stat::all();
        for (&pid, stat) in &all {
            let identity = stat.identity(pid);
            if self.held.contains_key(&identity) {
                continue;
            }
            let Some((condition, change, since)) = self.of_ancestor(pid, &all) else {
                continue;
            };
            let limits = identity
                .process()
                .and_then(|one| one.limits(Resource::NoFile));
            let is_inherited = match limits {
                Ok((soft, _)) => soft == change.0,
                // It has become another user's. What it inherited is reported at the end.
                Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
            };
            if is_inherited {
                self.adopt(cx, condition, identity, change, since)?;
            }
        }
        Ok(())
    }

    /// What the nearest ancestor that is held has: its condition, the change, and since when. A
    /// process that is older than the change did not inherit it.
    fn of_ancestor(&self, pid: u32, all: &BTreeMap<u32, Stat>) -> Option<(usize, Change, u64)> {
        let child = all.get(&pid)?;
        let mut at = child.parent;
        // No chain is longer than all processes, even if they change while they are read.
        for _ in 0..all.len() {
            let stat = all.get(&at)?;
            if let Some(held) = self.held.get(&stat.identity(at)) {
                let Cleanup::Limit {
                    set, was, since, ..
                } = &held.cleanup
                else {
                    return None;
                };
                let inherited = (held.condition, (*set, *was), *since);
                return (child.start >= *since).then_some(inherited);
            }
            at = stat.parent;
        }
        None
    }

    /// Warns of processes that began meanwhile and have the limit that was set, without an ancestor
    /// that tells whether they inherited it.
    pub(super) fn warn_of_orphans(&self, cx: &mut Context<'_>) {
        /// More are not named one by one.
        const NAMED: usize = 8;

        let all = stat::all();
        let mut orphans = Vec::new();
        for (&pid, stat) in &all {
            let identity = stat.identity(pid);
            if self.held.contains_key(&identity) || stat.start < self.armed_at / TICK_NS {
                continue;
            }
            let limits = identity
                .process()
                .and_then(|one| one.limits(Resource::NoFile));
            let Ok((soft, _)) = limits else { continue };
            let mut changes = self.changes.iter();
            if let Some((_, was)) = changes.find(|(set, _)| *set == soft) {
                orphans.push((pid, soft, *was));
            }
        }
        for (pid, soft, was) in orphans.iter().take(NAMED) {
            cx.notices.warn(format!(
                "process {pid} began meanwhile and has the limit {soft}; if it inherited that, \
                 `prlimit --pid {pid} --nofile={was}:` raises it"
            ));
        }
        if let Some(more) = orphans.len().checked_sub(NAMED).filter(|more| *more > 0) {
            cx.notices.warn(format!(
                "{more} more processes began meanwhile and have a limit that was set"
            ));
        }
    }

    /// What a process of `run` has inherited from one that may have ended: all of them descend from
    /// the command.
    pub(super) fn inherited_in_run(
        &self,
        cx: &Context<'_>,
        identity: Identity,
        soft: u64,
    ) -> Option<Change> {
        let is_later = identity.start >= self.armed_at / TICK_NS;
        let is_run = matches!(cx.plan.target, Target::Command);
        let mut changes = self.changes.iter().copied();
        changes.find(|(set, _)| is_run && is_later && *set == soft)
    }

    /// Journals and holds a limit that was inherited from a process that has had it since that
    /// clock tick: its own children may be older than this look.
    pub(super) fn adopt(
        &mut self,
        cx: &mut Context<'_>,
        condition: usize,
        identity: Identity,
        change: Change,
        since: u64,
    ) -> Result<()> {
        if let Some(cleanup) = self.cleanup(cx, condition, identity, change, since) {
            self.keep_lease(cx)?;
            cx.journal.journal(cleanup.clone())?;
            self.hold(condition, identity, cleanup);
        }
        Ok(())
    }
}
