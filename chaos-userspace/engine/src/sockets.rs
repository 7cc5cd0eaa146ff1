//! Whose sockets the kernel programs know. Sockets are handed on between processes without any
//! program that sees it, so targets are looked at again while faults last.

use std::collections::{BTreeMap, BTreeSet};

use super::EngineError;
use super::processes::still_runs;
use murphy_kernel::Kernel;
use murphy_sys::process::Identity;

/// So many processes are looked at each time; of more, a part.
const FEW: usize = 32;
const PARTS: usize = 4;

/// The processes whose sockets are marked as theirs.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    owners: BTreeMap<Identity, Owner>,
    turn: usize,
}

#[derive(Debug, Default)]
struct Owner {
    classes: u64,
    /// The inode numbers of its sockets when last looked at.
    known: BTreeSet<u64>,
}

/// What [`Sockets::mark`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marked {
    /// Processes that were not known, or not in these classes.
    pub(super) owners: usize,
    /// Internet sockets that no target had before.
    pub(super) foreign: usize,
}

impl Sockets {
    /// Marks the sockets of these processes, which are in these classes, as far as they are new.
    ///
    /// # Errors
    ///
    /// The kernel refuses to.
    pub(super) fn mark(
        &mut self,
        kernel: &mut Kernel,
        members: impl ExactSizeIterator<Item = (Identity, u64)>,
    ) -> Result<Marked, EngineError> {
        let mut marked = Marked::default();
        let mut there = BTreeSet::new();
        let parts = if members.len() > FEW { PARTS } else { 1 };
        self.turn = (self.turn + 1) % parts;
        for (number, (identity, classes)) in members.enumerate() {
            there.insert(identity);
            let owner = self.owners.entry(identity).or_default();
            if owner.classes != classes {
                *owner = Owner::default();
                owner.classes = classes;
                marked.owners += 1;
            } else if number % parts != self.turn {
                continue;
            }
            // One that ended meanwhile has no sockets either.
            let Ok(process) = identity.process() else {
                continue;
            };
            match kernel.own_sockets(&process, classes, &mut owner.known) {
                Ok(foreign) => marked.foreign += foreign,
                Err(_) if !still_runs(identity) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.owners.retain(|one, _| there.contains(one));
        Ok(marked)
    }
}
