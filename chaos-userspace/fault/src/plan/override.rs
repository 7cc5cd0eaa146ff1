//! Which system calls can be answered in the kernel's place, and how.
//!
//! The kernel does a call by a function of its own, on whose entry a program sits (`chaos-ebpf/src/kprobe/override.rs`). A program in
//! the caller's code gives the same answers to the same calls (`chaos-ebpf/src/uprobe/answer.rs`), so that a fault means the same by both.

use chaos_common::answer::{Answer, VALUES};
use chaos_common::dims;
use syscalls::Sysno;

use super::{Hook, lsm};
use crate::syscalls::{Argument, arguments};
use crate::{CallEffect, Effect, EffectKey, FilterKey};

/// What can happen to a call.
pub(super) const EFFECTS: [EffectKey; 3] = [EffectKey::Error, EffectKey::Retval, EffectKey::Signal];

/// The name of the function that does a call, without what it begins with on each architecture
/// (`arch/x86/entry/syscalls/syscall_64.tbl`, `scripts/syscall.tbl`); `None` if it has none of its own.
pub fn function(call: Sysno) -> Option<&'static str> {
    Some(match call.name() {
        "stat" => "newstat",
        "lstat" => "newlstat",
        "fstat" => "newfstat",
        "uname" => "newuname",
        "umount2" => "umount",
        "sendfile" => "sendfile64",
        "fadvise64" if cfg!(target_arch = "aarch64") => "fadvise64_64",
        "personality" if cfg!(target_arch = "aarch64") => "arm64_personality",
        "_sysctl" | "afs_syscall" | "create_module" | "epoll_ctl_old" | "epoll_wait_old"
        | "get_kernel_syms" | "get_thread_area" | "getpmsg" | "lookup_dcookie" | "nfsservctl"
        | "putpmsg" | "query_module" | "security" | "set_thread_area" | "tuxcall" | "uselib"
        | "vserver" => return None,
        name => name,
    })
}

/// Why a call cannot be answered in the kernel's place; `None` if it can.
pub(super) fn refusal(call: Sysno) -> Option<&'static str> {
    if function(call).is_none() {
        return Some("the kernel has no function for it");
    }
    if call == Sysno::rt_sigreturn {
        return Some("it has no result: it puts back what a signal interrupted");
    }
    // Such a program makes an override do nothing, without a word (seen on 6.12).
    let begins = |hook: &Hook| matches!(hook, Hook::Begin(_));
    lsm::hooks(call.name())
        .iter()
        .any(begins)
        .then_some("a program of murphy's for its LSM hook may be on the same function")
}

/// What a program on a call's function looks at: its first argument, where that is a descriptor and nothing else of the call names
/// a file.
pub(super) fn filters(call: Sysno) -> &'static [FilterKey] {
    let names = |argument: &Argument| !matches!(argument, Argument::Other);
    let mut arguments = arguments(call);
    match arguments.next() == Some(Argument::Fd) && !arguments.any(|argument| names(&argument)) {
        true => &[FilterKey::Fd, FilterKey::On],
        false => &[],
    }
}

/// Why a rule cannot look at these descriptors; `None` if it can.
pub(super) fn too_many(fds: &[u32]) -> Option<String> {
    let far = fds.iter().find(|fd| **fd >= dims::FDS)?;
    Some(format!(
        "`fd={far}`: it knows descriptors below {} only",
        dims::FDS
    ))
}

/// Why an effect cannot be had so, beside the keys that there are; `None` if it can.
pub(super) fn too_much(effect: &Effect) -> Option<String> {
    match effect {
        Effect::Call(call) if call.error.len() > VALUES => {
            Some(format!("it draws from {VALUES} errors at most"))
        }
        Effect::Call(_)
        | Effect::Error(_)
        | Effect::Loss(_)
        | Effect::Netem(_)
        | Effect::Wire(_)
        | Effect::Limit(_) => None,
    }
}

/// An effect as the kernel program reads it.
pub fn answer(effect: &Effect) -> Answer {
    let call = match effect {
        Effect::Error(errno) => CallEffect::error(*errno),
        Effect::Call(call) => call.clone(),
        Effect::Loss(_) | Effect::Netem(_) | Effect::Wire(_) | Effect::Limit(_) => {
            CallEffect::default()
        }
    };
    let errors = call.error.iter().map(|errno| -i64::from(errno.get()));
    let given: Vec<_> = errors.chain(call.retval).take(VALUES).collect();
    let mut answer = Answer {
        signal: call.signal.map_or(0, |signal| signal.get().into()),
        count: u32::try_from(given.len()).unwrap_or(0),
        ..Answer::default()
    };
    for (place, value) in answer.values.iter_mut().zip(given) {
        *place = value;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;

    fn effect(text: &str) -> Effect {
        let fault: Fault = text.parse().unwrap_or_else(|error| panic!("{error}"));
        fault.effect
    }

    #[test]
    fn an_answer_has_what_was_asked_for() {
        let values = |text: &str| {
            let answer = answer(&effect(text));
            let count = usize::try_from(answer.count).unwrap();
            (answer.signal, answer.values[..count].to_vec())
        };
        assert_eq!(values("fsync:error=EIO"), (0, vec![-5]));
        assert_eq!(values("fsync:error=EIO,ENOSPC"), (0, vec![-5, -28]));
        assert_eq!(values("fsync:retval=0"), (0, vec![0]));
        assert_eq!(values("fsync:signal=9"), (9, vec![]));
        assert_eq!(values("fsync:signal=9:error=EIO"), (9, vec![-5]));
    }

    /// The supervisor of seccomp, the trace and the kernel program draw alike.
    #[test]
    fn the_same_error_is_drawn_as_elsewhere() {
        let effect = effect("fsync:error=EIO,ENOSPC,EINTR");
        let Effect::Call(call) = &effect else {
            panic!("{effect}")
        };
        let answer = answer(&effect);
        for n in 1..=100 {
            let drawn = chaos_common::answer::drawn(7, n, answer.count);
            let value = answer.values[usize::try_from(drawn).unwrap()];
            assert_eq!(call.answer(7, n), Some(value));
        }
    }

    #[test]
    fn calls_without_a_result_or_a_function_are_refused() {
        for call in [
            Sysno::fsync,
            Sysno::close,
            Sysno::getrandom,
            Sysno::write,
            Sysno::execve,
        ] {
            assert_eq!(refusal(call), None, "{call}");
        }
        for (call, why) in [
            (Sysno::rt_sigreturn, "no result"),
            (Sysno::nfsservctl, "no function"),
            (Sysno::kill, "the same function"),
        ] {
            assert!(refusal(call).unwrap().contains(why), "{call}");
        }
    }
}
