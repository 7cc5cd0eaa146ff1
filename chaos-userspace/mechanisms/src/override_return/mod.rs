//! Answers system calls in the kernel's place: a kprobe on the call's function overrides its return
//! value (`bpf_override_return`, Linux 4.16, a kernel with `CONFIG_BPF_KPROBE_OVERRIDE`).
//!
//! Everything it makes ends with its programs' descriptors.

use super::{
    Asked, Bench, Command, Context, Declaration, Exercise, MatrixRow, Mechanism, Offer, Offered,
    Result, Site, attach_everywhere,
};
use murphy_fault::plan::{Backend, Hook, Target};

static DECLARATION: Declaration = Declaration {
    backend: Some(Backend::Override),
    summary: "run and inject, by root, where the kernel has error injection; every system call but few",
    owns: |hook| matches!(hook, Hook::Override(_)),
    examples: &[Hook::OVERRIDE],
    lacks: "this kernel has no CONFIG_BPF_KPROBE_OVERRIDE",
    rows: &[MatrixRow::of(
        "any system call in the kernel's place, for running processes (`override`)",
        &[Hook::OVERRIDE],
    )],
    exercises: &[Exercise {
        faults: &[
            "fsync,fdatasync:error=EIO,ENOSPC:p=1ppm",
            "getppid:signal=USR1:retval=1:comm=nobody",
        ],
        backend: Backend::Override,
        observe: true,
        command: Command::Run,
    }],
    ..Declaration::new("override_return", "faults/syscall.md", "override")
};

/// The mechanism.
pub(super) struct OverrideReturn;

impl Mechanism for OverrideReturn {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn offer(&self, asked: &Asked<'_>) -> Option<Offer> {
        let hooks = match asked {
            Asked::Fault(fault) => {
                let refusal = Backend::Override.refusal(fault, &Target::Command);
                refusal
                    .is_none()
                    .then(|| asked.hooks_of_calls(Hook::Override))
            }
            Asked::Registry(_) | Asked::Own(_) => {
                asked.is_answered().then(|| vec![vec![Hook::OVERRIDE]])
            }
        };
        Offer::for_both(Offered::Programs(hooks?))
    }

    fn try_hook(&mut self, bench: &mut Bench<'_>, hook: Hook) -> std::result::Result<(), String> {
        bench.attach_everywhere(hook)
    }

    fn attach(&mut self, cx: &mut Context<'_>, site: &Site<'_>) -> Result<()> {
        attach_everywhere(cx, site, |hook| matches!(hook, Hook::Override(_)))
    }
}
