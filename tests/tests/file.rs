//! What is done to files besides reading and writing fails.

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
            "truncate",
            "ftruncate",
            "fallocate",
            "getdents",
            "getdents64",
            "sendfile",
            "splice",
            "copy_file_range",
            "ioctl",
            "fcntl",
            "flock",
        ],
        None,
    )
}
