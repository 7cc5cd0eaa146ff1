//! `syscall`: any other system call.
//!
//! Calls that no kernel program of murphy's serves. The seccomp backend answers them for the command of `run`; it also gives
//! the calls of the other rows the effects and filters that their kernel programs do not have.

use super::registry::{EffectKey, FaultKind, FilterKey};

/// The row. It names no operation: it has every call that no other row has.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "syscall",
    family: None,
    ops: &[],
    effects: &CALL_EFFECTS,
    filters: &[],
    summary: "any system call fails, gives a made-up result, is delayed, or gets a signal",
    metric: "system calls",
    examples: &[
        "fsync,fdatasync:error=EIO,ENOSPC:when=3+",
        "epoll_wait:retval=0:p=10%",
        "futex:delay_enter=10ms:jitter=5ms:p=1%",
        "%file:error=EACCES:path=/var/lib/app/**",
    ],
};

/// What can happen to any system call.
pub(super) const CALL_EFFECTS: [EffectKey; 6] = [
    EffectKey::Error,
    EffectKey::Retval,
    EffectKey::Signal,
    EffectKey::DelayEnter,
    EffectKey::DelayExit,
    EffectKey::Jitter,
];

/// What can narrow down system calls, each those that have what it looks at.
pub(super) const CALL_FILTERS: [FilterKey; 5] = [
    FilterKey::Port,
    FilterKey::Dst,
    FilterKey::On,
    FilterKey::Fd,
    FilterKey::Path,
];
