//! How a session uses the supervisor of the command.

use super::{Entrance, Health, Supervision, Told};
use crate::{Context, Mechanism, MechanismError, OnCommand, Result};
use murphy_fault::plan::Backend;
use murphy_state::results::{FaultReport, Report};

/// The mechanism.
#[derive(Default)]
pub(crate) struct Seccomp {
    /// `None` where no fault of the plan is carried out by it.
    supervision: Option<Supervision>,
}

impl Mechanism for Seccomp {
    fn prepare(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if cx.plan.uses(Backend::Seccomp) {
            self.supervision = Some(Supervision::start(cx.plan, cx.lease, cx.listen)?);
        }
        Ok(())
    }

    fn renew(&mut self, _: &mut Context<'_>, _: u64) -> Result<()> {
        if let Some(supervision) = &self.supervision {
            supervision.renew();
        }
        Ok(())
    }

    fn replace(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if let Some(supervision) = &mut self.supervision {
            supervision.readdress(&cx.plan.names);
        }
        Ok(())
    }

    fn disarm(&mut self, _: &mut Context<'_>) -> Result<()> {
        if let Some(supervision) = &mut self.supervision {
            supervision.end();
        }
        Ok(())
    }

    fn report(&mut self, cx: &mut Context<'_>, report: &mut Report) -> Result<()> {
        let Some(supervision) = &self.supervision else {
            return Ok(());
        };
        for ((i, rule), fault) in cx.plan.rules.iter().enumerate().zip(&mut report.faults) {
            if rule.backend == Backend::Seccomp {
                let counters = supervision.counters(i);
                let (words, seed) = (rule.fault.to_string(), rule.wire.seed);
                *fault = FaultReport::new(words, seed, &counters).by(rule.backend);
            }
        }
        if report.armed_at_ns == 0 {
            report.arm_at(supervision.armed_at());
        }
        report.events_lost = report.events_lost.map(|lost| lost + supervision.lost());
        Ok(())
    }

    fn lease_until(&mut self, _: &mut Context<'_>) -> Option<u64> {
        self.supervision.as_ref().map(Supervision::lease_until)
    }

    fn command(&self) -> Option<&dyn OnCommand> {
        let supervision = self.supervision.as_ref()?;
        Some(supervision)
    }

    fn take_events(&mut self) -> Option<Told> {
        self.supervision.as_mut().and_then(Supervision::take_told)
    }
}

impl OnCommand for Supervision {
    fn entrance(&self) -> Entrance {
        Self::entrance(self)
    }

    fn failure(&self) -> Option<MechanismError> {
        Self::failure(self).map(MechanismError::from)
    }

    fn health(&self) -> Health {
        Self::health(self)
    }

    fn helpers(&self) -> Vec<u32> {
        Self::helpers(self).to_vec()
    }
}
