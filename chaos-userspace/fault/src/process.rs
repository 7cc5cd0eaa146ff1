//! `process`: processes that cannot be made, executed, signalled, traced or told how to behave.
//!
//! Each call only when named: libc makes `clone3` or `clone` of `fork()`.

use super::arch::calls;
use super::registry::{Family, FaultKind};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "process",
    family: Some(Family::Lsm),
    ops: calls!(
        [fork vfork]
        clone clone3 execve execveat kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo
        pidfd_send_signal ptrace prctl setrlimit prlimit64 setpriority sched_setscheduler
        sched_setparam sched_setattr sched_setaffinity sched_getscheduler sched_getparam
        sched_getattr sched_getaffinity sched_rr_get_interval ioprio_set setpgid setuid setreuid
        setresuid setgid setregid setresgid setgroups capset
    ),
    has: &[],
    filters: &[],
    summary: "making, executing, signalling or configuring a process fails with an error",
    metric: "calls about processes",
    examples: &[
        "clone,clone3,vfork:error=EAGAIN:p=20%",
        "execve:error=ENOMEM:times=1",
        "kill,tgkill:error=EPERM",
    ],
};
