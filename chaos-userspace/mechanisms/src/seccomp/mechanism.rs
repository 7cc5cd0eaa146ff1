//! How a session uses the supervisor of the command.

use std::collections::BTreeSet;

use super::{Entrance, Health, Supervision, Told, available};
use crate::{
    Asked, Command, Context, Declaration, Here, MatrixRow, Mechanism, MechanismError, Offer,
    Offered, OnCommand, Result, Unavailable,
};
use murphy_fault::plan::{Backend, Hook, Interface, Target, interface};
use murphy_state::results::{FaultReport, Report};

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE` is older; `SECCOMP_IOCTL_NOTIF_ADDFD` is of 5.9.
const NEEDS: &[Interface] = &[interface("seccomp user notification", "5.9")];

static DECLARATION: Declaration = Declaration {
    backend: Some(Backend::Seccomp),
    summary: "run, by anybody; every system call",
    needs: NEEDS,
    rows: &[MatrixRow {
        needs: NEEDS,
        ..MatrixRow::of("any system call, by seccomp (`run`)", &[])
    }],
    ..Declaration::new("seccomp", "faults/syscall.md", "syscall")
};

/// The mechanism.
#[derive(Default)]
pub(crate) struct Seccomp {
    /// `None` where no fault of the plan is carried out by it.
    supervision: Option<Supervision>,
}

impl Mechanism for Seccomp {
    fn declaration(&self) -> &'static Declaration {
        &DECLARATION
    }

    fn probe(&self, _: &Here, _: &BTreeSet<Hook>) -> std::result::Result<(), Unavailable> {
        available().map_err(Unavailable::new)
    }

    fn offer(&self, asked: &Asked<'_>) -> Option<Offer> {
        let is_served = match asked {
            Asked::Fault(fault) => {
                let refusal = Backend::Seccomp.refusal(fault, &Target::Command);
                refusal.is_none()
            }
            Asked::Registry(_) | Asked::Own(_) => asked.is_of_calls(),
        };
        is_served.then_some(Offer {
            by: Offered::Itself("seccomp user notification"),
            commands: &[Command::Run],
        })
    }

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
