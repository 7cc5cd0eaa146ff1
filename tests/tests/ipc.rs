//! System V IPC cannot be had or used.

use tests::{Group, Outcome, calls::all_fail, case, needs};

pub(crate) fn group() -> Group {
    let lsm = || needs![Root, Cgroup2, Atomics, BpfLsm];
    tests::group([
        case(
            "nothing can be made, but by a neighbour, and all works when murphy is over",
            lsm(),
            makers,
        ),
        case(
            "each call fails, a neighbour's do not, and all work when murphy is over",
            lsm(),
            users,
        ),
    ])
}

fn makers() -> Outcome {
    all_fail(&["shmget", "msgget", "semget"], Some(0))
}

fn users() -> Outcome {
    all_fail(
        &[
            "shmat",
            "shmctl",
            "msgsnd",
            "msgctl",
            "semop",
            "semtimedop",
            "semctl",
        ],
        Some(0),
    )
}
