//! How a session uses the processes that delayed threads wait for.

use std::collections::BTreeSet;

use chaos_common::control;
use chaos_common::lsm::Place;
use syscalls::Sysno;

use super::{Blocking, BlockingError};
use crate::{
    Bench, Command, Context, Declaration, Exercise, FaultRow, Here, MatrixRow, Mechanism, Result,
    Site, Unavailable, attach_everywhere,
};
use murphy_fault::Op;
use murphy_fault::plan::{Backend, Hook, Planned};
use murphy_kernel::sleep;
use murphy_sys::stat::in_initial_pid_namespace;

/// What delays a call: the program that sleeps, and the one that decides.
const HOOKS: &[Hook] = &[Hook::SLEEP, Hook::Lsm(Place::FileOpen)];

static DECLARATION: Declaration = Declaration {
    owns: |hook| matches!(hook, Hook::Sleep(_)),
    examples: &[Hook::SLEEP],
    // `openat` stands for all calls whose hooks may sleep.
    faults: &[FaultRow {
        name: "delay_enter",
        ops: &[Op::Call(Sysno::openat)],
        hooks: &[HOOKS],
    }],
    rows: &[MatrixRow::of(
        "`delay_enter` of calls with an LSM hook, for running processes",
        HOOKS,
    )],
    exercises: &[Exercise {
        faults: &[
            "openat:delay_enter=1ms:jitter=1ms:error=EIO:on=blk:path=/proc/sys/**",
            "connect:delay_enter=1ms:port=1:dst=[2001:db8::]/32",
        ],
        backend: Backend::Bpf,
        observe: false,
        command: Command::Run,
    }],
    ..Declaration::new("fuse_delay", "faults/syscall.md", "delay")
};

/// The mechanism.
#[derive(Default)]
pub(crate) struct FuseDelay {
    /// `None` where no fault of the plan delays by it.
    blocking: Option<Blocking>,
}

impl Mechanism for FuseDelay {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    /// The process that threads wait for is found by its id.
    fn probe(&self, here: &Here, hooks: &BTreeSet<Hook>) -> std::result::Result<(), Unavailable> {
        here.has_programs(&DECLARATION, hooks)?;
        match in_initial_pid_namespace() {
            true => Ok(()),
            false => Err(Unavailable {
                reason: BlockingError::PidNamespace.to_string(),
                remedy: BlockingError::PidNamespace.remedy(),
            }),
        }
    }

    fn try_hook(&mut self, bench: &mut Bench<'_>, hook: Hook) -> std::result::Result<(), String> {
        if !sleep::has_device() {
            let reason = "there is no /dev/fuse, by which threads are let wait: modprobe fuse";
            return Err(reason.to_owned());
        }
        bench.attach_everywhere(hook)
    }

    fn prepare(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if cx.plan.waits() {
            if !in_initial_pid_namespace() {
                return Err(BlockingError::PidNamespace.into());
            }
            sleep::check()?;
            self.blocking = Some(Blocking::start(cx.lease)?);
        }
        Ok(())
    }

    fn load(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let Some(blocking) = &self.blocking else {
            return Ok(());
        };
        let there = blocking.whereabouts();
        let kernel = cx.kernel()?;
        kernel.set_control(control::EXEMPT_SERVER, u64::from(there.server))?;
        kernel.set_control(control::DELAY_HOLDER, u64::from(there.holder))?;
        kernel.set_control(control::DELAY_PAGE, there.page)?;
        blocking.read_from(kernel.held_pages()?)?;
        kernel.set_control(control::DELAY_BASE, there.base)?;
        Ok(())
    }

    fn attach(&mut self, cx: &mut Context<'_>, site: &Site<'_>) -> Result<()> {
        attach_everywhere(cx, site, |hook| matches!(hook, Hook::Sleep(_)))
    }

    fn renew(&mut self, _: &mut Context<'_>, _: u64) -> Result<()> {
        if let Some(blocking) = &self.blocking {
            blocking.renew();
        }
        Ok(())
    }

    fn is_fixed(&self, rule: &Planned) -> bool {
        rule.waits()
    }

    /// A program in which a thread waits is detached only when the thread has left it.
    fn revert(&mut self, cx: &mut Context<'_>) {
        if let Some(blocking) = self.blocking.take() {
            blocking.wake();
            if let Some(kernel) = cx.kernel.as_deref_mut() {
                kernel.detach();
            }
        }
    }
}
