//! System calls that fail by an LSM hook: a table of the faults whose calls are made one after the
//! other.
//!
//! A row becomes a case called `FAULT: WHAT IT SHOWS`. Each call of the row fails in the victim
//! while the same calls of a neighbour do not, and works again after murphy's end ([`all_fail`]).

use tests::{Case, Group, calls::all_fail, case, needs};

pub(crate) fn group() -> Group {
    tests::group(TABLE.iter().map(Row::case))
}

struct Row {
    /// The stem of the fault's row in the registry.
    fault: &'static str,
    /// What the case shows.
    title: &'static str,
    /// The calls, separated by white space.
    calls: &'static str,
    /// How many more of these calls the victim's own start makes, `None` if that is unknown.
    own: Option<u64>,
}

impl Row {
    fn case(&'static self) -> Case {
        let calls: Vec<_> = self.calls.split_whitespace().collect();
        case(
            format!("{}: {}", self.fault, self.title),
            needs![Root, Cgroup2, Atomics, BpfLsm],
            move || all_fail(&calls, self.own),
        )
    }
}

const EACH: &str = "each call fails, a neighbour's do not, and all work when murphy is over";

const TABLE: &[Row] = &[
    Row {
        fault: "file",
        title: EACH,
        calls: "truncate ftruncate fallocate getdents getdents64 sendfile splice copy_file_range
                ioctl fcntl flock",
        own: None,
    },
    Row {
        fault: "ipc",
        title: "nothing can be made, but by a neighbour, and all works when murphy is over",
        calls: "shmget msgget semget",
        own: Some(0),
    },
    Row {
        fault: "ipc",
        title: EACH,
        calls: "shmat shmctl msgsnd msgctl semop semtimedop semctl",
        own: Some(0),
    },
    Row {
        fault: "metadata",
        title: EACH,
        calls: "chmod fchmod fchmodat chown lchown fchown fchownat utime utimes futimesat utimensat
                stat lstat fstat newfstatat statx access faccessat faccessat2 chdir fchdir readlink
                readlinkat setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr
                llistxattr flistxattr removexattr lremovexattr fremovexattr statfs fstatfs
                inotify_add_watch fanotify_mark",
        own: None,
    },
    Row {
        fault: "path",
        title: EACH,
        calls: "rename renameat renameat2 link linkat symlink symlinkat mkdir mkdirat rmdir unlink
                unlinkat mknod mknodat",
        own: Some(0),
    },
    Row {
        fault: "process",
        title: EACH,
        calls: "clone clone3 execve execveat kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo
                pidfd_send_signal ptrace prctl setrlimit prlimit64 setpriority sched_setscheduler
                sched_setparam sched_setattr sched_setaffinity sched_getscheduler sched_getparam
                sched_getattr sched_getaffinity sched_rr_get_interval ioprio_set setpgid setuid
                setreuid setresuid setgid setregid setresgid setgroups capset",
        own: None,
    },
    Row {
        fault: "socket",
        title: "sockets cannot be made, a neighbour's can, and all works when murphy is over",
        calls: "socket",
        own: Some(0),
    },
    Row {
        fault: "socket",
        title: EACH,
        calls: "bind listen accept accept4 sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg
                setsockopt getsockopt shutdown getsockname getpeername",
        own: Some(0),
    },
    Row {
        fault: "system",
        title: EACH,
        calls: "mount move_mount pivot_root chroot bpf perf_event_open settimeofday clock_settime
                syslog",
        own: Some(0),
    },
    Row {
        fault: "system",
        title: "a mount stays, a neighbour's does not, and none when murphy is over",
        calls: "umount2",
        own: Some(0),
    },
];
