//! Answers in the targets' own code: which files they have mapped, at the beginning and later.

use super::{EngineError, Session, not_loaded};
use crate::sys::process::Identity;

impl Session {
    /// Probes the code of the targets where it makes calls that are answered there.
    pub(super) fn cover_code(&mut self, calls: &[u16]) -> Result<(), EngineError> {
        if calls.is_empty() {
            return Ok(());
        }
        self.probe_code(calls)?;
        self.code.notice_missing(calls);
        Ok(())
    }

    /// The same of files that targets have mapped since, if it is time to look.
    pub(super) fn follow_code(&mut self) {
        let calls = self.plan.in_code();
        if !calls.is_empty() && self.code.is_due() {
            // What cannot be probed now makes its calls as ever; the rest has its answers.
            let _ = self.probe_code(&calls);
        }
    }

    fn probe_code(&mut self, calls: &[u16]) -> Result<(), EngineError> {
        let (Some(targets), Some(kernel)) = (&self.targets, &mut self.kernel) else {
            return Err(not_loaded());
        };
        let mut members: Vec<_> = targets.members().collect();
        // Children that the kernel has found.
        let found = kernel.targets().into_keys();
        members.extend(found.filter_map(|pid| Identity::of(pid).ok()));
        self.code.cover(kernel, members, calls)
    }
}
