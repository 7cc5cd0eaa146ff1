//! What `/proc/PID/stat` says of processes and threads.

use std::collections::BTreeMap;
use std::fs;

use super::process::{Identity, ProcFolder, all_ids, start_in};

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Whether this process is in the initial pid namespace, whose ids kernel programs see.
pub fn in_initial_pid_namespace() -> bool {
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    namespace.as_os_str() == INITIAL_PID_NAMESPACE
}

/// What is known of a process from `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The number of its parent.
    pub parent: u32,
    /// The kernel's flags of it, `PF_…`.
    pub flags: u32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// When it began, in clock ticks since boot.
    pub start: u64,
}

impl Stat {
    /// What tells the process of this number from a later one.
    pub fn identity(&self, id: u32) -> Identity {
        let start = self.start;
        Identity { id, start }
    }
}

/// All processes there are.
pub fn all() -> BTreeMap<u32, Stat> {
    let ids = all_ids().into_iter();
    ids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// The process that a thread belongs to.
pub fn of_thread(tid: u32) -> Option<u32> {
    ProcFolder::open(tid).ok()?.status_number("Tgid:").ok()
}

/// `PF_EXITING` (include/linux/sched.h): it is ending, or a zombie.
const EXITING: u32 = 0x4;

impl Stat {
    /// Whether it runs: it neither ends nor is a zombie.
    pub fn runs(&self) -> bool {
        self.flags & EXITING == 0
    }
}

/// Whether a pinned process or thread still runs. One that is ending does not: before it is a
/// zombie it has left its namespaces and closed its files.
pub fn runs(folder: &ProcFolder) -> bool {
    stat_in(folder).is_some_and(|stat| stat.runs())
}

/// The same of one that is remembered.
pub fn still_runs(identity: Identity) -> bool {
    identity.folder().is_ok_and(|folder| runs(&folder))
}

/// The same of a pinned process or thread.
pub fn stat_in(folder: &ProcFolder) -> Option<Stat> {
    parse(&folder.read("stat").ok()?)
}

/// The same of a process of this number.
pub fn stat(pid: u32) -> Option<Stat> {
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
    use chaos_common::target::KERNEL_THREAD;

    use super::super::process::status_number;
    use super::*;

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
}
