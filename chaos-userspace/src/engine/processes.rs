//! Processes that are to be targets.

use std::collections::BTreeMap;
use std::fs;

use chaos_common::target::{KERNEL_THREAD, Named};

use super::EngineError;
use crate::plan::EXEMPT;

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// What is known of a process from `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) parent: u32,
    pub(super) flags: u32,
    pub(super) name: String,
}

/// Refuses what is no process or must never be hit; with `by_name`, what is spared by default.
pub(super) fn check(pid: u32, by_name: bool) -> Result<(), EngineError> {
    initial_namespace()?;
    // A thread's id is no process's, though /proc answers to it.
    match number_in(&status(pid).unwrap_or_default(), "Tgid:") {
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
    may_be_hit(pid, &stat, by_name)
}

/// The same for a thread.
pub(super) fn check_thread(tid: u32, by_name: bool) -> Result<(), EngineError> {
    initial_namespace()?;
    let process = of_thread(tid).filter(|_| runs(tid));
    let process = process.ok_or(EngineError::NoThread(tid))?;
    let stat = stat(process).ok_or(EngineError::NoThread(tid))?;
    may_be_hit(process, &stat, by_name)
}

/// The process that a thread belongs to.
pub(super) fn of_thread(tid: u32) -> Option<u32> {
    number_in(&status(tid)?, "Tgid:")
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
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, stat(pid)?))
        })
        .collect()
}

/// What processes are named, with what their ancestors hand on. Nothing goes through this
/// process to its own children.
pub(super) fn inherited(
    roots: &BTreeMap<u32, Named>,
    all: &BTreeMap<u32, Stat>,
) -> BTreeMap<u32, Named> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (&pid, stat) in all {
        children.entry(stat.parent).or_default().push(pid);
    }
    let own = std::process::id();
    let mut found: BTreeMap<u32, Named> = BTreeMap::new();
    let mut next: Vec<_> = roots.iter().map(|(&pid, &named)| (pid, named)).collect();
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

/// The real user id of a process.
pub(crate) fn user(pid: u32) -> Option<u32> {
    number_in(&status(pid)?, "Uid:")
}

fn status(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/status")).ok()
}

/// From the text of `/proc/PID/status`: the first number of a line.
fn number_in(status: &str, name: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `PF_EXITING` (include/linux/sched.h): it is ending, or a zombie.
const EXITING: u32 = 0x4;

/// Whether a process or thread still runs. One that is ending does not: before it is a zombie it has left its
/// namespaces and closed its files.
pub(super) fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.flags & EXITING == 0)
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
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
    })
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
        assert!(inherited(&BTreeMap::from([(own, named)]), &all()).is_empty());
        assert!(runs(own));
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
        let stat = parse(b"7 (a) b (c) S 3 7 7 0 -1 2097216 0").unwrap();
        assert_eq!((stat.parent, stat.flags), (3, 2_097_216));
        assert_eq!(stat.name, "a) b (c");
        assert_eq!(stat.flags & KERNEL_THREAD, KERNEL_THREAD);
        assert_eq!(parse(b"7 (a"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn the_real_user() {
        let status = "Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t5\t5\t5\t5\n";
        assert_eq!(number_in(status, "Uid:"), Some(1000));
        assert_eq!(number_in("", "Uid:"), None);
    }

    #[test]
    fn descendants_inherit_every_name() {
        let of = |parent| Stat {
            parent,
            flags: 0,
            name: String::new(),
        };
        let all = BTreeMap::from([(10, of(1)), (11, of(10)), (12, of(11)), (13, of(1))]);
        let hit = Named { hit: 1, spare: 0 };
        let spare = Named { hit: 0, spare: 1 };
        let found = inherited(&BTreeMap::from([(10, hit), (11, spare)]), &all);
        assert_eq!(found.get(&10), Some(&hit));
        assert_eq!(found.get(&12), Some(&hit.or(spare)));
        assert_eq!(found.get(&13), None);
    }
}
