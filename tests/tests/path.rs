//! Entries of directories cannot be made, renamed, linked or removed.

use std::process::ExitCode;

use tests::{Outcome, calls::all_fail, case, needs};

fn main() -> ExitCode {
    let lsm = || needs![Root, Cgroup2, Atomics, BpfLsm];
    tests::run([case(
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
