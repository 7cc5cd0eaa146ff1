//! The part of a session that the seccomp backend carries out.

use std::fs::File;

use super::{EngineError, Session, boot_ns, descendants};
use crate::plan::Backend;
use crate::results::{FaultReport, Report};
use crate::seccomp::{Entrance, Health, Supervision, Told};

/// What the process that is to become the command has to do.
pub struct Entry {
    /// The file to write 0 to, to join the cgroup.
    pub procs: Option<File>,
    /// The filter to put itself under.
    pub filter: Option<Entrance>,
}

impl Session {
    /// What the command's process has to do before it executes it.
    ///
    /// # Errors
    ///
    /// The cgroup cannot be opened.
    pub fn entrance(&self) -> Result<Entry, EngineError> {
        Ok(Entry {
            procs: self.procs()?,
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

    /// How the supervisor of the command is.
    pub fn health(&self) -> Health {
        self.supervision
            .as_ref()
            .map_or(Health::Well, Supervision::health)
    }

    /// The supervisor's events; they can be taken once.
    pub fn take_told(&mut self) -> Option<Told> {
        self.supervision.as_mut().and_then(Supervision::take_told)
    }

    /// Processes of a command that has no cgroup. Reaps those of them that have become ours.
    pub(super) fn descendants(&self) -> Vec<u32> {
        let Some(supervision) = &self.supervision else {
            return Vec::new();
        };
        let mut helpers = supervision.helpers().to_vec();
        helpers.extend(self.guardian_pid());
        descendants::living(&helpers, self.command)
    }

    /// Puts what the supervisor knows into a report.
    pub(super) fn add_supervised(&self, report: &mut Report) {
        let Some(supervision) = &self.supervision else {
            return;
        };
        for ((i, rule), fault) in self.plan.rules.iter().enumerate().zip(&mut report.faults) {
            if rule.backend == Backend::Seccomp {
                let counters = supervision.counters(i);
                let (words, seed) = (rule.fault.to_string(), rule.wire.seed);
                *fault = FaultReport::new(words, seed, &counters).by(rule.backend);
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
    }
}
