//! Processes that are to be targets.

use std::collections::BTreeMap;
use std::fs;

use chaos_common::target::{KERNEL_THREAD, Named};

use super::EngineError;
use crate::plan::EXEMPT;
use crate::sys::process::{Identity, ProcFolder, all_ids, start_in};

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// What is known of a process from `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) parent: u32,
    pub(super) flags: u32,
    pub(super) name: String,
    /// When it began, in clock ticks since boot.
    pub(super) start: u64,
}

impl Stat {
    /// What tells the process of this number from a later one.
    pub(super) fn identity(&self, id: u32) -> Identity {
        let start = self.start;
        Identity { id, start }
    }
}

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

/// The process that a thread belongs to.
pub(super) fn of_thread(tid: u32) -> Option<u32> {
    ProcFolder::open(tid).ok()?.status_number("Tgid:").ok()
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
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    if namespace.as_os_str() == INITIAL_PID_NAMESPACE {
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

/// All processes there are.
pub(super) fn all() -> BTreeMap<u32, Stat> {
    let ids = all_ids().into_iter();
    ids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
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

/// `PF_EXITING` (include/linux/sched.h): it is ending, or a zombie.
const EXITING: u32 = 0x4;

impl Stat {
    fn runs(&self) -> bool {
        self.flags & EXITING == 0
    }
}

/// Whether a pinned process or thread still runs. One that is ending does not: before it is a
/// zombie it has left its namespaces and closed its files.
pub(super) fn runs(folder: &ProcFolder) -> bool {
    stat_in(folder).is_some_and(|stat| stat.runs())
}

/// The same of one that is remembered.
pub(super) fn still_runs(identity: Identity) -> bool {
    identity.folder().is_ok_and(|folder| runs(&folder))
}

/// The same of a pinned process or thread.
pub(super) fn stat_in(folder: &ProcFolder) -> Option<Stat> {
    parse(&folder.read("stat").ok()?)
}

fn stat(pid: u32) -> Option<Stat> {
    stat_in(&ProcFolder::open(pid).ok()?)
}

/// From the bytes of `/proc/PID/stat`. The name in parentheses may hold anything, so
/// fields are counted from its end.
fn parse(stat: &[u8]) -> Option<Stat> {
    let text = String::from_utf8_lossy(stat);
    let (head, rest) = text.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let mut fields = rest.split(' ').skip(1);
    let parent = fields.next()?.parse().ok()?;
    let flags = fields.nth(4)?.parse().ok()?;
    Some(Stat {
        parent,
        flags,
        name: name.to_owned(),
        start: start_in(stat)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::status_number;

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
    fn a_name_may_hold_anything() {
        let stat = parse(b"7 (a) b (c) S 3 7 7 0 -1 2097216 0 0 0 0 0 0 0 0 20 0 1 0 4711 0");
        let stat = stat.unwrap();
        assert_eq!((stat.parent, stat.flags), (3, 2_097_216));
        assert_eq!(stat.identity(7), Identity { id: 7, start: 4711 });
        assert_eq!(stat.name, "a) b (c");
        assert_eq!(stat.flags & KERNEL_THREAD, KERNEL_THREAD);
        assert_eq!(parse(b"7 (a"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn the_real_user() {
        let status = "Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t5\t5\t5\t5\n";
        assert_eq!(status_number(status, "Uid:"), Some(1000));
        assert_eq!(status_number("", "Uid:"), None);
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
