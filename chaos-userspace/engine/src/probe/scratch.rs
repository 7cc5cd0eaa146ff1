//! A cgroup of our own, for as long as hooks are tried.

use std::fs::File;

use crate::EngineError;
use crate::cgroup::RunCgroup;
use crate::guardian::Guardian;
use murphy_kernel::KernelError;
use murphy_state::cleanup::Cleanup;
use murphy_sys::cgroup2::Cgroup2;

/// The cgroup, open.
pub(super) struct Scratch {
    pub(super) cgroup: RunCgroup,
    /// To attach programs to.
    pub(super) directory: File,
    /// Takes the children that are to be hit.
    pub(super) procs: File,
    /// Its depth, as far as the paths tell; inside a cgroup namespace they do not.
    pub(super) level: u64,
    /// Dropped last.
    _undo: Undoing,
}

/// Undoes the cgroup, also if the rest of [`Scratch`] could not be made.
struct Undoing {
    undo: Cleanup,
    guardian: Option<Guardian>,
}

impl Scratch {
    /// Makes it, journalled. The inner error is what this machine does not allow.
    pub(super) fn make() -> Result<Result<Self, String>, EngineError> {
        let mut guardian = Guardian::start().map_err(EngineError::Guardian)?;
        let cgroup2 = match Cgroup2::find() {
            Ok(Some(cgroup2)) => cgroup2,
            Ok(None) => return Ok(Err(KernelError::NoCgroup2.to_string())),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let cgroup = RunCgroup::below(&cgroup2);
        guardian
            .journal(&cgroup.cleanup().into())
            .map_err(EngineError::Guardian)?;
        let undo = Undoing {
            undo: cgroup.cleanup(),
            guardian: Some(guardian),
        };
        let below = cgroup2.own.strip_prefix(&cgroup2.mount);
        let level = below.map_or(0, |path| path.components().count()) + 1;
        let made = cgroup
            .make()
            .and_then(|()| Ok((cgroup.open()?, cgroup.procs()?)));
        Ok(match made {
            Ok((directory, procs)) => Ok(Self {
                cgroup,
                directory,
                procs,
                level: level as u64,
                _undo: undo,
            }),
            Err(error) => Err(error.to_string()),
        })
    }
}

impl Drop for Undoing {
    fn drop(&mut self) {
        let Some(mut guardian) = self.guardian.take() else {
            return;
        };
        // What could not be undone stays in the journal, and the guardian tries once more.
        if self.undo.undo().is_ok() {
            guardian.forget(&[self.undo.clone().into()]);
        }
        guardian.finish();
    }
}
