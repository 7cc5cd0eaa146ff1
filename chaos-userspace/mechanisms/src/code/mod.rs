//! Where the code of a program makes system calls: ELF files, read and decoded. It knows no kernel.
//!
//! A probe that is not on the first byte of an instruction would damage the program. So nothing is looked for in bytes: each function
//! is decoded from its beginning, which symbols or the table of unwind information give. See `scan` for what is looked for.

// Instructions are a closed set of another crate.
#![allow(clippy::wildcard_enum_match_arm)]

mod elf;
mod lost;
mod scan;

pub use elf::calls;

use chaos_common::answer::Site;

/// An instruction right before a `syscall`, at which the call can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Where it is in the file.
    pub offset: u64,
    /// What a program there has to know.
    pub site: Site,
    /// The number of the call, where the code before says it.
    pub number: Option<u16>,
}

/// The system calls of a file's code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Those that can be answered.
    pub places: Vec<Place>,
    /// The numbers of those that cannot, where the code before says it: what comes before them does something that must not be left out.
    pub let_be: Vec<Option<u16>>,
}

impl Calls {
    /// The places at which one of these calls may be made.
    pub fn making<'a>(&'a self, calls: &'a [u16]) -> impl Iterator<Item = &'a Place> {
        let meant = |place: &&Place| place.number.is_none_or(|number| calls.contains(&number));
        self.places.iter().filter(meant)
    }
}
