//! What is known of each system call: strace's classes, and which arguments name files, descriptors and addresses.

use syscalls::Sysno;

use super::arch;

/// What an argument of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A descriptor.
    Fd,
    /// A directory's descriptor, or `AT_FDCWD`, that the path behind it begins at.
    Dir,
    /// A path, as the address of a string.
    Path,
    /// A socket address; its length is the next argument.
    Address,
    /// No argument of that kind: the call works on the current directory.
    Cwd,
    /// Anything else.
    Other,
}

impl Argument {
    const fn of(letter: u8) -> Self {
        match letter {
            b'f' => Self::Fd,
            b'd' => Self::Dir,
            b'p' => Self::Path,
            b'a' => Self::Address,
            b'c' => Self::Cwd,
            _ => Self::Other,
        }
    }
}

/// The arguments of a call as far as they are known to name something, from the first.
pub fn arguments(call: Sysno) -> impl Iterator<Item = Argument> {
    let signature = row(call).map_or("", |row| row.2);
    signature.bytes().map(Argument::of)
}

/// Whether some argument of a call is one of these.
pub(super) fn takes(call: Sysno, wanted: &[Argument]) -> bool {
    arguments(call).any(|argument| wanted.contains(&argument))
}

/// The calls of a class such as `%file`, by number; `None` if there is no such class. strace's older spellings without `%` are
/// known too.
pub fn class(name: &str) -> Option<Vec<Sysno>> {
    let &(_, flag) = CLASSES.iter().find(|(known, _)| {
        *known == name || (OLD.contains(&name) && known.strip_prefix('%') == Some(name))
    })?;
    Some(
        arch::all_calls()
            .filter(|call| row(*call).is_some_and(|row| row.1 & flag != 0))
            .collect(),
    )
}

/// Whether a call is in strace's class `%network`.
pub(super) fn is_network(call: Sysno) -> bool {
    row(call).is_some_and(|row| row.1 & NETWORK != 0)
}

/// The names of all classes.
pub fn class_names() -> impl Iterator<Item = &'static str> {
    CLASSES.iter().map(|(name, _)| *name)
}

/// Name, classes, and a letter for each argument: `f` descriptor, `d` directory, `p` path, `a` address, `-` anything else;
/// `c` for what the current directory stands for.
type Row = (&'static str, u32, &'static str);

fn row(call: Sysno) -> Option<&'static Row> {
    let found = TABLE.binary_search_by_key(&call.name(), |row| row.0).ok()?;
    TABLE.get(found)
}

const DESC: u32 = 1;
const FILE: u32 = 1 << 1;
const MEMORY: u32 = 1 << 2;
const PROCESS: u32 = 1 << 3;
const CREDS: u32 = 1 << 4;
const SIGNAL: u32 = 1 << 5;
const IPC: u32 = 1 << 6;
const NETWORK: u32 = 1 << 7;
const STAT: u32 = 1 << 8;
const LSTAT: u32 = 1 << 9;
const FSTAT: u32 = 1 << 10;
const STAT_LIKE: u32 = 1 << 11;
const STATFS: u32 = 1 << 12;
const FSTATFS: u32 = 1 << 13;
const STATFS_LIKE: u32 = 1 << 14;
const PURE: u32 = 1 << 15;
const CLOCK: u32 = 1 << 16;

/// strace's names (strace(1), "Filtering").
const CLASSES: [(&str, u32); 18] = [
    ("%desc", DESC),
    ("%file", FILE),
    ("%memory", MEMORY),
    ("%process", PROCESS),
    ("%creds", CREDS),
    ("%signal", SIGNAL),
    ("%ipc", IPC),
    ("%network", NETWORK),
    ("%net", NETWORK),
    ("%stat", STAT),
    ("%lstat", LSTAT),
    ("%fstat", FSTAT),
    ("%%stat", STAT_LIKE),
    ("%statfs", STATFS),
    ("%fstatfs", FSTATFS),
    ("%%statfs", STATFS_LIKE),
    ("%pure", PURE),
    ("%clock", CLOCK),
];

/// Those that strace also takes without `%`.
const OLD: [&str; 7] = [
    "desc", "file", "memory", "process", "signal", "ipc", "network",
];

/// Sorted by name. Calls in no class of which no argument is of interest are left out. The classes are those of strace's
/// tables, the arguments those of the kernel's declarations (include/linux/syscalls.h).
#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("accept", NETWORK, "f"),
    ("accept4", NETWORK, "f"),
    ("access", FILE, "p"),
    ("acct", FILE, "p"),
    ("adjtimex", CLOCK, ""),
    ("bind", NETWORK, "fa"),
    ("bpf", DESC, ""),
    ("brk", MEMORY, ""),
    ("cachestat", DESC, "f"),
    ("capget", CREDS, ""),
    ("capset", CREDS, ""),
    ("chdir", FILE, "p"),
    ("chmod", FILE, "p"),
    ("chown", FILE, "p"),
    ("chroot", FILE, "p"),
    ("clock_adjtime", CLOCK, ""),
    ("clock_getres", CLOCK, ""),
    ("clock_gettime", CLOCK, ""),
    ("clock_settime", CLOCK, ""),
    ("clone", PROCESS, ""),
    ("clone3", PROCESS, ""),
    ("close", DESC, "f"),
    ("close_range", 0, "f"),
    ("connect", NETWORK, "fa"),
    ("copy_file_range", DESC, "f-f"),
    ("creat", DESC | FILE, "p"),
    ("dup", DESC, "f"),
    ("dup2", DESC, "ff"),
    ("dup3", DESC, "ff"),
    ("epoll_create", DESC, ""),
    ("epoll_create1", DESC, ""),
    ("epoll_ctl", DESC, "f-f"),
    ("epoll_pwait", DESC, "f"),
    ("epoll_pwait2", DESC, "f"),
    ("epoll_wait", DESC, "f"),
    ("eventfd", DESC, ""),
    ("eventfd2", DESC, ""),
    ("execve", FILE | PROCESS, "p"),
    ("execveat", DESC | FILE | PROCESS, "dp"),
    ("exit", PROCESS, ""),
    ("exit_group", PROCESS, ""),
    ("faccessat", DESC | FILE, "dp"),
    ("faccessat2", DESC | FILE, "dp"),
    ("fadvise64", DESC, "f"),
    ("fallocate", DESC, "f"),
    ("fanotify_init", DESC, ""),
    ("fanotify_mark", DESC | FILE, "f--dp"),
    ("fchdir", DESC, "f"),
    ("fchmod", DESC, "f"),
    ("fchmodat", DESC | FILE, "dp"),
    ("fchmodat2", DESC | FILE, "dp"),
    ("fchown", DESC, "f"),
    ("fchownat", DESC | FILE, "dp"),
    ("fcntl", DESC, "f"),
    ("fdatasync", DESC, "f"),
    ("fgetxattr", DESC, "f"),
    ("file_getattr", DESC | FILE, "dp"),
    ("file_setattr", DESC | FILE, "dp"),
    ("finit_module", DESC, "f"),
    ("flistxattr", DESC, "f"),
    ("flock", DESC, "f"),
    ("fork", PROCESS, ""),
    ("fremovexattr", DESC, "f"),
    ("fsconfig", DESC | FILE, "f"),
    ("fsetxattr", DESC, "f"),
    ("fsmount", DESC, "f"),
    ("fsopen", DESC, ""),
    ("fspick", DESC | FILE, "dp"),
    ("fstat", DESC | FSTAT | STAT_LIKE, "f"),
    ("fstatfs", DESC | FSTATFS | STATFS_LIKE, "f"),
    ("fsync", DESC, "f"),
    ("ftruncate", DESC, "f"),
    ("futimesat", DESC | FILE, "dp"),
    ("get_mempolicy", MEMORY, ""),
    ("getcwd", FILE, "c"),
    ("getdents", DESC, "f"),
    ("getdents64", DESC, "f"),
    ("getegid", CREDS | PURE, ""),
    ("geteuid", CREDS | PURE, ""),
    ("getgid", CREDS | PURE, ""),
    ("getgroups", CREDS, ""),
    ("getpeername", NETWORK, "f"),
    ("getpgrp", PURE, ""),
    ("getpid", PURE, ""),
    ("getpmsg", NETWORK, ""),
    ("getppid", PURE, ""),
    ("getresgid", CREDS, ""),
    ("getresuid", CREDS, ""),
    ("getsockname", NETWORK, "f"),
    ("getsockopt", NETWORK, "f"),
    ("gettid", PURE, ""),
    ("gettimeofday", CLOCK, ""),
    ("getuid", CREDS | PURE, ""),
    ("getxattr", FILE, "p"),
    ("getxattrat", DESC | FILE, "dp"),
    ("inotify_add_watch", DESC | FILE, "fp"),
    ("inotify_init", DESC, ""),
    ("inotify_init1", DESC, ""),
    ("inotify_rm_watch", DESC, "f"),
    ("io_destroy", MEMORY, ""),
    ("io_setup", MEMORY, ""),
    ("io_uring_enter", DESC | SIGNAL, "f"),
    ("io_uring_register", DESC | MEMORY, "f"),
    ("io_uring_setup", DESC, ""),
    ("ioctl", DESC, "f"),
    ("kexec_file_load", DESC, ""),
    ("kill", SIGNAL | PROCESS, ""),
    ("landlock_add_rule", DESC, "f"),
    ("landlock_create_ruleset", DESC, ""),
    ("landlock_restrict_self", DESC, "f"),
    ("lchown", FILE, "p"),
    ("lgetxattr", FILE, "p"),
    ("link", FILE, "pp"),
    ("linkat", DESC | FILE, "dpdp"),
    ("listen", NETWORK, "f"),
    ("listxattr", FILE, "p"),
    ("listxattrat", DESC | FILE, "dp"),
    ("llistxattr", FILE, "p"),
    ("lremovexattr", FILE, "p"),
    ("lseek", DESC, "f"),
    ("lsetxattr", FILE, "p"),
    ("lstat", FILE | LSTAT | STAT_LIKE, "p"),
    ("madvise", MEMORY, ""),
    ("map_shadow_stack", MEMORY, ""),
    ("mbind", MEMORY, ""),
    ("memfd_create", DESC, ""),
    ("memfd_secret", DESC, ""),
    ("migrate_pages", MEMORY, ""),
    ("mincore", MEMORY, ""),
    ("mkdir", FILE, "p"),
    ("mkdirat", DESC | FILE, "dp"),
    ("mknod", FILE, "p"),
    ("mknodat", DESC | FILE, "dp"),
    ("mlock", MEMORY, ""),
    ("mlock2", MEMORY, ""),
    ("mlockall", MEMORY, ""),
    ("mmap", DESC | MEMORY, "----f"),
    ("mount", FILE, "-p"),
    ("mount_setattr", DESC | FILE, "dp"),
    ("move_mount", DESC | FILE, "dpdp"),
    ("move_pages", MEMORY, ""),
    ("mprotect", MEMORY, ""),
    ("mq_getsetattr", DESC, "f"),
    ("mq_notify", DESC, "f"),
    ("mq_open", DESC, ""),
    ("mq_timedreceive", DESC, "f"),
    ("mq_timedsend", DESC, "f"),
    ("mremap", MEMORY, ""),
    ("mseal", MEMORY, ""),
    ("msgctl", IPC, ""),
    ("msgget", IPC, ""),
    ("msgrcv", IPC, ""),
    ("msgsnd", IPC, ""),
    ("msync", MEMORY, ""),
    ("munlock", MEMORY, ""),
    ("munlockall", MEMORY, ""),
    ("munmap", MEMORY, ""),
    ("name_to_handle_at", DESC | FILE, "dp"),
    ("newfstatat", DESC | FILE | FSTAT | STAT_LIKE, "dp"),
    ("open", DESC | FILE, "p"),
    ("open_by_handle_at", DESC, ""),
    ("open_tree", DESC | FILE, "dp"),
    ("open_tree_attr", DESC | FILE, "dp"),
    ("openat", DESC | FILE, "dp"),
    ("openat2", DESC | FILE, "dp"),
    ("pause", SIGNAL, ""),
    ("perf_event_open", DESC, ""),
    ("pidfd_getfd", DESC, "f"),
    ("pidfd_open", DESC, ""),
    ("pidfd_send_signal", DESC | SIGNAL | PROCESS, "f"),
    ("pipe", DESC, ""),
    ("pipe2", DESC, ""),
    ("pivot_root", FILE, "pp"),
    ("pkey_mprotect", MEMORY, ""),
    ("poll", DESC, ""),
    ("ppoll", DESC, ""),
    ("prctl", CREDS, ""),
    ("pread64", DESC, "f"),
    ("preadv", DESC, "f"),
    ("preadv2", DESC, "f"),
    ("process_madvise", DESC, "f"),
    ("process_mrelease", DESC, "f"),
    ("pselect6", DESC, ""),
    ("putpmsg", NETWORK, ""),
    ("pwrite64", DESC, "f"),
    ("pwritev", DESC, "f"),
    ("pwritev2", DESC, "f"),
    ("quotactl", FILE, "-p"),
    ("quotactl_fd", DESC, "f"),
    ("read", DESC, "f"),
    ("readahead", DESC, "f"),
    ("readlink", FILE, "p"),
    ("readlinkat", DESC | FILE, "dp"),
    ("readv", DESC, "f"),
    ("recvfrom", NETWORK, "f"),
    ("recvmmsg", NETWORK, "f"),
    ("recvmsg", NETWORK, "f"),
    ("remap_file_pages", MEMORY, ""),
    ("removexattr", FILE, "p"),
    ("removexattrat", DESC | FILE, "dp"),
    ("rename", FILE, "pp"),
    ("renameat", DESC | FILE, "dpdp"),
    ("renameat2", DESC | FILE, "dpdp"),
    ("rmdir", FILE, "p"),
    ("rt_sigaction", SIGNAL, ""),
    ("rt_sigpending", SIGNAL, ""),
    ("rt_sigprocmask", SIGNAL, ""),
    ("rt_sigqueueinfo", SIGNAL | PROCESS, ""),
    ("rt_sigreturn", SIGNAL, ""),
    ("rt_sigsuspend", SIGNAL, ""),
    ("rt_sigtimedwait", SIGNAL, ""),
    ("rt_tgsigqueueinfo", PROCESS | SIGNAL, ""),
    ("select", DESC, ""),
    ("semctl", IPC, ""),
    ("semget", IPC, ""),
    ("semop", IPC, ""),
    ("semtimedop", IPC, ""),
    ("sendfile", DESC | NETWORK, "ff"),
    ("sendmmsg", NETWORK, "f"),
    ("sendmsg", NETWORK, "f"),
    ("sendto", NETWORK, "f---a"),
    ("set_mempolicy", MEMORY, ""),
    ("set_mempolicy_home_node", MEMORY, ""),
    ("setfsgid", CREDS, ""),
    ("setfsuid", CREDS, ""),
    ("setgid", CREDS, ""),
    ("setgroups", CREDS, ""),
    ("setns", DESC, "f"),
    ("setregid", CREDS, ""),
    ("setresgid", CREDS, ""),
    ("setresuid", CREDS, ""),
    ("setreuid", CREDS, ""),
    ("setsockopt", NETWORK, "f"),
    ("settimeofday", CLOCK, ""),
    ("setuid", CREDS, ""),
    ("setxattr", FILE, "p"),
    ("setxattrat", DESC | FILE, "dp"),
    ("shmat", IPC | MEMORY, ""),
    ("shmctl", IPC, ""),
    ("shmdt", IPC | MEMORY, ""),
    ("shmget", IPC, ""),
    ("shutdown", NETWORK, "f"),
    ("sigaltstack", SIGNAL, ""),
    ("signalfd", DESC | SIGNAL, "f"),
    ("signalfd4", DESC | SIGNAL, "f"),
    ("socket", NETWORK, ""),
    ("socketpair", NETWORK, ""),
    ("splice", DESC, "f-f"),
    ("stat", FILE | STAT | STAT_LIKE, "p"),
    ("statfs", FILE | STATFS | STATFS_LIKE, "p"),
    ("statx", DESC | FILE | FSTAT | STAT_LIKE, "dp"),
    ("swapoff", FILE, "p"),
    ("swapon", FILE, "p"),
    ("symlink", FILE, "-p"),
    ("symlinkat", DESC | FILE, "-dp"),
    ("sync_file_range", DESC, "f"),
    ("syncfs", DESC, "f"),
    ("tee", DESC, "ff"),
    ("tgkill", SIGNAL | PROCESS, ""),
    ("time", CLOCK, ""),
    ("timerfd_create", DESC, ""),
    ("timerfd_gettime", DESC, "f"),
    ("timerfd_settime", DESC, "f"),
    ("tkill", SIGNAL | PROCESS, ""),
    ("truncate", FILE, "p"),
    ("umount2", FILE, "p"),
    ("unlink", FILE, "p"),
    ("unlinkat", DESC | FILE, "dp"),
    ("uselib", FILE, "p"),
    ("userfaultfd", DESC, ""),
    ("ustat", STATFS_LIKE, ""),
    ("utime", FILE, "p"),
    ("utimensat", DESC | FILE, "dp"),
    ("utimes", FILE, "p"),
    ("vfork", PROCESS, ""),
    ("vmsplice", DESC, "f"),
    ("wait4", PROCESS, ""),
    ("waitid", PROCESS, ""),
    ("write", DESC, "f"),
    ("writev", DESC, "f"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_of_this_kernel() {
        assert!(TABLE.is_sorted_by_key(|row| row.0));
        #[cfg(target_arch = "x86_64")]
        for (name, _, arguments) in TABLE {
            assert!(name.parse::<Sysno>().is_ok(), "{name}");
            assert!(arguments.len() <= 6, "{name}");
        }
    }

    #[test]
    fn classes_hold_what_strace_says() {
        let holds = |name: &str, call: &str| {
            let calls = class(name).unwrap_or_else(|| panic!("{name}"));
            calls.iter().any(|known| known.name() == call)
        };
        assert!(holds("%file", "openat") && holds("%desc", "openat"));
        assert!(holds("%network", "sendfile") && holds("%net", "connect"));
        assert!(holds("%process", "execve") && holds("%%stat", "newfstatat"));
        assert!(!holds("%file", "read") && !holds("file", "read"));
        assert_eq!(class("net"), None);
        assert_eq!(class("%nothing"), None);
    }

    #[test]
    fn a_path_follows_its_directory() {
        for (name, _, arguments) in TABLE {
            for (at, _) in arguments.match_indices('d') {
                assert_eq!(arguments.as_bytes().get(at + 1), Some(&b'p'), "{name}");
            }
        }
    }
}
