//! Delays system calls by keeping the processor busy: a kprobe on the call's function loops until
//! the time is up (`bpf_loop`, Linux 5.17). It is the last choice for delays.
//!
//! Everything it makes ends with its programs' descriptors.

use super::{
    Asked, Bench, Command, Context, Declaration, Exercise, MatrixRow, Mechanism, Offer, Offered,
    Result, Site, attach_everywhere,
};
use murphy_fault::EffectKey;
use murphy_fault::plan::{Backend, Hook, Target};

static DECLARATION: Declaration = Declaration {
    backend: Some(Backend::Spin),
    summary: "run and inject, by root; delays of 10 ms at most, for which nothing else lets threads sleep",
    owns: |hook| matches!(hook, Hook::Spin(_)),
    examples: &[Hook::SPIN],
    lacks: "this kernel has no kprobes, or none that loop (Linux 5.17)",
    rows: &[MatrixRow::of(
        "`delay_enter` of 10 ms at most, of any system call, for running processes",
        &[Hook::SPIN],
    )],
    exercises: &[Exercise {
        faults: &[
            "fsync,unlink:delay_enter=1ms:jitter=1ms:comm=nobody",
            "read:delay_enter=1ms:p=1ppm:fd=3:on=file",
        ],
        backend: Backend::Spin,
        observe: false,
        command: Command::Run,
    }],
    ..Declaration::new("spin", "faults/syscall.md", "spin")
};

/// The mechanism.
pub(super) struct Spin;

impl Mechanism for Spin {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn offer(&self, asked: &Asked<'_>) -> Option<Offer> {
        let hooks = match asked {
            Asked::Fault(fault) => {
                let refusal = Backend::Spin.refusal(fault, &Target::Command);
                refusal.is_none().then(|| asked.hooks_of_calls(Hook::Spin))
            }
            Asked::Own(row) => {
                let is_delay = row.name == EffectKey::DelayEnter.name();
                is_delay.then(|| vec![vec![Hook::SPIN]])
            }
            Asked::Registry(_) => None,
        };
        Offer::for_inject(Offered::Programs(hooks?))
    }

    fn try_hook(&mut self, bench: &mut Bench<'_>, hook: Hook) -> std::result::Result<(), String> {
        bench.attach_everywhere(hook)
    }

    fn attach(&mut self, cx: &mut Context<'_>, site: &Site<'_>) -> Result<()> {
        attach_everywhere(cx, site, |hook| matches!(hook, Hook::Spin(_)))
    }
}
