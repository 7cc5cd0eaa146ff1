//! Where the LSM hooks sit that decide about system calls: one [`Place`] for all the
//! hooks that one of which every call of a kind passes.
//!
//! A system call may pass hooks of several places (`write` to a socket passes
//! `file_permission` and `socket_sendmsg`); user space says in the map `CALLS` which of
//! them decides, so that it is asked about once.

/// Bit of a `CALLS` entry: the hook may be called several times in one such call, so
/// that its answer is remembered from the first time to the end of the call.
pub const REPEATED: u32 = 1 << 31;

/// Bytes of a name that are compared, with the 0 that ends it.
pub const NAME: usize = 64;

/// Bytes of a key of `ENTRIES`: [`folder`], and the name.
pub const NAME_KEY: usize = 8 + NAME;

/// A folder in the keys of `ENTRIES` and `TREES`: the address of its inode, in whose lowest
/// bit, 0 by alignment, is the bank.
#[inline(always)]
#[must_use]
pub const fn folder(inode: u64, bank: u32) -> u64 {
    inode & !1 | bank as u64
}

const _: () = assert!(crate::bank::BANKS == 2);

/// Threads that can be in [`REPEATED`] calls at once, each remembered.
pub const THREADS: u32 = 1 << 12;

/// How many levels below a folder `/folder/**` reaches.
pub const TREE_DEPTH: u32 = 32;

/// Declares [`Place`] with the programs that sit there.
macro_rules! places {
    ($($(#[$doc:meta])* $variant:ident = $name:literal { $($program:literal: $hook:literal),+ $(,)? })+) => {
        /// A place in the kernel where an errno reaches the caller of a system call.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Place {
            $($(#[$doc])* $variant,)+
        }

        impl Place {
            /// Every place.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Its programs, each with the kernel's name of its hook.
            pub const fn programs(self) -> &'static [(&'static str, &'static str)] {
                match self {
                    $(Self::$variant => &[$(($program, $hook)),+],)+
                }
            }

            /// The number in a `CALLS` entry; 0 is no place.
            pub const fn number(self) -> u32 {
                self as u32 + 1
            }
        }
    };
}

places! {
    /// A file is opened.
    FileOpen = "file_open" { "murphy_open": "lsm/file_open" }
    /// A directory is learnt by murphy itself; decides about nothing.
    Learn = "learn" { "murphy_learn": "lsm/file_open" }
    /// Data is read from or written to a file.
    FilePermission = "file_permission" { "murphy_rw": "lsm/file_permission" }

    /// An entry of a directory is given another name or place.
    Rename = "rename" { "murphy_rename": "lsm/path_rename" }
    /// A file gets another name.
    Link = "link" { "murphy_link": "lsm/path_link" }
    /// A symbolic link is made.
    Symlink = "symlink" { "murphy_symlink": "lsm/path_symlink" }
    /// A directory is made.
    Mkdir = "mkdir" { "murphy_mkdir": "lsm/path_mkdir" }
    /// An entry of a directory is removed; `unlinkat` removes directories too.
    Remove = "remove" { "murphy_unlink": "lsm/path_unlink", "murphy_rmdir": "lsm/path_rmdir" }
    /// A device, a FIFO, or an empty file is made.
    Mknod = "mknod" { "murphy_mknod": "lsm/path_mknod" }

    /// Permission bits are set.
    Chmod = "chmod" { "murphy_chmod": "lsm/path_chmod" }
    /// Owner and group are set.
    Chown = "chown" { "murphy_chown": "lsm/path_chown" }
    /// Times are set.
    Setattr = "setattr" { "murphy_setattr": "lsm/inode_setattr" }
    /// Attributes are asked for.
    Getattr = "getattr" { "murphy_getattr": "lsm/inode_getattr" }
    /// Access is asked for, or a directory is made the current one.
    Access = "access" { "murphy_access": "lsm/inode_permission" }
    /// The target of a symbolic link is read.
    Readlink = "readlink" { "murphy_readlnk": "lsm/inode_readlink" }
    /// An extended attribute is set.
    Setxattr = "setxattr" { "murphy_setxatr": "lsm/inode_setxattr" }
    /// An extended attribute is asked for.
    Getxattr = "getxattr" { "murphy_getxatr": "lsm/inode_getxattr" }
    /// The names of extended attributes are asked for.
    Listxattr = "listxattr" { "murphy_lsxattr": "lsm/inode_listxattr" }
    /// An extended attribute is removed.
    Removexattr = "removexattr" { "murphy_rmxattr": "lsm/inode_removexattr" }
    /// A file system is asked about.
    Statfs = "statfs" { "murphy_statfs": "lsm/sb_statfs" }
    /// A watch is set on a file.
    Notify = "notify" { "murphy_notify": "lsm/path_notify" }

    /// A file is cut or made longer. Since 6.2 an open one has a hook of its own.
    Truncate = "truncate" { "murphy_truncat": "lsm/path_truncate", "murphy_ftrunc": "lsm/file_truncate" }
    /// A device is told something.
    Ioctl = "ioctl" { "murphy_ioctl": "lsm/file_ioctl" }
    /// Something is done to a descriptor.
    Fcntl = "fcntl" { "murphy_fcntl": "lsm/file_fcntl" }
    /// A whole file is locked.
    Flock = "flock" { "murphy_flock": "lsm/file_lock" }

    /// Memory is mapped, of a file or not.
    Mmap = "mmap" { "murphy_mmap": "lsm/mmap_file" }
    /// The protection of memory is changed.
    Mprotect = "mprotect" { "murphy_mprotec": "lsm/file_mprotect" }

    /// A process or thread is made.
    Fork = "fork" { "murphy_newtask": "lsm/task_alloc" }
    /// A program is executed.
    Exec = "exec" { "murphy_execve": "lsm/bprm_creds_for_exec" }
    /// A signal is sent.
    Kill = "kill" { "murphy_kill": "lsm/task_kill" }
    /// A process is traced, or asks its parent to.
    Ptrace = "ptrace" {
        "murphy_ptrace": "lsm/ptrace_access_check",
        "murphy_traceme": "lsm/ptrace_traceme",
    }
    /// A process is told how to behave.
    Prctl = "prctl" { "murphy_prctl": "lsm/task_prctl" }
    /// A limit is set.
    Rlimit = "rlimit" { "murphy_rlimit": "lsm/task_setrlimit" }
    /// Niceness is set.
    Nice = "nice" { "murphy_nice": "lsm/task_setnice" }
    /// The way to be scheduled is set.
    Setscheduler = "setscheduler" { "murphy_setschd": "lsm/task_setscheduler" }
    /// The way to be scheduled is asked for.
    Getscheduler = "getscheduler" { "murphy_getschd": "lsm/task_getscheduler" }
    /// The priority of input and output is set.
    Setioprio = "setioprio" { "murphy_setiopr": "lsm/task_setioprio" }
    /// A process is put into a group.
    Setpgid = "setpgid" { "murphy_setpgid": "lsm/task_setpgid" }
    /// User ids are set.
    Setuid = "setuid" { "murphy_setuid": "lsm/task_fix_setuid" }
    /// Group ids are set.
    Setgid = "setgid" { "murphy_setgid": "lsm/task_fix_setgid" }
    /// Supplementary groups are set.
    Setgroups = "setgroups" { "murphy_setgrps": "lsm/task_fix_setgroups" }
    /// Capabilities are set.
    Capset = "capset" { "murphy_capset": "lsm/capset" }

    /// A socket is made.
    Socket = "socket_create" { "murphy_mksock": "lsm/socket_create" }
    /// Two sockets are made.
    Socketpair = "socketpair" { "murphy_sockpr": "lsm/socket_socketpair" }
    /// A socket is given an address.
    Bind = "bind" { "murphy_bind": "lsm/socket_bind" }
    /// A socket is to take connections.
    Listen = "listen" { "murphy_listen": "lsm/socket_listen" }
    /// A connection is made. Errors have hooks of the network's, which see no Unix socket; this one is for delays.
    Connect = "socket_connect" { "murphy_conlsm": "lsm/socket_connect" }
    /// A connection is taken.
    Accept = "accept" { "murphy_sockacc": "lsm/socket_accept" }
    /// A message is sent.
    Send = "send" { "murphy_send": "lsm/socket_sendmsg" }
    /// A message is received.
    Receive = "receive" { "murphy_recv": "lsm/socket_recvmsg" }
    /// An option is set.
    Setsockopt = "setsockopt" { "murphy_setopt": "lsm/socket_setsockopt" }
    /// An option is asked for.
    Getsockopt = "getsockopt" { "murphy_getopt": "lsm/socket_getsockopt" }
    /// One or both directions are ended.
    Shutdown = "shutdown" { "murphy_shutdwn": "lsm/socket_shutdown" }
    /// The own address is asked for.
    Getsockname = "getsockname" { "murphy_sockname": "lsm/socket_getsockname" }
    /// The address of the other end is asked for.
    Getpeername = "getpeername" { "murphy_peername": "lsm/socket_getpeername" }

    /// Shared memory is made or found.
    Shmget = "shmget" { "murphy_shmnew": "lsm/shm_alloc_security", "murphy_shmget": "lsm/shm_associate" }
    /// Shared memory is mapped.
    Shmat = "shmat" { "murphy_shmat": "lsm/shm_shmat" }
    /// Shared memory is asked about, changed or removed.
    Shmctl = "shmctl" { "murphy_shmctl": "lsm/shm_shmctl" }
    /// A message queue is made or found.
    Msgget = "msgget" { "murphy_msgnew": "lsm/msg_queue_alloc_security", "murphy_msgget": "lsm/msg_queue_associate" }
    /// A message is put into a queue.
    Msgsnd = "msgsnd" { "murphy_msgsnd": "lsm/msg_queue_msgsnd" }
    /// A message queue is asked about, changed or removed.
    Msgctl = "msgctl" { "murphy_msgctl": "lsm/msg_queue_msgctl" }
    /// Semaphores are made or found.
    Semget = "semget" { "murphy_semnew": "lsm/sem_alloc_security", "murphy_semget": "lsm/sem_associate" }
    /// Semaphores are operated.
    Semop = "semop" { "murphy_semop": "lsm/sem_semop" }
    /// Semaphores are asked about, changed or removed.
    Semctl = "semctl" { "murphy_semctl": "lsm/sem_semctl" }

    /// A file system is mounted, or a mount changed.
    Mount = "mount" { "murphy_mount": "lsm/sb_mount" }
    /// A file system is unmounted.
    Umount = "umount" { "murphy_umount": "lsm/sb_umount" }
    /// A mount is moved, or attached.
    MoveMount = "move_mount" { "murphy_mvmount": "lsm/move_mount" }
    /// The root of the mounts is changed.
    PivotRoot = "pivot_root" { "murphy_pivot": "lsm/sb_pivotroot" }
    /// The root directory of a process is changed.
    Chroot = "chroot" { "murphy_chroot": "lsm/path_chroot" }
    /// Something is asked of BPF.
    Bpf = "bpf" { "murphy_bpf": "lsm/bpf" }
    /// A performance event is opened.
    Perf = "perf_event_open" { "murphy_perf": "lsm/perf_event_open" }
    /// The clock is set.
    Settime = "settime" { "murphy_settime": "lsm/settime" }
    /// The kernel's log is read or changed.
    Syslog = "syslog" { "murphy_syslog": "lsm/syslog" }
}

/// Declares the programs of places that may sleep.
macro_rules! sleepers {
    ($($place:ident = $program:literal: $hook:literal,)+) => {
        impl Place {
            /// The program that lets the thread wait which another program of the same hook has decided about; none
            /// where the kernel lets no program sleep, or where the hook is called under a lock that others want.
            pub const fn sleeper(self) -> &'static [(&'static str, &'static str)] {
                match self {
                    $(Self::$place => &[($program, $hook)],)+
                    _ => &[],
                }
            }
        }
    };
}

sleepers! {
    FileOpen = "murphy_z_open": "lsm.s/file_open",
    Getattr = "murphy_z_stat": "lsm.s/inode_getattr",
    Readlink = "murphy_z_readl": "lsm.s/inode_readlink",
    Getxattr = "murphy_z_getxa": "lsm.s/inode_getxattr",
    Statfs = "murphy_z_statf": "lsm.s/sb_statfs",
    Notify = "murphy_z_notif": "lsm.s/path_notify",
    Ioctl = "murphy_z_ioctl": "lsm.s/file_ioctl",
    Flock = "murphy_z_flock": "lsm.s/file_lock",
    Mmap = "murphy_z_mmap": "lsm.s/mmap_file",
    Fork = "murphy_z_fork": "lsm.s/task_alloc",
    Exec = "murphy_z_exec": "lsm.s/bprm_creds_for_exec",
    Prctl = "murphy_z_prctl": "lsm.s/task_prctl",
    Socket = "murphy_z_socket": "lsm.s/socket_create",
    Socketpair = "murphy_z_sockpr": "lsm.s/socket_socketpair",
    Bind = "murphy_z_bind": "lsm.s/socket_bind",
    Listen = "murphy_z_listen": "lsm.s/socket_listen",
    Connect = "murphy_z_connec": "lsm.s/socket_connect",
    Accept = "murphy_z_accept": "lsm.s/socket_accept",
    Send = "murphy_z_send": "lsm.s/socket_sendmsg",
    Receive = "murphy_z_recv": "lsm.s/socket_recvmsg",
    Getsockopt = "murphy_z_getopt": "lsm.s/socket_getsockopt",
    Shutdown = "murphy_z_shut": "lsm.s/socket_shutdown",
    Getsockname = "murphy_z_sockna": "lsm.s/socket_getsockname",
    Getpeername = "murphy_z_peerna": "lsm.s/socket_getpeername",
}

/// Hooks that not every kernel has which has the others of their place: without them
/// the others do.
pub const OPTIONAL: &[&str] = &["lsm/file_truncate"];

/// Declares [`Begin`] with the programs that sit there.
macro_rules! begins {
    ($($(#[$doc:meta])* $variant:ident = $program:literal: $function:literal,)+) => {
        /// The beginning of a system call whose hook may be called several times.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Begin {
            $($(#[$doc])* $variant,)+
        }

        impl Begin {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its program, with the kernel's name of its place. What begins such a
            /// function's name, `__x64_` for example, is the architecture's.
            pub const fn programs(self) -> &'static [(&'static str, &'static str)] {
                match self {
                    $(Self::$variant => &[($program, $function)],)+
                }
            }
        }
    };
}

begins! {
    /// `sendfile`: both files are checked, before Linux 6.8 again for every chunk.
    Sendfile = "murphy_b_sendf": "fentry/sys_sendfile64",
    /// `splice`: before 6.8 as `sendfile`.
    Splice = "murphy_b_splic": "fentry/sys_splice",
    /// `copy_file_range`: both files, more than once.
    CopyFileRange = "murphy_b_copyfr": "fentry/sys_copy_file_range",
    /// `statfs`: overlayfs asks the file system below.
    Statfs = "murphy_b_statfs": "fentry/sys_statfs",
    /// `fstatfs`: likewise.
    Fstatfs = "murphy_b_fstatf": "fentry/sys_fstatfs",
    /// `access`: overlayfs asks below, under credentials that this call changes by itself.
    Access = "murphy_b_access": "fentry/sys_access",
    /// `faccessat`: likewise.
    Faccessat = "murphy_b_facces": "fentry/sys_faccessat",
    /// `faccessat2`: likewise.
    Faccessat2 = "murphy_b_facce2": "fentry/sys_faccessat2",
    /// `mprotect`: every mapping in the range.
    Mprotect = "murphy_b_mprot": "fentry/sys_mprotect",
    /// `pkey_mprotect`: likewise.
    PkeyMprotect = "murphy_b_pkmprt": "fentry/sys_pkey_mprotect",
    /// `kill`: every process of a group.
    Kill = "murphy_b_kill": "fentry/sys_kill",
    /// `setpriority`: every process of a group or user.
    Setpriority = "murphy_b_setpri": "fentry/sys_setpriority",
    /// `ioprio_set`: likewise.
    IoprioSet = "murphy_b_ioprio": "fentry/sys_ioprio_set",
    /// `sendmmsg`: every message that goes to another address than the one before.
    Sendmmsg = "murphy_b_sendmm": "fentry/sys_sendmmsg",
    /// `msgsnd`: again after every wait for room.
    Msgsnd = "murphy_b_msgsnd": "fentry/sys_msgsnd",
}
