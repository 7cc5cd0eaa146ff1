//! Processes that are to be targets.

use std::collections::BTreeMap;

use chaos_common::target::{KERNEL_THREAD, Named};

use super::EngineError;
use murphy_fault::plan::EXEMPT;
use murphy_sys::process::{Identity, ProcFolder};
pub(super) use murphy_sys::stat::{Stat, all, runs, still_runs};
use murphy_sys::stat::{in_initial_pid_namespace, of_thread, stat, stat_in};

/// Refuses what is no process or must never be hit; with `by_name`, what is spared by default.
pub(super) fn check(pid: u32, by_name: bool) -> Result<Identity, EngineError> {
    initial_namespace()?;
    // A thread's id is no process's, though /proc answers to it.
    match of_thread(pid) {
        Some(process) if process == pid => {}
        Some(process) => {
            return Err(EngineError::Thread {
                thread: pid,
                process,
            });
        }
        None => return Err(EngineError::NoProcess(pid)),
    }
    let stat = stat(pid).ok_or(EngineError::NoProcess(pid))?;
    may_be_hit(pid, &stat, by_name)?;
    Ok(stat.identity(pid))
}

/// The same for a thread.
pub(super) fn check_thread(tid: u32, by_name: bool) -> Result<Identity, EngineError> {
    initial_namespace()?;
    let gone = || EngineError::NoThread(tid);
    let folder = ProcFolder::open(tid).map_err(|_| gone())?;
    let thread = stat_in(&folder).filter(Stat::runs).ok_or_else(gone)?;
    let process = folder.status_number("Tgid:").map_err(|_| gone())?;
    let stat = stat(process).ok_or_else(gone)?;
    may_be_hit(process, &stat, by_name)?;
    Ok(thread.identity(tid))
}

fn may_be_hit(pid: u32, stat: &Stat, by_name: bool) -> Result<(), EngineError> {
    if let Some(what) = never(pid, stat) {
        return Err(EngineError::Exempt { pid, what });
    }
    if by_name && EXEMPT.contains(&stat.name.as_str()) {
        return Err(EngineError::ExemptName(stat.name.clone()));
    }
    Ok(())
}

/// Refuses a pid namespace whose ids are not those that kernel programs see.
pub(super) fn initial_namespace() -> Result<(), EngineError> {
    if in_initial_pid_namespace() {
        Ok(())
    } else {
        Err(EngineError::PidNamespace)
    }
}

/// What a process is that is never hit.
pub(super) fn never(pid: u32, stat: &Stat) -> Option<&'static str> {
    let own = std::process::id();
    if pid == 1 {
        Some("the host's PID 1")
    } else if pid == own {
        Some("murphy itself")
    } else if stat.parent == own {
        Some("murphy's own helper")
    } else if stat.flags & KERNEL_THREAD != 0 {
        Some("a kernel thread")
    } else {
        None
    }
}

/// What processes are named, with what their ancestors hand on. Nothing goes through this
/// process to its own children.
pub(super) fn inherited(
    roots: &BTreeMap<Identity, Named>,
    all: &BTreeMap<u32, Stat>,
) -> BTreeMap<u32, Named> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (&pid, stat) in all {
        children.entry(stat.parent).or_default().push(pid);
    }
    let own = std::process::id();
    let mut found: BTreeMap<u32, Named> = BTreeMap::new();
    // A root that has ended may have left its number to another process, which is no root.
    let same = |root: &Identity| {
        let there = all.get(&root.id);
        there.is_some_and(|stat| stat.start == root.start)
    };
    let roots = roots.iter().filter(|(root, _)| same(root));
    let mut next: Vec<_> = roots.map(|(root, &named)| (root.id, named)).collect();
    while let Some((pid, named)) = next.pop() {
        let old = found.get(&pid).copied();
        let new = old.unwrap_or_default().or(named);
        if pid == own || old == Some(new) {
            continue;
        }
        found.insert(pid, new);
        next.extend(
            children
                .get(&pid)
                .into_iter()
                .flatten()
                .map(|&child| (child, new)),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_no_target() {
        let own = std::process::id();
        assert!(matches!(
            check(own, false),
            Err(EngineError::Exempt { .. } | EngineError::PidNamespace)
        ));
        let named = Named { hit: 1, spare: 0 };
        let me = Identity::of(own).unwrap();
        assert!(inherited(&BTreeMap::from([(me, named)]), &all()).is_empty());
        assert!(still_runs(me));
    }

    #[test]
    fn pid_one_and_what_is_not_there() {
        if matches!(check(1, false), Err(EngineError::PidNamespace)) {
            return;
        }
        assert!(matches!(
            check(1, false),
            Err(EngineError::Exempt { pid: 1, .. })
        ));
        assert!(matches!(
            check_thread(1, false),
            Err(EngineError::Exempt { pid: 1, .. })
        ));
        assert!(matches!(
            check_thread(u32::MAX, false),
            Err(EngineError::NoThread(u32::MAX))
        ));
        assert!(matches!(
            check(u32::MAX, false),
            Err(EngineError::NoProcess(u32::MAX))
        ));
    }

    #[test]
    fn descendants_inherit_every_name() {
        let of = |parent| Stat {
            parent,
            flags: 0,
            name: String::new(),
            start: 5,
        };
        let id = |id| Identity { id, start: 5 };
        let all = BTreeMap::from([(10, of(1)), (11, of(10)), (12, of(11)), (13, of(1))]);
        let hit = Named { hit: 1, spare: 0 };
        let spare = Named { hit: 0, spare: 1 };
        let found = inherited(&BTreeMap::from([(id(10), hit), (id(11), spare)]), &all);
        assert_eq!(found.get(&10), Some(&hit));
        assert_eq!(found.get(&12), Some(&hit.or(spare)));
        assert_eq!(found.get(&13), None);
        // Another process has the number by now.
        let ended = Identity { id: 10, start: 4 };
        assert!(inherited(&BTreeMap::from([(ended, hit)]), &all).is_empty());
    }
}
