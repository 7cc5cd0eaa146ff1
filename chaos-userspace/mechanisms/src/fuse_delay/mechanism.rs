//! How a session uses the processes that delayed threads wait for.

use chaos_common::control;

use super::{Blocking, BlockingError};
use crate::{Context, Mechanism, Result, Site, attach_everywhere};
use murphy_fault::plan::{Hook, Planned};
use murphy_kernel::sleep;
use murphy_sys::stat::in_initial_pid_namespace;

/// The mechanism.
#[derive(Default)]
pub(crate) struct FuseDelay {
    /// `None` where no fault of the plan delays by it.
    blocking: Option<Blocking>,
}

impl Mechanism for FuseDelay {
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
