//! Attributes of files cannot be read or changed.

use tests::{Group, Outcome, calls::all_fail, case, needs};

pub(crate) fn group() -> Group {
    let lsm = || needs![Root, Cgroup2, Atomics, BpfLsm];
    tests::group([case(
        "each call fails, a neighbour's do not, and all work when murphy is over",
        lsm(),
        all,
    )])
}

fn all() -> Outcome {
    all_fail(
        &[
            "chmod",
            "fchmod",
            "fchmodat",
            "chown",
            "lchown",
            "fchown",
            "fchownat",
            "utime",
            "utimes",
            "futimesat",
            "utimensat",
            "stat",
            "lstat",
            "fstat",
            "newfstatat",
            "statx",
            "access",
            "faccessat",
            "faccessat2",
            "chdir",
            "fchdir",
            "readlink",
            "readlinkat",
            "setxattr",
            "lsetxattr",
            "fsetxattr",
            "getxattr",
            "lgetxattr",
            "fgetxattr",
            "listxattr",
            "llistxattr",
            "flistxattr",
            "removexattr",
            "lremovexattr",
            "fremovexattr",
            "statfs",
            "fstatfs",
            "inotify_add_watch",
            "fanotify_mark",
        ],
        None,
    )
}
