//! Sockets cannot be made or used.

use tests::{Group, Outcome, calls::all_fail, case, needs};

pub(crate) fn group() -> Group {
    let lsm = || needs![Root, Cgroup2, Atomics, BpfLsm];
    tests::group([
        case(
            "sockets cannot be made, a neighbour's can, and all works when murphy is over",
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
    all_fail(&["socket"], Some(0))
}

fn users() -> Outcome {
    all_fail(
        &[
            "bind",
            "listen",
            "accept",
            "accept4",
            "sendto",
            "sendmsg",
            "sendmmsg",
            "recvfrom",
            "recvmsg",
            "recvmmsg",
            "setsockopt",
            "getsockopt",
            "shutdown",
            "getsockname",
            "getpeername",
        ],
        Some(0),
    )
}
