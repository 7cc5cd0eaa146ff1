//! Probes in programs' code.
//!
//! To take one away the kernel waits until nobody is in a program any more, some hundredths of a second for each. They wait
//! together here.

use std::thread;

use aya::programs::uprobe::{UProbeAttachPoint, UProbeLink, UProbeScope};
use aya::programs::{ProgramError, UProbe};

use super::Place;

/// So many wait at a time.
const THREADS: usize = 16;

/// Probes that are there as long as this is.
#[derive(Default)]
pub(super) struct Links(Vec<UProbeLink>);

impl Links {
    pub(super) fn extend(&mut self, link: Option<UProbeLink>) {
        self.0.extend(link);
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        let mut links = std::mem::take(&mut self.0);
        let share = links.len().div_ceil(THREADS).max(2);
        thread::scope(|scope| {
            while links.len() > share {
                let some = links.split_off(links.len() - share);
                // Without a thread they are taken away here and now: the closure is dropped.
                let _ = thread::Builder::new().spawn_scoped(scope, move || drop(some));
            }
            drop(links);
        });
    }
}

/// Attaches a program at a place in code, for whoever executes it.
pub(super) fn attach(
    program: &mut UProbe,
    place: Place<'_>,
) -> Result<Option<UProbeLink>, ProgramError> {
    let Place::Code {
        file,
        offset,
        cookie,
    } = place
    else {
        return Err(ProgramError::UnexpectedProgramType);
    };
    let point = UProbeAttachPoint {
        location: offset.into(),
        cookie,
    };
    let id = program.attach(point, file, UProbeScope::AllProcesses)?;
    program.take_link(id).map(Some)
}
