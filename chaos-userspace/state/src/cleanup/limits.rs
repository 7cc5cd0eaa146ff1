//! Gives processes the limits back that they had.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::Outcome;
use murphy_sys::owner::Owner;
use murphy_sys::process::{Identity, Resource};
use murphy_sys::stat::{self, Stat};

/// A limit that was lowered.
#[derive(Clone, Copy)]
pub(super) struct Lowered<'c> {
    pub(super) process: &'c Owner,
    pub(super) resource: Resource,
    pub(super) set: u64,
    pub(super) was: u64,
    pub(super) since: u64,
}

/// Sets limits to what they were, if they are what they were set to: of processes, and of their
/// descendants, which inherited them. Of each the error is that of the process itself, or of one of
/// its descendants.
pub(super) fn restore(limits: &[Lowered<'_>]) -> Vec<io::Result<Outcome>> {
    let mut outcomes: Vec<_> = limits.iter().map(restore_own).collect();
    // Those that were forked before this moment are there; those that come later inherit a limit
    // that is restored. So one look is enough for all.
    let is_living = outcomes.iter().any(Option::is_some);
    let all = if is_living {
        stat::all()
    } else {
        BTreeMap::new()
    };
    for (limit, outcome) in limits.iter().zip(&mut outcomes) {
        let Some(outcome) = outcome else { continue };
        let later = |one: &Identity| one.start >= limit.since;
        let descendants = descendants(limit.identity(), &all).into_iter();
        for descendant in descendants.filter(later) {
            let restored = restore_one(descendant, limit);
            // One that cannot be restored keeps no other from it.
            if let (Err(error), true) = (restored, outcome.is_ok()) {
                *outcome = Err(error);
            }
        }
    }
    let outcomes = outcomes.into_iter();
    outcomes
        .map(|outcome| outcome.unwrap_or(Ok(Outcome::NothingToDo)))
        .collect()
}

/// The limit of the process itself; `None` if that has ended. Its limits ended with it, and
/// descendants that were found are journalled by themselves.
fn restore_own(limit: &Lowered<'_>) -> Option<io::Result<Outcome>> {
    if limit.process.runs().is_none() {
        let reason = "the process is in another pid namespace";
        return Some(Err(io::Error::other(reason)));
    }
    let is_living = limit.process.is_of_this_boot() && limit.identity().lives();
    is_living.then(|| restore_one(limit.identity(), limit))
}

impl Lowered<'_> {
    fn identity(&self) -> Identity {
        Identity {
            id: self.process.pid,
            start: self.process.start,
        }
    }
}

/// Whether a process has this soft limit now, as far as that can be seen: of a process that has
/// become another user's it cannot.
pub(super) fn is_set(process: &Owner, resource: Resource, set: u64) -> bool {
    let identity = Identity {
        id: process.pid,
        start: process.start,
    };
    let limits = identity.process().and_then(|one| one.limits(resource));
    let is_set = match limits {
        Ok((soft, _)) => soft == set,
        Err(_) => identity.lives(),
    };
    process.is_of_this_boot() && is_set
}

fn restore_one(identity: Identity, limit: &Lowered<'_>) -> io::Result<Outcome> {
    let &Lowered {
        resource, set, was, ..
    } = limit;
    let restored = || {
        let process = identity.process()?;
        if process.replace_soft_limit(resource, set, was)? {
            return Ok(Outcome::Done);
        }
        let (soft, _) = process.limits(resource)?;
        match soft == was {
            true => Ok(Outcome::NothingToDo),
            false => Ok(Outcome::Changed),
        }
    };
    match restored() {
        // It ended meanwhile.
        Err(_) if !identity.lives() => Ok(Outcome::NothingToDo),
        done => done,
    }
}

/// The processes that descend from one, as far as their parents live.
fn descendants(of: Identity, all: &BTreeMap<u32, Stat>) -> Vec<Identity> {
    let mut found = BTreeSet::new();
    let mut parents = vec![of.id];
    while let Some(parent) = parents.pop() {
        for (&pid, stat) in all {
            let identity = stat.identity(pid);
            // A process is no older than its parent: a number that was used again has no children
            // from before.
            if stat.parent == parent && stat.start >= of.start && found.insert(identity) {
                parents.push(pid);
            }
        }
    }
    found.into_iter().collect()
}
