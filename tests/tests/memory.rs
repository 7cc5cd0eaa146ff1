//! Memory cannot be mapped or protected.

use std::process::ExitCode;

use tests::{Outcome, calls::all_fail, case, needs};

fn main() -> ExitCode {
    let lsm = || needs![Root, Cgroup2, Atomics, BpfLsm];
    tests::run([
        case(
            "each call fails, a neighbour's do not, and all work when murphy is over",
            lsm(),
            makers,
        ),
        case(
            "mapping fails, a neighbour's does not, and works when murphy is over",
            lsm(),
            users,
        ),
    ])
}

fn makers() -> Outcome {
    all_fail(&["mprotect", "pkey_mprotect"], None)
}

fn users() -> Outcome {
    all_fail(&["mmap"], None)
}
