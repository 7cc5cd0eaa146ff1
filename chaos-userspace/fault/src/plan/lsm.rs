//! Which LSM hooks decide about a system call, as data.
//!
//! Only calls whose errno the hook's answer becomes are here. What each hook is handed and since when the kernel has it
//! stands in chaos-ebpf/src/lsm.

use chaos_common::lsm::{Begin, Place};

use super::Hook;
use crate::Op;

/// The hooks a system call needs, none if no LSM hook decides about it.
pub(super) fn hooks(call: &str) -> &'static [Hook] {
    macro_rules! table {
        ($($($name:literal)|+ => $place:ident $(from $begin:ident)?,)+) => {
            match call {
                $($($name)|+ => const { &[Hook::Lsm(Place::$place), $(Hook::Begin(Begin::$begin))?] },)+
                _ => &[],
            }
        };
    }
    table! {
        "open" | "openat" | "openat2" | "creat" | "open_by_handle_at" => FileOpen,
        "read" | "pread64" | "readv" | "preadv" | "preadv2" => FilePermission,
        "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" => FilePermission,
        "getdents" | "getdents64" | "fallocate" => FilePermission,
        "sendfile" => FilePermission from Sendfile,
        "splice" => FilePermission from Splice,
        "copy_file_range" => FilePermission from CopyFileRange,

        "rename" | "renameat" | "renameat2" => Rename,
        "link" | "linkat" => Link,
        "symlink" | "symlinkat" => Symlink,
        "mkdir" | "mkdirat" => Mkdir,
        "unlink" | "unlinkat" | "rmdir" => Remove,
        "mknod" | "mknodat" => Mknod,

        "chmod" | "fchmod" | "fchmodat" | "fchmodat2" => Chmod,
        "chown" | "fchown" | "lchown" | "fchownat" => Chown,
        "utime" | "utimes" | "futimesat" | "utimensat" => Setattr,
        "stat" | "fstat" | "lstat" | "newfstatat" | "statx" => Getattr,
        "access" => Access from Access,
        "faccessat" => Access from Faccessat,
        "faccessat2" => Access from Faccessat2,
        "chdir" | "fchdir" => Access,
        "readlink" | "readlinkat" => Readlink,
        "setxattr" | "lsetxattr" | "fsetxattr" => Setxattr,
        "getxattr" | "lgetxattr" | "fgetxattr" => Getxattr,
        "listxattr" | "llistxattr" | "flistxattr" => Listxattr,
        "removexattr" | "lremovexattr" | "fremovexattr" => Removexattr,
        "statfs" => Statfs from Statfs,
        "fstatfs" => Statfs from Fstatfs,
        "inotify_add_watch" | "fanotify_mark" => Notify,

        "truncate" | "ftruncate" => Truncate,
        "ioctl" => Ioctl,
        "fcntl" => Fcntl,
        "flock" => Flock,

        "mmap" => Mmap,
        "mprotect" => Mprotect from Mprotect,
        "pkey_mprotect" => Mprotect from PkeyMprotect,

        "fork" | "vfork" | "clone" | "clone3" => Fork,
        "execve" | "execveat" => Exec,
        "kill" => Kill from Kill,
        "tkill" | "tgkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo" | "pidfd_send_signal" => Kill,
        "ptrace" => Ptrace,
        "prctl" => Prctl,
        "setrlimit" | "prlimit64" => Rlimit,
        "setpriority" => Nice from Setpriority,
        "sched_setscheduler" | "sched_setparam" | "sched_setattr" | "sched_setaffinity" => Setscheduler,
        "sched_getscheduler" | "sched_getparam" | "sched_getattr" | "sched_getaffinity" | "sched_rr_get_interval" => Getscheduler,
        "ioprio_set" => Setioprio from IoprioSet,
        "setpgid" => Setpgid,
        "setuid" | "setreuid" | "setresuid" => Setuid,
        "setgid" | "setregid" | "setresgid" => Setgid,
        "setgroups" => Setgroups,
        "capset" => Capset,

        "socket" => Socket,
        "socketpair" => Socketpair,
        "bind" => Bind,
        "listen" => Listen,
        "connect" => Connect,
        "accept" | "accept4" => Accept,
        "sendto" | "sendmsg" => Send,
        "sendmmsg" => Send from Sendmmsg,
        "recvfrom" | "recvmsg" | "recvmmsg" => Receive,
        "setsockopt" => Setsockopt,
        "getsockopt" => Getsockopt,
        "shutdown" => Shutdown,
        "getsockname" => Getsockname,
        "getpeername" => Getpeername,

        "shmget" => Shmget,
        "shmat" => Shmat,
        "shmctl" => Shmctl,
        "msgget" => Msgget,
        "msgsnd" => Msgsnd from Msgsnd,
        "msgctl" => Msgctl,
        "semget" => Semget,
        "semop" | "semtimedop" => Semop,
        "semctl" => Semctl,

        "mount" => Mount,
        "umount2" => Umount,
        "move_mount" => MoveMount,
        "pivot_root" => PivotRoot,
        "chroot" => Chroot,
        "bpf" => Bpf,
        "perf_event_open" => Perf,
        "settimeofday" | "clock_settime" => Settime,
        "syslog" => Syslog,
    }
}

/// The place that decides about a call, for delays.
pub(super) fn place(op: Op) -> Option<Place> {
    let mut hooks = hooks(op.call()?.name()).iter();
    hooks.find_map(|hook| {
        let Hook::Lsm(place) = hook else {
            return None;
        };
        Some(*place)
    })
}

/// The hook that lets threads wait at a place, if the kernel lets a program sleep there.
pub(super) fn sleeper(place: Place) -> Option<Hook> {
    (!place.sleeper().is_empty()).then_some(Hook::Sleep(place))
}

/// Places that the kernel passes while the directory is locked.
const IN_LOCKED_DIRECTORIES: [Place; 6] = [
    Place::Rename,
    Place::Link,
    Place::Symlink,
    Place::Mkdir,
    Place::Remove,
    Place::Mknod,
];

/// Places that the kernel passes while the file is locked.
const IN_LOCKED_FILES: [Place; 5] = [
    Place::Chmod,
    Place::Chown,
    Place::Setattr,
    Place::Setxattr,
    Place::Removexattr,
];

/// Why a call cannot be delayed where its LSM hook is; `None` if it can.
pub(super) fn undelayed(op: Op) -> Option<&'static str> {
    let Some(place) = place(op) else {
        return Some("it has no LSM hook");
    };
    if !place.sleeper().is_empty() {
        return None;
    }
    Some(if IN_LOCKED_DIRECTORIES.contains(&place) {
        "its hook is called while the directory is locked, so that everybody who works in it would wait too"
    } else if IN_LOCKED_FILES.contains(&place) {
        "its hook is called while the file is locked, so that everybody who works on it would wait too"
    } else {
        "the kernel lets no program sleep at its hook"
    })
}

/// The entry of a system call in the kernel programs' `CALLS`; 0 if no LSM hook decides about it.
pub(crate) fn call_entry(hooks: &[Hook]) -> u32 {
    let bits = |hook: &Hook| {
        if let Hook::Lsm(place) = hook {
            place.number()
        } else if matches!(hook, Hook::Begin(_)) {
            chaos_common::lsm::REPEATED
        } else {
            0
        }
    };
    hooks.iter().map(bits).fold(0, |entry, bits| entry | bits)
}

#[cfg(test)]
mod tests {
    use syscalls::Sysno;

    use super::*;

    #[test]
    fn every_place_and_every_beginning_serves_a_call() {
        let used: Vec<_> = Sysno::iter().flat_map(|call| hooks(call.name())).collect();
        for &place in Place::ALL.iter().filter(|place| **place != Place::Learn) {
            assert!(used.contains(&&Hook::Lsm(place)), "{place:?}");
        }
        for &begin in Begin::ALL {
            assert!(used.contains(&&Hook::Begin(begin)), "{begin:?}");
        }
    }

    /// As the changelog and the pages say.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn so_many_calls_are_served() {
        let served = Sysno::iter().filter(|call| !hooks(call.name()).is_empty());
        // `connect` has hooks of the network's, and this one for delays.
        assert_eq!(served.count(), 157);
    }

    #[test]
    fn an_entry_names_the_place_and_whether_it_is_asked_again() {
        assert_eq!(call_entry(hooks("open")), Place::FileOpen.number());
        assert_eq!(
            call_entry(hooks("kill")),
            Place::Kill.number() | chaos_common::lsm::REPEATED
        );
        assert_eq!(call_entry(hooks("fsync")), 0);
    }
}
