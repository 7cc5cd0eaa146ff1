//! The command of `run` under a plan, by whatever backends carry it out.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::report::FaultReport;
use super::{EngineError, Report, Session, Settings, boot_ns, descendants};
use crate::kernel::Events;
use crate::plan::{Backend, Plan};
use crate::seccomp::{Entrance, Health, Supervision, Told};

/// A plan in force against the command of `run`. Dropping it ends every injection.
pub struct Injection {
    plan: Plan,
    settings: Settings,
    /// Programs in the kernel, if some fault needs them.
    session: Option<Session>,
    /// A supervisor, if some fault needs it.
    supervision: Option<Supervision>,
    /// The command's process, once it is started.
    command: Option<u32>,
}

/// What the process that is to become the command has to do.
pub struct Entry {
    /// The file to write 0 to, to join the cgroup.
    pub procs: Option<File>,
    /// The filter to put itself under.
    pub filter: Option<Entrance>,
}

impl Injection {
    /// Puts a plan in force for `program`. Faults arm themselves when the command runs.
    ///
    /// # Errors
    ///
    /// Whatever was made is undone.
    pub fn new(plan: Plan, program: &Path, settings: Settings) -> Result<Self, EngineError> {
        // First: it forks, and what is loaded later is none of its business.
        let supervision = match plan.uses(Backend::Seccomp) {
            true => Some(Supervision::start(&plan, settings.lease, settings.listen)?),
            false => None,
        };
        let session = match plan.uses(Backend::Bpf) {
            true => Some(Session::for_command(plan.clone(), program, settings)?),
            false => None,
        };
        if session.is_none() {
            // Without a cgroup, this is how the command's orphans are found.
            descendants::adopt().map_err(EngineError::io("adopting orphans"))?;
        }
        Ok(Self {
            plan,
            settings,
            session,
            supervision,
            command: None,
        })
    }

    /// What the command's process has to do before it executes it.
    ///
    /// # Errors
    ///
    /// The cgroup cannot be opened.
    pub fn entry(&self) -> Result<Entry, EngineError> {
        Ok(Entry {
            procs: self.session.as_ref().map(Session::procs).transpose()?,
            filter: self.supervision.as_ref().map(Supervision::entrance),
        })
    }

    /// Says which process the command is.
    ///
    /// # Errors
    ///
    /// It could not be put under the filter, and is dead.
    pub fn started(&mut self, command: u32) -> Result<(), EngineError> {
        self.command = Some(command);
        self.refusal()
    }

    /// Why the command could not be put under the filter, if that is so.
    ///
    /// # Errors
    ///
    /// That reason.
    pub fn refusal(&self) -> Result<(), EngineError> {
        match self.supervision.as_ref().and_then(Supervision::failure) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Lets injections go on for another lease.
    ///
    /// # Errors
    ///
    /// They end with the lease.
    pub fn renew(&mut self) -> Result<(), EngineError> {
        if let Some(supervision) = &self.supervision {
            supervision.renew();
        }
        self.session.as_mut().map_or(Ok(()), Session::renew)
    }

    /// How often to renew: four times a lease.
    pub fn renew_every(&self) -> Duration {
        self.settings.lease / 4
    }

    /// How the supervisor of the command is.
    pub fn health(&self) -> Health {
        self.supervision
            .as_ref()
            .map_or(Health::Well, Supervision::health)
    }

    /// Processes of the command that are there now. Reaps those of them that have become ours.
    pub fn members(&self) -> Vec<u32> {
        if let Some(session) = &self.session {
            return session.members();
        }
        let Some(supervision) = &self.supervision else {
            return Vec::new();
        };
        descendants::living(&supervision.helpers(), self.command)
    }

    /// The buffer of the kernel programs' events; it can be taken once.
    pub fn take_events(&mut self) -> Option<Events> {
        self.session.as_mut().and_then(Session::take_events)
    }

    /// The supervisor's events; they can be taken once.
    pub fn take_told(&mut self) -> Option<Told> {
        self.supervision.as_mut().and_then(Supervision::take_told)
    }

    /// Ends every injection and undoes everything; gives what came of the faults.
    ///
    /// # Errors
    ///
    /// The counters could not be read. Everything is undone all the same.
    pub fn end(mut self) -> Result<Report, EngineError> {
        if let Some(supervision) = &mut self.supervision {
            supervision.end();
        }
        let mut report = match self.session.take() {
            Some(session) => session.end()?,
            None => Report {
                armed_at_ns: 0,
                armed: false,
                seconds: 0.0,
                faults: self.faults(),
                events_lost: (self.settings.listen != crate::kernel::Listen::Nothing).then_some(0),
            },
        };
        let Some(supervision) = &self.supervision else {
            return Ok(report);
        };
        let mut own = self.faults();
        for (i, rule) in self.plan.rules.iter().enumerate() {
            if rule.backend == Backend::Seccomp
                && let (Some(fault), Some(own)) = (report.faults.get_mut(i), own.get_mut(i))
            {
                std::mem::swap(fault, own);
            }
        }
        if report.armed_at_ns == 0 {
            let at = supervision.armed_at();
            report.armed_at_ns = at;
            report.armed = at != 0;
            report.seconds = match at {
                0 => 0.0,
                at => boot_ns().saturating_sub(at) as f64 / 1e9,
            };
        }
        report.events_lost = report.events_lost.map(|lost| lost + supervision.lost());
        Ok(report)
    }

    /// What the supervisor counted.
    fn faults(&self) -> Vec<FaultReport> {
        let rules = self.plan.rules.iter().enumerate();
        rules
            .map(|(i, rule)| {
                let counters = self.supervision.as_ref().map(|one| one.counters(i));
                FaultReport::new(
                    rule.fault.to_string(),
                    rule.wire.seed,
                    &counters.unwrap_or_default(),
                )
                .by(rule.backend)
            })
            .collect()
    }
}
