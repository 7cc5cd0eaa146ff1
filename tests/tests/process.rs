//! Processes cannot be made, executed, signalled or told how to behave.

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
            "clone",
            "clone3",
            "execve",
            "execveat",
            "kill",
            "tkill",
            "tgkill",
            "rt_sigqueueinfo",
            "rt_tgsigqueueinfo",
            "pidfd_send_signal",
            "ptrace",
            "prctl",
            "setrlimit",
            "prlimit64",
            "setpriority",
            "sched_setscheduler",
            "sched_setparam",
            "sched_setattr",
            "sched_setaffinity",
            "sched_getscheduler",
            "sched_getparam",
            "sched_getattr",
            "sched_getaffinity",
            "sched_rr_get_interval",
            "ioprio_set",
            "setpgid",
            "setuid",
            "setreuid",
            "setresuid",
            "setgid",
            "setregid",
            "setresgid",
            "setgroups",
            "capset",
        ],
        None,
    )
}
