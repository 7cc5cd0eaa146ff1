//! Mounts, the clock, BPF and the like cannot be changed.

use tests::{Group, Outcome, calls::all_fail, case, needs};

pub(crate) fn group() -> Group {
    let lsm = || needs![Root, Cgroup2, Atomics, BpfLsm];
    tests::group([
        case(
            "each call fails, a neighbour's do not, and all work when murphy is over",
            lsm(),
            calls,
        ),
        case(
            "a mount stays, a neighbour's does not, and none when murphy is over",
            lsm(),
            unmount,
        ),
    ])
}

fn calls() -> Outcome {
    all_fail(
        &[
            "mount",
            "move_mount",
            "pivot_root",
            "chroot",
            "bpf",
            "perf_event_open",
            "settimeofday",
            "clock_settime",
            "syslog",
        ],
        Some(0),
    )
}

fn unmount() -> Outcome {
    all_fail(&["umount2"], Some(0))
}
