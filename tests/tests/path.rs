//! Entries of directories cannot be made, renamed, linked or removed.

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
            "rename",
            "renameat",
            "renameat2",
            "link",
            "linkat",
            "symlink",
            "symlinkat",
            "mkdir",
            "mkdirat",
            "rmdir",
            "unlink",
            "unlinkat",
            "mknod",
            "mknodat",
        ],
        Some(0),
    )
}
