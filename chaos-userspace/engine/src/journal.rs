//! What a session has to undo: with the guardian, in the record, and by itself.

use super::EngineError;
use super::guardian::Guardian;
use super::undo::Undo;
use murphy_mechanisms::{self as mechanisms, MechanismError};
use murphy_state::cleanup::{Cleanup, Outcome};
use murphy_state::recover::changed;
use murphy_state::{Claim, Entry};

/// The journal of a session. What it holds is undone when it is told to revert.
pub(super) struct Journal {
    /// `None` once everything is undone.
    guardian: Option<Guardian>,
    /// The record, where the injection is noted on the machine.
    pub(super) entry: Option<Entry>,
    /// Newest last.
    undo: Vec<Undo>,
    /// What was undone, in words.
    pub(super) undone: Vec<String>,
    /// What another program had changed, so that it stays, in words.
    pub(super) changed: Vec<String>,
    /// What could not be undone, in words.
    pub(super) not_undone: Vec<String>,
}

impl Journal {
    /// Forks the guardian and writes the record.
    ///
    /// # Errors
    ///
    /// One of them is not to be had.
    pub(super) fn begin(claim: Option<Claim>) -> Result<Self, EngineError> {
        let guardian = Guardian::start().map_err(EngineError::Guardian)?;
        let pid = guardian.pid();
        let mut journal = Self {
            guardian: Some(guardian),
            entry: None,
            undo: Vec::new(),
            undone: Vec::new(),
            changed: Vec::new(),
            not_undone: Vec::new(),
        };
        if let Some(claim) = claim {
            journal.add(Undo::Record(claim.removal()))?;
            journal.entry = Some(claim.enter(pid)?);
        }
        Ok(journal)
    }

    /// The guardian's process id.
    pub(super) fn guardian_pid(&self) -> Option<u32> {
        self.guardian.as_ref().map(Guardian::pid)
    }

    /// Journals what is about to be made.
    pub(super) fn add(&mut self, undo: Undo) -> Result<(), MechanismError> {
        if let (Some(entry), Undo::Cleanup(cleanup)) = (&mut self.entry, &undo) {
            entry.journal(cleanup)?;
        }
        if let Some(guardian) = &mut self.guardian {
            guardian.journal(&undo).map_err(MechanismError::Guardian)?;
        }
        self.undo.push(undo);
        Ok(())
    }

    /// Notes what was undone before the end: in the record in one write, however many there are.
    pub(super) fn forget(&mut self, cleanups: &[Cleanup]) {
        for cleanup in cleanups {
            let undo = Undo::Cleanup(cleanup.clone());
            if let Some(at) = self.undo.iter().rposition(|one| *one == undo) {
                self.undo.remove(at);
            }
            if let Some(guardian) = &mut self.guardian {
                guardian.forget(&undo);
            }
        }
        if let Some(entry) = &mut self.entry {
            entry.forget(cleanups);
        }
    }

    /// Tells the guardian until when what it bounds stays in force.
    ///
    /// # Errors
    ///
    /// The guardian has ended: nothing would bound what is in force.
    pub(super) fn renew(&mut self, until_ns: u64) -> Result<(), MechanismError> {
        match &mut self.guardian {
            Some(guardian) => guardian.renew(until_ns).map_err(MechanismError::Guardian),
            None => Ok(()),
        }
    }

    /// Undoes everything, newest first, and dismisses the guardian.
    pub(super) fn revert(&mut self) {
        let mut clean = true;
        let mut undone = Vec::new();
        while let Some(undo) = self.undo.pop() {
            if undo.is_record() && !clean {
                // What could not be undone stays noted in it; the rest is found undone until then.
                if let Some(entry) = &mut self.entry {
                    entry.forget(&undone);
                }
                continue;
            }
            match undo.undo() {
                Ok(outcome) => {
                    match outcome {
                        Outcome::Done if !undo.is_record() => self.undone.push(undo.to_string()),
                        Outcome::Changed => self.changed.push(changed(&undo.to_string())),
                        Outcome::Done | Outcome::NothingToDo => {}
                    }
                    if let Some(guardian) = &mut self.guardian {
                        guardian.forget(&undo);
                    }
                    if let Undo::Cleanup(cleanup) = undo {
                        undone.push(cleanup);
                    }
                }
                // The guardian still has it in its journal and tries once more.
                Err(error) => {
                    clean = false;
                    self.not_undone.push(format!("{undo}: {error}"));
                    self.changed.push(format!(
                        "{undo} could not be undone: {error}; `murphy recover` tries again"
                    ));
                }
            }
        }
        if let Some(guardian) = self.guardian.take()
            && clean
        {
            guardian.finish();
        }
    }
}

impl mechanisms::Journal for Journal {
    fn journal(&mut self, cleanup: Cleanup) -> mechanisms::Result<()> {
        self.add(Undo::Cleanup(cleanup))
    }

    fn forget(&mut self, cleanups: &[Cleanup]) {
        self.forget(cleanups);
    }

    fn renew(&mut self, until_ns: u64) -> mechanisms::Result<()> {
        self.renew(until_ns)
    }
}
