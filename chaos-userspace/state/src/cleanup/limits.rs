//! Gives processes the limits back that they had.

use std::collections::BTreeSet;
use std::io;

use super::Outcome;
use murphy_sys::owner::Owner;
use murphy_sys::process::{Identity, Resource};
use murphy_sys::stat;

/// Sets a limit to what it was, if it is what it was set to: of a process, and of its descendants,
/// which inherited it.
///
/// # Errors
///
/// The limit of the process itself, or of one of its descendants, could not be set.
pub(super) fn restore(
    process: &Owner,
    resource: Resource,
    (set, was): (u64, u64),
    since: u64,
) -> io::Result<Outcome> {
    if process.runs().is_none() {
        return Err(io::Error::other("the process is in another pid namespace"));
    }
    let identity = Identity {
        id: process.pid,
        start: process.start,
    };
    if !process.is_of_this_boot() || !identity.lives() {
        // Its limits ended with it. Descendants that were found are journalled by themselves.
        return Ok(Outcome::NothingToDo);
    }
    let mut outcome = restore_one(identity, resource, set, was);
    // Those that were forked before this moment are there; those that come later inherit the limit
    // that is restored.
    let later = |one: &Identity| one.start >= since;
    for descendant in descendants(identity).into_iter().filter(later) {
        // One that cannot be restored keeps no other from it.
        if let (Err(error), true) = (restore_one(descendant, resource, set, was), outcome.is_ok()) {
            outcome = Err(error);
        }
    }
    outcome
}

/// Whether a process has this soft limit now.
pub(super) fn is_set(process: &Owner, resource: Resource, set: u64) -> bool {
    let identity = Identity {
        id: process.pid,
        start: process.start,
    };
    let limits = identity.process().and_then(|one| one.limits(resource));
    process.is_of_this_boot() && limits.is_ok_and(|(soft, _)| soft == set)
}

fn restore_one(identity: Identity, resource: Resource, set: u64, was: u64) -> io::Result<Outcome> {
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
pub(crate) fn descendants(of: Identity) -> Vec<Identity> {
    let all = stat::all();
    let mut found = BTreeSet::new();
    let mut parents = vec![of.id];
    while let Some(parent) = parents.pop() {
        for (&pid, stat) in &all {
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
