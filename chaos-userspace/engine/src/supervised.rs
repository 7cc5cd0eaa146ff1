//! The part of a session that the seccomp backend carries out.

use std::fs::File;

use super::{EngineError, Session, descendants};
use murphy_mechanisms::OnCommand;
use murphy_mechanisms::seccomp::{Entrance, Health, Told};

/// What the process that is to become the command has to do.
pub struct Entry {
    /// The file to write 0 to, to join the cgroup.
    pub procs: Option<File>,
    /// The filter to put itself under.
    pub filter: Option<Entrance>,
}

impl Session {
    /// What carries faults out in the command's own process tree, if anything does.
    fn on_command(&self) -> Option<&dyn OnCommand> {
        let mut mechanisms = self.mechanisms.iter();
        mechanisms.find_map(|mechanism| mechanism.command())
    }

    /// What the command's process has to do before it executes it.
    ///
    /// # Errors
    ///
    /// The cgroup cannot be opened.
    pub fn entrance(&self) -> Result<Entry, EngineError> {
        Ok(Entry {
            procs: self.procs()?,
            filter: self.on_command().map(OnCommand::entrance),
        })
    }

    /// Says which process the command is.
    ///
    /// # Errors
    ///
    /// It could not be put under the filter, and is dead.
    pub fn started(&mut self, command: u32) -> Result<(), EngineError> {
        self.command = Some(command);
        self.refusal()?;
        self.each(|mechanism, cx| mechanism.start(cx))
    }

    /// Why the command could not be put under the filter, if that is so.
    ///
    /// # Errors
    ///
    /// That reason.
    pub fn refusal(&self) -> Result<(), EngineError> {
        match self.on_command().and_then(OnCommand::failure) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// How the supervisor of the command is.
    pub fn health(&self) -> Health {
        self.on_command().map_or(Health::Well, OnCommand::health)
    }

    /// The supervisor's events; they can be taken once.
    pub fn take_told(&mut self) -> Option<Told> {
        let mut mechanisms = self.mechanisms.iter_mut();
        mechanisms.find_map(|mechanism| mechanism.take_events())
    }

    /// Processes of a command that has no cgroup. Reaps those of them that have become ours.
    pub(super) fn descendants(&self) -> Vec<u32> {
        let mut helpers = self.on_command().map_or_else(Vec::new, OnCommand::helpers);
        helpers.extend(self.guardian_pid());
        descendants::living(&helpers, self.command)
    }
}
