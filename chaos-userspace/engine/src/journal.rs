//! What a session has to undo: with the guardian, in the record, and by itself.

use std::io;

use super::EngineError;
use super::guardian::Guardian;
use super::undo::Undo;
use murphy_mechanisms::{self as mechanisms, MechanismError};
use murphy_state::cleanup::{self, Cleanup, Outcome};
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
        let undo: Vec<_> = cleanups.iter().cloned().map(Undo::Cleanup).collect();
        for undo in &undo {
            if let Some(at) = self.undo.iter().rposition(|one| one == undo) {
                self.undo.remove(at);
            }
        }
        if let Some(guardian) = &mut self.guardian {
            guardian.forget(&undo);
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
        // The record is the first entry, and so the last that is undone.
        let mut cleanups = Vec::new();
        let mut records = Vec::new();
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            match undo {
                Undo::Cleanup(cleanup) => cleanups.push(cleanup),
                Undo::Record(record) => records.push(record),
            }
        }
        let outcomes = cleanup::undo_all(&cleanups);
        let mut undone = Vec::new();
        for (cleanup, outcome) in cleanups.into_iter().zip(outcomes) {
            let words = cleanup.to_string();
            let undo = Undo::Cleanup(cleanup);
            if self.note(&undo, &words, outcome)
                && let Undo::Cleanup(cleanup) = undo
            {
                undone.push(cleanup);
            }
        }
        if let Some(guardian) = &mut self.guardian {
            let undone: Vec<_> = undone.iter().cloned().map(Undo::Cleanup).collect();
            guardian.forget(&undone);
        }
        let clean = self.not_undone.is_empty();
        if let (Some(entry), false) = (&mut self.entry, clean) {
            // What could not be undone stays noted in it; the rest is found undone until then.
            entry.forget(&undone);
        }
        for record in records.into_iter().filter(|_| clean) {
            let undo = Undo::Record(record);
            let outcome = undo.undo();
            if self.note(&undo, &undo.to_string(), outcome)
                && let Some(guardian) = &mut self.guardian
            {
                guardian.forget(&[undo]);
            }
        }
        let clean = self.not_undone.is_empty();
        if let Some(guardian) = self.guardian.take()
            && clean
        {
            guardian.finish();
        }
    }
}

impl Journal {
    /// Notes how undoing something ended. Returns whether it is undone.
    fn note(&mut self, undo: &Undo, words: &str, outcome: io::Result<Outcome>) -> bool {
        match outcome {
            Ok(Outcome::Done) if !undo.is_record() => self.undone.push(words.to_owned()),
            Ok(Outcome::Changed) => self.changed.push(changed(words)),
            Ok(Outcome::Done | Outcome::NothingToDo) => {}
            // The guardian still has it in its journal and tries once more.
            Err(error) => {
                self.not_undone.push(format!("{words}: {error}"));
                self.changed.push(format!(
                    "{words} could not be undone: {error}; `murphy recover` tries again"
                ));
                return false;
            }
        }
        true
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
